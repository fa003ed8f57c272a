"""Two cameras and `upsilon` made consistent: both hands in one camera frame.

Each crop's weak-perspective camera places its hand by itself: well across the image, badly along
the line of sight, where a hand's size and its distance look alike. `upsilon` is the network's view
of both hands together. A hand's projection is what the image shows, so each root keeps its line of
sight; along it, both roots move to where their difference agrees with `upsilon` best.
"""

from typing import Final, Protocol

import torch
from torch import Tensor

from fourdhands.models.heads import HeadConfig
from fourdhands.skeleton import JOINT_NAMES, WRIST, Side
from fourdhands.structures import HandGeometry, HandState, left_from_right_root

KNUCKLE: Final = JOINT_NAMES.index("middle1")
CAMERA_WEIGHT = 0.5
"""How much a metre of deviation from a camera's own depth weighs against one from `upsilon`."""


def reconciled_roots(roots: Tensor, upsilon: Tensor) -> Tensor:
    """Move two roots along their lines of sight until their difference agrees with `upsilon`.

    With r_s the roots and u = `upsilon`, r_s becomes a_s r_s with the least

        |a_l r_l - a_r r_r - u|^2 + w^2 (|(a_r - 1) r_r|^2 + |(a_l - 1) r_l|^2),    w = 0.5,

    two linear equations in the two factors. Roots that agree already stay.

    Args:
        roots: (..., S, 3) as the crops' cameras place them, metres, camera frame.
        upsilon: (..., 3) left minus right root.

    Returns:
        (..., S, 3).
    """
    right, left = roots[..., Side.RIGHT, :], roots[..., Side.LEFT, :]
    weight = CAMERA_WEIGHT**2
    right_square, left_square = right.square().sum(-1), left.square().sum(-1)
    mixed = (right * left).sum(-1)
    goal_right = weight * right_square - (right * upsilon).sum(-1)
    goal_left = weight * left_square + (left * upsilon).sum(-1)
    # by Cramer's rule, which every runtime knows; the determinant is at least w^2 (2 + w^2) |r|^4
    determinant = (1 + weight) ** 2 * right_square * left_square - mixed.square()
    factor_right = ((1 + weight) * left_square * goal_right + mixed * goal_left) / determinant
    factor_left = ((1 + weight) * right_square * goal_left + mixed * goal_right) / determinant
    factors = torch.stack((factor_right, factor_left), -1).clamp_min(0.1)  # not behind the camera
    return roots * factors[..., None]


class PosesHands(Protocol):
    """What is needed of a hand model (`hands.mano.HandModel`)."""

    def __call__(self, state: HandState, /) -> HandGeometry:
        """Joints and vertices."""

    def roots(self, state: HandState, /) -> Tensor:
        """The wrists alone."""


def between_wrists(
    upsilon: Tensor, head: HeadConfig, hands: HandState, hand_model: PosesHands
) -> Tensor:
    """What a network's head says of the hands together as the vector from wrist to wrist.

    Args:
        upsilon: (..., 3) metres, as the head says it.
        head: what it means.
        hands: of the same network, dimensions (...).
        hand_model: makes joints of them, where they are needed.

    Returns:
        (..., 3) left wrist minus right wrist, metres, camera frame.
    """
    if head.upsilon == "wrists":
        return upsilon
    joints = hand_model(hands).joints
    if head.upsilon == "none":
        return left_from_right_root(joints)
    wrist_from_knuckle = joints[..., WRIST, :] - joints[..., KNUCKLE, :]
    return upsilon + wrist_from_knuckle[..., Side.LEFT, :] - wrist_from_knuckle[..., Side.RIGHT, :]
