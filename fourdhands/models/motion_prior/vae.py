"""The variational autoencoder over windows of a right hand's motion: encoder, latent, field."""

from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor, nn

from fourdhands.models.motion_prior.coordinates import CoordinateKind, PoseCoordinates
from fourdhands.models.motion_prior.encoder import LOG_VARIANCE, EncoderConfig, MotionEncoder
from fourdhands.models.motion_prior.field import FieldConfig, SplineField, build_field
from fourdhands.models.motion_prior.time_base import b_splines

ROUGHNESS: Final = 0.02
"""Weight of the squared second differences of coefficients, beside squared distances."""
NOISE: Final = 0.15
"""Centimetres at the fingertip that the linear start does not explain: its decoder's variance."""


@dataclass(frozen=True)
class MotionPriorConfig:
    """The motion prior.

    Attributes:
        frames: of the encoder's time grid.
        fps: of the grid; the window is frames / fps seconds long.
        latent: numbers in z.
        coordinates: how poses are read and written: 'angles' within the joints' limits, or 6D
            'rotations'.
        encoder: its size.
        field: the decoder.
    """

    frames: int = 128
    fps: float = 30.0
    latent: int = 384
    coordinates: CoordinateKind = "angles"
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    field: FieldConfig = field(default_factory=FieldConfig)

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.frames < 4 or self.frames % 2 or self.latent < 1 or self.fps <= 0:
            raise ValueError(
                f"frames is {self.frames}, latent {self.latent}, fps {self.fps}: an even number of "
                "at least 4, at least 1 and a positive number are needed"
            )

    @property
    def seconds(self) -> float:
        """Length of a window."""
        return self.frames / self.fps


class MotionVae(nn.Module):
    """q(z | observed frames) and D(t, z) for one right hand; z is N(0, I) a priori.

    Args:
        config: sizes.
    """

    centre: Tensor

    def __init__(self, config: MotionPriorConfig) -> None:
        super().__init__()
        self.config = config
        self.coordinates = PoseCoordinates(config.coordinates)
        size = self.coordinates.size
        self.encoder = MotionEncoder(config.encoder, config.frames, size, config.latent)
        self.field = build_field(config.field, config.seconds, config.latent, size)
        self.register_buffer("centre", torch.zeros(size))

    @property
    def grid(self) -> Tensor:
        """(T,) seconds of the encoder's frames."""
        return torch.arange(self.config.frames, device=self.centre.device) / self.config.fps

    def encode(self, rotations: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (N, Z) of z from (N, T, 15, 3, 3) on the grid, mask (N, T)."""
        mean, log_variance = self.encoder(self.coordinates.read(rotations) - self.centre, mask)
        return mean, log_variance

    def decode(self, z: Tensor, times: Tensor) -> Tensor:
        """Poses (N, T, 15, 3, 3) of z (N, Z) at times (N, T) or (T,), seconds from the start."""
        return self.coordinates.write(self.field(z, times) + self.centre)

    def linear_weights(self) -> list[nn.Parameter]:
        """The weights that `start_linear` sets."""
        if not isinstance(self.field, SplineField):
            return []
        return [*self.encoder.linear.parameters(), *self.field.pose.parameters()]

    @torch.no_grad()
    def start_linear(self, rotations: Tensor) -> None:
        """Begin as the best linear model: probabilistic PCA of windows (Tipping and Bishop 1999).

        z are whitened principal coordinates of the windows, so that the aggregate posterior begins
        at N(0, I), and reconstruction at what a linear model can do; training starts from there.
        Fields of sinusoids have no linear part: only the centre is set.

        Args:
            rotations: (N, T, 15, 3, 3) windows on the grid, N above the size of z.
        """
        values = self.coordinates.read(rotations)
        self.centre.copy_(values.mean((0, 1)))
        if not isinstance(self.field, SplineField):
            return
        size, latent = self.coordinates.size, self.config.latent
        bumps = b_splines(self.grid, self.field.spacing, self.field.knots).double()
        # at the window's ends bumps are hardly seen: their coefficients go on as a straight line
        bend = torch.eye(self.field.knots, dtype=torch.float64).diff(dim=0).diff(dim=0)
        system = bumps.mT @ bumps + ROUGHNESS * bend.mT @ bend
        project = torch.linalg.solve(system, bumps.mT)  # (K, T)
        values = (values - self.centre).double()
        coefficients = torch.einsum("kt,ntc->nkc", project, values).flatten(1)
        covariance = coefficients.mT @ coefficients / len(coefficients)
        power, directions = (x.flip(-1)[..., :latent] for x in torch.linalg.eigh(covariance))
        noise = NOISE**2 / len(self.grid) * self.field.knots
        loading = directions * (power - noise).clamp_min(0.01 * noise).sqrt()
        # posterior mean (W'W + noise)^-1 W' x, variance noise (W'W + noise)^-1
        gain = loading.square().sum(0) + noise
        self.encoder.linear.bias.zero_()
        inverse = (loading / gain).mT.unflatten(1, (self.field.knots, size))
        self.encoder.linear.weight.copy_(torch.einsum("zkc,kt->ztc", inverse, project).flatten(1))
        low, high = LOG_VARIANCE
        share = ((noise / gain).log() - low) / (high - low)
        self.encoder.start.copy_(torch.logit(share.clamp(0.02, 0.98)))
        self.field.pose.weight.copy_(loading)
        self.field.pose.bias.zero_()
