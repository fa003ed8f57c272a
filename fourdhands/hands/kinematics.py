"""Joints from finger rotations alone: the skeleton without the skin, and joint angles in torch.

`HandModel` poses 778 vertices; where only joints count, as in a motion's loss, this takes a
fiftieth of the time. The five tips, which are vertices, move rigidly with their last bones here.
"""

from typing import Final

import torch
from torch import Tensor, nn

from fourdhands.hands.anatomy import POSE_LIMITS, JointAxes
from fourdhands.hands.assets import NUM_HAND_JOINTS, ManoAssets
from fourdhands.skeleton import FINGERS, FINGERTIP_VERTICES, JOINTS_FROM_MANO, MANO_FINGERS

__all__ = ["FingerChains", "JointAngles"]

NUM_FINGERS: Final = len(MANO_FINGERS)


class FingerChains(nn.Module):
    """Joints of one hand of mean shape, relative to its wrist; buffers stay out of checkpoints.

    Args:
        assets: of the hand.
    """

    bones: Tensor

    def __init__(self, assets: ManoAssets) -> None:
        super().__init__()
        joints = torch.from_numpy(assets.joints).float()
        tips = torch.from_numpy(assets.v_template).float()[list(FINGERTIP_VERTICES)]
        tips = tips[[FINGERS.index(finger) for finger in MANO_FINGERS]]
        chains = joints[1:].reshape(NUM_FINGERS, 3, 3)
        line = torch.cat([chains, tips[:, None]], dim=1) - joints[0]
        # from the wrist to the knuckle, then bone by bone to the tip
        bones = torch.cat([line[:, :1], line.diff(dim=1)], dim=1)
        self.register_buffer("bones", bones, persistent=False)

    def forward(self, rotations: Tensor) -> Tensor:
        """Pose the skeleton.

        Args:
            rotations: (..., 15, 3, 3) local finger rotations, MANO's order.

        Returns:
            (..., J, 3) metres, relative to the wrist and in its frame, in the common joint order.
        """
        local = rotations.unflatten(-3, (NUM_FINGERS, 3))
        bones = self.bones[..., None].to(rotations.dtype)
        turned = local[..., 0, :, :]
        places = [bones[:, 0].expand(*turned.shape[:-2], 3, 1)]
        for k in range(3):
            places.append(places[-1] + turned @ bones[:, k + 1])
            if k < 2:
                turned = turned @ local[..., k + 1, :, :]
        line = torch.stack(places, dim=-3)[..., 0]  # (..., finger, joint, 3)
        inner, tips = line[..., :3, :].flatten(-3, -2), line[..., 3, :]
        order = [FINGERS.index(finger) for finger in MANO_FINGERS]
        tips = tips[..., [order.index(k) for k in range(NUM_FINGERS)], :]
        wrist = torch.zeros_like(tips[..., :1, :])
        return torch.cat([wrist, inner, tips], dim=-2)[..., list(JOINTS_FROM_MANO), :]

    @property
    def levers(self) -> Tensor:
        """(15, 3) metres that a joint's angles move its fingertip by, a radian each.

        Flexion and abduction act over the stretched rest of the finger. A twist moves a bent rest
        only: a fifth of it is taken.
        """
        lengths = self.bones[:, 1:].norm(dim=-1).flip(1).cumsum(1).flip(1).flatten()
        return lengths[:, None] * lengths.new_tensor((1.0, 1.0, 0.2))


class JointAngles(nn.Module):
    """Rotations of one hand's fingers as flexion, abduction and twist, and back, in torch.

    The same maps as `anatomy.rotations_from_angles` and `angles_from_rotations`.

    Args:
        axes: of the hand.
    """

    basis: Tensor
    signs: Tensor
    limits: Tensor

    def __init__(self, axes: JointAxes) -> None:
        super().__init__()
        columns = torch.stack(
            [torch.from_numpy(a) for a in (axes.flexion, axes.abduction, axes.twist)], dim=-1
        )
        handed = torch.linalg.det(columns).sign()
        signs = torch.stack([torch.ones_like(handed), handed, torch.ones_like(handed)], dim=-1)
        self.register_buffer("basis", (columns * signs[:, None]).float(), persistent=False)
        self.register_buffer("signs", signs.float(), persistent=False)
        limits = torch.from_numpy(POSE_LIMITS).float()
        self.register_buffer("limits", limits, persistent=False)

    def rotations(self, angles: Tensor) -> Tensor:
        """(..., 15, 3) radians to (..., 15, 3, 3), R = R_flexion R_abduction R_twist."""
        turned = angles * self.signs
        (sx, sy, sz), (cx, cy, cz) = turned.sin().unbind(-1), turned.cos().unbind(-1)
        local = torch.stack(
            [
                *(cy * cz, -cy * sz, sy),
                *(cx * sz + sx * sy * cz, cx * cz - sx * sy * sz, -sx * cy),
                *(sx * sz - cx * sy * cz, sx * cz + cx * sy * sz, cx * cy),
            ],
            dim=-1,
        ).unflatten(-1, (3, 3))
        return self.basis @ local @ self.basis.mT

    def angles(self, rotations: Tensor) -> Tensor:
        """(..., 15, 3, 3) to (..., 15, 3) radians; abduction within a right angle."""
        local = self.basis.mT @ rotations @ self.basis
        x = torch.atan2(-local[..., 1, 2], local[..., 2, 2])
        y = torch.asin(local[..., 0, 2].clamp(-1 + 1e-7, 1 - 1e-7))
        z = torch.atan2(-local[..., 0, 1], local[..., 0, 0])
        return torch.stack([x, y, z], dim=-1) * self.signs


assert len(JOINTS_FROM_MANO) == 1 + NUM_HAND_JOINTS + NUM_FINGERS
