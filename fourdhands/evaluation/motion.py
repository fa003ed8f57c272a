"""How good a motion prior is: completion, reconstruction, the spread of z, samples."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from fourdhands.hands.kinematics import FingerChains
from fourdhands.models.motion_prior.baselines import Slerp
from fourdhands.models.motion_prior.prior import Completer, MotionPrior
from fourdhands.skeleton import Side

SPANS: Final = (8, 16, 32, 64)
"""Frames at 30 a second that are hidden, each span for itself."""
BORDER: Final = 10
"""Frames at 30 a second that stay visible at either end."""
ACTIVE: Final = 0.01
"""Variance of its posterior means above which a dimension of z is in use (Burda et al. 2016)."""
_RIGHT: Final = (Side.RIGHT,)


def hide_span(count: int, times: Tensor, seconds: float, generator: torch.Generator) -> Tensor:
    """Masks (count, T) with one span of so many seconds hidden, anywhere but at the ends."""
    border, duration = BORDER / 30, float(times[-1] - times[0])
    free = duration - 2 * border - seconds
    if free < 0:
        raise ValueError(f"a span of {seconds:.2f} s does not fit into {duration:.2f} s")
    start = times[0] + border + free * torch.rand(count, generator=generator)[:, None]
    return ~((times >= start - 1e-6) & (times < start + seconds - 1e-6))


@torch.no_grad()
def joint_errors(skeleton: FingerChains, poses: Tensor, true: Tensor) -> Tensor:
    """Mean distance of the 21 joints, wrists together, in millimetres: (..., 15, 3, 3) to (...)."""
    return 1000 * (skeleton(poses) - skeleton(true)).norm(dim=-1).mean(-1)


@torch.no_grad()
def completion_errors(
    prior: MotionPrior, skeleton: FingerChains, rotations: Tensor, valid: Tensor
) -> dict[str, float]:
    """Errors on hidden frames beside those of slerp, and of reconstruction, in millimetres.

    Args:
        prior: what is evaluated.
        skeleton: of a right hand.
        rotations: (N, T, 15, 3, 3) right hands on the prior's time grid.
        valid: (N, T) frames that there are.
    """
    times = prior.vae.grid
    whole = valid.all(1)
    rotations, valid = rotations[whole], valid[whole]
    figures: dict[str, float] = {}
    generator = torch.Generator().manual_seed(0)
    for span in SPANS:
        if (span + 2 * BORDER) / 30 > float(times[-1]):
            continue
        mask = hide_span(len(rotations), times.cpu(), span / 30, generator).to(valid.device)
        ours = masked_error(prior, skeleton, rotations, mask, times)
        slerp = masked_error(Slerp(), skeleton, rotations, mask, times)
        figures[f"completion_{span}_mm"] = ours
        figures[f"ratio_to_slerp_{span}"] = ours / slerp
    mean, _ = prior.vae.encode(rotations, valid)
    again = prior.vae.decode(mean, times)
    figures["reconstruction_mm"] = float(joint_errors(skeleton, again, rotations).mean())
    return figures


@torch.no_grad()
def masked_error(
    method: Completer,
    skeleton: FingerChains,
    rotations: Tensor,
    mask: Tensor,
    times: Tensor,
    observed: Tensor | None = None,
) -> float:
    """Mean joint error on hidden frames, in millimetres.

    Args:
        method: what completes.
        skeleton: of a right hand.
        rotations: (N, T, 15, 3, 3) truth.
        mask: (N, T) what is shown.
        times: (T,) seconds.
        observed: what is shown of it, if not the truth itself.
    """
    shown = rotations if observed is None else observed
    found = method.complete(shown[:, :, None], mask[..., None], times, _RIGHT)[:, :, 0]
    return float(joint_errors(skeleton, found, rotations)[~mask].mean())


@torch.no_grad()
def latent_statistics(prior: MotionPrior, rotations: Tensor, valid: Tensor) -> dict[str, float]:
    """The aggregate posterior beside the prior N(0, I), over a set of windows.

    Returns:
        kl: KL of the posteriors from the prior, nats, mean over dimensions.
        aggregate_mean: root mean square of the aggregate posterior's means over dimensions; 0.
        aggregate_std: mean over dimensions of its standard deviations; 1.
        active: share of the dimensions whose means vary.
        nll: -log p(z) of samples of the aggregate posterior, nats a dimension; 1.42.
    """
    mean, log_variance = prior.vae.encode(rotations, valid)
    total = mean.var(0) + log_variance.exp().mean(0)
    second = mean.square() + log_variance.exp()
    return {
        "kl": float((second - 1 - log_variance).mean() / 2),
        "aggregate_mean": float(mean.mean(0).square().mean().sqrt()),
        "aggregate_std": float(total.sqrt().mean()),
        "active": float((mean.var(0) > ACTIVE).float().mean()),
        "nll": float((second.mean() + torch.log(torch.tensor(2 * torch.pi))) / 2),
    }


@torch.no_grad()
def share_inside_limits(prior: MotionPrior, rotations: Tensor, slack: float = 0.0) -> float:
    """Share of the frames (..., 15, 3, 3) of right hands with every joint within its limits.

    Args:
        prior: knows the joints' axes.
        rotations: poses.
        slack: radians that are allowed beyond.
    """
    joints = prior.vae.coordinates.joints
    angles = joints.angles(rotations)
    low, high = joints.limits.unbind(-1)
    inside = (angles >= low - slack - 1e-4) & (angles <= high + slack + 1e-4)
    return float(inside.flatten(-2).all(-1).float().mean())


def accelerations(skeleton: FingerChains, rotations: Tensor, times: Tensor) -> Tensor:
    """Joints' accelerations (N, T - 2, J) in m/s^2, by second differences; regular times."""
    joints = skeleton(rotations)
    step = float(times[1] - times[0])
    return joints.diff(dim=1).diff(dim=1).norm(dim=-1) / step**2


def as_table(rows: Mapping[str, Mapping[str, float]], digits: int = 2) -> str:
    """Rows of figures as a table in Markdown; the columns are the first row's."""
    columns = list(next(iter(rows.values())))
    lines = [f"| | {' | '.join(columns)} |", "|" + "---|" * (len(columns) + 1)]
    for name, row in rows.items():
        cells = (f"{row[c]:.{digits}f}" if c in row else "" for c in columns)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
