"""Finger rotations as vectors that a network reads and writes.

`angles`: joint angles that no output can drive beyond the joints' limits. `rotations`: HMP's 6D
rotations, for recorded data whose conventions of joints and limits are not ours.
"""

from typing import Final, Literal

from torch import Tensor, nn
from torch.nn.functional import softplus

from fourdhands.geometry.rotation import matrix_from_6d, sixd_from_matrix
from fourdhands.hands.anatomy import JointAxes
from fourdhands.hands.assets import load_assets
from fourdhands.hands.kinematics import FingerChains, JointAngles
from fourdhands.skeleton import Side

CoordinateKind = Literal["angles", "rotations"]
SHARPNESS: Final = 60.0  # of the bend at the joints' limits, by range of motion


class PoseCoordinates(nn.Module):
    """A chart of right-hand poses: (..., 15, 3, 3) to (..., C) and back.

    Coordinates are scaled so that a unit moves a fingertip by about a centimetre: distances between
    vectors are like distances between hands. The axes are those of the open hand for every hand;
    they only name directions.

    Args:
        kind: which chart.
    """

    scale: Tensor

    def __init__(self, kind: CoordinateKind) -> None:
        super().__init__()
        assets = load_assets()[Side.RIGHT]
        self.kind = kind
        self.joints = JointAngles(JointAxes.from_assets(assets))
        levers = FingerChains(assets).levers * 100  # centimetres a radian
        scale = levers if kind == "angles" else levers[:, :1].expand(-1, 6)
        self.register_buffer("scale", scale.flatten().contiguous(), persistent=False)

    @property
    def size(self) -> int:
        """C."""
        return len(self.scale)

    def read(self, rotations: Tensor) -> Tensor:
        """Rotations (..., 15, 3, 3) to coordinates (..., C)."""
        if self.kind == "angles":
            return self.joints.angles(rotations).flatten(-2) * self.scale
        return sixd_from_matrix(rotations).flatten(-2) * self.scale

    def write(self, coordinates: Tensor) -> Tensor:
        """Coordinates (..., C) to rotations (..., 15, 3, 3); angles stay inside their limits."""
        values = coordinates / self.scale
        if self.kind == "rotations":
            return matrix_from_6d(values.unflatten(-1, (15, 6)))
        low, high = self.joints.limits.flatten(0, 1).unbind(-1)
        place = smooth_clamp((values - low) / (high - low))
        return self.joints.rotations((low + (high - low) * place).unflatten(-1, (15, 3)))


def smooth_clamp(x: Tensor) -> Tensor:
    """The identity in (0, 1), bent smoothly so that it never leaves it; always some gradient."""
    return (softplus(SHARPNESS * x) - softplus(SHARPNESS * (x - 1))) / SHARPNESS
