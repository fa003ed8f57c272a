"""What the motion prior is told: how far its motion is from the true one, and how z is spread."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from fourdhands.geometry.rotation import geodesic_distance
from fourdhands.hands.kinematics import FingerChains
from fourdhands.models.motion_prior.gaps import fill_gaps
from fourdhands.models.motion_prior.vae import MotionVae

CENTIMETRES = 100.0
LEAST_ERROR = 0.1
"""Centimetres that a straight line is taken to be off at least, where errors are shares of its."""
NOISE, NOISY_SHARE = 0.5, 0.3
"""Most centimetres at a fingertip by which shown frames are wrong; the share of such windows."""
UNSEEN_SHARE = 0.85
"""Share of the times at which completed motion is compared that nobody has seen."""


@dataclass(frozen=True)
class MotionLossConfig:
    """Weights of the terms. Distances are in centimetres, so that each is of the order of 1.

    Reconstruction, of z drawn from q(z | all frames):

    Attributes:
        rotations: mean squared geodesic distance, square radians.
        joints: mean squared distance of the joints, square centimetres.
        velocities: mean squared difference of the joints' steps from frame to frame, likewise.
        kl: KL(q(z | all frames) || N(0, I)) in nats, mean over the latent's dimensions.
        completion: mean distance of the joints that the mean of q(z | some frames) decodes to,
            as a share of the straight line's.
        guess: the same of the encoder's completed coordinates, before they are put in terms of z.
        match: KL(q(z | all frames) || q(z | some frames)) a dimension, whose gradient reaches
            the latter's variance only, which says how wrong the mean is (see `_match`).
    """

    rotations: float = 1.0
    joints: float = 5.0
    velocities: float = 0.0
    kl: float = 0.1
    completion: float = 1.0
    guess: float = 1.0
    match: float = 0.1

    def __post_init__(self) -> None:
        """Check the ranges."""
        for entry in fields(self):
            if getattr(self, entry.name) < 0:
                raise ValueError(f"loss.{entry.name} is negative: {getattr(self, entry.name)}")


@dataclass(frozen=True)
class MotionLosses:
    """The loss of a batch.

    Attributes:
        total: the weighted sum.
        terms: by name, unweighted.
    """

    total: Tensor
    terms: dict[str, Tensor]


class MotionLoss(nn.Module):
    """The objective; it runs the network, as it alone knows what it needs of it.

    Args:
        config: weights.
        skeleton: of a right hand.
        moments: pairs of neighbouring frames of each window that are decoded.
        whole: share of the batch that is also encoded from all its frames.
    """

    def __init__(
        self, config: MotionLossConfig, skeleton: FingerChains, *, moments: int, whole: float
    ) -> None:
        super().__init__()
        self.config, self.skeleton = config, skeleton
        self.moments, self.whole = moments, whole

    def forward(
        self,
        network: MotionVae,
        rotations: Tensor,
        valid: Tensor,
        seen: Tensor,
        generator: torch.Generator,
    ) -> MotionLosses:
        """Judge a batch.

        Args:
            network: what learns.
            rotations: (N, T, 15, 3, 3) windows on the network's grid.
            valid: (N, T) frames that there are.
            seen: (N, T) frames that completion may look at, of those.
            generator: of z and of the frames that are decoded; of the CPU.
        """
        count, first = len(rotations), max(1, round(self.whole * len(rotations)))
        device = rotations.device
        values = network.coordinates.read(rotations) - network.centre
        spoilt = NOISE * torch.rand(count, 1, 1, generator=generator)
        spoilt = spoilt * (torch.rand(count, 1, 1, generator=generator) < NOISY_SHARE)
        shown = values + (spoilt * torch.randn(values.shape, generator=generator)).to(device)
        mask = torch.cat([valid & seen, valid[:first]])
        motion, mean, log_variance = network.encoder.explain(
            torch.cat([shown, values[:first]]), mask
        )
        some, whole = mean[:count], mean[count:]
        some_log, whole_log = log_variance[:count], log_variance[count:]
        noise = torch.randn(whole.shape, generator=generator).to(device)
        z = torch.cat([some, whole + noise * (whole_log / 2).exp()])

        at = self._moments(torch.cat([valid, valid[:first]]), mask, generator)
        decoded = network.decode(z, at / network.config.fps)
        true = torch.cat([rotations, rotations[:first]])
        true = true.gather(1, at[..., None, None, None].expand(-1, -1, 15, 3, 3))
        joints, true_joints = (CENTIMETRES * self.skeleton(poses) for poses in (decoded, true))
        error = joints - true_joints
        step = error.unflatten(1, (-1, 2)).diff(dim=2)

        share = 1 / (_line_error(shown, values, mask[:count]) + LEAST_ERROR)[:, None]
        away = (motion[:count] - values).unflatten(-1, (15, -1))
        weight = torch.where(seen, 1 - UNSEEN_SHARE, 1.0) * valid
        terms = {
            "rotations": geodesic_distance(decoded[count:], true[count:]).square().mean(),
            "joints": error[count:].square().sum(-1).mean(),
            "velocities": step[count:].square().sum(-1).mean(),
            "kl": (whole.square() + whole_log.exp() - 1 - whole_log).mean() / 2,
            "completion": (_length(error[:count]).mean(-1) * share).mean(),
            "guess": (_length(away).mean(-1) * share * weight).sum() / weight.sum().clamp_min(1),
            "match": _match(whole.detach(), whole_log.detach(), some[:first], some_log[:first]),
        }
        weights = {name: getattr(self.config, name) for name in terms}
        total = sum((weights[name] * term for name, term in terms.items()), mean.new_zeros(()))
        return MotionLosses(total, terms)

    def _moments(self, valid: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """Frames to decode (N, 2 moments), neighbours in pairs, mostly unseen ones."""
        chances = torch.where(mask, 1 - UNSEEN_SHARE, UNSEEN_SHARE) * valid
        chances = chances[:, :-1] * valid[:, 1:] + 1e-9
        start = torch.multinomial(chances.cpu(), self.moments, generator=generator)
        return torch.stack([start, start + 1], dim=-1).flatten(1).to(valid.device)


def _line_error(shown: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """How far straight lines across the gaps of windows (N, T, C) are off in them: (N,)."""
    off = _length((fill_gaps(shown, mask).values - values).unflatten(-1, (15, -1))).mean(-1)
    return (off * ~mask).sum(1) / (~mask).sum(1).clamp_min(1)


def _length(vectors: Tensor) -> Tensor:
    """Lengths (...) of vectors (..., C), smooth at zero: a tenth of a millimetre counts as none."""
    return (vectors.square().sum(-1) + 1e-4).sqrt()


def _match(mean: Tensor, log: Tensor, other_mean: Tensor, other_log: Tensor) -> Tensor:
    """KL a dimension of one Gaussian from another, with no gradient to the other's mean.

    Weighted by the other's variance (Seitzer et al. 2022): else a few dimensions that are surer
    than they should be would steer the step.
    """
    away = (mean - other_mean.detach()).square()
    divergence = (other_log - log + (log.exp() + away) / other_log.exp() - 1) / 2
    return (divergence * other_log.detach().exp()).mean()
