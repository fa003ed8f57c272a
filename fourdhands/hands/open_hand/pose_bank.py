"""A bank of poses that span the hand's range of motion and do not pierce themselves.

Made once, with the hand: finding a clean pose costs some ten tests of the whole mesh, so scenes
draw from the bank instead. Gestures, pinches found by inverse kinematics, mixtures of these, grips
and freely moving fingers are relaxed until nothing pierces.
"""

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from fourdhands.hands.anatomy import POSE_LIMITS, POSE_STEP, JointAxes, rotations_from_angles
from fourdhands.hands.gestures import GESTURES, PINCH_START, PINCHES
from fourdhands.hands.mano import HandModel
from fourdhands.hands.open_hand.pinch import pinch
from fourdhands.hands.open_hand.shapes import SHAPE_FACTORS
from fourdhands.hands.self_intersection import pierced_faces
from fourdhands.skeleton import FINGERS, MANO_FINGERS, NUM_BETAS, NUM_SIDES, Side
from fourdhands.structures import HandState

Floats = NDArray[np.floating[Any]]

SEED_NAMES: Final = (*GESTURES, *PINCHES)
_HALVINGS: Final = 6
_BATCH: Final = 256
_CLEARANCES: Final = (0.001, 0.003, 0.005, 0.008)  # metres between pinching pulps
_WAYS: Final = (0.0, 0.6, 1.0)
_FANS: Final = (1.0, 2.0, 3.0, 4.0)  # degrees
# Abduction and twist of the knuckles that set crowded fingers apart, per degree of the fan.
_FAN: Final = {"index": (1.0, -1.0), "ring": (0.7, 0.6), "little": (1.6, 1.2)}
# Clean has to be the mean hand, and one a standard deviation thicker: a margin for other shapes.
_SHAPES: Final = torch.tensor(
    [[0.0] * NUM_BETAS, [float(factor.name == "thickness") for factor in SHAPE_FACTORS]]
)
_THUMB_JOINTS: Final = 3 * MANO_FINGERS.index("thumb") + np.arange(3)
_PINCH_SHARES: Final = (0.4, 0.25, 0.2, 0.15)  # index, middle, ring, little


def build_pose_bank(model: HandModel, count: int, rng: np.random.Generator) -> Floats:
    """Make clean poses of the right hand.

    Args:
        model: The hand that has to be clean.
        count: How many; those of `SEED_NAMES` come first.
        rng: Decides the rest.

    Returns:
        (count, 15, 3) joint angles in radians, multiples of `POSE_STEP`.
    """
    test = CleanTest(model)
    with test.bar:
        starts = np.repeat(PINCH_START[None], len(PINCHES), axis=0)
        pinches = _meet(starts, list(PINCHES.values()), test)
        seeds = np.concatenate([list(GESTURES.values()), pinches])
        share = (count - len(seeds)) // 4
        candidates = [
            seeds,
            blended_poses(seeds, share, rng),
            pinching_poses(seeds, share, test, rng),
            gripping_poses(share, rng),
            free_poses(count - len(seeds) - 3 * share, rng),
        ]
        return relax_to_clean(np.concatenate(candidates), test)


