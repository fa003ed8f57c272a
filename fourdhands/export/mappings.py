"""Which tensor of a peer's weights becomes which of ours: one table for each peer.

A table is made for a network: it says for every weight of ours the names it is made of and how.
`export.importers` reads a file by it and names what is missing, not known or of another shape.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from timm.layers import resample_abs_pos_embed, resample_patch_embed
from torch import Tensor, nn

from fourdhands.models.heads import ManoHead
from fourdhands.models.network import TwoHandNetwork
from fourdhands.models.sir import WindowFusion

Make = Callable[..., Tensor]


@dataclass(frozen=True)
class Rule:
    """How one tensor of ours is made.

    Attributes:
        names: of their tensors.
        make: of these tensors, in this order.
    """

    names: tuple[str, ...]
    make: Make


Table = Mapping[str, Rule]

UNUSED: Final = {
    "hamer": r"mano\..*|discriminator\..*|initialized|.*\.to_token_embedding\.weight",
    "omnihands": (
        r"(.*\.)?(rel_)?mano(_layer)?\..*|(.*\.)?init_cam|gpu|initialized|discriminator\..*"
        r"|.*\.to_token_embedding\.weight"
    ),
    "vitpose": r"(?!backbone\.)(keypoint_head|associate_.*)\..*",
    "mae": r"cls_token|mask_token|decoder_.*|head\..*|fc_norm\..*",
    "timm": r"cls_token|reg_token|(head|head_drop|fc_norm|attn_pool|classifier|fc)\..*",
}
"""Tensors that may be there and have no place in ours: MANO's own arrays, which stay with their
licence, discriminators, classifiers, class tokens, and weights that a zero is multiplied by."""


def hamer(network: TwoHandNetwork, theirs: Mapping[str, Tensor]) -> dict[str, Rule]:
    """HaMeR: the mean parameters join the biases of the layers that they are added to."""
    head = "mano_head."
    table = _vitpose(network, "backbone.")
    table |= _decoder(network.spatial.decoder, "spatial", f"{head}transformer")
    for ours, layer, mean in (
        ("pose", "decpose", "init_hand_pose"),
        ("shape", "decshape", "init_betas"),
    ):
        table[f"mano_head.{ours}.weight"] = _same(f"{head}{layer}.weight")
        names = (f"{head}{layer}.bias", f"{head}{mean}")
        table[f"mano_head.{ours}.bias"] = Rule(names, lambda bias, mean: bias + mean[0])
    return table | _camera(f"{head}deccam", f"{head}init_cam")


def omnihands(network: TwoHandNetwork, theirs: Mapping[str, Tensor]) -> dict[str, Rule]:
    """OmniHands, the released code of 4DHands."""
    table = _vitpose(network, "backbone.")
    for layer in (0, 1, 3):
        for kind in ("weight", "bias"):
            table[f"relation.mlp.{layer}.{kind}"] = _same(f"map_head.{layer}.{kind}")
    for i in range(len(network.spatial.encoder)):
        block, attention, mlp = (
            f"{place}.{i}" for place in ("spatial.encoder", *["mano_head.inter_attn.layers"] * 2)
        )
        attention, mlp = f"{attention}.0", f"{mlp}.1"
        table[f"{block}.attn.qkv.weight"] = _same(f"{attention}.fn.to_qkv.weight")
        for kind in ("weight", "bias"):
            for ours, name in (
                ("norm1", f"{attention}.norm"),
                ("attn.proj", f"{attention}.fn.to_out.0"),
                ("norm2", f"{mlp}.norm"),
                ("mlp.fc1", f"{mlp}.fn.net.0"),
                ("mlp.fc2", f"{mlp}.fn.net.3"),
            ):
                table[f"{block}.{ours}.{kind}"] = _same(f"{name}.{kind}")
    table |= _decoder(network.spatial.decoder, "spatial", "mano_head.transformer")
    if isinstance(network.temporal, WindowFusion):
        table |= _decoder(network.temporal.decoder, "temporal", "time_head.temp_decoder")
    branch = "time_head.mano_branch."
    for ours, name in (
        ("mano_head.trunk.0", "mano_base_layer.0"),
        ("mano_head.trunk.2", "mano_base_layer.2"),
        ("mano_head.pose", "pose_reg"),
        ("mano_head.shape", "shape_reg"),
        ("upsilon_head.linear", "rel_reg"),
    ):
        for kind in ("weight", "bias"):
            table[f"{ours}.{kind}"] = _same(f"{branch}{name}.{kind}")
    return table | _camera(f"{branch}cam_reg", "time_head.init_cam")


def vitpose(network: TwoHandNetwork, theirs: Mapping[str, Tensor]) -> dict[str, Rule]:
    """ViTPose, whole or HaMeR's copy of its backbone."""
    whole = any(name.startswith("backbone.") for name in theirs)
    return _vitpose(network, "backbone." if whole else "")


def mae(network: TwoHandNetwork, theirs: Mapping[str, Tensor]) -> dict[str, Rule]:
    """MAE's own files; a plain ViT, whose grid and patches become ours."""
    if "norm.weight" in theirs or "fc_norm.weight" not in theirs:
        return timm(network, theirs)
    table = timm(network, theirs)  # fine-tuned: the norm of the mean of the tokens
    for kind in ("weight", "bias"):
        table[f"backbone.model.norm.{kind}"] = _same(f"fc_norm.{kind}")
    return table


