"""How many metres a unit of the camera trajectory is: a closed form with its uncertainty.

Hands have a known size, so their places in the camera's frame are metric. In the world they move
smoothly whatever the camera does; the scale that makes them do so best is the answer. With h the
hand's true path, q its place turned into the world's axes and c the camera's centre in units,

    q = h - s c + noise,   noise ~ N(0, W^-1),   accelerations and velocities of h ~ N(0, S^-1),

is linear in h and s, so s has a closed form once h is integrated out; W knows that depth is less
sure than the rest. The paths' liveliness is chosen by the likelihood among a few.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve_banded, cholesky_banded

Array = NDArray[np.float64]

LATERAL: Final = 0.004  # metres of noise across the line of sight
DEPTH: Final = 0.03  # along it
LIVELINESS: Final = ((1.0, 0.3), (3.0, 0.5), (10.0, 1.0), (30.0, 2.0))  # m/s^2, m/s
ROUNDS: Final = 3  # of robust weights
SIGNIFICANT: Final = 2.0  # deviations from zero at which a scale counts as known
CORRELATION: Final = 2.0  # a network's errors go on for some frames: factor on the deviation
STILL_TURN: Final = np.radians(0.5)
STILL_SHIFT: Final = 1e-6  # of the units: nothing at all


@dataclass(frozen=True)
class WorldScale:
    """What is known of the scale.

    Attributes:
        scale: metres a unit.
        deviation: standard deviation of its logarithm; infinite if nothing tells it.
        static: whether the camera stands still.
    """

    scale: float
    deviation: float
    static: bool


def find_world_scale(
    points: Array, observed: NDArray[np.bool_], rotation: Array, translation: Array, fps: float
) -> WorldScale:
    """Find the scale of a trajectory.

    Args:
        points: (T, S, 3) one of each hand (its middle, its wrist), camera frame, metres.
        observed: (T, S) which of them are known.
        rotation: (T, 3, 3) camera from world.
        translation: (T, 3) camera from world, units of the trajectory.
        fps: frames a second.
    """
    centres = -np.einsum("tji,tj->ti", rotation, translation)
    spread = centres - centres.mean(0)
    size = float(np.abs(spread).max())
    turn = _largest_turn(rotation)
    moves = size > STILL_SHIFT * max(1.0, float(np.abs(centres).max()))
    if not moves:
        return WorldScale(1.0, np.inf, static=turn < STILL_TURN)
    paths = [
        _Path.of(points[:, side], observed[:, side], rotation, spread / size, fps)
        for side in range(points.shape[1])
        if observed[:, side].sum() >= 3
    ]
    if not paths:
        return WorldScale(1.0, np.inf, static=turn < STILL_TURN)
    best: tuple[float, float, float] | None = None
    for acceleration, velocity in LIVELINESS:
        scale, deviation, likelihood = _fit(paths, acceleration, velocity)
        if best is None or likelihood > best[2]:
            best = scale, deviation, likelihood
    assert best is not None
    scale, deviation = best[0] / size, best[1] / size * CORRELATION
    if scale <= 0 or scale < SIGNIFICANT * deviation:
        # a trajectory that explains nothing of the hands: noise about a camera on a stand
        return WorldScale(1.0, np.inf, static=turn < STILL_TURN)
    return WorldScale(scale, deviation / scale, static=False)


def _largest_turn(rotation: Array) -> float:
    relative = rotation @ rotation[0].T
    cosine = (np.trace(relative, axis1=1, axis2=2) - 1) / 2
    return float(np.arccos(np.clip(cosine, -1, 1)).max())


@dataclass(frozen=True)
class _Path:
    """One hand: places in the world's axes from the camera, (T, 3), and their precision."""

    places: Array
    centres: Array
    precision: Array  # (T, 3, 3), zeros where not observed
    fps: float

    @classmethod
    def of(
        cls,
        points: Array,
        observed: NDArray[np.bool_],
        rotation: Array,
        centres: Array,
        fps: float,
    ) -> "_Path":
        first, last = np.flatnonzero(observed)[[0, -1]]
        there = slice(first, last + 1)
        points, observed, rotation = points[there], observed[there], rotation[there]
        sight = points / np.maximum(np.linalg.norm(points, axis=-1, keepdims=True), 1e-9)
        along = sight[:, :, None] * sight[:, None]
        precision = (np.eye(3) - along) / LATERAL**2 + along / DEPTH**2
        turned = rotation.swapaxes(-1, -2)
        precision = turned @ precision @ rotation * observed[:, None, None]
        places = np.einsum("tij,tj->ti", turned, np.where(observed[:, None], points, 0))
        return cls(places, centres[there], precision, fps)


