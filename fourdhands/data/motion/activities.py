"""What a hand does for some seconds: functions of time that give joint angles.

Everything random is drawn when an activity is made, nothing when it is evaluated: the same
activity can be filmed at any frame rate.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline

from fourdhands.data.synthetic.motion import minimum_jerk
from fourdhands.hands.anatomy import POSE_LIMITS, named_poses, pose_bank
from fourdhands.hands.assets import NUM_HAND_JOINTS
from fourdhands.skeleton import MANO_FINGERS

Array = NDArray[np.float64]
Activity = Callable[[Array], Array]
"""Times (F,) in seconds from the activity's start, to joint angles (F, 15, 3) in radians."""

FINGER_OF_JOINT: Final = np.repeat(np.arange(5), 3)
"""Place of each joint's finger in `MANO_FINGERS`."""
THUMB: Final = MANO_FINGERS.index("thumb")
_ACROSS: Final = np.array([MANO_FINGERS.index(f) for f in ("index", "middle", "ring", "little")])
GRASPS: Final = ("cylinder", "ball", "cup", "hook", "claw", "pinch index", "pinch middle", "fist")
OPEN: Final = ("open", "relaxed", "flat", "spread", "cascade", "ball")
WANDER_SPAN: Final = (-5.0, 25.0)
_FASTEST: Final = 1.6  # Hz, of whole-finger rhythms; single fingers tap faster


def draw_pose(rng: np.random.Generator) -> Array:
    """A key pose: a gesture, a pose of the bank, a mixture, or a pose for each finger."""
    named = list(named_poses().values())
    kind = rng.choice(4, p=(0.4, 0.25, 0.2, 0.15))
    if kind == 0:
        pose = named[rng.integers(len(named))].copy()
    elif kind == 1:
        pose = pose_bank()[rng.integers(len(pose_bank()))].copy()
    elif kind == 2:
        chosen = rng.choice(len(named), 3, replace=False)
        pose = np.tensordot(rng.dirichlet((1, 1, 1)), np.stack(named)[chosen], 1)
    else:
        chosen = rng.integers(len(named), size=5)
        pose = np.stack([named[chosen[f]][k] for k, f in enumerate(FINGER_OF_JOINT)])
    return vary(rng, pose)


def vary(rng: np.random.Generator, pose: Array, degrees: float = 4.0) -> Array:
    """Nobody shows a pose twice alike: fingers bend a little more or less, each as a whole."""
    bend = rng.normal(0, degrees, 5)[FINGER_OF_JOINT] + rng.normal(0, degrees / 2, NUM_HAND_JOINTS)
    varied = pose.copy()
    varied[:, 0] += np.radians(bend)
    varied[::3, 1] += np.radians(rng.normal(0, degrees / 2, 5))
    return within_limits(varied)


def within_limits(angles: Array) -> Array:
    """Joint angles (..., 15, 3) moved to the nearest that joints allow."""
    return np.clip(angles, POSE_LIMITS[..., 0], POSE_LIMITS[..., 1])


def reaches(keys: Array, starts: Array, lengths: Array) -> Activity:
    """Key poses one after the other, each reached on a minimum-jerk path.

    Movements are superposed, so that one may begin before the last has ended, and the way between
    is still smooth (Flash and Henis 1991).

    Args:
        keys: (K, 15, 3) radians.
        starts: (K - 1, 5) seconds at which each finger sets off for the next key.
        lengths: (K - 1, 5) seconds that it takes.
    """
    steps = np.diff(keys, axis=0)
    starts, lengths = starts[:, FINGER_OF_JOINT], lengths[:, FINGER_OF_JOINT]

    def pose(times: Array) -> Array:
        phase = np.clip((times[:, None, None] - starts) / lengths, 0, 1)
        return keys[0] + np.einsum("fkj,kjc->fjc", minimum_jerk(phase), steps)

    return pose


def gesticulate(rng: np.random.Generator, duration: float) -> Activity:
    """Gestures from a small repertoire, with holds, often in a rhythm and by way of a rest."""
    repertoire = [draw_pose(rng) for _ in range(rng.integers(1, 4))]
    rest = vary(rng, named_poses()[rng.choice(OPEN)])
    returns, pace = rng.random() < 0.6, rng.uniform(0.55, 1.5)
    wait, regular = rng.exponential(0.35), rng.random() < 0.6
    keys, starts, lengths, now = [rest], [], [], rng.uniform(-0.3, 0.3)
    while now < duration:
        at_rest = keys[-1] is rest
        shown = vary(rng, repertoire[rng.integers(len(repertoire))], 1)
        keys.append(rest if returns and not at_rest else shown)
        length = pace * (rng.uniform(0.95, 1.05) if regular else rng.uniform(0.8, 1.3))
        starts.append(now + _staggered(rng))
        lengths.append(np.full(5, length) * rng.uniform(0.9, 1.1, 5))
        hold = rng.exponential(0.35) if rng.random() < 0.7 else rng.uniform(-0.3, 0) * length
        now += length + (wait * rng.uniform(0.85, 1.15) if regular else hold)
    return reaches(np.stack(keys), np.stack(starts), np.stack(lengths))


