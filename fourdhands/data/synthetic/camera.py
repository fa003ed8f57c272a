"""Cameras of the scenes: intrinsics, still and moving extrinsics, and where the hands appear.

The world frame has y down, like a level camera, and its origin where the first camera stands.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fourdhands.data.synthetic.motion import Timeline, tremor
from fourdhands.data.synthetic.rotation import (
    matrices_from_vectors,
    matrix_from_vector,
    rotation_between,
    unit,
)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CameraConfig:
    """Cameras of the scenes.

    Attributes:
        field_of_view: Least and greatest angle of view over the image width, degrees.
        wide_field_of_view: The same for wide-angle cameras.
        wide_share: Share of clips with a wide-angle camera, hands often far off its axis.
        principal_offset: Standard deviation of the principal point, share of the image width.
        moving_share: Share of clips with a moving camera, worn or held by somebody else.
    """

    field_of_view: tuple[float, float] = (35.0, 75.0)
    wide_field_of_view: tuple[float, float] = (85.0, 110.0)
    wide_share: float = 0.12
    principal_offset: float = 0.03
    moving_share: float = 0.5

    def __post_init__(self) -> None:
        """Refuse angles that no pinhole camera has."""
        for name in ("field_of_view", "wide_field_of_view"):
            low, high = getattr(self, name)
            if not 5 <= low <= high <= 140:
                raise ValueError(f"{name} is {low, high}: give least, greatest within 5 to 140")


@dataclass(frozen=True)
class CameraPath:
    """The camera of a clip.

    Attributes:
        intrinsics: (3, 3).
        cam_from_world: (F, 4, 4).
    """

    intrinsics: Array
    cam_from_world: Array

    @property
    def rotation(self) -> Array:
        """(F, 3, 3) cam from world."""
        return self.cam_from_world[:, :3, :3]

    @property
    def moves(self) -> bool:
        """Whether any frame has another camera pose than the first."""
        return bool((self.cam_from_world != self.cam_from_world[0]).any())

    @property
    def position(self) -> Array:
        """(F, 3) in the world."""
        return -np.einsum("fji,fj->fi", self.rotation, self.cam_from_world[:, :3, 3])


def sample_intrinsics(
    rng: np.random.Generator, config: CameraConfig, image_size: tuple[int, int]
) -> tuple[Array, bool]:
    """Draw (3, 3) intrinsics, and say whether the camera is a wide-angle one."""
    width, height = image_size
    wide = bool(rng.random() < config.wide_share)
    angle = np.radians(rng.uniform(*(config.wide_field_of_view if wide else config.field_of_view)))
    focal_length = width / 2 / np.tan(angle / 2)
    centre = (np.array((width, height)) - 1) / 2 + rng.normal(0, config.principal_offset, 2) * width
    intrinsics = np.eye(3)
    intrinsics[0, 0] = intrinsics[1, 1] = focal_length
    intrinsics[:2, 2] = centre
    return intrinsics, wide


def pixel_rays(pixels: Array, intrinsics: Array) -> Array:
    """Camera-frame points at depth 1 of pixels (F, 2): (F, 3)."""
    rays = (pixels - intrinsics[:2, 2]) / intrinsics[[0, 1], [0, 1]]
    return np.concatenate((rays, np.ones((len(pixels), 1))), axis=1)


def level_rotation(rng: np.random.Generator) -> Array:
    """(3, 3) cam from world of a camera as people hold it: any heading, nearly level."""
    roll, pitch, heading = np.radians((rng.normal(0, 6), rng.uniform(-20, 45), rng.uniform(0, 360)))
    return (
        matrix_from_vector((0, 0, roll))
        @ matrix_from_vector((pitch, 0, 0))
        @ matrix_from_vector((0, heading, 0))
    )


def still_path(rng: np.random.Generator, intrinsics: Array, frames: int) -> CameraPath:
    """A camera on a stand."""
    return _path(intrinsics, np.tile(level_rotation(rng), (frames, 1, 1)), np.zeros((frames, 3)))


def worn_path(
    rng: np.random.Generator, intrinsics: Array, times: Array, timeline: Timeline
) -> CameraPath:
    """A camera on a head: it turns and sways, and the hands go along with the body."""
    keys = np.cumsum(rng.normal(0, 0.10, (timeline.num_keys, 3)), axis=0)
    shake = matrices_from_vectors(tremor(rng, times, 3, 0.004, 3.0))
    turn = shake @ timeline.interpolate_rotations(matrices_from_vectors(keys))
    return _path(intrinsics, turn @ level_rotation(rng), _wander(rng, times, timeline, step=0.05))


def held_path(
    rng: np.random.Generator,
    intrinsics: Array,
    times: Array,
    timeline: Timeline,
    target: Array,
    pixels: Array,
) -> CameraPath:
    """A camera in somebody's hand that keeps a target in the picture.

    Args:
        rng: Source of randomness.
        intrinsics: (3, 3).
        times: (F,) seconds.
        timeline: When the camera moves.
        target: (F, 3) metres, in the first camera's frame.
        pixels: (F, 2) where the target is to appear; in the first frame it is there already.
    """
    base = level_rotation(rng)
    world = target @ base  # base takes world directions to the first camera's
    position = _wander(rng, times, timeline, step=0.10)
    position -= position[0]
    seen = unit((world - position) @ base.T)
    wanted = unit(pixel_rays(pixels, intrinsics))
    aim = np.stack([rotation_between(*pair) for pair in zip(seen, wanted, strict=True)])
    return _path(intrinsics, aim @ base, position)


def _wander(rng: np.random.Generator, times: Array, timeline: Timeline, step: float) -> Array:
    """(F, 3) positions of something carried by a person, metres."""
    keys = np.cumsum(rng.normal(0, step, (timeline.num_keys, 3)), axis=0)
    return timeline.interpolate(keys) + tremor(rng, times, 3, 0.002, 2.0)


def _path(intrinsics: Array, rotation: Array, position: Array) -> CameraPath:
    cam_from_world = np.tile(np.eye(4), (len(position), 1, 1))
    cam_from_world[:, :3, :3] = rotation
    cam_from_world[:, :3, 3] = -np.einsum("fij,fj->fi", rotation, position)
    return CameraPath(intrinsics, cam_from_world)
