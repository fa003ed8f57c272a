"""Hands in a world that several cameras look at, and images whose dots are looked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from fourdhands.data.schema import Clip, decode_clip
from fourdhands.data.shards import read_samples
from fourdhands.skeleton import Side
from tests.helpers.official import Floats, FrameName, TrueHand, pixels


@dataclass(frozen=True)
class Camera:
    """x = R x_world + t, metres; intrinsics (3, 3)."""

    R: Floats
    t: Floats
    intrinsics: Floats

    @property
    def centre(self) -> Floats:
        """(3,) in the world."""
        return np.asarray(-self.R.T @ self.t)

    def seen(self, hand: TrueHand) -> TrueHand:
        """A hand that is given in the world, as this camera has it."""
        orient, transl = hand.parameters_in(self.R, self.t)
        joints = hand.joints @ self.R.T + self.t
        return replace(
            hand,
            global_orient=Rotation.from_matrix(orient).as_rotvec(),
            transl=transl,
            joints=joints,
            vertices=hand.vertices @ self.R.T + self.t,
            joints_2d=pixels(joints, self.intrinsics),
        )


def camera_around(angles: Sequence[float], intrinsics: Floats, distance: float = 0.92) -> Camera:
    """A camera turned about a place so far in front of the world's origin, still looking at it."""
    R = Rotation.from_euler("xyz", angles).as_matrix()
    place = np.array((0.0, 0.0, distance))
    return Camera(R, place - R @ place + np.array((0.01, -0.005, 0.03)), intrinsics)


def clips_of(out: Path, split: str) -> list[Clip]:
    """The clips of a converted split, as stored."""
    shards = sorted(out.glob(f"{split}-*.tar"))
    return [decode_clip(sample) for shard in shards for sample in read_samples(shard)]


def assert_dots(out: Path, split: str, truth: Mapping[FrameName, Sequence[TrueHand]]) -> None:
    """In the images of the shards every joint has the dot that the fixture drew."""
    for clip in clips_of(out, split):
        for frame, number in zip(clip.frames, clip.frame_ids, strict=True):
            image = cv2.imdecode(np.frombuffer(frame, np.uint8), cv2.IMREAD_COLOR)
            assert image is not None
            for hand in truth[clip.sequence, clip.camera, number]:
                channel = image[..., 1 if hand.side is Side.RIGHT else 2]
                x, y = hand.joints_2d.round().astype(int).T
                assert channel[y, x].min() > 110, (clip.sequence, clip.camera, number)
