"""2D joints as distributions: decoding, divergence, encoding, against loops and closed forms."""

import math

import pytest
import torch

from fourdhands.hands.mano import HandModel
from fourdhands.models.joints_2d import Joints2dBranch, Joints2dConfig, positional_encoding
from fourdhands.structures import AxisLogits, CellLogits
from tests.helpers.batches import random_batch


def gaussian(bins: int, place: float, sigma: float) -> list[float]:
    weights = [
        math.exp(-((((i + 0.5) / bins - 0.5 - place) / sigma) ** 2) / 2) for i in range(bins)
    ]
    return [weight / sum(weights) for weight in weights]


@pytest.mark.parametrize("place", [(0.0, 0.0), (0.21, -0.3), (-0.3103, 0.1407)])
def test_a_peak_is_decoded_finer_than_a_pixel(place: tuple[float, float]) -> None:
    x, y = (
        torch.tensor(gaussian(side * 3, place[i], 2 / side)).log()[None]
        for i, side in enumerate((192, 256))
    )
    found = AxisLogits(x=x, y=y).joints()[0] * torch.tensor([192, 256])
    assert found.tolist() == pytest.approx([place[0] * 192, place[1] * 256], abs=0.05)
    x, y = torch.tensor(gaussian(48, place[0], 0.02)), torch.tensor(gaussian(64, place[1], 0.02))
    heatmap = CellLogits((y[:, None] * x[None, :] + 1e-30).log()[None])
    found = heatmap.joints()[0] * torch.tensor([192, 256])
    assert found.tolist() == pytest.approx([place[0] * 192, place[1] * 256], abs=0.05)


def test_deviations_are_the_gaussians_own() -> None:
    """The width of what was drawn, by each axis; a bin's own width is no part of it."""
    x, y = (
        torch.tensor(gaussian(bins, p, s)) for bins, p, s in ((96, 0.1, 0.03), (128, -0.2, 0.07))
    )
    found = AxisLogits(x=x.log()[None], y=y.log()[None]).deviations()
    assert found[0].tolist() == pytest.approx([0.03, 0.07], rel=0.01)
    cells = CellLogits((y[:, None] * x[None, :] + 1e-30).log()[None])
    assert cells.deviations()[0].tolist() == pytest.approx([0.03, 0.07], rel=0.01)
    uniform = AxisLogits(x=torch.zeros(1, 96), y=torch.zeros(1, 128)).deviations()
    assert uniform[0].tolist() == pytest.approx([12**-0.5] * 2, rel=0.01)


def test_divergence_against_a_scalar_loop() -> None:
    torch.manual_seed(0)
    logits = AxisLogits(x=torch.randn(1, 12), y=torch.randn(1, 9))
    joint, sigma = torch.tensor([[0.1, -0.2]]), torch.tensor([0.05, 0.1])

    def divergence(row: torch.Tensor, place: float, width: float) -> float:
        predicted = row.softmax(-1).tolist()
        target = gaussian(len(predicted), place, width)
        return sum(t * math.log(t / p) for t, p in zip(target, predicted, strict=True) if t > 0)

    expected = divergence(logits.x[0], 0.1, 0.05) + divergence(logits.y[0], -0.2, 0.1)
    assert logits.divergence(joint, sigma).item() == pytest.approx(expected / 2, rel=1e-4)
    cells = CellLogits(torch.randn(1, 5, 4))
    predicted, expected = cells.cells[0].flatten().softmax(-1).tolist(), 0.0
    column, row = gaussian(4, 0.1, 0.05), gaussian(5, -0.2, 0.1)
    for i, probability in enumerate(predicted):
        target = row[i // 4] * column[i % 4]
        expected += target * math.log(target / probability) if target > 0 else 0.0
    assert cells.divergence(joint, sigma).item() == pytest.approx(expected, rel=1e-4)


def test_the_target_itself_costs_nothing() -> None:
    x, y = (torch.tensor(gaussian(n, p, 0.05)).log()[None] for n, p in ((30, 0.1), (40, -0.2)))
    joint, sigma = torch.tensor([[0.1, -0.2]]), torch.tensor([0.05, 0.05])
    assert AxisLogits(x=x, y=y).divergence(joint, sigma).abs().item() < 1e-5


def test_encoding_is_the_formula() -> None:
    values = torch.tensor([0.13, -0.4])
    expected = [
        function(2**octave * math.pi * value)
        for value in values.tolist()
        for octave in range(1, 5)
        for function in (math.sin, math.cos)
    ]
    assert positional_encoding(values).tolist() == pytest.approx(expected, abs=1e-5)
    assert positional_encoding(torch.zeros(2, 42)).shape == (2, 336)


@pytest.mark.parametrize(("kind", "names"), [("simcc", {"x", "y"}), ("heatmap", {"cells"})])
def test_bins_of_the_branch(kind: str, names: set[str]) -> None:
    branch = Joints2dBranch(Joints2dConfig(kind, channels=8), 16, 24, (4, 3), (64, 48))  # type: ignore[arg-type]
    batch = random_batch(HandModel.open(), clips=1, frames=2)
    visible = torch.tensor([[[True, False], [True, True]]])
    feature, logits = branch(
        torch.randn(1, 2, 2, 24), torch.randn(1, 2, 2, 12, 16), visible, batch.bbox, batch.camera
    )
    assert set(vars(logits)) == names and feature.shape == (1, 2, 2, 24)
    shapes = {name: tuple(value.shape[4:]) for name, value in vars(logits).items()}
    assert shapes in ({"x": (144,), "y": (192,)}, {"cells": (16, 12)})
    assert feature[0, 0, 1].abs().max() == 0 < feature[0, 0, 0].abs().max()
