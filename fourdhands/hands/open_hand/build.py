"""Make the open hand: measurements, skin, weights, shapes, correctives, joints, poses, mirror.

Read this first: `build_open_hand` is the recipe, the modules beside it are its steps. The result is
shipped with the package; `fourdhands hands build` makes it again, the same every time.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fourdhands.hands.anatomy import JointAxes, axis_angle_from_angles
from fourdhands.hands.assets import NUM_HAND_JOINTS, ManoAssets
from fourdhands.hands.mano import HandModel
from fourdhands.hands.open_hand.correctives import pose_directions
from fourdhands.hands.open_hand.flesh import flesh_of
from fourdhands.hands.open_hand.measurements import (
    WRIST_IN_MANO,
    Floats,
    HandMeasurements,
    skeleton_of,
)
from fourdhands.hands.open_hand.pose_bank import build_pose_bank
from fourdhands.hands.open_hand.regressor import joint_regressor
from fourdhands.hands.open_hand.shapes import shape_directions
from fourdhands.hands.open_hand.skinning import neighbour_average, skin_weights, smooth_weights
from fourdhands.hands.open_hand.surface import skin_mesh
from fourdhands.skeleton import MANO_PARENTS, NUM_VERTICES, WRIST_RING, Side

POSES_IN_BANK: Final = 4096
_SEED: Final = 0
_METRES: Final = 1e-3
_MIRROR: Final = np.array((-1.0, 1.0, 1.0))


def build_open_hand(
    poses: int = POSES_IN_BANK, report: Callable[[str], None] = print
) -> tuple[tuple[ManoAssets, ManoAssets], Floats]:
    """Make both hands and the bank of clean poses.

    Args:
        poses: Size of the bank.
        report: Told the steps as they begin.

    Returns:
        Assets of the right and the left hand, and (poses, 15, 3) joint angles in radians.
    """
    report("skin: distance field to 778 vertices")
    hand = HandMeasurements()
    bones = skeleton_of(hand)
    flesh = flesh_of(hand, bones)
    vertices, faces = skin_mesh(flesh, bones)
    averaging = neighbour_average(faces, NUM_VERTICES)
    rim = np.isin(np.arange(NUM_VERTICES), WRIST_RING)
    weights = smooth_weights(skin_weights(vertices, hand, bones, flesh), averaging)
    report("shapes and joints")
    shapes, joint_shapes = shape_directions(vertices, weights, hand, averaging, rim)
    regressor = joint_regressor(vertices, bones.joints, shapes, joint_shapes, weights)
    right = ManoAssets(
        v_template=_float32((vertices + WRIST_IN_MANO) * _METRES),
        faces=faces.astype(np.int64),
        shapedirs=_float32(shapes.transpose(1, 2, 0) * _METRES),
        posedirs=np.zeros((NUM_VERTICES, 3, 9 * NUM_HAND_JOINTS), np.float32),
        J_regressor=_float32(regressor),
        weights=_float32(weights),
        parents=np.array(MANO_PARENTS),
        hands_mean=np.zeros(3 * NUM_HAND_JOINTS, np.float32),
        hands_components=np.eye(3 * NUM_HAND_JOINTS, dtype=np.float32),
        side=Side.RIGHT,
        source="open",
    )
    report("pose correctives")
    axes = JointAxes.from_assets(right)
    directions = pose_directions(
        vertices, right.faces, weights, hand, bones, flesh, axes, averaging, rim
    )
    right = replace(right, posedirs=_float32(directions * _METRES))
    report(f"bank of {poses} poses free of self-piercing")
    model = HandModel((right, mirrored(right)))
    bank = build_pose_bank(model, poses, np.random.default_rng(_SEED))
    mean, components = _principal_poses(axis_angle_from_angles(bank, axes))
    right = replace(right, hands_mean=_float32(mean), hands_components=_float32(components))
    return (right, mirrored(right)), bank


def mirrored(hand: ManoAssets) -> ManoAssets:
    """The other hand, reflected in x; exact, as only signs change."""
    rotation = np.tile(np.outer(_MIRROR, _MIRROR).ravel(), NUM_HAND_JOINTS)  # M R M
    axis_angle = np.tile(_MIRROR * np.prod(_MIRROR), NUM_HAND_JOINTS)
    return replace(
        hand,
        v_template=_float32(hand.v_template * _MIRROR),
        faces=np.ascontiguousarray(hand.faces[:, ::-1]),
        shapedirs=_float32(hand.shapedirs * _MIRROR[:, None]),
        posedirs=_float32(hand.posedirs * _MIRROR[:, None] * rotation),
        hands_mean=_float32(hand.hands_mean * axis_angle),
        hands_components=_float32(hand.hands_components * axis_angle),
        side=Side(1 - hand.side),
    )


def _principal_poses(poses: Floats) -> tuple[Floats, Floats]:
    """Mean and principal components of axis-angle poses, as MANO's `hands_mean` and components."""
    flat = poses.reshape(len(poses), -1)
    mean = flat.mean(0)
    _, _, components = np.linalg.svd(flat - mean, full_matrices=False)
    largest = np.take_along_axis(components, np.abs(components).argmax(1)[:, None], axis=1)
    return mean, components * np.sign(largest)  # a component's sign is arbitrary: fix it


def _float32(array: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, dtype=np.float32)
