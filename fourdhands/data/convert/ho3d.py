"""HO3D v2 and v3: a right hand and an object, some sequences seen by up to five cameras.

    {train,evaluation}/{SEQ}/rgb/%04d.(png|jpg)    png in v2, jpg in v3
    {train,evaluation}/{SEQ}/meta/%04d.pkl
    {train,evaluation}.txt                         SEQ/%04d of each labelled image, with holes
    evaluation_{xyz,verts}.json                    in the order of evaluation.txt; came out later

Metres, OpenGL's camera for joints and for MANO's parameters, MANO's joints and then the tips, poses
that include MANO's mean. The pickles of `evaluation` tell of its hands the wrist and a box alone.

Names of sequences that several cameras saw end with two digits, the last of which is the camera
(ABF10 to ABF14). That one is split off here, and the camera of all others has no name: the folder
always is sequence + camera.
"""

import re
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import ArrayLike

from fourdhands.data.convert.conventions import (
    FROM_HO3D,
    OPENCV_FROM_OPENGL,
    Floats,
    Mano,
    MeshParameters,
    numbers,
    rotation,
)
from fourdhands.data.convert.records import (
    BadFrameError,
    Dataset,
    FrameRecord,
    HandRecord,
    Recording,
)
from fourdhands.data.convert.sources import read_image, read_json, read_pickle, require
from fourdhands.skeleton import (
    FINGERTIP_VERTICES,
    FINGERTIPS,
    NUM_JOINTS,
    NUM_VERTICES,
    WRIST,
    Side,
)

_FOLDERS: Final = {"train": "train", "test": "evaluation"}
_LINE: Final = re.compile(r"([A-Za-z0-9_-]+)/([0-9]{1,9})")
_MANY_CAMERAS: Final = re.compile(r"(.*[0-9])([0-9])")
_SAME_PLACE: Final = 0.01
"""Metres between two files' wrists of one hand; far less than a hand, far more than rounding."""
_SAME_TIP: Final = 0.02
"""Metres from a tip to the vertex that others call the tip; far less than between fingers."""
_LENGTHS: Final = {66_034: "ho3d_v2", 11_524: "ho3d_v2", 83_325: "ho3d_v3", 20_137: "ho3d_v3"}
"""Lines of the official lists: the versions have the same layout, but not the same labels."""

Published = Mapping[str, Any]
"""Of one image: entries of the json files by their names, `xyz` and `verts`."""


@dataclass(frozen=True)
class HOnnotateSet(Dataset):
    """A data set in the layout above."""

    fps: ClassVar[float] = 30.0

    def splits(self) -> Sequence[str]:
        """Those whose folders are there."""
        found = [s for s, folder in _FOLDERS.items() if (self.root / folder).is_dir()]
        if not found:
            require(self.root / "train", f"the folder of the training sequences of {self.name}")
        return found

    def recordings(self, split: str) -> Iterable[Recording]:
        """One for each folder of images that the list names."""
        folder = _FOLDERS[split]
        lines = self.lines(folder)
        published = self.published(folder, len(lines))
        found: dict[str, dict[int, Any]] = {}
        for k, line in enumerate(lines):
            if match := _LINE.fullmatch(line):
                of_image = {name: entries[k] for name, entries in published.items()}
                source = (f"{folder}/{match[1]}", match[2], of_image)
                found.setdefault(match[1], {}).setdefault(int(match[2]), source)
        for name, frames in sorted(found.items()):
            sequence, camera = recording_of(name)
            yield Recording(sequence, camera, tuple(sorted(frames.items())))
        for line in sorted({line for line in lines if not _LINE.fullmatch(line)}):
            yield Recording(line[:80], "", ((0, None),))

    def lines(self, folder: str) -> Sequence[str]:
        """The list of a folder's images."""
        path = require(self.root / f"{folder}.txt", f"the list of the images of {self.name}")
        return [
            line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()
        ]

    def published(self, folder: str, count: int) -> Mapping[str, Sequence[Any]]:
        """Labels outside of the pickles: by name, an entry for each of the list's `count` lines."""
        return {}

    def read(self, recording: Recording, source: Any, mano: Mano) -> FrameRecord:
        """Turn the pickle's labels into OpenCV's frame."""
        if source is None:
            raise BadFrameError("a line of the list is not SEQUENCE/NUMBER")
        folder, stem, published = source
        meta = read_pickle(self.root / folder / "meta" / f"{stem}.pkl")
        if not isinstance(meta, dict):
            raise BadFrameError("the labels are no dictionary")
        if meta["camMat"] is None:
            raise BadFrameError("the camera is not labelled")
        image = read_image(_image(self.root / folder / "rgb", stem))
        return FrameRecord(image, self.hands(meta, published, mano), intrinsics=meta["camMat"])

    @abstractmethod
    def hands(
        self, meta: Mapping[str, Any], published: Published, mano: Mano
    ) -> Mapping[Side, HandRecord]:
        """The hands of a pickle; what is None there is unknown."""

    def hand(self, meta: Mapping[str, Any], side: Side, prefix: str, mano: Mano) -> HandRecord:
        """One hand of a pickle.

        Args:
            meta: the pickle.
            side: of the hand.
            prefix: of the names of its labels.
            mano: hand models.
        """
        hand = HandRecord(bbox=meta.get(f"{prefix}BoundingBox"))
        if (points := meta[f"{prefix}Joints3D"]) is not None:
            hand.joints, hand.joints_valid = _joints(points)
        pose, betas, transl = (
            meta.get(name) for name in (f"{prefix}Pose", "handBeta", f"{prefix}Trans")
        )
        if not (pose is None or betas is None or transl is None):
            angles = numbers(pose, 48)
            opengl = MeshParameters(
                rotation(angles[:3]),
                mano.hand_pose(side, angles[3:], mean_included=True),
                numbers(betas, 10),
                numbers(transl, 3),
            )
            seen = mano.moved(
                side, opengl, OPENCV_FROM_OPENGL, (0, 0, 0), released=self.left_released
            )
            hand.global_orient, hand.hand_pose = seen.global_orient, seen.hand_pose
            hand.betas, hand.transl = seen.betas, seen.transl
        return hand