def grasp(rng: np.random.Generator, duration: float) -> Activity:
    """Open wider than the object, close on it, hold, let go; again and again, at one's own pace."""
    rest = vary(rng, named_poses()["relaxed"])
    closed = vary(rng, named_poses()[rng.choice(GRASPS)])
    spread = vary(rng, named_poses()["spread"])
    wide = within_limits(closed + rng.uniform(0.5, 1.3) * (spread - closed))
    opening, closing, leaving = rng.uniform(0.45, 1.1, 3)
    hold, pause = rng.uniform(0.1, 1.2), rng.uniform(0, 0.5)
    keys, starts, lengths, now = [rest], [], [], rng.uniform(-1, 0.3)
    while now < duration:
        target = vary(rng, closed, 1)
        for key, length, wait in (
            (wide, opening, 0.0),
            (target, closing, hold * rng.uniform(0.85, 1.15)),
            (rest, leaving, pause * rng.uniform(0.85, 1.15)),
        ):
            keys.append(key)
            starts.append(now + 0.4 * _staggered(rng))
            lengths.append(np.full(5, length) * rng.uniform(0.95, 1.05, 5))
            now += length * 0.95 + wait
    return reaches(np.stack(keys), np.stack(starts), np.stack(lengths))


def count(rng: np.random.Generator, duration: float) -> Activity:
    """Fingers stretched, or bent, one after the other at a steady pace, then all at once."""
    named = named_poses()
    bent, straight = vary(rng, named["fist"]), vary(rng, named[rng.choice(("open", "spread"))])
    order = np.array([THUMB, *_ACROSS]) if rng.random() < 0.5 else np.array([*_ACROSS, THUMB])
    if rng.random() < 0.3:
        order = order[::-1]
    beat, length = rng.uniform(0.4, 1.0), rng.uniform(0.3, 0.6)
    first, second = (bent, straight) if rng.random() < 0.6 else (straight, bent)
    keys, starts, lengths, now = [first], [], [], rng.uniform(-1, 0.3)
    while now < duration:
        for k in range(5):
            out = np.isin(FINGER_OF_JOINT, order[: k + 1])[:, None]
            keys.append(np.where(out, second, first))
            starts.append(np.full(5, now))
            lengths.append(np.full(5, length))
            now += beat * rng.uniform(0.95, 1.05)
        keys.append(first)
        starts.append(np.full(5, now))
        lengths.append(np.full(5, length))
        now += beat
    return reaches(np.stack(keys), np.stack(starts), np.stack(lengths))


def beat(rng: np.random.Generator, duration: float) -> Activity:
    """To and fro between two poses in a rhythm: opening and closing, waving, drumming, tapping.

    Each finger has its own amplitude and lag; the rhythm's speed and size drift.
    """
    base, other = draw_pose(rng), draw_pose(rng)
    rate = rng.uniform(0.3, _FASTEST)
    size, lag = rng.uniform(0.5, 1.0, 5), np.zeros(5)
    kind = rng.choice(3)
    if kind == 0:  # the whole hand
        lag = rng.normal(0, 0.03, 5)
    elif kind == 1:  # a wave through the fingers
        lag[_ACROSS] = np.arange(4) * rng.uniform(0.06, 0.25) * rng.choice((-1, 1))
    else:  # one or two fingers, from the knuckle above all; they may be faster
        size *= np.isin(np.arange(5), rng.choice(5, rng.integers(1, 3), replace=False))
        rate = rng.uniform(0.4, 1.6 * _FASTEST)
        other = base.copy()
        other[:, 0] += np.radians(np.tile((25, 12, 6), 5) * rng.choice((-1, 1)))
    swing = within_limits(base + size[FINGER_OF_JOINT, None] * (other - base)) - base
    swing /= max(1.0, rate * np.abs(swing).max() / np.radians(160))  # fingers are only so fast
    drift, swell = wander(rng, 1, 0.3), wander(rng, 1, 0.3)
    duty, start = rng.uniform(0.6, 1.0), rng.uniform(0, 1)
    slow, breathe = rng.uniform(0, 0.05), rng.uniform(0, 0.15)

    def pose(times: Array) -> Array:
        cycles = start + rate * times + slow * drift(times)[:, 0]
        phase = (cycles[:, None] - lag) % 1.0
        out = np.minimum(phase, 1 - phase) * 2  # 0 .. 1 .. 0
        progress = minimum_jerk(np.clip(out / duty, 0, 1)) * (1 + breathe * swell(times))
        return within_limits(base + progress[:, FINGER_OF_JOINT, None] * swing)

    return pose


