"""What hands cannot do: joint angles, proportions of bones and palms outside published anatomy.

Everything is free of scale and the same for both hands: angles are anatomical (flexion, abduction,
twist), lengths are parts of the hand's own, and left hands are true left hands.
"""

from dataclasses import dataclass
from typing import Final, Self

import torch
from torch import Tensor

from fourdhands.hands.anatomy import POSE_LIMITS, JointAxes, joint_frames
from fourdhands.hands.assets import ManoAssets
from fourdhands.skeleton import FINGERS, WRIST
from fourdhands.structures import TensorStruct

# Means of 66 adults' radiographs, millimetres: Buryanov and Kotiuk, Proportions of Hand Segments,
# Int. J. Morphol. 28(3), 2010. Proximal, middle, distal phalanx with pulp; the thumb's first
# bone is its metacarpal.
_PHALANGES: Final = {
    "thumb": (46.2, 31.6, 27.4),
    "index": (39.8, 22.4, 19.6),
    "middle": (44.6, 26.3, 21.4),
    "ring": (41.4, 25.7, 21.3),
    "little": (32.7, 18.1, 19.7),
}
PROPORTION_SPREAD: Final = 0.25
"""How far a bone's share of its hand's bones may differ from the mean adult's: three deviations of
some 7 % (ibid.), and where a hand model puts the joint within the knuckle."""
# Palm: angles between neighbouring rays from the wrist joint to the knuckles, thumb to little
# finger, degrees; and how far the knuckles' arch stands out of their plane, in parts of the palm's
# breadth. The mean adult's rays (ibid. and hand breadths) with 10 degrees and 0.15 to either side.
_RAYS: Final = (35.0, 14.0, 13.0, 14.0)
RAY_SPREAD: Final = 10.0
ARCH_LIMITS: Final = (-0.05, 0.30)
_KNUCKLES: Final = tuple(4 * k + 1 for k in range(5))


@dataclass(frozen=True)
class Anatomy(TensorStruct):
    """Frames of the joints of both hands, as tensors.

    Attributes:
        basis: (S, 15, 3, 3) flexion, abduction and twist axes as columns.
        signs: (S, 15, 3) what turns Euler angles in them into anatomical angles.
        limits: (15, 3, 2) radians, least and greatest.
    """

    basis: Tensor
    signs: Tensor
    limits: Tensor

    @classmethod
    def from_assets(cls, assets: tuple[ManoAssets, ManoAssets]) -> Self:
        """Of the right and the left hand."""
        frames = [joint_frames(JointAxes.from_assets(side)) for side in assets]
        basis, signs = (torch.stack([torch.from_numpy(f[k]) for f in frames]) for k in range(2))
        return cls(basis.double(), signs.double(), torch.from_numpy(POSE_LIMITS).double())

    def angles(self, pose: Tensor) -> Tensor:
        """Flexion, abduction, twist (..., S, 15, 3) radians of poses (..., S, 15, 3, 3)."""
        local = self.basis.mT @ pose @ self.basis
        first = torch.atan2(-local[..., 1, 2], local[..., 2, 2])
        # the root keeps its gradient finite where the middle angle is a right one
        rest = (local[..., 0, 0].square() + local[..., 0, 1].square() + 1e-12).sqrt()
        second = torch.atan2(local[..., 0, 2], rest)
        third = torch.atan2(-local[..., 0, 1], local[..., 0, 0])
        return torch.stack((first, second, third), -1) * self.signs

    def excess(self, pose: Tensor, margin: float = 0.0) -> Tensor:
        """How far angles are outside their limits, (..., S, 15, 3) radians, signed.

        Args:
            pose: (..., S, 15, 3, 3).
            margin: radians that limits are moved inwards.
        """
        angles = self.angles(pose)
        low, high = self.limits[..., 0] + margin, self.limits[..., 1] - margin
        return (angles - high).clamp_min(0) + (angles - low).clamp_max(0)

    def angle_jacobian(self, pose: Tensor) -> Tensor:
        """Angles by turns from the right R exp(d): (..., S, 15, 3, 3); bounded at a right angle."""
        angles = self.angles(pose) * self.signs
        sine, cosine = angles[..., 2].sin(), angles[..., 2].cos()
        bend = angles[..., 1].cos().clamp_min(0.2)
        tangent = angles[..., 1].sin() / bend
        zero, one = torch.zeros_like(sine), torch.ones_like(sine)
        rows = torch.stack(
            (
                torch.stack((cosine / bend, -sine / bend, zero), -1),
                torch.stack((sine, cosine, zero), -1),
                torch.stack((-cosine * tangent, sine * tangent, one), -1),
            ),
            -2,
        )
        return self.signs[..., None] * (rows @ self.basis.mT)


