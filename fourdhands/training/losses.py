"""The losses of 4DHands (equations 5-10) and DaHyF, masked by what is labelled and visible.

Every term is a mean over the hands, or frames with both hands, that have the label, so its size
does not depend on how many there are. Metres for 3D; crop units (fractions of the crop's longer
side) for 2D. Rotations are compared in 6D before they are made orthonormal: that is linear in the
head's output, so an uncertain network may answer with a short vector, the mean of what it holds
possible. Comparing matrices after Gram-Schmidt forbids this, and from scratch hardly learns: on
rendered crops the wrist's error after the same 300 steps was 122 degrees against 78.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from fourdhands.geometry.camera import project
from fourdhands.geometry.crop import places_in_crops
from fourdhands.hands.mano import HandModel
from fourdhands.models.confidence import agreement
from fourdhands.models.crop_frame import hands_in_crop_frame
from fourdhands.models.heads import HandParameters
from fourdhands.skeleton import BONES, WRIST, Side
from fourdhands.structures import (
    ClipBatch,
    HandGeometry,
    JointLogits,
    Labels,
    Predictions,
    left_from_right_root,
)

EPSILON = 1e-8


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms; a term of weight 0 is not computed.

    Attributes:
        rotations: the 16 rotations (eq. 6, theta).
        betas: the shape (eq. 6, beta).
        joints_3d: root-relative joints (eq. 7).
        vertices_3d: root-relative vertices (eq. 7).
        joints_2d: projected joints inside the crop (eq. 8).
        crop_camera: size and place of the hand in its crop, where `transl` is labelled. Not in the
            paper: while the orientation is uncertain eq. 8 alone is least for a hand shrunk to a
            dot, and a network that starts from scratch stays there for long.
        joint_bins: divergence of the 2D branch's distributions (DaHyF, L_2d); needs the branch.
        joint_sigma: deviation of their targets, as a fraction of the crop's longer side.
        joint_relation: vectors from right to left joints (eq. 9).
        closeness: vectors between close vertices of the two hands (eq. 10).
        l1_direct_2d: DaHyF's L_2d beside `joint_bins`: the decoded joints, fractions of the crop.
        l1_joints_3d: DaHyF's L_3d: root-relative joints, metres.
        l1_projected_2d: DaHyF's L_2dp: projected joints, fractions of the crop.
        bone_lengths: DaHyF's L_b, metres.
        confidence: DaHyF's L_c: confidence 1 for hands and `non_hand_confidence` for crops without
            one; counts in batches that have some (see `data.negatives`).
        non_hand_confidence: 0, unrelated, or -1, opposite.
        uncertainty: names of the terms whose weight is divided by a learned variance,
            exp(-s) L + s (homoscedastic uncertainty); means nothing for a term of weight 0.
        alpha: largest squared distance of a close pair in square metres.
        middle_frame: weight of a clip's middle frame in every term; the other frames weigh 1.
    """

    rotations: float = 10.0
    betas: float = 1.0
    joints_3d: float = 50.0
    vertices_3d: float = 25.0
    joints_2d: float = 10.0
    crop_camera: float = 10.0
    joint_bins: float = 0.0
    joint_sigma: float = 0.01
    joint_relation: float = 50.0
    closeness: float = 25.0
    l1_direct_2d: float = 0.0
    l1_joints_3d: float = 0.0
    l1_projected_2d: float = 0.0
    bone_lengths: float = 0.0
    confidence: float = 0.0
    non_hand_confidence: Literal[0, -1] = 0
    uncertainty: tuple[str, ...] = ()
    alpha: float = 0.005
    middle_frame: float = 1.0

    def __post_init__(self) -> None:
        """Check the signs and the names."""
        for name in (*TERMS, "joint_sigma", "alpha", "middle_frame"):
            if getattr(self, name) < 0:
                raise ValueError(f"loss.{name} is {getattr(self, name)}, it may not be negative")
        for name in self.uncertainty:
            if name not in TERMS:
                known = ", ".join(TERMS)
                raise ValueError(f"loss.uncertainty: no term {name!r}; there are {known}")
        if not (self.middle_frame and self.joint_sigma):
            raise ValueError("loss.middle_frame and loss.joint_sigma have to be positive")