def roam(rng: np.random.Generator, duration: float) -> Activity:
    """Smooth unrest without aim: synergies of the whole hand, and each finger for itself."""
    directions = np.stack([draw_pose(rng) - draw_pose(rng) for _ in range(3)])
    centre = draw_pose(rng)
    together, alone = rng.uniform(0, 0.5), np.radians(rng.uniform(0, 22))
    cutoff = rng.uniform(0.2, 0.9)
    synergies, fingers = wander(rng, 3, cutoff), wander(rng, 20, cutoff)
    bend = np.array((1.0, 0.9, 0.6))
    side = alone * rng.uniform(0.1, 0.4)

    def pose(times: Array) -> Array:
        angles = centre + together * np.einsum("fk,kjc->fjc", synergies(times), directions)
        own = fingers(times).reshape(len(times), 5, 4)
        flexion = own[..., 0, None] * bend + 0.5 * own[..., 1, None] * bend[::-1]
        angles[..., 0] += alone * flexion.reshape(len(times), -1)
        angles[:, ::3, 1] += side * own[..., 2]
        angles[:, THUMB * 3, 2] += side * own[:, THUMB, 3]
        return soft_limits(angles)

    return pose


def manipulate(rng: np.random.Generator, duration: float) -> Activity:
    """A grasp that works: small movements of the fingers about it, thumb against the others."""
    closed = vary(rng, named_poses()[rng.choice(GRASPS)])
    play = np.radians(rng.uniform(3, 14))
    rate = rng.uniform(0.3, 1.2)
    own, common = wander(rng, 15, rate), wander(rng, 2, rate)
    against = np.where(FINGER_OF_JOINT == THUMB, -1.0, 1.0)

    def pose(times: Array) -> Array:
        angles = closed + np.zeros((len(times), 1, 1))
        angles[..., 0] += play * (0.5 * own(times) + common(times)[:, :1] * against)
        angles[:, ::3, 1] += 0.5 * play * common(times)[:, 1:]
        return soft_limits(angles)

    return pose


ACTIVITIES: Final[dict[str, Callable[[np.random.Generator, float], Activity]]] = {
    "gesticulate": gesticulate,
    "grasp": grasp,
    "count": count,
    "beat": beat,
    "roam": roam,
    "manipulate": manipulate,
}


def wander(rng: np.random.Generator, channels: int, cutoff: float) -> Activity:
    """Smooth random signals (F, channels) of about unit variance, with few rates above the cutoff.

    Cubic splines with random coefficients; before and after `WANDER_SPAN` they hold still.

    Args:
        rng: Source of randomness.
        channels: How many, independent of each other.
        cutoff: Hz.
    """
    spacing = 0.5 / cutoff
    knots = np.arange(WANDER_SPAN[0] - 3 * spacing, WANDER_SPAN[1] + 4 * spacing, spacing)
    coefficients = 1.45 * rng.standard_normal((len(knots) - 4, channels))
    spline = BSpline(knots, coefficients, 3)
    return lambda times: np.asarray(spline(np.clip(times, *WANDER_SPAN)))


def soft_limits(angles: Array, border: float = 0.12) -> Array:
    """Bend what would leave the range of motion back into it, smoothly.

    Args:
        angles: (..., 15, 3) radians.
        border: share of the range at either end in which bending begins.
    """
    low, high = POSE_LIMITS[..., 0], POSE_LIMITS[..., 1]
    place = (angles - low) / (high - low) - 0.5
    inner = 0.5 - border
    beyond = np.maximum(np.abs(place) - inner, 0)
    bent = np.minimum(np.abs(place), inner) + border * np.tanh(beyond / border)
    return low + (high - low) * (0.5 + np.sign(place) * bent)


def _staggered(rng: np.random.Generator) -> Array:
    """Delays of the five fingers (5,) in seconds: together, or one after the other."""
    if rng.random() < 0.5:
        return rng.uniform(0, 0.05, 5)
    lags = np.zeros(5)
    lags[_ACROSS] = np.arange(4) * rng.uniform(0.02, 0.09)
    lags[THUMB] = rng.uniform(0, 0.2)
    return lags if rng.random() < 0.5 else lags.max() - lags
