"""The loss equations against double loops, finite differences and their masks."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fourdhands.geometry.camera import project
from fourdhands.geometry.rotation import mirror_hands
from fourdhands.hands.mano import HandModel
from fourdhands.models.crop_frame import hands_in_crop_frame
from fourdhands.models.network import TwoHandNetwork
from fourdhands.skeleton import JOINT_PARENTS
from fourdhands.structures import (
    AxisLogits,
    ClipBatch,
    HandState,
    Predictions,
    left_from_right_root,
)
from fourdhands.training.losses import (
    EPSILON,
    TERMS,
    Comparison,
    LossConfig,
    ReconstructionLoss,
    close_pairs,
    max_mse,
    mean_close_pair_difference,
    mean_pair_difference,
)
from tests.helpers.batches import random_batch, random_hands
from tests.helpers.runs import tiny_network

DAHYF = ("l1_direct_2d", "l1_joints_3d", "l1_projected_2d", "bone_lengths", "confidence")
EVERY: Any = dict.fromkeys(("joint_bins", *DAHYF), 1.0)
"""Weights of the terms that are 0 by default."""


@pytest.fixture(scope="module")
def hand_model() -> HandModel:
    return HandModel()


def perfect(batch: ClipBatch) -> Predictions:
    assert batch.labels is not None
    return Predictions(
        hands=batch.labels.hands,
        crop_camera=crop_cameras(batch.labels.hands, batch),
        rotations_6d=crop_rotations_6d(batch.labels.hands),
        upsilon=left_from_right_root(batch.labels.joints),
        joint_logits=peaks(batch.labels.joints_2d, batch),
    )


def crop_rotations_6d(hands: HandState) -> Tensor:
    """6D rotations as crops show them, side by side in a readable way."""
    sides = []
    for side in range(2):
        hand = hands if side == 0 else mirror_hands(hands)
        wrist = hand.global_orient[..., side, None, :, :]
        sides.append(torch.cat((wrist, hand.hand_pose[..., side, :, :, :]), -3))
    matrices = torch.stack(sides, -4)
    return torch.cat((matrices[..., :, 0], matrices[..., :, 1]), -1)


def crop_cameras(hands: HandState, batch: ClipBatch) -> Tensor:
    """Where pinhole cameras see MANO's origins, in metres and half crops, left crops mirrored."""
    x, y, depth = hands.transl.unbind(-1)
    matrix = batch.camera.intrinsics[..., None, :, :]
    half = batch.bbox[..., 2:].amax(-1) / 2
    focal_x, focal_y = matrix[..., 0, 0], matrix[..., 1, 1]
    scale = (focal_x + focal_y) / 2 / depth / half
    right = (focal_x * x / depth + matrix[..., 0, 2] - batch.bbox[..., 0]) / half / scale
    down = (focal_y * y / depth + matrix[..., 1, 2] - batch.bbox[..., 1]) / half / scale
    return torch.stack((scale, right * torch.tensor([1.0, -1.0]), down), -1)


def peaks(joints: Tensor, batch: ClipBatch) -> AxisLogits:
    """Gaussians about full-image joints, 3 bins a pixel of 64 x 48 crops, 0.01 of 64 wide."""
    low = batch.bbox[..., :2] - batch.bbox[..., 2:] / 2
    place = (joints - low[..., None, :]) / batch.bbox[..., None, 2:]
    place[..., 1, :, 0] = 1 - place[..., 1, :, 0]  # left crops are mirrored

    def axis(index: int, side: int) -> Tensor:
        bins = (torch.arange(3 * side) + 0.5) / 3
        return -(((bins - place[..., index, None] * side) / 0.64) ** 2) / 2

    return AxisLogits(x=axis(0, 48), y=axis(1, 64))


def wrong(batch: ClipBatch, seed: int = 5) -> Predictions:
    hands = random_hands(*batch.frame_valid.shape, generator=torch.Generator().manual_seed(seed))
    return replace(
        perfect(batch),
        hands=hands,
        crop_camera=crop_cameras(hands, batch),
        rotations_6d=crop_rotations_6d(hands),
        joint_logits=peaks(torch.rand(*batch.frame_valid.shape, 2, 21, 2) * 240, batch),
        upsilon=torch.rand(*batch.frame_valid.shape, 3),
    )


def pair_loop(right: Tensor, left: Tensor, close: Tensor) -> float:
    """The mean of |left_k - right_i|^2 over pairs, as the equations are printed."""
    total, count = 0.0, 0
    for i in range(len(right)):
        for k in range(len(left)):
            if close[i, k]:
                total += float(((left[k] - right[i]) ** 2).sum())
                count += 1
    return total / max(count, 1)


