"""Crops to tokens: any timm model that gives a stride-16 map, behind one small interface."""

from collections import defaultdict
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Final, Self

import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import build_sincos2d_pos_embed
from timm.models import VisionTransformer, group_parameters
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fourdhands.errors import first_line

STRIDE = 16

_RESERVED: Final = {
    "pretrained": "set backbone.pretrained",
    "features_only": "it is set where it is needed",
    "out_indices": f"the stride-{STRIDE} map is taken",
    "checkpoint_path": "backbone.pretrained fetches timm's weights, initial_weights takes a run's",
    "pretrained_cfg": "choose a tag in backbone.name",
    "pretrained_cfg_overlay": "choose a tag in backbone.name",
}
"""What `options` may not say, and what to do instead: a checkpoint's configuration could otherwise
make timm open a file of its choice, and some of timm's files are executed when they are read."""

_TIMM_FAILS: Final = (
    *(TypeError, ValueError, LookupError, AttributeError),
    *(RuntimeError, AssertionError, ArithmeticError),
)
"""What timm raises where its models do not fit what is asked of them; their options are checked
nowhere."""


@dataclass(frozen=True)
class BackboneConfig:
    """Which image model makes the tokens.

    Attributes:
        name: a timm model.
        dim: width C of the tokens; the model's own width if None.
        pretrained: fetch timm's pretrained weights (needs the network).
        options: further keyword arguments of `timm.create_model`.
        patch_padding: zeros around the (normalised) crop before a plain ViT cuts its patches, in
            pixels: ViTPose, HaMeR and OmniHands have 2.
        checkpointing: compute activations anew in the backward pass instead of keeping them: the
            same gradients for up to a third more work. Halves the memory of a ViT; of convolutional
            models timm treats whole stages, which saves less.
    """

    name: str = "resnet10t"
    dim: int | None = None
    pretrained: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    patch_padding: int = 0
    checkpointing: bool = False

    def __post_init__(self) -> None:
        """Check the options' names."""
        for name in self.options:
            if name in _RESERVED:
                raise ValueError(f"backbone.options may not hold {name}: {_RESERVED[name]}")


