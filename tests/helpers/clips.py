"""Random valid clips with known geometry, for every test that needs data without rendering."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import roma
import torch
from numpy.typing import NDArray

from fourdhands.data.schema import Clip
from fourdhands.data.shards import ShardWriter
from fourdhands.skeleton import NUM_JOINTS, NUM_SIDES, Side

IMAGE_SIZE = (160, 120)


def random_rotations(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    """Uniform rotations (*shape, 3, 3)."""
    quaternions = rng.standard_normal((*shape, 4))
    quaternions /= np.linalg.norm(quaternions, axis=-1, keepdims=True)
    return roma.unitquat_to_rotmat(torch.from_numpy(quaternions)).numpy().astype(np.float32)


def smooth_frames(rng: np.random.Generator, count: int, size: tuple[int, int]) -> tuple[bytes, ...]:
    """Jpgs of smooth random colours: they survive compression and resampling almost unchanged."""
    frames = []
    for _ in range(count):
        coarse = rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)
        image = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
        frames.append(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
    return tuple(frames)


def random_clip(
    rng: np.random.Generator,
    *,
    key: str = "clip",
    num_frames: int = 4,
    sides: Sequence[Side] = tuple(Side),
    image_size: tuple[int, int] = IMAGE_SIZE,
    frames: tuple[bytes, ...] | None = None,
    sequence: str = "sequence",
    first_frame: int = 0,
) -> Clip:
    """A valid clip: joints of a random cloud per hand, projected by a true camera and boxed.

    Args:
        rng: decides everything but the arguments.
        key: of the clip.
        num_frames: F.
        sides: which hands are there; the others are zeros, invalid and have no box.
        image_size: width, height.
        frames: encoded jpgs, or None for smooth random ones.
        sequence: name of the recording.
        first_frame: id of the first frame.
    """
    width, height = image_size
    F, S, J = num_frames, NUM_SIDES, NUM_JOINTS
    intrinsics = np.zeros((F, 3, 3), np.float32)
    intrinsics[:] = [
        [1.3 * width, 0, width / 2 + 3],
        [0, 1.25 * width, height / 2 - 2],
        [0, 0, 1],
    ]
    centre = np.array([[-0.06, 0.01, 0.6], [0.05, -0.02, 0.65]]) + rng.normal(0, 0.01, (F, S, 3))
    joints = (centre[:, :, None] + rng.normal(0, 0.025, (F, S, J, 3))).astype(np.float32)
    pixels = np.einsum("fij,fsnj->fsni", intrinsics, joints)
    joints_2d = (pixels[..., :2] / pixels[..., 2:]).astype(np.float32)
    limits = np.array([width, height], np.float32) - 0.5
    low = np.clip(joints_2d.min(2), -0.5, limits)
    high = np.clip(joints_2d.max(2), -0.5, limits)
    there = np.isin(np.arange(S), sides)

    def keep(array: NDArray[np.floating]) -> NDArray[np.float32]:
        """Zero the absent hand."""
        mask = there.reshape(1, S, *[1] * (array.ndim - 2))
        return np.where(mask, array, 0).astype(np.float32)

    present = np.broadcast_to(there, (F, S)).copy()
    every_joint = np.broadcast_to(there[:, None], (F, S, J)).copy()
    inside = ((joints_2d > -0.5) & (joints_2d < limits)).all(-1)
    cam_from_world = np.tile(np.eye(4, dtype=np.float32), (F, 1, 1))
    cam_from_world[:, :3, :3] = random_rotations(rng, 1)
    cam_from_world[:, :3, 3] = rng.normal(0, 1, 3)
    return Clip(
        key=key,
        dataset="random",
        sequence=sequence,
        camera="camera0",
        fps=30.0,
        frame_ids=tuple(range(first_frame, first_frame + F)),
        image_size=image_size,
        frames=smooth_frames(rng, F, image_size) if frames is None else frames,
        intrinsics=intrinsics,
        cam_from_world=cam_from_world,
        global_orient=keep(random_rotations(rng, F, S)),
        hand_pose=keep(random_rotations(rng, F, S, 15)),
        betas=keep(np.tile(rng.standard_normal((1, S, 10)), (F, 1, 1))),
        transl=keep(joints[:, :, 0]),
        hands_valid=present,
        betas_valid=present.copy(),
        roots_valid=present.copy(),
        vertices_valid=np.zeros_like(present),
        joints=keep(joints),
        joints_valid=every_joint,
        joints_2d=keep(joints_2d),
        joints_2d_valid=every_joint.copy(),
        joints_visible=every_joint & inside,
        bbox=keep(np.concatenate(((low + high) / 2, high - low), -1)),
    )


def write_set(folder: Path, shards: Iterable[Iterable[Clip]], name: str = "set") -> list[Path]:
    """Write a finished set of shards and return their paths."""
    contents = [list(clips) for clips in shards]
    writer = ShardWriter(folder, name, num_shards=len(contents), recipe={"test": True})
    writer.start()
    for index, clips in enumerate(contents):
        writer.write(index, clips)
    writer.finish()
    return [writer.path(index) for index in range(len(contents))]
