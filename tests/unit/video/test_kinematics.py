"""Inverse kinematics brings posed hands back from their joints."""

import numpy as np
import roma
import torch

from fourdhands.geometry.camera import project
from fourdhands.hands.anatomy import JointAxes, rotations_from_angles, sample_hand_angles
from fourdhands.hands.posing import HandSkeleton
from fourdhands.video.kinematics import SeenJoints, closed_form, fit_hands, fit_shape

SKELETON = HandSkeleton()
K = torch.tensor(((900.0, 0, 640), (0, 900, 360), (0, 0, 1)), dtype=torch.float64)


def posed(count: int, betas: torch.Tensor | None = None):
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    angles = sample_hand_angles(rng, 2 * count).reshape(count, 2, 15, 3)
    poses = torch.stack([
        torch.from_numpy(rotations_from_angles(angles[:, side], JointAxes.from_assets(assets)))
        for side, assets in enumerate(SKELETON.assets)
    ], 1)  # fmt: skip
    orientation = roma.random_rotmat((count, 2)).double()
    wrist = torch.randn(count, 2, 3).double() * 0.1 + torch.tensor((0, 0, 0.7)).double()
    betas = torch.zeros(count, 2, 10).double() if betas is None else betas.expand(count, 2, 10)
    return SKELETON(orientation, wrist, poses, betas).joints, orientation, poses


def seen_of(joints, scale: float = 0.8):
    relative = scale * (joints - joints[..., :1, :])
    # the detector looks straight at each hand
    ray = torch.nn.functional.normalize(joints.mean(-2), dim=-1)
    ahead = torch.tensor((0.0, 0.0, 1.0)).double().expand_as(ray)
    axis = torch.linalg.cross(ahead, ray)
    angle = torch.atan2(axis.norm(dim=-1), ray[..., 2])
    turned = roma.rotvec_to_rotmat(axis / axis.norm(dim=-1, keepdim=True) * angle[..., None])
    relative = relative @ turned
    return SeenJoints(
        project(joints, K), torch.ones(joints.shape[:-1]).double(), relative,
        torch.ones(joints.shape[:2], dtype=torch.bool),
    )  # fmt: skip


def test_hands_come_back_in_place_whatever_size_the_detector_makes_them():
    joints, _, _ = posed(12)
    hands, left = fit_hands(seen_of(joints), K, torch.zeros(2, 10), SKELETON)
    wrist = hands.transl + SKELETON.rest_joints(hands.betas)[..., 0, :]
    again = SKELETON(hands.global_orient, wrist, hands.hand_pose, hands.betas).joints
    assert left.median() < 0.01
    # perspective makes the detector's straight view of a hand a little wrong
    assert (again - joints).norm(dim=-1).mean(-1).median() < 0.008
    assert (again[..., 0, 2] / joints[..., 0, 2] - 1).abs().median() < 0.01


def test_the_closed_form_knows_palm_and_bones():
    joints, orientation, _poses = posed(12)
    found, fingers = closed_form(joints, torch.zeros(2, 10).double(), SKELETON)
    assert roma.rotmat_geodesic_distance(found, orientation).median() < 0.15
    wrist = joints[..., 0, :]
    again = SKELETON(found, wrist, fingers, torch.zeros(12, 2, 10).double()).joints
    assert (again - joints).norm(dim=-1).mean() < 0.012


def test_hands_that_are_not_seen_do_not_disturb_the_others():
    joints, _, _ = posed(6)
    seen = seen_of(joints)
    seen.scores[3, 1] = 0
    seen.has_3d[3, 1] = False
    seen.joints_2d[3, 1] = 0
    hands, left = fit_hands(seen, K, torch.zeros(2, 10), SKELETON)
    alone, _ = fit_hands(seen_of(joints), K, torch.zeros(2, 10), SKELETON)
    assert torch.isinf(left[3, 1])
    torch.testing.assert_close(hands.transl[3, 0], alone.transl[3, 0])
    assert all(value.isfinite().all() for value in vars(hands).values())


def test_shape_is_found_from_many_hands():
    betas = torch.zeros(10).double()
    betas[1], betas[2] = 1.5, -1.5
    joints, _, _ = posed(40, betas)
    seen, found = seen_of(joints, 1.0), torch.zeros(10).double()
    for _ in range(3):
        hands, _before = fit_hands(seen, K, found.expand(2, 10), SKELETON)
        found = fit_shape(seen, hands, K, SKELETON)
    assert found[1] > 0.2 and found[2] < -0.2
    _, after = fit_hands(seen, K, found.expand(2, 10), SKELETON)
    _, plain = fit_hands(seen, K, torch.zeros(2, 10), SKELETON)
    assert after.mean() < plain.mean()
