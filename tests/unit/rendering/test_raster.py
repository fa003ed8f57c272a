"""The rasteriser against plain numpy twins and closed forms."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from fourdhands.rendering.lighting import Lighting
from fourdhands.rendering.primitives import box, sphere
from fourdhands.rendering.raster import Rasterizer, RenderedFrame
from fourdhands.rendering.surface import Surface

RED = (0.6, 0.1, 0.1)


def camera(size: int, focal: float) -> NDArray[np.float64]:
    centre = (size - 1) / 2
    return np.array([[focal, 0.0, centre], [0.0, focal, centre], [0.0, 0.0, 1.0]])


def paper(height: int, width: int | None = None) -> NDArray[np.uint8]:
    return np.full((height, width or height, 3), 200, np.uint8)


def draw(
    surfaces: list[Surface], K: NDArray[np.float64], size: int, supersampling: int = 1
) -> RenderedFrame:
    rasterizer = Rasterizer(size, size, supersampling)
    return rasterizer.render(surfaces, K, Lighting.studio(), paper(size))


def scattered_boxes(rng: np.random.Generator, count: int) -> list[Surface]:
    """Boxes that cross each other, the image's border and the near plane."""
    return [
        box(rng.uniform(0.02, 0.2, 3), rng.uniform(0.1, 0.6, 3)).moved(
            Rotation.random(random_state=int(rng.integers(1000))).as_matrix(),
            (*rng.uniform(-0.2, 0.2, 2), rng.uniform(0.3, 0.7)),
        )
        for _ in range(count)
    ]


def cast_rays(
    surfaces: list[Surface], K: NDArray[np.float64], size: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Depth and instance by intersecting every pixel's ray with every triangle."""
    v, u = np.mgrid[0:size, 0:size]
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones((size, size))], -1)
    depth, instance = np.full((size, size), np.inf), np.zeros((size, size), int)
    for label, surface in enumerate(surfaces, 1):
        for a, b, c in surface.vertices[surface.faces].astype(float):
            normal = np.cross(b - a, c - a)
            facing = rays @ normal
            with np.errstate(divide="ignore", invalid="ignore"):
                z = (a @ normal) / facing  # the rays' z is 1, so this is depth
            hits = rays * z[..., None]
            inside = (facing < 0) & (z > 0)
            for p, q in ((a, b), (b, c), (c, a)):
                inside &= (np.cross(q - p, hits - p) @ normal) >= 0
            nearer = inside & (z < depth)
            depth[nearer], instance[nearer] = z[nearer], label
    return np.where(instance > 0, depth, 0.0), instance


def test_depth_and_instances_agree_with_ray_casting() -> None:
    size, K = 48, camera(48, 60.0)
    surfaces = scattered_boxes(np.random.default_rng(3), 7)
    frame = draw(surfaces, K, size)
    depth, instance = cast_rays(surfaces, K, size)
    assert len(np.unique(instance)) > 5
    same = frame.instance == instance
    assert same.mean() > 0.999  # a ray through an edge may go either way
    np.testing.assert_allclose(frame.depth[same], depth[same], rtol=1e-5)


@pytest.mark.parametrize("supersampling", [1, 2, 3])
def test_depth_of_a_plane_is_exact_at_pixel_centres(supersampling: int) -> None:
    tilted = box((2.0, 2.0, 0.1), RED).moved(
        Rotation.from_euler("xy", (35, -20), degrees=True).as_matrix(), (0.0, 0.0, 1.5)
    )
    K = camera(32, 100.0)
    frame = draw([tilted], K, 32, supersampling)
    depth, _ = cast_rays([tilted], K, 32)
    np.testing.assert_allclose(frame.depth, depth, rtol=1e-5)


