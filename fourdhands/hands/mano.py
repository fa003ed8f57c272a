"""From MANO parameters to joints and vertices of both hands; smplx does the skinning.

The one module that turns a `HandState` into a `HandGeometry`: labels, losses, metrics and pictures
all come through here.
"""

import contextlib
import io
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Final, Self

import numpy as np
import roma
import smplx
import torch
from torch import Tensor, nn

from fourdhands.hands.assets import ManoAssets, load_assets
from fourdhands.skeleton import (
    FINGERTIP_VERTICES,
    JOINTS_FROM_MANO,
    NUM_VERTICES,
    WRIST,
    WRIST_RING,
    Side,
)
from fourdhands.structures import HandGeometry, HandState

# The 14 faces that close the wrist: a strip that zigzags across the ring, outward on the right.
_STRIP: Final = [face for k in range(7) for face in ((k, k + 1, -k - 1), (-k - 1, k + 1, -k - 2))]
WRIST_CAP: Final = np.array(WRIST_RING)[np.array(_STRIP)]


class HandModel(nn.Module):
    """Both hands as a differentiable function of their parameters.

    Holds buffers only, and none of them enters a checkpoint: MANO's data stays with its user.

    Attributes:
        faces: (S, 1538, 3) outward.
        closed_faces: (S, 1552, 3), the same with the wrist closed: watertight.
        mean_pose: (15, 3, 3) mean finger rotations of the right hand; mirror them for the left.
    """

    faces: Tensor
    closed_faces: Tensor
    mean_pose: Tensor
    _tips: Tensor
    _joint_order: Tensor
    _wrist: Tensor
    _wrist_of_shape: Tensor

    def __init__(self, assets: tuple[ManoAssets, ManoAssets] | None = None) -> None:
        """Build from the assets of the right and left hand; None for the open hand."""
        super().__init__()
        self.assets = assets or load_assets()
        self.layers = nn.ModuleList(_mano_layer(side) for side in self.assets)
        faces = [torch.from_numpy(side.faces) for side in self.assets]
        wrist, wrist_of_shape = wrist_at_rest(self.assets)
        mean_pose = torch.from_numpy(self.assets[Side.RIGHT].hands_mean).unflatten(0, (15, 3))
        for name, tensor in (
            ("faces", torch.stack(faces)),
            ("closed_faces", closed_faces(self.assets)),
            ("mean_pose", roma.rotvec_to_rotmat(mean_pose)),
            ("_tips", torch.tensor(FINGERTIP_VERTICES)),
            ("_joint_order", torch.tensor(JOINTS_FROM_MANO)),
            ("_wrist", wrist),
            ("_wrist_of_shape", wrist_of_shape),
        ):
            self.register_buffer(name, tensor, persistent=False)

    @classmethod
    def open(cls) -> Self:
        """The open hand."""
        return cls(load_assets())

    def forward(self, state: HandState) -> HandGeometry:
        """Pose both hands.

        Args:
            state: Parameters with any leading dimensions.

        Returns:
            21 joints in the common order and 778 vertices a hand, camera frame, metres.
        """
        sides = [self._pose_side(side, state) for side in Side]
        joints, vertices = (torch.stack(tensors, dim=-3) for tensors in zip(*sides, strict=True))
        return HandGeometry(joints=joints, vertices=vertices)

    def roots(self, state: HandState) -> Tensor:
        """The wrists (..., S, 3) alone: neither rotations nor fingers move them."""
        wrist = self._wrist + (self._wrist_of_shape @ state.betas[..., None])[..., 0]
        return state.transl + wrist

    def _pose_side(self, side: Side, state: HandState) -> tuple[Tensor, Tensor]:
        leading = state.betas.shape[:-2]

        def flat(tensor: Tensor, *shape: int) -> Tensor:
            return tensor.select(len(leading), side).reshape(-1, *shape).to(self.mean_pose.dtype)

        # Half precision would move fingertips by millimetres, so autocast stays outside.
        with torch.autocast(self.mean_pose.device.type, enabled=False):
            output = self.layers[side](
                global_orient=flat(state.global_orient, 1, 3, 3),
                hand_pose=flat(state.hand_pose, 15, 3, 3),
                betas=flat(state.betas, state.betas.shape[-1]),
                transl=flat(state.transl, 3),
            )
        tips = output.vertices[:, self._tips]
        joints = torch.cat([output.joints, tips], dim=1)[:, self._joint_order]
        return joints.reshape(*leading, -1, 3), output.vertices.reshape(*leading, -1, 3)


def closed_faces(assets: tuple[ManoAssets, ManoAssets]) -> Tensor:
    """(S, 1552, 3) faces of both hands, outward, those that close the wrist last."""
    right, left = (torch.from_numpy(side.faces) for side in assets)
    cap = torch.from_numpy(WRIST_CAP)
    return torch.stack((torch.cat((right, cap)), torch.cat((left, cap.flip(-1)))))


def wrist_at_rest(assets: tuple[ManoAssets, ManoAssets]) -> tuple[Tensor, Tensor]:
    """The wrist before `transl` as a function of shape; MANO turns about it, not the origin.

    Returns:
        (S, 3) of the mean shape, and (S, 3, 10) metres a unit of each shape direction.
    """
    wrists, directions = [], []
    for side in assets:
        regressor = torch.from_numpy(side.J_regressor[WRIST])
        wrists.append(regressor @ torch.from_numpy(side.v_template))
        directions.append(torch.tensordot(regressor, torch.from_numpy(side.shapedirs), 1))
    return torch.stack(wrists), torch.stack(directions)


def joints_of_mesh(assets: tuple[ManoAssets, ManoAssets], tips: Sequence[int]) -> Tensor:
    """What makes joints of posed vertices: (S, J, V), rows sum to one, joints in the common order.

    Inner joints differ by millimetres from those of the skeleton that posed the mesh.

    Args:
        assets: right and left hand.
        tips: vertices of the fingertips, from thumb to little finger.
    """
    one_hot = torch.eye(NUM_VERTICES, dtype=torch.float64)[list(tips)]
    rows = [torch.cat((torch.from_numpy(side.J_regressor).double(), one_hot)) for side in assets]
    return torch.stack(rows)[:, list(JOINTS_FROM_MANO)]


def _mano_layer(assets: ManoAssets) -> nn.Module:
    """The layer of smplx over arrays in memory, its buffers kept out of checkpoints."""
    parents = np.where(assets.parents < 0, 0, assets.parents)
    data = SimpleNamespace(
        v_template=assets.v_template,
        f=assets.faces,
        shapedirs=assets.shapedirs,
        posedirs=assets.posedirs,
        J_regressor=assets.J_regressor,
        weights=assets.weights,
        kintree_table=np.stack([parents, np.arange(len(parents))]),
        hands_mean=assets.hands_mean,
        hands_components=assets.hands_components,
    )
    # smplx prints "only 10 shape coefficients" at every construction; ten is what MANO has.
    with contextlib.redirect_stdout(io.StringIO()):
        layer: nn.Module = smplx.MANOLayer(
            model_path="",
            data_struct=data,
            is_rhand=assets.side is Side.RIGHT,
            create_body_pose=False,
            use_pca=False,
            flat_hand_mean=True,
        )
    for module in layer.modules():
        for name, buffer in list(module.named_buffers(recurse=False, remove_duplicate=False)):
            delattr(module, name)
            module.register_buffer(name, buffer, persistent=False)
    return layer
