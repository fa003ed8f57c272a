"""What refinement has to obey whatever its weights are."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from fourdhands.geometry.rotation import mirror_points
from fourdhands.refinement.camera_motion import CameraMotion
from fourdhands.refinement.refine import refine
from fourdhands.refinement.simulated import NO_ERRORS
from fourdhands.refinement.stages import RefinementConfig
from tests.helpers.refinement import clip, hand_model, mirrored

CONFIG = RefinementConfig(confidence=0.5)


def test_a_rigid_motion_and_rescaling_of_the_world_moves_the_result_and_nothing_else() -> None:
    one = clip(0, 32, "smooth")
    turn = Rotation.from_rotvec((0.3, -1.1, 0.7)).as_matrix()
    shift, factor = np.array((2.0, -1.0, 5.0)), 3.0
    # new world = factor (turn world + shift), in units of the trajectory
    poses = one.camera.cam_from_world.copy()
    poses[:, :3, :3] = one.camera.cam_from_world[:, :3, :3] @ turn.T
    poses[:, :3, 3] = factor * (one.camera.cam_from_world[:, :3, 3] - poses[:, :3, :3] @ shift)
    here = refine(one.observed, one.camera, config=CONFIG, assets=hand_model().assets)
    there = refine(one.observed, CameraMotion(poses), config=CONFIG, assets=hand_model().assets)
    torch.testing.assert_close(there.joints, here.joints, atol=1e-5, rtol=0)
    torch.testing.assert_close(there.world_scale * factor, here.world_scale, rtol=1e-4, atol=0)
    rotation = torch.from_numpy(turn)
    torch.testing.assert_close(
        there.hands_in_world.global_orient,
        rotation @ here.hands_in_world.global_orient,
        atol=1e-4,
        rtol=0,
    )


def test_the_mirrored_scene_gives_the_mirrored_result_with_hands_swapped() -> None:
    one = clip(1, 32, "jerky")
    sign = np.diag((-1.0, 1.0, 1.0, 1.0))
    camera = CameraMotion(sign @ one.camera.cam_from_world @ sign)
    here = refine(one.observed, one.camera, config=CONFIG, assets=hand_model().assets)
    there = refine(mirrored(one.observed), camera, config=CONFIG, assets=hand_model().assets)
    expected = mirror_points(here.joints.flip(2))
    torch.testing.assert_close(there.joints, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(there.world_scale, here.world_scale, rtol=1e-4, atol=0)


@pytest.mark.parametrize("camera", ["static", "smooth"])
def test_perfect_input_stays_put(camera: str) -> None:
    one = clip(2, 48, camera, NO_ERRORS)  # type: ignore[arg-type]
    trajectory = CameraMotion(one.true_cam_from_world, metric=True)
    found = refine(one.observed, trajectory, config=CONFIG, assets=hand_model().assets)
    assert float((found.joints - one.true_joints).norm(dim=-1).max()) < 1e-4


def test_a_turned_camera_treats_both_hands_alike() -> None:
    one = clip(3, 48, "static")
    turn = Rotation.from_rotvec((0, 0.6, 0)).as_matrix()
    poses = np.tile(np.eye(4), (48, 1, 1))
    poses[:, :3, :3] = turn
    found = refine(one.observed, CameraMotion(poses), config=CONFIG, assets=hand_model().assets)
    seen = one.observed.observed[0] & (one.observed.confidence[0] >= 0.5)
    errors = (found.joints - one.true_joints).norm(dim=-1).mean(-1)[0]
    right, left = (float(errors[:, side][seen[:, side]].mean()) for side in range(2))
    plain = refine(one.observed, None, config=CONFIG, assets=hand_model().assets)
    torch.testing.assert_close(found.joints, plain.joints, atol=1e-5, rtol=0)
    assert abs(right - left) < 0.02
    # in the world both hands are true hands, turned back by the camera
    expected = torch.from_numpy(turn.T) @ plain.hands_in_world.global_orient
    torch.testing.assert_close(found.hands_in_world.global_orient, expected, atol=1e-4, rtol=0)


def test_masked_frames_are_never_looked_at() -> None:
    one = clip(4, 32, "static")
    observed = one.observed
    hidden = ~(observed.observed & (observed.confidence >= 0.5))
    assert hidden.any()

    def spoiled(values: torch.Tensor) -> torch.Tensor:
        mask = hidden[(...,) + (None,) * (values.dim() - 3)]
        return torch.where(mask, torch.nan, values)

    broken = replace(
        observed,
        hands=observed.hands.map(spoiled),
        joints_2d=spoiled(observed.joints_2d),
        joints_2d_confidence=torch.where(hidden[..., None], 1.0, observed.joints_2d_confidence),
    )
    here = refine(observed, config=CONFIG, assets=hand_model().assets)
    there = refine(broken, config=CONFIG, assets=hand_model().assets)
    assert torch.equal(here.joints, there.joints)
    assert torch.equal(here.completed, hidden)