def test_depth_of_a_sphere_has_its_closed_form() -> None:
    size, K, radius, distance = 101, camera(101, 300.0), 0.05, 0.5
    ball = sphere(radius, RED).moved(np.eye(3), (0.0, 0.0, distance))
    frame = draw([ball], K, size)
    v, u = np.mgrid[0:size, 0:size]
    rays = np.stack([(u - 50) / 300.0, (v - 50) / 300.0, np.ones((size, size))], axis=-1)
    # |z ray - (0, 0, distance)| = radius
    a, b, c = (rays**2).sum(-1), -2 * distance, distance**2 - radius**2
    root = b**2 - 4 * a * c
    depth = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / (2 * a), 0.0)
    middle = root > 0.2 * root.max()
    np.testing.assert_allclose(frame.depth[middle], depth[middle], atol=0.03 * radius)
    assert not frame.depth[root < 0].any()


@pytest.mark.parametrize("supersampling", [1, 2, 5])
def test_pixel_centres_lie_at_integers(supersampling: int) -> None:
    K = np.array([[100.0, 0, 0], [0, 100.0, 0], [0, 0, 1]])
    speck = box((0.004, 0.004, 0.004), RED)  # 0.8 pixels wide half a metre away
    for column, row in ((0, 0), (7, 3), (15, 15)):
        where = np.array([column / 100.0, row / 100.0, 1.0]) * 0.5
        frame = draw([speck.moved(np.eye(3), where)], K, 16, supersampling)
        assert np.argwhere(frame.instance).tolist() == [[row, column]]
        total = frame.coverage.sum()
        centroid = np.argwhere(frame.coverage > -1).T @ frame.coverage.ravel() / total
        np.testing.assert_allclose(centroid, (row, column), atol=0.05)


def test_coverage_is_the_area_of_a_half_plane() -> None:
    K = np.array([[100.0, 0, 0], [0, 100.0, 0], [0, 0, 1]])
    # its left side projects to u = 10.0: half of that pixel column is covered
    half = box((1.0, 4.0, 0.001), RED).moved(np.eye(3), (0.6, 0.0, 1.0005))
    frame = draw([half], K, 24, supersampling=4)
    np.testing.assert_allclose(frame.coverage[:, 9:12], np.tile([0.0, 0.5, 1.0], (24, 1)))


def test_every_map_tells_the_same_story() -> None:
    frame = draw(scattered_boxes(np.random.default_rng(5), 6), camera(40, 50.0), 40, 2)
    np.testing.assert_array_equal(frame.instance > 0, frame.coverage >= 0.5)
    np.testing.assert_array_equal(frame.instance > 0, frame.depth > 0)
    np.testing.assert_array_equal(frame.rgb[frame.coverage == 0], 200)


def test_one_surface_of_many_samples_leaves_no_hole() -> None:
    """A steep surface spans more depth within a pixel than two sheets do: still one surface."""
    floor = box((8.0, 0.1, 30.0), RED).moved(np.eye(3), (0.0, 0.35, 15.4))
    frame = draw([floor], camera(48, 60.0), 48, supersampling=2)
    rows = np.flatnonzero(frame.coverage[:, 24])
    assert (frame.coverage[rows[1:], 24] == 1.0).all()


def test_images_repeat_and_do_not_depend_on_what_was_drawn_before() -> None:
    rng = np.random.default_rng(0)
    surfaces, K = scattered_boxes(rng, 5), camera(40, 50.0)
    rasterizer = Rasterizer(40, 40)
    first = rasterizer.render(surfaces, K, Lighting.studio(), paper(40))
    rasterizer.render(scattered_boxes(rng, 5), K, Lighting.studio(), paper(40))
    again = rasterizer.render(surfaces, K, Lighting.studio(), paper(40))
    for name in ("rgb", "depth", "instance", "coverage"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))


def test_a_window_of_the_image_is_the_image_seen_through_a_window() -> None:
    surfaces, K = scattered_boxes(np.random.default_rng(8), 5), camera(64, 80.0)
    whole = draw(surfaces, K, 64)
    K[:2, 2] -= (20, 12)
    part = Rasterizer(30, 40, 1).render(surfaces, K, Lighting.studio(), paper(30, 40))
    np.testing.assert_array_equal(part.instance, whole.instance[12:42, 20:60])
    np.testing.assert_allclose(part.depth, whole.depth[12:42, 20:60], rtol=1e-5)


