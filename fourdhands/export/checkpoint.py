"""The checkpoint file: a Lightning checkpoint of plain data that says what it holds.

Training writes it, everybody reads it here; a bundle (`export.bundle`) reads like one. Under the
key `fourdhands` it carries the run's whole configuration as plain data, so that the network can be
built again without any other file.
"""

import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from safetensors import SafetensorError
from torch import Tensor

from fourdhands import __version__
from fourdhands.errors import first_line
from fourdhands.export.bundle import (
    CONFIG,
    MANIFEST,
    WEIGHTS,
    read_bundle,
    read_json,
)
from fourdhands.export.foreign import check_zip

FORMAT_VERSION: Final = 1
KEY: Final = "fourdhands"
NETWORK_PREFIX: Final = "network."
CURRENT_KEY: Final = "current_model_state"
"""What a checkpoint with an average holds besides: the weights that are trained on."""
MEAN_ROTATIONS: Final = "mano_head.mean_rotations"
"""The one weight that comes from the hand model's files: bundles may leave it out."""
RECONSTRUCTION: Final = "reconstruction"
MOTION_PRIOR: Final = "motion_prior"
"""Kinds of networks, as bundles say it."""
_MOST_NAMED: Final = 3
_MAX_SIZE: Final = 2**16
"""Of any number in a network's configuration."""
Module = TypeVar("Module", bound=torch.nn.Module)

_BROKEN = (
    *(RuntimeError, EOFError, struct.error, zipfile.BadZipFile, MemoryError, OverflowError),
    *(ValueError, LookupError, TypeError, AttributeError, SafetensorError),
)
"""What torch raises for files that are not checkpoints; garbage may fail anywhere in the reader."""

_NO_NETWORK = (RuntimeError, AssertionError, ArithmeticError, MemoryError, TypeError, LookupError)
"""What building a network raises for settings that do not go together."""


