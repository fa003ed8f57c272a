"""What a shard stores: a `Clip` and its members, checked whenever they are read or written.

A sample of a shard is one clip: consecutive frames of one sequence seen by one camera. Members of
the sample `key` are named `key.member`:

    meta.json                      schema version, names, fps, frame ids, image size, two facts
                                   about the labels
    000.jpg 001.jpg ...            frames, as encoded
    000.mask.png ...  (optional)   uint8: 0 background, 1 right hand, 2 left hand, 3 anything else
    000.depth.png ... (optional)   uint16: depth in units of 0.1 mm, 0 where nothing was hit
    <array>.npy                    one per entry of `ARRAYS`, over the clip's F frames
    <array>.npy       (optional)   those of `OPTIONAL`, where the data set has them
"""

import ast
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fourdhands.skeleton import NUM_BETAS, NUM_JOINTS, NUM_SIDES, NUM_VERTICES
from fourdhands.structures import ClipMeta

SCHEMA_VERSION: Final = 2
MAX_FRAMES: Final = 1000
DEPTH_UNIT: Final = 1e-4
"""Metres of one count in a depth image."""
ROTATION_TOLERANCE: Final = 1e-3

_FLOAT, _BOOL = np.dtype("<f4"), np.dtype("?")
_S, _J = NUM_SIDES, NUM_JOINTS

ARRAYS: Final[Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]] = {
    "intrinsics": ((3, 3), _FLOAT),
    "cam_from_world": ((4, 4), _FLOAT),
    "global_orient": ((_S, 3, 3), _FLOAT),
    "hand_pose": ((_S, 15, 3, 3), _FLOAT),
    "betas": ((_S, NUM_BETAS), _FLOAT),
    "transl": ((_S, 3), _FLOAT),
    "hands_valid": ((_S,), _BOOL),
    "betas_valid": ((_S,), _BOOL),
    "roots_valid": ((_S,), _BOOL),
    "vertices_valid": ((_S,), _BOOL),
    "joints": ((_S, _J, 3), _FLOAT),
    "joints_valid": ((_S, _J), _BOOL),
    "joints_2d": ((_S, _J, 2), _FLOAT),
    "joints_2d_valid": ((_S, _J), _BOOL),
    "joints_visible": ((_S, _J), _BOOL),
    "bbox": ((_S, 4), _FLOAT),
}
"""Arrays of every clip: shape after the frame dimension, and dtype."""

OPTIONAL: Final[Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]] = {
    "vertices": ((_S, NUM_VERTICES, 3), _FLOAT),
    "hands_shown": ((_S,), _BOOL),
    "person_area": ((), _FLOAT),
}
"""The same of the arrays that a clip may lack."""
_LAYOUT: Final = {**ARRAYS, **OPTIONAL}

_KEY = re.compile(r"[A-Za-z0-9_-]{1,80}")
_MEMBER = re.compile(r"(\d{3})\.(jpg|mask\.png|depth\.png)")
_META_TYPES: Final = {
    "schema_version": int,
    "dataset": str,
    "sequence": str,
    "camera": str,
    "fps": float,
    "frame_ids": list,
    "image_size": list,
    "intrinsics_known": bool,
    "all_hands_labelled": bool,
}


class BadSampleError(ValueError):
    """A sample of a shard is not what the schema says; the message is one line for the user."""

    def __init__(self, shard: str, key: str, member: str, reason: str):
        """Keep the parts apart, for callers that count reasons."""
        self.shard, self.key, self.member, self.reason = shard, key, member, reason
        place = ", ".join(
            f"{label} {value}"
            for label, value in (("shard", shard), ("sample", key), ("member", member))
            if value
        )
        super().__init__(f"{place}: {reason}")

    def __reduce__(self) -> tuple[type["BadSampleError"], tuple[str, str, str, str]]:
        """Survive the trip between processes."""
        return type(self), (self.shard, self.key, self.member, self.reason)


class _MemberError(Exception):
    """A fault of one member, before anybody knows which shard it came from."""

    def __init__(self, member: str, reason: str):
        super().__init__(member, reason)
        self.member, self.reason = member, reason


