"""Pictures: what is drawn lies where it belongs."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fourdhands.hands.assets import load_assets
from fourdhands.rendering.overlay import (
    SIDE_COLOURS,
    draw_hands,
    draw_skeleton,
    grid,
    side_extent,
    side_view,
)
from fourdhands.skeleton import NUM_JOINTS, Side

FACING = np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
K = np.array([[500.0, 0.0, 319.5], [0.0, 500.0, 239.5], [0.0, 0.0, 1.0]])


@pytest.fixture(scope="module")
def vertices() -> NDArray[np.float64]:
    """Right hand to the left of the image, left hand to its right, half a metre away."""
    turns = (FACING, np.diag([-1.0, 1.0, 1.0]) @ FACING @ np.diag([-1.0, 1.0, 1.0]))
    shifts = ((-0.12, 0.0, 0.5), (0.12, 0.0, 0.5))
    hands = zip(load_assets(), turns, shifts, strict=True)
    return np.stack([assets.v_template @ turn.T + shift for assets, turn, shift in hands])


def paper(height: int = 480, width: int = 640) -> NDArray[np.uint8]:
    return np.full((height, width, 3), 255, np.uint8)


def project(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return points @ K[:2].T / points[..., 2:]


def test_the_overlay_sits_on_the_projected_vertices(vertices: NDArray[np.float64]) -> None:
    drawn = draw_hands(paper(), vertices, [True, True], K)
    touched = np.argwhere((drawn != 255).any(axis=-1))[:, ::-1]
    uv = project(vertices).reshape(-1, 2)
    np.testing.assert_allclose(touched.min(axis=0), uv.min(axis=0), atol=1.5)
    np.testing.assert_allclose(touched.max(axis=0), uv.max(axis=0), atol=1.5)
    inside = np.round(uv).astype(int)
    assert ((drawn[inside[:, 1], inside[:, 0]] != 255).any(axis=-1)).mean() > 0.97


def test_sides_are_told_apart_and_absent_hands_are_not_drawn(
    vertices: NDArray[np.float64],
) -> None:
    for side in Side:
        drawn = draw_hands(paper(), vertices, np.arange(2) == side, K, opacity=1.0)
        touched = (drawn != 255).any(axis=-1)
        columns = np.nonzero(touched)[1]
        assert (columns < 320).all() if side == Side.RIGHT else (columns > 320).all()
        hue = drawn[touched].mean(axis=0)
        assert np.argmax(hue) == np.argmax(SIDE_COLOURS[side])
    np.testing.assert_array_equal(draw_hands(paper(), vertices, [False, False], K), 255)


def test_the_nearer_hand_hides_the_farther_one(vertices: NDArray[np.float64]) -> None:
    together = vertices - vertices.mean(axis=1, keepdims=True) + (0.0, 0.0, 0.5)
    for front in Side:
        scene = together.copy()
        scene[front, :, 2] -= 0.15
        both = draw_hands(paper(), scene, [True, True], K, opacity=1.0)
        alone = draw_hands(paper(), scene, np.arange(2) == front, K, opacity=1.0)
        solid = (alone != 255).all(axis=-1)
        near = np.abs(both.astype(int) - alone)[solid].mean()
        assert near < 3.0  # but for the farther hand in the antialiased rim


def test_only_the_hands_region_of_a_large_photograph_changes(
    vertices: NDArray[np.float64],
) -> None:
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 255, (1500, 2000, 3), np.uint8)
    before = photo.copy()
    drawn = draw_hands(photo, vertices, [True, True], K)
    np.testing.assert_array_equal(photo, before)
    np.testing.assert_array_equal(drawn[600:], photo[600:])
    partly = draw_hands(photo, vertices, [True, True], K, opacity=0.5)
    np.testing.assert_array_less(
        np.abs(partly.astype(int) - (drawn.astype(int) * 0.5 / 0.85 + photo * (1 - 0.5 / 0.85))),
        2.5,
    )


def test_hands_outside_or_behind_the_camera_leave_the_image_alone(
    vertices: NDArray[np.float64],
) -> None:
    for shift in ((3.0, 0.0, 0.0), (0.0, 0.0, -2.0)):
        np.testing.assert_array_equal(draw_hands(paper(), vertices + shift, [1, 1], K), 255)


def test_side_view_shows_depth_from_left_to_right(vertices: NDArray[np.float64]) -> None:
    apart = vertices.copy()
    apart[Side.LEFT, :, 2] += 0.3  # farther from the camera, so to the right
    drawn = side_view(apart, [True, True], 200).astype(int)
    blue = np.argwhere(drawn[..., 2] - drawn[..., 0] > 30)
    coral = np.argwhere(drawn[..., 0] - drawn[..., 2] > 30)
    assert coral[:, 1].max() < blue[:, 1].min()
    assert coral[:, 0].mean() == pytest.approx(blue[:, 0].mean(), abs=4)
    assert drawn.shape == (200, 200, 3)


def test_side_views_can_share_a_scale(vertices: NDArray[np.float64]) -> None:
    small = vertices - vertices.mean(axis=(0, 1))
    large = 2 * small
    extent = max(side_extent(hands, [True, True]) for hands in (small, large))
    heights = []
    for hands in (small, large):
        drawn = side_view(hands, [True, True], 200, extent=extent).astype(int)
        heights.append(np.ptp(np.argwhere(np.ptp(drawn, axis=-1) > 30)[:, 0]))
    assert heights[1] == pytest.approx(2 * heights[0], abs=5)


def test_skeletons_pass_through_their_joints() -> None:
    joints = np.random.default_rng(1).uniform(20, 180, (2, NUM_JOINTS, 2))
    drawn = draw_skeleton(paper(200, 200), joints, [True, False])
    at = np.round(joints).astype(int)
    assert (drawn[at[0, :, 1], at[0, :, 0]] != 255).any(axis=-1).all()
    some = np.zeros((2, NUM_JOINTS), bool)
    some[1, 5] = True
    drawn = draw_skeleton(paper(200, 200), joints, some)
    touched = np.argwhere((drawn != 255).any(axis=-1))[:, ::-1]
    np.testing.assert_allclose(touched.mean(axis=0), joints[1, 5], atol=1.0)


def test_grids_keep_every_picture_whole() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 200, (20, 30 - k, 3), np.uint8) for k in range(5)]
    sheet = grid(images, 3, [f"picture {k}" for k in range(5)])
    windows = np.lib.stride_tricks.sliding_window_view(sheet, (20, 26, 3)).reshape(-1, 20, 26, 3)
    assert (windows == images[4]).all(axis=(1, 2, 3)).sum() == 1
    with pytest.raises(ValueError, match="5 images"):
        grid(images, 3, ["too", "few"])
    titled = grid(images, 3, [f"picture {k}" for k in range(5)], ["first row", "second row"])
    assert titled.shape[0] > sheet.shape[0] and titled.shape[1] == sheet.shape[1]
    with pytest.raises(ValueError, match="1 titles"):
        grid(images, 3, titles=["one"])


def test_bad_input_is_named(vertices: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match=r"vertices has shape \(1, 778, 3\)"):
        draw_hands(paper(), vertices[:1], [True], K)
    vertices = vertices.copy()
    vertices[1, 3] = np.nan
    draw_hands(paper(), vertices, [True, False], K)
    with pytest.raises(ValueError, match="left hand"):
        draw_hands(paper(), vertices, [True, True], K)
