"""Rigid and similarity alignment of point sets (roma does the work)."""

import roma
from torch import Tensor


def procrustes_align(source: Tensor, target: Tensor) -> Tensor:
    """Move source (..., N, 3) onto target by the best similarity with a proper rotation.

    Returns:
        (..., N, 3) the aligned source.
    """
    rotation, translation, scale = roma.rigid_points_registration(
        source, target, compute_scaling=True
    )
    return scale[..., None, None] * source @ rotation.mT + translation[..., None, :]
