"""Both hands in one latent: what one hand does tells of the other.

Each hand keeps its z, in the right hand's frame. Hands that move alike have alike z; their
correlations r in each dimension, measured on motion of two hands, make the joint prior

    (z_right, z_left) ~ N(0, [[1, r], [r, 1]]) in each dimension.

The joint latent ((z_right + z_left) / sqrt(2 + 2r), (z_right - z_left) / sqrt(2 - 2r)) is N(0, I)
again, and swapping the hands changes a sign only: the mirror law holds by construction.
"""

import torch
from torch import Tensor


def fit_coupling(right: Tensor, left: Tensor) -> Tensor:
    """Correlations (Z,) from latent means (N, Z) of hands that were recorded together."""
    spread = (right.square().mean(0) * left.square().mean(0)).sqrt().clamp_min(1e-6)
    return ((right * left).mean(0) / spread).clamp(-0.99, 0.99)


def to_joint(z: Tensor, coupling: Tensor) -> Tensor:
    """Latents of both hands (..., S, Z) to the joint latent (..., 2, Z), N(0, I) a priori."""
    right, left = z.unbind(-2)
    common = (right + left) / (2 + 2 * coupling).sqrt()
    difference = (right - left) / (2 - 2 * coupling).sqrt()
    return torch.stack([common, difference], dim=-2)


def from_joint(joint: Tensor, coupling: Tensor) -> Tensor:
    """Inverse of `to_joint`."""
    common, difference = joint.unbind(-2)
    common = common * ((1 + coupling) / 2).sqrt()
    difference = difference * ((1 - coupling) / 2).sqrt()
    return torch.stack([common + difference, common - difference], dim=-2)


def condition(mean: Tensor, log_variance: Tensor, coupling: Tensor) -> tuple[Tensor, Tensor]:
    """Each hand's posterior once the other hand's is known, too.

    The encoder's posterior is a prior N(0, 1) times a likelihood; here the likelihoods of both
    hands meet the joint prior instead. A hand that nobody saw follows the other as far as r says.

    Args:
        mean: (..., S, Z) of each hand for itself.
        log_variance: (..., S, Z).
        coupling: (Z,) correlations.

    Returns:
        Mean and log variance of each hand, of the same shapes.
    """
    precision = torch.exp(-log_variance)
    # what the frames say beyond the prior; an encoder unsurer than the prior says nothing
    evidence = (precision - 1).clamp_min(0)
    pull = torch.where(evidence > 0, precision * mean, 0.0)
    inverse = 1 / (1 - coupling.square())
    a = inverse + evidence[..., 0, :]
    d = inverse + evidence[..., 1, :]
    b = -coupling * inverse
    determinant = a * d - b.square()
    right = (d * pull[..., 0, :] - b * pull[..., 1, :]) / determinant
    left = (a * pull[..., 1, :] - b * pull[..., 0, :]) / determinant
    variance = torch.stack([d, a], dim=-2) / determinant[..., None, :]
    return torch.stack([right, left], dim=-2), variance.log()
