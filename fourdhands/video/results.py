"""The result of a video, and its file `hands.npz` (docs/reconstruct.md)."""

import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fourdhands.video.phases import write_npz

Array = NDArray[Any]
FORMAT_VERSION: Final = 1


@dataclass(frozen=True)
class VideoHands:
    """Hands of G people over T frames, S = 2 sides: 0 right, 1 left.

    Metres, pixels of the upright frames, seconds; rotations are matrices. Entries of hands that are
    not `valid` are zero.

    Attributes:
        image_size: (2,) width, height.
        fps: () frames a second.
        times: (T,) seconds in the video.
        shot: (T,) number of the shot.
        intrinsics: (3, 3) one camera for everything.
        focal_length_source: () text: metadata, option, camera file, solver or assumed.
        camera_source: () text: where the camera's motion is from.
        cam_from_world: (T, 4, 4); each shot has its own world.
        world_scale: (N,) of each shot, metres a unit of the camera's path as solved or in its file.
        world_scale_deviation: (N,) standard deviation of its logarithm; infinite where the hands
            do not tell it.
        valid: (G, T, S) bool, whether there is an answer.
        observed: (G, T, S) bool, whether the frame shows the hand.
        completed: (G, T, S) bool, valid and not observed.
        confidence: (G, T, S) 0 to 1 of the frame's own evidence.
        source: (G, T, S) 0 nothing, 1 detector, 2 network, 3 both.
        bbox: (G, T, S, 4) tight box: centre x, y, size x, y.
        detected_joints_2d: (G, T, S, 21, 2) the evidence.
        joint_confidence: (G, T, S, 21) 0 to 1 of it.
        joints: (G, T, S, 21, 3) camera frame.
        joints_2d: (G, T, S, 21, 2) their projections.
        joints_in_world: (G, T, S, 21, 3).
        global_orient: (G, T, S, 3, 3) camera frame.
        hand_pose: (G, T, S, 15, 3, 3) mean pose included.
        betas: (G, T, S, 10).
        transl: (G, T, S, 3) camera frame.
        global_orient_in_world: (G, T, S, 3, 3).
        transl_in_world: (G, T, S, 3).
        frame_global_orient: (G, T, S, 3, 3) before refinement, camera frame, where observed.
        frame_hand_pose: (G, T, S, 15, 3, 3) before refinement.
        frame_betas: (G, T, S, 10) before refinement.
        frame_transl: (G, T, S, 3) before refinement.
        frame_joints: (G, T, S, 21, 3) before refinement, camera frame, where observed.
        refined: () bool.
        notes: (N,) text, what the user should know.
        endings: (E,) text: why hands ceased to be seen.
    """

    image_size: Array
    fps: Array
    times: Array
    shot: Array
    intrinsics: Array
    focal_length_source: Array
    camera_source: Array
    cam_from_world: Array
    world_scale: Array
    world_scale_deviation: Array
    valid: Array
    observed: Array
    completed: Array
    confidence: Array
    source: Array
    bbox: Array
    detected_joints_2d: Array
    joint_confidence: Array
    joints: Array
    joints_2d: Array
    joints_in_world: Array
    global_orient: Array
    hand_pose: Array
    betas: Array
    transl: Array
    global_orient_in_world: Array
    transl_in_world: Array
    frame_global_orient: Array
    frame_hand_pose: Array
    frame_betas: Array
    frame_transl: Array
    frame_joints: Array
    refined: Array
    notes: Array
    endings: Array

    def save(self, path: Path) -> None:
        """Write an npz file, whole or not at all."""
        arrays = {"format_version": np.array(FORMAT_VERSION), **vars(self)}
        write_npz(path, arrays, compressed=True)

    @classmethod
    def load(cls, path: Path) -> "VideoHands":
        """Read such a file.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is not one of these files.
        """
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; `fourdhands reconstruct` writes it")
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path}: not a readable npz file ({error})") from None
        version = arrays.pop("format_version", None)
        if version is None or version.shape != () or version != FORMAT_VERSION:
            raise ValueError(
                f"{path}: format_version is {version}, this program reads {FORMAT_VERSION}"
            )
        names = {field.name for field in fields(cls)}
        if missing := sorted(names - arrays.keys()):
            raise ValueError(f"{path}: the array {missing[0]!r} is missing")
        return cls(**{name: arrays[name] for name in names})

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.times)

    def reprojection(self) -> Array:
        """Mean distance of joints from the evidence, in parts of the box: (G, T, S), or NaN."""
        weight = (self.joint_confidence > 0) & self.observed[..., None]
        off = np.linalg.norm(self.joints_2d - self.detected_joints_2d, axis=-1)
        count = weight.sum(-1)
        mean = (off * weight).sum(-1) / np.maximum(count, 1)
        size = self.bbox[..., 2:].max(-1)
        return np.where((count > 0) & (size > 0), mean / np.maximum(size, 1e-6), np.nan)

    def acceleration(self, joints: Array) -> float:
        """Mean acceleration (m/s^2) of joints (G, T, S, 21, 3) where they are observed."""
        runs = self.observed[:, :-2] & self.observed[:, 1:-1] & self.observed[:, 2:]
        runs &= (np.diff(self.shot) == 0)[None, 1:, None] & (np.diff(self.shot) == 0)[
            None, :-1, None
        ]
        if not runs.any():
            return float("nan")
        size = np.linalg.norm(np.diff(joints, n=2, axis=1) * float(self.fps) ** 2, axis=-1).mean(-1)
        return float(size[runs].mean())
