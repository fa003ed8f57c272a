"""The hand model in operations that every runtime has: what graphs carry in place of smplx.

smplx indexes with tensors, which exporters cannot follow. Used by `export.graphs` alone; its twin
is `hands.mano.HandModel`.
"""

from typing import Final

import torch
from torch import Tensor, nn

from fourdhands.hands.assets import ManoAssets
from fourdhands.hands.mano import HandModel
from fourdhands.skeleton import (
    FINGERTIP_VERTICES,
    JOINTS_FROM_MANO,
    MANO_PARENTS,
    NUM_BETAS,
    NUM_MANO_JOINTS,
)
from fourdhands.structures import HandGeometry, HandState

_ARRAYS: Final = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights")


class GraphHandModel(nn.Module):
    """Linear blend skinning of both hands, as `HandModel`."""

    def __init__(self, hand_model: HandModel) -> None:
        super().__init__()
        self.sides = nn.ModuleList(_Side(side) for side in hand_model.assets)
        self.register_buffer("wrist", hand_model._wrist, persistent=False)
        self.register_buffer("wrist_of_shape", hand_model._wrist_of_shape, persistent=False)

    wrist: Tensor
    wrist_of_shape: Tensor

    def forward(self, state: HandState) -> HandGeometry:
        """As `HandModel`."""
        posed = [
            side(
                torch.cat(
                    (state.global_orient[..., s, None, :, :], state.hand_pose[..., s, :, :, :]), -3
                ),
                state.betas[..., s, :],
                state.transl[..., s, :],
            )
            for s, side in enumerate(self.sides)
        ]
        joints, vertices = (torch.stack(tensors, -3) for tensors in zip(*posed, strict=True))
        return HandGeometry(joints=joints, vertices=vertices)

    def roots(self, state: HandState) -> Tensor:
        """As `HandModel.roots`."""
        return state.transl + self.wrist + (self.wrist_of_shape @ state.betas[..., None])[..., 0]


class _Side(nn.Module):
    v_template: Tensor
    shapedirs: Tensor
    posedirs: Tensor
    J_regressor: Tensor
    weights: Tensor
    tips: Tensor
    order: Tensor

    def __init__(self, assets: ManoAssets) -> None:
        super().__init__()
        for name in _ARRAYS:
            array = torch.from_numpy(getattr(assets, name))
            # directions of all coordinates as one matrix, which a single product takes
            array = array.flatten(0, 1).mT.contiguous() if name.endswith("dirs") else array
            self.register_buffer(name, array, persistent=False)
        self.register_buffer("tips", torch.tensor(FINGERTIP_VERTICES), persistent=False)
        self.register_buffer("order", torch.tensor(JOINTS_FROM_MANO), persistent=False)

    def forward(self, rotations: Tensor, betas: Tensor, transl: Tensor) -> tuple[Tensor, Tensor]:
        """(..., 16, 3, 3), (..., 10) and (..., 3) to joints (..., 21, 3) and vertices."""
        lead = betas.shape[:-1]
        rotations = rotations.reshape(-1, NUM_MANO_JOINTS, 3, 3)
        betas, transl = betas.reshape(-1, NUM_BETAS), transl.reshape(-1, 1, 3)
        shaped = self.v_template + (betas @ self.shapedirs).unflatten(-1, (-1, 3))
        rest = self.J_regressor @ shaped
        bent = (rotations[:, 1:] - torch.eye(3)).flatten(1)
        posed = shaped + (bent @ self.posedirs).unflatten(-1, (-1, 3))
        turns, places = [rotations[..., 0, :, :]], [rest[..., 0, :]]
        for joint, parent in enumerate(MANO_PARENTS[1:], start=1):
            bone = (rest[..., joint, :] - rest[..., parent, :])[..., None]
            places.append(places[parent] + (turns[parent] @ bone)[..., 0])
            turns.append(turns[parent] @ rotations[..., joint, :, :])
        turn, place = torch.stack(turns, -3), torch.stack(places, -2)
        shift = place - (turn @ rest[..., None])[..., 0]
        blended = (self.weights @ turn.flatten(-2)).unflatten(-1, (3, 3))
        vertices = (blended @ posed[..., None])[..., 0] + self.weights @ shift + transl
        joints = torch.cat((place + transl, vertices[:, self.tips]), 1)[:, self.order]
        return joints.reshape(*lead, -1, 3), vertices.reshape(*lead, -1, 3)
