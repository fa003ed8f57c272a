"""H2O: joints of both hands in one JSON file, whose layout is NOT confirmed (see `layout`)."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fourdhands.evaluation.predictions_file import samples_of
from fourdhands.evaluation.samples import HandSamples
from fourdhands.evaluation.submissions.archives import only_member, zip_to_write
from fourdhands.evaluation.submissions.base import (
    MOST_IMAGES,
    Contents,
    Context,
    Key,
    ServerFile,
    frame_key,
    read_lines,
    refuse_first,
    unique,
)
from fourdhands.skeleton import NUM_JOINTS, NUM_SIDES, Side

FILE: Final = "hand_poses.json"
_ORDER: Final = (Side.LEFT, Side.RIGHT)
_VALUES: Final = len(_ORDER) * NUM_JOINTS * 3
_LARGEST: Final = 512 << 20
_CAMERA: Final = "cam4"
_TAKE: Final = re.compile(r"subject\d/[a-z]\d/\d+")


def layout(points: dict[str, dict[int, list[float]]]) -> dict[str, Any]:
    """The content of hand_poses.json. NOT CONFIRMED: read the server's page before you submit.

    Supposed, from memory of others: an entry "modality", and for each sequence the hands of its
    frames by the names of H2O's label files.

    Args:
        points: by take (`subject4/h1/0`) and frame: 126 metres, the left hand's 63 first, camera
            frame with OpenCV's axes, common order.
    """
    takes = {
        take: {f"{number:06d}.txt": values for number, values in frames.items()}
        for take, frames in points.items()
    }
    return {"modality": "RGB", **takes}


class H2O(ServerFile):
    """hand_poses.json in a zip."""

    name = "h2o"
    note = (
        "the layout of hand_poses.json is NOT confirmed: hold it against the server's page before "
        "you submit it"
    )
    list_is = "H2O's label_split/pose_test.txt"

    def keys(self, names: Sequence[str], listed: Sequence[Key]) -> list[Key]:
        """`subject4/h1/0` and the frame, also of lines such as subject4_ego/h1/0/cam4/rgb/12.png.

        Raises:
            ValueError: a name is of another camera than the head's.
        """
        found: list[Key] = []
        for name in names:
            folder, number = frame_key(name)
            parts = [p.removesuffix("_ego") for p in folder.split("/") if not p.startswith("rgb")]
            take = "/".join(parts[:3])
            if parts[3:] not in ([], [_CAMERA]) or _TAKE.fullmatch(take) is None:
                raise ValueError(
                    f"{name[:80]!r} is no image of H2O's {_CAMERA}, subject4/h1/0/{_CAMERA}/12"
                )
            found.append((take, number))
        return found

    def name_of(self, key: Key) -> str:
        """As of a converted set."""
        return f"{key[0]}/{_CAMERA}/{key[1]}" if isinstance(key, tuple) else str(key)

    def write(self, samples: HandSamples, path: Path, context: Context) -> str:
        """Write hand_poses.json into a flat zip; see `ServerFile`."""
        listed = self.keys(samples.names, ())
        source = "the predictions"
        if context.images is not None:
            lines = read_lines(context.images, self.list_is)
            listed, source = self.keys(lines, ()), str(context.images)
            unique(listed, context.images)
        self.check_count(len(listed), context, source)
        ordered = self.in_order(samples, listed, source)
        whole = ordered.joints_valid.all(-1) & ordered.joints.isfinite().flatten(2).all(-1)
        refuse_first(ordered, ~whole.all(-1), "not all joints of both hands")
        points: dict[str, dict[int, list[float]]] = {}
        values = ordered.joints[:, list(_ORDER)].double().reshape(-1, _VALUES).tolist()
        for key, numbers in zip(listed, values, strict=True):
            assert isinstance(key, tuple)
            points.setdefault(key[0], {})[key[1]] = numbers
        with zip_to_write(path) as archive:
            archive.writestr(FILE, json.dumps(layout(points), allow_nan=False))
        return f"{len(listed):,} images, {FILE}"

    def read(self, path: Path, context: Context, *, meshes: bool = True) -> Contents:
        """Read what `layout` lays out; see `ServerFile`."""
        with only_member(path, FILE) as file:
            data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise ValueError(f"{path}: {FILE} has more than {_LARGEST} bytes")
        try:
            content = json.loads(data)
        except (ValueError, RecursionError):
            raise ValueError(f"{path}: {FILE} is not JSON") from None
        if not isinstance(content, dict) or "modality" not in content:
            raise ValueError(f"{path}: {FILE} is no object with a modality")
        takes = {take: frames for take, frames in content.items() if take != "modality"}
        names: list[str] = []
        values: list[Any] = []
        for take, frames in takes.items():
            if not isinstance(frames, dict):
                raise ValueError(f"{path}: {take[:60]!r} has no frames")
            names += [f"{take}/{_CAMERA}/{frame}" for frame in frames]
            values += frames.values()
        if len(names) > MOST_IMAGES:
            raise ValueError(f"{path}: more than {MOST_IMAGES} images")
        keys = self.keys(names, ())
        unique(keys, path)
        joints = _joints(values, names, path)
        self.check_count(len(keys), context, str(path))
        if context.images is not None:
            listed = set(self.keys(read_lines(context.images, self.list_is), ()))
            for what, keyset in (("lacks", listed - set(keys)), ("alone has", set(keys) - listed)):
                if keyset:
                    name = min(map(self.name_of, keyset))
                    raise ValueError(f"{path}: {what} {len(keyset)} images, as {name!r}")
        arrays: dict[str, NDArray[Any]] = {
            "joints": joints,
            "joints_valid": np.ones(joints.shape[:-1], bool),
        }
        return Contents(keys, samples_of(tuple(names), arrays))


def _joints(values: Sequence[Any], names: Sequence[str], path: Path) -> NDArray[np.float64]:
    for name, numbers in zip(names, values, strict=True):
        if not isinstance(numbers, list) or len(numbers) != _VALUES:
            count = len(numbers) if isinstance(numbers, list) else "no"
            raise ValueError(f"{path}: {name[:80]} has {count} values, it has to have {_VALUES}")
        if not all(isinstance(x, float | int) and not isinstance(x, bool) for x in numbers):
            raise ValueError(f"{path}: {name[:80]} has values that are no numbers")
    shape = (-1, NUM_SIDES, NUM_JOINTS, 3)
    try:
        in_order = np.array(values, np.float64).reshape(shape)
    except OverflowError:
        raise ValueError(f"{path}: a value is out of all proportion") from None
    joints = np.empty_like(in_order)
    joints[:, list(_ORDER)] = in_order
    return joints