@dataclass(frozen=True)
class Clip:
    """F consecutive frames of one sequence and one camera, as stored: images stay encoded.

    A missing label is zeros with a False in its mask, never NaN. Units and frames are those of
    `fourdhands.structures`: metres, pixels of the full image with centres at integers, OpenCV axes.

    Attributes:
        key: unique in its set; letters, digits, `_` and `-`.
        dataset: name of the data set.
        sequence: name of the recording; clips of one sequence and camera can be strung together.
        camera: name of the camera.
        fps: frames a second; sets of single images say 1.
        frame_ids: F increasing numbers of the frames in their sequence.
        image_size: width, height of every frame.
        frames: F encoded jpgs.
        intrinsics: (F, 3, 3).
        cam_from_world: (F, 4, 4).
        global_orient: (F, S, 3, 3); with hand_pose (F, S, 15, 3, 3) MANO's rotations in the camera
            frame; hands_valid (F, S) says where.
        betas: (F, S, 10) of MANO with the left hand's shape directions repaired; betas_valid
            (F, S) says where, hands_valid alone that only the rotations are known.
        transl: (F, S, 3), known where hands, betas and roots are valid.
        joints: (F, S, J, 3) camera frame; joints_valid (F, S, J). The data set's own where it has
            any, so that they may differ from MANO's by millimetres.
        roots_valid: (F, S) where the hand stands where it is in front of the camera; elsewhere
            joints and vertices are known up to a shift.
        vertices_valid: (F, S) where the data set itself brings a mesh.
        joints_2d: (F, S, J, 2) pixels; joints_2d_valid (F, S, J) says where they are labelled,
            inside the image or not.
        joints_visible: (F, S, J) inside the image and not hidden behind anything.
        bbox: (F, S, 4) tight box (centre x, y, size x, y) of what of the hand lies inside the
            image: of its mesh, or of its labelled joints where there is no mesh. Unpadded. Zeros
            where no hand is to be cropped.
        intrinsics_known: whether the intrinsics are the camera's, not a guess from the image size.
        all_hands_labelled: whether whatever looks like a hand has a bbox, in every frame.
        vertices: (F, S, V, 3) camera frame, in MANO's order; None where no mesh is valid.
        hands_shown: (F, S) which hands the data set says the image shows, labelled or not; None
            where it does not say.
        person_area: (F,) pixels^2 of the person whose hands these are, as COCO measures it; None
            where nobody knows.
        masks: F encoded png, or empty.
        depths: F encoded png, or empty.
    """

    key: str
    dataset: str
    sequence: str
    camera: str
    fps: float
    frame_ids: tuple[int, ...]
    image_size: tuple[int, int]
    frames: tuple[bytes, ...]
    intrinsics: NDArray[np.float32]
    cam_from_world: NDArray[np.float32]
    global_orient: NDArray[np.float32]
    hand_pose: NDArray[np.float32]
    betas: NDArray[np.float32]
    transl: NDArray[np.float32]
    hands_valid: NDArray[np.bool_]
    betas_valid: NDArray[np.bool_]
    roots_valid: NDArray[np.bool_]
    vertices_valid: NDArray[np.bool_]
    joints: NDArray[np.float32]
    joints_valid: NDArray[np.bool_]
    joints_2d: NDArray[np.float32]
    joints_2d_valid: NDArray[np.bool_]
    joints_visible: NDArray[np.bool_]
    bbox: NDArray[np.float32]
    intrinsics_known: bool = True
    all_hands_labelled: bool = True
    vertices: NDArray[np.float32] | None = None
    hands_shown: NDArray[np.bool_] | None = None
    person_area: NDArray[np.float32] | None = None
    masks: tuple[bytes, ...] = ()
    depths: tuple[bytes, ...] = ()

    @property
    def num_frames(self) -> int:
        """F."""
        return len(self.frame_ids)

    @property
    def meta(self) -> ClipMeta:
        """Where the clip comes from, as it travels with a batch."""
        return ClipMeta(
            self.dataset, self.key, self.sequence, self.camera, self.fps, self.frame_ids
        )


def encode_clip(clip: Clip) -> dict[str, bytes | str]:
    """Turn a clip into a webdataset sample: `__key__` and the members' bytes.

    Raises:
        BadSampleError: the clip breaks the schema.
    """
    try:
        _check(clip)
    except _MemberError as fault:
        raise BadSampleError("", clip.key, fault.member, fault.reason) from None
    meta = {
        "schema_version": SCHEMA_VERSION,
        "dataset": clip.dataset,
        "sequence": clip.sequence,
        "camera": clip.camera,
        "fps": float(clip.fps),
        "frame_ids": [int(number) for number in clip.frame_ids],
        "image_size": [int(size) for size in clip.image_size],
        "intrinsics_known": bool(clip.intrinsics_known),
        "all_hands_labelled": bool(clip.all_hands_labelled),
    }
    sample: dict[str, bytes | str] = {
        "__key__": clip.key,
        "meta.json": json.dumps(meta).encode(),
    }
    for name in _LAYOUT:
        if (array := getattr(clip, name)) is None:
            continue
        file = io.BytesIO()
        np.lib.format.write_array(file, array, version=(1, 0), allow_pickle=False)
        sample[f"{name}.npy"] = file.getvalue()
    for ending, images in (("jpg", clip.frames), ("mask.png", clip.masks)):
        sample |= {f"{k:03d}.{ending}": image for k, image in enumerate(images)}
    return sample | {f"{k:03d}.depth.png": image for k, image in enumerate(clip.depths)}


