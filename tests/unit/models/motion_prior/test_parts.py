"""Splines, time bases, two hands, baselines: against scipy, loops and closed forms."""

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from scipy.spatial.transform import Rotation
from scipy.spatial.transform import Slerp as ScipySlerp

from fourdhands.geometry.rotation import geodesic_distance, matrix_from_axis_angle
from fourdhands.models.motion_prior.baselines import (
    GmmPrior,
    PcaPrior,
    Slerp,
    Smoothness,
    fit_mixture,
)
from fourdhands.models.motion_prior.coordinates import PoseCoordinates
from fourdhands.models.motion_prior.time_base import b_splines, to_grid
from fourdhands.models.motion_prior.two_hands import condition, from_joint, to_joint
from fourdhands.skeleton import Side

RIGHT = (Side.RIGHT,)


def moving(frames: int, count: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth rotations (N, T, 15, 3, 3) within the joints' limits, and times."""
    rng = np.random.default_rng(seed)
    times = torch.arange(frames) / 30
    phase = torch.from_numpy(rng.uniform(0, 6, (count, 1, 15))).float()
    angles = torch.zeros(count, frames, 15, 3)
    angles[..., 0] = 0.4 + 0.3 * torch.sin(3 * times[:, None] + phase)
    return PoseCoordinates("angles").joints.rotations(angles), times


def test_splines_are_scipys() -> None:
    times, spacing, count = torch.linspace(0, 1.09, 57), 0.1, 14
    knots = (np.arange(count + 4) - 3) * spacing
    basis = BSpline.design_matrix(times.double().numpy(), knots, 3).toarray()
    np.testing.assert_allclose(b_splines(times, spacing, count).numpy(), basis, atol=1e-6)


@pytest.mark.parametrize("kind", ["angles", "rotations"])
def test_coordinates_come_back(kind: str) -> None:
    poses, _ = moving(5)
    coordinates = PoseCoordinates(kind)  # type: ignore[arg-type]
    again = coordinates.write(coordinates.read(poses))
    assert geodesic_distance(again, poses).max() < 0.01


def test_no_coordinates_leave_the_joints_limits() -> None:
    coordinates = PoseCoordinates("angles")
    wild = 50 * torch.randn(64, coordinates.size, generator=torch.Generator().manual_seed(0))
    angles = coordinates.joints.angles(coordinates.write(wild))
    low, high = coordinates.joints.limits.unbind(-1)
    assert (angles > low - 1e-4).all() and (angles < high + 1e-4).all()


@pytest.mark.parametrize("fps", [12.0, 15.0, 24.0, 25.0, 30.0, 50.0, 60.0])
def test_any_rate_comes_to_the_grid(fps: float) -> None:
    frames = int(2 * fps)
    times = 5 + torch.arange(frames) / fps
    axis = torch.tensor((0.6, 0.0, 0.8))
    angle = lambda t: 0.7 * (t - 5)  # noqa: E731 - constant speed: slerp is exact
    hands = matrix_from_axis_angle((angle(times)[:, None] * axis)[:, None].expand(-1, 15, 3))
    grid = 5 + torch.arange(48)[None] / 30
    found, known = to_grid(hands[None], torch.ones(1, frames, dtype=torch.bool), times, grid)
    wanted = matrix_from_axis_angle((angle(grid[0])[:, None] * axis)[:, None].expand(-1, 15, 3))
    away = geodesic_distance(found[0, 0], wanted)[known[0, 0]]
    assert away.max() < 2e-3
    assert known.float().mean() > (0.9 if fps > 20 else 0.3)


def test_nothing_of_a_gap_comes_to_the_grid() -> None:
    poses, times = moving(60, count=1)
    mask = torch.ones(1, 60, dtype=torch.bool)
    mask[:, 20:40] = False
    _, known = to_grid(poses, mask, times, times[None])
    torch.testing.assert_close(known[0, 0], mask[0])


def test_the_joint_latent_is_white_and_comes_back() -> None:
    generator = torch.Generator().manual_seed(0)
    coupling = torch.tensor((0.8, -0.5, 0.0))
    joint = torch.randn(200_000, 2, 3, generator=generator)
    z = from_joint(joint, coupling)
    torch.testing.assert_close(to_joint(z, coupling), joint, atol=1e-4, rtol=0)
    correlation = (z[:, 0] * z[:, 1]).mean(0)
    torch.testing.assert_close(correlation, coupling, atol=0.01, rtol=0)
    torch.testing.assert_close(z.square().mean(0), torch.ones(2, 3), atol=0.01, rtol=0)


def test_conditioning_is_that_of_the_joint_gaussian() -> None:
    coupling = torch.tensor((0.8, -0.5, 0.0, 0.9), dtype=torch.float64)
    evidence = torch.tensor(((3.0, 0.0, 7.0, 0.0), (0.5, 4.0, 2.0, 0.0)), dtype=torch.float64)
    observed = torch.randn(2, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mean, log_variance = condition(
        evidence * observed / (1 + evidence), -(1 + evidence).log(), coupling
    )
    for k, r in enumerate(coupling.tolist()):
        prior = np.array(((1, r), (r, 1)))
        covariance = np.linalg.inv(np.linalg.inv(prior) + np.diag(evidence[:, k]))
        wanted = covariance @ (evidence[:, k] * observed[:, k]).numpy()
        np.testing.assert_allclose(mean[:, k], wanted, atol=1e-9)
        np.testing.assert_allclose(log_variance[:, k].exp(), np.diag(covariance), atol=1e-9)


def test_slerp_is_scipys() -> None:
    poses, times = moving(30, count=1)
    mask = torch.ones(1, 30, 1, dtype=torch.bool)
    mask[:, 8:21] = False
    found = Slerp().complete(poses[:, :, None], mask, times, RIGHT)
    for joint in (0, 7, 14):
        ends = Rotation.from_matrix(poses[0, [7, 21], joint].numpy())
        wanted = ScipySlerp([7, 21], ends)(np.arange(8, 21)).as_matrix()
        np.testing.assert_allclose(found[0, 8:21, 0, joint].numpy(), wanted, atol=1e-5)


def test_smoothness_goes_on_where_slerp_would_stop() -> None:
    poses, times = moving(60)
    mask = torch.ones(3, 60, 1, dtype=torch.bool)
    mask[:, 20:36] = False
    error = {
        name: geodesic_distance(m.complete(poses[:, :, None], mask, times, RIGHT)[:, :, 0], poses)
        for name, m in (("slerp", Slerp()), ("smooth", Smoothness(PoseCoordinates("angles"))))
    }
    assert error["smooth"].max() < 0.5 * error["slerp"].max()


def test_pca_knows_motion_of_its_own_kind() -> None:
    """All windows here are sines of one rate: their coordinates span two dimensions a joint."""
    windows, times = moving(64, count=400)
    held_out, _ = moving(64, count=4, seed=9)
    mask = torch.ones(4, 64, 1, dtype=torch.bool)
    mask[:, 15:50] = False
    prior = PcaPrior(PoseCoordinates("angles"), windows, 30.0, components=40, noise=0.01)
    found = prior.complete(held_out[:, :, None], mask, times, RIGHT)[:, :, 0]
    assert geodesic_distance(found, held_out).max() < 0.05
    line = Slerp().complete(held_out[:, :, None], mask, times, RIGHT)[:, :, 0]
    assert geodesic_distance(line, held_out).max() > 0.3


def test_a_mixture_finds_its_parts() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(m, 0.1, (200, 2)) for m in (-3.0, 0.0, 4.0)])
    weights, means, variances = fit_mixture(points, 3, seed=1)
    assert sorted(means[:, 0].round(1)) == pytest.approx([-3, 0, 4], abs=0.1)
    assert weights == pytest.approx([1 / 3] * 3, abs=0.02)
    assert variances.max() < 0.05


def test_the_mixture_completes_near_its_poses() -> None:
    poses, times = moving(40)
    mask = torch.ones(3, 40, 1, dtype=torch.bool)
    mask[:, 15:25] = False
    prior = GmmPrior(PoseCoordinates("angles"), poses.flatten(0, 1), components=4)
    found = prior.complete(poses[:, :, None], mask, times, RIGHT)[:, :, 0]
    torch.testing.assert_close(found[:, :15], poses[:, :15])
    assert geodesic_distance(found, poses).max() < 0.6
