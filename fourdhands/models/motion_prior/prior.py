"""The motion prior as others use it: encode, decode, sample and complete motion of any length.

Poses are `HandState.hand_pose`: (B, T, S, 15, 3, 3), true left hands; times (T,) are seconds. Long
sequences are covered by windows half a window apart, which pass into each other smoothly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import roma
import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d

from fourdhands.geometry.rotation import mirror_rotation
from fourdhands.models.motion_prior.gaps import fill_gaps
from fourdhands.models.motion_prior.time_base import blend_windows, to_grid, window_starts
from fourdhands.models.motion_prior.two_hands import condition, from_joint
from fourdhands.models.motion_prior.vae import MotionPriorConfig, MotionVae
from fourdhands.skeleton import NUM_SIDES, Side
from fourdhands.structures import TensorStruct

BOTH: Final = (Side.RIGHT, Side.LEFT)
Method = Literal["encoder", "optimise"]
ITERATIONS: Final = 60
STEP: Final = 0.05
"""Of Adam, in standard deviations of z."""
OBSERVED_NOISE: Final = 0.3
"""Centimetres at a fingertip by which observed frames may be wrong, in the optimisation."""


class Completer(Protocol):
    """Whatever fills the frames in which a hand was not seen."""

    def complete(
        self, poses: Tensor, mask: Tensor, times: Tensor, sides: Sequence[Side] = BOTH
    ) -> Tensor:
        """Fill in the frames that are not observed.

        Args:
            poses: (B, T, S, 15, 3, 3); unobserved frames are not looked at.
            mask: (B, T, S) observed hands.
            times: (T,) seconds, ascending.
            sides: of the S hands.

        Returns:
            (B, T, S, 15, 3, 3).
        """
        ...


@dataclass(frozen=True)
class MotionLatent(TensorStruct):
    """Gaussians over z, in the frame of right hands.

    Attributes:
        mean: (B, S, W, Z) of each window.
        log_variance: (B, S, W, Z).
        starts: (W,) seconds at which the windows start.
    """

    mean: Tensor
    log_variance: Tensor
    starts: Tensor

    def draw(self, generator: torch.Generator | None = None) -> Tensor:
        """A sample z (B, S, W, Z)."""
        noise = torch.randn(self.mean.shape, generator=generator).to(self.mean)
        return self.mean + noise * (self.log_variance / 2).exp()


class MotionPrior(nn.Module):
    """HMP for one hand or two: one model of right hands; left hands are mirrored.

    Args:
        config: sizes.

    Attributes:
        vae: the model of one window.
        coupling: (Z,) correlation of both hands' z, see `two_hands`.
    """

    coupling: Tensor

    def __init__(self, config: MotionPriorConfig) -> None:
        super().__init__()
        self.config = config
        self.vae = MotionVae(config)
        self.register_buffer("coupling", torch.zeros(config.latent))

    @property
    def span(self) -> float:
        """Seconds from the first to the last frame of a window's grid."""
        return (self.config.frames - 1) / self.config.fps

    @property
    def hop(self) -> float:
        """Seconds from a window to the next."""
        return self.config.frames // 2 / self.config.fps

    def encode(
        self,
        poses: Tensor,
        mask: Tensor,
        times: Tensor,
        sides: Sequence[Side] = BOTH,
        *,
        joint: bool = False,
    ) -> MotionLatent:
        """q(z | observed frames) of each hand and window.

        Args:
            poses: (B, T, S, 15, 3, 3); unobserved frames are not looked at.
            mask: (B, T, S) observed hands.
            times: (T,) seconds, ascending; any rate, regular or not.
            sides: of the S hands.
            joint: whether each hand also learns from the other one (`two_hands`); both are needed.

        Raises:
            ValueError: shapes do not fit, or observed poses are not finite.
        """
        _check(poses, mask, times, sides)
        starts = window_starts(times, self.span, self.hop)
        hands = as_right(poses, sides).transpose(1, 2).flatten(0, 1)
        observed = mask.transpose(1, 2).flatten(0, 1)
        eye = torch.eye(3, dtype=poses.dtype, device=poses.device)
        hands = torch.where(observed[..., None, None, None], hands, eye)
        grid = starts[:, None] + self.vae.grid.to(times.dtype)
        rotations, known = to_grid(hands, observed, times, grid)
        mean, log_variance = self.vae.encode(rotations.flatten(0, 1), known.flatten(0, 1))
        shape = (len(poses), len(sides), len(starts), -1)
        mean, log_variance = mean.reshape(shape), log_variance.reshape(shape)
        if joint:
            _need_both(sides)
            mean, log_variance = (
                x.transpose(1, 2)
                for x in condition(
                    mean.transpose(1, 2), log_variance.transpose(1, 2), self.coupling
                )
            )
        return MotionLatent(mean, log_variance, starts)

    def decode(
        self, z: Tensor, times: Tensor, sides: Sequence[Side] = BOTH, starts: Tensor | None = None
    ) -> Tensor:
        """D(t, z) at any times: every frame for itself, all at once.

        Args:
            z: (B, S, W, Z), or (B, S, Z) for one window.
            times: (T,) seconds.
            sides: of the S hands.
            starts: (W,) seconds at which the windows start; one window starts at 0 if not given.

        Returns:
            (B, T, S, 15, 3, 3) poses.

        Raises:
            ValueError: a time lies outside all windows.
        """
        z = z[:, :, None] if z.ndim == 3 else z
        starts = times.new_zeros(1) if starts is None else starts
        slack = 0.5 / self.config.fps
        if float(times.min()) < float(starts[0]) - slack or float(times.max()) > (
            float(starts[-1]) + self.config.seconds + slack
        ):
            raise ValueError(
                f"times reach from {float(times.min()):.3f} to {float(times.max()):.3f} s, the "
                f"windows from {float(starts[0]):.3f} to "
                f"{float(starts[-1]) + self.config.seconds:.3f} s"
            )
        hands = self._decode_windows(z.flatten(0, 1), times, starts)
        return as_right(hands.unflatten(0, z.shape[:2]).transpose(1, 2), sides)

    def sample(
        self,
        count: int,
        times: Tensor,
        sides: Sequence[Side] = BOTH,
        *,
        generator: torch.Generator | None = None,
        joint: bool = False,
    ) -> Tensor:
        """Motion drawn from the prior.

        Sequences longer than a window are windows drawn one by one that pass into each other.

        Args:
            count: B.
            times: (T,) seconds.
            sides: of the S hands.
            generator: of z; of the CPU.
            joint: whether hands move together as they did in the training data.

        Returns:
            (B, T, S, 15, 3, 3) poses.
        """
        starts = window_starts(times, self.span, self.hop)
        shape = (count, len(starts), len(sides), self.config.latent)
        z = torch.randn(shape, generator=generator).to(self.coupling)
        if joint:
            _need_both(sides)
            z = from_joint(z, self.coupling)
        return self.decode(z.transpose(1, 2), times, sides, starts)

    def complete(
        self,
        poses: Tensor,
        mask: Tensor,
        times: Tensor,
        sides: Sequence[Side] = BOTH,
        *,
        method: Method = "encoder",
        keep: bool = True,
        joint: bool = False,
    ) -> Tensor:
        """Fill in the frames that are not observed.

        Args:
            poses: (B, T, S, 15, 3, 3); unobserved frames are not looked at.
            mask: (B, T, S) observed hands.
            times: (T,) seconds, ascending; any rate, regular or not.
            sides: of the S hands.
            method: 'encoder', its mean decoded; 'optimise', z moved from there until it explains
                the observed frames best, by `ITERATIONS` steps of Adam.
            keep: whether observed frames stay exactly as they are, and what fills the gaps joins
                them without a jump. Otherwise all frames are D(t, z), which takes out noise.
            joint: whether each hand also learns from the other one.

        Returns:
            (B, T, S, 15, 3, 3).
        """
        latent = self.encode(poses, mask, times, sides, joint=joint)
        z = latent.mean
        if method == "optimise":
            z = self._optimise(latent, poses, mask, times, sides)
        decoded = self.decode(z, times, sides, latent.starts)
        return join(decoded, poses, mask) if keep else decoded

    def negative_log_likelihood(self, z: Tensor) -> Tensor:
        """-log N(z; 0, I) in nats a dimension: (..., Z) to (...); about 1.42 for typical motion."""
        return (z.square().mean(-1) + torch.log(torch.tensor(2 * torch.pi))) / 2

    def _optimise(
        self,
        latent: MotionLatent,
        poses: Tensor,
        mask: Tensor,
        times: Tensor,
        sides: Sequence[Side],
    ) -> Tensor:
        """The z (B, S, W, Z) that explains the observed frames best (HMP's latent optimisation).

        Minimises the squared distance of the observed frames' coordinates, in units of
        `OBSERVED_NOISE`, and -log q(z | observed frames), HMP's eq. 9, in nats. Windows share the
        frames in which they overlap, and are optimised together.
        """
        flat = as_right(poses, sides).transpose(1, 2).flatten(0, 1)
        seen = mask.transpose(1, 2).flatten(0, 1)[..., None].to(poses.dtype)
        read = self.vae.coordinates.read
        wanted = read(flat)
        centre, precision = latent.mean.detach(), torch.exp(-latent.log_variance.detach())
        z = centre.clone().requires_grad_()
        adam = torch.optim.Adam([z], lr=STEP)
        # frames are not independent: the field has so many coefficients for so many of them
        share = self.config.fps * float(times[-1] - times[0]) / max(1, len(times) - 1)
        with torch.enable_grad():
            for _ in range(ITERATIONS):
                found = read(self._decode_windows(z.flatten(0, 1), times, latent.starts))
                data = ((found - wanted) * seen).square().sum() / OBSERVED_NOISE**2 * share / 3
                prior = ((z - centre).square() * precision).sum()
                loss = (data + prior) / 2
                adam.zero_grad()
                (gradient,) = torch.autograd.grad(loss, [z])
                z.grad = gradient
                adam.step()
        return z.detach()

    def _decode_windows(self, z: Tensor, times: Tensor, starts: Tensor) -> Tensor:
        """Right hands (N, T, 15, 3, 3) of z (N, W, Z)."""
        if len(starts) == 1:
            return self.vae.decode(z[:, 0], (times - starts[0]).to(z.dtype))
        place = (times - starts[0]) / self.hop
        later = place.long().clamp(0, len(starts) - 1)
        # each time belongs to the window that began last and to the one before, while that lasts
        earlier = (later - 1).clamp_min(0)
        overlap = self.span - self.hop
        share = ((times - starts[later]) / overlap).clamp(0, 1)
        share = torch.where(later > 0, share, torch.ones_like(share))
        return blend_windows(
            self._decode_each(z, times, starts, earlier),
            self._decode_each(z, times, starts, later),
            share,
        )

    def _decode_each(self, z: Tensor, times: Tensor, starts: Tensor, window: Tensor) -> Tensor:
        """Decode each time (T,) by the window (T,) that is named for it, ascending."""
        parts: list[Tensor] = []
        done = 0
        for index, count in zip(*torch.unique_consecutive(window, return_counts=True), strict=True):
            own = (times[done : done + int(count)] - starts[index]).to(z.dtype)
            parts.append(self.vae.decode(z[:, index], own))
            done += int(count)
        return torch.cat(parts, dim=1)


