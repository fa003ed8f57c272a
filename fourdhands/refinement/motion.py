"""What is solved for: two hands in the world over time, their shape, the camera and the scale."""

from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

import roma
import torch
from torch import Tensor

from fourdhands.structures import TensorStruct

Variable = Literal["orientation", "wrist", "pose", "betas", "scale", "camera", "focal", "latent"]
VARIABLES: Final[tuple[Variable, ...]] = get_args(Variable)


@dataclass(frozen=True)
class Motion(TensorStruct):
    """The unknowns of B clips.

    The camera of frame t is x_cam = dR_t R_t x_world + exp(log_scale) tau_t + d_t with the
    trajectory's R_t and tau_t.

    Attributes:
        orientation: (B, T, S, 3, 3) world from hand.
        wrist: (B, T, S, 3) in the world, metres.
        pose: (B, T, S, 15, 3, 3) absolute finger rotations.
        betas: (B, S, 10), one shape for all frames.
        log_scale: (B,) metres a unit of the trajectory, as a logarithm.
        camera_turn: (B, T, 3, 3) correction of the camera's rotation.
        camera_shift: (B, T, 3) correction of its translation, metres.
        log_focal: (B,) correction of the focal length, as a logarithm.
        latent: (B, S, D) of a motion prior; D = 0 without one.
    """

    orientation: Tensor
    wrist: Tensor
    pose: Tensor
    betas: Tensor
    log_scale: Tensor
    camera_turn: Tensor
    camera_shift: Tensor
    log_focal: Tensor
    latent: Tensor

    def moved(self, step: "Step") -> "Motion":
        """Take a step; rotations turn from the right, R exp(d), the camera's from the left."""
        return Motion(
            orientation=self.orientation @ turn(step.orientation),
            wrist=self.wrist + step.wrist,
            pose=self.pose @ turn(step.pose),
            betas=self.betas + step.betas,
            log_scale=self.log_scale + step.scale,
            camera_turn=turn(step.camera[..., :3]) @ self.camera_turn,
            camera_shift=self.camera_shift + step.camera[..., 3:],
            log_focal=self.log_focal + step.focal,
            latent=self.latent + step.latent,
        )

    def chosen(self, take: Tensor, other: "Motion") -> "Motion":
        """This motion for the clips of `take` (B,), the other one for the rest."""

        def pick(name: str) -> Tensor:
            own, others = getattr(self, name), getattr(other, name)
            return torch.where(take.view(-1, *[1] * (own.dim() - 1)), own, others)

        return replace(self, **{name: pick(name) for name in vars(self)})

    def frames(self, start: int, stop: int) -> "Motion":
        """Some of the frames; what all frames share stays."""
        cut = {name: getattr(self, name)[:, start:stop] for name in _OF_FRAMES}
        return replace(self, **cut)

    def put_frames(self, start: int, other: "Motion") -> None:
        """Overwrite frames from `start` on by those of another motion, in place."""
        stop = start + other.wrist.shape[1]
        for name in _OF_FRAMES:
            getattr(self, name)[:, start:stop] = getattr(other, name)

    @property
    def shared(self) -> Tensor:
        """(B, 22) what all frames share: betas of both hands, and logarithms of scale and focal."""
        ends = torch.stack((self.log_scale, self.log_focal), -1)
        return torch.cat((self.betas.flatten(1), ends), -1)

    def with_shared(self, values: Tensor) -> "Motion":
        """The motion with other shared values, (B, 22) as `shared`."""
        betas, ends = values[:, :-2], values[:, -2:]
        return replace(
            self,
            betas=betas.unflatten(1, self.betas.shape[1:]),
            log_scale=ends[:, 0],
            log_focal=ends[:, 1],
        )


_OF_FRAMES: Final = ("orientation", "wrist", "pose", "camera_turn", "camera_shift")


@dataclass(frozen=True)
class Step(TensorStruct):
    """A small change of a `Motion`: radians, metres, logarithms.

    Attributes:
        orientation: (B, T, S, 3).
        wrist: (B, T, S, 3).
        pose: (B, T, S, 15, 3).
        betas: (B, S, 10).
        scale: (B,).
        camera: (B, T, 6) turn and shift.
        focal: (B,).
        latent: (B, S, D).
    """

    orientation: Tensor
    wrist: Tensor
    pose: Tensor
    betas: Tensor
    scale: Tensor
    camera: Tensor
    focal: Tensor
    latent: Tensor

    @classmethod
    def zero(cls, motion: Motion) -> "Step":
        """No change."""
        zeros = torch.zeros_like
        return cls(
            orientation=zeros(motion.wrist),
            wrist=zeros(motion.wrist),
            pose=zeros(motion.pose[..., 0]),
            betas=zeros(motion.betas),
            scale=zeros(motion.log_scale),
            camera=torch.cat((zeros(motion.camera_shift), zeros(motion.camera_shift)), -1),
            focal=zeros(motion.log_focal),
            latent=zeros(motion.latent),
        )


def turn(vectors: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of rotation vectors (..., 3)."""
    return roma.rotvec_to_rotmat(vectors)


def turning(first: Tensor, second: Tensor) -> Tensor:
    """Rotation vectors (..., 3) of first^T second; smooth where they are equal."""
    return rotation_vector(first.mT @ second)


def rotation_vector(rotation: Tensor) -> Tensor:
    """Rotation vectors (..., 3) of matrices (..., 3, 3); gradients are finite below half a turn."""
    return roma.rotmat_to_rotvec(rotation)