def timm(network: TwoHandNetwork, theirs: Mapping[str, Tensor]) -> dict[str, Rule]:
    """Any of timm's models; parts that make a feature map differ from it in dots and a prefix."""
    plain = {name.replace(".", "_"): name for name in theirs}
    table = {}
    for name in network.backbone.model.state_dict():
        for start in ("", "model.", "body."):
            if (found := plain.get(name.removeprefix(start).replace(".", "_"))) is not None:
                table[f"backbone.model.{name}"] = _same(found)
                break
        else:
            table[f"backbone.model.{name}"] = _same(name)
    model = network.backbone.model
    if "backbone.model.pos_embed" in table:
        grid, patch = network.backbone.grid, model.patch_embed.patch_size
        table["backbone.model.pos_embed"] = Rule(
            ("pos_embed",), lambda embedding: _regridded(embedding, grid)
        )
        table["backbone.model.patch_embed.proj.weight"] = Rule(
            ("patch_embed.proj.weight",),
            lambda weight: resample_patch_embed(weight.float(), list(patch)),
        )
    return table


TABLES: Final = {
    "hamer": hamer,
    "omnihands": omnihands,
    "vitpose": vitpose,
    "mae": mae,
    "timm": timm,
}


def _same(name: str) -> Rule:
    return Rule((name,), lambda tensor: tensor)


def _vitpose(network: TwoHandNetwork, prefix: str) -> dict[str, Rule]:
    """ViTPose's backbone: its class token's embedding is added to every token."""
    table = {}
    for name in network.backbone.model.state_dict():
        table[f"backbone.model.{name}"] = _same(prefix + re.sub(r"^norm\.", "last_norm.", name))
    table["backbone.model.pos_embed"] = Rule(
        (f"{prefix}pos_embed",), lambda embedding: embedding[:, 1:] + embedding[:, :1]
    )
    return table


def _decoder(decoder: nn.Module, ours: str, theirs: str) -> dict[str, Rule]:
    """A query decoder, and its query: what a zero through a layer and the embedding make."""
    names = (f"{theirs}.to_token_embedding.bias", f"{theirs}.pos_embedding")
    table = {f"{ours}.query": Rule(names, lambda bias, place: bias + place)}
    for name in decoder.state_dict():
        table[f"{ours}.decoder.{name}"] = _decoder_rule(name, f"{theirs}.transformer")
    return table


_DECODER_PARTS: Final = {
    "norm_self": "0.norm",
    "self_attention.to_out": "0.fn.to_out.0",
    "norm_cross": "1.norm",
    "cross_attention.to_q": "1.fn.to_q",
    "cross_attention.to_kv": "1.fn.to_kv",
    "cross_attention.to_out": "1.fn.to_out.0",
    "norm_mlp": "2.norm",
    "mlp.fc1": "2.fn.net.0",
    "mlp.fc2": "2.fn.net.3",
}


def _decoder_rule(name: str, theirs: str) -> Rule:
    """`layers.I.PART.KIND`; they keep queries, keys and values of self-attention in one."""
    layers, index, rest = name.split(".", 2)
    part, _, kind = rest.rpartition(".")
    place = f"{theirs}.{layers}.{index}"
    if part == "self_attention.to_q":
        return Rule((f"{place}.0.fn.to_qkv.weight",), lambda qkv: qkv[: len(qkv) // 3])
    if part == "self_attention.to_kv":
        return Rule((f"{place}.0.fn.to_qkv.weight",), lambda qkv: qkv[len(qkv) // 3 :])
    return _same(f"{place}.{_DECODER_PARTS[part]}.{kind}")


def _camera(layer: str, mean: str) -> dict[str, Rule]:
    """Their camera is an offset from their mean, ours one from ours in our units."""
    own_mean, units = torch.tensor(ManoHead.MEAN_CAMERA), torch.tensor(ManoHead.CAMERA_UNITS)
    names = (f"{layer}.bias", mean)
    return {
        "mano_head.camera.weight": Rule((f"{layer}.weight",), lambda w: w / units[:, None]),
        "mano_head.camera.bias": Rule(names, lambda bias, m: (bias + m[0] - own_mean) / units),
    }


def _regridded(embedding: Tensor, grid: Sequence[int]) -> Tensor:
    """Position embeddings (1, N or N + class token, C) of a square grid for another grid."""
    tokens = embedding.shape[1]
    side = int(tokens**0.5)
    has_class = side * side != tokens
    if side * side + has_class != tokens:
        raise ValueError(f"{tokens} position embeddings are of no square grid")
    places = embedding[:, has_class:].float()
    return resample_abs_pos_embed(places, list(grid), [side, side], num_prefix_tokens=0)


def unused(source: str, names: Iterator[str] | Sequence[str]) -> list[str]:
    """The names that a source may have and ours does not need."""
    pattern = re.compile(UNUSED[source])
    return [name for name in names if pattern.fullmatch(name)]
