"""The joint regressor: joints as sparse convex combinations of vertices near them."""

from typing import Final

import numpy as np
from scipy.optimize import nnls

from fourdhands.hands.open_hand.measurements import Floats
from fourdhands.skeleton import MANO_PARENTS

_CANDIDATES: Final = 64
_WRIST_CANDIDATES: Final = 70
_LEAST_CANDIDATES: Final = 20
_SHAPE_WEIGHT: Final = 4.0
_SUM_WEIGHT: Final = 200.0
_RIDGE: Final = 1.0


def joint_regressor(
    vertices: Floats,
    joints: Floats,
    shape_of_vertices: Floats,
    shape_of_joints: Floats,
    weights: Floats,
) -> Floats:
    """Fit non-negative weights with sum one, right for the mean hand and along every shape.

    Args:
        vertices: (V, 3) millimetres.
        joints: (16, 3) where the joints are.
        shape_of_vertices: (10, V, 3) displacements.
        shape_of_joints: (10, 16, 3) displacements.
        weights: (V, 16) skinning, which tells the vertices of a joint's own bones.

    Returns:
        (16, V).
    """
    regressor = np.zeros((len(joints), len(vertices)))
    for j, parent in enumerate(MANO_PARENTS):
        count = _CANDIDATES if j else _WRIST_CANDIDATES
        near = np.argsort(np.linalg.norm(vertices - joints[j], axis=1))[:count]
        own = near[weights[near, j] + weights[near, parent] > 0.55] if j else near
        near = own if len(own) > _LEAST_CANDIDATES else near
        moved = (
            (_SHAPE_WEIGHT * shape_of_vertices[:, near]).transpose(0, 2, 1).reshape(-1, len(near))
        )
        system = np.vstack(
            [
                vertices[near].T,
                moved,
                np.full((1, len(near)), _SUM_WEIGHT),
                _RIDGE * np.eye(len(near)),
            ]
        )
        target = np.concatenate(
            [
                joints[j],
                _SHAPE_WEIGHT * shape_of_joints[:, j].ravel(),
                [_SUM_WEIGHT],
                np.zeros(len(near)),
            ]
        )
        solution, _ = nnls(system, target)
        regressor[j, near] = solution / solution.sum()
    return regressor