def test_the_key_light_throws_a_shadow() -> None:
    wall = box((1.0, 1.0, 0.02), (0.5, 0.5, 0.5)).moved(np.eye(3), (0.0, 0.0, 0.6))
    blocker = box((0.05, 0.05, 0.05), RED).moved(np.eye(3), (0.0, -0.1, 0.5))
    ambient = np.zeros((9, 3), np.float32)
    ambient[0] = 0.05
    towards = np.array([[0.0, -0.7071068, -0.7071068]], np.float32)
    lighting = Lighting(towards, np.full((1, 3), 0.8, np.float32), ambient, 0.005)
    K = camera(64, 100.0)
    alone = Rasterizer(64, 64).render([wall], K, lighting, paper(64)).rgb.astype(int)
    both = Rasterizer(64, 64).render([wall, blocker], K, lighting, paper(64))
    darker = (alone - both.rgb).mean(axis=-1) > 40
    darker &= both.instance == 1
    # the shadow lies below the blocker, by as much as the wall is behind it
    rows, columns = np.nonzero(darker)
    depth = 0.59
    hit = np.array([0.0, -0.1 + (depth - 0.5)]) * 100.0 / depth + 31.5
    np.testing.assert_allclose((columns.mean(), rows.mean()), hit, atol=1.0)
    assert (alone.std(axis=(0, 1)) < 2.0).all()  # and the wall does not shade itself


def test_faces_that_share_an_edge_leave_no_crack() -> None:
    """Edges that run exactly through pixel centres belong to someone."""
    count = 9
    y, x = (axis.ravel() for axis in np.mgrid[0:count, 0:count] * 4.0)
    # faces between neighbours of a grid whose points project to every fourth pixel
    corner = np.arange(count * count).reshape(count, count)
    a, b, c, d = (
        part.ravel()
        for part in (corner[:-1, :-1], corner[:-1, 1:], corner[1:, :-1], corner[1:, 1:])
    )
    faces = np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])
    z = np.random.default_rng(0).uniform(0.5, 0.6, count * count)
    sheet = Surface.plain(np.stack([x * z / 50, y * z / 50, z], 1), faces, RED)
    K = np.diag([50.0, 50.0, 1.0])
    frame = draw([sheet], K, 33)
    assert frame.instance[1:-1, 1:-1].all()  # the rim itself may round outwards


def test_surfaces_behind_the_camera_and_outside_the_image_are_not_drawn() -> None:
    hidden = [box((0.1, 0.1, 0.1), RED).moved(np.eye(3), t) for t in ((0, 0, -0.5), (5, 0, 0.5))]
    frame = draw(hidden, camera(16, 20.0), 16)
    assert not frame.coverage.any()
    np.testing.assert_array_equal(frame.rgb, 200)


def test_bad_input_is_named() -> None:
    rasterizer, ball = Rasterizer(8, 8), sphere(0.1, RED)
    with pytest.raises(ValueError, match="background is uint8"):
        rasterizer.render([ball], camera(8, 9.0), Lighting.studio(), paper(9))
    skewed = camera(8, 9.0)
    skewed[0, 1] = 1.0
    with pytest.raises(ValueError, match="without skew"):
        rasterizer.render([ball], skewed, Lighting.studio(), paper(8))
    broken = ball.moved(np.eye(3), (np.nan, 0, 1))
    with pytest.raises(ValueError, match="not finite"):
        rasterizer.render([broken], camera(8, 9.0), Lighting.studio(), paper(8))


def test_lights_stay_nearly_white() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        lighting = Lighting.sample(rng)
        np.testing.assert_allclose(np.linalg.norm(lighting.directions, axis=1), 1.0, rtol=1e-5)
        for light in (*lighting.radiance, lighting.ambient[0]):
            assert np.abs(light / light.mean() - 1.0).max() <= 0.15