def as_right(poses: Tensor, sides: Sequence[Side]) -> Tensor:
    """Left hands (B, T, S, 15, 3, 3) to right ones in the mirror, and back."""
    left = torch.tensor([side is Side.LEFT for side in sides], device=poses.device)
    return torch.where(left[:, None, None, None], mirror_rotation(poses), poses)


def join(filled: Tensor, poses: Tensor, mask: Tensor) -> Tensor:
    """Put observed poses into filled ones, and bend what lies between so that nothing jumps.

    How filled poses differ from the observed ones around either end of a gap, a mean over about
    three frames that may be noisy, is spread over the gap.

    Args:
        filled: (B, T, S, 15, 3, 3).
        poses: (B, T, S, 15, 3, 3).
        mask: (B, T, S) observed.
    """
    observed = mask[..., None, None, None]
    eye = torch.eye(3, dtype=poses.dtype, device=poses.device)
    away = roma.rotmat_to_rotvec(torch.where(observed, filled.mT @ poses, eye))
    flat = away.transpose(1, 2).flatten(0, 1).flatten(2)
    seen = mask.transpose(1, 2).flatten(0, 1)
    weight = seen[..., None].to(flat)
    mean = _around(flat * weight) / _around(weight).clamp_min(1e-6)
    spread = fill_gaps(mean, seen).values
    spread = spread.unflatten(0, (len(poses), -1)).transpose(1, 2).unflatten(-1, (15, 3))
    return torch.where(observed, poses, filled @ roma.rotvec_to_rotmat(spread))


