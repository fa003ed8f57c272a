"""Interpolation over gaps, held against loops; echoes of a rhythm."""

import numpy as np
import torch

from fourdhands.models.motion_prior.gaps import echo, fill_gaps, smooth_guesses


def masks() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(6, 24, generator=generator) < 0.4
    mask[0], mask[1] = True, False
    mask[2, :5] = mask[3, -6:] = False
    return mask


def test_lines_between_what_was_seen() -> None:
    values = torch.randn(6, 24, 3, generator=torch.Generator().manual_seed(1))
    filled = fill_gaps(values, masks())
    for row, seen, line, away in zip(values, masks(), filled.values, filled.away, strict=True):
        at = np.flatnonzero(seen)
        for t in range(24):
            if not len(at):
                assert (line[t] == 0).all()
                continue
            for c in range(3):
                assert abs(line[t, c] - np.interp(t, at, row[seen, c])) < 1e-5
            before, after = at[at <= t], at[at >= t]
            assert away[t, 0] == (t - before[-1] if len(before) else 24)
            assert away[t, 1] == (after[0] - t if len(after) else 24)


def test_what_is_not_seen_does_not_matter() -> None:
    values = torch.randn(6, 24, 3, generator=torch.Generator().manual_seed(1))
    other = torch.where(masks()[..., None], values, 7.0)
    for first, second in zip(
        vars(fill_gaps(values, masks())).values(),
        vars(fill_gaps(other, masks())).values(),
        strict=True,
    ):
        torch.testing.assert_close(first, second)
    torch.testing.assert_close(smooth_guesses(values, masks()), smooth_guesses(other, masks()))
    for first, second in zip(echo(values, masks()), echo(other, masks()), strict=True):
        torch.testing.assert_close(first, second)


def test_a_smooth_guess_is_the_cubic_spline() -> None:
    """Through frames that all lie on a parabola goes a curve near it, where a line would cut it."""
    t = torch.arange(40.0)
    values = (0.02 * (t - 20) ** 2)[None, :, None].expand(1, 40, 3)
    mask = torch.ones(1, 40, dtype=torch.bool)
    mask[:, 12:26] = False
    mask[:, :3] = False
    gap = torch.arange(12, 26)
    found = smooth_guesses(values, mask)
    line = fill_gaps(values, mask).values
    assert (line - values)[:, gap].abs().max() > 1
    assert (found[..., 0] - values)[:, gap].abs().max() < 0.05
    assert (found[..., 1] - values)[:, gap].abs().max() < 0.6
    assert (found[:, :3] == 0).all() and (found[mask] == 0).all()


def test_a_rhythm_fills_its_own_gap() -> None:
    t = torch.arange(128) / 30
    wave = 3 * torch.stack([(2 * torch.pi * 1.5 * t + p).sin() for p in (0, 1, 2)], dim=-1)[None]
    mask = torch.ones(1, 128, dtype=torch.bool)
    mask[:, 50:74] = False
    found, difference = echo(wave, mask)
    gap = ~mask[0]
    assert (found - wave)[:, gap].abs().max() < 0.2
    assert (fill_gaps(wave, mask).values - wave)[:, gap].abs().max() > 3
    assert difference[:, gap].max() < 0.01
