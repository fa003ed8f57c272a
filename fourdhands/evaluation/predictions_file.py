"""Files of predictions, and of truth: anybody's hands, to be scored with our protocols.

An npz file of plain arrays over N images (docs/predictions.md); nothing in it is executed, and what
is large in it stays on disk.
"""

import sys
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from fourdhands.evaluation.array_file import Arrays, blocks, read_arrays
from fourdhands.evaluation.samples import HandSamples, Pair
from fourdhands.files import replacing
from fourdhands.skeleton import NUM_BETAS, NUM_JOINTS, NUM_SIDES, NUM_VERTICES
from fourdhands.structures import HandState

FORMAT_VERSION: Final = 1
_S, _J, _V = NUM_SIDES, NUM_JOINTS, NUM_VERTICES
_REAL, _YES = "f", "b"
_WORDS: Final = {"f": "floats of 16, 32 or 64 bits", "b": "bools", "i": "integers", "U": "texts"}
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
    "intrinsics": ((3, 3), _REAL, True),
    "confidence": ((_S,), _REAL, True),
    "joints_2d_confidence": ((_S, _J), _REAL, True),
    "completed": ((_S,), _YES, True),
}
_EXTRA: Final = ("intrinsics", "confidence", "joints_2d_confidence", "completed")
_MANO: Final = tuple(field.name for field in fields(HandState))
_TOGETHER: Final = (("vertices", "vertices_valid"), ("joints_2d", "joints_2d_valid"), _MANO)
"""Arrays of which a file has all or none."""
_LARGEST: Final = 1e6
"""What no number may exceed: metres, pixels. Squares stay finite below it."""
_LARGEST_FRAME: Final = 2**60  # differences of such numbers are numbers, too


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
    names = [name for name in _EXTRA if getattr(samples, name) is not None]
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
    found = read_arrays(path, ("format_version", "names", *_ARRAYS))
    arrays = found.arrays
    version = arrays.pop("format_version", None)
    if version is None or version.shape != () or version != FORMAT_VERSION:
        raise ValueError(
            f"{path}: format_version is {version}, this program reads {FORMAT_VERSION}"
        )
    names = _names(path, arrays.pop("names", None))
    for group in _TOGETHER:
        if 0 < len(lacking := set(group) - arrays.keys()) < len(group):
            raise ValueError(f"{path}: the array {min(lacking)!r} is missing: {', '.join(group)}")
    for name, (shape, kind, optional) in _ARRAYS.items():
        if name in arrays:
            _check_form(path, name, arrays[name], (len(names), *shape), kind)
        elif not optional:
            raise ValueError(f"{path}: the array {name!r} is missing")
    _check_values(path, found)
    if "sequence" in arrays:
        _texts(path, "sequence", arrays["sequence"])
    return replace(samples_of(names, arrays), file=found.file)


def match(
    predicted: HandSamples, true: HandSamples, source: str, *, may_miss: bool = False
) -> Pair:
    """Bring predictions into the truth's order.

    Args:
        predicted: of at least the true images.
        true: what is asked for.
        source: of the predictions, for messages.
        may_miss: whether hands may be missing in the image, which then counts against the method.

    Raises:
        ValueError: an image, or a hand that is labelled, has no prediction; or there are others.
    """
    places = {name: k for k, name in enumerate(predicted.names)}
    if missing := [name for name in true.names if name not in places]:
        raise ValueError(f"{source}: {len(missing)} images have no prediction, as {missing[0]!r}")
    if extra := sorted(places.keys() - set(true.names)):
        raise ValueError(f"{source}: {len(extra)} images are not of the benchmark, as {extra[0]!r}")
    same_order = predicted.names == true.names  # then large arrays may stay where they are
    ordered = (
        predicted
        if same_order
        else predicted.take(torch.tensor([places[name] for name in true.names]))
    )
    kinds = ["joints", "vertices"]
    if ordered.joints_2d_valid.any() and not may_miss:  # all of them, or none
        kinds.append("joints_2d")
    for kind in kinds:
        lacking = getattr(true, f"{kind}_valid") & ~getattr(ordered, f"{kind}_valid")
        if lacking.any():
            name = true.names[int(lacking.flatten(1).any(1).nonzero()[0])]
            raise ValueError(
                f"{source}: {kind} are labelled that have no prediction, as of {name!r}; a method "
                "that fails on a hand has to answer something"
            )
    return Pair(ordered, true)


def _names(path: Path, names: NDArray[Any] | None) -> tuple[str, ...]:
    if names is not None and names.size == 0:
        raise ValueError(f"{path}: it holds no images")
    if names is None or names.dtype.kind != "U" or names.ndim != 1:
        raise ValueError(f"{path}: names are missing, or not a list of texts")
    _texts(path, "names", names)
    found = tuple(names.tolist())
    if len(set(found)) != len(found):
        twice = Counter(found).most_common(1)[0][0]
        raise ValueError(f"{path}: a name stands twice, {twice!r}; each image has its own")
    return found


def _texts(path: Path, name: str, array: NDArray[Any]) -> None:
    characters = array.view(np.uint32) if array.itemsize else np.zeros(1, np.uint32)
    half = (characters >= 0xD800) & (characters <= 0xDFFF)  # of a pair in UTF-16; cannot be written
    if (half | (characters > sys.maxunicode)).any():
        raise ValueError(f"{path}: {name} are not texts: some of their characters do not exist")


def _check_form(
    path: Path, name: str, array: NDArray[Any], shape: tuple[int, ...], kind: str
) -> None:
    if (
        array.shape != shape
        or array.dtype.kind != kind
        or (array.dtype.itemsize > 8 and kind == "f")
    ):
        raise ValueError(
            f"{path}: {name} is {array.dtype} {array.shape}, it has to be {_WORDS[kind]} of shape "
            f"{shape}"
        )


def _check_values(path: Path, found: Arrays) -> None:
    for name, array in found.arrays.items():
        if array.dtype.kind == _REAL:
            for start, block in blocks(array):
                if not float(np.abs(block).max(initial=0)) <= _LARGEST:  # or NaN
                    finite = np.isfinite(block)
                    bad = ~finite if not finite.all() else np.abs(block) > _LARGEST
                    image = start + int(np.argwhere(bad)[0][0])
                    what = "are not finite" if not finite.all() else f"exceed {_LARGEST:.0e}"
                    raise ValueError(f"{path}: {name} of image {image} {what}")
                found.file.release()
    arrays = found.arrays
    for name, low, high in (
        ("handedness", 0, 1),
        ("area", 0, _LARGEST),
        ("fps", 1e-3, _LARGEST),
        ("frame", -_LARGEST_FRAME, _LARGEST_FRAME),
    ):
        if name in arrays:
            bad = (arrays[name] < low) | (arrays[name] > high)
            if bad.any():
                value, image = arrays[name][bad].flat[0], int(np.argwhere(bad)[0][0])
                raise ValueError(
                    f"{path}: {name} of image {image} is {value}, outside {low:.4g} to {high:.4g}"
                )
    if "cam_from_world" in arrays:
        _check_cameras(path, arrays["cam_from_world"])


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
    tensors["frame"] = tensors["frame"].astype(np.int64)
    loaded = {name: torch.from_numpy(array) for name, array in tensors.items()}
    mano = {name: loaded.pop(name) for name in _MANO if name in loaded}
    hands = HandState(**mano) if mano else None
    return HandSamples(names=names, hands=hands, file=None, **loaded)
