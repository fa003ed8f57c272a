"""HanCo: short videos of right hands from eight cameras, with and without a green screen.

    rgb{,_merged,_homo,_color_auto,_color_sample}/%04d/cam%d/%08d.jpg   sequence, camera, frame
    calib/%04d/%08d.json            K (8, 3, 3) and M (8, 4, 4), world to camera
    xyz/%04d/%08d.json              joints (21, 3), world
    shape/%04d/%08d.json            MANO's poses, shapes, global_t, world
    shape/%04d/cam%d/%08d.json      the same of one camera in 61 numbers
    meta.json                       is_train, is_valid, has_fit, ... by sequence and frame

Metres, OpenCV's cameras, the common order, MANO's pose without its mean. In the world files
global_t is added to MANO's mesh. In the 61 numbers it is where the base of the middle finger
stands: its pixel, and the mean focal length by its depth.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np

from fourdhands.data.convert.conventions import (
    Floats,
    Mano,
    MeshParameters,
    numbers,
    rotation,
    transformed,
)
from fourdhands.data.convert.records import (
    BadFrameError,
    Dataset,
    FrameRecord,
    HandRecord,
    Recording,
)
from fourdhands.data.convert.sources import numbered, read_image, read_json, require
from fourdhands.skeleton import JOINT_NAMES, Side

_IS_TRAIN: Final = {"train": True, "test": False}
_MIDDLE: Final = JOINT_NAMES.index("middle1")


@dataclass(frozen=True)
class HanCo(Dataset):
    """HanCo.

    Attributes:
        root: Folder with `meta.json`, `calib`, `xyz`, `shape` and the folders of images.
        images: Which images: as they were taken, or with the green screen replaced in one of four
            ways, which is only there for the training frames.
        frame_rate: Frames a second; HanCo does not document it.
    """

    images: Literal["plain", "merged", "homo", "color_auto", "color_sample"] = "plain"
    frame_rate: float = 5.0

    name: ClassVar[str] = "hanco"

    def splits(self) -> Sequence[str]:
        """Green screen to train on, none to test with, as far as images of sequences are there."""
        meta, folders = self._meta(), self._sequences()
        known = [meta["is_train"][k] for k, _ in folders if k < len(meta["is_train"])]
        there = {bool(value) for frames in known if isinstance(frames, list) for value in frames}
        return [split for split, train in _IS_TRAIN.items() if train in there]

    def recordings(self, split: str) -> Iterable[Recording]:
        """One for each sequence and camera."""
        for part in ("calib", "xyz"):
            require(self.root / part, "a part of HanCo's labels")
        meta = self._meta()
        for sequence, name in self._sequences():
            for _, camera in numbered(self._folder / name, r"cam(\d)"):
                images = self._folder / name / camera
                frames = []
                for frame, image in numbered(images, r"(\d+)\.(?:jpg|png)"):
                    facts = _facts(meta, sequence, frame)
                    if facts is None or facts["is_train"] == _IS_TRAIN[split]:
                        path = (images / image).relative_to(self.root).as_posix()
                        frames.append((frame, (path, facts)))
                if frames:
                    yield Recording(name, camera, frames, fps=self.frame_rate)

    def read(self, recording: Recording, source: Any, mano: Mano) -> FrameRecord:
        """The parameters in the world if there are any, else those of the camera."""
        path, facts = source
        if facts is None:
            raise BadFrameError("meta.json does not know the frame")
        if not facts["is_valid"]:
            raise BadFrameError("meta.json says that the labels are not valid")
        camera = int(recording.camera.removeprefix("cam"))
        label = f"{recording.sequence}/{Path(path).stem}.json"
        calibration = read_json(self.root / "calib" / label)
        K, M = numbers(calibration["K"][camera], 3, 3), numbers(calibration["M"][camera], 4, 4)
        joints = numbers(read_json(self.root / "xyz" / label), 21, 3)
        hand = HandRecord(joints=transformed(M, joints))
        if facts["has_fit"] and (found := self._mesh(recording, label, K, M, mano)):
            hand.global_orient, hand.hand_pose = found.global_orient, found.hand_pose
            hand.betas, hand.transl = found.betas, found.transl
        return FrameRecord(
            read_image(self.root / path), {Side.RIGHT: hand}, intrinsics=K, cam_from_world=M
        )

    def _mesh(
        self, recording: Recording, label: str, K: Floats, M: Floats, mano: Mano
    ) -> MeshParameters | None:
        in_world = self.root / "shape" / label
        if in_world.exists():
            values = read_json(in_world)
            hand = _parameters(values["poses"], values["shapes"], values["global_t"], mano)
            return mano.moved(Side.RIGHT, hand, M[:3, :3], M[:3, 3])
        in_camera = self.root / "shape" / recording.sequence / recording.camera / Path(label).name
        if not in_camera.exists():
            return None
        vector = numbers(read_json(in_camera), 61)
        depth = (K[0, 0] + K[1, 1]) / 2 / vector[60]
        middle = depth * np.linalg.solve(K, (vector[58], vector[59], 1.0))
        hand = _parameters(vector[:48], vector[48:58], (0, 0, 0), mano)
        return replace(hand, transl=middle - mano.geometry(Side.RIGHT, hand).joints[_MIDDLE])

    @property
    def _folder(self) -> Path:
        return self.root / ("rgb" if self.images == "plain" else f"rgb_{self.images}")

    def _meta(self) -> Mapping[str, Any]:
        path = self.root / "meta.json"
        meta = read_json(require(path, "HanCo's list of frames, from 'calibration and meta data'"))
        if not isinstance(meta, dict) or not isinstance(meta.get("is_train"), list):
            raise ValueError(f"{path}: has no list 'is_train'; it is not HanCo's list of frames")
        return meta

    def _sequences(self) -> list[tuple[int, str]]:
        require(self._folder, "the folder of HanCo's images")
        return numbered(self._folder, r"(\d{4})")


def _facts(meta: Mapping[str, Any], sequence: int, frame: int) -> dict[str, bool] | None:
    try:
        return {
            name: bool(meta[name][sequence][frame]) for name in ("is_train", "is_valid", "has_fit")
        }
    except (IndexError, KeyError, TypeError):
        return None


def _parameters(poses: Any, shapes: Any, transl: Any, mano: Mano) -> MeshParameters:
    pose = numbers(poses, 48)
    return MeshParameters(
        rotation(pose[:3]),
        mano.hand_pose(Side.RIGHT, pose[3:], mean_included=False),
        numbers(shapes, 10),
        numbers(transl, 3),
    )