def test_max_mse_is_equation_5() -> None:
    error = torch.tensor([[[3.0, 4.0], [0.0, 1.0], [7.0, 7.0]]])
    valid = torch.tensor([[True, True, False]])
    torch.testing.assert_close(max_mse(error, valid), torch.tensor([(625.0 + 1) / (25 + 1)]))
    assert max_mse(torch.zeros(1, 3, 2), valid) == 0


def test_pair_differences_equal_double_loops() -> None:
    torch.manual_seed(0)
    right, left = torch.randn(2, 7, 3).double(), torch.randn(2, 9, 3).double()
    close = torch.rand(2, 7, 9) < 0.3
    close[1] = False
    right_valid, left_valid = torch.rand(2, 7) < 0.7, torch.rand(2, 9) < 0.7
    labelled = mean_pair_difference(
        right.masked_fill(~right_valid[..., None], torch.nan), left, right_valid, left_valid
    )
    for n in range(2):
        assert labelled[n].item() == pytest.approx(
            pair_loop(right[n], left[n], right_valid[n, :, None] & left_valid[n])
        )
        assert mean_close_pair_difference(right, left, close)[n].item() == pytest.approx(
            pair_loop(right[n], left[n], close[n])
        )


def test_gradients_of_the_equations() -> None:
    torch.manual_seed(0)
    right = torch.randn(2, 4, 3, dtype=torch.double, requires_grad=True)
    left = torch.randn(2, 5, 3, dtype=torch.double, requires_grad=True)
    close = torch.rand(2, 4, 5) < 0.5
    valid = torch.rand(2, 4) < 0.8
    left_valid = torch.rand(2, 5) < 0.8
    assert torch.autograd.gradcheck(mean_pair_difference, (right, left, valid, left_valid))
    assert torch.autograd.gradcheck(
        lambda r, e: mean_close_pair_difference(r, e, close), (right, left)
    )
    assert torch.autograd.gradcheck(lambda e: max_mse(e, valid), (right,))


def test_close_pairs_are_those_within_alpha(hand_model: HandModel) -> None:
    batch = random_batch(hand_model, clips=1, frames=1)
    assert batch.labels is not None
    true = hand_model(batch.labels.hands)
    close = close_pairs(true, alpha=0.005)[0, 0]
    right, left = true.vertices[0, 0]
    picks = torch.randint(0, 778, (200, 2), generator=torch.Generator().manual_seed(0))
    for i, k in picks.tolist():
        squared = float(((right[i] - left[k]) ** 2).sum())
        assert bool(close[i, k]) == (squared <= 0.005)
    assert close.any() and not close.all()


def test_the_truth_costs_nothing_and_every_term_sees_an_error(hand_model: HandModel) -> None:
    batch = random_batch(hand_model)
    loss = ReconstructionLoss(LossConfig(**EVERY), hand_model)
    assert all(value < 1e-6 for value in loss(perfect(batch), batch).terms.values())
    assert batch.labels is not None
    batch.labels.is_hand[0] = False
    terms = loss(wrong(batch), batch)
    assert set(terms.terms) == set(TERMS) and all(value > 1e-3 for value in terms.terms.values())
    assert terms.total.item() == pytest.approx(sum(float(v) for v in terms.weighted.values()))


def test_upsilon_places_the_predicted_left_hand(hand_model: HandModel) -> None:
    """Where the hands are right, relation terms measure upsilon; cameras do not matter."""
    batch = random_batch(hand_model)
    truth = perfect(batch)
    moved = replace(
        truth,
        upsilon=truth.upsilon + torch.tensor([0.03, 0.0, -0.04]),
        hands=replace(truth.hands, transl=truth.hands.transl + 0.2 * torch.rand(2, 3, 2, 3)),
    )
    terms = ReconstructionLoss(LossConfig(**EVERY), hand_model)(moved, batch).terms
    assert terms["joint_relation"].item() == pytest.approx(0.05**2, rel=1e-3)
    assert terms["closeness"].item() == pytest.approx(0.05**2, rel=1e-3)
    assert terms["joints_3d"] < 1e-6 < terms["joints_2d"]


