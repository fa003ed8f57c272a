"""Generated hand motion: activities strung together, with tremor, for one hand or two.

Clip `index` of a seed is the same motion at any frame rate, and never depends on other clips.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fourdhands.data.motion.activities import (
    ACTIVITIES,
    Activity,
    soft_limits,
    wander,
    within_limits,
)
from fourdhands.data.synthetic.motion import minimum_jerk, tremor
from fourdhands.hands.anatomy import POSE_LIMITS
from fourdhands.skeleton import NUM_SIDES

Array = NDArray[np.float64]

MINGLE: Final = (0.4, 0.9)  # seconds in which one activity passes into the next
STRETCH: Final = (4.0, 10.0)  # seconds that an activity lasts
_MARGIN: Final = 0.01  # of the range of motion that stays unused at either end


@dataclass(frozen=True)
class ActivityShares:
    """How often each activity comes; the numbers are relative.

    Attributes:
        gesticulate: gestures with holds.
        grasp: opening, closing, holding, letting go.
        count: finger by finger.
        beat: rhythms: opening and closing, waving, drumming, tapping.
        roam: smooth unrest without aim.
        manipulate: small movements of the fingers about a grasp.
    """

    gesticulate: float = 0.18
    grasp: float = 0.16
    count: float = 0.04
    beat: float = 0.44
    roam: float = 0.1
    manipulate: float = 0.08

    def __post_init__(self) -> None:
        """Refuse shares that are no distribution."""
        shares = [getattr(self, entry.name) for entry in fields(self)]
        if min(shares) < 0 or sum(shares) <= 0:
            raise ValueError(
                f"activities are {shares}: none may be negative, one has to be positive"
            )


@dataclass(frozen=True)
class GeneratorConfig:
    """What generated motion is like.

    Attributes:
        seconds: length of a clip.
        activities: how often each activity comes.
        together: share of clips whose two hands do the same, at once or one after the other.
        tremor: degrees, root mean square of the unrest that never stops.
    """

    seconds: float = 10.0
    activities: ActivityShares = field(default_factory=ActivityShares)
    together: float = 0.4
    tremor: float = 0.15

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.seconds <= 0 or self.tremor < 0:
            raise ValueError(
                f"seconds is {self.seconds}, tremor {self.tremor}: the first has to be positive, "
                "the second at least 0"
            )
        if not 0 <= self.together <= 1:
            raise ValueError(f"together is {self.together}: a share lies between 0 and 1")


def generate_angles(
    config: GeneratorConfig, seed: tuple[int, ...], times: NDArray[np.floating[Any]]
) -> Array:
    """The fingers of both hands.

    Args:
        config: What motion is like.
        seed: Which clip; everything random depends on it alone.
        times: (F,) seconds, from 0 to `config.seconds`.

    Returns:
        (F, S, 15, 3) joint angles in radians, inside the joints' limits (`anatomy.POSE_LIMITS`).
    """
    rng = np.random.default_rng(seed)
    leading = _story(rng, config)
    if rng.random() < config.together:
        lag = rng.uniform(0, 0.1) if rng.random() < 0.7 else rng.uniform(0.2, 0.6)
        following: Activity = lambda at: leading(at - lag)  # noqa: E731
    else:
        following = _story(rng, config)
    stories = [leading, following]
    if rng.random() < 0.5:
        stories.reverse()
    times = np.asarray(times, np.float64)
    return np.stack([_live(rng, config, story)(times) for story in stories], axis=1)


def _story(rng: np.random.Generator, config: GeneratorConfig) -> Activity:
    """Activities one after the other, each passing smoothly into the next."""
    shares = np.array([getattr(config.activities, name) for name in ACTIVITIES])
    makers = list(ACTIVITIES.values())
    starts, scenes = [], []
    now = -rng.uniform(0.5, STRETCH[0])
    while now < config.seconds:
        length = rng.uniform(*STRETCH)
        maker = makers[int(rng.choice(len(makers), p=shares / shares.sum()))]
        starts.append(now)
        scenes.append(maker(rng, length + MINGLE[1]))
        now += length
    lengths = rng.uniform(*MINGLE, len(starts))

    def pose(times: Array) -> Array:
        angles = scenes[0](times - starts[0])
        for start, scene, length in zip(starts[1:], scenes[1:], lengths[1:], strict=True):
            share = minimum_jerk(np.clip((times - start) / length, 0, 1))[:, None, None]
            if share.any():
                angles = (1 - share) * angles + share * scene(times - start)
        return angles

    return pose


def _live(rng: np.random.Generator, config: GeneratorConfig, story: Activity) -> Activity:
    """One hand of one person: a posture of its own, play in the joints, pace, tremor."""
    posture = np.zeros((15, 3))
    posture[:, 0] = np.radians(rng.normal(0, 3, 15))
    play, pace = wander(rng, 45, 0.3), wander(rng, 1, 0.15)
    loose = np.radians(rng.uniform(0.2, 1.2))
    offset = rng.normal(0, np.radians(0.8), (15, 3))
    hurry, tremor_seed = rng.uniform(0, 0.2), rng.integers(2**32)
    gap = _MARGIN * (POSE_LIMITS[..., 1] - POSE_LIMITS[..., 0])

    def pose(times: Array) -> Array:
        angles = story(times + hurry * pace(times)[:, 0]) + posture + offset
        angles = angles + loose * play(times).reshape(-1, 15, 3)
        unrest = tremor(
            np.random.default_rng(tremor_seed), times, 15, np.radians(config.tremor), 8.0
        )
        angles[..., 0] += unrest
        angles = soft_limits(within_limits(angles), 0.06)
        return np.clip(angles, POSE_LIMITS[..., 0] + gap, POSE_LIMITS[..., 1] - gap)

    return pose


assert NUM_SIDES == 2
