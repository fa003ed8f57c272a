"""Motion and rotations of rendered scenes: closed forms and distributions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourdhands.data.synthetic.motion import (
    Timeline,
    minimum_jerk,
    random_walk_rotations,
    tremor,
)
from fourdhands.data.synthetic.rotation import (
    matrices_from_vectors,
    matrix_from_vector,
    random_rotation,
    rotation_between,
    unit,
    vector_from_matrix,
)

SEEDS = st.integers(0, 10_000)


def test_a_reach_starts_and_ends_at_rest() -> None:
    phase = np.linspace(0, 1, 2001)
    progress = minimum_jerk(phase)
    speed = np.gradient(progress, phase)
    acceleration = np.gradient(speed, phase)
    assert progress[[0, 1000, -1]] == pytest.approx([0, 0.5, 1])
    assert np.abs(speed[[0, -1]]).max() < 1e-4
    assert np.abs(acceleration[[2, -3]]).max() < 0.1
    assert speed.max() == pytest.approx(15 / 8, rel=1e-5)  # of the mean speed


@given(SEEDS, st.integers(1, 40), st.sampled_from([5.0, 10.0, 30.0]))
def test_frames_lie_between_their_keys(seed: int, frames: int, fps: float) -> None:
    rng = np.random.default_rng(seed)
    timeline = Timeline.sample(rng, np.arange(frames) / fps, (0.3, 0.8))
    keys = rng.normal(size=(timeline.num_keys, 4))
    values = timeline.interpolate(keys)
    pairs = np.stack((keys[timeline.segment], keys[timeline.segment + 1]))
    assert (values >= pairs.min(axis=0) - 1e-12).all()
    assert (values <= pairs.max(axis=0) + 1e-12).all()
    rotations = timeline.interpolate_rotations(
        random_walk_rotations(rng, random_rotation(rng), timeline.num_keys, 0.5)
    )
    assert np.allclose(rotations @ rotations.swapaxes(-1, -2), np.eye(3), atol=1e-9)
    assert np.allclose(np.linalg.det(rotations), 1)


def test_motion_is_the_same_at_any_frame_rate() -> None:
    slow, fast = np.arange(8) / 10, np.arange(22) / 30
    timelines = [Timeline.sample(np.random.default_rng(4), t, (0.7, 0.7)) for t in (slow, fast)]
    keys = np.random.default_rng(5).normal(size=(9, 3))
    coarse, fine = (timeline.interpolate(keys) for timeline in timelines)
    assert np.allclose(coarse, fine[::3])


def test_random_rotations_are_uniform() -> None:
    rng = np.random.default_rng(0)
    rotations = np.stack([random_rotation(rng) for _ in range(4000)])
    walked = np.stack([random_walk_rotations(rng, r, 3, 0.7)[-1] for r in rotations])
    for sample in (rotations, walked):
        assert np.abs(sample.mean(axis=0)).max() < 0.04
        assert np.abs((sample**2).mean(axis=0) - 1 / 3).max() < 0.03
        # the angle of a uniform rotation has density (1 - cos) / pi
        angle = np.arccos(np.clip((np.trace(sample, axis1=1, axis2=2) - 1) / 2, -1, 1))
        assert angle.mean() == pytest.approx(np.pi / 2 + 2 / np.pi, abs=0.04)


@given(SEEDS)
def test_rotation_vectors_round_trip_and_take_one_direction_to_another(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vector = unit(rng.normal(size=3)) * rng.uniform(0, 3.1)
    assert vector_from_matrix(matrix_from_vector(vector)) == pytest.approx(vector, abs=1e-6)
    source, target = unit(rng.normal(size=(2, 3)))
    for goal in (target, source, -source):
        assert rotation_between(source, goal) @ source == pytest.approx(goal, abs=1e-9)
    assert matrices_from_vectors(vector[None]).shape == (1, 3, 3)


def test_tremor_has_the_asked_amplitude() -> None:
    waves = tremor(np.random.default_rng(0), np.arange(0, 60, 0.01), 50, 0.002, 4.0)
    assert waves.std() == pytest.approx(0.002, rel=0.05)