@dataclass(frozen=True)
class Ho3d(HOnnotateSet):
    """Either version."""

    def lines(self, folder: str) -> Sequence[str]:
        """The list, if it is of this version."""
        lines = super().lines(folder)
        if (version := _LENGTHS.get(len(lines), self.name)) != self.name:
            raise ValueError(
                f"{self.root}: the {len(lines)} lines of {folder}.txt are those of {version}, not "
                f"of {self.name}; convert it by that name"
            )
        return lines

    def published(self, folder: str, count: int) -> Mapping[str, Sequence[Any]]:
        """The json files that are there."""
        found = {}
        for name in ("xyz", "verts"):
            path = self.root / f"{folder}_{name}.json"
            if path.exists():
                entries = read_json(path)
                if not isinstance(entries, list) or len(entries) != count:
                    raise ValueError(
                        f"{path}: not a list of {count} entries, one for each line of "
                        f"{folder}.txt; get both from the same version of HO3D"
                    )
                found[name] = [_compact(entry) for entry in entries]
        return found

    def hands(
        self, meta: Mapping[str, Any], published: Published, mano: Mano
    ) -> Mapping[Side, HandRecord]:
        """The right hand, its joints and mesh as published if they are."""
        hand = self.hand(meta, Side.RIGHT, "hand", mano)
        wrist = None if hand.joints is None else np.asarray(hand.joints)[WRIST]
        if "xyz" in published:
            hand.joints, hand.joints_valid = _joints(numbers(published["xyz"], NUM_JOINTS, 3))
            apart = 0.0 if wrist is None else np.linalg.norm(wrist - hand.joints[WRIST])
            if apart > _SAME_PLACE:
                raise BadFrameError("the published wrist is not where the pickle has it")
        if "verts" in published:
            vertices = numbers(published["verts"], NUM_VERTICES, 3) @ OPENCV_FROM_OPENGL
            if "xyz" in published:
                off = np.asarray(hand.joints)[list(FINGERTIPS)] - vertices[list(FINGERTIP_VERTICES)]
                if np.linalg.norm(off, axis=-1).max() > _SAME_TIP:
                    raise BadFrameError("the published joints are not those of the mesh")
            hand.vertices = vertices
        return {Side.RIGHT: hand}


@dataclass(frozen=True)
class Ho3dV2(Ho3d):
    """HO3D v2.

    Attributes:
        root: Folder with `train`, `evaluation` and their lists; evaluation_xyz.json and
            evaluation_verts.json are taken from there, too.
    """

    name: ClassVar[str] = "ho3d_v2"


@dataclass(frozen=True)
class Ho3dV3(Ho3d):
    """HO3D v3.

    Attributes:
        root: Folder with `train`, `evaluation` and their lists; evaluation_xyz.json and
            evaluation_verts.json are taken from there, too.
    """

    name: ClassVar[str] = "ho3d_v3"


def recording_of(folder: str) -> tuple[str, str]:
    """Sequence and camera of a folder; the camera has no name where there is but one."""
    parts = _MANY_CAMERAS.fullmatch(folder)
    return (parts[1], parts[2]) if parts else (folder, "")


def _joints(points: ArrayLike) -> tuple[Floats, Floats]:
    """Joints (21, 3) and their mask (21,) from HO3D's 21 points, or from its wrist alone."""
    found = np.asarray(points, np.float64).reshape(-1, 3) @ OPENCV_FROM_OPENGL
    if len(found) == NUM_JOINTS:
        return found[list(FROM_HO3D)], np.ones(NUM_JOINTS)
    joints, valid = np.zeros((NUM_JOINTS, 3)), np.zeros(NUM_JOINTS)
    joints[WRIST], valid[WRIST] = numbers(found, 3), 1
    return joints, valid


def _compact(entry: Any) -> Any:
    """Numbers in less room than a list; what are no numbers stays, for `read` to refuse it."""
    try:
        return np.asarray(entry, np.float32)
    except (TypeError, ValueError):
        return entry


def _image(folder: Path, stem: str) -> Path:
    png = folder / f"{stem}.png"
    return png if png.exists() else folder / f"{stem}.jpg"
