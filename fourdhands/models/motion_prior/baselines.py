"""What a learnt prior is held against: slerp, smoothness, PCA of windows, a mixture of poses.

All of them complete (`prior.Completer`); each hand for itself, as right hands in the mirror.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import solveh_banded
from scipy.special import logsumexp
from torch import Tensor

from fourdhands.geometry.rotation import slerp
from fourdhands.models.motion_prior.coordinates import PoseCoordinates
from fourdhands.models.motion_prior.gaps import fill_gaps
from fourdhands.models.motion_prior.prior import BOTH, as_right
from fourdhands.models.motion_prior.time_base import to_grid
from fourdhands.skeleton import Side

Array = NDArray[np.float64]

STIFFNESS: Final = 0.02
"""Weight of squared accelerations beside squared distances: per frame at 30 a second."""
POSE_WEIGHT: Final = 1e-6
"""Weight of the mixture's negative log likelihood beside them."""


class Slerp:
    """Every joint turns at constant speed from the last observed pose to the next."""

    def complete(
        self, poses: Tensor, mask: Tensor, times: Tensor, sides: Sequence[Side] = BOTH
    ) -> Tensor:
        """See `Completer.complete`; the first and last observed poses are held at the ends."""
        hands = poses.transpose(1, 2).flatten(0, 1)
        seen = mask.transpose(1, 2).flatten(0, 1)
        index = torch.arange(len(times), device=mask.device)
        before = torch.where(seen, index, -1).cummax(1).values
        after = torch.where(seen, index, len(times)).flip(1).cummin(1).values.flip(1)
        first = torch.where(before >= 0, before, after).clamp(0, len(times) - 1)
        second = torch.where(after < len(times), after, before).clamp(0, len(times) - 1)
        rows = torch.arange(len(hands), device=mask.device)[:, None]
        width = (times[second] - times[first]).clamp_min(1e-9)
        share = ((times - times[first]) / width).clamp(0, 1).to(poses.dtype)
        found = slerp(hands[rows, first], hands[rows, second], share[..., None])
        eye = torch.eye(3, dtype=poses.dtype, device=poses.device)
        found = torch.where(seen.any(1)[:, None, None, None, None], found, eye)
        found = torch.where(seen[..., None, None, None], hands, found)
        return found.unflatten(0, (len(poses), -1)).transpose(1, 2)


class _InCoordinates:
    """Completion of one window's coordinates (N, T, C) at a time."""

    def __init__(self, coordinates: PoseCoordinates) -> None:
        self.coordinates = coordinates

    def complete(
        self, poses: Tensor, mask: Tensor, times: Tensor, sides: Sequence[Side] = BOTH
    ) -> Tensor:
        """See `Completer.complete`; observed frames stay as they are."""
        hands = as_right(poses, sides).transpose(1, 2).flatten(0, 1)
        seen = mask.transpose(1, 2).flatten(0, 1)
        values = torch.where(seen[..., None], self.coordinates.read(hands), 0.0)
        filled = self._fill(values, seen, times)
        filled = torch.where(
            seen[..., None, None, None], hands, self.coordinates.write(filled.to(poses.dtype))
        )
        return as_right(filled.unflatten(0, (len(poses), -1)).transpose(1, 2), sides)

    def _fill(self, values: Tensor, seen: Tensor, times: Tensor) -> Tensor:
        raise NotImplementedError


class Smoothness(_InCoordinates):
    """The least accelerated motion through the observed frames (HMP's "no motion prior")."""

    def _fill(self, values: Tensor, seen: Tensor, times: Tensor) -> Tensor:
        stiff = STIFFNESS * _acceleration(times).double()
        known = torch.diag_embed(seen.double())
        system = known + stiff + 1e-6 * torch.eye(len(times), dtype=torch.float64)
        return torch.linalg.solve(system, known @ values.double())


class PcaPrior(_InCoordinates):
    """Probabilistic PCA of whole windows: the Gaussian conditional mean given the observed frames.

    Args:
        coordinates: of poses.
        windows: (N, T, 15, 3, 3) right hands on the grid, to learn from.
        fps: of the grid.
        components: principal components that are kept.
        noise: centimetres at a fingertip that they leave unexplained.
    """

    def __init__(
        self,
        coordinates: PoseCoordinates,
        windows: Tensor,
        fps: float,
        *,
        components: int = 400,
        noise: float = 0.3,
    ) -> None:
        super().__init__(coordinates)
        values = coordinates.read(windows).flatten(1)
        self.mean = values.mean(0)
        count = min(components, len(values) - 1)
        _, spread, directions = torch.pca_lowrank(values - self.mean, count, center=False, niter=3)
        self.loading = (directions * (spread / len(values) ** 0.5)).double()
        self.grid = torch.arange(windows.shape[1]) / fps
        self.noise = noise

    def _fill(self, values: Tensor, seen: Tensor, times: Tensor) -> Tensor:
        hands = self.coordinates.write(values)
        on_grid, known = to_grid(hands, seen, times, (times[0] + self.grid)[None])
        wanted = self.coordinates.read(on_grid[:, 0]).flatten(1).double() - self.mean
        found = torch.empty_like(wanted)
        eye = self.noise**2 * torch.eye(self.loading.shape[1], dtype=torch.float64)
        for row, mask in enumerate(known[:, 0]):
            there = mask.repeat_interleave(self.coordinates.size)
            part = self.loading[there]
            z = torch.linalg.solve(part.mT @ part + eye, part.mT @ wanted[row, there])
            found[row] = self.loading @ z
        found = (found + self.mean).unflatten(1, (len(self.grid), -1))
        place = ((times - times[0]) / (self.grid[1] - self.grid[0])).clamp(0, len(self.grid) - 1)
        first = place.long().clamp_max(len(self.grid) - 2)
        share = (place - first)[:, None]
        return found[:, first] * (1 - share) + found[:, first + 1] * share


