"""Peers' weights to bundles of ours: read, mapped, checked, written. Read `import_weights` first.

Networks that are ours by another name (HaMeR, OmniHands) become bundles that predict; image models
(ViTPose, MAE, timm) become bundles of a backbone, for training to start from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, get_args

import torch
from torch import Tensor

from fourdhands import __version__, config
from fourdhands.export import mappings
from fourdhands.export.bundle import Bundle, check_free, hash_of, write_bundle
from fourdhands.export.card import HAND_TAGS, page
from fourdhands.export.checkpoint import FORMAT_VERSION, MEAN_ROTATIONS
from fourdhands.export.foreign import read_tensors
from fourdhands.export.predictor import KIND
from fourdhands.hands.assets import load_assets
from fourdhands.hands.mano import HandModel
from fourdhands.models.backbone import BackboneConfig
from fourdhands.models.heads import HeadConfig
from fourdhands.models.network import NetworkConfig, TwoHandNetwork
from fourdhands.models.rat import RelationConfig
from fourdhands.models.sir import SpatialConfig, TemporalConfig

Source = Literal["hamer", "vitpose", "omnihands", "mae", "timm"]
SOURCES: Final[tuple[Source, ...]] = get_args(Source)
WHOLE: Final = ("hamer", "omnihands")
BACKBONE: Final = "backbone"
_MOST_NAMED: Final = 4

_VIT_H: Final = BackboneConfig(
    name="vit_huge_patch14_224.mae", options={"patch_size": 16}, patch_padding=2
)
_DECODER: Final[dict[str, Any]] = {
    "decoder_depth": 6,
    "decoder_heads": 8,
    "head_dim": 64,
    "mlp_dim": 1024,
}
HAMER: Final = NetworkConfig(
    crop_size=(256, 192),
    backbone=_VIT_H,
    relation=None,
    spatial=SpatialConfig(
        dim=1024,
        encoder_depth=0,
        encoder_heads=16,
        **_DECODER,
        final_norm=False,
        cross_hand=False,
    ),
    temporal=None,
    head=HeadConfig(trunk=False, pose="absolute", upsilon="none"),
)
"""configs/model/hamer.yaml."""
OMNIHANDS: Final = NetworkConfig(
    crop_size=(256, 192),
    backbone=_VIT_H,
    relation=RelationConfig(
        hidden_dim=128,
        patch_point="corner",
        box_scale="width",
        overlap_with="own",
        features="released",
        fusion="add",
    ),
    spatial=SpatialConfig(
        dim=1024, encoder_depth=4, encoder_heads=16, **_DECODER, final_norm=False
    ),
    temporal=TemporalConfig(
        depth=6, num_heads=16, head_dim=64, mlp_dim=1024, final_norm=False, window=9
    ),
    head=HeadConfig(trunk=True, pose="axis_angle", upsilon="knuckles"),
)
"""configs/model/omnihands.yaml."""
_VITS: Final = {
    384: "vit_small_patch16_224.dino",
    768: "vit_base_patch16_224.mae",
    1024: "vit_large_patch16_224.mae",
    1280: "vit_huge_patch14_224.mae",
}
"""timm's names by width; the tags are those of ImageNet's mean and deviation."""


@dataclass(frozen=True)
class Facts:
    """What a card says of a source."""

    title: str
    origin: str
    licence: str


FACTS: Final[Mapping[str, Facts]] = {
    "hamer": Facts(
        "HaMeR",
        "https://github.com/geopavlakos/hamer",
        "see their page (code MIT; trained on MANO)",
    ),
    "omnihands": Facts(
        "OmniHands, the released 4DHands",
        "https://github.com/LinDixuan/OmniHands",
        "see their page (no licence file; trained on MANO)",
    ),
    "vitpose": Facts(
        "ViTPose's backbone", "https://github.com/ViTAE-Transformer/ViTPose", "Apache-2.0"
    ),
    "mae": Facts("MAE's ViT", "https://github.com/facebookresearch/mae", "CC-BY-NC-4.0"),
    "timm": Facts(
        "a model of timm", "https://github.com/huggingface/pytorch-image-models", "its own"
    ),
}


@dataclass(frozen=True)
class Report:
    """What became of a file's tensors.

    Attributes:
        used: ours, made of theirs.
        missing: ours, of which there was nothing; 'ours (their names)'.
        unknown: theirs, that nothing is made of.
        misshaped: ours, and how theirs do not fit.
    """

    used: tuple[str, ...]
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    misshaped: tuple[str, ...]

    def faults(self) -> list[str]:
        """A phrase for each kind of fault."""
        kinds = (("missing", self.missing), ("not known", self.unknown), ("shape", self.misshaped))
        return [f"{kind}: {_some(names)}" for kind, names in kinds if names]


def import_weights(
    source: Source,
    file: Path,
    out: Path,
    *,
    network: NetworkConfig | None = None,
    mano: Path | None = None,
    partial: bool = False,
) -> Report:
    """Convert a peer's weights into a bundle; nothing in the file is executed.

    Args:
        source: whose they are.
        file: a checkpoint, a state dict or safetensors.
        out: the bundle's folder.
        network: what they belong to; the source's released network, or the ViT of their width.
        mano: folder of converted MANO files, noted for the hand model; the open hand if None.
        partial: let weights that are missing or of another shape stay as they are initialized, and
            leave out unknown ones.

    Raises:
        FileNotFoundError: the file or the MANO folder is missing.
        ValueError: the file is refused, or its tensors are not those of the network.
    """
    check_free(out)
    theirs = read_tensors(file)
    wanted = network or _network_of(source, theirs, file)
    wanted = replace(wanted, backbone=replace(wanted.backbone, pretrained=False))
    hand_model = HandModel(load_assets(mano))
    with torch.device("meta"):
        built = TwoHandNetwork(wanted)
    weights, report = _convert(source, built, theirs)
    faults = report.faults()
    if faults and not partial:
        raise ValueError(
            f"{file}: not the weights of {FACTS[source].title} ({'; '.join(faults)}); name the "
            "network they are of by --network, or take what fits by --partial"
        )
    if not report.used:
        raise ValueError(f"{file}: nothing in it fits {FACTS[source].title} ({'; '.join(faults)})")
    if source in WHOLE:
        weights = _completed(weights, wanted, hand_model)
    parts = None if source in WHOLE else (BACKBONE,)
    imported = {"from": source, "file": file.name, "sha256": hash_of(file), "partial": faults}
    write_bundle(
        out, _bundle(wanted, weights, imported, parts, mano), _card(source, wanted, report)
    )
    return report


def _network_of(source: Source, theirs: Mapping[str, Tensor], file: Path) -> NetworkConfig:
    if source == "hamer":
        return HAMER
    if source == "omnihands":
        return OMNIHANDS
    name = "backbone.patch_embed.proj.weight"
    patches = theirs.get(name, theirs.get(name.removeprefix("backbone.")))
    if patches is None or patches.dim() != 4 or len(patches) not in _VITS:
        raise ValueError(
            f"{file}: no ViT of a known width ({', '.join(map(str, _VITS))}) is in it; "
            "name the network it is for by --network"
        )
    blocks = {key.split("blocks.")[1].split(".")[0] for key in theirs if "blocks." in key}
    options: dict[str, Any] = {"patch_size": 16, "depth": len(blocks)}
    vit = BackboneConfig(_VITS[len(patches)], options=options)
    padding = 2 if source == "vitpose" else 0
    return NetworkConfig(crop_size=(256, 192), backbone=replace(vit, patch_padding=padding))


def _convert(
    source: Source, network: TwoHandNetwork, theirs: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], Report]:
    own = network.state_dict()
    table = mappings.TABLES[source](network, theirs)
    weights: dict[str, Tensor] = {}
    missing, misshaped, taken = [], [], set()
    for ours, rule in table.items():
        absent = [name for name in rule.names if name not in theirs]
        taken |= set(rule.names)
        if absent:
            missing.append(f"{', '.join(absent)} (for {ours})")
            continue
        try:
            made = rule.make(*(theirs[name] for name in rule.names))
        except (ValueError, RuntimeError, IndexError, AssertionError):
            made = torch.empty(0)
        wanted = own[ours]
        if made.shape == wanted.shape and made.is_floating_point() == wanted.is_floating_point():
            weights[ours] = made.float() if made.is_floating_point() else made
            continue
        found = ", ".join(f"{name} {_shape(theirs[name])}" for name in rule.names)
        misshaped.append(f"{found} for {ours} {_shape(wanted)}")
    unused = set(mappings.unused(source, list(theirs)))
    unknown = [name for name in theirs if name not in taken and name not in unused]
    return weights, Report(tuple(weights), tuple(missing), tuple(unknown), tuple(misshaped))


def _completed(
    weights: dict[str, Tensor], wanted: NetworkConfig, hand_model: HandModel
) -> dict[str, Tensor]:
    """Constants of ours, and what a partial import leaves as it is initialized."""
    torch.manual_seed(0)
    network = TwoHandNetwork(wanted, hand_model.mean_pose)
    whole = network.state_dict() | weights
    whole.pop(MEAN_ROTATIONS, None)  # the hand model's, which is filled in when it is loaded
    return whole


def _bundle(
    wanted: NetworkConfig,
    weights: dict[str, Tensor],
    imported: dict[str, Any],
    parts: tuple[str, ...] | None,
    mano: Path | None,
) -> Bundle:
    network = config.to_dict(wanted)
    run = {
        "network": network,
        # the peers' crops are twice the tight box
        "data": {"bbox_scale": 2.0, "box": "separate"},
        "mano": None if mano is None else str(mano),
    }
    own = {"format_version": FORMAT_VERSION, "version": __version__, "kind": KIND, "run": run}
    own |= {"network": network, "parts": parts, "imported": imported}
    return Bundle(own, weights)


def _card(source: Source, wanted: NetworkConfig, report: Report) -> str:
    facts = FACTS[source]
    kind = "runs whole" if source in WHOLE else "is a backbone to start training from"
    faults = [f"- {fault}" for fault in report.faults()]
    return page(
        f"{facts.title}, for fourdhands",
        licence="other",
        tags=HAND_TAGS,
        about=(
            f"Weights of {facts.title} ({facts.origin}) in the format of fourdhands: it {kind}.",
            f"{len(report.used)} tensors; backbone `{wanted.backbone.name}`, crops of "
            f"{wanted.crop_size[0]} x {wanted.crop_size[1]}.",
        ),
        sections={
            "Licence": [
                f"That of the weights: {facts.licence}. Nothing of MANO's files is in here."
            ]
        }
        | ({"Left out or kept as initialized": faults} if faults else {}),
    )


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
