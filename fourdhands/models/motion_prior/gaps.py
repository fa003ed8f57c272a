"""Gaps in motion: straight lines across, and the smooth motion that the observed frames tell."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from fourdhands.models.motion_prior.time_base import b_splines

STIFFNESS: Final = (0.01, 0.3, 10.0, 300.0)
"""Weights of squared accelerations (per frame), beside 1 of squared distances, that are weighed up:
from motion without noise to noise of some millimetres."""
SPACING: Final = 2
"""Frames between the knots of smooth motion."""


@dataclass(frozen=True)
class Filled:
    """What interpolation says of a sequence's gaps.

    Attributes:
        values: (N, T, C) observed values and straight lines between them; the ends are held.
        away: (N, T, 2) frames since the last observed one and until the next; 0 where observed, T
            where there is none.
    """

    values: Tensor
    away: Tensor


def fill_gaps(values: Tensor, mask: Tensor) -> Filled:
    """Interpolate over the frames that are not observed.

    Args:
        values: (N, T, C).
        mask: (N, T) whether observed. Where nothing is, zeros come out.
    """
    frames = mask.shape[1]
    index = torch.arange(frames, device=mask.device)
    before = torch.where(mask, index, -1).cummax(1).values
    after = torch.where(mask, index, frames).flip(1).cummin(1).values.flip(1)
    has_before, has_after = before >= 0, after < frames
    first = torch.where(has_before, before, after).clamp(0, frames - 1)
    second = torch.where(has_after, after, before).clamp(0, frames - 1)

    def take(source: Tensor, at: Tensor) -> Tensor:
        return source.gather(1, at.clamp(0, frames - 1)[..., None].expand(-1, -1, source.shape[-1]))

    width = (second - first).clamp_min(1)
    share = ((index - first) / width)[..., None].to(values.dtype)
    start, end = take(values, first), take(values, second)
    line = torch.where(mask.any(1)[:, None, None], start + share * (end - start), 0.0)
    away = torch.stack(
        [
            torch.where(has_before, index - before, frames),
            torch.where(has_after, after - index, frames),
        ],
        dim=-1,
    )
    return Filled(line, away)


@dataclass(frozen=True)
class Smooth:
    """What smoothing says of a sequence.

    Attributes:
        values: (N, T, C) in observed frames without their noise, elsewhere the smooth way between.
        log_stiffness: (N,) how much smoothing each sequence wants: the more, the noisier it is.
    """

    values: Tensor
    log_stiffness: Tensor


def smooth(values: Tensor, mask: Tensor) -> Smooth:
    """The smoothest motion near what was observed; how near, the observations tell.

    Cubic smoothing splines, of several stiffnesses, each with the weight of its evidence: the
    restricted likelihood of what was observed as an integrated random walk with noise (Wahba 1985).

    Args:
        values: (N, T, C).
        mask: (N, T) whether observed.
    """
    frames, size = values.shape[1:]
    index = torch.arange(frames, dtype=torch.float64, device=values.device)
    knots = -(-frames // SPACING) + 3
    bumps = b_splines(index, SPACING, knots)
    bend = bumps.diff(dim=0).diff(dim=0)
    stiffness = torch.tensor(STIFFNESS, dtype=torch.float64, device=values.device)
    known = mask.double()
    wanted = torch.where(mask[..., None], values, 0.0).double()
    near = bumps.mT @ (known[..., None] * bumps)  # (N, K, K)
    # fewer than two observed frames leave a straight line free
    eye = 1e-7 * torch.eye(knots, dtype=torch.float64, device=values.device)
    system = near[:, None] + stiffness[:, None, None] * (bend.mT @ bend) + eye
    factor = torch.linalg.cholesky(system)  # (N, stiffnesses, K, K)
    told = (bumps.mT @ wanted)[:, None].expand(-1, len(STIFFNESS), -1, -1)
    found = torch.cholesky_solve(told, factor)
    power = wanted.square().sum((1, 2))[:, None]
    residual = (power - (told * found).sum((2, 3))).clamp_min(0) / size + 1e-5
    freedom = (known.sum(1, keepdim=True) - 2).clamp_min(0)
    volume = factor.diagonal(dim1=2, dim2=3).log().sum(2)
    evidence = (knots - 2) / 2 * stiffness.log() - volume - freedom / 2 * residual.log()
    weights = evidence.softmax(1)
    mean = bumps @ torch.einsum("nk,nktc->ntc", weights, found)
    return Smooth(mean.to(values.dtype), (weights @ stiffness.log()).to(values.dtype))
