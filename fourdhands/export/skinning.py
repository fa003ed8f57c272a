"""The hand model in operations that every runtime has: what graphs carry in place of smplx.

smplx indexes with tensors, which exporters cannot follow, and poses joint after joint: here both
hands and all fingers go side by side, in a tenth of the operations. Used by `export.graphs`; its
twin is `hands.mano.HandModel`.
"""

from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from fourdhands.hands.mano import HandModel
from fourdhands.skeleton import (
    FINGERTIP_VERTICES,
    JOINTS_FROM_MANO,
    MANO_PARENTS,
    NUM_BETAS,
    NUM_MANO_JOINTS,
    NUM_SIDES,
)
from fourdhands.structures import HandGeometry, HandState

_FINGERS: Final = (5, 3)
"""MANO's joints after the wrist: five chains of three, which start at the wrist."""
assert (-1, *(3 * f + k if k else 0 for f in range(5) for k in range(3))) == MANO_PARENTS


_HANDS: Final = (NUM_SIDES, NUM_MANO_JOINTS)


class GraphHandModel(nn.Module):
    """Linear blend skinning of both hands, as `HandModel`."""

    v_template: Tensor
    shapedirs: Tensor
    posedirs: Tensor
    weights: Tensor
    rest: Tensor
    rest_of_shape: Tensor
    tips: Tensor
    order: Tensor

    def __init__(self, hand_model: HandModel) -> None:
        super().__init__()
        sides = hand_model.assets

        def both(name: str) -> Tensor:
            return torch.from_numpy(np.stack([getattr(side, name) for side in sides]))

        template, directions, regressor = map(both, ("v_template", "shapedirs", "J_regressor"))
        for name, tensor in (
            ("v_template", template),
            # directions of all coordinates as one matrix, which a single product takes
            ("shapedirs", directions.flatten(1, 2).mT.contiguous()),
            ("posedirs", both("posedirs").flatten(1, 2).mT.contiguous()),
            ("weights", both("weights")),
            ("rest", regressor @ template),
            (
                "rest_of_shape",
                (regressor @ directions.flatten(2)).unflatten(-1, (3, -1)).flatten(1, 2).mT,
            ),
            ("tips", torch.tensor(FINGERTIP_VERTICES)),
            ("order", torch.tensor(JOINTS_FROM_MANO)),
        ):
            self.register_buffer(name, tensor.contiguous(), persistent=False)

    def forward(self, state: HandState) -> HandGeometry:
        """As `HandModel`."""
        lead = state.betas.shape[:-1]
        wrist_and_fingers = (state.global_orient[..., None, :, :], state.hand_pose)
        rotations = torch.cat(wrist_and_fingers, -3).reshape(-1, *_HANDS, 3, 3)
        betas = state.betas.reshape(-1, NUM_SIDES, 1, NUM_BETAS)
        transl = state.transl.reshape(-1, NUM_SIDES, 1, 3)
        rest = self.rest + _points(betas @ self.rest_of_shape)
        turn, place = _posed(rotations, rest)
        bent = rotations[:, :, 1:] - torch.eye(3, device=rotations.device)
        shaped = self.v_template + _points(betas @ self.shapedirs)
        shaped = shaped + _points(bent.flatten(2)[..., None, :] @ self.posedirs)
        shift = place - (turn @ rest[..., None])[..., 0]
        blended = (self.weights @ turn.flatten(-2)).unflatten(-1, (3, 3))
        vertices = (blended @ shaped[..., None])[..., 0] + self.weights @ shift + transl
        joints = torch.cat((place + transl, vertices[:, :, self.tips]), 2)[:, :, self.order]
        return HandGeometry(
            joints=joints.reshape(*lead, -1, 3), vertices=vertices.reshape(*lead, -1, 3)
        )

    def roots(self, state: HandState) -> Tensor:
        """As `HandModel.roots`."""
        moved = state.betas[..., None, :] @ self.rest_of_shape[..., :3]
        return state.transl + self.rest[:, 0] + moved[..., 0, :]


def _points(coordinates: Tensor) -> Tensor:
    """(N, S, 1, 3 P) to (N, S, P, 3)."""
    return coordinates[..., 0, :].unflatten(-1, (-1, 3))


def _posed(rotations: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
    """Down the chains of all fingers at once.

    Args:
        rotations: (N, S, 16, 3, 3), each in its parent.
        rest: (N, S, 16, 3) joints before posing.

    Returns:
        Rotations (N, S, 16, 3, 3) and joints (N, S, 16, 3) in the hand's frame.
    """
    fingers, bases = (x[:, :, 1:].unflatten(2, _FINGERS) for x in (rotations, rest))
    turn, place, base = rotations[:, :, :1], rest[:, :, :1], rest[:, :, :1]
    turns, places = [], []
    for k in range(_FINGERS[1]):
        bone = bases[..., k, :] - base
        place = place + (turn @ bone[..., None])[..., 0]
        turn, base = turn @ fingers[..., k, :, :], bases[..., k, :]
        turns.append(turn)
        places.append(place)
    turn, place = (torch.stack(x, 3).flatten(2, 3) for x in (turns, places))
    return torch.cat((rotations[:, :, :1], turn), 2), torch.cat((rest[:, :, :1], place), 2)
