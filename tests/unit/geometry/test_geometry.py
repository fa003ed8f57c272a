"""Cameras, crops and rotations: closed forms and round trips."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fourdhands.geometry.alignment import procrustes_align
from fourdhands.geometry.camera import (
    crop_intrinsics,
    default_intrinsics,
    intrinsics_from_focal_length,
    project,
    transl_from_weak_perspective,
    weak_perspective_from_transl,
)
from fourdhands.geometry.crop import (
    apply_affine,
    bbox_around,
    crop_affine,
    crop_from_image,
    expand_bbox,
    mirror_bbox,
    side_mirrored,
    warp_crop,
)
from fourdhands.geometry.rotation import (
    matrix_from_6d,
    matrix_from_axis_angle,
    mirror_points,
    mirror_rotation,
    sixd_from_matrix,
)

finite = st.floats(-1, 1, allow_nan=False, width=32)


def random_rotations(count: int, seed: int = 0) -> torch.Tensor:
    vectors = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)).double()
    return matrix_from_axis_angle(vectors)


def test_sixd_round_trip_and_layout() -> None:
    rotation = random_rotations(50)
    torch.testing.assert_close(matrix_from_6d(sixd_from_matrix(rotation)), rotation)
    assert torch.equal(sixd_from_matrix(rotation)[:, :3], rotation[:, :, 0])  # first column first
    scaled = sixd_from_matrix(rotation) * 3
    torch.testing.assert_close(matrix_from_6d(scaled), rotation)


def test_mirroring_commutes_with_rotating() -> None:
    rotation, points = random_rotations(20), torch.randn(20, 3).double()
    rotated = (rotation @ points[..., None])[..., 0]
    mirrored = (mirror_rotation(rotation) @ mirror_points(points)[..., None])[..., 0]
    torch.testing.assert_close(mirrored, mirror_points(rotated))
    torch.testing.assert_close(mirror_rotation(mirror_rotation(rotation)), rotation)


@settings(max_examples=50, deadline=None)
@given(st.tuples(finite, finite, finite), st.tuples(finite, finite), st.booleans())
def test_crop_camera_equals_full_image_camera_then_affine(
    point: tuple[float, ...], shift: tuple[float, ...], mirrored: bool
) -> None:
    points = torch.tensor([point]).double() * 0.2 + torch.tensor([0.0, 0.0, 0.6])
    intrinsics = intrinsics_from_focal_length(torch.tensor(500.0), torch.tensor([640.0, 480.0]))
    intrinsics = intrinsics.double()
    bbox = torch.tensor([300 + 80 * shift[0], 200 + 80 * shift[1], 90.0, 120.0]).double()
    affine = crop_affine(bbox, (256, 192), torch.tensor(mirrored))
    by_crop = project(points, crop_intrinsics(intrinsics, affine))
    torch.testing.assert_close(by_crop, apply_affine(affine, project(points, intrinsics)))


def test_crop_affine_maps_the_box_onto_the_crop() -> None:
    """The box's edges are the outer edges of the crop's border pixels."""
    bbox = torch.tensor([100.0, 50.0, 40.0, 20.0])
    corners = torch.tensor([[80.0, 40.0], [120.0, 60.0]])
    straight = apply_affine(crop_affine(bbox, (10, 20), torch.tensor(False)), corners)
    torch.testing.assert_close(straight, torch.tensor([[-0.5, -0.5], [19.5, 9.5]]))
    flipped = apply_affine(crop_affine(bbox, (10, 20), torch.tensor(True)), corners)
    torch.testing.assert_close(flipped, torch.tensor([[19.5, -0.5], [-0.5, 9.5]]))


def test_the_left_crop_is_the_right_crop_of_the_mirrored_image() -> None:
    bbox = torch.tensor([[100.0, 50.0, 40.0, 20.0], [30.0, 60.0, 24.0, 32.0]])
    points = torch.rand(2, 5, 2) * 100
    left = apply_affine(crop_from_image(bbox, (32, 24)), points)[1]
    mirrored_points = torch.stack((159 - points[..., 0], points[..., 1]), -1)
    in_mirror = crop_from_image(mirror_bbox(bbox, 160)[[1, 0]], (32, 24))
    torch.testing.assert_close(apply_affine(in_mirror[0], mirrored_points[1]), left)


def test_weak_perspective_round_trip_and_meaning() -> None:
    intrinsics = torch.tensor([[500.0, 0, 310], [0, 520.0, 250], [0, 0, 1]])
    bbox = torch.tensor([200.0, 300.0, 90.0, 120.0])
    transl = torch.tensor([0.1, -0.2, 0.7])
    camera = weak_perspective_from_transl(transl, bbox, intrinsics)
    torch.testing.assert_close(transl_from_weak_perspective(camera, bbox, intrinsics), transl)
    # half the longer side of the box spans 1 / s metres at the hand, and t moves the hand in metres
    centred = transl_from_weak_perspective(torch.tensor([8.0, 0.0, 0.0]), bbox, intrinsics)
    torch.testing.assert_close(project(centred[None], intrinsics)[0], bbox[:2])
    assert centred[2].item() == pytest.approx(510 / (60 * 8.0))
    moved = transl_from_weak_perspective(torch.tensor([8.0, 1 / 8, 0.0]), bbox, intrinsics)
    torch.testing.assert_close(
        project(moved[None], intrinsics)[0], bbox[:2] + torch.tensor([60.0, 0])
    )


@pytest.mark.parametrize("known", [True, False])
def test_the_full_camera_shows_a_hand_where_the_crop_camera_does(known: bool) -> None:
    """Both sides, crops that are not square: within 1e-4 pixels of a 256 x 192 crop."""
    generator = torch.Generator().manual_seed(0)
    size = torch.tensor([640.0, 480.0], dtype=torch.double)
    own = torch.tensor([[500.0, 0, 310], [0, 520, 250], [0, 0, 1]], dtype=torch.double)
    intrinsics = (own if known else default_intrinsics(size)).expand(200, 2, 3, 3)
    bbox = torch.rand(200, 2, 4, generator=generator).double() * 300 + 40
    bbox[..., 2] = bbox[..., 3] * 0.75
    camera = torch.rand(200, 2, 3, generator=generator).double() - 0.5
    camera = camera * torch.tensor([4.0, 0.2, 0.2]) + torch.tensor([8.0, 0.0, 0.0])
    unmirrored = camera.clone()
    unmirrored[:, 1, 1] *= -1
    transl = transl_from_weak_perspective(unmirrored, bbox, intrinsics)
    pixels = project(transl[:, :, None], intrinsics)
    shown = apply_affine(crop_from_image(bbox, (256, 192)), pixels)[:, :, 0]
    middle = torch.tensor([191.0, 255.0]) / 2
    expected = middle + 128 * camera[..., :1] * camera[..., 1:]
    torch.testing.assert_close(shown, expected, atol=1e-4, rtol=0)


def test_default_focal_length_is_the_diagonal() -> None:
    intrinsics = default_intrinsics(torch.tensor([640.0, 480.0]))
    expected = torch.tensor([[800.0, 0, 319.5], [0, 800.0, 239.5], [0, 0, 1]])
    torch.testing.assert_close(intrinsics, expected)


def test_boxes_ignore_invalid_points_and_take_the_aspect() -> None:
    points = torch.tensor([[[0.0, 0.0], [10.0, 4.0], [99.0, 99.0]], [[1.0, 1], [2, 2], [3, 3]]])
    valid = torch.tensor([[True, True, False], [False, False, False]])
    box = bbox_around(points, valid)
    torch.testing.assert_close(box, torch.tensor([[5.0, 2.0, 10.0, 4.0], [0.0, 0, 0, 0]]))
    torch.testing.assert_close(
        expand_bbox(box[0], scale=1.5, aspect=0.5), torch.tensor([5.0, 2.0, 15.0, 30.0])
    )


@pytest.mark.parametrize("scale", [0.7, 1.3, 2.0, 3.7, 6.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_warped_crop_shows_the_point_where_the_affine_says(scale: float, mirrored: bool) -> None:
    """Also when the crop is a reduction: a Gaussian blob's centroid lands within 0.1 pixels."""
    y, x = np.mgrid[:400, :500]
    centre = np.array([257.0, 171.0])
    blob = 255 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * 6.0**2))
    image = np.repeat(blob[..., None], 3, 2).astype(np.uint8)
    bbox = torch.tensor([250.0, 180.0, 48 * scale * 1.5, 64 * scale * 1.5]).double()
    affine = crop_affine(bbox, (96, 72), torch.tensor(mirrored))
    crop = warp_crop(image, affine.numpy(), (96, 72))[..., 0].astype(float)
    crop[crop < 40] = 0
    rows, columns = np.mgrid[:96, :72]
    found = np.array([(crop * columns).sum(), (crop * rows).sum()]) / crop.sum()
    expected = apply_affine(affine, torch.tensor(centre)[None])[0].numpy()
    np.testing.assert_allclose(found, expected, atol=0.1)


