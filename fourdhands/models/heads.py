"""From each hand's feature to MANO parameters, camera and the vector between the hands."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from fourdhands.geometry.rotation import (
    axis_angle_from_matrix,
    matrix_from_6d,
    matrix_from_axis_angle,
    mirror_points,
    sixd_from_matrix,
)
from fourdhands.skeleton import NUM_BETAS, NUM_MANO_JOINTS, Side


@dataclass(frozen=True)
class HeadConfig:
    """How features become hands. The first word of each choice is ours, the others are peers'.

    Attributes:
        trunk: whether an MLP comes before pose and camera (HaMeR has none).
        pose: what the pose layer says: 'offset', 6D offsets from the mean hand's; 'absolute', the
            6D rotations themselves (HaMeR); 'axis_angle', 6D rotations whose fingers' rotation
            vectors are added to those of MANO's mean pose (OmniHands).
        upsilon: the vector between the hands: 'wrists', antisymmetric under mirroring; 'knuckles',
            linear, and between the middle fingers' knuckles (OmniHands); 'none', what the two
            crops' cameras say (HaMeR).
    """

    trunk: bool = True
    pose: Literal["offset", "absolute", "axis_angle"] = "offset"
    upsilon: Literal["wrists", "knuckles", "none"] = "wrists"


class HandParameters(NamedTuple):
    """One hand as its (mirrored) crop shows it: always a right hand.

    Attributes:
        rotations: (..., 16, 3, 3), wrist first.
        rotations_6d: (..., 16, 6) the same before they are made orthonormal.
        betas: (..., 10).
        crop_camera: (..., 3) s, t_x, t_y.
    """

    rotations: Tensor
    rotations_6d: Tensor
    betas: Tensor
    crop_camera: Tensor


class ManoHead(nn.Module):
    """Offsets from the mean hand: 6D rotations, shape, weak-perspective camera.

    The camera's scale is in units of 1/m (its longer crop side is 2/s metres wide at the hand). Its
    mean puts the wrist, which lies 9.6 cm from MANO's origin, in the middle of the crop.

    Args:
        config: the trunk, and what the pose layer says.
        dim: width of the feature.
        mean_pose: (15, 3, 3) finger rotations of MANO's mean pose.
    """

    MEAN_CAMERA = (9.0, -0.096, -0.006)
    CAMERA_UNITS = (2.0, 0.05, 0.05)

    mean_rotations: Tensor
    mean_camera: Tensor
    camera_units: Tensor

    def __init__(self, config: HeadConfig, dim: int, mean_pose: Tensor) -> None:
        super().__init__()
        self.config = config
        self.trunk = _trunk(dim) if config.trunk else nn.Identity()
        width = _hidden_width(config, dim)
        self.pose = nn.Linear(width, NUM_MANO_JOINTS * 6)
        self.shape = nn.Linear(dim, NUM_BETAS)
        self.camera = nn.Linear(width, 3)
        for layer in self.trunk.children():
            if isinstance(layer, nn.Linear):  # keep the signal's size through the trunk
                nn.init.kaiming_normal_(layer.weight, a=0.01)
        for layer in (self.pose, self.shape, self.camera):  # start near the mean hand
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        mean_rotations = torch.cat((torch.eye(3).to(mean_pose)[None], mean_pose))
        if config.pose != "absolute":
            self.register_buffer("mean_rotations", sixd_from_matrix(mean_rotations))
        if config.pose != "offset":  # start from no rotation, and do not count the mean twice
            with torch.no_grad():
                upright = sixd_from_matrix(torch.eye(3)).repeat(NUM_MANO_JOINTS)
                self.pose.bias.copy_(upright)
        self.register_buffer("mean_camera", torch.tensor(self.MEAN_CAMERA))
        self.register_buffer("camera_units", torch.tensor(self.CAMERA_UNITS))

    def forward(self, feature: Tensor, hidden: Tensor) -> HandParameters:
        """(..., D), and what the trunk makes of it, to parameters."""
        answer = self.pose(hidden).unflatten(-1, (NUM_MANO_JOINTS, 6)).float()
        rotations_6d = self.mean_rotations + answer if self.config.pose == "offset" else answer
        rotations = matrix_from_6d(rotations_6d)
        if self.config.pose == "axis_angle":
            mean = axis_angle_from_matrix(matrix_from_6d(self.mean_rotations[1:]))
            fingers = matrix_from_axis_angle(
                axis_angle_from_matrix(rotations[..., 1:, :, :]) + mean
            )
            rotations = torch.cat((rotations[..., :1, :, :], fingers), -3)
            rotations_6d = sixd_from_matrix(rotations)
        return HandParameters(
            rotations=rotations,
            rotations_6d=rotations_6d,
            betas=self.shape(feature).float(),
            crop_camera=self.mean_camera + self.camera_units * self.camera(hidden).float(),
        )


class UpsilonHead(nn.Module):
    """`upsilon`, left root minus right root, antisymmetric under mirroring.

    With h(own, other) shared by both sides: upsilon = h(R, L) - M h(L, R). Swapping the hands of
    the mirrored image then gives -M upsilon, as it must.
    """

    UNIT = 0.1  # metres: hands are decimetres apart

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(2 * dim, dim), nn.GELU(), nn.Linear(dim, 3))

    def forward(self, features: Tensor, hidden: Tensor) -> Tensor:
        """(..., S, D) to (..., 3) metres, camera frame."""
        right, left = features[..., Side.RIGHT, :], features[..., Side.LEFT, :]
        forth = self.trunk(torch.cat((right, left), -1)).float()
        back = self.trunk(torch.cat((left, right), -1)).float()
        return self.UNIT * (forth - mirror_points(back))


class KnuckleHead(nn.Module):
    """The vector between the middle fingers' knuckles, left minus right, as OmniHands reads it."""

    def __init__(self, hidden_width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * hidden_width, 3)

    def forward(self, features: Tensor, hidden: Tensor) -> Tensor:
        """What the trunk says of both hands, (..., S, H), to (..., 3) metres, camera frame."""
        between: Tensor = self.linear(hidden.flatten(-2)).float()
        return between


class WithoutUpsilon(nn.Module):
    """Nothing of the hands together: zeros, in place of which the cameras are asked."""

    def forward(self, features: Tensor, hidden: Tensor) -> Tensor:
        """(..., S, D) to zeros (..., 3)."""
        return torch.zeros_like(features[..., 0, :3])


def build_upsilon_head(config: HeadConfig, dim: int) -> nn.Module:
    """The head for the vector between the hands; `models.two_hands` says what it means."""
    if config.upsilon == "wrists":
        return UpsilonHead(dim)
    return (
        KnuckleHead(_hidden_width(config, dim))
        if config.upsilon == "knuckles"
        else WithoutUpsilon()
    )


def _trunk(dim: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(dim, dim), nn.LeakyReLU(), nn.Linear(dim, dim // 2), nn.LeakyReLU()
    )


def _hidden_width(config: HeadConfig, dim: int) -> int:
    return dim // 2 if config.trunk else dim
