"""The echo of motion: what the hand did at other times when its movement was like that around now.

Non-local means along time (Buades et al. 2005): rhythms and repeated grasps fill their own gaps.
"""

from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import pad

CONTEXT: Final = 9
"""Pairs of frames on either side, beyond the gap, that are compared."""
LEAST_PAIRS: Final = 4
"""Pairs that have to be there on both sides of a comparison."""
STRICTNESS: Final = 0.1
"""How much worse a comparison may be, as a share of the movement's variance, to count 1/e."""
REST: Final = 0.5
"""Variance that counts as no movement, square centimetres."""
WORST: Final = 4.0
"""Of differences; larger ones, and no comparison at all, count as this."""


def echo(values: Tensor, mask: Tensor, away: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted means over the frames around which the movement was like that around each frame.

    Frames are compared in pairs, which is fine enough and takes an eighth of the time.

    Args:
        values: (N, T, C), T even.
        mask: (N, T) whether observed.
        away: (N, T, 2) frames to the last and the next observed one, see `gaps.Filled`.

    Returns:
        (N, T, C) the means; zeros where nothing compares. And (N, T) the best comparison's
        difference, as a share of the movement's variance.
    """
    pairs = mask.shape[1] // 2
    there = mask.unflatten(1, (pairs, 2)).to(values.dtype)
    parts = torch.where(mask[..., None], values, 0.0).unflatten(1, (pairs, 2))
    seen = there.amax(2)
    middle = parts.sum(2) / there.sum(2).clamp_min(1)[..., None]
    to_edge = (away.unflatten(1, (pairs, 2)).amin(2) + 1) // 2
    weights, best = _alike(middle, seen, to_edge)
    total = (weights @ parts.flatten(2)).unflatten(2, (2, -1))
    found = total / (weights @ there).clamp_min(1e-6)[..., None]
    return found.flatten(1, 2), best.repeat_interleave(2, dim=1)


def _alike(values: Tensor, seen: Tensor, away: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (N, T, T) of frame s in the echo at t, and the best relative difference (N, T)."""
    count, frames, _ = values.shape
    index = torch.arange(frames, device=values.device)
    shift = torch.arange(1 - frames, frames, device=values.device)
    other = index[:, None] + shift
    inside = (other >= 0) & (other < frames)
    other = other.clamp(0, frames - 1).expand(count, -1, -1)
    # so much on either side of the gap that t lies in
    first = (index - away[..., 0] - CONTEXT).clamp_min(0)[..., None]
    last = (index + away[..., 1] + CONTEXT + 1).clamp_max(frames)[..., None]

    def around(x: Tensor) -> Tensor:
        total, shape = pad(x.cumsum(1), (0, 0, 1, 0)), (-1, -1, x.shape[-1])
        return total.gather(1, last.expand(shape)) - total.gather(1, first.expand(shape))

    square = values.square().sum(-1)
    both = seen[:, :, None] * seen[:, None]
    apart = (square[:, :, None] + square[:, None] - 2 * values @ values.mT).clamp_min(0) * both
    # by time and shift, so that the frames around both are compared by sums along time
    pairs = around(torch.where(inside, both.gather(2, other), 0.0))
    difference = around(torch.where(inside, apart.gather(2, other), 0.0)) / pairs.clamp_min(1)
    near = around(seen[..., None]).clamp_min(1)
    mean = around(values * seen[..., None]) / near
    variance = around((square * seen)[..., None]) / near - mean.square().sum(-1, keepdim=True)
    relative = difference / (variance.clamp_min(0) + REST)
    usable = inside & (pairs >= LEAST_PAIRS) & (shift.abs() >= 2)
    usable = usable & (seen[:, None].expand(-1, frames, -1).gather(2, other) > 0)
    relative = torch.where(usable, relative, torch.inf)
    best = relative.amin(-1).clamp_max(1e6)
    weights = torch.exp((best[..., None] - relative) / STRICTNESS)
    weights = torch.where(usable, weights, 0.0)
    weights = weights / weights.sum(-1, keepdim=True).clamp_min(1e-6)
    return torch.zeros_like(apart).scatter_add_(2, other, weights), best.clamp_max(WORST)
