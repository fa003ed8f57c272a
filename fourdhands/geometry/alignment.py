"""Similarity alignment of point sets (roma does the work)."""

import roma
import torch
from torch import Tensor

MIN_SPREAD = 1e-12
"""Variance (m^2) below which a point set counts as a single point, which has no scale."""


def procrustes_align(
    source: Tensor,
    target: Tensor,
    valid: Tensor | None = None,
    *,
    reflections: bool = False,
    softening: float = 0.0,
) -> Tensor:
    """Move source onto target by the best similarity with a proper rotation (Umeyama).

    Minimises sum_i valid_i |s R x_i + t - y_i|^2 over s, R in SO(3) and t. A source whose points
    coincide is moved to the target's centre.

    Args:
        source: (..., N, 3).
        target: (..., N, 3).
        valid: (..., N) points that take part; all if None.
        reflections: whether R may be a reflection, too: a mirrored source then fits exactly.
        softening: metres that are added to the source's size, (sum_i valid_i |x_i|^2)^0.5 about its
            centre, when s is made: what fits exactly then comes out a little too small.

    Returns:
        (..., N, 3) the aligned source, invalid points included.
    """
    weight = torch.ones_like(source[..., 0]) if valid is None else valid.to(source)
    number = weight.sum(-1, keepdim=True).clamp_min(1)[..., None]
    weight = weight[..., None] / number
    source_mean = (weight * source).sum(-2, keepdim=True)
    target_mean = (weight * target).sum(-2, keepdim=True)
    source = source - source_mean
    covariance = (weight * (target - target_mean)).mT @ source
    rotation = roma.procrustes(covariance) if reflections else roma.special_procrustes(covariance)
    spread = (weight * source.square()).sum((-2, -1))
    if softening:
        count = number[..., 0, 0]
        spread = ((count * spread).sqrt() + softening).square() / count
    scale = (rotation * covariance).sum((-2, -1)) / spread.clamp_min(MIN_SPREAD)
    return scale[..., None, None] * source @ rotation.mT + target_mean
