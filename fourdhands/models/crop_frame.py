"""Hands as their crops show them (all right hands) and hands in the camera's frame, both ways."""

import torch
from torch import Tensor

from fourdhands.geometry.camera import transl_from_weak_perspective, weak_perspective_from_transl
from fourdhands.geometry.crop import side_mirrored
from fourdhands.geometry.rotation import mirror_rotation, sixd_from_matrix
from fourdhands.models.heads import HandParameters
from fourdhands.structures import Camera, HandState


def hands_in_camera_frame(parameters: HandParameters, bbox: Tensor, camera: Camera) -> HandState:
    """Undo the left crop's mirror and place both hands in the frame's camera.

    Args:
        parameters: (..., S) hands as their crops show them.
        bbox: (..., S, 4).
        camera: of the full image, dimensions (...).
    """
    rotations = _mirror_left(parameters.rotations)
    return HandState(
        global_orient=rotations[..., 0, :, :],
        hand_pose=rotations[..., 1:, :, :],
        betas=parameters.betas,
        transl=transl_from_weak_perspective(
            _mirror_left_camera(parameters.crop_camera), bbox, _intrinsics(bbox, camera)
        ),
    )


def hands_in_crop_frame(hands: HandState, bbox: Tensor, camera: Camera) -> HandParameters:
    """Inverse of `hands_in_camera_frame`: what the heads would have to answer."""
    rotations = torch.cat((hands.global_orient[..., None, :, :], hands.hand_pose), -3)
    rotations = _mirror_left(rotations)
    crop_camera = weak_perspective_from_transl(hands.transl, bbox, _intrinsics(bbox, camera))
    return HandParameters(
        rotations=rotations,
        rotations_6d=sixd_from_matrix(rotations),
        betas=hands.betas,
        crop_camera=_mirror_left_camera(crop_camera),
    )


def _mirror_left(rotations: Tensor) -> Tensor:
    """(..., S, 16, 3, 3)."""
    is_left = side_mirrored(rotations)[:, None, None, None]
    return torch.where(is_left, mirror_rotation(rotations), rotations)


def _mirror_left_camera(crop_camera: Tensor) -> Tensor:
    """(..., S, 3) s, t_x, t_y."""
    scale, x, y = crop_camera.unbind(-1)
    return torch.stack((scale, torch.where(side_mirrored(crop_camera), -x, x), y), -1)


def _intrinsics(bbox: Tensor, camera: Camera) -> Tensor:
    """One camera for each hand: (..., S, 3, 3)."""
    return camera.intrinsics[..., None, :, :].expand(*bbox.shape[:-1], 3, 3)
