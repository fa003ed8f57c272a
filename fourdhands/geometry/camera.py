"""Pinhole projection, and the camera of a crop turned into the camera of the frame (CLIFF)."""

import torch
from torch import Tensor

MIN_SCALE = 1e-3
"""Smallest weak-perspective scale that is turned into a depth (a hand 2 / s boxes away)."""


def project(points: Tensor, intrinsics: Tensor) -> Tensor:
    """Project camera-frame points (..., N, 3) with intrinsics (..., 3, 3) to pixels (..., N, 2)."""
    homogeneous = points @ intrinsics.mT
    return homogeneous[..., :2] / homogeneous[..., 2:].clamp_min(1e-6)


def default_intrinsics(image_size: Tensor) -> Tensor:
    """Intrinsics for images (..., 2) (w, h) of unknown focal length, f = sqrt(w^2 + h^2)."""
    focal_length = image_size.norm(dim=-1)
    return intrinsics_from_focal_length(focal_length, image_size)


def intrinsics_from_focal_length(focal_length: Tensor, image_size: Tensor) -> Tensor:
    """(..., 3, 3) from a focal length (...) in pixels; the principal point is the centre."""
    intrinsics = torch.zeros(*image_size.shape[:-1], 3, 3).to(image_size)
    intrinsics[..., 0, 0] = intrinsics[..., 1, 1] = focal_length
    intrinsics[..., :2, 2] = (image_size - 1) / 2
    intrinsics[..., 2, 2] = 1
    return intrinsics


def crop_intrinsics(intrinsics: Tensor, affine: Tensor) -> Tensor:
    """Intrinsics of a crop, A K: (..., 3, 3) and crop_from_image (..., 2, 3) to (..., 3, 3)."""
    bottom = affine.new_tensor((0.0, 0.0, 1.0)).expand(*affine.shape[:-2], 1, 3)
    return torch.cat((affine, bottom), -2) @ intrinsics


def transl_from_weak_perspective(crop_camera: Tensor, bbox: Tensor, intrinsics: Tensor) -> Tensor:
    """Full-frame translation of a hand from the weak-perspective camera of its crop (CLIFF).

    The longer side of the box, b pixels, is two units of the crop's frame: a point at the origin of
    MANO's mesh appears at the box centre plus (b s / 2) (t_x, t_y), at depth 2 f / (b s). The two
    axes use their own focal length. Left hands: pass the camera un-mirrored (t_x negated).

    Args:
        crop_camera: (..., 3) s, t_x, t_y.
        bbox: (..., 4) region of the crop in the full image.
        intrinsics: (..., 3, 3) of the full image.

    Returns:
        (..., 3) metres, camera frame.
    """
    half = bbox[..., 2:].amax(-1) / 2 * crop_camera[..., 0].clamp_min(MIN_SCALE)
    focal = torch.stack((intrinsics[..., 0, 0], intrinsics[..., 1, 1]), -1)
    depth = focal.mean(-1) / half
    pixel = bbox[..., :2] + half[..., None] * crop_camera[..., 1:]
    lateral = (pixel - intrinsics[..., :2, 2]) / focal * depth[..., None]
    return torch.cat((lateral, depth[..., None]), -1)


def weak_perspective_from_transl(transl: Tensor, bbox: Tensor, intrinsics: Tensor) -> Tensor:
    """Inverse of `transl_from_weak_perspective`: (..., 3) metres to (..., 3) s, t_x, t_y."""
    focal = torch.stack((intrinsics[..., 0, 0], intrinsics[..., 1, 1]), -1)
    half = focal.mean(-1) / transl[..., 2].clamp_min(1e-6)
    pixel = project(transl[..., None, :], intrinsics)[..., 0, :]
    scale = half / (bbox[..., 2:].amax(-1) / 2)
    return torch.cat((scale[..., None], (pixel - bbox[..., :2]) / half[..., None]), -1)