def decode_clip(sample: Mapping[str, Any]) -> Clip:
    """Read a clip from a webdataset sample; images stay encoded, everything else is checked.

    Args:
        sample: members by name, `__key__`, and `__url__` where the shard is known.

    Raises:
        BadSampleError: a member is missing, unknown, unreadable or breaks the schema.
    """
    shard, key = str(sample.get("__url__", "")), str(sample["__key__"])
    try:
        images = _images(sample)
        clip = Clip(
            key=key,
            **_read_meta(_member(sample, "meta.json")),
            **{name: _read_array(_member(sample, f"{name}.npy"), name) for name in ARRAYS},
            **{
                name: _read_array(sample[f"{name}.npy"], name)
                for name in OPTIONAL
                if f"{name}.npy" in sample
            },
            frames=images["jpg"],
            masks=images["mask.png"],
            depths=images["depth.png"],
        )
        _check(clip)
    except _MemberError as fault:
        raise BadSampleError(shard, key, fault.member, fault.reason) from None
    return clip


def count_frames(sample: Mapping[str, Any]) -> int:
    """How many frames a sample holds, without reading any."""
    return sum(name.endswith(".jpg") for name in sample)


def _member(sample: Mapping[str, Any], name: str) -> bytes:
    if name not in sample:
        raise _MemberError(name, "is missing; write the shard again")
    return bytes(sample[name])


def _images(sample: Mapping[str, Any]) -> dict[str, tuple[bytes, ...]]:
    """Encoded images by ending, in order; refuses members that the schema does not know."""
    numbered: dict[str, dict[int, bytes]] = {"jpg": {}, "mask.png": {}, "depth.png": {}}
    for name, value in sample.items():
        if match := _MEMBER.fullmatch(name):
            numbered[match[2]][int(match[1])] = value
        elif not (name.startswith("__") or name == "meta.json" or name[:-4] in _LAYOUT):
            raise _MemberError(name, "is not a member that the schema knows")
    for ending, images in numbered.items():
        for k in range(len(images)):
            if k not in images:
                raise _MemberError(f"{k:03d}.{ending}", "is missing; write the shard again")
    return {ending: tuple(v[k] for k in range(len(v))) for ending, v in numbered.items()}


def _read_meta(data: bytes) -> dict[str, Any]:
    try:
        meta = json.loads(data)
    except ValueError as error:
        raise _MemberError("meta.json", f"is not JSON ({error})") from None
    if not isinstance(meta, dict):
        raise _MemberError("meta.json", "is not a JSON object")
    if meta.get("schema_version") != SCHEMA_VERSION:
        raise _MemberError(
            "meta.json",
            f"schema_version is {meta.get('schema_version')!r}, this program reads "
            f"{SCHEMA_VERSION}; write the shard again with this version",
        )
    if wrong := set(meta) ^ set(_META_TYPES):
        raise _MemberError("meta.json", f"has missing or unknown fields {sorted(wrong)}")
    for name, kind in _META_TYPES.items():
        allowed = (int, float) if kind is float else kind
        if not isinstance(meta[name], allowed) or isinstance(meta[name], bool) != (kind is bool):
            raise _MemberError("meta.json", f"{name} is {meta[name]!r}, not {kind.__name__}")
    for name in ("frame_ids", "image_size"):
        if not all(type(value) is int for value in meta[name]):
            raise _MemberError("meta.json", f"{name} is not a list of whole numbers")
        meta[name] = tuple(meta[name])
    del meta["schema_version"]
    return meta