def _around(values: Tensor) -> Tensor:
    """Sums (N, T, C) along time, weighted by a Gaussian of one frame."""
    kernel = torch.exp(-torch.arange(-3.0, 4.0, device=values.device).square() / 2)
    columns = values.transpose(1, 2).flatten(0, 1)[:, None]
    sums = conv1d(columns, kernel.to(values.dtype)[None, None], padding=3)
    return sums.reshape(len(values), -1, values.shape[1]).transpose(1, 2)


def _check(poses: Tensor, mask: Tensor, times: Tensor, sides: Sequence[Side]) -> None:
    if poses.ndim != 6 or poses.shape[3:] != (15, 3, 3):
        raise ValueError(f"poses are {tuple(poses.shape)}, not (B, T, S, 15, 3, 3)")
    if mask.shape != poses.shape[:3] or times.shape != poses.shape[1:2]:
        raise ValueError(
            f"poses are {tuple(poses.shape)}, mask {tuple(mask.shape)} and times "
            f"{tuple(times.shape)} do not fit them: (B, T, S) and (T,) are needed"
        )
    if len(sides) != poses.shape[2]:
        raise ValueError(f"poses are of {poses.shape[2]} hands, but sides names {len(sides)}")
    if not bool(torch.where(mask[..., None, None, None], poses, 0.0).isfinite().all()):
        raise ValueError("poses of observed frames are not all finite: mask the others")
    if len(times) > 1 and float(times.diff().min()) <= 0:
        raise ValueError("times have to ascend")


def _need_both(sides: Sequence[Side]) -> None:
    if len(sides) != NUM_SIDES or set(sides) != set(Side):
        raise ValueError(f"joint needs a right and a left hand, sides are {list(sides)}")
