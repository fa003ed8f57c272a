"""Pose correctives: what skinning loses in volume at a bent joint is given back.

Linear blend skinning thins a bent joint and folds the skin inside the bend through itself. Here the
cones of the distance field are carried along with the bones; the skinned vertices are put onto the
field's surface, swollen to the volume at rest and kept on their own side of the bend. That move,
pulled back to the rest pose, is fitted linearly in R - I, joint by joint: nine numbers each, as
MANO's pose blend shapes.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial.transform import Rotation

from fourdhands.hands.anatomy import JointAxes
from fourdhands.hands.mano import WRIST_CAP
from fourdhands.hands.open_hand.field import PALM, Flesh, project
from fourdhands.hands.open_hand.measurements import Floats, HandMeasurements, Skeleton, unit
from fourdhands.hands.open_hand.skinning import blend, bone_transforms, skin_weights
from fourdhands.skeleton import MANO_FINGERS, MANO_PARENTS, NUM_MANO_JOINTS

_FLEXIONS: Final = np.radians((-15, 0, 15, 30, 45, 60, 75, 90, 100))
_THUMB_FLEXIONS: Final = np.radians((-15, 0, 10, 20, 30, 40))
_ABDUCTIONS: Final = np.radians((-10, 0, 10))
_BASE_REACH: Final = 40.0  # millimetres around a joint that its correctives move
_JOINT_REACH: Final = 28.0
_LONGEST: Final = 4.0  # millimetres a corrective may move
_OWN_SIDE: Final = 0.25  # share of its rest distance that skin keeps from the bend's middle plane
_ROUNDS: Final = 3  # of swelling, unfolding and smoothing
_RIDGE: Final = 0.05
_LEAST: Final = 0.02  # millimetres; smaller entries are dropped and compress away


def pose_directions(
    vertices: Floats,
    faces: NDArray[np.int64],
    weights: Floats,
    hand: HandMeasurements,
    bones: Skeleton,
    flesh: Flesh,
    axes: JointAxes,
    averaging: sparse.csr_matrix,
    rim: NDArray[np.bool_],
) -> Floats:
    """Fit the pose blend shapes.

    Args:
        vertices: (V, 3) at rest, millimetres.
        faces: (F, 3).
        weights: (V, 16) skinning.
        hand: The mean hand; `bones` and `flesh` are its own.
        bones: Skeleton at rest.
        flesh: Distance field at rest.
        axes: Joint axes.
        averaging: Neighbour average of the mesh.
        rim: (V,) vertices that never move.

    Returns:
        (V, 3, 135) millimetres per entry of R - I, joints 1..15.
    """
    cone_weights = _cone_weights(hand, bones, flesh)
    closed = np.vstack([faces, WRIST_CAP])
    volume = enclosed_volume(vertices, closed)
    directions = np.zeros((len(vertices), 3, 9 * (NUM_MANO_JOINTS - 1)))
    for k in range(NUM_MANO_JOINTS - 1):
        reach = _BASE_REACH if k % 3 == 0 else _JOINT_REACH
        nearness = np.linalg.norm(vertices - bones.joints[k + 1], axis=1) / reach
        nearness = np.where(rim, 0, np.maximum(1 - nearness**2, 0) ** 2)
        near = nearness > 0
        features, moves = [], []
        for rotation in _training_rotations(k, axes):
            rotations = np.tile(np.eye(3), (NUM_MANO_JOINTS, 1, 1))
            rotations[k + 1] = rotation
            turned, moved = bone_transforms(bones.joints, rotations)
            matrix, offset = blend(weights, turned, moved)
            posed = np.einsum("vab,vb->va", matrix, vertices) + offset
            target = posed.copy()
            target[near] = project(posed[near], _carry(flesh, cone_weights, turned, moved), steps=3)
            for _ in range(_ROUNDS):
                target += _swelling(target, closed, nearness, volume)
                target[near] = _unfold(target[near], vertices[near], k, bones, turned, moved)
                move = np.clip(target - posed, -_LONGEST, _LONGEST)
                move = np.where(near[:, None], (move + averaging @ move) / 2, 0)
                target = posed + move
            features.append((rotation - np.eye(3)).ravel())
            moves.append(np.linalg.solve(matrix + 1e-6 * np.eye(3), move[..., None]).ravel())
        x, y = np.array(features), np.array(moves)
        fit = np.linalg.solve(x.T @ x + _RIDGE * np.eye(9), x.T @ y)
        directions[:, :, 9 * k : 9 * k + 9] = fit.T.reshape(len(vertices), 3, 9)
    return np.where(np.abs(directions) < _LEAST, 0, directions)


def enclosed_volume(vertices: Floats, closed_faces: NDArray[np.int64]) -> float:
    """Volume inside a closed mesh, in cubic units of the vertices."""
    a, b, c = (vertices[closed_faces[:, k]] for k in range(3))
    return float(np.einsum("fa,fa->", a, np.cross(b, c)) / 6)


def _swelling(
    target: Floats, closed_faces: NDArray[np.int64], nearness: Floats, volume: float
) -> Floats:
    """Move along the normals near the joint that brings the volume back."""
    a, b, c = (target[closed_faces[:, k]] for k in range(3))
    areas = np.zeros_like(target)  # vector areas of the vertices
    for k in range(3):
        np.add.at(areas, closed_faces[:, k], np.cross(b - a, c - a) / 6)
    sizes = np.linalg.norm(areas, axis=1)
    height = (volume - enclosed_volume(target, closed_faces)) / (nearness * sizes).sum()
    return (height * nearness / sizes)[:, None] * areas


def _training_rotations(k: int, axes: JointAxes) -> list[Floats]:
    """Rotations of finger joint k: flexed over its range, base joints spread as well."""
    thumb_base = k == 3 * MANO_FINGERS.index("thumb")
    return [
        (
            Rotation.from_rotvec(flexion * axes.flexion[k])
            * Rotation.from_rotvec(abduction * axes.abduction[k])
        ).as_matrix()
        for flexion in (_THUMB_FLEXIONS if thumb_base else _FLEXIONS)
        for abduction in (_ABDUCTIONS if k % 3 == 0 else (0.0,))
    ]


def _unfold(
    target: Floats, rest: Floats, k: int, bones: Skeleton, turned: Floats, moved: Floats
) -> Floats:
    """Keep skin on its side of the plane that halves the bend, so that a crease cannot cross it."""
    joint, parent = k + 1, MANO_PARENTS[k + 1]
    chain, bone = divmod(k, 3)
    child_axis = bones.bones[chain, bone]
    parent_axis = bones.bones[chain, bone - 1] if bone else _base_axis(bones, chain)
    before = (rest - bones.joints[joint]) @ unit(parent_axis + child_axis)
    normal = unit(turned[parent] @ parent_axis + turned[joint] @ child_axis)
    centre = turned[joint] @ bones.joints[joint] + moved[joint]
    after = (target - centre) @ normal
    lacking = np.maximum(_OWN_SIDE * np.abs(before) - np.sign(before) * after, 0)
    return target + (np.sign(before) * lacking)[:, None] * normal


def _base_axis(bones: Skeleton, chain: int) -> Floats:
    """Direction of the metacarpal (of the thumb: of its own first bone, it has no bone before)."""
    finger = MANO_FINGERS[chain]
    if finger == "thumb":
        return bones.bones[chain, 0]
    return unit(bones.joints[3 * chain + 1] - bones.carpus[finger])


def _carry(flesh: Flesh, cone_weights: Floats, turned: Floats, moved: Floats) -> Flesh:
    """Pose the cones: both ends are skinned, the squeezed direction turns with the near end."""
    matrix, offset = blend(cone_weights.reshape(-1, NUM_MANO_JOINTS), turned, moved)
    ends = np.einsum("pab,pb->pa", matrix, flesh.ends.reshape(-1, 3)) + offset
    near = matrix.reshape(-1, 2, 3, 3)[:, 0]
    left, _, right = np.linalg.svd(near)
    up = np.einsum("nab,nb->na", left @ right, flesh.up)
    return flesh.moved(ends.reshape(-1, 2, 3), up)


def _cone_weights(hand: HandMeasurements, bones: Skeleton, flesh: Flesh) -> Floats:
    """Bones of each cone's two ends, (N, 2, 16): rigid in fingers, skinned in the palm."""
    ends = flesh.ends.reshape(-1, 3)
    group = np.repeat(flesh.group, 2)
    weights = skin_weights(ends, hand, bones, flesh)
    for chain, finger in enumerate(MANO_FINGERS):
        joints, along = bones.chain(finger), bones.bones[chain]
        for row in np.flatnonzero(group == chain):
            share = [_past(ends[row] - joints[k], unit(along[k - 1] + along[k])) for k in (1, 2)]
            weights[row] = 0
            weights[row, 3 * chain + 1 : 3 * chain + 4] = (
                1 - share[0],
                share[0] * (1 - share[1]),
                share[0] * share[1],
            )
    assert len(MANO_FINGERS) == PALM
    return weights.reshape(-1, 2, NUM_MANO_JOINTS)


def _past(offset: Floats, across: Floats) -> Any:
    """Does a cone's end lie past a joint? Half, where it lies at the joint itself."""
    if np.linalg.norm(offset) < 4.0:
        return 0.5
    return float(offset @ across > -0.5)