def describe(run: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint of a run says of itself.

    Args:
        run: the resolved configuration as plain data, with the network's under `network`.
    """
    return {
        "format_version": FORMAT_VERSION,
        "version": __version__,
        "run": dict(run),
        "network": run["network"],
    }


def read_checkpoint(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    """Read a checkpoint; nothing in the file is executed.

    Args:
        path: a file that training has written, or the folder of a bundle.
        mmap: leave tensors on disk until they are used.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is broken, not ours, or of another format version.
    """
    if path.is_dir():
        bundle = read_bundle(path)
        state = {NETWORK_PREFIX + name: weight for name, weight in bundle.weights.items()}
        return {KEY: _checked(bundle.config, path), "state_dict": state}
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    try:
        check_zip(path)
        with warnings.catch_warnings(action="ignore"):  # about other pickles than torch's
            checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:  # torch's own words would advise to execute the file
        raise ValueError(f"{path}: not a readable checkpoint (not plain data)") from error
    except _BROKEN as error:
        raise ValueError(f"{path}: not a readable checkpoint ({first_line(error)})") from error
    own = checkpoint.get(KEY) if isinstance(checkpoint, dict) else None
    if not isinstance(own, dict) or "state_dict" not in checkpoint:
        raise ValueError(f"{path}: not a checkpoint of fourdhands, it has no '{KEY}' entry")
    _checked(own, path)
    for key in ("state_dict", CURRENT_KEY):
        state = checkpoint.get(key, {})
        if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
            raise ValueError(f"{path}: its {key} is no mapping of names to weights")
    return checkpoint


def _checked(own: dict[str, Any], path: Path) -> dict[str, Any]:
    found = own.get("format_version")
    if found != FORMAT_VERSION:
        raise ValueError(
            f"{path}: checkpoint format {found!r}, this version reads {FORMAT_VERSION}; "
            "use the version of fourdhands that wrote it"
        )
    parts = own.get("parts")
    if not isinstance(own.get("network"), Mapping) or not isinstance(parts, list | tuple | None):
        raise ValueError(f"{path}: does not say of what network its weights are")
    return own


def weights_file(path: Path) -> Path:
    """The file that holds a checkpoint's weights: itself, or the bundle's."""
    return path / WEIGHTS if path.is_dir() else path


def network_weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The network's own state dict."""
    return {
        name.removeprefix(NETWORK_PREFIX): weight
        for name, weight in checkpoint["state_dict"].items()
        if name.startswith(NETWORK_PREFIX)
    }


def kind_of(path: Path) -> str:
    """What kind of network a checkpoint or a bundle holds, without reading its weights.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read.
    """
    if path.is_dir() and (path / MANIFEST).is_file():
        own = read_json(path / CONFIG)
    else:
        own = read_checkpoint(path, mmap=True)[KEY]
    return own_kind(own) if isinstance(own, dict) else ""


def own_kind(own: Mapping[str, Any]) -> str:
    """The kind of network that a checkpoint says of itself; training writes none."""
    network = own.get("network")
    usual = MOTION_PRIOR if isinstance(network, Mapping) and "latent" in network else RECONSTRUCTION
    return str(own.get("kind", usual))


def load_network_weights(
    network: torch.nn.Module, checkpoint: Mapping[str, Any], path: Path
) -> None:
    """Copy a checkpoint's weights into a network; what came from MANO's files may be left out.

    Raises:
        ValueError: they belong to another network, or are a part of one.
    """
    weights = network_weights(checkpoint)
    if (mean := network.state_dict().get(MEAN_ROTATIONS)) is not None:
        weights.setdefault(MEAN_ROTATIONS, mean)
    if parts := checkpoint[KEY].get("parts"):
        raise ValueError(
            f"{path}: holds the {', '.join(map(str, parts))} alone, not a whole network; "
            "training can start from it (initial_weights)"
        )
    refuse(misfits(network.state_dict(), weights), path)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:  # types that cannot be copied
        raise ValueError(f"{path}: weights cannot be used ({first_line(error)})") from None


def build_checked(
    build: Callable[[], Module],
    checkpoint: Mapping[str, Any],
    path: Path,
    *,
    outline: Callable[[], torch.nn.Module] | None = None,
) -> Module:
    """Build a checkpoint's network, and load its weights.

    Shapes are compared before anything is allocated: a configuration may claim any size, but only
    what the weights fill is built.

    Args:
        build: makes the network.
        checkpoint: of `read_checkpoint`.
        path: of the checkpoint, for messages.
        outline: makes one of the same shapes on the meta device, if `build` cannot.

    Raises:
        ValueError: configuration and weights do not fit each other.
    """
    weights = network_weights(checkpoint)
    for key, value in _flatten(checkpoint[KEY]["network"], "network").items():
        claims = max(value, default=0, key=_size) if isinstance(value, list | tuple) else value
        most = len(weights) if "depth" in key else _MAX_SIZE
        if _size(claims) > most:
            raise ValueError(f"{path}: {key} is {claims}, more than its weights are for")
    if not checkpoint[KEY].get("parts"):
        try:
            with torch.device("meta"):
                shapes = (outline or build)().state_dict()
        except _NO_NETWORK as error:
            raise ValueError(
                f"{path}: its configuration makes no network ({first_line(error)})"
            ) from error
        shapes.pop(MEAN_ROTATIONS, None)
        ours = {name: weight for name, weight in weights.items() if name != MEAN_ROTATIONS}
        refuse(misfits(shapes, ours), path)
    network = build()
    load_network_weights(network, checkpoint, path)
    return network


def _size(value: Any) -> float:
    return abs(value) if isinstance(value, int | float) else 0


def misfits(wanted: Mapping[str, Tensor], found: Mapping[str, Any]) -> list[str]:
    """What is missing, not known or of another shape, a phrase each."""
    faults = [f"{name} is missing" for name in wanted if name not in found]
    for name, value in found.items():
        if name not in wanted:
            faults.append(f"{name} is not known")
        elif not isinstance(value, Tensor) or value.layout != torch.strided or value.is_meta:
            faults.append(f"{name} is no plain tensor")
        elif value.shape != wanted[name].shape:
            there, here = tuple(value.shape), tuple(wanted[name].shape)
            faults.append(f"{name} is {there} there and {here} here")
        elif value.is_floating_point() != wanted[name].is_floating_point():
            faults.append(f"{name} is {value.dtype} there and {wanted[name].dtype} here")
    return faults


def refuse(faults: Sequence[str], path: Path) -> None:
    """Raise what `misfits` found, if anything.

    Raises:
        ValueError: there are faults.
    """
    if faults:
        more = f" (and {len(faults) - _MOST_NAMED} more)" if len(faults) > _MOST_NAMED else ""
        named = "; ".join(faults[:_MOST_NAMED])
        raise ValueError(f"{path}: the weights are of another network: {named}{more}")


def differences(
    begun: Mapping[str, Any],
    run: Mapping[str, Any],
    part: str,
    *,
    may_change: Collection[str] = (),
) -> list[str]:
    """What a part of the configuration says otherwise than that of an earlier run, a phrase each.

    Args:
        begun: the whole configuration of the earlier run, as plain data.
        run: the one that is wanted.
        part: the part of it to compare.
        may_change: keys that are not compared.
    """
    stored = _flatten(begun[part], part)
    wanted = _flatten(run[part], part)
    return [
        f"{key} is {stored.get(key, 'absent')!r} there and {wanted.get(key, 'absent')!r} here"
        for key in sorted((stored.keys() | wanted.keys()) - set(may_change))
        if stored.get(key, "absent") != wanted.get(key, "absent")
    ]


def require_same(
    begun: Mapping[str, Any],
    run: Mapping[str, Any],
    part: str,
    path: Path,
    *,
    may_change: Collection[str] = (),
) -> None:
    """Refuse a checkpoint of a run in which `part` was configured otherwise.

    Raises:
        ValueError: it differs, with the keys.
    """
    if differing := differences(begun, run, part, may_change=may_change):
        raise ValueError(f"{path}: of a run with another {part}: {'; '.join(differing[:3])}")


def _flatten(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {path: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _flatten(inner, f"{path}.{key}")
    return flat