class GmmPrior(_InCoordinates):
    """A mixture of Gaussians over single poses, and smooth motion between them.

    Poses lie in the space of their own principal components, where covariances are diagonal, so
    that each component is a small linear system. Likelihood is maximised by turns (EM).

    Args:
        coordinates: of poses.
        poses: (N, 15, 3, 3) right hands to learn from.
        components: of the mixture.
        seed: of its start.
    """

    def __init__(
        self, coordinates: PoseCoordinates, poses: Tensor, *, components: int = 16, seed: int = 0
    ) -> None:
        super().__init__(coordinates)
        values = coordinates.read(poses).double()
        self.mean = values.mean(0)
        _, _, basis = torch.linalg.svd(values - self.mean, full_matrices=False)
        self.basis = basis.mT
        points = ((values - self.mean) @ self.basis).numpy()
        self.weights, self.means, self.variances = fit_mixture(points, components, seed)

    def _fill(self, values: Tensor, seen: Tensor, times: Tensor) -> Tensor:
        wanted = ((values.double() - self.mean) @ self.basis).numpy()
        current = fill_gaps(torch.from_numpy(wanted), seen).values.numpy()
        stiff = STIFFNESS * _acceleration(times).numpy()
        band = np.stack([np.pad(np.diag(stiff, k), (k, 0)) for k in (2, 1, 0)])  # (3, T)
        known = seen.double().numpy()[..., None]
        for _ in range(8):
            share = _responsibilities(current, self.weights, self.means, self.variances)
            precision = POSE_WEIGHT * share @ (1 / self.variances)  # (N, T, C)
            pull = POSE_WEIGHT * share @ (self.means / self.variances)
            diagonal, right = known + precision, known * wanted + pull
            for n, c in np.ndindex(len(current), current.shape[2]):
                system = band.copy()
                system[2] += diagonal[n, :, c]
                current[n, :, c] = solveh_banded(system, right[n, :, c], check_finite=False)
        filled = torch.from_numpy(current)
        return filled @ self.basis.mT + self.mean


def fit_mixture(
    points: Array, components: int, seed: int, rounds: int = 40
) -> tuple[Array, Array, Array]:
    """Weights (K,), means and variances (K, C) of a diagonal Gaussian mixture, by EM."""
    rng = np.random.default_rng(seed)
    means = points[rng.choice(len(points), components, replace=False)]
    variances = np.tile(points.var(0) + 1e-4, (components, 1))
    weights = np.full(components, 1 / components)
    for _ in range(rounds):
        share = _responsibilities(points, weights, means, variances)
        mass = share.sum(0) + 1e-6
        weights = mass / mass.sum()
        means = share.T @ points / mass[:, None]
        variances = share.T @ points**2 / mass[:, None] - means**2 + 1e-3
    return weights, means, variances


def _responsibilities(points: Array, weights: Array, means: Array, variances: Array) -> Array:
    """Posterior of the components (..., K) of points (..., C)."""
    inverse = 1 / variances
    square = points**2 @ inverse.T - 2 * points @ (means * inverse).T + (means**2 * inverse).sum(1)
    log = np.log(weights) - (square + np.log(variances).sum(1)) / 2
    return np.asarray(np.exp(log - logsumexp(log, axis=-1, keepdims=True)))


def _acceleration(times: Tensor) -> Tensor:
    """(T, T) quadratic form of the summed squared accelerations, in frames at 30 a second."""
    count = len(times)
    form = torch.zeros(count, count, dtype=torch.float64)
    if count < 3:
        return form
    t = 30 * times.double()
    before, after = t[1:-1] - t[:-2], t[2:] - t[1:-1]
    whole = before + after
    rows = torch.zeros(count - 2, count, dtype=torch.float64)
    index = torch.arange(count - 2)
    rows[index, index] = 2 / (before * whole)
    rows[index, index + 1] = -2 / (before * after)
    rows[index, index + 2] = 2 / (after * whole)
    return rows.mT @ (rows * (whole / 2)[:, None])
