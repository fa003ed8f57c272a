"""Relation maps against a scalar loop written from 4DHands equations 1-3."""

import math

import torch

from fourdhands.models.rat import (
    RelationAwareTokens,
    RelationConfig,
    own_and_other_bbox,
    patch_centres,
    relation_map,
)

GRID = (4, 3)  # H = 4 rows, W = 3 columns


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def centre(box: list[float], i: int, k: int) -> tuple[float, float]:
    """Eq. 1 with the true centre: 2i + 1 - W for column i = 0 .. W-1."""
    rows, columns = GRID
    return (
        box[0] + (2 * i + 1 - columns) * box[2] / (2 * columns),
        box[1] + (2 * k + 1 - rows) * box[3] / (2 * rows),
    )


def loop(own: list[float], other: list[float], tau: float) -> list[list[float]]:
    rows, columns = GRID
    out = []
    for k in range(rows):
        for i in range(columns):
            (x, y), (u, v) = centre(own, i, k), centre(other, i, k)
            inside = abs(x - other[0]) <= other[2] / 2 and abs(y - other[1]) <= other[3] / 2
            out.append(
                [
                    sigmoid(tau * (x - u) / own[2]),
                    sigmoid(tau * (y - v) / own[3]),
                    sigmoid(tau * (u - x) / other[2]),
                    sigmoid(tau * (v - y) / other[3]),
                    1.0 if inside else -1.0,
                ]
            )
    return out


def test_relation_map_equals_the_scalar_loop() -> None:
    right, left = [100.0, 80.0, 60.0, 80.0], [130.0, 120.0, 40.0, 60.0]
    for own, other in ((right, left), (left, right)):
        for tau in (1.0, 2.5):
            got = relation_map(torch.tensor(own), torch.tensor(other), GRID, tau)
            torch.testing.assert_close(got, torch.tensor(loop(own, other, tau)))
    overlap = relation_map(torch.tensor(right), torch.tensor(left), GRID, 1.0)[:, 4]
    assert 0 < (overlap == 1).sum() < len(overlap)  # the map works: neither full nor empty


def test_patches_tile_the_box() -> None:
    centres = patch_centres(torch.tensor([10.0, 20.0, 6.0, 8.0]), GRID).unflatten(0, GRID)
    torch.testing.assert_close(centres[0, :, 0], torch.tensor([8.0, 10.0, 12.0]))
    torch.testing.assert_close(centres[:, 0, 1], torch.tensor([17.0, 19.0, 21.0, 23.0]))


def test_the_left_hand_is_described_in_its_mirrored_frame() -> None:
    bbox = torch.tensor([[100.0, 80.0, 60.0, 80.0], [150.0, 100.0, 90.0, 120.0]])
    own, other = own_and_other_bbox(bbox)
    assert own.tolist() == [[100, 80, 60, 80], [-150, 100, 90, 120]]
    assert other.tolist() == [[150, 100, 90, 120], [-100, 80, 60, 80]]


def test_tokens_start_as_they_are_and_relations_need_both_hands() -> None:
    torch.manual_seed(0)
    module = RelationAwareTokens(RelationConfig(), 8, GRID)
    tokens = torch.randn(1, 2, 2, 12, 8)
    bbox = torch.rand(1, 2, 2, 4) * 50 + 50
    visible = torch.tensor([[[True, True], [True, False]]])
    out = module(tokens, bbox, visible)
    torch.testing.assert_close(out[:, 1], tokens[:, 1])
    assert (out[:, 0] - tokens[:, 0]).abs().max() > 1e-3
