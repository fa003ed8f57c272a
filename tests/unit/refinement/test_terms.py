"""Every term: gradients, and what must not change its size."""

from collections.abc import Callable

import pytest
import roma
import torch
from torch import Tensor

from fourdhands.hands.anatomy import JointAxes, rotations_from_angles
from fourdhands.hands.mano import HandModel
from fourdhands.hands.posing import HandSkeleton
from fourdhands.refinement import biomechanics, terms
from fourdhands.refinement.biomechanics import Anatomy
from fourdhands.refinement.penetration import Contacts, penetration, vertex_areas

B, T, S, J = 2, 5, 2, 3
INF = float("inf")


def _draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + len(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _turns(*shape: int, size: float = 0.4, seed: int = 0) -> Tensor:
    return roma.rotvec_to_rotmat(size * _draw(*shape, 3, seed=seed))


SHARE = torch.full((B, T, S), 1 / (T * S), dtype=torch.float64)
HANDS = torch.full((B, 1, S), 1 / S, dtype=torch.float64)
SURE = torch.full((B, T, S, J), 0.7, dtype=torch.float64)
FPS = torch.tensor((30.0, 25.0), dtype=torch.float64)
ANATOMY = Anatomy.from_assets(HandModel.open().assets)
VECTORS = _draw(B, T, S, 15, 3, seed=5)


def _rotated(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda vectors: function(roma.rotvec_to_rotmat(vectors))


TERMS: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
    "reprojection": (
        lambda x: terms.reprojection(x, _draw(B, T, S, J, 2, seed=4), SURE, 9 * SHARE, SHARE, 0.3),
        _draw(B, T, S, J, 2),
    ),
    "orientation": (
        _rotated(lambda x: terms.orientation_to_estimate(x, _turns(B, T, S), SHARE, 0.5)),
        _draw(B, T, S, 3) * 0.5,
    ),
    "pose": (
        _rotated(lambda x: terms.pose_to_estimate(x, _turns(B, T, S, 15), SHARE, 0.5)),
        0.5 * VECTORS,
    ),
    "translation": (
        lambda x: terms.translation_to_estimate(x, _draw(B, T, S, 3, seed=9), SHARE, 0.3, 0.5),
        _draw(B, T, S, 3),
    ),
    "velocity": (lambda x: terms.velocity(x, FPS, HANDS) / 900, _draw(B, T, S, J, 3)),
    "acceleration": (lambda x: terms.acceleration(x, FPS, HANDS) / 1e6, _draw(B, T, S, J, 3)),
    "turning_speed": (
        _rotated(lambda x: terms.turning_speed(x, FPS, HANDS) / 900),
        0.5 * _draw(B, T, S, 3),
    ),
    "shape": (lambda x: terms.shape_size(x, HANDS), _draw(B, S, 10)),
    "shape_estimate": (
        lambda x: terms.shape_to_estimate(x, _draw(B, S, 10, seed=3), HANDS),
        _draw(B, S, 10),
    ),
    "shape_symmetry": (
        lambda x: terms.shape_symmetry(x, torch.tensor((True, False))),
        _draw(B, S, 10),
    ),
    "latent": (lambda x: terms.latent_likelihood(x, HANDS), _draw(B, S, 7)),
    "pose_likelihood": (
        _rotated(
            lambda x: terms.pose_likelihood(x, _turns(S, 15), _draw(S, 45, 45, seed=2), SHARE)
        ),
        0.5 * VECTORS,
    ),
    "completion": (
        _rotated(
            lambda x: terms.pose_to_completion(
                x, _turns(B, T, S, 15), torch.ones(B, T, S, 15).double(), SHARE
            )
        ),
        0.5 * VECTORS,
    ),
    "camera": (
        lambda x: terms.camera_to_trajectory(roma.rotvec_to_rotmat(x), x, 0.5),
        0.3 * _draw(B, T, 3),
    ),
    "camera_smoothness": (
        lambda x: terms.camera_smoothness(roma.rotvec_to_rotmat(x), x, FPS, 0.5) / 1e6,
        0.3 * _draw(B, T, 3),
    ),
    "scale": (
        lambda x: terms.scale_prior(x, 3 * SURE[:, 0, 0, 0], torch.ones(B).double()),
        _draw(B),
    ),
    "focal": (lambda x: terms.focal_prior(x, 0.5), _draw(B)),
    "joint_angles": (
        _rotated(lambda x: biomechanics.joint_angles(x, ANATOMY, SHARE, 0.01)),
        0.5 * VECTORS,
    ),
    "bone_lengths": (lambda x: biomechanics.bone_lengths(x, HANDS[:, 0]), _draw(B, S, 21, 3)),
    "palm_shape": (lambda x: biomechanics.palm_shape(x, HANDS[:, 0]), _draw(B, S, 21, 3)),
}


@pytest.mark.parametrize("name", TERMS)
def test_gradients(name: str) -> None:
    function, values = TERMS[name]
    start = values.clone().requires_grad_()
    found = function(start)
    assert found.shape == (B,) and (found > 0).any()
    assert torch.autograd.gradcheck(function, (start,))


def test_gradients_of_penetration() -> None:
    model = HandModel.open()
    template = torch.stack([torch.from_numpy(s.v_template) for s in model.assets]).double()
    vertices = template + torch.tensor(((0.0, 0, 0), (0.05, 0.004, 0.01))).double()[:, None]
    areas = vertex_areas(template, model.faces)
    contacts = Contacts.find(vertices[None], model.closed_faces, areas)
    assert len(contacts) > 20
    some = contacts[:: len(contacts) // 6]
    used = torch.cat((some.vertex, some.corners.flatten())).unique()

    def energy(part: Tensor) -> Tensor:
        moved = vertices[None].clone()
        moved[:, :, used] = part
        one = torch.ones(1, dtype=torch.float64)
        return penetration(moved, some, one, torch.zeros(1, dtype=torch.int64), 1, 1e-4)

    part = vertices[None][:, :, used].clone().requires_grad_()
    assert torch.autograd.gradcheck(energy, (part,), atol=1e-4)


def test_sizes_do_not_depend_on_frames_rate_or_joints() -> None:
    seconds = torch.linspace(0, 4, 481, dtype=torch.float64)
    wave = torch.stack((seconds.sin(), (2 * seconds).cos(), 0.3 * seconds), -1)
    share = torch.ones(1, 1, 1, dtype=torch.float64)

    def sizes(step: int, joints: int) -> tuple[Tensor, Tensor]:
        points = wave[None, ::step, None, None].expand(-1, -1, -1, joints, -1)
        fps = torch.tensor([120.0 / step], dtype=torch.float64)
        return terms.velocity(points, fps, share), terms.acceleration(points, fps, share)

    for fine, coarse in zip(sizes(1, 2), sizes(2, 21), strict=True):
        torch.testing.assert_close(fine, coarse, rtol=0.01, atol=0)


def test_resolution_does_not_change_reprojection() -> None:
    projected, seen = 50 * _draw(B, T, S, J, 2), 50 * _draw(B, T, S, J, 2, seed=1)
    sure, size = torch.rand(B, T, S, J).double(), 100 + torch.rand(B, T, S).double()
    small = terms.reprojection(projected, seen, sure, size, SHARE, 0.2)
    large = terms.reprojection(3 * projected, 3 * seen, sure, 3 * size, SHARE, 0.2)
    torch.testing.assert_close(small, large)


def test_left_hands_bend_as_right_ones() -> None:
    angles = 0.3 * _draw(4, 15, 3)
    poses = torch.stack(
        [
            torch.from_numpy(rotations_from_angles(angles.numpy(), JointAxes.from_assets(side)))
            for side in HandModel.open().assets
        ],
        1,
    )
    found = ANATOMY.angles(poses)
    torch.testing.assert_close(found[:, 0], angles)
    torch.testing.assert_close(found[:, 1], angles)


def test_limits_hold_at_their_ends_only() -> None:
    high = ANATOMY.limits[..., 1]
    for beyond, violated in ((-0.01, False), (0.01, True)):
        angles = torch.zeros(15, 3).double()
        angles[:, 0] = high[:, 0] + beyond
        pose = torch.stack(
            [
                torch.from_numpy(rotations_from_angles(angles.numpy(), JointAxes.from_assets(s)))
                for s in HandModel.open().assets
            ]
        )
        energy = biomechanics.joint_angles(pose[None, None], ANATOMY, HANDS[:1])
        assert bool(energy > 0) == violated


def test_proportions_do_not_depend_on_size_or_side() -> None:
    model = HandModel.open()
    eye = torch.eye(3).double()
    betas = 3 * _draw(1, 10).expand(2, 10)
    joints = HandSkeleton(model.assets)(
        eye.expand(2, 3, 3), torch.zeros(2, 3).double(), eye.expand(2, 15, 3, 3), betas
    ).joints
    for term in (biomechanics.bone_lengths, biomechanics.palm_shape):
        sides = [term(joints[None, k : k + 1], HANDS[:1, 0, :1]) for k in range(2)]
        torch.testing.assert_close(sides[0], sides[1], rtol=1e-4, atol=1e-7)
        scaled = term(2.5 * joints[None, :1], HANDS[:1, 0, :1])
        torch.testing.assert_close(scaled, sides[0])
