"""The mean-pose predictor: constant, and the best constant it can be."""

from dataclasses import replace

import pytest
import roma
import torch

from fourdhands.evaluation.baselines import (
    MeanPosePredictor,
    estimate_mean_hand,
    neutral_hand,
)
from fourdhands.geometry.rotation import mirror_hands
from fourdhands.hands.mano import HandModel
from fourdhands.structures import ClipBatch
from tests.helpers.batches import mirrored_swapped, random_batch


@pytest.fixture(scope="module")
def hand_model() -> HandModel:
    return HandModel.open()


def identical_hands(hand_model: HandModel) -> ClipBatch:
    """A batch in which every right hand is the same and every left hand is its mirror image."""
    batch = random_batch(hand_model, clips=2, frames=2, crop_size=(8, 6))
    assert batch.labels is not None
    hands = batch.labels.hands.map(lambda tensor: tensor[:1, :1].expand_as(tensor).clone())
    mirrored = mirror_hands(hands)
    hands.global_orient[:, :, 1] = mirrored.global_orient[:, :, 0]
    hands.hand_pose[:, :, 1] = mirrored.hand_pose[:, :, 0]
    hands.betas[:, :, 1] = hands.betas[:, :, 0]
    joints = hand_model(hands).joints
    camera = batch.camera.map(lambda tensor: tensor[:1, :1].expand_as(tensor))
    return replace(
        batch,
        bbox=batch.bbox[:1, :1].expand_as(batch.bbox),
        camera=camera,
        labels=replace(batch.labels, hands=hands, joints=joints),
    )


def test_hands_that_are_all_alike_are_answered_exactly(hand_model: HandModel) -> None:
    batch = identical_hands(hand_model)
    assert batch.labels is not None
    predictor = MeanPosePredictor(estimate_mean_hand([batch, batch], hand_model))
    predictions = predictor(batch)
    predicted, true = hand_model(predictions.hands), hand_model(batch.labels.hands)
    torch.testing.assert_close(
        predicted.relative_to_root().joints, true.relative_to_root().joints, atol=1e-5, rtol=0
    )
    upsilon = batch.labels.joints[..., 1, 0, :] - batch.labels.joints[..., 0, 0, :]
    torch.testing.assert_close(predictions.upsilon, upsilon)


def test_no_other_wrist_rotation_has_less_squared_joint_error(hand_model: HandModel) -> None:
    batch = random_batch(hand_model, clips=8, frames=4, crop_size=(8, 6))
    mean = estimate_mean_hand([batch], hand_model)

    def squared_error(rotation: torch.Tensor) -> float:
        other = replace(mean, rotations=torch.cat((rotation[None], mean.rotations[1:])))
        assert batch.labels is not None
        predicted = hand_model(MeanPosePredictor(other)(batch).hands).relative_to_root().joints
        true = batch.labels.joints - batch.labels.joints[..., :1, :]
        return float((predicted - true).square().sum(-1).mean())

    generator = torch.Generator().manual_seed(0)
    best = squared_error(mean.rotations[0])
    for angle in (0.05, 0.5, 2.0):
        for turn in torch.randn(8, 3, generator=generator):
            turned = roma.rotvec_to_rotmat(angle * turn / turn.norm()) @ mean.rotations[0]
            assert squared_error(turned) > best


def test_mirroring_the_frame_mirrors_the_answer(hand_model: HandModel) -> None:
    batch = random_batch(hand_model, clips=3, frames=2, crop_size=(8, 6))
    mirror = mirrored_swapped(batch)
    predictor = MeanPosePredictor(neutral_hand(hand_model))
    predicted, mirrored = predictor(batch).hands, predictor(mirror).hands
    expected = mirror_hands(predicted).map(lambda tensor: tensor[:, :, [1, 0]])
    torch.testing.assert_close(mirrored.global_orient, expected.global_orient)
    torch.testing.assert_close(mirrored.hand_pose, expected.hand_pose)


@pytest.mark.parametrize("with_labels", [True, False])
def test_labels_are_needed(hand_model: HandModel, with_labels: bool) -> None:
    batch = random_batch(hand_model, crop_size=(8, 6))
    assert batch.labels is not None
    hidden = replace(batch.labels, hands_valid=torch.zeros_like(batch.labels.hands_valid))
    with pytest.raises(ValueError, match="mean pose"):
        estimate_mean_hand([replace(batch, labels=hidden if with_labels else None)], hand_model)
