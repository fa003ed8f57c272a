"""Files of predictions, and of truth: anybody's hands, to be scored with our protocols.

An npz file of plain arrays over N images (docs/predictions.md); nothing in it is executed.
"""

import zipfile
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from fourdhands.evaluation.samples import HandSamples, Pair
from fourdhands.files import replacing
from fourdhands.skeleton import NUM_BETAS, NUM_JOINTS, NUM_SIDES, NUM_VERTICES
from fourdhands.structures import HandState

FORMAT_VERSION: Final = 1
_S, _J, _V = NUM_SIDES, NUM_JOINTS, NUM_VERTICES
_REAL, _YES = "f", "b"
# After the dimension of images: shape, kind, and whether the file may lack it.
_ARRAYS: Final[dict[str, tuple[tuple[int, ...], str, bool]]] = {
    "joints": ((_S, _J, 3), _REAL, False),
    "joints_valid": ((_S, _J), _YES, False),
    "vertices": ((_S, _V, 3), _REAL, True),
    "vertices_valid": ((_S,), _YES, True),
    "joints_2d": ((_S, _J, 2), _REAL, True),
    "joints_2d_valid": ((_S, _J), _YES, True),
    "handedness": ((_S,), _REAL, True),
    "sequence": ((), "U", True),
    "frame": ((), "i", True),
    "fps": ((), _REAL, True),
    "cam_from_world": ((4, 4), _REAL, True),
    "area": ((), _REAL, True),
    "global_orient": ((_S, 3, 3), _REAL, True),
    "hand_pose": ((_S, 15, 3, 3), _REAL, True),
    "betas": ((_S, NUM_BETAS), _REAL, True),
    "transl": ((_S, 3), _REAL, True),
}
_MANO: Final = tuple(field.name for field in fields(HandState))
_TOGETHER: Final = (("vertices", "vertices_valid"), ("joints_2d", "joints_2d_valid"), _MANO)
"""Arrays of which a file has all or none."""


def save_samples(samples: HandSamples, path: Path) -> None:
    """Write a file, whole or not at all; sequences are named by their numbers."""
    arrays: dict[str, NDArray[Any]] = {
        "format_version": np.array(FORMAT_VERSION),
        "names": np.array(samples.names),
        "sequence": samples.sequence.numpy().astype(str),
    }
    names = ["joints", "joints_valid", "handedness", "frame", "fps", "cam_from_world"]
    names += ["vertices", "vertices_valid"] if samples.vertices.shape[2] else []
    names += ["joints_2d", "joints_2d_valid"] if samples.joints_2d_valid.any() else []
    names += ["area"] if samples.area.any() else []
    arrays |= {name: getattr(samples, name).numpy() for name in names}
    if samples.hands is not None:
        arrays |= {name: getattr(samples.hands, name).numpy() for name in _MANO}
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)


