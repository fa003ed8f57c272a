"""What can be said of a gap without having learnt anything: straight lines, smooth curves, echoes.

The encoder starts from these. All of it moves along with the frames, forwards or backwards.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import pad

BENDS: Final = ((0.02, 0.0), (5.0, 0.02))
"""Of each smooth guess: weights of squared accelerations and velocities (per frame), beside 1 of
squared distances. The first is a cubic spline; the second smooths noise, and is held tight."""
CONTEXT: Final = 9
"""Pairs of frames on either side that are compared in the search for an echo."""
LEAST_PAIRS: Final = 4
"""Pairs that have to be there on both sides of a comparison."""
STRICTNESS: Final = 0.05
"""How much worse a comparison may be, as a share of the movement's variance, to count 1/e."""
REST: Final = 0.5
"""Variance that counts as no movement, square centimetres."""


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


def smooth_guesses(values: Tensor, mask: Tensor) -> Tensor:
    """The smoothest motions through what was observed, within gaps that have two ends.

    Args:
        values: (N, T, C).
        mask: (N, T) whether observed.

    Returns:
        (N, T, C, 2) the guesses of `BENDS`; zeros where observed, and before and after all.
    """
    count, frames, _ = values.shape
    eye = torch.eye(frames, dtype=torch.float64, device=values.device)
    velocity = eye.diff(dim=0)
    acceleration = velocity.diff(dim=0)
    known = torch.diag_embed(mask.double())
    wanted = torch.where(mask[..., None], values, 0.0).double()
    guesses = []
    for stiff, tight in BENDS:
        form = stiff * acceleration.mT @ acceleration + stiff * tight * velocity.mT @ velocity
        # fewer than two observed frames leave a straight line free
        system = known + form + 1e-7 * eye
        guesses.append(torch.linalg.solve(system, wanted).to(values.dtype))
    index = torch.arange(frames, device=mask.device)
    inside = (torch.where(mask, index, -1).cummax(1).values >= 0) & (
        torch.where(mask, index, frames).flip(1).cummin(1).values.flip(1) < frames
    )
    found = torch.stack(guesses, dim=-1)
    return torch.where((inside & ~mask)[..., None, None], found, 0.0).reshape(count, frames, -1, 2)


def echo(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """What the hand did at other times when its movement around them was like that around now.

    Non-local means along time (Buades et al. 2005): rhythms and repeated grasps fill their own
    gaps. Frames are compared in pairs, which is fine enough and takes an eighth of the time.

    Args:
        values: (N, T, C), T even.
        mask: (N, T) whether observed.

    Returns:
        (N, T, C) weighted means over observed frames; zeros where nothing compares. And (N, T) the
        best comparison's difference, as a share of the movement's variance, at most 4.
    """
    pairs = mask.shape[1] // 2
    there = mask.unflatten(1, (pairs, 2)).to(values.dtype)
    parts = torch.where(mask[..., None], values, 0.0).unflatten(1, (pairs, 2))
    seen = there.amax(2)
    middle = parts.sum(2) / there.sum(2).clamp_min(1)[..., None]
    weights, best = _alike(middle, seen)
    total = (weights @ parts.flatten(2)).unflatten(2, (2, -1))
    found = total / (weights @ there).clamp_min(1e-6)[..., None]
    return found.flatten(1, 2), best.repeat_interleave(2, dim=1)


def _alike(values: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (N, T, T) of frame s in the echo at t, and the best relative difference (N, T)."""
    count, frames, _ = values.shape
    index = torch.arange(frames, device=values.device)
    shift = torch.arange(1 - frames, frames, device=values.device)
    other = index[:, None] + shift
    inside = (other >= 0) & (other < frames)
    other = other.clamp(0, frames - 1).expand(count, -1, -1)
    square = values.square().sum(-1)
    both = seen[:, :, None] * seen[:, None]
    apart = (square[:, :, None] + square[:, None] - 2 * values @ values.mT).clamp_min(0) * both
    # by time and shift, so that the frames around both are compared by sums along time
    pairs = _around(torch.where(inside, both.gather(2, other), 0.0))
    difference = _around(torch.where(inside, apart.gather(2, other), 0.0)) / pairs.clamp_min(1)
    near = _around(seen[..., None]).clamp_min(1)
    mean = _around(values * seen[..., None]) / near
    variance = _around((square * seen)[..., None]) / near - mean.square().sum(-1, keepdim=True)
    relative = difference / (variance.clamp_min(0) + REST)
    usable = inside & (pairs >= LEAST_PAIRS) & (shift.abs() >= 2)
    usable = usable & (seen[:, None].expand(-1, frames, -1).gather(2, other) > 0)
    relative = torch.where(usable, relative, torch.inf)
    best = relative.amin(-1).clamp_max(1e6)
    weights = torch.exp((best[..., None] - relative) / STRICTNESS)
    weights = torch.where(usable, weights, 0.0)
    weights = weights / weights.sum(-1, keepdim=True).clamp_min(1e-6)
    scattered = torch.zeros_like(apart).scatter_add_(2, other, weights)
    return scattered, best.clamp_max(4.0)


def _around(values: Tensor) -> Tensor:
    """Sums along time over `CONTEXT` frames on either side: (N, T, K) to the same."""
    frames = values.shape[1]
    index = torch.arange(frames, device=values.device)
    total = pad(values.cumsum(1), (0, 0, 1, 0))
    last, first = (index + CONTEXT + 1).clamp_max(frames), (index - CONTEXT).clamp_min(0)
    return total[:, last] - total[:, first]
