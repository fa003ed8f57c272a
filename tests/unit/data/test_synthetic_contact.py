"""Contact between hands, and the quick test for piercing against the full one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fourdhands.data.synthetic.contact import first_contact, measure_separation
from fourdhands.data.synthetic.piercing import PiercingTest
from fourdhands.data.synthetic.rotation import random_rotation, unit
from fourdhands.hands.anatomy import (
    JointAxes,
    rotations_from_angles,
    sample_hand_angles,
    self_intersections,
)
from fourdhands.hands.mano import HandModel
from fourdhands.rendering.primitives import box, sphere
from fourdhands.structures import HandState

RADIUS = 0.05
BALL = sphere(RADIUS, (1, 1, 1))
INNER = RADIUS * np.cos(np.pi / 14) * np.cos(np.pi / 28)  # of the ball's flat faces


def posed_hands(model: HandModel, count: int, seed: int) -> np.ndarray:
    """(count, 2, 778, 3) hands halfway between clean poses: some are clean, some are not."""
    rng = np.random.default_rng(seed)
    rotations = []
    for assets in model.assets:
        angles = (sample_hand_angles(rng, count) + sample_hand_angles(rng, count)) / 2
        rotations.append(rotations_from_angles(angles, JointAxes.from_assets(assets)))
    state = HandState(
        global_orient=torch.eye(3).expand(count, 2, 3, 3),
        hand_pose=torch.from_numpy(np.stack(rotations, axis=1)).float(),
        betas=torch.from_numpy(rng.normal(0, 1.5, (count, 2, 10))).float(),
        transl=torch.zeros(count, 2, 3),
    )
    return model(state).vertices.numpy().astype(np.float64)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_balls_meet_at_the_sum_of_their_radii(seed: int) -> None:
    rng = np.random.default_rng(seed)
    direction = unit(rng.normal(size=3))
    aside = np.cross(direction, unit(rng.normal(size=3)))
    aside *= rng.uniform(0, 0.8) * 2 * RADIUS / np.linalg.norm(aside)
    ball = BALL.vertices.astype(np.float64)
    contact = first_contact(ball, BALL.faces, ball + aside, BALL.faces, direction)
    assert contact is not None
    distance = np.linalg.norm(aside + contact.offset * direction)
    assert 2 * INNER - 0.001 < distance < 2 * RADIUS + 1e-6


def test_what_passes_by_does_not_touch() -> None:
    ball = BALL.vertices.astype(np.float64)
    aside = ball + np.array((2.1 * RADIUS, 0, 0))
    assert first_contact(ball, BALL.faces, aside, BALL.faces, np.array((0.0, 1.0, 0.0))) is None


@pytest.mark.parametrize(
    ("offset", "gap", "penetration"), [(0.25, 0.05, 0.0), (0.19, 0.0, 0.01), (0.2, 0.0, 0.0)]
)
def test_separation_of_boxes(offset: float, gap: float, penetration: float) -> None:
    cube, small = box((0.2, 0.2, 0.2), (1, 1, 1)), box((0.2, 0.1, 0.1), (1, 1, 1))
    moved = small.vertices + np.array((offset, 0, 0))
    for pair in ((cube.vertices, cube.faces, moved, small.faces),
                 (moved, small.faces, cube.vertices, cube.faces)):  # fmt: skip
        found = measure_separation(*pair)
        assert found.gap == pytest.approx(gap, abs=1e-6)
        assert found.penetration == pytest.approx(penetration, abs=1e-6)


def test_hands_slid_to_their_first_contact_touch_and_do_not_overlap() -> None:
    model = HandModel.open()
    right, left = (faces.numpy().astype(np.int32) for faces in model.closed_faces)
    rng = np.random.default_rng(7)
    for pair in posed_hands(model, 6, seed=1):
        fixed, moving = pair[0] - pair[0].mean(axis=0), pair[1] - pair[1].mean(axis=0)
        moving = moving @ random_rotation(rng).T
        direction = unit(rng.normal(size=3))
        contact = first_contact(fixed, right, moving, left, direction)
        assert contact is not None
        found = measure_separation(fixed, right, moving + contact.offset * direction, left)
        assert found.gap < 0.001
        assert found.penetration < 0.0008  # half a cell of the grid, where skins pass side by side


def test_the_quick_piercing_test_agrees_with_the_full_one() -> None:
    model = HandModel.open()
    tests = [PiercingTest(assets) for assets in model.assets]
    missed = total = 0
    for pair in posed_hands(model, 100, seed=2):
        for side, vertices in enumerate(pair):
            pierced = self_intersections(vertices, model.faces[side].numpy())
            quick = tests[side](vertices)
            assert pierced or not quick
            total += pierced > 0
            missed += pierced > 0 and not quick
    assert total > 10
    assert missed <= 0.1 * total  # folds of a single bone's skin
