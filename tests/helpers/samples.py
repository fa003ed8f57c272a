"""Random hands of many images, as truth and as somebody's noisy predictions."""

from dataclasses import replace

import numpy as np
import torch

from fourdhands.evaluation.samples import HandSamples, Pair
from fourdhands.skeleton import NUM_SIDES, NUM_VERTICES
from tests.helpers.clips import random_rotations


def random_truth(rng: np.random.Generator, count: int, *, sides: int = NUM_SIDES) -> HandSamples:
    """Clouds of the size of hands, half a metre away; with one side only right hands are there."""
    there = np.zeros((count, NUM_SIDES), bool)
    there[:, :sides] = True
    wrists = rng.normal((0, 0, 0.6), 0.05, (count, NUM_SIDES, 1, 3))

    def points(number: int) -> torch.Tensor:
        cloud = wrists + rng.normal(0, 0.04, (count, NUM_SIDES, number, 3))
        return torch.from_numpy(cloud * there[..., None, None])

    return HandSamples(
        joints=points(21),
        joints_valid=torch.from_numpy(np.repeat(there[..., None], 21, -1)),
        vertices=points(NUM_VERTICES),
        vertices_valid=torch.from_numpy(there),
        joints_2d=torch.from_numpy(rng.uniform(0, 300, (count, NUM_SIDES, 21, 2))),
        joints_2d_valid=torch.from_numpy(np.repeat(there[..., None], 21, -1)),
        handedness=torch.from_numpy(there.astype(float)),
        sequence=torch.from_numpy(np.sort(rng.integers(0, 3, count))),
        frame=torch.arange(count),
        fps=torch.full((count,), 30.0),
        cam_from_world=torch.eye(4).double().repeat(count, 1, 1),
        area=torch.from_numpy(rng.uniform(1e4, 1e5, count)),
        names=tuple(f"sequence/0/{k}" for k in range(count)),
    )


def perturbed(rng: np.random.Generator, true: HandSamples) -> HandSamples:
    """Turned, scaled and moved as a whole, every hand by itself, and noise on every point."""
    shape = true.joints.shape[:2]
    turn = torch.from_numpy(random_rotations(rng, *shape)).double()
    small = torch.matrix_exp(0.1 * (turn - turn.mT))
    scale = torch.from_numpy(rng.uniform(0.9, 1.1, (*shape, 1, 1)))
    centre = true.joints[:, :, :1]

    def moved(points: torch.Tensor) -> torch.Tensor:
        noise = torch.from_numpy(rng.normal(0, 0.004, points.shape))
        return scale * (points - centre) @ small.mT + centre + noise + 0.01

    pixels = true.joints_2d + torch.from_numpy(rng.normal(0, 8, true.joints_2d.shape))
    return replace(true, joints=moved(true.joints), vertices=moved(true.vertices), joints_2d=pixels)


def random_pair(seed: int, count: int = 13, *, sides: int = NUM_SIDES) -> Pair:
    """Predictions and truth."""
    rng = np.random.default_rng(seed)
    true = random_truth(rng, count, sides=sides)
    return Pair(perturbed(rng, true), true)


def without(pair: Pair, *, seed: int, share: float = 0.15) -> Pair:
    """Some joints, wrists among them, and some meshes are not labelled."""
    generator = torch.Generator().manual_seed(seed)
    joints = torch.rand(pair.true.joints_valid.shape, generator=generator) > share
    meshes = torch.rand(pair.true.vertices_valid.shape, generator=generator) > share

    def masked(samples: HandSamples) -> HandSamples:
        return replace(
            samples,
            joints_valid=pair.true.joints_valid & joints,
            vertices_valid=pair.true.vertices_valid & meshes,
        )

    return Pair(masked(pair.predicted), masked(pair.true))