def load_samples(path: Path) -> HandSamples:
    """Read a file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not one of these files; names the array and what is wrong.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not a readable npz file ({error})") from None
    version = arrays.pop("format_version", None)
    if version is None or version.shape != () or version != FORMAT_VERSION:
        raise ValueError(
            f"{path}: format_version is {version}, this program reads {FORMAT_VERSION}"
        )
    names = arrays.pop("names", None)
    if names is None or names.dtype.kind != "U" or names.ndim != 1:
        raise ValueError(f"{path}: names are missing, or not a list of texts")
    if len(set(names.tolist())) != len(names):
        raise ValueError(f"{path}: a name stands twice; each image has its own")
    if unknown := sorted(arrays.keys() - _ARRAYS.keys()):
        raise ValueError(f"{path}: unknown array {unknown[0]!r}; known are {', '.join(_ARRAYS)}")
    for group in _TOGETHER:
        if 0 < len(lacking := set(group) - arrays.keys()) < len(group):
            raise ValueError(f"{path}: the array {min(lacking)!r} is missing: {', '.join(group)}")
    for name, (shape, kind, optional) in _ARRAYS.items():
        if name not in arrays:
            if not optional:
                raise ValueError(f"{path}: the array {name!r} is missing")
            continue
        _check(path, name, arrays[name], (len(names), *shape), kind)
    if "cam_from_world" in arrays:
        _check_cameras(path, arrays["cam_from_world"])
    return samples_of(tuple(names.tolist()), arrays)


def match(predicted: HandSamples, true: HandSamples, source: str) -> Pair:
    """Bring predictions into the truth's order.

    Args:
        predicted: of at least the true images.
        true: what is asked for.
        source: of the predictions, for messages.

    Raises:
        ValueError: an image, or a hand that is labelled, has no prediction; or there are others.
    """
    places = {name: k for k, name in enumerate(predicted.names)}
    if missing := [name for name in true.names if name not in places]:
        raise ValueError(f"{source}: {len(missing)} images have no prediction, as {missing[0]!r}")
    if extra := sorted(places.keys() - set(true.names)):
        raise ValueError(f"{source}: {len(extra)} images are not of the benchmark, as {extra[0]!r}")
    ordered = predicted.take(torch.tensor([places[name] for name in true.names]))
    kinds = ["joints", "vertices"]
    kinds += ["joints_2d"] if ordered.joints_2d_valid.any() else []  # all of them, or none
    for kind in kinds:
        lacking = getattr(true, f"{kind}_valid") & ~getattr(ordered, f"{kind}_valid")
        if lacking.any():
            name = true.names[int(lacking.flatten(1).any(1).nonzero()[0])]
            raise ValueError(
                f"{source}: {kind} are labelled that have no prediction, as of {name!r}; a method "
                "that fails on a hand has to answer something"
            )
    return Pair(ordered, true)


def _check(path: Path, name: str, array: NDArray[Any], shape: tuple[int, ...], kind: str) -> None:
    if array.shape != shape or array.dtype.kind != kind:
        raise ValueError(
            f"{path}: {name} is {array.dtype} {array.shape}, it has to be of kind {kind!r} and "
            f"{shape}"
        )
    if kind == _REAL and not np.isfinite(array).all():
        image = int(np.argwhere(~np.isfinite(array))[0][0])
        raise ValueError(f"{path}: {name} of image {image} are not finite")


def _check_cameras(path: Path, cameras: NDArray[Any]) -> None:
    turn = cameras[:, :3, :3].astype(np.float64)
    off = np.abs(turn @ turn.transpose(0, 2, 1) - np.eye(3)).max((1, 2), initial=0)
    wrong = (off > 1e-3) | (np.linalg.det(turn) < 0) | (cameras[:, 3] != (0, 0, 0, 1)).any(-1)
    if wrong.any():
        raise ValueError(
            f"{path}: cam_from_world of image {int(wrong.argmax())} is no rigid motion (rotation, "
            "translation in metres, last row 0 0 0 1)"
        )


def samples_of(names: tuple[str, ...], arrays: dict[str, NDArray[Any]]) -> HandSamples:
    """Samples of a file's arrays, by their names; what it may lack gets its default."""
    count = len(names)
    valid = arrays["joints_valid"]
    sequences = arrays.get("sequence", np.array(names))
    numbers = np.unique(sequences, return_inverse=True)[1] if count else np.zeros(0, np.int64)
    tensors = {
        "vertices": np.zeros((count, _S, 0, 3), np.float32),
        "vertices_valid": np.zeros((count, _S), bool),
        "joints_2d": np.zeros((count, _S, _J, 2), np.float32),
        "joints_2d_valid": np.zeros((count, _S, _J), bool),
        "handedness": valid.any(-1).astype(np.float32),
        "frame": np.zeros(count, np.int64),
        "fps": np.ones(count, np.float32),
        "cam_from_world": np.tile(np.eye(4, dtype=np.float32), (count, 1, 1)),
        "area": np.zeros(count, np.float32),
        **{name: array for name, array in arrays.items() if name != "sequence"},
        "sequence": numbers.reshape(-1),
    }
    loaded = {name: torch.from_numpy(array) for name, array in tensors.items()}
    mano = {name: loaded.pop(name) for name in _MANO if name in loaded}
    return HandSamples(names=names, hands=HandState(**mano) if mano else None, **loaded)