def _fit(paths: list[_Path], acceleration: float, velocity: float) -> tuple[float, float, float]:
    """Scale, its deviation and the log likelihood, for one liveliness."""
    weights = [np.ones(len(path.places)) for path in paths]
    scale, variance, likelihood = 0.0, np.inf, -np.inf
    for _ in range(ROUNDS):
        parts = [
            _marginal(path, weight, acceleration, velocity)
            for path, weight in zip(paths, weights, strict=True)
        ]
        curvature = sum(part["cc"] for part in parts)
        slope = sum(part["cq"] for part in parts)
        scale = -slope / max(curvature, 1e-30)
        cost = sum(p["qq"] + 2 * scale * p["cq"] + scale**2 * p["cc"] for p in parts)
        count = sum(3 * int((path.precision[:, 0, 0] > 0).sum()) for path in paths)
        noise = max(cost / max(count - 1, 1), 1e-12)
        variance = noise / max(curvature, 1e-30)
        likelihood = sum(p["log"] for p in parts) - count / 2 * np.log(noise)
        for k, (path, part) in enumerate(zip(paths, parts, strict=True)):
            residual = path.places + scale * path.centres - part["solve"](scale)
            chi = np.einsum("ti,tij,tj->t", residual, path.precision, residual) / noise
            weights[k] = 1 / (1 + chi / 12)
    return float(scale), float(np.sqrt(variance)), float(likelihood)


def _marginal(path: _Path, weight: Array, acceleration: float, velocity: float) -> dict[str, Any]:
    """Quadratic form of q + s c with the path integrated out: V = W - W (W + S)^-1 W."""
    frames = len(path.places)
    precision = path.precision * weight[:, None, None]
    smooth = _smoothness(frames, path.fps, acceleration, velocity)
    band = _banded(precision, smooth)
    factor = cholesky_banded(band)
    places, centres = path.places, path.centres

    def weighted(values: Array) -> Array:
        return np.einsum("tij,tj->ti", precision, values)

    wq, wc = weighted(places), weighted(centres)
    solved = cho_solve_banded((factor, False), np.stack((wq.ravel(), wc.ravel()), 1))
    aq, ac = solved[:, 0].reshape(frames, 3), solved[:, 1].reshape(frames, 3)
    prior = cholesky_banded(_banded(np.tile(1e-6 * np.eye(3), (frames, 1, 1)), smooth))
    log = np.log(prior[-1]).sum() - np.log(factor[-1]).sum()
    log += np.log(np.where(weight > 0, weight, 1)).sum() * 1.5
    return {
        "qq": float((places * wq).sum() - (wq * aq).sum()),
        "cq": float((places * wc).sum() - (wq * ac).sum()),
        "cc": float((centres * wc).sum() - (wc * ac).sum()),
        "log": float(log),
        "solve": lambda scale: aq + scale * ac,
    }


def _smoothness(frames: int, fps: float, acceleration: float, velocity: float) -> Array:
    """(3, T) bands of the precision of a path: main, next, after."""
    bands = np.zeros((3, frames))
    for kernel, size in (
        ((-fps, fps), velocity * np.sqrt(fps / 30)),
        ((fps**2, -2 * fps**2, fps**2), acceleration * np.sqrt(fps / 30)),
    ):
        rows = max(frames - len(kernel) + 1, 0)
        for i, a in enumerate(kernel):
            for j in range(i, len(kernel)):
                bands[j - i, i : i + rows] += a * kernel[j] / size**2
    return bands


def _banded(precision: Array, smooth: Array) -> Array:
    """Upper form of scipy for blocks of three: (9 diagonals, 3 T)."""
    frames = len(precision)
    upper = np.zeros((7, 3 * frames))
    for k in range(3):
        upper[6, k::3] = precision[:, k, k] + smooth[0]
        upper[3, 3 + k :: 3] = smooth[1, : frames - 1]
        upper[0, 6 + k :: 3] = smooth[2, : max(frames - 2, 0)]
    upper[5, 1::3] += precision[:, 0, 1]
    upper[5, 2::3] += precision[:, 1, 2]
    upper[4, 2::3] += precision[:, 0, 2]
    upper[6] += 1e-9
    return upper


def path_unrest(
    points: Array, observed: NDArray[np.bool_], rotation: Array, translation: Array, fps: float
) -> float:
    """How badly a reading of the camera lets hands move smoothly, at its best scale.

    Args: see `find_world_scale`.
    """
    centres = -np.einsum("tji,tj->ti", rotation, translation)
    spread = centres - centres.mean(0)
    size = max(float(np.abs(spread).max()), 1e-12)
    cost, count = 0.0, 0
    parts = []
    for side in range(points.shape[1]):
        if observed[:, side].sum() >= 3:
            path = _Path.of(points[:, side], observed[:, side], rotation, spread / size, fps)
            parts.append(_marginal(path, np.ones(len(path.places)), *LIVELINESS[1]))
            count += int(observed[:, side].sum())
    if not parts:
        return 0.0
    curvature, slope = sum(p["cc"] for p in parts), sum(p["cq"] for p in parts)
    scale = max(0.0, -slope / max(curvature, 1e-30))
    cost = sum(p["qq"] + 2 * scale * p["cq"] + scale**2 * p["cc"] for p in parts)
    return float(cost / count)
