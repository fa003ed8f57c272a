"""The skeleton without skin, against the hand model; joint angles in torch, against numpy."""

import numpy as np
import torch

from fourdhands.geometry.rotation import matrix_from_axis_angle
from fourdhands.hands.anatomy import (
    JointAxes,
    angles_from_rotations,
    pose_bank,
    rotations_from_angles,
)
from fourdhands.hands.assets import load_assets
from fourdhands.hands.kinematics import FingerChains, JointAngles
from fourdhands.hands.mano import HandModel
from fourdhands.skeleton import FINGERTIPS, Side
from fourdhands.structures import HandState


def test_joints_are_the_hand_models() -> None:
    generator = torch.Generator().manual_seed(0)
    poses = matrix_from_axis_angle(0.5 * torch.randn(6, 2, 15, 3, generator=generator))
    state = HandState(
        torch.eye(3).expand(6, 2, 3, 3), poses, torch.zeros(6, 2, 10), torch.zeros(6, 2, 3)
    )
    true = HandModel.open()(state).relative_to_root().joints
    inner = [j for j in range(21) if j not in FINGERTIPS]
    for side in Side:
        found = FingerChains(load_assets()[side])(poses[:, side])
        torch.testing.assert_close(found[:, inner], true[:, side, inner], atol=1e-5, rtol=0)
        away = (found - true[:, side])[:, list(FINGERTIPS)].norm(dim=-1)
        assert away.max() < 0.012  # tips are skin, which also bends


def test_angles_are_those_of_the_anatomy() -> None:
    for assets in load_assets():
        axes = JointAxes.from_assets(assets)
        joints, angles = JointAngles(axes), pose_bank()[:50]
        rotations = rotations_from_angles(angles, axes)
        tensor = joints.rotations(torch.from_numpy(angles).float())
        np.testing.assert_allclose(tensor.numpy(), rotations, atol=2e-6)
        again = joints.angles(torch.from_numpy(rotations).float()).numpy()
        np.testing.assert_allclose(again, angles_from_rotations(rotations, axes), atol=2e-5)
        np.testing.assert_allclose(again, angles, atol=2e-5)