@dataclass(frozen=True)
class LossTerms:
    """The objective and what it is made of.

    Attributes:
        total: the weighted sum to minimise.
        terms: each term by name, unweighted.
        weighted: each term by name, weighted.
        confidence: (B, T, S) of the predictions, detached; None without a 2D branch.
    """

    total: Tensor
    terms: dict[str, Tensor]
    weighted: dict[str, Tensor]
    confidence: Tensor | None


@dataclass(frozen=True)
class Comparison:
    """Prediction beside truth; what every term is computed from. Dimensions (B, T).

    Attributes:
        predictions: of the network.
        labels: the truth.
        batch: the clips.
        predicted: geometry of the predicted hands.
        true: geometry of the labelled hands.
        shown: the labelled hands as their crops show them.
        frame_weight: (B, T); 0 for padding.
        config: what the terms depend on besides.
    """

    predictions: Predictions
    labels: Labels
    batch: ClipBatch
    predicted: HandGeometry
    true: HandGeometry
    shown: HandParameters
    frame_weight: Tensor
    config: LossConfig

    @property
    def hand_weight(self) -> Tensor:
        """(B, T, S) weight of hands whose MANO rotations are labelled."""
        visible = self.batch.hand_visible & self.labels.hands_valid
        return visible * self.frame_weight[..., None]

    @property
    def mesh_weight(self) -> Tensor:
        """(B, T, S) weight of hands with a labelled mesh: rotations and shape."""
        return self.hand_weight * self.labels.betas_valid

    @property
    def placed_weight(self) -> Tensor:
        """(B, T, S) weight of labelled meshes that stand at a known place."""
        return self.mesh_weight * self.labels.roots_valid

    @property
    def pair_weight(self) -> Tensor:
        """(B, T) weight of frames in which both hands have a mesh at a known place."""
        return (self.placed_weight > 0).all(-1) * self.frame_weight

    @property
    def joints_valid(self) -> Tensor:
        """(B, T, S, J) bool: labelled joints of visible hands whose wrist is labelled too."""
        visible = self.batch.hand_visible[..., None] & self.labels.joints_valid
        return visible & visible[..., WRIST, None]

    def joint_errors(self) -> Tensor:
        """(B, T, S, J, 3) predicted minus labelled, each relative to its wrist; 0 if unlabelled."""
        true = self.labels.joints - self.labels.joints[..., WRIST, None, :]
        error = self.predicted.relative_to_root().joints - true
        return torch.where(self.joints_valid[..., None], error, 0.0)

    @property
    def joint_logits(self) -> JointLogits:
        """Of the 2D branch, dimensions (B, T, S).

        Raises:
            ValueError: the network has no 2D branch.
        """
        if self.predictions.joint_logits is None:
            raise ValueError(
                "a loss of the 2D branch is not 0, but network.joints_2d is null: set one of them"
            )
        return self.predictions.joint_logits

    @cached_property
    def places(self) -> Tensor:
        """(B, T, S, J, 2) the 2D branch's joints in their crops, -0.5 to 0.5."""
        return self.joint_logits.joints()

    @cached_property
    def projected_places(self) -> Tensor:
        """(B, T, S, J, 2) the predicted hands' joints in their crops."""
        intrinsics = self.batch.camera.intrinsics[..., None, :, :]
        return places_in_crops(project(self.predicted.joints, intrinsics), self.batch.bbox)

    @cached_property
    def labelled_places(self) -> tuple[Tensor, Tensor]:
        """(B, T, S, J, 2) the labelled joints in their crops, and which lie inside them."""
        places = places_in_crops(self.labels.joints_2d, self.batch.bbox)
        inside = (places.abs() <= 0.5).all(-1) & self.batch.hand_visible[..., None]
        return places, self.labels.joints_2d_valid & inside

    @cached_property
    def confidence(self) -> Tensor:
        """(B, T, S) DaHyF's, -1 to 1."""
        return agreement(self.places, self.projected_places)

    def vertex_errors(self) -> Tensor:
        """(B, T, S, V, 3) predicted minus true, each relative to its wrist."""
        return self.predicted.relative_to_root().vertices - self.true.relative_to_root().vertices

    def between_hands(self, error: Tensor, true_joints: Tensor) -> tuple[Tensor, Tensor]:
        """Errors of the right and the left hand's points, all relative to the right root.

        Args:
            error: (B, T, S, N, 3) relative to the hand's own root.
            true_joints: (B, T, S, J, 3) where the roots truly are.

        Returns:
            Twice (B, T, N, 3). The predicted left hand stands where `upsilon` puts it.
        """
        shift = self.predictions.upsilon - left_from_right_root(true_joints)
        return error[..., Side.RIGHT, :, :], error[..., Side.LEFT, :, :] + shift[..., None, :]


