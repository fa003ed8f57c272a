"""Rotations (roma does the work) and the mirror that turns left hands into right ones."""

import roma
import torch
from torch import Tensor

from fourdhands.structures import HandState


def matrix_from_6d(vectors: Tensor) -> Tensor:
    """Gram-Schmidt of two column vectors stacked one after the other: (..., 6) to (..., 3, 3).

    Vectors without a direction, or with the same one, give no rotation, but finite numbers.
    """
    return roma.special_gramschmidt(vectors.unflatten(-1, (2, 3)).mT, epsilon=1e-6)


def sixd_from_matrix(rotation: Tensor) -> Tensor:
    """First two columns, one after the other: (..., 3, 3) to (..., 6)."""
    return rotation[..., :2].mT.flatten(-2)


def matrix_from_axis_angle(vectors: Tensor) -> Tensor:
    """(..., 3) radians to (..., 3, 3)."""
    return roma.rotvec_to_rotmat(vectors)


def axis_angle_from_matrix(rotation: Tensor) -> Tensor:
    """(..., 3, 3) to (..., 3) radians."""
    return roma.rotmat_to_rotvec(rotation)


def geodesic_distance(first: Tensor, second: Tensor) -> Tensor:
    """Angle in radians between (..., 3, 3) rotations."""
    return roma.rotmat_geodesic_distance(first, second)


def mirror_points(points: Tensor) -> Tensor:
    """Reflect x: (..., 3) with M = diag(-1, 1, 1)."""
    return torch.cat((-points[..., :1], points[..., 1:]), -1)


def mirror_rotation(rotation: Tensor) -> Tensor:
    """M R M, the rotation seen in the mirror: (..., 3, 3)."""
    sign = rotation.new_tensor((-1.0, 1.0, 1.0))
    return rotation * torch.outer(sign, sign)


def mirror_hands(hands: HandState) -> HandState:
    """Every hand as its mirror image in x; sides keep their index (swap them if you need to)."""
    return HandState(
        global_orient=mirror_rotation(hands.global_orient),
        hand_pose=mirror_rotation(hands.hand_pose),
        betas=hands.betas,
        transl=mirror_points(hands.transl),
    )


def slerp(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Rotations on the way from one to another at constant speed.

    Args:
        first: (..., 3, 3).
        second: (..., 3, 3), less than half a turn away.
        share: (...) of the way, 0 to 1; broadcasts.
    """
    turn = roma.rotmat_to_rotvec(first.mT @ second)
    return first @ roma.rotvec_to_rotmat(turn * share[..., None])
