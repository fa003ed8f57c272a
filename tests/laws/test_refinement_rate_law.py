"""Energies are of motion, not of its sampling: twice the frames a second change none of them."""

from dataclasses import fields

import roma
import torch
from torch import Tensor

from fourdhands.refinement.body import make_body
from fourdhands.refinement.motion import Motion
from fourdhands.refinement.problem import Evidence, Problem
from fourdhands.refinement.stages import Kernels, Stage, Weights
from tests.helpers.refinement import hand_model

SECONDS = 4.0


class _Decoder:
    """Fingers that move in time, whatever the latent."""

    def decode(self, latent: Tensor, times: Tensor) -> Tensor:
        return _turns(times, 2, 15, size=0.6, seed=3)

    def start(self, poses: Tensor, observed: Tensor, times: Tensor) -> Tensor:
        raise NotImplementedError

    def complete(
        self, poses: Tensor, observed: Tensor, times: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


def _waves(times: Tensor, *shape: int, size: float, seed: int) -> Tensor:
    """Smooth functions of time (1, T, ...)."""
    generator = torch.Generator().manual_seed(seed)
    rate, phase = (torch.rand(*shape, generator=generator).double() for _ in range(2))
    angle = times.view(1, -1, *[1] * len(shape)) * (1 + 2 * rate) + 6 * phase
    return size * angle.sin()


def _turns(times: Tensor, *shape: int, size: float, seed: int) -> Tensor:
    return roma.rotvec_to_rotmat(_waves(times, *shape, 3, size=size, seed=seed))


def _energies(fps: float) -> dict[str, float]:
    times = torch.arange(int(SECONDS * fps) + 1).double() / fps
    T = len(times)
    one = torch.ones(1).double()
    place = torch.tensor(((0.03, 0.0, 0.5), (-0.03, 0.0, 0.5))).double()
    motion = Motion(
        orientation=_turns(times, 2, size=0.5, seed=0),
        wrist=place + _waves(times, 2, 3, size=0.01, seed=1),
        pose=_turns(times, 2, 15, size=0.4, seed=2),
        betas=torch.tensor(((1.0,) * 10, (-2.0,) * 10)).double()[None],
        log_scale=0.1 * one,
        camera_turn=_turns(times, size=0.05, seed=4),
        camera_shift=_waves(times, 3, size=0.02, seed=5),
        log_focal=0.02 * one,
        latent=torch.ones(1, 2, 7).double(),
    )
    hidden = (times >= 1) & (times < 2)
    observed = (~hidden)[None, :, None].repeat(1, 1, 2)
    intrinsics = torch.tensor(((500.0, 0, 320), (0, 500, 240), (0, 0, 1))).double()[None]
    evidence = Evidence(
        observed=observed,
        confidence=(0.6 + _waves(times, 2, size=0.3, seed=6)) * observed,
        present=torch.ones(1, 2, dtype=torch.bool),
        orientation=_turns(times, 2, size=0.6, seed=7),
        wrist=place + _waves(times, 2, 3, size=0.05, seed=8),
        pose=_turns(times, 2, 15, size=0.5, seed=9),
        betas=torch.zeros(1, 2, 10).double(),
        joints_2d=torch.tensor((320.0, 240.0)) + _waves(times, 2, 21, 2, size=60, seed=10),
        joints_2d_confidence=observed[..., None] * (0.6 + _waves(times, 2, 21, size=0.3, seed=11)),
        size=180 + _waves(times, 2, size=20, seed=12),
        intrinsics=intrinsics,
        fps=fps * one,
        camera_rotation=_turns(times, size=0.2, seed=13),
        camera_translation=_waves(times, 3, size=0.05, seed=14),
        scale_start=0 * one,
        scale_deviation=0.1 * one,
        scale_bounds=torch.tensor(((-1.0, 1.0),)).double(),
        completion=_turns(times, 2, 15, size=0.5, seed=15),
        completion_precision=3 + _waves(times, 2, 15, size=1, seed=16),
        noise=one,
        free=torch.ones_like(observed),
    )
    weights = Weights(**{one.name: 1.0 for one in fields(Weights)})
    kernels = Kernels(reprojection=0.3, orientation=0.5, translation=0.3, pose=1.0)
    stage = Stage("all", ("orientation", "wrist", "betas", "latent"), weights, kernels, "adam")
    body = make_body(hand_model().assets, _Decoder(), torch.device("cpu"))
    problem = Problem(evidence, body)
    assert motion.wrist.shape[1] == T
    found = problem.energies(motion, stage, problem.near(motion))
    return {name: float(value) for name, value in found.items()}


def test_twice_the_frames_a_second_change_no_energy() -> None:
    once, twice = _energies(30.0), _energies(60.0)
    assert set(once) == {one.name for one in fields(Weights)}
    resting = {"bone_lengths", "palm_shape"}  # of a hand at rest: they see no frame at all
    assert all(value > 0 for name, value in once.items() if name not in resting), once
    for name, value in once.items():
        assert abs(twice[name] - value) <= 0.02 * value, (name, value, twice[name])