class Backbone(nn.Module):
    """uint8 crops (..., 3, h, w) to tokens (..., h/16 * w/16, C), rows first.

    Only crops with a hand in them are looked at: the others would cost as much, and reach the
    rest through batch normalisation. Their tokens are zeros that the masks hide.

    Normalisation with the model's own mean and deviation happens here. A plain ViT's tokens carry
    its position embedding; a convolutional map gets a projection to C, a norm and a fixed
    two-dimensional sine embedding, so that attention can tell tokens apart either way.

    Attributes:
        grid: rows and columns of tokens.
        dim: C.

    Raises:
        ValueError: the model is unknown to timm, does not know its options, has no stride-16 map
            for this crop, or cannot compute activations anew.
        OSError: pretrained weights cannot be fetched.
    """

    def __init__(self, config: BackboneConfig, crop_size: tuple[int, int]) -> None:
        super().__init__()
        self.config = config
        if any(side % STRIDE for side in crop_size):
            raise ValueError(f"crop_size {crop_size}: both sides must be multiples of {STRIDE}")
        self.grid = (crop_size[0] // STRIDE, crop_size[1] // STRIDE)
        self.model, self.neck, self.dim = _build(config, crop_size, self.grid)
        _leave_unused(self.model, config, crop_size, self.grid)
        nn.utils.convert_conv2d_weight_memory_format(self.model, torch.channels_last)
        mean, std = self.pixel_statistics(config)
        self.pixel_mean: Tensor
        self.pixel_std: Tensor
        for name, value in (("pixel_mean", mean), ("pixel_std", std)):
            pixels = 255 * torch.tensor(value).view(3, 1, 1)
            self.register_buffer(name, pixels, persistent=False)
        self._momenta = {
            part: part.momentum for part in self.model.modules() if isinstance(part, _BatchNorm)
        }
        self.train()

    @staticmethod
    def pixel_statistics(config: BackboneConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation, of 0 to 1, that a model's images are normalised with."""
        cfg = timm.get_pretrained_cfg(config.name)
        return (cfg.mean, cfg.std) if cfg else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)

    def train(self, mode: bool = True) -> Self:
        """Activations are computed anew while training only.

        Raises:
            ValueError: timm's model cannot.
        """
        if self.config.checkpointing:
            try:
                self.model.set_grad_checkpointing(mode)
            except (AttributeError, AssertionError) as error:
                raise ValueError(
                    f"backbone.checkpointing: timm's {self.config.name!r} cannot compute "
                    "activations anew; set it to false"
                ) from error
        return super().train(mode)

    def forward(self, crops: Tensor, visible: Tensor) -> Tensor:
        """uint8 (..., 3, h, w) and bool (...) to (..., N, C)."""
        seen = visible.flatten().nonzero().squeeze(-1)
        if not len(seen):  # every parameter keeps its gradient; masks hide the tokens
            seen = seen.new_zeros(1)
        self._count_batches(True)
        found = self.tokens(crops.flatten(0, -4)[seen])
        if self.config.checkpointing and found.requires_grad:
            found.register_hook(lambda gradient: self._count_batches(False))
        tokens = found.new_zeros(visible.numel(), *found.shape[1:]).index_copy(0, seen, found)
        return tokens.unflatten(0, visible.shape)

    def tokens(self, crops: Tensor) -> Tensor:
        """uint8 (M, 3, h, w), every one of them looked at, to (M, N, C)."""
        images = (crops - self.pixel_mean) / self.pixel_std
        images = images.to(next(self.model.parameters()).dtype)  # halved weights are for graphs
        images = images.contiguous(memory_format=torch.channels_last)  # convolutions' fast layout
        found: Tensor = self.neck(self.model(images))
        return found

    def _count_batches(self, count: bool) -> None:
        """Whether a pass moves the running statistics; one that is made anew must not do so."""
        for norm, momentum in self._momenta.items():
            norm.momentum = momentum if count else 0.0

    def layers(self) -> list[list[nn.Parameter]]:
        """The image model's parameters block by block, from the stem or patch embedding upwards.

        timm knows the blocks of whole classifiers. Names in what was cut out of one to give a map
        differ by a prefix and by dots that became underscores.

        Raises:
            ValueError: timm does not know this model's blocks.
        """
        with torch.device("meta"):
            whole = _create(self.config)
        if not hasattr(whole, "group_matcher"):
            raise ValueError(
                f"backbone {self.config.name!r}: timm does not know its layers; "
                "set optimizer.layer_decay: null"
            )
        found = group_parameters(whole, whole.group_matcher(coarse=False), reverse=True)
        places = {_plain(name): place for name, place in found.items()}
        layers = defaultdict(list)
        for name, parameter in self.model.named_parameters():
            layers[places.get(_plain(name), len(places))].append(parameter)
        return [layers[place] for place in sorted(layers)]


def _plain(name: str) -> str:
    return name.removeprefix("model.").removeprefix("body.").replace(".", "_")


def _build(
    config: BackboneConfig, crop_size: tuple[int, int], grid: tuple[int, int]
) -> tuple[Any, nn.Module, int]:
    """The image model, what turns its output into tokens, and their width."""
    if not timm.is_model(config.name):
        close = " or ".join(get_close_matches(config.name, timm.list_models(), n=3))
        meant = f", did you mean {close}?" if close else "; timm.list_models() lists what there is"
        raise ValueError(f"backbone.name {config.name!r}: unknown to timm{meant}")
    if _is_plain_vit(config.name):
        return _build_vit(config, crop_size, grid)
    if config.patch_padding:
        raise ValueError(f"backbone.patch_padding: {config.name!r} is no plain ViT; set it to 0")
    with torch.device("meta"):
        strides = _create(config, features_only=True).feature_info.reduction()
    if STRIDE not in strides:
        raise ValueError(f"backbone {config.name!r}: no stride-{STRIDE} map among {strides}")
    level = max(i for i, stride in enumerate(strides) if stride == STRIDE)
    pretrained = config.pretrained
    model = _create(config, pretrained=pretrained, features_only=True, out_indices=[level])
    width = model.feature_info.channels()[0]
    dim = config.dim or width
    return model, MapToTokens(width, dim, grid), dim


def _build_vit(
    config: BackboneConfig, crop_size: tuple[int, int], grid: tuple[int, int]
) -> tuple[Any, nn.Module, int]:
    tokens = {"img_size": crop_size, "class_token": False, "global_pool": "", "num_classes": 0}
    model = _create(config, pretrained=config.pretrained, **tokens)
    if model.patch_embed.grid_size != grid:
        raise ValueError(
            f"backbone {config.name!r}: its patches make a {model.patch_embed.grid_size} grid, "
            f"a stride-{STRIDE} map of the crop is {grid}; set options: {{patch_size: {STRIDE}}}"
        )
    patch = model.patch_embed.patch_size[0]
    if not 0 <= 2 * config.patch_padding < patch:
        raise ValueError(
            f"backbone.patch_padding is {config.patch_padding}: {patch}-pixel patches would make "
            f"another grid; it may be 0 to {(patch - 1) // 2}"
        )
    model.patch_embed.proj.padding = (config.patch_padding, config.patch_padding)
    dim = config.dim or model.embed_dim
    neck = nn.Identity() if dim == model.embed_dim else nn.Linear(model.embed_dim, dim)
    return model, neck, dim


def _leave_unused(
    model: nn.Module, config: BackboneConfig, crop_size: tuple[int, int], grid: tuple[int, int]
) -> None:
    """Do not train what the tokens do not depend on: stages and branches of other resolutions.

    Their gradients never come, and several devices would wait for them. A twin without memory tells
    which they are. Stages at the end are left out, they would be computed in vain; others stay.
    """
    with torch.inference_mode(False), torch.enable_grad(), torch.device("meta"):
        twin, _, _ = _build(replace(config, pretrained=False), crop_size, grid)
        images = torch.zeros(2, 3, *crop_size)
        try:
            found = twin(images)
        except _TIMM_FAILS as error:
            raise ValueError(
                f"backbone {config.name!r}: cannot take crops of {crop_size} "
                f"({first_line(error)}); choose another network.crop_size"
            ) from error
        (found[0] if isinstance(found, list) else found).sum().backward()
    unused = {name for name, weight in twin.named_parameters() if weight.grad is None}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and name not in unused)
    stages = getattr(model, "blocks", None)
    if isinstance(stages, nn.Sequential):
        while not any(parameter.requires_grad for parameter in stages[-1].parameters()):
            del stages[-1]


