"""Roots, lines of sight and `upsilon`."""

import pytest
import torch

from fourdhands.hands.mano import HandModel
from fourdhands.models.two_hands import CAMERA_WEIGHT, reconciled_roots
from tests.helpers.batches import random_hands

ROOTS = torch.tensor([[[0.1, 0.05, 0.6], [-0.12, 0.02, 0.7]]], dtype=torch.double)


def test_what_agrees_stays() -> None:
    upsilon = ROOTS[:, 1] - ROOTS[:, 0]
    torch.testing.assert_close(reconciled_roots(ROOTS, upsilon), ROOTS)


def test_roots_stay_on_their_lines_of_sight_and_come_closer_to_upsilon() -> None:
    upsilon = ROOTS[:, 1] - ROOTS[:, 0] + torch.tensor([0.01, -0.02, 0.15])
    moved = reconciled_roots(ROOTS, upsilon)
    torch.testing.assert_close(
        moved[..., :2] / moved[..., 2:], ROOTS[..., :2] / ROOTS[..., 2:], atol=1e-9, rtol=0
    )
    depth = (moved[:, 1] - moved[:, 0])[:, 2]
    assert depth.item() == pytest.approx(upsilon[0, 2].item(), abs=0.03)  # it was 0.1 before
    assert moved[..., 2].mean().item() == pytest.approx(ROOTS[..., 2].mean().item(), abs=0.02)


def test_the_printed_function_is_least() -> None:
    upsilon = torch.tensor([[-0.3, 0.1, -0.2]], dtype=torch.double)

    def value(roots: torch.Tensor) -> torch.Tensor:
        off = (roots - ROOTS).square().sum()
        return (roots[:, 1] - roots[:, 0] - upsilon).square().sum() + CAMERA_WEIGHT**2 * off

    best = reconciled_roots(ROOTS, upsilon)
    factors = torch.ones(1, 2, 1, dtype=torch.double, requires_grad=True)
    (gradient,) = torch.autograd.grad(value(best * factors), factors)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-12, rtol=0)


def test_mirrored_and_swapped() -> None:
    upsilon, mirror = torch.randn(4, 3).double(), torch.tensor([-1.0, 1.0, 1.0]).double()
    roots = ROOTS + 0.1 * torch.rand(4, 2, 3).double()
    torch.testing.assert_close(
        reconciled_roots(roots.flip(1) * mirror, -upsilon * mirror),
        reconciled_roots(roots, upsilon).flip(1) * mirror,
    )


def test_roots_are_the_wrists() -> None:
    model, hands = HandModel.open(), random_hands(2, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        model.roots(hands), model(hands).joints[..., 0, :], atol=1e-6, rtol=0
    )
