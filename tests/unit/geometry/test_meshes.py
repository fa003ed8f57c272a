"""Inside, depth and shared volume of closed meshes: closed forms, and hands against slow twins."""

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray

from fourdhands.geometry.meshes import depths, inside, shared_volumes
from fourdhands.hands.mano import HandModel
from tests.unit.data.test_synthetic_contact import posed_hands

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def box(*size: float) -> tuple[Floats, Indices]:
    mesh = trimesh.creation.box(size)
    return np.array(mesh.vertices), np.array(mesh.faces)


def ball(radius: float) -> tuple[Floats, Indices]:
    mesh = trimesh.creation.icosphere(4, radius)
    return np.array(mesh.vertices), np.array(mesh.faces)


def turned(vertices: Floats, seed: int) -> Floats:
    matrix = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return vertices @ (matrix * np.linalg.det(matrix)).T


def shared(first: tuple[Floats, Indices], second: tuple[Floats, Indices]) -> float:
    return float(shared_volumes(first[0][None], first[1], second[0][None], second[1])[0])


def test_boxes_share_what_their_sides_say() -> None:
    (vertices, faces), (small, small_faces) = box(0.04, 0.06, 0.08), box(0.02, 0.02, 0.02)
    for shift, volume in (
        ((0, 0, 0), 0.02**3),
        ((0.02, 0, 0), 0.02**3 / 2),
        ((0.02, 0.03, 0.04), 0.02**3 / 8),
        ((0.0301, 0, 0), 0),
        ((0, 0, 0.0501), 0),
    ):
        moved = small + shift
        assert shared((vertices, faces), (moved, small_faces)) == pytest.approx(volume, abs=1e-15)
        both = turned(vertices, 1), turned(moved, 1)
        found = shared((both[0], faces), (both[1], small_faces))
        assert found == pytest.approx(volume, rel=0.01, abs=1e-15)


def test_balls_share_a_lens() -> None:
    first, second, distance = 0.03, 0.02, 0.035
    (vertices, faces), (other, other_faces) = ball(first), ball(second)
    lens = (
        np.pi
        * (first + second - distance) ** 2
        * (distance**2 + 2 * distance * (first + second) - 3 * (first - second) ** 2)
        / (12 * distance)
    )
    direction = turned(np.eye(3), 2)[0]
    found = shared((vertices, faces), (other + distance * direction, other_faces))
    assert found == pytest.approx(lens, rel=0.01)


def test_a_point_of_a_ball_is_as_deep_as_it_is_far_from_the_skin() -> None:
    vertices, faces = ball(0.03)
    points = np.random.default_rng(0).normal(0, 0.015, (1, 500, 3))
    radius = np.linalg.norm(points[0], axis=-1)
    found = depths(points, vertices[None], faces)[0]
    clear = np.abs(radius - 0.03) > 1e-4  # the faces are flat
    assert ((found > 0) == (radius < 0.03))[clear].all()
    np.testing.assert_allclose(found, np.maximum(0.03 - radius, 0), atol=1e-4)


def test_points_above_edges_and_corners_are_told_apart() -> None:
    vertices, faces = box(2, 2, 2)
    axis = np.arange(-2, 3) / 2  # above corners, edges, diagonals and faces alike
    points = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(1, -1, 3)
    strictly = (np.abs(points[0]) < 1).all(-1)
    outside = (np.abs(points[0]) > 1).any(-1)
    found = inside(points, vertices[None], faces)[0]
    assert found[strictly].all() and not found[outside].any()


def test_a_mesh_that_overlaps_itself_counts_once() -> None:
    (vertices, faces), large = box(0.02, 0.02, 0.02), box(0.1, 0.1, 0.1)
    twice = np.concatenate((vertices, vertices + np.array((0.01, 0, 0))))
    found = shared((twice, np.concatenate((faces, faces + len(vertices)))), large)
    assert found == pytest.approx(0.03 * 0.02 * 0.02)


def test_what_has_no_volume_and_what_is_the_same() -> None:
    vertices, faces = ball(0.03)
    volume = trimesh.Trimesh(vertices, faces).volume
    assert shared((vertices, faces), (vertices, faces)) == pytest.approx(volume, rel=1e-3)
    assert depths(vertices[None], vertices[None], faces).max() < 1e-12
    point = np.zeros_like(vertices)
    assert shared((vertices, faces), (point, faces)) == 0
    assert not inside(point[None], point[None], faces).any()
    with pytest.raises(ValueError, match="not finite"):
        inside(np.full((1, 1, 3), np.nan), vertices[None], faces)
    far = 1e3 * vertices  # no more lines than for a hand
    assert shared((far, faces), (far, faces)) == pytest.approx(1e9 * volume, rel=1e-3)


def winding_numbers(points: Floats, vertices: Floats, faces: Indices) -> Floats:
    """Solid angles of all faces seen from each point, over 4 pi."""
    a, b, c = (vertices[faces[:, k]] - points[:, None] for k in range(3))
    x, y, z = (np.linalg.norm(v, axis=-1) for v in (a, b, c))
    volume = (a * np.cross(b, c)).sum(-1)
    rest = x * y * z + (a * b).sum(-1) * z + (b * c).sum(-1) * x + (c * a).sum(-1) * y
    total: Floats = 2 * np.arctan2(volume, rest).sum(-1) / (4 * np.pi)
    return total


def test_hands_against_winding_numbers_and_points_at_random() -> None:
    model = HandModel.open()
    right, left = (side.numpy() for side in model.closed_faces)
    hands = posed_hands(model, 4, seed=3)
    hands = hands - hands.mean(2, keepdims=True)
    rng = np.random.default_rng(4)
    hands[:, 1] += rng.normal(0, 0.02, (4, 1, 3))
    found = depths(hands[:, 0], hands[:, 1], left)
    volumes = shared_volumes(hands[:, 0], right, hands[:, 1], left)
    for k, (first, second) in enumerate(hands):
        turns = winding_numbers(first, second, left)
        np.testing.assert_array_equal(found[k] > 0, turns > 0.5)
        deep = found[k].argmax()
        mesh = trimesh.Trimesh(second, left, process=False)
        surface = trimesh.sample.sample_surface(mesh, 20_000, seed=0)[0]
        nearest = np.linalg.norm(surface - first[deep], axis=-1).min()
        assert found[k, deep] <= nearest < found[k, deep] + 1e-3
        low, high = np.maximum(first.min(0), second.min(0)), np.minimum(first.max(0), second.max(0))
        points = rng.uniform(low, high, (1, 50_000, 3))
        hits = inside(points, first[None], right) & inside(points, second[None], left)
        by_chance = hits.mean() * (high - low).prod()
        spread = np.sqrt(hits.mean() / 50_000) * (high - low).prod()
        assert abs(volumes[k] - by_chance) < 4 * spread
    np.testing.assert_allclose(
        shared_volumes(hands[:, 1], left, hands[:, 0], right), volumes, rtol=1e-12
    )