def test_crop_camera_term_measures_size_and_place_in_the_crop(hand_model: HandModel) -> None:
    batch = random_batch(hand_model)
    truth = perfect(batch)
    scale, x, y = truth.crop_camera.unbind(-1)
    loss = ReconstructionLoss(LossConfig(**EVERY), hand_model)
    for error, camera in {
        0.1: (scale * 1.1, x, y),  # a tenth too large
        0.25: (scale, x + 0.25 * 2 / scale, y),  # a quarter of the crop's longer side off
    }.items():
        moved = replace(truth, crop_camera=torch.stack(camera, -1))
        value = loss(moved, batch).terms["crop_camera"].item()
        assert value == pytest.approx(error**2, rel=1e-3)


def test_a_term_of_weight_zero_is_not_computed(hand_model: HandModel) -> None:
    batch = random_batch(hand_model)
    loss = ReconstructionLoss(LossConfig(closeness=0.0, betas=0.0, **EVERY), hand_model)
    assert set(loss(wrong(batch), batch).terms) == set(TERMS) - {"closeness", "betas"}


def test_what_is_masked_does_not_count(hand_model: HandModel) -> None:
    """Terms over a masked batch equal the terms over what is left, and stay finite."""
    batch = random_batch(hand_model, clips=3)
    predictions = wrong(batch)
    batch.frame_valid[2] = False
    assert batch.labels is not None
    batch.labels.joints_2d[2] = float("inf")
    loss = ReconstructionLoss(LossConfig(**EVERY), hand_model)
    masked, rest = loss(predictions, batch), loss(predictions[:2], batch[:2])
    for name in TERMS:
        torch.testing.assert_close(masked.terms[name], rest.terms[name], rtol=1e-4, atol=1e-7)


def test_only_labelled_hands_and_joints_count(hand_model: HandModel) -> None:
    batch = random_batch(hand_model)
    predictions = wrong(batch)
    assert batch.labels is not None
    batch.labels.hands_valid[..., 1] = False
    batch.labels.joints_valid[..., 1, :] = False
    batch.labels.joints_valid[:, 0, 0, 5:] = False
    batch.labels.joints_2d_valid[..., 1, :] = False
    spoiled = replace(
        predictions,
        upsilon=predictions.upsilon * 7,
        hands=predictions.hands.map(_spoil_left),
        rotations_6d=_spoil_left(predictions.rotations_6d),
        crop_camera=_spoil_left(predictions.crop_camera),
        joint_logits=predictions.joint_logits and predictions.joint_logits.map(_spoil_left),
    )
    loss = ReconstructionLoss(LossConfig(**EVERY), hand_model)
    first, second = loss(predictions, batch).terms, loss(spoiled, batch).terms
    for name in TERMS:
        torch.testing.assert_close(first[name], second[name])
    assert first["closeness"] == first["joint_relation"] == 0 < first["joints_3d"]


def _spoil_left(tensor: Tensor) -> Tensor:
    tensor = tensor.clone()
    tensor[:, :, 1] = tensor[:, :, 1].roll(1, 0)
    return tensor


def test_joints_3d_term_equals_a_scalar_loop(hand_model: HandModel) -> None:
    batch = random_batch(hand_model, clips=2, frames=1)
    predictions = wrong(batch)
    assert batch.labels is not None
    batch.labels.joints_valid[0, 0, 0, 3] = False
    predicted, true = hand_model(predictions.hands).joints, batch.labels.joints
    values = []
    for clip in range(2):
        for side in range(2):
            fourth = second = 0.0
            for j in range(21):
                if not batch.labels.joints_valid[clip, 0, side, j]:
                    continue
                p = predicted[clip, 0, side, j] - predicted[clip, 0, side, 0]
                t = true[clip, 0, side, j] - true[clip, 0, side, 0]
                squared = float(((p - t) ** 2).sum())
                second, fourth = second + squared, fourth + squared**2
            values.append(fourth / (second + EPSILON))
    loss = ReconstructionLoss(LossConfig(**EVERY), hand_model)
    assert loss(predictions, batch).terms["joints_3d"].item() == pytest.approx(
        sum(values) / 4, rel=1e-4
    )


def test_the_middle_frame_can_weigh_more(hand_model: HandModel) -> None:
    batch = random_batch(hand_model, frames=3)
    predictions = wrong(batch)
    heavy = ReconstructionLoss(LossConfig(middle_frame=1e6, **EVERY), hand_model)
    even = ReconstructionLoss(LossConfig(**EVERY), hand_model)
    middle = slice(1, 2)
    first = heavy(predictions, batch).terms["joints_3d"]
    second = even(predictions[:, middle], batch[:, middle]).terms["joints_3d"]
    torch.testing.assert_close(first, second, rtol=1e-3, atol=0)


