"""Random clips with known geometry, for tests of the network and the losses."""

import torch

from fourdhands.geometry.camera import intrinsics_from_focal_length, project
from fourdhands.geometry.crop import bbox_around, expand_bbox, mirror_bbox
from fourdhands.geometry.rotation import (
    matrix_from_axis_angle,
    mirror_hands,
    mirror_points,
)
from fourdhands.hands.mano import HandModel
from fourdhands.structures import Camera, ClipBatch, HandState, Labels

IMAGE_SIZE = (320.0, 240.0)


def random_hands(*lead: int, generator: torch.Generator) -> HandState:
    """Two hands about half a metre in front of the camera, in any orientation."""

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*lead, *shape, generator=generator)

    centre = torch.tensor([[-0.08, 0.0, 0.6], [0.08, 0.0, 0.6]])
    return HandState(
        global_orient=matrix_from_axis_angle(normal(2, 3) * 1.5),
        hand_pose=matrix_from_axis_angle(normal(2, 15, 3) * 0.3),
        betas=normal(2, 10) * 0.5,
        transl=centre + normal(2, 3) * 0.03,
    )


def random_batch(
    hand_model: HandModel,
    *,
    clips: int = 2,
    frames: int = 3,
    crop_size: tuple[int, int] = (64, 48),
    seed: int = 0,
) -> ClipBatch:
    """A batch whose labels, boxes and camera belong together; its crops are noise."""
    generator = torch.Generator().manual_seed(seed)
    hands = random_hands(clips, frames, generator=generator)
    joints = hand_model(hands).joints
    size = torch.tensor(IMAGE_SIZE).expand(clips, frames, 2)
    intrinsics = intrinsics_from_focal_length(torch.tensor(300.0), size)
    intrinsics[..., 0, 2] += 7.0  # the principal point is not the centre
    joints_2d = project(joints, intrinsics[..., None, :, :])
    valid = torch.ones(joints.shape[:-1], dtype=torch.bool)
    aspect = crop_size[1] / crop_size[0]
    return ClipBatch(
        crops=torch.randint(
            0, 256, (clips, frames, 2, 3, *crop_size), dtype=torch.uint8, generator=generator
        ),
        bbox=expand_bbox(bbox_around(joints_2d, valid), scale=1.2, aspect=aspect),
        camera=Camera(intrinsics, size, torch.eye(4).expand(clips, frames, 4, 4)),
        hand_present=torch.ones(clips, frames, 2, dtype=torch.bool),
        frame_valid=torch.ones(clips, frames, dtype=torch.bool),
        times=torch.arange(frames).expand(clips, frames) / 30 * 5,
        labels=Labels(
            is_hand=torch.ones(clips, frames, 2, dtype=torch.bool),
            hands=hands,
            hands_valid=torch.ones(clips, frames, 2, dtype=torch.bool),
            betas_valid=torch.ones(clips, frames, 2, dtype=torch.bool),
            roots_valid=torch.ones(clips, frames, 2, dtype=torch.bool),
            joints=joints,
            joints_valid=valid,
            joints_2d=joints_2d,
            joints_2d_valid=valid,
        ),
    )


def mirrored_swapped(batch: ClipBatch) -> ClipBatch:
    """The same scene in a mirror: right hands become left ones (labels left out)."""
    swap = [1, 0]
    width = batch.camera.image_size[..., 0]
    intrinsics = batch.camera.intrinsics.clone()
    intrinsics[..., 0, 2] = width - 1 - intrinsics[..., 0, 2]
    return ClipBatch(
        crops=batch.crops[:, :, swap],
        bbox=mirror_bbox(batch.bbox, width[..., None, None])[:, :, swap],
        camera=Camera(intrinsics, batch.camera.image_size, batch.camera.cam_from_world),
        hand_present=batch.hand_present[..., swap],
        frame_valid=batch.frame_valid,
        times=batch.times,
        labels=None,
    )


def swap_sides(hands: HandState) -> HandState:
    """Mirror both hands and swap their places."""
    return mirror_hands(hands).map(lambda tensor: tensor[:, :, [1, 0]])


__all__ = ["mirror_points", "mirrored_swapped", "random_batch", "random_hands", "swap_sides"]