def _create(config: BackboneConfig, **settings: Any) -> Any:
    """The model, untyped as timm's models share no interface; the options go over the settings."""
    try:
        return timm.create_model(config.name, **(settings | config.options))
    except OSError as error:
        raise OSError(
            f"backbone {config.name!r}: its pretrained weights cannot be fetched; "
            "go online once, or set backbone.pretrained: false"
        ) from error
    except _TIMM_FAILS as error:
        raise ValueError(
            f"backbone {config.name!r}: timm cannot build it with backbone.options "
            f"{config.options} ({first_line(error)})"
        ) from error


def _is_plain_vit(name: str) -> bool:
    return bool(timm.models.model_entrypoint(name).__module__ == VisionTransformer.__module__)


class MapToTokens(nn.Module):
    """The feature map of a convolutional model as tokens that know where they are."""

    position: Tensor

    def __init__(self, width: int, dim: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.projection = nn.Linear(width, dim)
        self.norm = nn.LayerNorm(dim)
        position = build_sincos2d_pos_embed(list(grid), dim=dim)
        self.register_buffer("position", position, persistent=False)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """[(N, width, rows, columns)] to (N, rows * columns, dim)."""
        tokens = maps[0].flatten(2).mT
        return self.norm(self.projection(tokens)) + self.position
