"""Loop subdivision against its definition."""

import numpy as np
import pytest
import trimesh
from scipy.spatial import KDTree

from fourdhands.hands.assets import load_assets
from fourdhands.rendering.subdivision import LoopSubdivision, _loop_step
from fourdhands.skeleton import FINGERTIP_VERTICES, NUM_VERTICES


def test_one_step_equals_the_scheme_of_trimesh_on_a_closed_mesh() -> None:
    ball = trimesh.creation.icosphere(subdivisions=1)
    matrix, faces = _loop_step(ball.faces.astype(np.int32), len(ball.vertices))
    expected_vertices, _ = trimesh.remesh.subdivide_loop(ball.vertices, ball.faces, iterations=1)
    ours = matrix @ ball.vertices
    assert len(ours) == len(expected_vertices)
    np.testing.assert_allclose(KDTree(ours).query(expected_vertices)[0], 0.0, atol=1e-12)
    refined = trimesh.Trimesh(ours, faces, process=False)
    assert refined.is_watertight
    assert refined.is_winding_consistent
    assert refined.volume > 0


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_constants_stay_constant_and_faces_keep_their_parents(levels: int) -> None:
    faces = load_assets()[0].faces
    refine = LoopSubdivision(faces, NUM_VERTICES, levels)
    assert refine.faces.shape == (len(faces) * 4**levels, 3)
    np.testing.assert_allclose(refine(np.full((NUM_VERTICES, 2), 3.0)), 3.0, rtol=1e-5)
    assert (np.bincount(refine.parents) == 4**levels).all()
    # a refined face lies at the face it came from
    vertices = load_assets()[0].v_template
    centres = vertices[faces].mean(axis=1)[refine.parents]
    distance = np.linalg.norm(refine(vertices)[refine.faces].mean(axis=1) - centres, axis=1)
    assert distance.max() < 0.008


def test_an_open_border_depends_on_the_border_alone() -> None:
    faces = load_assets()[0].faces
    refine = LoopSubdivision(faces, NUM_VERTICES, 1)
    edges = np.sort(refine.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    once, uses = np.unique(edges, axis=0, return_counts=True)
    border = np.unique(once[uses == 1])
    coarse = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    once, uses = np.unique(coarse, axis=0, return_counts=True)
    inside = np.ones(NUM_VERTICES)
    inside[np.unique(once[uses == 1])] = 0.0
    assert len(border) == 32
    np.testing.assert_allclose((refine(inside))[border], 0.0, atol=1e-7)


def test_the_drawn_hand_passes_through_the_labels_vertices() -> None:
    assets = load_assets()[0]
    refine = LoopSubdivision(assets.faces, NUM_VERTICES, 1)
    gap = np.linalg.norm(refine(assets.v_template)[:NUM_VERTICES] - assets.v_template, axis=1)
    assert gap.mean() < 0.00015
    assert gap[list(FINGERTIP_VERTICES)].max() < 0.0006


def test_a_mesh_that_is_no_surface_is_refused() -> None:
    fan = np.array([(0, 1, 2), (0, 1, 3), (0, 1, 4)])
    with pytest.raises(ValueError, match="manifold"):
        LoopSubdivision(fan, 5)
