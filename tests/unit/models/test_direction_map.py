"""Direction maps against the equations as printed, and what moving a crop changes."""

import pytest
import torch

from fourdhands.geometry.camera import default_intrinsics
from fourdhands.models.direction_map import global_direction_map, local_direction_map
from fourdhands.structures import Camera

WIDTH, HEIGHT = 640, 480
GRID = (4, 3)


def camera(matrix: torch.Tensor) -> Camera:
    return Camera(matrix, torch.tensor([WIDTH, HEIGHT]).float(), torch.eye(4))


def unknown_camera() -> Camera:
    return camera(default_intrinsics(torch.tensor([WIDTH, HEIGHT]).float()))


def test_the_right_hands_map_is_equations_1_to_5_for_each_axis() -> None:
    """A patch of 96 x 128 frame pixels, seen as 48 x 64, with a map of 3 x 4."""
    corner, size, patch = (200.0, 60.0), (96.0, 128.0), (48.0, 64.0)
    middle = [corner[i] + size[i] / 2 - 0.5 for i in range(2)]  # pixel centres are integers
    bbox = torch.tensor([[*middle, *size]] * 2)
    found = global_direction_map(bbox, unknown_camera(), GRID)[0].reshape(*GRID, 2)
    focal = (WIDTH**2 + HEIGHT**2) ** 0.5
    for row in range(GRID[0]):
        for column in range(GRID[1]):
            for axis, (place, side) in enumerate(((column, GRID[1]), (row, GRID[0]))):
                sc_p, sc_o = patch[axis] / side, size[axis] / patch[axis]
                p_l = place * sc_p + sc_p / 2
                p_g = p_l * sc_o + corner[axis] - (WIDTH, HEIGHT)[axis] / 2
                assert found[row, column, axis].item() == pytest.approx(p_g / focal, abs=1e-6)


def test_known_intrinsics_have_their_own_centre_and_focal_lengths() -> None:
    matrix = torch.tensor([[400.0, 0.0, 300.0], [0.0, 500.0, 250.0], [0.0, 0.0, 1.0]])
    bbox = torch.tensor([[300.0, 250.0, 120.0, 160.0]] * 2)
    found = global_direction_map(bbox, camera(matrix), GRID)
    torch.testing.assert_close(found.mean(1), torch.zeros(2, 2))
    assert found[0, :, 0].max().item() == pytest.approx(120 / 3 / 400)
    assert found[0, :, 1].max().item() == pytest.approx(160 * 3 / 8 / 500)


def test_moving_the_crop_changes_the_global_map_only() -> None:
    bbox = torch.tensor([[300.0, 250.0, 120.0, 160.0]] * 2)
    moved = bbox + torch.tensor([80.0, -40.0, 0.0, 0.0])
    shift = global_direction_map(moved, unknown_camera(), GRID) - global_direction_map(
        bbox, unknown_camera(), GRID
    )
    expected = torch.tensor([[80.0, -40.0], [-80.0, -40.0]]) / 800  # the left crop is mirrored
    torch.testing.assert_close(shift, expected[:, None].expand_as(shift))
    torch.testing.assert_close(local_direction_map(moved, GRID), local_direction_map(bbox, GRID))
    assert local_direction_map(bbox, (1, 2))[0].tolist() == [[-0.5, 0.0], [0.5, 0.0]]
