"""From each hand's feature to MANO parameters, camera and the vector between the hands."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from fourdhands.geometry.rotation import matrix_from_6d, mirror_points, sixd_from_matrix
from fourdhands.skeleton import NUM_BETAS, NUM_MANO_JOINTS, Side


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
        dim: width of the feature.
        mean_pose: (15, 3, 3) finger rotations of MANO's mean pose.
    """

    MEAN_CAMERA = (9.0, -0.096, -0.006)
    CAMERA_UNITS = (2.0, 0.05, 0.05)

    mean_rotations: Tensor
    mean_camera: Tensor
    camera_units: Tensor

    def __init__(self, dim: int, mean_pose: Tensor) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(dim, dim), nn.LeakyReLU(), nn.Linear(dim, dim // 2), nn.LeakyReLU()
        )
        self.pose = nn.Linear(dim // 2, NUM_MANO_JOINTS * 6)
        self.shape = nn.Linear(dim, NUM_BETAS)
        self.camera = nn.Linear(dim // 2, 3)
        for layer in self.trunk:
            if isinstance(layer, nn.Linear):  # keep the signal's size through the trunk
                nn.init.kaiming_normal_(layer.weight, a=0.01)
        for layer in (self.pose, self.shape, self.camera):  # start near the mean hand
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        mean_rotations = torch.cat((torch.eye(3).to(mean_pose)[None], mean_pose))
        self.register_buffer("mean_rotations", sixd_from_matrix(mean_rotations))
        self.register_buffer("mean_camera", torch.tensor(self.MEAN_CAMERA))
        self.register_buffer("camera_units", torch.tensor(self.CAMERA_UNITS))

    def forward(self, feature: Tensor) -> HandParameters:
        """(..., D) to parameters."""
        hidden = self.trunk(feature)
        offsets = self.pose(hidden).unflatten(-1, (NUM_MANO_JOINTS, 6)).float()
        rotations_6d = self.mean_rotations + offsets
        return HandParameters(
            rotations=matrix_from_6d(rotations_6d),
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

    def forward(self, features: Tensor) -> Tensor:
        """(..., S, D) to (..., 3) metres, camera frame."""
        right, left = features[..., Side.RIGHT, :], features[..., Side.LEFT, :]
        forth = self.trunk(torch.cat((right, left), -1)).float()
        back = self.trunk(torch.cat((left, right), -1)).float()
        return self.UNIT * (forth - mirror_points(back))
