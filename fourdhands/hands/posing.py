"""Joints without the mesh: MANO's skeleton, any few of its vertices, and how parameters move them.

Refinement poses hands hundreds of times and looks at 21 joints; skinning 778 vertices for them
would be most of the work. The same numbers as `hands.mano.HandModel`, which tests assert.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from fourdhands.hands.assets import NUM_HAND_JOINTS, ManoAssets, load_assets
from fourdhands.skeleton import (
    FINGERTIP_VERTICES,
    FINGERTIPS,
    JOINTS_FROM_MANO,
    MANO_PARENTS,
    NUM_JOINTS,
    NUM_MANO_JOINTS,
    WRIST,
)

_CHAIN: Final = 3  # joints of a finger; MANO stores finger by finger, from base to tip
NUM_MOTIONS: Final = 6 + 3 * NUM_HAND_JOINTS
"""Degrees of freedom of a posed hand: three of orientation, three of the wrist, 45 of fingers."""


@dataclass(frozen=True)
class PosedSkeleton:
    """A hand's joints and the frames of its bones.

    Attributes:
        joints: (..., S, 21, 3) in the common order.
        rotations: (..., S, 16, 3, 3) of MANO's joints, from the hand's rest frame.
        origins: (..., S, 16, 3) MANO's joints.
        rest: (..., S, 16, 3) MANO's joints at rest.
    """

    joints: Tensor
    rotations: Tensor
    origins: Tensor
    rest: Tensor


class HandSkeleton(nn.Module):
    """Both hands' joints as a differentiable function of orientation, wrist, fingers and shape.

    Unlike `HandState.transl`, the wrist is where the joint is: shape does not move it.

    Args:
        assets: of the right and the left hand; None for the open hand.
        dtype: of all numbers; refinement wants 64 bits.
    """

    rest: Tensor
    rest_of_shape: Tensor
    template: Tensor
    shape_directions: Tensor
    pose_directions: Tensor
    weights: Tensor
    ancestors: Tensor
    _tips: Tensor
    _joint_order: Tensor

    def __init__(
        self,
        assets: tuple[ManoAssets, ManoAssets] | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        self.assets = assets or load_assets()

        def both(name: str) -> Tensor:
            arrays = [torch.from_numpy(getattr(side, name)) for side in self.assets]
            return torch.stack(arrays).to(dtype)

        regressor = both("J_regressor")
        template, shape_directions = both("v_template"), both("shapedirs")
        for name, tensor in (
            ("rest", regressor @ template),
            ("rest_of_shape", torch.einsum("sjv,svkb->sjkb", regressor, shape_directions)),
            ("template", template),
            ("shape_directions", shape_directions),
            ("pose_directions", both("posedirs")),
            ("weights", both("weights")),
            ("ancestors", moved_by()),
            ("_tips", torch.tensor(FINGERTIP_VERTICES)),
            ("_joint_order", torch.tensor(JOINTS_FROM_MANO)),
        ):
            self.register_buffer(name, tensor, persistent=False)

    def forward(
        self, orientation: Tensor, wrist: Tensor, pose: Tensor, betas: Tensor
    ) -> PosedSkeleton:
        """Pose both hands.

        Args:
            orientation: (..., S, 3, 3).
            wrist: (..., S, 3) metres.
            pose: (..., S, 15, 3, 3) absolute finger rotations.
            betas: (..., S, 10), leading dimensions as the others' or broadcast to them.
        """
        rest = self.rest_joints(betas)
        rotations = _accumulate(orientation, pose)
        origins = _chain_origins(rest[..., None], rotations, wrist[..., None])[..., 0]
        tips = self._skin(self._tips, PosedSkeleton(wrist, rotations, origins, rest), pose, betas)
        joints = torch.cat((origins, tips), -2)[..., self._joint_order, :]
        return PosedSkeleton(joints, rotations, origins, rest)

    def vertices(self, skeleton: PosedSkeleton, pose: Tensor, betas: Tensor) -> Tensor:
        """The whole mesh (..., S, 778, 3) of a posed skeleton."""
        everything = torch.arange(self.template.shape[1], device=self.template.device)
        return self._skin(everything, skeleton, pose, betas)

    def rest_joints(self, betas: Tensor) -> Tensor:
        """MANO's joints at rest, (..., S, 16, 3)."""
        return self.rest + torch.einsum("sjkb,...sb->...sjk", self.rest_of_shape, betas)

    def motion_jacobian(self, skeleton: PosedSkeleton) -> Tensor:
        """How joints move with small turns from the right and the wrist: (..., S, 21, 3, 51).

        Columns: the orientation's turn R exp(d), the wrist, the 15 fingers' turns. Fingertips move
        as if fixed to their last bone, which skinning makes almost true.
        """
        origins, rotations, joints = skeleton.origins, skeleton.rotations, skeleton.joints
        arms = joints[..., :, None, :] - origins[..., None, :, :]
        turned = -_cross_matrix(arms) @ rotations[..., None, :, :, :]
        turned = turned * self.ancestors.to(turned)[:, :, None, None]
        turned = turned.movedim(-3, -2)  # (..., S, 21, 3, 16, 3)
        shift = torch.eye(3).to(joints).expand(*joints.shape, 3)
        fingers = turned[..., 1:, :].flatten(-2)
        return torch.cat((turned[..., 0, :], shift, fingers), -1)

    def shape_jacobian(self, skeleton: PosedSkeleton) -> Tensor:
        """How joints move with shape: (..., S, 21, 3, 10)."""
        rotations = skeleton.rotations
        nowhere = torch.zeros_like(skeleton.origins[..., 0, :, None]).expand(
            *skeleton.origins.shape[:-2], 3, self.rest_of_shape.shape[-1]
        )
        origins = _chain_origins(self.rest_of_shape.expand(
            *rotations.shape[:-2], *self.rest_of_shape.shape[-2:]
        ), rotations, nowhere)  # fmt: skip
        weights = self.weights[:, self._tips]  # (S, 5, 16)
        offsets = self.shape_directions[:, self._tips, None] - self.rest_of_shape[:, None]
        turned = torch.einsum("...sjkl,stjlb->...stjkb", rotations, offsets)
        turned = turned + origins[..., None, :, :, :]
        tips = torch.einsum("stj,...stjkb->...stkb", weights, turned)
        return torch.cat((origins, tips), -3)[..., self._joint_order, :, :]

    def vertex_jacobian(self, skeleton: PosedSkeleton, points: Tensor, ids: Tensor) -> Tensor:
        """How single vertices of single hands move, as skinned but without pose correctives.

        Args:
            skeleton: of N hands, dimensions (N,), all of one side or with `ids` of either.
            points: (N, 3) where the vertices are.
            ids: (N, 2) side and vertex.

        Returns:
            (N, 3, 51), columns as of `motion_jacobian`.
        """
        arms = points[:, None] - skeleton.origins
        turned = -_cross_matrix(arms) @ skeleton.rotations  # (N, 16, 3, 3)
        weights = self.weights[ids[:, 0], ids[:, 1]] @ self._own_or_moved().to(points)
        turned = (turned * weights[..., None, None]).movedim(1, 2)
        shift = torch.eye(3).to(points).expand(len(points), 3, 3)
        return torch.cat((turned[:, :, 0], shift, turned[:, :, 1:].flatten(-2)), -1)

    def _own_or_moved(self) -> Tensor:
        """(16, 16): entry k, m says whether bone k moves with the rotation of joint m."""
        return _ancestry() | torch.eye(NUM_MANO_JOINTS, dtype=torch.bool)

    def _skin(self, ids: Tensor, skeleton: PosedSkeleton, pose: Tensor, betas: Tensor) -> Tensor:
        identity = torch.eye(3).to(pose)
        bend = (pose - identity).flatten(-3)
        at_rest = self.template[:, ids] + torch.einsum(
            "svkb,...sb->...svk", self.shape_directions[:, ids], betas
        )
        at_rest = at_rest + torch.einsum("svkp,...sp->...svk", self.pose_directions[:, ids], bend)
        moved = skeleton.origins - (skeleton.rotations @ skeleton.rest[..., None])[..., 0]
        affine = torch.cat((skeleton.rotations, moved[..., None]), -1).flatten(
            -2
        )  # (..., S, 16, 12)
        blended = (self.weights[:, ids] @ affine).unflatten(-1, (3, 4))
        return (blended[..., :3] @ at_rest[..., None])[..., 0] + blended[..., 3]


