"""Between a sequence's own frames, at any times, and the windows of the encoder's regular grid."""

from typing import Final

import torch
from torch import Tensor

from fourdhands.geometry.rotation import slerp

NEXT_TO: Final = 2.1
"""Steps of the grid between observed frames that still count as neighbours: nothing is missing.
Half the grid's rate is such: slerp over a fifteenth of a second hardly errs."""
NEAR: Final = 5.0
"""Steps between observed frames over which interpolation tells what lies near one of them."""


def window_starts(times: Tensor, span: float, hop: float) -> Tensor:
    """Starts (W,) of windows that cover times (T,), all in seconds.

    They lie on a lattice from the first frame on, `hop` apart, each `span` long.
    """
    duration = float(times[-1] - times[0])
    count = 1 + max(0, -int(-(duration - span - 1e-6) // hop))
    return times[0] + hop * torch.arange(count, device=times.device, dtype=times.dtype)


def to_grid(rotations: Tensor, mask: Tensor, times: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """What was observed around the times of a grid.

    Between neighbouring frames it is their slerp. Where frames are farther apart than the grid is
    fine, only what lies within half a step of an observed frame is known.

    Args:
        rotations: (N, T, 15, 3, 3).
        mask: (N, T) observed frames.
        times: (T,) seconds, ascending.
        grid: (W, G) seconds, regular in each row.

    Returns:
        (N, W, G, 15, 3, 3) rotations, identities where unknown, and (N, W, G) whether known.
    """
    frames = len(times)
    step = float(grid[0, 1] - grid[0, 0])
    at = torch.searchsorted(times, grid.flatten() + 1e-4 * step, right=True) - 1
    index = torch.arange(frames, device=times.device)
    before = torch.where(mask, index, -1).cummax(1).values
    after = torch.where(mask, index, frames).flip(1).cummin(1).values.flip(1)
    first = before[:, at.clamp(0)]
    second = after[:, (at + 1).clamp_max(frames - 1)]
    # before the first frame and after the last there is nothing on that side
    first = torch.where(at >= 0, first, -1)
    second = torch.where(at + 1 < frames, second, frames)
    has_first, has_second = first >= 0, second < frames
    first, second = first.clamp(0), second.clamp_max(frames - 1)
    since = grid.flatten() - times[first]
    until = times[second] - grid.flatten()
    gap = (since + until).clamp_min(1e-9)
    both = has_first & has_second
    close = (has_first & (since <= 0.501 * step)) | (has_second & (until <= 0.501 * step))
    known = (both & (gap <= NEXT_TO * step)) | close
    # slerp where both ends tell something, else the nearer end
    end = torch.where(has_first, 0.0, 1.0)
    share = torch.where(both, since / gap, end.to(gap.dtype)).to(rotations.dtype)
    nearer = (since > until).to(share.dtype)
    share = torch.where(both & (gap > NEAR * step), nearer, share).clamp(0, 1)
    rows = torch.arange(len(mask), device=mask.device)[:, None]
    found = slerp(rotations[rows, first], rotations[rows, second], share[..., None])
    eye = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
    found = torch.where(known[..., None, None, None], found, eye)
    shape = (-1, *grid.shape)
    return found.reshape(*mask.shape[:1], *grid.shape, 15, 3, 3), known.reshape(shape)


def blend_windows(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Pass from one window's poses (N, T, 15, 3, 3) to the next one's, smoothly, share (T,)."""
    smooth = share.square() * (3 - 2 * share)
    return slerp(first, second, smooth[None, :, None].to(first.dtype))


def b_splines(times: Tensor, spacing: float, count: int) -> Tensor:
    """Uniform cubic B-splines: (..., T) seconds to (..., T, count); the first peaks before 0."""
    centres = torch.arange(-1, count - 1, device=times.device)
    x = (times[..., None] / spacing - centres).abs()
    near = 2 / 3 - x.square() + x**3 / 2
    far = (2 - x).clamp_min(0) ** 3 / 6
    return torch.where(x < 1, near, far)
