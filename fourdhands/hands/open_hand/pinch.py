"""Inverse kinematics of the pinch: bring the thumb's pulp and a finger's pulp together."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fourdhands.hands.anatomy import POSE_LIMITS, JointAxes, rotations_from_angles
from fourdhands.hands.assets import ManoAssets
from fourdhands.skeleton import FINGERS, FINGERTIP_VERTICES, MANO_FINGERS, MANO_PARENTS

Floats = NDArray[np.floating[Any]]

_ITERATIONS: Final = 40
_DAMPING: Final = 1e-3
_STAY: Final = 2e-3  # metres of pulp distance that a radian away from the start is worth
_FACING: Final = 1e-3  # metres that pulps which do not face each other are worth
_STEP: Final = 1e-4  # radians, finite differences
_PULP_BACK: Final = 0.011  # metres from the fingertip back to the middle of the pulp
# Free angles: all three of the thumb's base and flexions of its other joints; flexions of the
# finger and its abduction. (joint in the chain, axis)
_THUMB_FREEDOMS: Final = ((0, 0), (0, 1), (0, 2), (1, 0), (2, 0))
_FINGER_FREEDOMS: Final = ((0, 0), (1, 0), (2, 0), (0, 1))


def pinch(
    start: Floats, fingers: list[str], clearance: float, assets: ManoAssets, axes: JointAxes
) -> Floats:
    """Move thumb and one finger of each pose until their pulps meet, face to face.

    Damped least squares on the distance and the normals of two skin points, with a weak wish to
    stay at the start.

    Args:
        start: (N, 15, 3) joint angles, radians.
        fingers: For each pose, the finger that meets the thumb.
        clearance: Metres left between the pulps.
        assets: The right hand.
        axes: Its joint axes.

    Returns:
        (N, 15, 3) joint angles within the limits.
    """
    angles = start.copy()
    pulps, outward = (
        np.stack(x) for x in zip(*(_pulp(assets, axes, f) for f in FINGERS), strict=True)
    )
    freedoms = np.array([_freedoms(finger) for finger in fingers])  # (N, 9, 2)
    rows = np.arange(len(angles))
    columns = (rows[:, None], freedoms[..., 0], freedoms[..., 1])
    least, greatest = (POSE_LIMITS[freedoms[..., 0], freedoms[..., 1], k] for k in (0, 1))
    chosen = np.array([FINGERS.index(finger) for finger in fingers])

    def apart(trial: Floats) -> Floats:
        points, normals = _posed(trial, pulps, outward, assets, axes)
        thumb, finger = normals[:, 0], normals[rows, chosen]
        gap = points[rows, chosen] - points[:, 0] - clearance * thumb
        return np.concatenate([gap, _FACING * (thumb + finger)], axis=1)

    for _ in range(_ITERATIONS):
        residual = np.concatenate([apart(angles), _STAY * (angles - start)[columns]], axis=1)
        jacobian = np.zeros((len(angles), residual.shape[1], freedoms.shape[1]))
        for k in range(freedoms.shape[1]):
            moved = angles.copy()
            moved[rows, freedoms[:, k, 0], freedoms[:, k, 1]] += _STEP
            jacobian[:, :6, k] = (apart(moved) - residual[:, :6]) / _STEP
            jacobian[:, 6 + k, k] = _STAY
        transposed = jacobian.swapaxes(1, 2)
        normal_matrix = transposed @ jacobian + _DAMPING**2 * np.eye(freedoms.shape[1])
        step = np.linalg.solve(normal_matrix, transposed @ residual[..., None])[..., 0]
        angles[columns] = np.clip(angles[columns] - np.clip(step, -0.2, 0.2), least, greatest)
    return angles


def _freedoms(finger: str) -> list[tuple[int, int]]:
    chains = (("thumb", _THUMB_FREEDOMS), (finger, _FINGER_FREEDOMS))
    return [(3 * MANO_FINGERS.index(f) + joint, axis) for f, free in chains for joint, axis in free]


def _pulp(assets: ManoAssets, axes: JointAxes, finger: str) -> tuple[Floats, Floats]:
    """Skin point in the middle of a finger's pulp and its outward normal, at rest; (3,) each."""
    end = 3 * MANO_FINGERS.index(finger) + 2
    bone = -axes.twist[end]
    palmar = np.cross(axes.flexion[end], bone)
    tip = assets.v_template[FINGERTIP_VERTICES[FINGERS.index(finger)]]
    offset = assets.v_template - (tip - _PULP_BACK * bone)
    across = offset - np.outer(offset @ palmar, palmar)
    near = np.linalg.norm(across, axis=1) < 0.006
    pulp = assets.v_template[near][np.argmax((offset @ palmar)[near])].astype(np.float64)
    slanted = palmar + 0.5 * bone  # a pulp rounds towards the tip
    return pulp, slanted / np.linalg.norm(slanted)


def _posed(
    angles: Floats, pulps: Floats, outward: Floats, assets: ManoAssets, axes: JointAxes
) -> tuple[Floats, Floats]:
    """Pulps and normals carried by the end bones, wrist fixed: (N, 5, 3) each."""
    rotations = rotations_from_angles(angles, axes)
    rest = assets.joints.astype(np.float64)
    turned = np.zeros((len(angles), 16, 3, 3))
    origin = np.zeros((len(angles), 16, 3))
    turned[:, 0], origin[:, 0] = np.eye(3), rest[0]
    for joint in range(1, 16):
        parent = MANO_PARENTS[joint]
        turned[:, joint] = turned[:, parent] @ rotations[:, joint - 1]
        origin[:, joint] = origin[:, parent] + turned[:, parent] @ (rest[joint] - rest[parent])
    ends = [3 * MANO_FINGERS.index(finger) + 3 for finger in FINGERS]
    points = origin[:, ends] + np.einsum("nfij,fj->nfi", turned[:, ends], pulps - rest[ends])
    return points, np.einsum("nfij,fj->nfi", turned[:, ends], outward)
