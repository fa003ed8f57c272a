"""Skinning weights of the open hand, and linear blend skinning in numpy for building it.

A vertex belongs to a finger by the distance field, to a bone by the planes that halve the joints.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fourdhands.hands.open_hand.field import PALM, Flesh, group_distances
from fourdhands.hands.open_hand.measurements import (
    DISTAL,
    RADIAL,
    THUMB,
    Floats,
    HandMeasurements,
    Skeleton,
    unit,
)
from fourdhands.skeleton import MANO_FINGERS, MANO_PARENTS, NUM_MANO_JOINTS

Indices = NDArray[np.integer[Any]]

_SMOOTHING_ROUNDS: Final = 2
_LEAST_WEIGHT: Final = 0.015
_AFFINITY: Final = 1.2  # millimetres over which neighbouring fingers share a vertex
_REACH: Final = 11.0  # millimetres from a finger's flesh that its knuckle still moves
_THUMB_BASE: Final = 15.0  # half width of the thumb's base joint in the palm, millimetres


def skin_weights(points: Floats, hand: HandMeasurements, bones: Skeleton, flesh: Flesh) -> Floats:
    """Weights of the 16 bones at points near the skin, unsmoothed: (P, 3) to (P, 16)."""
    from_finger = group_distances(points, flesh)[:, :PALM]
    affinity = np.exp(-(from_finger - from_finger.min(1, keepdims=True)) / _AFFINITY)
    affinity /= affinity.sum(1, keepdims=True)
    weights = np.zeros((len(points), NUM_MANO_JOINTS))
    for k, finger in enumerate(MANO_FINGERS):
        chain, (first, second, third) = bones.chain(finger), bones.bones[k]
        radii = hand.radii[finger]
        if k == THUMB:
            base = _thumb_base(points, bones, from_finger)
            spread = (1.1 * radii[1], 0.95 * radii[2])
        else:
            crossed = _side((points - chain[0]) @ unit(first + DISTAL) - 2, 0.95 * radii[0])
            base = crossed * affinity[:, k] * (from_finger[:, k] < _REACH)
            spread = (0.95 * radii[1], 0.95 * radii[2])
        past_middle = _side((points - chain[1]) @ unit(first + second), spread[0])
        past_end = _side((points - chain[2]) @ unit(second + third), spread[1])
        weights[:, 3 * k + 1] = base * (1 - past_middle)
        weights[:, 3 * k + 2] = base * past_middle * (1 - past_end)
        weights[:, 3 * k + 3] = base * past_middle * past_end
    weights /= np.maximum(weights.sum(1, keepdims=True), 1)
    weights[:, 0] = 1 - weights[:, 1:].sum(1)
    return weights


def smooth_weights(weights: Floats, averaging: sparse.csr_matrix) -> Floats:
    """Smooth over the mesh, drop traces, and bring each vertex's sum back to one."""
    for _ in range(_SMOOTHING_ROUNDS):
        weights = (weights + averaging @ weights) / 2
    weights = np.where(weights < _LEAST_WEIGHT, 0, weights)
    return weights / weights.sum(1, keepdims=True)


def neighbour_average(faces: Indices, num_vertices: int) -> sparse.csr_matrix:
    """Operator that replaces each vertex by the mean of its neighbours."""
    ends = np.concatenate([faces[:, [k, (k + 1) % 3]] for k in range(3)])
    rows, columns = np.concatenate([ends, ends[:, ::-1]]).T
    links = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), (num_vertices,) * 2)
    links.data[:] = 1
    return sparse.csr_matrix(sparse.diags(1 / np.asarray(links.sum(1)).ravel()) @ links)


def bone_transforms(joints: Floats, rotations: Floats) -> tuple[Floats, Floats]:
    """Forward kinematics as rotation and translation of each bone.

    Args:
        joints: (16, 3) at rest.
        rotations: (16, 3, 3) of each joint against its parent.

    Returns:
        (16, 3, 3) and (16, 3): a rest point x of bone j goes to `turned[j] @ x + moved[j]`.
    """
    turned = np.zeros((NUM_MANO_JOINTS, 3, 3))
    posed = np.zeros((NUM_MANO_JOINTS, 3))
    turned[0], posed[0] = rotations[0], joints[0]
    for joint, parent in enumerate(MANO_PARENTS[1:], start=1):
        turned[joint] = turned[parent] @ rotations[joint]
        posed[joint] = posed[parent] + turned[parent] @ (joints[joint] - joints[parent])
    return turned, posed - np.einsum("jab,jb->ja", turned, joints)


def blend(weights: Floats, turned: Floats, moved: Floats) -> tuple[Floats, Floats]:
    """Linear blend of bone transforms: (P, 16) weights to (P, 3, 3) and (P, 3)."""
    return np.einsum("pj,jab->pab", weights, turned), weights @ moved


def _thumb_base(points: Floats, bones: Skeleton, from_finger: Floats) -> Floats:
    """The thumb's metacarpal moves the thenar, up to half way to the other metacarpals."""
    chain = bones.chain("thumb")
    to_thumb, along = _segment_distance(points, chain[0], chain[1])
    to_palm = np.minimum(
        *(
            _segment_distance(points, bones.carpus[f], bones.chain(f)[0])[0]
            for f in ("index", "middle")
        )
    )
    gate = _side(to_palm - to_thumb + 1, 13)
    own = _step((from_finger[:, :THUMB].min(1) - from_finger[:, THUMB]) / 6)
    gate = np.maximum(gate, own * _step((along - 0.5) / 0.4))
    across = unit(bones.bones[THUMB, 0] + 0.6 * (0.2 * DISTAL + RADIAL))
    return _side((points - chain[0]) @ across - 1, _THUMB_BASE) * gate


def _segment_distance(points: Floats, start: Floats, end: Floats) -> tuple[Floats, Floats]:
    """Distance to a segment and the share of it passed at the nearest point."""
    axis = end - start
    along = np.clip((points - start) @ axis / (axis @ axis), 0, 1)
    return np.linalg.norm(points - start - along[:, None] * axis, axis=1), along


def _side(offset: Floats, half_width: float) -> Floats:
    """0 behind a plane, 1 in front of it, smooth over `half_width` on both sides."""
    return _step((offset / half_width + 1) / 2)


def _step(value: Floats) -> Floats:
    value = np.clip(value, 0, 1)
    return value * value * (3 - 2 * value)