@lru_cache(maxsize=256)
def _npy_layout(header: bytes) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of an npy header; the same few headers come again and again."""
    description = ast.literal_eval(header.decode("latin1"))
    if not isinstance(description, dict) or description.get("fortran_order") is not False:
        raise ValueError("not in C order")
    dtype, shape = np.dtype(description["descr"]), description["shape"]
    if not (isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)):
        raise ValueError(f"shape is {shape!r}")
    return shape, dtype


def _read_array(data: bytes, name: str) -> Any:
    """Read npy version 1.0, which is all that `encode_clip` writes; never unpickles."""
    member, (trailing, expected) = f"{name}.npy", _LAYOUT[name]
    if data[:8] != b"\x93NUMPY\x01\x00" or len(data) < 10:
        raise _MemberError(member, "is not a version 1.0 npy file")
    start = 10 + int.from_bytes(data[8:10], "little")
    try:
        shape, dtype = _npy_layout(data[10:start])
    except (
        ValueError,
        SyntaxError,
        TypeError,
        KeyError,
        ArithmeticError,
        MemoryError,
        RecursionError,
    ) as error:
        raise _MemberError(member, f"has an unreadable header ({error})") from None
    if dtype != expected or shape[1:] != trailing:
        raise _MemberError(
            member, f"is {dtype} {shape}, not {expected} (F, {', '.join(map(str, trailing))})"
        )
    count = int(np.prod(shape, dtype=object))
    if len(data) - start != count * dtype.itemsize:
        raise _MemberError(member, f"holds {len(data) - start} bytes, {shape} needs {count} values")
    return np.frombuffer(data, dtype, count, start).reshape(shape)


def _check(clip: Clip) -> None:
    """Check everything that is cheap to check: all but the images' contents."""
    _check_names(clip)
    for name, (trailing, dtype) in _LAYOUT.items():
        array = getattr(clip, name)
        if name in OPTIONAL and array is None:
            if name == "vertices" and clip.vertices_valid.any():
                raise _MemberError("vertices.npy", "is missing; vertices_valid says it is there")
            continue
        shape = (clip.num_frames, *trailing)
        if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
            found = f"{getattr(array, 'dtype', type(array))} {getattr(array, 'shape', '')}"
            raise _MemberError(f"{name}.npy", f"is {found}, not {dtype} {shape}")
        if dtype == _FLOAT and not np.isfinite(array).all():
            raise _MemberError(f"{name}.npy", "holds values that are not finite")
    _check_rotations("global_orient", clip.global_orient[clip.hands_valid])
    _check_rotations("hand_pose", clip.hand_pose[clip.hands_valid])
    _check_rotations("cam_from_world", clip.cam_from_world[:, :3, :3])
    if (clip.cam_from_world[:, 3] != (0, 0, 0, 1)).any():
        raise _MemberError("cam_from_world.npy", "has a last row other than 0, 0, 0, 1")
    focal = clip.intrinsics[:, (0, 1), (0, 1)]
    if (focal <= 0).any() or (clip.intrinsics[:, 2] != (0, 0, 1)).any():
        raise _MemberError(
            "intrinsics.npy", "needs positive focal lengths and a last row of 0, 0, 1"
        )
    if ((clip.bbox[..., 2:] > 0) != (clip.bbox[..., 2:].sum(-1, keepdims=True) != 0)).any():
        raise _MemberError("bbox.npy", "has a size that is neither positive nor zero")


def _check_names(clip: Clip) -> None:
    count = clip.num_frames
    if not _KEY.fullmatch(clip.key):
        raise _MemberError("", "the key may hold 1 to 80 letters, digits, '_' and '-' only")
    if not 1 <= count <= MAX_FRAMES:
        raise _MemberError("meta.json", f"lists {count} frames, allowed are 1 to {MAX_FRAMES}")
    if any(later <= earlier for earlier, later in pairwise(clip.frame_ids)):
        raise _MemberError("meta.json", "frame_ids do not increase")
    if not 0 < clip.fps < 1e5:
        raise _MemberError("meta.json", f"fps is {clip.fps}, it has to be positive")
    if len(clip.image_size) != 2 or not all(0 < size < 65536 for size in clip.image_size):
        raise _MemberError("meta.json", f"image_size is {clip.image_size}, not (width, height)")
    for ending, images, allowed in (
        ("jpg", clip.frames, {count}),
        ("mask.png", clip.masks, {0, count}),
        ("depth.png", clip.depths, {0, count}),
    ):
        if len(images) not in allowed:
            raise _MemberError(
                f"{len(images):03d}.{ending}", f"there are {len(images)} for {count} frames"
            )


def _determinants(matrices: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of (..., 3, 3). LAPACK would wake threads that spin on after each call, in every worker."""
    a, b, c, d, e, f, g, h, i = np.moveaxis(matrices.reshape(*matrices.shape[:-2], 9), -1, 0)
    return np.asarray(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g), np.float32)


def _check_rotations(name: str, rotations: NDArray[np.float32]) -> None:
    """Refuse (..., 3, 3) that are not proper rotations."""
    bounded = (np.abs(rotations) <= 1 + ROTATION_TOLERANCE).all()  # before products overflow
    gram = rotations.swapaxes(-1, -2) @ rotations if bounded else np.inf
    unit = np.abs(gram - np.eye(3, dtype=np.float32)) <= ROTATION_TOLERANCE
    if not (unit.all() and (_determinants(rotations) > 0).all()):
        raise _MemberError(f"{name}.npy", "holds matrices that are not rotations")