def joint_angles(pose: Tensor, anatomy: Anatomy, share: Tensor, margin: float = 0.0) -> Tensor:
    """L_angle = mean over the 45 angles of max(0, outside its limits)^2, Dyn-HaMR L_bio.

    Args:
        pose: (B, T, S, 15, 3, 3).
        anatomy: of the hand model.
        share: (B, T, S).
        margin: radians that limits are moved inwards.

    Returns:
        (B,) radians^2.
    """
    return (anatomy.excess(pose, margin).square().mean((-2, -1)) * share).sum((1, 2))


def bone_lengths(joints: Tensor, share: Tensor) -> Tensor:
    """L_bone = mean of max(0, |log(part / mean adult's)| - log(1 + spread))^2, scale-free.

    Args:
        joints: (B, S, 21, 3) metres, of any pose.
        share: (B, S).

    Returns:
        (B,).
    """
    chains = joints[..., 1:, :].unflatten(-2, (5, 4))
    lengths = chains.diff(dim=-2).norm(dim=-1).flatten(-2).clamp_min(1e-9)
    mean = torch.tensor([_PHALANGES[finger] for finger in FINGERS]).to(joints).flatten()
    # the sums' ratio as geometric mean: a bone's error does not leak into the others' shares
    ratio = (lengths / mean).log()
    ratio = ratio - ratio.mean(-1, keepdim=True)
    limit = torch.log1p(torch.tensor(PROPORTION_SPREAD)).to(joints)
    return ((ratio.abs() - limit).clamp_min(0).square().mean(-1) * share).sum(-1)


def palm_shape(joints: Tensor, share: Tensor) -> Tensor:
    """L_palm = mean of squared angles between metacarpal rays, and of the arch, outside ranges.

    The arch is the height of the middle and ring finger's knuckles over the line from the index
    to the little finger's, towards the back of the hand, in parts of that line's length; it has the
    same sign on both hands.

    Args:
        joints: (B, S, 21, 3).
        share: (B, S).

    Returns:
        (B,) radians^2.
    """
    knuckles = joints[..., _KNUCKLES, :]
    rays = torch.nn.functional.normalize(knuckles - joints[..., WRIST, None, :], dim=-1)
    cross = torch.linalg.cross(rays[..., :-1, :], rays[..., 1:, :])
    angles = torch.atan2(cross.norm(dim=-1), (rays[..., :-1, :] * rays[..., 1:, :]).sum(-1))
    wanted = torch.deg2rad(torch.tensor(_RAYS)).to(joints)
    spread = torch.deg2rad(torch.tensor(RAY_SPREAD)).to(joints)
    outside = ((angles - wanted).abs() - spread).clamp_min(0).square().mean(-1)
    arch = _arch(knuckles, joints[..., WRIST, :])
    low, high = ARCH_LIMITS
    beyond = (arch - high).clamp_min(0) + (low - arch).clamp_min(0)
    return ((outside + beyond.square().mean(-1)) * share).sum(-1)


def _arch(knuckles: Tensor, wrist: Tensor) -> Tensor:
    """(..., S, 2) of middle and ring finger."""
    index, little = knuckles[..., 1, :], knuckles[..., 4, :]
    across = little - index
    dorsal = torch.linalg.cross(little - wrist, index - wrist)
    sides = torch.tensor((1.0, -1.0)).to(wrist)[:, None]  # a cross product turns over in the mirror
    dorsal = torch.nn.functional.normalize(dorsal, dim=-1) * sides
    heights = ((knuckles[..., 2:4, :] - index[..., None, :]) * dorsal[..., None, :]).sum(-1)
    return heights / across.norm(dim=-1, keepdim=True).clamp_min(1e-9)