def test_gradients_reach_every_prediction(hand_model: HandModel) -> None:
    batch = random_batch(hand_model)
    start = wrong(batch)
    leaves = [start.hands.global_orient, start.hands.hand_pose, start.hands.betas]
    leaves += [start.hands.transl, start.upsilon, start.rotations_6d, start.crop_camera]
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    predictions = replace(
        start,
        hands=HandState(*leaves[:4]),
        upsilon=leaves[4],
        rotations_6d=leaves[5],
        crop_camera=leaves[6],
    )
    ReconstructionLoss(LossConfig(**EVERY), hand_model)(predictions, batch).total.backward()
    for leaf in leaves:
        assert leaf.grad is not None and leaf.grad.isfinite().all() and leaf.grad.abs().max() > 0


def test_bins_without_a_2d_branch_are_refused(hand_model: HandModel) -> None:
    batch = random_batch(hand_model)
    with pytest.raises(ValueError, match="joints_2d is null"):
        ReconstructionLoss(LossConfig(**EVERY), hand_model)(
            replace(perfect(batch), joint_logits=None), batch
        )


def test_batches_without_labels_are_refused(hand_model: HandModel) -> None:
    batch = random_batch(hand_model)
    with pytest.raises(ValueError, match="no labels"):
        ReconstructionLoss(LossConfig(**EVERY), hand_model)(
            perfect(batch), replace(batch, labels=None)
        )


def test_comparison_errors_are_relative_to_the_right_root(hand_model: HandModel) -> None:
    batch = random_batch(hand_model, clips=1, frames=1)
    assert batch.labels is not None
    true = hand_model(batch.labels.hands)
    comparison = Comparison(
        predictions=replace(perfect(batch), upsilon=torch.zeros(1, 1, 3)),
        labels=batch.labels,
        batch=batch,
        predicted=true,
        true=true,
        shown=hands_in_crop_frame(batch.labels.hands, batch.bbox, batch.camera),
        frame_weight=torch.ones(1, 1),
        config=LossConfig(),
    )
    right, left = comparison.between_hands(comparison.vertex_errors(), true.joints)
    assert right.abs().max() == 0
    torch.testing.assert_close(
        left, -left_from_right_root(true.joints)[..., None, :].expand_as(left)
    )


def test_joint_relation_needs_joints_only(hand_model: HandModel) -> None:
    """Data with labelled joints and no MANO parameters teach where the hands are."""
    batch = random_batch(hand_model, clips=1, frames=1)
    assert batch.labels is not None
    batch.labels.hands_valid[:] = False
    batch.labels.joints_valid[..., 3] = False
    batch.labels.joints[..., 3, :] = torch.nan
    predictions = perfect(batch)
    upsilon = (predictions.upsilon + torch.tensor([0.03, 0.0, 0.0])).requires_grad_()
    loss = ReconstructionLoss(LossConfig(**EVERY), hand_model)
    term = loss(replace(predictions, upsilon=upsilon), batch).terms["joint_relation"]
    assert term.item() == pytest.approx(0.03**2, rel=1e-3)
    (gradient,) = torch.autograd.grad(term, upsilon)
    torch.testing.assert_close(gradient, torch.tensor([[[0.06, 0.0, 0.0]]]), rtol=1e-3, atol=1e-6)


def test_boxes_of_absent_hands_may_be_anything(hand_model: HandModel) -> None:
    """Zeros are how data sets write "no box": they reach neither losses nor gradients."""
    batch = random_batch(hand_model, frames=2)
    batch.hand_present[:, 0, 1] = False
    batch.frame_valid[1, 1] = False
    torch.manual_seed(0)
    network = TwoHandNetwork(tiny_network()).eval()
    loss = ReconstructionLoss(LossConfig(), hand_model)
    results = []
    for box in (0.0, float("nan"), 50.0):
        network.zero_grad()
        bbox = torch.where(batch.hand_visible[..., None], batch.bbox, box)
        total = loss(network(replace(batch, bbox=bbox)), replace(batch, bbox=bbox)).total
        total.backward()
        gradients = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
        results.append(torch.cat([total.detach()[None], *gradients]))
    assert results[0].isfinite().all()
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_the_middle_of_a_short_window_is_one_of_its_frames(hand_model: HandModel) -> None:
    batch = random_batch(hand_model, clips=1, frames=5)
    batch.frame_valid[:, 2:] = False
    predictions = wrong(batch)
    heavy = ReconstructionLoss(LossConfig(middle_frame=1e6, **EVERY), hand_model)
    only = ReconstructionLoss(LossConfig(**EVERY), hand_model)
    second = slice(1, 2)
    torch.testing.assert_close(
        heavy(predictions, batch).terms["joints_3d"],
        only(predictions[:, second], batch[:, second]).terms["joints_3d"],
        rtol=1e-3,
        atol=0,
    )


