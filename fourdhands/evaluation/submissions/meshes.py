"""HO3D and FreiHAND: joints and meshes of right hands, all in one pred.json.

Both lists hold points where they are, in one frame: absolute errors and F-scores without alignment
mean something only then.
"""

import re
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray

from fourdhands.data.convert.conventions import OPENCV_FROM_OPENGL
from fourdhands.data.convert.ho3d import recording_of
from fourdhands.evaluation.predictions_file import samples_of
from fourdhands.evaluation.samples import HandSamples
from fourdhands.evaluation.submissions.archives import read_points, write_points
from fourdhands.evaluation.submissions.base import (
    MOST_IMAGES,
    Contents,
    Context,
    Key,
    ServerFile,
    frame_key,
    read_lines,
    right_hands,
    unique,
)
from fourdhands.skeleton import JOINTS_FROM_MANO, NUM_JOINTS, NUM_SIDES, NUM_VERTICES, Side

_LINE: Final = re.compile(r"([A-Za-z0-9_-]+)/([0-9]{1,9})")


class _Meshes(ServerFile):
    """pred.json in a zip. Axes are such that their own inverse leads back.

    Attributes:
        signs: of the server's x, y, z beside OpenCV's.
    """

    sides = (Side.RIGHT,)
    signs: ClassVar[tuple[float, float, float]] = (1.0, 1.0, 1.0)

    @abstractmethod
    def listed(self, context: Context, count: int) -> list[Key] | None:
        """The server's order; None if it is not known. Of `count` images if any number will do."""

    def write(self, samples: HandSamples, path: Path, context: Context) -> str:
        """Write pred.json into a flat zip; see `ServerFile`."""
        listed = self.listed(context, len(samples))
        if listed is None:
            raise ValueError(
                f"{self.title}: the order of the images is missing; --submission_list has to be "
                f"{self.list_is}"
            )
        source = str(context.images or self.title)
        self.check_count(len(listed), context, source)
        ordered = right_hands(self.in_order(samples, listed, source))
        server_from_common = np.argsort(self.common_from_server)
        joints, vertices = (
            _real(points[:, Side.RIGHT]) for points in (ordered.joints, ordered.vertices)
        )
        signs = np.array(self.signs, joints.dtype)
        write_points(path, joints[:, server_from_common] * signs, vertices * signs)
        return f"{len(listed):,} images, joints and vertices, pred.json"

    def read(self, path: Path, context: Context, *, meshes: bool = True) -> Contents:
        """Read pred.json out of a flat zip; see `ServerFile`."""
        known = None if context.images is None else self.listed(context, 0)
        most = self.count if known is None else len(known)
        if most is None or (context.any_count and known is None):
            most = MOST_IMAGES
        joints, vertices = read_points(path, most)
        listed = self.listed(context, len(joints))
        if listed is not None and len(listed) != len(joints):
            source = context.images or self.title
            raise ValueError(f"{path}: has {len(joints)} images, {source} has {len(listed)}")
        self.check_count(len(joints), context, str(path))
        both = [
            np.zeros((len(joints), NUM_SIDES, points, 3)) for points in (NUM_JOINTS, NUM_VERTICES)
        ]
        both[0][:, Side.RIGHT] = joints[:, list(self.common_from_server)] * self.signs
        both[1][:, Side.RIGHT] = vertices * self.signs
        there = np.zeros((len(joints), NUM_SIDES), bool)
        there[:, Side.RIGHT] = True
        arrays: dict[str, NDArray[Any]] = {
            "joints": both[0],
            "joints_valid": np.repeat(there[..., None], NUM_JOINTS, -1),
            "vertices": both[1],
            "vertices_valid": there,
        }
        places = tuple(map(str, range(len(joints))))
        return Contents(places if listed is None else listed, samples_of(places, arrays))


class Ho3d(_Meshes):
    """HO3D v2 and v3: the order of evaluation.txt, HO3D's joint order, OpenGL's axes."""

    list_is = "HO3D's evaluation.txt, whose order is that of the submission"
    needs_list = True
    common_from_server = JOINTS_FROM_MANO
    signs = tuple(np.diag(OPENCV_FROM_OPENGL).tolist())

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]

    def keys(self, names: Sequence[str], listed: Sequence[Key]) -> list[Key]:
        """SEQUENCE + CAMERA is the folder; where that is none, SEQUENCE alone may be."""
        folders = {key[0] for key in listed if isinstance(key, tuple)}
        found: list[Key] = []
        for name in names:
            parts, number = frame_key(name)
            folder = parts.replace("/", "")
            if folders and folder not in folders:
                folder = parts.partition("/")[0]
            found.append((folder, number))
        return found

    def name_of(self, key: Key) -> str:
        """As the converter splits folders."""
        if not isinstance(key, tuple):
            return str(key)
        sequence, camera = recording_of(key[0])
        return f"{sequence}/{camera}/{key[1]}"

    def listed(self, context: Context, count: int) -> list[Key] | None:
        """The lines of evaluation.txt."""
        if context.images is None:
            return None
        keys: list[Key] = []
        for line in read_lines(context.images, self.list_is):
            if (match := _LINE.fullmatch(line)) is None:
                raise ValueError(f"{context.images}: {line[:60]!r} is not SEQUENCE/NUMBER")
            keys.append((match[1], int(match[2])))
        unique(keys, context.images)
        return keys


class FreiHand(_Meshes):
    """FreiHAND: by the images' numbers, common order, OpenCV's axes."""

    name = "freihand"

    def keys(self, names: Sequence[str], listed: Sequence[Key]) -> list[Key]:
        """The number of the image."""
        return [frame_key(name)[1] for name in names]

    def name_of(self, key: Key) -> str:
        """As of image 12: 00000012/0/12."""
        return f"{key:08d}/0/{key}"

    def listed(self, context: Context, count: int) -> list[Key]:
        """All numbers from 0."""
        if not context.any_count and self.count is not None:
            count = self.count
        return list(range(count))


def _real(tensor: torch.Tensor) -> NDArray[Any]:
    """Single or double precision, as it is."""
    return (
        tensor.numpy() if tensor.dtype in (torch.float32, torch.float64) else tensor.float().numpy()
    )
