"""DexYCB: one hand that grasps objects, seen by eight cameras.

    {date}-subject-{01..10}/{sequence}/meta.yml
    {date}-subject-{01..10}/{sequence}/{serial}/color_%06d.jpg, labels_%06d.npz
    calibration/intrinsics/{serial}_640x480.yml
    calibration/extrinsics_{id}/extrinsics.yml      camera to world, (3, 4)
    calibration/mano_{id}/mano.yml                  betas

Labels are in each camera's frame: metres, OpenCV's axes, the common order. The fingers of `pose_m`
are 45 coefficients of MANO's principal components, without the mean pose; left hands are the
released model. In frames without the hand pose_m is all 0, and the joints are all -1.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np

from fourdhands.data.convert.conventions import Floats, Mano, intrinsics, numbers, rigid, rotation
from fourdhands.data.convert.records import (
    BadFrameError,
    Dataset,
    FrameRecord,
    HandRecord,
    Recording,
)
from fourdhands.data.convert.sources import kept, numbered, read_image, read_npz, read_yaml, require
from fourdhands.skeleton import Side

SERIALS: Final = (
    "836212060125",
    "839512060362",
    "840412060917",
    "841412060263",
    "932122060857",
    "932122060861",
    "932122061900",
    "932122062010",
)
"""Of the cameras, in the order that DexYCB numbers them in."""
_SEQUENCES: Final = 100
_SIDES: Final = {"right": Side.RIGHT, "left": Side.LEFT}


@dataclass(frozen=True)
class DexYcb(Dataset):
    """DexYCB.

    Attributes:
        root: Folder with `calibration` and a folder for each subject.
        setup: What the test split has that the training split has not: s0 sequences, s1 subjects,
            s2 cameras, s3 objects.
    """

    setup: Literal["s0", "s1", "s2", "s3"] = "s0"

    name: ClassVar[str] = "dexycb"
    fps: ClassVar[float] = 30.0
    left_released: ClassVar[bool] = True

    def splits(self) -> Sequence[str]:
        """Those that the subjects who are there belong to."""
        subjects = self.subjects()
        if not subjects:
            require(self.root / "20200709-subject-01", "the folder of DexYCB's first subject")
        there = {
            split_of(self.setup, subject, camera, place)
            for subject, folder in subjects
            for camera in range(len(SERIALS))
            for place in range(len(self.sequences(folder)))
        }
        return [split for split in ("train", "val", "test") if split in there]

    def recordings(self, split: str) -> Iterable[Recording]:
        """One for each sequence and camera."""
        require(self.root / "calibration", "DexYCB's folder of calibrations")
        for subject, folder in self.subjects():
            for place, sequence in enumerate(self.sequences(folder)):
                for camera, serial in enumerate(SERIALS):
                    if split_of(self.setup, subject, camera, place) != split:
                        continue
                    path = self.root / folder / sequence / serial
                    if frames := numbered(path, r"color_(\d+)\.jpg"):
                        yield Recording(f"{folder}/{sequence}", serial, frames)

    def notes(self, split: str) -> Iterable[str]:
        """The splits go by the places of sequences in their subject's list."""
        for _, folder in self.subjects():
            count = len(self.sequences(folder))
            if self.setup in ("s0", "s3") and count != _SEQUENCES:
                yield (
                    f"{folder} has {count} sequences instead of {_SEQUENCES}: {split} is not the "
                    f"official split, as {self.setup} goes by the places of all of them"
                )

    def read(self, recording: Recording, source: Any, mano: Mano) -> FrameRecord:
        """The labels of the camera; the world is the frame of one of the cameras."""
        meta = kept(read_yaml, self.root / recording.sequence / "meta.yml")
        folder = self.root / recording.sequence / recording.camera
        number = source.removeprefix("color_").removesuffix(".jpg")
        labels = read_npz(folder / f"labels_{number}.npz")
        pose = numbers(labels["pose_m"], 51)
        if not pose.any():
            raise BadFrameError("no hand is labelled")
        calibration = self.root / "calibration"
        shape = kept(read_yaml, calibration / f"mano_{meta['mano_calib'][0]}" / "mano.yml")
        side = _SIDES[meta["mano_sides"][0]]
        hand = HandRecord(
            joints=_unless_missing(labels["joint_3d"], 3),
            joints_2d=_unless_missing(labels["joint_2d"], 2),
            global_orient=rotation(pose[:3]),
            hand_pose=mano.hand_pose_from_pca(side, pose[3:48]),
            betas=numbers(shape["betas"], 10),
            transl=pose[48:],
        )
        color = kept(read_yaml, calibration / "intrinsics" / f"{recording.camera}_640x480.yml")[
            "color"
        ]
        return FrameRecord(
            read_image(folder / source),
            {side: hand},
            intrinsics=intrinsics((color["fx"], color["fy"]), (color["ppx"], color["ppy"])),
            cam_from_world=self._cam_from_world(str(meta.get("extrinsics")), recording.camera),
            size=(640, 480),
        )

    def _cam_from_world(self, name: str, serial: str) -> Floats | None:
        path = self.root / "calibration" / f"extrinsics_{name}" / "extrinsics.yml"
        if not path.exists():
            return None
        world_from_cam = numbers(kept(read_yaml, path)["extrinsics"][serial], 3, 4)
        return np.linalg.inv(rigid(world_from_cam[:, :3], world_from_cam[:, 3]))

    def sequences(self, folder: str) -> list[str]:
        """Of a subject, sorted."""
        return [name for _, name in numbered(self.root / folder, r"(\d{8}_\d{6})")]

    def subjects(self) -> list[tuple[int, str]]:
        """Numbers and folders of those that are there."""
        return numbered(self.root, r"\d{8}-subject-(\d{2})")


def split_of(setup: str, subject: int, camera: int, place: int) -> str:
    """The split of one recording.

    Args:
        setup: s0 to s3.
        subject: from 1.
        camera: from 0, in the order of the serial numbers.
        place: of the sequence among those of the subject, from 0.
    """
    if setup == "s0":
        if place % 5 != 4:
            return "train"
        return "val" if subject <= 2 else "test"
    # the other setups hold back whole subjects, cameras or groups of five sequences
    held_back: dict[str, tuple[int, Sequence[int], Sequence[int]]] = {
        "s1": (subject, (7,), (8, 9)),
        "s2": (camera, (6,), (7,)),
        "s3": (place // 5, (3, 19), (7, 11, 15)),
    }
    which, val, test = held_back[setup]
    return "val" if which in val else "test" if which in test else "train"


def s0_test_sequences(root: Path) -> list[str]:
    """Folders of the sequences in the test split of S0, in the order that DexYCB numbers images in.

    Raises:
        FileNotFoundError: there is no subject.
        ValueError: a subject's sequences are not all there, so that their places are not known.
    """
    dataset, found = DexYcb(root), []
    subjects = dataset.subjects()
    if not subjects:
        raise FileNotFoundError(f"{root}: holds no folder DATE-subject-NUMBER of DexYCB")
    for subject, folder in subjects:
        sequences = dataset.sequences(folder)
        places = [k for k in range(len(sequences)) if split_of("s0", subject, 0, k) == "test"]
        if places and len(sequences) != _SEQUENCES:
            raise ValueError(
                f"{root / folder}: has {len(sequences)} sequences instead of {_SEQUENCES}; the "
                "numbers of the images go by all of them"
            )
        found += [f"{folder}/{sequences[k]}" for k in places]
    return found


def _unless_missing(values: Any, axes: int) -> Floats | None:
    joints = numbers(values, 21, axes)
    return None if (joints == -1).all() else joints
