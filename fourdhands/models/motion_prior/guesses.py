"""What can be said of a gap without having learnt anything, and clues as to how good that is.

The encoder starts from these. All of it moves along with the frames, forwards or backwards.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from fourdhands.models.motion_prior.echo import WORST, echo
from fourdhands.models.motion_prior.gaps import fill_gaps, smooth

OFFERS: Final = 2
CLUES: Final = 16
FARTHEST: Final = 8.0
"""Centimetres at a fingertip by which the smooth curve may leave the straight line."""
NEAR, WIDE = 20.0, 60.0
"""Frames that count as nearby, as Gaussians' standard deviations."""


@dataclass(frozen=True)
class Guesses:
    """Guesses at every frame.

    Attributes:
        line: (N, T, C) observed values without their noise, straight lines between.
        offers: (N, T, C, OFFERS) how the smooth curve and the echo leave it; 0 where observed.
        clues: (N, T, CLUES) what tells how good each is; numbers of the order of one.
    """

    line: Tensor
    offers: Tensor
    clues: Tensor


def guess(values: Tensor, mask: Tensor) -> Guesses:
    """Fill the gaps in every way.

    Args:
        values: (N, T, C) in centimetres, T even.
        mask: (N, T) whether observed; other values do not matter.
    """
    curve = smooth(values, mask)
    seen = mask[..., None]
    clean = torch.where(seen, curve.values, 0.0)
    filled = fill_gaps(clean, mask)
    line, away = filled.values, filled.away
    repeated, difference = echo(clean, mask, away)
    repeated = torch.where((difference < WORST)[..., None], repeated, line)
    # of the echo only how it leaves the straight line between a gap's ends
    held = fill_gaps(repeated, mask).values
    swing = torch.where(seen, 0.0, repeated - held)
    between = ~mask & (away < mask.shape[1]).all(-1)
    bend = torch.where(between[..., None], curve.values - line, 0.0)
    bend = FARTHEST * (bend / FARTHEST).tanh()  # it may leave a long gap far behind
    offset = fill_gaps(torch.where(seen, clean - repeated, 0.0), mask).values

    step = line.diff(dim=1, prepend=line[:, :1])
    turn = step.diff(dim=1, prepend=step[:, :1])
    power = torch.stack([_power(step), _power(turn)], dim=-1)
    movement = _power(line - _nearby(line, mask, WIDE))
    unlike = _power(clean - repeated)
    gap = away.sum(-1).to(values.dtype)
    clues = [
        difference.clamp_min(0.01).log()[..., None],
        _nearby(difference[..., None], mask, NEAR),
        ((gap + 1).log() - 2)[..., None],
        (gap / 32).clamp_max(4)[..., None],
        (away.amin(-1) / 16.0).clamp_max(4)[..., None],
        (curve.log_stiffness / 4)[:, None, None].expand(-1, mask.shape[1], 1),
        *(_log(_power(x)[..., None]) for x in (bend, swing, swing - bend, offset)),
        _log(_nearby(power, mask, NEAR)),
        _log(_nearby(power, mask, WIDE)),
        _log(_nearby(movement[..., None], mask, WIDE)),
        _log(_nearby(unlike[..., None], mask, NEAR)),
    ]
    return Guesses(line, torch.stack([bend, swing], dim=-1), torch.cat(clues, dim=-1))


def _power(values: Tensor) -> Tensor:
    """Mean square over coordinates: (N, T, C) to (N, T)."""
    return values.square().mean(-1)


def _log(power: Tensor) -> Tensor:
    """Of mean squares, brought to the order of one; a tenth of a millimetre counts as none."""
    return ((power + 1e-4).log() + 3) / 3


def _nearby(values: Tensor, mask: Tensor, reach: float) -> Tensor:
    """Means (N, T, K) of (N, T, K) over the observed frames around each; zeros without any."""
    index = torch.arange(mask.shape[1], device=mask.device)
    kernel = torch.exp(-(((index[:, None] - index) / reach) ** 2) / 2).to(values.dtype)
    weight = mask[..., None].to(values.dtype)
    return kernel @ (values * weight) / (kernel @ weight + 1e-6)
