"""A motion prior as refinement uses it: windows as one latent, completion with its uncertainty.

Any `Completer` of `models.motion_prior` will do to fill gaps; only `MotionPrior` has latents.
"""

from collections.abc import Callable
from typing import Final, Protocol

import torch
from torch import Tensor

from fourdhands.models.motion_prior.prior import Completer, MotionPrior
from fourdhands.models.motion_prior.time_base import window_starts
from fourdhands.refinement.initial import Gaps
from fourdhands.refinement.motion import turn, turning
from fourdhands.refinement.noise import lasting

DRAWS: Final = 4  # of the posterior, to see how sure a completion is; and of the frames' noise
GIVEN_NOISE: Final = 0.12  # radians a finger joint by which a typical network is wrong
REFINED_NOISE: Final = 0.06  # what is left of it once frames have been refined
NOISE_SECONDS: Final = 0.25  # that errors go on for
SLERP_DEVIATION: Final = 0.35  # radians a finger joint, where gaps are interpolated
LEAST_DEVIATION: Final = 0.25  # radians; a prior is no surer than its training data are like life
GAP_DEVIATION: Final = 0.35  # radians a finger joint, where nobody says, in a short gap


class RefinementPrior(Protocol):
    """What the stages ask of a prior."""

    def decode(self, latent: Tensor, times: Tensor) -> Tensor:
        """Poses (B, T, S, 15, 3, 3) of latents (B, S, D) at seconds (B, T)."""
        ...

    def start(self, poses: Tensor, observed: Tensor, times: Tensor) -> Tensor:
        """Latents (B, S, D) of partly observed poses (B, T, S, 15, 3, 3)."""
        ...

    def complete(
        self, poses: Tensor, observed: Tensor, times: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Poses of all frames, and how sure they are.

        Args:
            poses: (B, T, S, 15, 3, 3).
            observed: (B, T, S) bool.
            times: (B, T) seconds.
            noise: (B,) radians by which observed joints may be wrong.

        Returns:
            (B, T, S, 15, 3, 3), and standard deviations (B, T, S, 15) in radians.
        """
        ...


def adapted(prior: Completer | None) -> RefinementPrior | None:
    """The prior as refinement uses it."""
    if prior is None:
        return None
    return LatentPrior(prior) if isinstance(prior, MotionPrior) else CompletionPrior(prior)


class CompletionPrior:
    """A method that fills gaps and has no latent.

    Args:
        completer: of `models.motion_prior`.
    """

    def __init__(self, completer: Completer) -> None:
        self._completer = completer

    def decode(self, latent: Tensor, times: Tensor) -> Tensor:
        """There is nothing to decode."""
        raise ValueError("this prior has no latent; train one (train.py motion-prior)")

    def start(self, poses: Tensor, observed: Tensor, times: Tensor) -> Tensor:
        """There is nothing to start from."""
        raise ValueError("this prior has no latent; train one (train.py motion-prior)")

    def complete(
        self, poses: Tensor, observed: Tensor, times: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `RefinementPrior.complete`."""

        def fill(poses: Tensor, observed: Tensor, times: Tensor) -> Tensor:
            return self._completer.complete(poses, observed, times)

        filled = _by_times(fill, poses.float(), observed, times.float())
        deviation = torch.full_like(filled[..., 0, 0], GAP_DEVIATION)
        return filled, deviation


class LatentPrior:
    """HMP: the latents of a sequence's windows, one after the other, are one latent.

    Args:
        prior: trained.
    """

    def __init__(self, prior: MotionPrior) -> None:
        self._prior = prior.eval().requires_grad_(False)

    def decode(self, latent: Tensor, times: Tensor) -> Tensor:
        """See `RefinementPrior.decode`."""

        def decode(latent: Tensor, observed: Tensor, times: Tensor) -> Tensor:
            starts = window_starts(times, self._prior.span, self._prior.hop)
            z = latent.unflatten(-1, (len(starts), -1))
            return self._prior.decode(z, times, starts=starts)

        return _by_times(decode, latent.float(), latent[..., 0] > 0, times.float())

    def start(self, poses: Tensor, observed: Tensor, times: Tensor) -> Tensor:
        """See `RefinementPrior.start`."""

        def encode(poses: Tensor, observed: Tensor, times: Tensor) -> Tensor:
            return self._prior.encode(poses, observed, times).mean.flatten(2)

        return _by_times(encode, poses.float(), observed, times.float())

    def complete(
        self, poses: Tensor, observed: Tensor, times: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `RefinementPrior.complete`; deviations are those of draws from the posterior.

        The prior reads speeds and rhythms out of frames that are noisy. What it says beyond plain
        interpolation d counts as much as it stands out of what noise alone makes it say (James and
        Stein): d max(0, 1 - V / |d|^2), V its variance under noise, gap by gap.
        """
        prior = self._prior

        def complete(poses: Tensor, observed: Tensor, times: Tensor, noise: Tensor) -> Tensor:
            latent = prior.encode(poses, observed, times)
            mean = self._shrunk(poses, observed, times, noise)
            middle = prior.decode(latent.mean, times, starts=latent.starts)
            generator = torch.Generator().manual_seed(0)
            squared = torch.zeros_like(poses[..., 0, 0])
            for _ in range(DRAWS):
                drawn = prior.decode(latent.draw(generator), times, starts=latent.starts)
                squared += turning(middle, drawn).square().sum(-1) / DRAWS / 3
            packed = torch.cat((mean.flatten(-2), squared.sqrt()[..., None]), -1)
            return packed

        packed = _by_times(complete, poses.float(), observed, times.float(), noise.float())
        deviation = packed[..., 9].clamp_min(LEAST_DEVIATION)
        return packed[..., :9].unflatten(-1, (3, 3)), deviation

    def _shrunk(self, poses: Tensor, observed: Tensor, times: Tensor, noise: Tensor) -> Tensor:
        """The completion (B, T, S, 15, 3, 3), nearer to interpolation where noise explains it."""
        gaps = Gaps.of(observed)

        def beyond(poses: Tensor) -> tuple[Tensor, Tensor]:
            plain = gaps.fill_rotations(poses.double()).to(poses)
            return plain, turning(plain, self._prior.complete(poses, observed, times))

        plain, said = beyond(poses)
        generator = torch.Generator().manual_seed(0)
        step = float(times.diff().median()) if len(times) > 1 else 1.0
        variance = torch.zeros_like(said[..., 0, 0])
        for _ in range(DRAWS):
            white = torch.randn(said.shape, generator=generator).movedim(1, 0).numpy()
            unit = torch.from_numpy(lasting(white, step, NOISE_SECONDS)).movedim(0, 1).to(said)
            wrong = unit * noise[:, None, None, None, None]
            other = beyond(poses @ turn(wrong))[1]
            variance += (other - said).square().sum((-2, -1)) / DRAWS
        strength = gaps.total(said.square().sum((-2, -1)))
        share = (1 - gaps.total(variance) / strength.clamp_min(1e-12)).clamp(0, 1)
        return plain @ turn(said * share[..., None, None])


def completed(
    poses: Tensor,
    observed: Tensor,
    fps: Tensor,
    prior: RefinementPrior | None,
    noise: Tensor,
) -> tuple[Tensor, Tensor]:
    """Fingers of all frames by a prior, or by interpolation.

    Args:
        poses: (B, T, S, 15, 3, 3).
        observed: (B, T, S) bool.
        fps: (B,).
        prior: None to interpolate.
        noise: (B,) radians by which observed joints may be wrong.

    Returns:
        (B, T, S, 15, 3, 3), and how sure that is: (B, T, S, 15) 1 / radians^2.
    """
    if prior is None:
        gaps = Gaps.of(observed)
        length = (gaps.after - gaps.before).double() / fps[:, None, None]
        deviation = (SLERP_DEVIATION * (1 + length).sqrt())[..., None].expand(poses.shape[:-2])
        return gaps.fill_rotations(poses), deviation.square().reciprocal()
    times = torch.arange(poses.shape[1]).to(poses) / fps[:, None]
    with torch.no_grad():
        filled, deviation = prior.complete(poses, observed, times, noise)
    filled, deviation = filled.to(poses), deviation.to(poses).clamp_min(0.02)
    return filled, deviation.square().reciprocal()


def _by_times(
    function: Callable[..., Tensor],
    values: Tensor,
    observed: Tensor,
    times: Tensor,
    *more: Tensor,
) -> Tensor:
    """Call with times (T,): together where all clips have the same, else one by one."""
    if (times == times[:1]).all():
        return function(values, observed, times[0], *more)
    return torch.cat(
        [
            function(
                values[k : k + 1], observed[k : k + 1], times[k], *(one[k : k + 1] for one in more)
            )
            for k in range(len(times))
        ]
    )