def blended_poses(seeds: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Each digit somewhere between its places in two named poses; (count, 15, 3)."""
    first, second = (seeds[rng.integers(len(seeds), size=count)] for _ in range(2))
    whole_hand = rng.uniform(size=(count, 1, 1, 1))
    each_digit = rng.uniform(-0.2, 1.2, size=(count, 5, 1, 1)).clip(0, 1)
    weight = np.where(rng.uniform(size=(count, 1, 1, 1)) < 0.5, whole_hand, each_digit)
    digits = [pose.reshape(count, 5, 3, 3) for pose in (first, second)]
    return _jitter((digits[0] + weight * (digits[1] - digits[0])).reshape(count, 15, 3), rng)


def pinching_poses(
    seeds: Floats, count: int, test: "CleanTest", rng: np.random.Generator
) -> Floats:
    """Blends whose thumb meets one of the fingers; (count, 15, 3)."""
    start = blended_poses(seeds, count, rng)
    return _meet(start, list(rng.choice(FINGERS[1:], size=count, p=_PINCH_SHARES)), test)


def gripping_poses(count: int, rng: np.random.Generator) -> Floats:
    """All fingers close together by about the same amount, as around an object; (count, 15, 3)."""
    closure = rng.beta(1.1, 1.5, count)
    angles = np.zeros((count, 15, 3))
    for finger in FINGERS[1:]:
        base = 3 * MANO_FINGERS.index(finger)
        own = np.clip(0.7 * closure + 0.3 * rng.beta(1, 1.5, count), 0, 1)
        knuckle, middle = (np.clip(own + rng.normal(0, 0.14, count), 0, 1) for _ in range(2))
        angles[:, base, 0] = np.radians(-12 + 98 * knuckle)
        angles[:, base + 1, 0] = np.radians(2 + 98 * middle)
        angles[:, base, 1] = np.radians(rng.normal(0, 6, count)) * (1 - 0.7 * own)
    return _jitter(_with_thumb(_with_end_joints(angles, rng), closure, rng), rng)


def free_poses(count: int, rng: np.random.Generator) -> Floats:
    """Every finger on its own, held back by its neighbours' tendons; (count, 15, 3)."""
    flexion = rng.uniform(size=(count, 4, 2))  # index to little; knuckle and middle joint
    neighbours = (np.roll(flexion, 1, axis=1) + np.roll(flexion, -1, axis=1)) / 2
    flexion = 0.75 * flexion + 0.25 * neighbours
    angles = np.zeros((count, 15, 3))
    for k, finger in enumerate(FINGERS[1:]):
        base = 3 * MANO_FINGERS.index(finger)
        angles[:, base, 0] = np.radians(-38 + 140 * flexion[:, k, 0])
        angles[:, base + 1, 0] = np.radians(-12 + 124 * flexion[:, k, 1]).clip(0)
        straight = 1 - 0.75 * np.clip(angles[:, base, 0] / np.pi * 2, 0, 1)
        angles[:, base, 1] = np.radians(rng.uniform(-12, 18, count)) * straight
    angles = _with_end_joints(angles, rng)
    return _jitter(_with_thumb(angles, rng.uniform(size=count), rng), rng)


def relax_to_clean(candidates: Floats, test: "CleanTest") -> Floats:
    """Relax poses until nothing pierces, and no further: what pierced ends up touching.

    First the fingers, with the thumb out of their way: fanned a little where they crowd, then moved
    towards the open hand. Then the thumb is brought back in from its open place. Both moves are
    bisections in angle space.

    Args:
        candidates: (N, 15, 3) joint angles, radians.
        test: Of the hand that has to be clean.

    Returns:
        (N, 15, 3) joint angles within the limits, multiples of `POSE_STEP`.
    """
    candidates = np.clip(candidates, POSE_LIMITS[..., 0], POSE_LIMITS[..., 1])
    thumb = np.zeros((1, 15, 1), bool)
    thumb[:, _THUMB_JOINTS] = True
    fingers = _fan(np.where(thumb, 0, candidates), test)
    fingers = _bisect(fingers, ~thumb, test)
    return _bisect(np.where(thumb, candidates, fingers), thumb, test)


class CleanTest:
    """Counts pierced faces, for many poses of the right hand."""

    def __init__(self, model: HandModel) -> None:
        self.model = model
        self.right = right = model.assets[Side.RIGHT]
        self.axes = JointAxes.from_assets(right)
        self.faces = right.faces
        bones = right.weights.argmax(1)[right.faces]  # (F, 3)
        self.digits = np.where(bones.max(1) > 0, (bones.max(1) - 1) // 3, 5)
        self.bar = tqdm(desc="poses tested", unit=" poses")

    def __call__(self, angles: Floats) -> NDArray[np.int64]:
        """Pierced faces of each digit, the palm's last: (N, 15, 3) to (N, 6)."""
        pierced = np.zeros((len(angles), 6), np.int64)
        for start in range(0, len(angles), _BATCH):
            batch = slice(start, start + _BATCH)
            pose = torch.from_numpy(rotations_from_angles(angles[batch], self.axes)).float()
            for betas in _SHAPES:
                for k, vertices in enumerate(self._vertices(pose, betas), start=start):
                    if not pierced[k].any():
                        digits = self.digits[pierced_faces(vertices, self.faces)]
                        pierced[k] = np.bincount(digits, minlength=6)
            self.bar.update(len(pose))
        return pierced

    def _vertices(self, pose: Tensor, betas: Tensor) -> Floats:
        identity = torch.eye(3)
        state = HandState(
            global_orient=identity.expand(len(pose), NUM_SIDES, 3, 3),
            hand_pose=torch.stack([pose, identity.expand_as(pose)], dim=1),
            betas=betas.expand(len(pose), NUM_SIDES, -1),
            transl=torch.zeros(len(pose), NUM_SIDES, 3),
        )
        with torch.no_grad():
            return self.model(state).vertices[:, Side.RIGHT].numpy()


def _meet(start: Floats, fingers: list[str], test: CleanTest) -> Floats:
    """Pinch as closely as goes without piercing; fingers in the thumb's way are straightened."""
    met = start.copy()
    todo = np.arange(len(start))
    for openness in _WAYS:
        for clearance in _CLEARANCES:
            chosen = [fingers[k] for k in todo]
            opened = _straightened(start[todo], chosen, openness)
            met[todo] = _rounded(pinch(opened, chosen, clearance, test.right, test.axes))
            todo = todo[test(met[todo]).any(1)]
            if not len(todo):
                return met
    return met


def _straightened(angles: Floats, pinching: list[str], openness: float) -> Floats:
    """Straighten the fingers that take no part in a pinch by a share of their angles."""
    digits = angles.reshape(-1, 5, 3, 3).copy()
    idle = np.array([[f not in (finger, "thumb") for f in MANO_FINGERS] for finger in pinching])
    digits[idle] *= 1 - openness
    return digits.reshape(angles.shape)


def _rounded(angles: Floats) -> Floats:
    """Angles as the bank stores them; what is tested has to be what is stored."""
    return np.round(angles / POSE_STEP) * POSE_STEP


def _fan(wanted: Floats, test: CleanTest) -> Floats:
    """Spread the fingers of crowded poses by as few degrees as helps most."""
    wanted = _rounded(wanted)
    fan = np.zeros((15, 3))
    for finger, spread in _FAN.items():
        fan[3 * MANO_FINGERS.index(finger), 1:] = spread
    best, least = wanted.copy(), test(wanted).sum(1)
    crowded = np.flatnonzero(least)
    for degrees in _FANS:
        trial = wanted[crowded] + np.radians(degrees) * fan
        trial = np.clip(trial, POSE_LIMITS[..., 0], POSE_LIMITS[..., 1])
        trial = _rounded(trial)
        pierced = test(trial).sum(1)
        better = pierced < least[crowded]
        best[crowded[better]], least[crowded[better]] = trial[better], pierced[better]
        crowded = np.flatnonzero(least)
    return best


def _bisect(wanted: Floats, joints: NDArray[np.bool_], test: CleanTest) -> Floats:
    """Move only `joints` of the poses that pierce towards their open place."""
    wanted = _rounded(wanted)
    pierced = test(wanted)
    bad = pierced.any(1)
    if not bad.any():
        return wanted
    # Digits that are not pierced stay, unless the open place of the others alone does not help.
    involved = np.repeat(pierced[:, :5] > 0, 3, axis=1)[..., None] & joints
    involved[~involved.any((1, 2))] = joints
    clean = np.where(involved, 0, wanted)
    still = np.zeros(len(wanted), bool)
    still[bad] = test(clean[bad]).any(1)
    clean[still] = np.where(joints, 0, wanted)[still]
    target, open_place = wanted[bad], clean[bad]
    good, least, most = open_place, np.zeros(len(target)), np.ones(len(target))
    for _ in range(_HALVINGS):
        middle = (least + most) / 2
        trial = _rounded(open_place + middle[:, None, None] * (target - open_place))
        fits = ~test(trial).any(1)
        good = np.where(fits[:, None, None], trial, good)
        least, most = np.where(fits, middle, least), np.where(fits, most, middle)
    wanted[bad] = good
    return wanted


def _with_end_joints(angles: Floats, rng: np.random.Generator) -> Floats:
    """Couple the end joints: they flex about two thirds as far as the middle ones."""
    for finger in FINGERS[1:]:
        base = 3 * MANO_FINGERS.index(finger)
        angles[:, base + 2, 0] = 0.64 * angles[:, base + 1, 0]
        angles[:, base + 2, 0] += np.radians(rng.normal(0, 7, len(angles)))
    return angles


def _with_thumb(angles: Floats, closure: Floats, rng: np.random.Generator) -> Floats:
    """A thumb that opposes more the more the hand closes."""
    count = len(angles)
    opposed = np.clip(0.5 * closure + 0.5 * rng.beta(1.2, 1.5, count), 0, 1)
    base, knuckle, end = _THUMB_JOINTS
    angles[:, base, 0] = np.radians(-12 + 42 * opposed + rng.normal(0, 6, count))
    angles[:, base, 1] = np.radians(rng.normal(0, 10, count))
    angles[:, base, 2] = np.radians(-4 + 28 * opposed + rng.normal(0, 5, count))
    bend = np.clip(opposed[:, None] + rng.normal(0, 0.22, (count, 2)), 0, 1)
    angles[:, knuckle, 0] = np.radians(-6 + 50 * bend[:, 0])
    angles[:, end, 0] = np.radians(-14 + 76 * bend[:, 1])
    return angles


def _jitter(angles: Floats, rng: np.random.Generator) -> Floats:
    """Nobody makes a gesture twice the same: some degrees on every joint, least off the hinges."""
    spread = np.full((15, 3), 1.0)
    spread[:, 0] = 5.0
    spread[::3, 1:] = 3.0
    return angles + np.radians(rng.normal(size=angles.shape) * spread)
