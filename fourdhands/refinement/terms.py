"""The energies that refinement minimises, each a pure function of tensors.

All are means over frames, hands and joints, in units that neither the number of frames nor the
resolution, the frame rate or the number of joints changes, so that a weight keeps its meaning.
`share` (B, T, S) says how much of a clip each hand of each frame is: it sums to one over a clip's
present hands, and data terms get it with zeros where a hand is not observed. Equations are named
after method.md's papers: HMP (3) to (9), Dyn-HaMR E_I and E_II.
"""

import torch
from torch import Tensor

from fourdhands.refinement.motion import rotation_vector, turning


def robust(squared: Tensor, sigma: float) -> Tensor:
    """Geman-McClure: s^2 x^2 / (s^2 + x^2), x^2 near 0 and s^2 far out; x^2 if s is infinite."""
    return squared if sigma == float("inf") else squared / (1 + squared / sigma**2)


def robust_weight(squared: Tensor, sigma: float) -> Tensor:
    """Derivative of `robust` by x^2: the weight of a residual in iterated least squares."""
    if sigma == float("inf"):
        return torch.ones_like(squared)
    return (1 + squared / sigma**2).square().reciprocal()


def reprojection(
    projected: Tensor,
    seen: Tensor,
    confidence: Tensor,
    size: Tensor,
    share: Tensor,
    sigma: float,
) -> Tensor:
    """L_2D = mean alpha rho(|Pi(J) - x| / size), HMP (8), Dyn-HaMR L_2d.

    Args:
        projected: (B, T, S, J, 2) pixels.
        seen: (B, T, S, J, 2) pixels.
        confidence: (B, T, S, J) alpha, 0 where nothing was seen.
        size: (B, T, S) pixels that a hand's length takes up: residuals are parts of it.
        share: (B, T, S).
        sigma: where residuals begin to lose their pull, in parts of the hand's size.

    Returns:
        (B,), in parts of the hand's size, squared.
    """
    squared = ((projected - seen) / size[..., None, None]).square().sum(-1)
    return ((confidence * robust(squared, sigma)).mean(-1) * share).sum((1, 2))


def orientation_to_estimate(
    rotation: Tensor, estimate: Tensor, share: Tensor, sigma: float
) -> Tensor:
    """L_o = mean rho(g(Phi, Phi^)), HMP (3), Dyn-HaMR L_phi; (B, T, S, 3, 3) to (B,) radians^2."""
    squared = turning(estimate, rotation).square().sum(-1)
    return (robust(squared, sigma) * share).sum((1, 2))


def pose_to_estimate(pose: Tensor, estimate: Tensor, share: Tensor, sigma: float) -> Tensor:
    """L_theta = mean rho(g(theta, theta^)): (B, T, S, 15, 3, 3) to (B,) radians^2."""
    squared = turning(estimate, pose).square().sum(-1)
    return (robust(squared, sigma).mean(-1) * share).sum((1, 2))


def translation_to_estimate(
    place: Tensor, estimate: Tensor, share: Tensor, depth_weight: float, sigma: float
) -> Tensor:
    """L_tr = mean rho(|tau - tau^|), HMP (4), Dyn-HaMR L_tau.

    Along the line of sight a network is less sure than across it: that part of the residual is
    multiplied by `depth_weight` (1 as in the papers).

    Args:
        place: (B, T, S, 3) camera frame, metres.
        estimate: (B, T, S, 3).
        share: (B, T, S).
        depth_weight: factor on the residual along the line of sight.
        sigma: metres.

    Returns:
        (B,) metres^2.
    """
    residual = sight_weighted(place - estimate, estimate, depth_weight)
    return (robust(residual.square().sum(-1), sigma) * share).sum((1, 2))


def sight_weighted(residual: Tensor, place: Tensor, depth_weight: float) -> Tensor:
    """Shrink the part of (..., 3) residuals along the lines of sight to (..., 3) places."""
    sight = place / place.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    along = (residual * sight).sum(-1, keepdim=True)
    return residual - (1 - depth_weight) * along * sight


def velocity(points: Tensor, fps: Tensor, share: Tensor) -> Tensor:
    """L_v = mean |dx/dt|^2, HMP (7), Dyn-HaMR L_smooth.

    Args:
        points: (B, T, S, J, 3) metres.
        fps: (B,).
        share: (B, 1, S) of each hand.

    Returns:
        (B,) (m/s)^2; zeros of clips of one frame.
    """
    if points.shape[1] < 2:
        return points.new_zeros(len(points))
    squared = points.diff(dim=1).square().sum(-1).mean((1, -1))
    return (squared * share[:, 0]).sum(-1) * fps**2


def acceleration(points: Tensor, fps: Tensor, share: Tensor) -> Tensor:
    """L_a = mean |d^2x/dt^2|^2: (B, T, S, J, 3) metres to (B,) (m/s^2)^2, as `velocity`."""
    if points.shape[1] < 3:
        return points.new_zeros(len(points))
    squared = points.diff(n=2, dim=1).square().sum(-1).mean((1, -1))
    return (squared * share[:, 0]).sum(-1) * fps**4


