"""Motion over the frames of a clip: key values joined by minimum-jerk reaches, holds and tremor.

Finger angles, wrist orientations and gaps between hands all move through the same timeline.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourdhands.data.synthetic.rotation import (
    matrices_from_vectors,
    matrix_from_vector,
    vector_from_matrix,
)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Timeline:
    """When a clip's frames fall between the keys of a motion.

    Attributes:
        segment: (F,) index of the last key before each frame.
        progress: (F,) in [0, 1], how much of the way to the next key is done.
        num_keys: Keys that the motion needs.
    """

    segment: NDArray[np.int64]
    progress: Array
    num_keys: int

    @classmethod
    def sample(
        cls, rng: np.random.Generator, times: Array, interval: tuple[float, float]
    ) -> "Timeline":
        """Draw key times that cover the frames.

        The clip starts anywhere in a motion, at rest or under way. After a reach the hand may hold
        still for part of the way to the next key.

        Args:
            rng: Source of randomness.
            times: (F,) seconds, ascending.
            interval: Shortest and longest time between two keys in seconds.
        """
        duration = times[-1] - times[0]
        steps = rng.uniform(*interval, size=int(np.ceil(duration / interval[0])) + 2)
        keys = times[0] + np.concatenate(([0.0], np.cumsum(steps))) - rng.uniform(0, steps[0])
        segment = np.clip(np.searchsorted(keys, times, side="right") - 1, 0, len(steps) - 1)
        phase = (times - keys[segment]) / steps[segment]
        reach = np.where(rng.random(len(steps)) < 0.4, rng.uniform(0.5, 0.9, len(steps)), 1.0)
        progress = minimum_jerk(np.minimum(phase / reach[segment], 1.0))
        return cls(segment, progress, int(segment.max()) + 2)

    def interpolate(self, keys: ArrayLike) -> Array:
        """Values (K, ...) at the keys to values (F, ...) at the frames, K >= `num_keys`."""
        keys = np.asarray(keys, np.float64)
        progress = self.progress.reshape(-1, *(1,) * (keys.ndim - 1))
        return keys[self.segment] * (1 - progress) + keys[self.segment + 1] * progress

    def interpolate_rotations(self, keys: Array) -> Array:
        """Rotations (K, 3, 3) at the keys to (F, 3, 3) at the frames, by slerp."""
        steps = [vector_from_matrix(start.T @ end) for start, end in pairwise(keys)]
        turns = np.array(steps)[self.segment] * self.progress[:, None]
        return keys[self.segment] @ matrices_from_vectors(turns)


def minimum_jerk(phase: ArrayLike) -> Array:
    """Progress 10 s^3 - 15 s^4 + 6 s^5 of a reach at phase s in [0, 1].

    The speed profile of human point-to-point movements (Flash and Hogan 1985).
    """
    s = np.asarray(phase, np.float64)
    return s**3 * (10 + s * (6 * s - 15))


def random_walk_rotations(rng: np.random.Generator, start: Array, count: int, step: float) -> Array:
    """A walk (count, 3, 3) from `start` (3, 3), turning by about `step` radians from key to key.

    The turns are isotropic, so a uniformly distributed start makes every key uniform on SO(3).
    """
    rotations = [start]
    for turn in rng.normal(0, step / np.sqrt(3), (count - 1, 3)):
        rotations.append(matrix_from_vector(turn) @ rotations[-1])
    return np.stack(rotations)


def tremor(
    rng: np.random.Generator, times: Array, channels: int, amplitude: float, frequency: float
) -> Array:
    """Small unrest that never stops: (F, channels) sums of three sinusoids.

    Args:
        rng: Source of randomness.
        times: (F,) seconds.
        channels: Independent signals.
        amplitude: Root mean square, in the unit of the caller.
        frequency: Typical frequency in Hz.
    """
    rates = 2 * np.pi * frequency * rng.uniform(0.5, 1.5, (3, channels))
    phases = rng.uniform(0, 2 * np.pi, (3, channels))
    waves = np.sin(times[:, None, None] * rates + phases).sum(axis=1)
    return amplitude * np.sqrt(2 / 3) * waves