def moved_by() -> Tensor:
    """(21, 16) bool: whether a joint of the common order moves with one of MANO's rotations."""
    ancestry = _ancestry()
    last = torch.tensor([JOINTS_FROM_MANO[tip - 1] for tip in FINGERTIPS])
    tips = ancestry[last] | torch.eye(NUM_MANO_JOINTS, dtype=torch.bool)[last]
    moved = torch.cat((ancestry, tips))[list(JOINTS_FROM_MANO)]
    assert moved.shape == (NUM_JOINTS, NUM_MANO_JOINTS) and not moved[WRIST].any()
    return moved


def _ancestry() -> Tensor:
    """(16, 16) bool: entry k, m says whether joint m comes before k on the way from the wrist."""
    ancestry = torch.zeros(NUM_MANO_JOINTS, NUM_MANO_JOINTS, dtype=torch.bool)
    for joint, parent in enumerate(MANO_PARENTS):
        if parent >= 0:
            ancestry[joint] = ancestry[parent]
            ancestry[joint, parent] = True
    return ancestry


def _accumulate(orientation: Tensor, pose: Tensor) -> Tensor:
    """Rotations of MANO's joints from the rest frame, (..., 16, 3, 3)."""
    fingers = pose.unflatten(-3, (-1, _CHAIN))
    first = orientation[..., None, :, :] @ fingers[..., 0, :, :]
    second = first @ fingers[..., 1, :, :]
    third = second @ fingers[..., 2, :, :]
    chains = torch.stack((first, second, third), -3).flatten(-4, -3)
    return torch.cat((orientation[..., None, :, :], chains), -3)


def _chain_origins(rest: Tensor, rotations: Tensor, wrist: Tensor) -> Tensor:
    """Joints from the root on; linear in `rest` and `wrist`, which may have several columns.

    Args:
        rest: (..., 16, 3, K).
        rotations: (..., 16, 3, 3).
        wrist: (..., 3, K).

    Returns:
        (..., 16, 3, K).
    """
    fingers = rest[..., 1:, :, :].unflatten(-3, (-1, _CHAIN))
    turns = rotations[..., 1:, :, :].unflatten(-3, (-1, _CHAIN))
    base = fingers[..., 0, :, :] - rest[..., :1, :, :]
    first = wrist[..., None, :, :] + rotations[..., :1, :, :] @ base
    second = first + turns[..., 0, :, :] @ (fingers[..., 1, :, :] - fingers[..., 0, :, :])
    third = second + turns[..., 1, :, :] @ (fingers[..., 2, :, :] - fingers[..., 1, :, :])
    chains = torch.stack((first, second, third), -3).flatten(-4, -3)
    return torch.cat((wrist[..., None, :, :], chains), -3)


def _cross_matrix(vectors: Tensor) -> Tensor:
    """(..., 3) to the matrices (..., 3, 3) with [v] w = v x w."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).unflatten(-1, (3, 3))