def turning_speed(rotation: Tensor, fps: Tensor, share: Tensor) -> Tensor:
    """L_os = mean (g(Phi_t+1, Phi_t) / dt)^2, HMP (6): (B, T, S, ..., 3, 3) to (B,) (rad/s)^2."""
    if rotation.shape[1] < 2:
        return rotation.new_zeros(len(rotation))
    squared = turning(rotation[:, :-1], rotation[:, 1:]).square().sum(-1)
    squared = squared.flatten(3).mean(-1) if squared.dim() > 3 else squared
    return (squared.mean(1) * share[:, 0]).sum(-1) * fps**2


def shape_size(betas: Tensor, share: Tensor) -> Tensor:
    """L_beta = |beta|^2, HMP (5): (B, S, 10), mean over hands."""
    return (betas.square().sum(-1) * share.sum(1)).sum(-1)


def shape_to_estimate(betas: Tensor, estimate: Tensor, share: Tensor) -> Tensor:
    """|beta - mean beta^|^2: one shape, near the mean of what all frames say; (B, S, 10)."""
    return shape_size(betas - estimate, share)


def shape_symmetry(betas: Tensor, both: Tensor) -> Tensor:
    """|beta_right - beta_left|^2: hands of one person are alike; (B, S, 10), both (B,) bool."""
    return (betas[:, 0] - betas[:, 1]).square().sum(-1) * both


def latent_likelihood(latent: Tensor, share: Tensor) -> Tensor:
    """L_MP = -log N(z; 0, I) up to a constant, a dimension, HMP (9): (B, S, D) to (B,)."""
    if latent.shape[-1] == 0:
        return latent.new_zeros(len(latent))
    return (latent.square().mean(-1) / 2 * share.sum(1)).sum(-1)


def pose_likelihood(pose: Tensor, mean: Tensor, whitening: Tensor, share: Tensor) -> Tensor:
    """-log N(theta; mean, C) up to a constant, a dimension: poses as in a bank of clean ones.

    Args:
        pose: (B, T, S, 15, 3, 3).
        mean: (S, 15, 3, 3).
        whitening: (S, 45, 45) W with W^T W = C^-1, over rotation vectors from the mean.
        share: (B, T, S).
    """
    white = whitened_pose(pose, mean, whitening)
    return (white.square().mean(-1) / 2 * share).sum((1, 2))


def whitened_pose(pose: Tensor, mean: Tensor, whitening: Tensor) -> Tensor:
    """(B, T, S, 15, 3, 3) to (B, T, S, 45) of unit variance."""
    return torch.einsum("skd,...sd->...sk", whitening, turning(mean, pose).flatten(-2))


def pose_to_completion(pose: Tensor, completed: Tensor, precision: Tensor, share: Tensor) -> Tensor:
    """L_gen = mean precision g(theta, theta_prior)^2: gaps follow the generative completion.

    Args:
        pose: (B, T, S, 15, 3, 3).
        completed: (B, T, S, 15, 3, 3) what the prior makes of the observed frames.
        precision: (B, T, S, 15) 1 / radians^2.
        share: (B, T, S).
    """
    squared = turning(completed, pose).square().sum(-1)
    return ((precision * squared).mean(-1) * share).sum((1, 2))


def camera_to_trajectory(turns: Tensor, shifts: Tensor, lever: float) -> Tensor:
    """L_cam = mean |lever log dR|^2 + |d|^2: corrections of the camera stay small.

    Args:
        turns: (B, T, 3, 3).
        shifts: (B, T, 3) metres.
        lever: metres; a turn counts as the motion of a point so far away.

    Returns:
        (B,) metres^2.
    """
    turned = rotation_vector(turns).square().sum(-1) * lever**2
    return (turned + shifts.square().sum(-1)).mean(1)


def camera_smoothness(turns: Tensor, shifts: Tensor, fps: Tensor, lever: float) -> Tensor:
    """Mean squared acceleration of the camera's corrections, (B,) (m/s^2)^2.

    Of the corrections, not of the camera: a camera that jerks may jerk.
    """
    if shifts.shape[1] < 3:
        return shifts.new_zeros(len(shifts))
    parts = torch.cat((rotation_vector(turns) * lever, shifts), -1)
    return parts.diff(n=2, dim=1).square().sum(-1).mean(1) * fps**4


def scale_prior(log_scale: Tensor, start: Tensor, deviation: Tensor) -> Tensor:
    """(log omega - log omega_0)^2 / 2 sigma^2: the closed-form start and how sure it is; (B,)."""
    return ((log_scale - start) / deviation).square() / 2


def focal_prior(log_focal: Tensor, deviation: float) -> Tensor:
    """(log f / f_0)^2 / 2 sigma^2, (B,)."""
    return (log_focal / deviation).square() / 2
