"""Relation maps against a scalar loop written from 4DHands equations 1-3."""

import math
from typing import Literal

import pytest
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


def patch(box: list[float], i: int, k: int, shift: int) -> tuple[float, float]:
    """Eq. 1 for column i = 0 .. W-1: 2i + 1 - W is the true centre, 2i - W the corner."""
    rows, columns = GRID
    return (
        box[0] + (2 * i + shift - columns) * box[2] / (2 * columns),
        box[1] + (2 * k + shift - rows) * box[3] / (2 * rows),
    )


def loop(own: list[float], other: list[float], config: RelationConfig) -> list[list[float]]:
    rows, columns = GRID
    shift = 1 if config.patch_point == "centre" else 0
    y_size = 3 if config.box_scale == "sides" else 2
    tested = other if config.overlap_with == "other" else own
    out = []
    for k in range(rows):
        for i in range(columns):
            (x, y), (u, v) = patch(own, i, k, shift), patch(other, i, k, shift)
            inside = abs(x - tested[0]) <= tested[2] / 2 and abs(y - tested[1]) <= tested[3] / 2
            out.append(
                [
                    sigmoid(config.tau * (x - u) / own[2]),
                    sigmoid(config.tau * (y - v) / own[y_size]),
                    sigmoid(config.tau * (u - x) / other[2]),
                    sigmoid(config.tau * (v - y) / other[y_size]),
                    1.0 if inside else -1.0,
                ]
            )
    return out


@pytest.mark.parametrize(
    "config",
    [
        RelationConfig(),
        RelationConfig(tau=2.5),
        RelationConfig(patch_point="corner"),
        RelationConfig(box_scale="width"),
        RelationConfig(overlap_with="own"),
    ],
)
def test_relation_map_equals_the_scalar_loop(config: RelationConfig) -> None:
    right, left = [100.0, 80.0, 60.0, 80.0], [130.0, 120.0, 40.0, 60.0]
    for own, other in ((right, left), (left, right)):
        got = relation_map(torch.tensor(own), torch.tensor(other), GRID, config)
        torch.testing.assert_close(got, torch.tensor(loop(own, other, config)))
    overlap = relation_map(torch.tensor(right), torch.tensor(left), GRID, config)[:, 4]
    works = 0 < (overlap == 1).sum() < len(overlap)  # neither full nor empty
    assert works == (config.overlap_with == "other")


def test_patches_tile_the_box() -> None:
    centres = patch_centres(torch.tensor([10.0, 20.0, 6.0, 8.0]), GRID).unflatten(0, GRID)
    torch.testing.assert_close(centres[0, :, 0], torch.tensor([8.0, 10.0, 12.0]))
    torch.testing.assert_close(centres[:, 0, 1], torch.tensor([17.0, 19.0, 21.0, 23.0]))


def test_the_left_hand_is_described_in_its_mirrored_frame() -> None:
    bbox = torch.tensor([[100.0, 80.0, 60.0, 80.0], [150.0, 100.0, 90.0, 120.0]])
    own, other = own_and_other_bbox(bbox)
    assert own.tolist() == [[100, 80, 60, 80], [-150, 100, 90, 120]]
    assert other.tolist() == [[150, 100, 90, 120], [-100, 80, 60, 80]]


@pytest.mark.parametrize("fusion", ["concatenate", "add"])
def test_relations_need_both_hands(fusion: Literal["concatenate", "add"]) -> None:
    torch.manual_seed(0)
    module = RelationAwareTokens(RelationConfig(fusion=fusion), 8, GRID)
    tokens = torch.randn(1, 2, 2, 12, 8)
    bbox = torch.rand(1, 2, 2, 4) * 50 + 50
    visible = torch.tensor([[[True, True], [True, False]]])
    out = module(tokens, bbox, visible)
    torch.testing.assert_close(out[:, 1], tokens[:, 1])
    assert (out[:, 0] - tokens[:, 0]).abs().max() > 1e-3