def test_dahyf_terms_are_means_of_absolute_differences(hand_model: HandModel) -> None:
    batch = random_batch(hand_model, clips=2, frames=1)
    predictions = wrong(batch)
    assert batch.labels is not None and predictions.joint_logits is not None
    labels = batch.labels
    labels.joints_valid[0, 0, 0, 3] = labels.joints_2d_valid[1, 0, 1, 7] = False
    labels.joints_2d[0, 0, 1, 2] = -500.0  # outside the crop: masked, not clamped
    terms = ReconstructionLoss(LossConfig(**EVERY), hand_model)(predictions, batch).terms
    joints = hand_model(predictions.hands).joints
    pixels = project(joints, batch.camera.intrinsics[..., None, :, :])
    sums = dict.fromkeys(DAHYF, 0.0)
    counts = dict(sums)

    def add(name: str, value: Tensor) -> None:
        sums[name] += float(value.abs().sum())
        counts[name] += 1

    decoded = predictions.joint_logits.joints()
    for clip in range(2):
        for side in range(2):
            where = (clip, 0, side)
            box = batch.bbox[where]
            for j in range(21):
                if labels.joints_valid[where][j]:
                    p, t = joints[where], labels.joints[where]
                    add("l1_joints_3d", p[j] - p[0] - t[j] + t[0])
                    parent = JOINT_PARENTS[j]
                    if j and labels.joints_valid[where][parent]:
                        lengths = [(x[j] - x[parent]).norm() for x in (p, t)]
                        add("bone_lengths", lengths[0] - lengths[1])
                place = (labels.joints_2d[where][j] - box[:2]) / box[2:]
                if labels.joints_2d_valid[where][j] and (place.abs() <= 0.5).all():
                    add("l1_projected_2d", (pixels[where][j] - box[:2]) / box[2:] - place)
                    mirror = torch.tensor([-1.0 if side else 1.0, 1.0])
                    add("l1_direct_2d", decoded[where][j] - place * mirror)
    for name in DAHYF[:-1]:
        assert terms[name].item() == pytest.approx(sums[name] / counts[name], rel=1e-4), name
    assert terms["confidence"] == 0  # there is no crop without a hand to tell apart


def test_confidence_pulls_hands_to_one_and_the_rest_to_zero(hand_model: HandModel) -> None:
    batch = random_batch(hand_model, clips=1, frames=2)
    assert batch.labels is not None
    batch.labels.is_hand[0, 1, 0] = False
    for goal, expected in ((0, 1.0), (-1, 4.0)):
        config = LossConfig(**EVERY, non_hand_confidence=goal)
        result = ReconstructionLoss(config, hand_model)(perfect(batch), batch)
        assert result.confidence is not None
        torch.testing.assert_close(result.confidence, torch.ones(1, 2, 2), atol=1e-3, rtol=0)
        assert result.terms["confidence"].item() == pytest.approx(expected, rel=1e-2)


def test_learned_variances_weigh_terms(hand_model: HandModel) -> None:
    """exp(-s) w L + s: its least value over s is where exp(s) = w L."""
    batch = random_batch(hand_model)
    config = LossConfig(**EVERY, uncertainty=("l1_joints_3d", "bone_lengths"))
    loss = ReconstructionLoss(config, hand_model)
    predictions = wrong(batch)
    plain = ReconstructionLoss(LossConfig(**EVERY), hand_model)(predictions, batch)
    assert loss(predictions, batch).total.item() == pytest.approx(plain.total.item())
    for name, s in loss.log_variances.items():
        s.data = plain.weighted[name].log()
    result = loss(predictions, batch)
    assert result.weighted["bone_lengths"].item() == pytest.approx(1.0)
    result.total.backward()
    assert all(s.grad is not None and abs(s.grad) < 1e-5 for s in loss.log_variances.values())
    switched_off = LossConfig(bone_lengths=0, uncertainty=("bone_lengths",))
    assert not list(ReconstructionLoss(switched_off, hand_model).parameters())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"betas": -1.0}, "loss.betas is -1.0"),
        ({"uncertainty": ("bones",)}, "no term 'bones'"),
    ],
)
def test_weights_that_make_no_sense_are_refused(config: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LossConfig(**config)
