"""Plots of a motion prior: its samples' accelerations, and how z is spread."""

from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.stats import norm
from torch import Tensor

from fourdhands.evaluation.motion import accelerations
from fourdhands.files import replacing
from fourdhands.hands.kinematics import FingerChains
from fourdhands.models.motion_prior.prior import MotionPrior
from fourdhands.skeleton import Side


@torch.no_grad()
def draw_statistics(
    prior: MotionPrior, skeleton: FingerChains, rotations: Tensor, path: Path
) -> None:
    """Accelerations of samples beside the data's, and the aggregate posterior beside N(0, I)."""
    matplotlib.use("Agg", force=False)
    times = prior.vae.grid
    generator = torch.Generator().manual_seed(0)
    drawn = prior.sample(len(rotations), times, (Side.RIGHT,), generator=generator)[:, :, 0]
    seen = torch.ones(rotations.shape[:2], dtype=torch.bool, device=rotations.device)
    mean, log_variance = prior.vae.encode(rotations, seen)
    rebuilt = prior.vae.decode(mean, times)
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    bins = np.geomspace(0.01, 100, 60)
    for name, poses in (("data", rotations), ("reconstructed", rebuilt), ("sampled", drawn)):
        values = accelerations(skeleton, poses, times)[..., 1:].flatten().clamp_min(0.01).cpu()
        style = "-" if name == "data" else "--"
        left.hist(
            values, bins, histtype="step", label=f"{name}, mean {values.mean():.1f}", ls=style
        )
    left.set(xscale="log", xlabel="acceleration of joints, m/s²", ylabel="joints and frames")
    left.legend(fontsize=8)
    noise = torch.randn(mean.shape, generator=generator).to(mean)
    z = (mean + noise * (log_variance / 2).exp()).flatten().sort().values.cpu()
    place = torch.linspace(0, 1, 402)[1:-1]
    quantiles = z[(place * (len(z) - 1)).long()]
    wanted = norm.ppf(place.numpy())
    middle.plot(wanted, wanted, color="0.7")
    middle.plot(wanted, quantiles, ".", ms=3)
    middle.set(xlabel="quantiles of N(0, 1)", ylabel="of the aggregate posterior, all dimensions")
    spread = (mean.var(0) + log_variance.exp().mean(0)).sqrt().cpu()
    right.plot(spread, label="standard deviation")
    right.plot(mean.mean(0).cpu(), label="mean")
    right.plot((log_variance / 2).exp().mean(0).cpu(), label="posterior's own")
    right.axhline(1, color="0.8", lw=0.8)
    right.set(xlabel="dimension of z", ylabel="aggregate posterior")
    right.legend(fontsize=8)
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=90)
