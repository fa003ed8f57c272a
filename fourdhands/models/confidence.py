"""Confidence: do the 2D joints and the projected hand agree? (DaHyF equations 8 and 9).

The hands of a video that are not confident can be held: see `hold_confident`.
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from fourdhands.geometry.camera import project
from fourdhands.geometry.crop import places_in_crops
from fourdhands.structures import Camera, HandState, JointLogits

SURE_DEVIATION: Final = 0.03
"""Parts of the crop; 2D joints whose distributions are as wide count half."""


def agreement(places: Tensor, projected: Tensor) -> Tensor:
    """Cosine between two vectors of joints (..., J, 2), in fractions of the crop: (...)."""
    return cosine_similarity(places.flatten(-2), projected.flatten(-2), dim=-1)


def hand_confidence(
    joint_logits: JointLogits, joints: Tensor, bbox: Tensor, camera: Camera
) -> Tensor:
    """Cosine between where the 2D branch and where the projected hand puts the joints.

    Both are vectors from the middle of the crop in units of its sides (eq. 8 and 9), so the crop's
    place and resolution do not matter, nor does a common scale of either.

    Args:
        joint_logits: of the 2D branch, dimensions (..., S).
        joints: (..., S, J, 3) of the predicted hand, metres, camera frame.
        bbox: (..., S, 4) regions of the crops.
        camera: of the full image, dimensions (...).

    Returns:
        (..., S), -1 to 1.
    """
    projected = project(joints, camera.intrinsics[..., None, :, :])
    return agreement(joint_logits.joints(), places_in_crops(projected, bbox))


def joint_confidence(joint_logits: JointLogits) -> Tensor:
    """How much each joint of the 2D branch counts: (..., J), 0 to 1.

    SimCC's distributions are as wide as their means are wrong (with the default run's checkpoint
    0.165 and 0.171 of the crop), so that their variance is the joint's.
    """
    variance = joint_logits.deviations().square().mean(-1)
    return 1 / (1 + variance / SURE_DEVIATION**2)


class ConfidenceThreshold(nn.Module):
    """The confidence above which a crop is taken for a hand, calibrated while training.

    Running means and deviations of hands' and non-hands' confidences are kept with the weights; the
    threshold lies as many deviations below the hands' mean as it lies above the others'.
    """

    MOMENTUM = 0.02

    moments: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("moments", torch.zeros(2, 2))
        self.register_buffer("weight", torch.zeros(2, 1))

    @torch.no_grad()
    def update(self, confidence: Tensor, is_hand: Tensor, counts: Tensor) -> None:
        """Learn from a batch.

        Args:
            confidence: (...) of `hand_confidence`.
            is_hand: (...) bool.
            counts: (...) bool, whose confidences to learn from.
        """
        kinds = torch.stack((counts & ~is_hand, counts & is_hand)).flatten(1)
        found = torch.where(kinds, confidence.flatten(), 0.0)
        number = kinds.sum(1, keepdim=True)
        seen = torch.stack((found.sum(1), found.square().sum(1)), 1) / number.clamp_min(1)
        step = self.MOMENTUM * (number > 0)
        self.moments += step * (seen - self.moments)
        self.weight += step * (1 - self.weight)

    @property
    def value(self) -> Tensor:
        """The threshold, a scalar; NaN as long as non-hands were never seen."""
        mean, square = (self.moments / self.weight).unbind(1)
        deviation = (square - mean.square()).clamp_min(1e-8).sqrt()
        return (mean * deviation.flip(0)).sum() / deviation.sum()


def nearest_confident(confident: Tensor) -> Tensor:
    """Index of the nearest confident frame that is not later: (..., T, S) bool to int64.

    Frames before the first confident one keep their own index.
    """
    own = torch.arange(confident.shape[-2], device=confident.device)[:, None].expand_as(confident)
    last = torch.where(confident, own, -1).cummax(-2).values
    return torch.where(last < 0, own, last)


def hold_confident(hands: HandState, confident: Tensor) -> HandState:
    """Give frames that are not confident the hands of the nearest earlier one that is.

    Args:
        hands: dimensions (..., T, S).
        confident: (..., T, S) bool.
    """
    index = nearest_confident(confident)

    def held(values: Tensor) -> Tensor:
        missing = values.shape[index.dim() :]
        wide = index.view(*index.shape, *[1] * len(missing)).expand(*index.shape, *missing)
        return values.gather(index.dim() - 2, wide)

    return hands.map(held)
