"""The closed-form scale of a trajectory."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from fourdhands.refinement.world_scale import find_world_scale

T, FPS = 128, 30.0


def _scene(seed: int, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Wrists in the camera (T, S, 3), which are seen, and the camera in units of its own."""
    rng = np.random.default_rng(seed)
    times = np.arange(T) / FPS

    def waves(size: float) -> np.ndarray:
        rates, phases = rng.uniform(0.3, 1.5, (3, 3)), rng.uniform(0, 6, (3, 3))
        return size * np.sin(2 * np.pi * times[:, None, None] * rates + phases).sum(-1)

    hands = np.stack([waves(0.03) + offset for offset in ((0.1, 0, 0.6), (-0.1, 0, 0.6))], 1)
    centre = waves(0.08)
    rotation = Rotation.from_rotvec(waves(0.1)).as_matrix()
    wrists = np.einsum("tij,tsj->tsi", rotation, hands - centre[:, None])
    wrists *= 1 + 0.02 * rng.normal(size=(T, 2, 1))
    translation = -np.einsum("tij,tj->ti", rotation, centre) / scale
    return wrists, rng.random((T, 2)) > 0.2, rotation, translation


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_finds_the_scale_and_how_sure_it_is(scale: float) -> None:
    off = []
    for seed in range(6):
        found = find_world_scale(*_scene(seed, scale), FPS)
        assert not found.static and 0 < found.deviation < 0.3
        off.append(np.log(found.scale / scale) / found.deviation)
    assert np.abs(off).max() < 4


def test_a_camera_on_a_stand_is_told_from_noise() -> None:
    wrists, seen, rotation, _ = _scene(0, 1.0)
    still = np.tile(np.eye(3), (T, 1, 1))
    noise = np.random.default_rng(1).normal(size=(T, 3))
    for shifts in (np.zeros((T, 3)), noise):
        assert find_world_scale(wrists, seen, still, shifts, FPS).static
    turning = find_world_scale(wrists, seen, rotation, np.zeros((T, 3)), FPS)
    assert not turning.static and np.isinf(turning.deviation)
