"""What a figure is worth: a predictor that always answers the mean pose.

It sees the same batches as the network and answers one constant hand, estimated from training
labels, in the network's own terms: as a crop shows it (left hands mirrored), placed by a weak
perspective camera in the crop's box.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import roma
import torch
from torch import Tensor

from fourdhands.geometry.crop import side_mirrored
from fourdhands.geometry.rotation import mirror_points, sixd_from_matrix
from fourdhands.hands.mano import HandModel
from fourdhands.models.crop_frame import hands_in_camera_frame, hands_in_crop_frame
from fourdhands.models.heads import HandParameters, ManoHead
from fourdhands.skeleton import NUM_BETAS, NUM_JOINTS, NUM_SIDES, WRIST, Side
from fourdhands.structures import (
    ClipBatch,
    HandState,
    Predictions,
    TensorStruct,
    left_from_right_root,
)


@dataclass(frozen=True)
class MeanHand(TensorStruct):
    """The constant answer: a right hand as its crop shows it.

    Attributes:
        rotations: (16, 3, 3) wrist, then absolute finger rotations.
        betas: (10,).
        crop_camera: (3,) weak perspective s, t_x, t_y.
        upsilon: (3,) left wrist minus right wrist, metres, camera frame.
    """

    rotations: Tensor
    betas: Tensor
    crop_camera: Tensor
    upsilon: Tensor


class MeanPosePredictor:
    """Answers the same hand whatever it is shown.

    Args:
        mean: the answer.
    """

    def __init__(self, mean: MeanHand) -> None:
        self.mean = mean

    def __call__(self, batch: ClipBatch) -> Predictions:
        """Put the mean hand into every box of every frame."""
        mean = self.mean.to(batch.bbox.device)
        hands = batch.bbox.shape[:-1]  # (B, T, S)
        parameters = HandParameters(
            rotations=mean.rotations.expand(*hands, -1, -1, -1),
            rotations_6d=sixd_from_matrix(mean.rotations).expand(*hands, -1, -1),
            betas=mean.betas.expand(*hands, -1),
            crop_camera=mean.crop_camera.expand(*hands, -1),
        )
        return Predictions(
            hands=hands_in_camera_frame(parameters, batch.bbox, batch.camera),
            crop_camera=parameters.crop_camera,
            rotations_6d=parameters.rotations_6d,
            upsilon=mean.upsilon.expand(*hands[:-1], -1),
        )


def neutral_hand(hand_model: HandModel) -> MeanHand:
    """The hand model's own mean, for when there are no training labels to learn one from."""
    pose = hand_model.mean_pose
    return MeanHand(
        rotations=torch.cat((torch.eye(3).to(pose)[None], pose)),
        betas=pose.new_zeros(NUM_BETAS),
        crop_camera=pose.new_tensor(ManoHead.MEAN_CAMERA),
        upsilon=pose.new_zeros(3),
    )


def estimate_mean_hand(batches: Iterable[ClipBatch], hand_model: HandModel) -> MeanHand:
    """Learn the best constant hand from labels.

    Means of shape, camera and `upsilon`; finger rotations nearest to the mean matrices (chordal
    means). The wrist's rotation turns the joints X of that hand towards the mean J of all true
    root-relative joints: over constants, E|R X - J_n|^2 differs from -2 <R X, J> by what R cannot
    change, so this R has the least squared joint error of all (Procrustes). Where orientations
    scatter all round, a chordal mean of them would be arbitrary.

    Args:
        batches: with labels; every visible hand with MANO and joint labels counts.
        hand_model: poses the mean fingers.

    Raises:
        ValueError: no hand is labelled.
    """
    sums = functools.reduce(_LabelSums.add, map(_LabelSums.of, batches), _LabelSums.zero())
    if not sums.num_hands:
        raise ValueError("the mean pose cannot be estimated: no hand of the data has MANO labels")
    fingers = roma.special_procrustes(sums.fingers)
    betas = sums.betas / sums.num_hands
    orientation = _orientation_towards(sums.joints / sums.num_hands, fingers, betas, hand_model)
    return MeanHand(
        rotations=torch.cat((orientation[None], fingers)),
        betas=betas,
        crop_camera=sums.crop_camera / sums.num_hands,
        upsilon=sums.upsilon / sums.num_pairs.clamp_min(1),
    ).map(Tensor.float)


@dataclass(frozen=True)
class _LabelSums(TensorStruct):
    """Sums over labelled hands, left ones mirrored; float64 so that they may run on."""

    num_hands: Tensor
    fingers: Tensor
    betas: Tensor
    crop_camera: Tensor
    joints: Tensor
    num_pairs: Tensor
    upsilon: Tensor

    @classmethod
    def zero(cls) -> "_LabelSums":
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64)

        return cls(
            num_hands=zeros(),
            fingers=zeros(15, 3, 3),
            betas=zeros(NUM_BETAS),
            crop_camera=zeros(3),
            joints=zeros(NUM_JOINTS, 3),
            num_pairs=zeros(),
            upsilon=zeros(3),
        )

    @classmethod
    def of(cls, batch: ClipBatch) -> "_LabelSums":
        if batch.labels is None:
            raise ValueError("the batch has no labels, the mean pose cannot be estimated from it")
        labels = batch.labels
        known = labels.hands_valid & labels.betas_valid & labels.roots_valid
        valid = known & labels.joints_valid.all(-1) & batch.hand_visible
        is_left = side_mirrored(batch.bbox)
        shown = hands_in_crop_frame(labels.hands, batch.bbox, batch.camera)
        joints = labels.joints - labels.joints[..., WRIST, None, :]

        def total(values: Tensor, where: Tensor) -> Tensor:
            return values[where].double().sum(0)

        return cls(
            num_hands=valid.sum().double(),
            fingers=total(shown.rotations[..., 1:, :, :], valid),
            betas=total(shown.betas, valid),
            crop_camera=total(shown.crop_camera, valid),
            joints=total(torch.where(is_left[:, None, None], mirror_points(joints), joints), valid),
            num_pairs=valid.all(-1).sum().double(),
            upsilon=total(left_from_right_root(labels.joints), valid.all(-1)),
        ).to("cpu")

    def add(self, other: "_LabelSums") -> "_LabelSums":
        return _LabelSums(**{name: vars(self)[name] + vars(other)[name] for name in vars(self)})


def _orientation_towards(
    joints: Tensor, fingers: Tensor, betas: Tensor, hand_model: HandModel
) -> Tensor:
    """Rotation (3, 3) that brings a right hand's wrist-relative joints closest to (J, 3)."""
    state = HandState(
        global_orient=torch.eye(3).expand(NUM_SIDES, 3, 3),
        hand_pose=fingers.float().expand(NUM_SIDES, 15, 3, 3),
        betas=betas.float().expand(NUM_SIDES, -1),
        transl=torch.zeros(NUM_SIDES, 3),
    )
    geometry = hand_model(state.to(hand_model.mean_pose.device)[None]).relative_to_root()
    own = geometry.joints[0, Side.RIGHT].to(joints)
    return roma.rigid_vectors_registration(own, joints)
