"""Weights of a checkpoint or bundle as the start of another network's training.

Whole networks have to fit. Parts are taken by name; a plain ViT's position embeddings and patches
are resampled to the new crops, so that any ViT of the same width and depth is a start.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from timm.layers import resample_abs_pos_embed, resample_patch_embed
from torch import Tensor

from fourdhands import config
from fourdhands.errors import first_line
from fourdhands.export.checkpoint import (
    KEY,
    load_network_weights,
    misfits,
    network_weights,
    refuse,
)
from fourdhands.models.backbone import Backbone
from fourdhands.models.network import NetworkConfig, TwoHandNetwork

_PLACES: Final = "backbone.model.pos_embed"
_PATCHES: Final = "backbone.model.patch_embed.proj.weight"


def start_from(
    network: TwoHandNetwork, checkpoint: Mapping[str, Any], path: Path, parts: Sequence[str] = ()
) -> list[str]:
    """Copy weights into a network that is to be trained.

    Args:
        network: what receives them.
        checkpoint: of `read_checkpoint`.
        path: of the checkpoint, for messages.
        parts: of the network, by the names of its modules; if none is named, those that the
            checkpoint has: everything, or the backbone of imported image models.

    Returns:
        What is otherwise than where the weights come from, a phrase each.

    Raises:
        ValueError: a part is unknown, or does not fit: the weights are named.
    """
    there = tuple(checkpoint[KEY].get("parts") or ())
    chosen = tuple(parts) or there
    if not chosen:
        load_network_weights(network, checkpoint, path)
        return []
    known = [name for name, module in network.named_children() if list(module.state_dict())]
    for part in chosen:
        if part not in known or (there and part not in there):
            raise ValueError(
                f"initial_parts: {part!r} is no part of "
                f"{path if part in known else 'the network'}; there are "
                f"{', '.join(there if part in known else known)}"
            )
    stored = config.from_dict(NetworkConfig, checkpoint[KEY]["network"], source=f"{path}: network")
    weights, own = network_weights(checkpoint), network.state_dict()
    if "backbone" in chosen:
        try:
            weights = _resampled(weights, stored, network.backbone)
        except (RuntimeError, ValueError, IndexError, AssertionError, ZeroDivisionError) as error:
            raise ValueError(
                f"{path}: the backbone's embeddings are of no grid of its crops "
                f"({first_line(error)})"
            ) from error
    begins = tuple(f"{part}." for part in chosen)
    wanted = [name for name in own if name.startswith(begins)]
    if chosen == ("backbone",) and there:  # an image model has no projection to tokens of ours
        wanted = [
            name for name in wanted if name in weights or not name.startswith("backbone.neck.")
        ]
    found = {name: weight for name, weight in weights.items() if name.startswith(begins)}
    refuse(misfits({name: own[name] for name in wanted}, found), path)
    network.load_state_dict({name: weights[name] for name in wanted}, strict=False)
    return _differences(stored, network) if "backbone" in chosen else []


def _resampled(
    weights: Mapping[str, Tensor], stored: NetworkConfig, backbone: Backbone
) -> dict[str, Tensor]:
    """A plain ViT's weights for the crops and patches of another one."""
    weights, own = dict(weights), backbone.state_dict()
    if not {_PLACES, _PATCHES} <= weights.keys() or _PLACES.partition(".")[2] not in own:
        return weights
    patch = weights[_PATCHES].shape[-1]
    grid = [side // patch for side in stored.crop_size]
    if tuple(grid) != backbone.grid:
        weights[_PLACES] = resample_abs_pos_embed(
            weights[_PLACES], list(backbone.grid), grid, num_prefix_tokens=0
        )
    size = list(own[_PATCHES.partition(".")[2]].shape[-2:])
    weights[_PATCHES] = resample_patch_embed(weights[_PATCHES], size)
    return weights


def _differences(stored: NetworkConfig, network: TwoHandNetwork) -> list[str]:
    """What the backbone was trained with and is not given now."""
    here, there = network.config.backbone, stored.backbone
    phrases = []
    if here.patch_padding != there.patch_padding:
        phrases.append(
            f"backbone.patch_padding was {there.patch_padding} and is {here.patch_padding}"
        )
    if Backbone.pixel_statistics(here) != Backbone.pixel_statistics(there):
        phrases.append(
            f"the images' mean and deviation were those of timm's {there.name} and are those of "
            f"{here.name}; set backbone.name"
        )
    return phrases