# ---- the equations -------------------------------------------------------------------------------


def max_mse(error: Tensor, valid: Tensor) -> Tensor:
    """Eq. 5, sum |e|^4 / sum |e|^2 over the valid points: (..., N, D) and (..., N) to (...)."""
    squared = torch.where(valid[..., None], error, 0.0).square().sum(-1)
    return squared.square().sum(-1) / (squared.sum(-1) + EPSILON)


def mean_pair_difference(
    right_error: Tensor, left_error: Tensor, right_valid: Tensor, left_valid: Tensor
) -> Tensor:
    """Eq. 9 as a mean over all valid pairs (i, k) of |left_k - right_i|^2, without forming them.

    Expanding the square leaves only sums over single points: O(N) instead of O(N^2).

    Args:
        right_error: (..., N, 3).
        left_error: (..., M, 3).
        right_valid: (..., N) bool.
        left_valid: (..., M) bool.

    Returns:
        (...); only errors of the other hand remain where one has no valid point.
    """
    right, right_square = _mean_and_square(right_error, right_valid)
    left, left_square = _mean_and_square(left_error, left_valid)
    return left_square + right_square - 2 * (left * right).sum(-1)


def _mean_and_square(error: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and mean squared length over the valid points: (..., N, 3) to (..., 3) and (...)."""
    error = torch.where(valid[..., None], error, 0.0)
    count = valid.sum(-1).clamp_min(1)
    return error.sum(-2) / count[..., None], error.square().sum((-2, -1)) / count


def mean_close_pair_difference(right_error: Tensor, left_error: Tensor, close: Tensor) -> Tensor:
    """Eq. 10 as a mean over the close pairs of |left_k - right_i|^2; 0 where no pair is close.

    The square is expanded, so that the N x M mask enters matrix products only and nothing of size
    N x M x 3 exists, forward or backward.

    Args:
        right_error: (..., N, 3).
        left_error: (..., M, 3).
        close: (..., N, M) 0 or 1.

    Returns:
        (...).
    """
    ones = torch.ones_like(left_error[..., :1])
    columns = torch.cat((left_error, left_error.square().sum(-1, keepdim=True), ones), -1)
    near = close.to(columns) @ columns  # all sums over k in one pass over the mask
    error, square, count = near.split((3, 1, 1), -1)
    own = (square + count * right_error.square().sum(-1, keepdim=True)).sum((-2, -1))
    return (own - 2 * (right_error * error).sum((-2, -1))) / count.sum((-2, -1)).clamp_min(1)


@torch.no_grad()
def close_pairs(true: HandGeometry, alpha: float) -> Tensor:
    """(..., V, V) bool: right vertex i and left vertex k are truly within sqrt(alpha) metres."""
    right, left = true.vertices[..., Side.RIGHT, :, :], true.vertices[..., Side.LEFT, :, :]
    centre = right.mean(-2, keepdim=True)  # small numbers keep the expanded square exact
    right, left = right - centre, left - centre
    # |left - right|^2 <= alpha  <=>  left . right + (alpha - |left|^2 - |right|^2) / 2 >= 0
    left_rest = (alpha - left.square().sum(-1, keepdim=True)) / 2
    right_rest = -right.square().sum(-1, keepdim=True) / 2
    one = torch.ones_like(left_rest)
    return torch.cat((right, one, right_rest), -1) @ torch.cat((left, left_rest, one), -1).mT >= 0


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean of the values whose weight is not 0; 0 if there are none."""
    values = torch.where(weight > 0, values, 0.0)  # what is masked may be anything, even inf
    return (values * weight).sum() / weight.sum().clamp_min(EPSILON)


# ---- the terms -----------------------------------------------------------------------------------


def rotations_term(c: Comparison) -> Tensor:
    """Eq. 6, theta: squared difference in 6D, in the frame of each crop (the left one mirrored)."""
    difference = c.predictions.rotations_6d - c.shown.rotations_6d
    return weighted_mean(difference.square().sum((-2, -1)), c.hand_weight)


def betas_term(c: Comparison) -> Tensor:
    """Eq. 6, beta."""
    difference = c.predictions.hands.betas - c.labels.hands.betas
    return weighted_mean(difference.square().sum(-1), c.mesh_weight)


def joints_3d_term(c: Comparison) -> Tensor:
    """Eq. 7, joints relative to the wrist; hands whose wrist is unknown do not count."""
    error = max_mse(c.joint_errors(), c.joints_valid)
    return weighted_mean(error, c.joints_valid.any(-1) * c.frame_weight[..., None])


def vertices_3d_term(c: Comparison) -> Tensor:
    """Eq. 7, vertices relative to the wrist."""
    error = c.vertex_errors()
    everywhere = torch.ones_like(error[..., 0], dtype=torch.bool)
    return weighted_mean(max_mse(error, everywhere), c.mesh_weight)


def joints_2d_term(c: Comparison) -> Tensor:
    """Eq. 8, joints projected by the full-frame camera, in units of the crop's longer side."""
    true, valid = c.labelled_places
    size = c.batch.bbox[..., None, 2:]
    error = (c.projected_places - true) * (size / size.amax(-1, keepdim=True))
    has_label = valid.any(-1)
    return weighted_mean(max_mse(error, valid), has_label * c.frame_weight[..., None])


def crop_camera_term(c: Comparison) -> Tensor:
    """Ours: how far the crop's camera makes the hand too large or puts it off, in crop units."""
    predicted, true = c.predictions.crop_camera, c.shown.crop_camera
    scale = true[..., :1]
    size = predicted[..., :1] / scale - 1
    offset = (predicted[..., 1:] - true[..., 1:]) * scale / 2
    return weighted_mean(torch.cat((size, offset), -1).square().sum(-1), c.placed_weight)


def joint_relation_term(c: Comparison) -> Tensor:
    """Eq. 9; a frame counts if both wrists are labelled, where they are."""
    both = (c.joints_valid[..., WRIST] & c.labels.roots_valid).all(-1)
    valid = c.joints_valid & both[..., None, None]
    errors = c.between_hands(c.joint_errors(), c.labels.joints)
    error = mean_pair_difference(*errors, valid[..., Side.RIGHT, :], valid[..., Side.LEFT, :])
    return weighted_mean(error, both * c.frame_weight)


def closeness_term(c: Comparison) -> Tensor:
    """Eq. 10; frames without a close pair do not count."""
    close = close_pairs(c.true, c.config.alpha)
    errors = c.between_hands(c.vertex_errors(), c.true.joints)
    error = mean_close_pair_difference(*errors, close)
    return weighted_mean(error, c.pair_weight * close.flatten(-2).any(-1))


def joint_bins_term(c: Comparison) -> Tensor:
    """DaHyF's L_2d: divergence of each joint's distribution from a Gaussian about its label."""
    true, valid = c.labelled_places
    height, width = c.batch.crop_size
    size = true.new_tensor((width, height))
    divergence = c.joint_logits.divergence(true, c.config.joint_sigma * size.amax() / size)
    return weighted_mean(divergence, valid * c.frame_weight[..., None, None])


def l1_direct_2d_term(c: Comparison) -> Tensor:
    """DaHyF's L_2d of the decoded joints."""
    return _l1(c.places - c.labelled_places[0], c.labelled_places[1], c)


def l1_projected_2d_term(c: Comparison) -> Tensor:
    """DaHyF's L_2dp."""
    return _l1(c.projected_places - c.labelled_places[0], c.labelled_places[1], c)


def l1_joints_3d_term(c: Comparison) -> Tensor:
    """DaHyF's L_3d, joints relative to the wrist."""
    return _l1(c.joint_errors(), c.joints_valid, c)


def bone_lengths_term(c: Comparison) -> Tensor:
    """DaHyF's L_b, absolute differences of the bones' lengths."""
    start, end = torch.tensor(BONES, device=c.labels.joints.device).unbind(1)

    def lengths(joints: Tensor) -> Tensor:
        return (joints[..., end, :] - joints[..., start, :]).norm(dim=-1)

    known = c.labels.joints_valid & c.batch.hand_visible[..., None]
    true = torch.where(known[..., None], c.labels.joints, 0.0)
    error = lengths(c.predicted.joints) - lengths(true)
    return _l1(error[..., None], known[..., start] & known[..., end], c)


def confidence_term(c: Comparison) -> Tensor:
    """DaHyF's L_c: squared distance of the confidence from 1, or from what non-hands shall have.

    Hands and non-hands weigh the same, whatever their share. 0 in a batch without non-hands.
    """
    is_hand = c.labels.is_hand
    hands = c.labelled_places[1].any(-1) & is_hand
    others = c.batch.hand_visible & ~is_hand
    missing_hand = weighted_mean((c.confidence - 1).square(), hands * c.frame_weight[..., None])
    error = c.confidence - c.config.non_hand_confidence
    taken_for_hand = weighted_mean(error.square(), others * c.frame_weight[..., None])
    return (missing_hand + taken_for_hand) * others.any()


def _l1(error: Tensor, valid: Tensor, c: Comparison) -> Tensor:
    """Mean absolute difference over the valid points: (B, T, S, N, D) and (B, T, S, N)."""
    error = torch.where(valid[..., None], error, 0.0)
    return weighted_mean(error.abs().sum(-1), valid * c.frame_weight[..., None, None])


TERMS: dict[str, Callable[[Comparison], Tensor]] = {
    "rotations": rotations_term,
    "betas": betas_term,
    "joints_3d": joints_3d_term,
    "vertices_3d": vertices_3d_term,
    "joints_2d": joints_2d_term,
    "crop_camera": crop_camera_term,
    "joint_relation": joint_relation_term,
    "closeness": closeness_term,
    "joint_bins": joint_bins_term,
    "l1_direct_2d": l1_direct_2d_term,
    "l1_joints_3d": l1_joints_3d_term,
    "l1_projected_2d": l1_projected_2d_term,
    "bone_lengths": bone_lengths_term,
    "confidence": confidence_term,
}


class ReconstructionLoss(nn.Module):
    """The objective of 4DHands and DaHyF for a batch of clips.

    Attributes:
        log_variances: s of each term in `uncertainty` that has a weight.
    """

    def __init__(self, config: LossConfig, hand_model: HandModel) -> None:
        super().__init__()
        self.config = config
        self.hand_model = hand_model
        names = [name for name in config.uncertainty if getattr(config, name)]
        zeros = {name: nn.Parameter(torch.zeros(())) for name in names}
        self.log_variances = nn.ParameterDict(zeros)

    def forward(self, predictions: Predictions, batch: ClipBatch) -> LossTerms:
        """Compare predictions with the batch's labels.

        Raises:
            ValueError: the batch has no labels.
        """
        if batch.labels is None:
            raise ValueError("the batch has no labels, nothing to learn from")
        labels, batch = batch.labels, replace(batch, bbox=batch.visible_bbox)
        with torch.no_grad():
            true = self.hand_model(labels.hands)
        comparison = Comparison(
            predictions=predictions,
            labels=labels,
            batch=batch,
            predicted=self.hand_model(predictions.hands),
            true=true,
            shown=hands_in_crop_frame(labels.hands, batch.bbox, batch.camera),
            frame_weight=self._frame_weight(batch.frame_valid),
            config=self.config,
        )
        weights = {name: getattr(self.config, name) for name in TERMS}
        terms = {name: term(comparison) for name, term in TERMS.items() if weights[name]}
        weighted = {name: weights[name] * value for name, value in terms.items()}
        weighted |= {n: (-s).exp() * weighted[n] for n, s in self.log_variances.items()}
        total = torch.stack([*weighted.values(), *self.log_variances.values()]).sum()
        has_branch = predictions.joint_logits is not None
        confidence = comparison.confidence.detach() if has_branch else None
        return LossTerms(total, terms, weighted, confidence)

    def _frame_weight(self, frame_valid: Tensor) -> Tensor:
        """(B, T) float; the middle is that of a clip's valid frames, which come first."""
        middle = frame_valid.sum(1, keepdim=True) // 2
        is_middle = torch.arange(frame_valid.shape[1], device=frame_valid.device) == middle
        return frame_valid * torch.where(is_middle, self.config.middle_frame, 1.0)