def test_reduction_does_not_alias() -> None:
    """Stripes one pixel wide become grey, not stripes of another width."""
    image = np.zeros((512, 512, 3), np.uint8)
    image[:, ::2] = 255
    bbox = torch.tensor([250.0, 250.0, 250.0, 250.0]).double()
    affine = crop_affine(bbox, (50, 50), torch.tensor(False)).numpy()
    assert warp_crop(image, affine, (50, 50)).std() < 20
    naive = cv2.warpAffine(image, affine, (50, 50), flags=cv2.INTER_NEAREST)
    assert naive.std() > 60


def test_a_crop_beyond_the_image_is_black() -> None:
    image = np.full((100, 100, 3), 200, np.uint8)
    for size in (40.0, 400.0):
        affine = crop_affine(
            torch.tensor([500.0, 500.0, size, size]).double(), (32, 32), torch.tensor(False)
        )
        assert warp_crop(image, affine.numpy(), (32, 32)).max() == 0


def test_procrustes_undoes_a_similarity_and_never_reflects() -> None:
    source = torch.randn(4, 21, 3).double()
    target = 1.7 * source @ random_rotations(4).mT + torch.randn(4, 1, 3).double()
    torch.testing.assert_close(procrustes_align(source, target), target)
    mirrored = procrustes_align(mirror_points(source), target)
    assert (mirrored - target).norm(dim=-1).mean() > 0.1


def test_the_left_hand_is_the_mirrored_one_in_compiled_networks_too() -> None:
    compiled = torch.compile(side_mirrored, backend="eager")
    assert compiled(torch.zeros(1)).tolist() == side_mirrored(torch.zeros(1)).tolist()
    assert compiled(torch.zeros(1)).tolist() == [False, True]
