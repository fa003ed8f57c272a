"""Confidence: closed forms, what it must not depend on, its threshold, and holding hands."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fourdhands.geometry.camera import project
from fourdhands.geometry.crop import crop_from_image, places_in_crops, points_at_places
from fourdhands.hands.mano import HandModel
from fourdhands.models.confidence import (
    ConfidenceThreshold,
    agreement,
    hand_confidence,
    hold_confident,
    nearest_confident,
)
from fourdhands.structures import AxisLogits, Camera, ClipBatch
from tests.helpers.batches import random_batch, random_hands


@pytest.fixture(scope="module")
def batch() -> ClipBatch:
    return random_batch(HandModel.open())


def peaks(places: Tensor) -> AxisLogits:
    bins = (torch.arange(1000) + 0.5) / 1000 - 0.5
    logits = -((bins - places[..., None]) / 2e-3).square() / 2
    return AxisLogits(x=logits[..., 0, :], y=logits[..., 1, :])


def test_places_are_what_the_crops_show(batch: ClipBatch) -> None:
    """Equations 8 and 9: pixels of the crop less its middle, over its sides."""
    assert batch.labels is not None
    points = batch.labels.joints_2d
    affine = crop_from_image(batch.bbox, batch.crop_size)
    pixels = points @ affine[..., :2].mT + affine[..., None, :, 2]
    expected = (pixels + 0.5) / torch.tensor([48.0, 64.0]) - 0.5
    places = places_in_crops(points, batch.bbox)
    torch.testing.assert_close(places, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(points_at_places(places, batch.bbox), points, atol=1e-3, rtol=0)


def test_agreement_is_a_cosine() -> None:
    first = torch.randn(21, 2)
    second = torch.randn(21, 2)
    expected = (first * second).sum() / first.norm() / second.norm()
    torch.testing.assert_close(agreement(first, second), expected)
    for scale, value in ((3.0, 1.0), (-0.5, -1.0)):
        torch.testing.assert_close(agreement(first, scale * first), torch.tensor(value))


def test_the_same_points_are_confident_wherever_the_crop_is(batch: ClipBatch) -> None:
    """Also at another resolution of the frame, and with another margin around the hand."""
    assert batch.labels is not None
    joints = batch.labels.joints
    pixels = project(joints, batch.camera.intrinsics[..., None, :, :])
    for box in (batch.bbox, batch.bbox * torch.tensor([1.0, 1.0, 1.4, 1.4])):
        logits = peaks(places_in_crops(pixels, box))
        confidence = hand_confidence(logits, joints, box, batch.camera)
        torch.testing.assert_close(confidence, torch.ones(2, 3, 2), atol=1e-4, rtol=0)
    other = random_hands(2, 3, generator=torch.Generator().manual_seed(9))
    joints = HandModel.open()(other).joints
    once = hand_confidence(logits, joints, box, batch.camera)
    larger = Camera(
        batch.camera.intrinsics * torch.tensor([2.0, 2.0, 1.0])[:, None],
        batch.camera.image_size * 2,
        batch.camera.cam_from_world,
    )
    torch.testing.assert_close(hand_confidence(logits, joints, box * 2, larger), once)
    assert (once < 0.9).any()


def test_the_threshold_lies_between_hands_and_others() -> None:
    torch.manual_seed(0)
    threshold = ConfidenceThreshold()
    assert threshold.value.isnan()
    is_hand = torch.rand(300, 64) < 0.7
    confidence = torch.where(is_hand, 0.9 + 0.05 * torch.randn(()), 0.1) + 0.0
    confidence += torch.randn(300, 64) * torch.where(is_hand, 0.05, 0.15)
    for values, kinds in zip(confidence, is_hand, strict=True):
        spoilt = values.index_fill(0, torch.tensor([0]), torch.nan)
        threshold.update(spoilt, kinds, torch.arange(64) > 0)
    hands, others = confidence[is_hand], confidence[~is_hand]
    deviations = ((hands.mean() - threshold.value) / hands.std()).item()
    assert deviations == pytest.approx(
        ((threshold.value - others.mean()) / others.std()).item(), rel=0.1
    )
    copy = ConfidenceThreshold()
    copy.load_state_dict(threshold.state_dict())
    assert copy.value == threshold.value


def test_without_non_hands_there_is_no_threshold() -> None:
    threshold = ConfidenceThreshold()
    always = torch.ones(8, dtype=torch.bool)
    threshold.update(torch.rand(8), always, always)
    assert threshold.value.isnan()


def test_frames_that_are_not_confident_hold_the_last_that_was() -> None:
    confident = torch.tensor([[0, 1, 0, 0, 1, 0], [1, 0, 1, 1, 0, 0]]).bool().mT  # (T, S)
    expected = torch.tensor([[0, 1, 1, 1, 4, 4], [0, 0, 2, 3, 3, 3]]).mT
    assert torch.equal(nearest_confident(confident), expected)
    hands = random_hands(1, 6, generator=torch.Generator().manual_seed(0))
    held = hold_confident(hands, confident[None])
    for side in range(2):
        for t in range(6):
            source = int(expected[t, side])
            assert torch.equal(held.transl[0, t, side], hands.transl[0, source, side])
            assert torch.equal(held.hand_pose[0, t, side], hands.hand_pose[0, source, side])


def test_a_mirrored_scene_is_as_confident(batch: ClipBatch) -> None:
    assert batch.labels is not None
    joints, logits = batch.labels.joints, peaks(torch.rand(2, 3, 2, 21, 2) - 0.5)
    once = hand_confidence(logits, joints, batch.bbox, batch.camera)
    swap = [1, 0]
    intrinsics = batch.camera.intrinsics.clone()
    width = batch.camera.image_size[0, 0, 0]
    intrinsics[..., 0, 2] = width - 1 - intrinsics[..., 0, 2]
    bbox = batch.bbox.clone()
    bbox[..., 0] = width - 1 - bbox[..., 0]
    again = hand_confidence(
        logits.map(lambda tensor: tensor[:, :, swap]),
        (joints * torch.tensor([-1.0, 1.0, 1.0]))[:, :, swap],
        bbox[:, :, swap],
        replace(batch.camera, intrinsics=intrinsics),
    )
    torch.testing.assert_close(again, once[..., swap], atol=1e-5, rtol=0)
