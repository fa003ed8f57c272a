"""Interpolation over gaps, held against loops; noise against its likelihood; echoes of a rhythm."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

from fourdhands.models.motion_prior.echo import echo
from fourdhands.models.motion_prior.gaps import SPACING, STIFFNESS, fill_gaps, smooth
from fourdhands.models.motion_prior.guesses import guess
from fourdhands.models.motion_prior.time_base import b_splines


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
    smoothed = [smooth(x, masks()) for x in (values, other)]
    torch.testing.assert_close(*(x.values for x in smoothed))
    guesses = [guess(x, masks()) for x in (values, other)]
    for first, second in zip(*(vars(g).values() for g in guesses), strict=True):
        torch.testing.assert_close(first, second)
        assert first.isfinite().all()


def test_a_smooth_curve_crosses_a_gap_where_a_line_would_cut_it() -> None:
    t = torch.arange(40.0)
    values = (0.02 * (t - 20) ** 2)[None, :, None].expand(1, 40, 3)
    mask = torch.ones(1, 40, dtype=torch.bool)
    mask[:, 12:26] = False
    mask[:, :3] = False
    found = smooth(values, mask)
    assert (fill_gaps(values, mask).values - values)[:, 12:26].abs().max() > 1
    assert (found.values - values)[:, 3:].abs().max() < 0.05
    offers = guess(values, mask).offers
    assert (offers[mask] == 0).all() and (offers[:, :3, :, 0] == 0).all()


def test_noise_is_measured_and_taken_out() -> None:
    """The weights of the stiffnesses are those of the marginal likelihood, written out."""
    t = torch.arange(60)
    wave = 3 * torch.stack([(t / 9 + k).sin() for k in range(8)], dim=-1)[None]
    noise = torch.randn(wave.shape, generator=torch.Generator().manual_seed(0))
    mask = torch.rand(1, 60, generator=torch.Generator().manual_seed(1)) < 0.7
    clean, noisy = smooth(wave, mask), smooth(wave + 0.5 * noise, mask)
    assert (clean.values - wave)[mask].abs().max() < 0.02
    assert (noisy.values - wave)[mask].std() < 0.6 * 0.5
    assert noisy.log_stiffness > clean.log_stiffness + 3

    seen = np.flatnonzero(mask[0])
    told = (wave + 0.5 * noise)[0, seen].double().numpy()
    bumps = b_splines(t.double(), SPACING, 33).numpy()
    bend = np.diff(bumps, n=2, axis=0)
    log = []
    for stiffness in STIFFNESS:
        precision = stiffness * bend.T @ bend + 1e-7 * np.eye(33)
        covariance = np.eye(len(seen)) + bumps[seen] @ np.linalg.solve(precision, bumps[seen].T)
        spread = (told * np.linalg.solve(covariance, told)).sum() / 8
        log.append(-np.linalg.slogdet(covariance)[1] - (len(seen) - 2) * np.log(spread))
    weights = softmax(np.array(log) / 2)
    wanted = weights @ np.log(STIFFNESS)
    assert abs(float(noisy.log_stiffness) - wanted) < 0.02


@pytest.mark.parametrize("hidden", [24, 36])
def test_a_rhythm_fills_its_own_gap(hidden: int) -> None:
    t = torch.arange(128) / 30
    wave = 3 * torch.stack([(2 * torch.pi * 1.5 * t + p).sin() for p in (0, 1, 2)], dim=-1)[None]
    mask = torch.ones(1, 128, dtype=torch.bool)
    mask[:, 50 : 50 + hidden] = False
    filled = fill_gaps(wave, mask)
    found, difference = echo(wave, mask, filled.away)
    gap = ~mask[0]
    assert (found - wave)[:, gap].abs().max() < 0.3
    assert (filled.values - wave)[:, gap].abs().max() > 3
    assert difference[:, gap].max() < 0.01
    faster = 3 * torch.stack([(t.square() + p).sin() for p in (0, 1, 2)], dim=-1)[None]
    _, unlike = echo(faster, mask, filled.away)
    assert unlike[:, gap].min() > 0.05
