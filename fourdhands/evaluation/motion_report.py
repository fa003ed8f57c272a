"""The report of a motion prior: tables over spans, rates, noise and baselines; samples; plots."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import torch
from scipy.stats import kstest
from torch import Tensor
from tqdm import tqdm

from fourdhands.data.manifest import find_shards
from fourdhands.data.motion.clips import MotionClip, read_motion
from fourdhands.data.motion.synthesize import MotionSetConfig, generate_clip
from fourdhands.data.motion.windows import MotionData, WindowConfig
from fourdhands.evaluation.motion import (
    SPANS,
    accelerations,
    as_table,
    hide_span,
    joint_errors,
    latent_statistics,
    masked_error,
    share_inside_limits,
)
from fourdhands.evaluation.motion_plots import draw_statistics
from fourdhands.evaluation.provenance import hash_of_file
from fourdhands.export.checkpoint import weights_file
from fourdhands.export.hub import find_source
from fourdhands.export.motion_prior import load_motion_prior
from fourdhands.files import replacing
from fourdhands.geometry.rotation import matrix_from_axis_angle
from fourdhands.hands.assets import load_assets
from fourdhands.hands.kinematics import FingerChains
from fourdhands.models.motion_prior.baselines import GmmPrior, PcaPrior, Slerp, Smoothness
from fourdhands.models.motion_prior.prior import BOTH, Completer, Method, MotionPrior
from fourdhands.skeleton import Side

RATES: Final = (15.0, 30.0, 60.0)
OURS: Final = "HMP, encoder"


@dataclass(frozen=True)
class MotionEvaluation:
    """What is evaluated, on what.

    Attributes:
        checkpoint: of `train.py motion-prior`.
        out: folder of the report: metrics.json, tables.md, statistics.png.
        test: manifests, summaries or folders of motion shards to evaluate on; none: the test split
            of `generated`.
        train: the same for what PCA and the mixture learn from; none: its training split.
        root: what manifests' patterns are relative to.
        generated: the generated set.
        windows: windows to evaluate on.
        learn_windows: windows that PCA and the mixture learn from.
        noise: degrees by which observed joints are wrong, in the table with noise.
        mano: folder of converted MANO files; None for the open hand.
    """

    checkpoint: Path
    out: Path = Path("runs/motion_prior/eval")
    test: tuple[Path, ...] = ()
    train: tuple[Path, ...] = ()
    root: Path = Path("data")
    generated: MotionSetConfig = field(default_factory=MotionSetConfig)
    windows: int = 128
    learn_windows: int = 2000
    noise: float = 3.0
    mano: Path | None = None


@dataclass(frozen=True)
class Ours:
    """The prior with its options, as something that completes."""

    prior: MotionPrior
    method: Method = "encoder"
    keep: bool = True

    def complete(
        self, poses: Tensor, mask: Tensor, times: Tensor, sides: Sequence[Side] = BOTH
    ) -> Tensor:
        """See `Completer.complete`."""
        return self.prior.complete(poses, mask, times, sides, method=self.method, keep=self.keep)


def evaluate_motion_prior(config: MotionEvaluation) -> str:
    """Evaluate a prior and write the report.

    Returns:
        The tables, in Markdown.

    Raises:
        FileNotFoundError: a checkpoint or a set is missing.
        ValueError: one cannot be used.
    """
    prior = load_motion_prior(config.checkpoint)
    skeleton = FingerChains(load_assets(config.mano)[Side.RIGHT])
    learnt = _draw(config, "train", prior, 30.0, config.learn_windows)
    methods = _methods(prior, learnt)
    figures: dict[str, Any] = {"unit": "mm, mean joint error on hidden frames"}
    tables = []
    for rate in RATES:
        windows, times = _draw(config, "test", prior, rate, config.windows), _times(prior, rate)
        title = f"{rate:g} frames a second"
        rows = _compare(title, methods, skeleton, windows, times, windows)
        figures[f"{rate:g} fps"] = rows
        tables.append((title, rows))
    windows, times = _draw(config, "test", prior, 30.0, config.windows), _times(prior, 30.0)
    noisy = _with_noise(windows, config.noise)
    spoilt = {**methods, "HMP, encoder, all decoded": Ours(prior, keep=False)}
    title = f"30 frames a second, {config.noise:g} degrees of noise on observed joints"
    figures["noise"] = _compare(title, spoilt, skeleton, windows, times, noisy)
    tables.append((title, figures["noise"]))
    figures |= _figures_of_prior(prior, skeleton, windows, times)
    figures["checkpoint_sha256"] = hash_of_file(weights_file(find_source(config.checkpoint)))
    config.out.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join(f"**{title}**\n\n{as_table(rows)}" for title, rows in tables)
    text += "\n\n" + "\n".join(f"- {name}: {value:.4g}" for name, value in figures["prior"].items())
    with replacing(config.out / "metrics.json") as partial:
        plain = json.dumps(figures | {"config": asdict(config)}, indent=1, default=str)
        partial.write_text(plain + "\n")
    draw_statistics(prior, skeleton, windows, config.out / "statistics.png")
    with replacing(config.out / "tables.md") as partial:
        partial.write_text(text + "\n")
    return text


def _methods(prior: MotionPrior, learnt: Tensor) -> dict[str, Completer]:
    coordinates = prior.vae.coordinates
    return {
        "slerp": Slerp(),
        "smoothness": Smoothness(coordinates),
        "PCA prior": PcaPrior(coordinates, learnt, prior.config.fps),
        "GMM prior": GmmPrior(coordinates, learnt[:, ::16].flatten(0, 1)),
        OURS: Ours(prior),
        "HMP, optimised": Ours(prior, "optimise"),
    }


def _compare(
    title: str,
    methods: dict[str, Completer],
    skeleton: FingerChains,
    windows: Tensor,
    times: Tensor,
    observed: Tensor,
) -> dict[str, dict[str, float]]:
    """Errors by method and span, and beside them the ratio to slerp's."""
    rows: dict[str, dict[str, float]] = {name: {} for name in methods}
    progress = tqdm(total=len(SPANS) * len(methods), desc=title, unit="figures")
    for span in SPANS:
        generator = torch.Generator().manual_seed(span)
        mask = hide_span(len(windows), times, span / 30, generator)
        for name, method in methods.items():
            error = masked_error(method, skeleton, windows, mask, times, observed)
            rows[name][f"{span / 30:.2f} s"] = error
            progress.update()
        for row in rows.values():
            row[f"ratio {span / 30:.2f} s"] = (
                row[f"{span / 30:.2f} s"] / (rows["slerp"][f"{span / 30:.2f} s"])
            )
    progress.close()
    return rows


def _figures_of_prior(
    prior: MotionPrior, skeleton: FingerChains, windows: Tensor, times: Tensor
) -> dict[str, Any]:
    """Reconstruction, the spread of z, samples."""
    valid = torch.ones(windows.shape[:2], dtype=torch.bool)
    with torch.no_grad():
        mean, log_variance = prior.vae.encode(windows, valid)
        again = prior.vae.decode(mean, times)
        generator = torch.Generator().manual_seed(0)
        right = (Side.RIGHT,)
        drawn = prior.sample(len(windows), times, right, generator=generator)[:, :, 0]
        noise = torch.randn(mean.shape, generator=generator)
        z = mean + noise * (log_variance / 2).exp()
        data, sampled = (accelerations(skeleton, x, times) for x in (windows, drawn))
    return {
        "prior": {
            "reconstruction, mm": float(joint_errors(skeleton, again, windows).mean()),
            "frames of samples inside the joints' limits, share": share_inside_limits(prior, drawn),
            "acceleration of the data, m/s², mean": float(data.mean()),
            "acceleration of samples, m/s², mean": float(sampled.mean()),
            "acceleration of the data, m/s², median": float(data.median()),
            "acceleration of samples, m/s², median": float(sampled.median()),
            **{f"latent: {k}": v for k, v in latent_statistics(prior, windows, valid).items()},
            "latent: Kolmogorov-Smirnov distance to N(0, 1)": float(
                kstest(z.flatten().numpy(), "norm").statistic
            ),
        }
    }


def _times(prior: MotionPrior, rate: float) -> Tensor:
    return torch.arange(round(prior.config.frames * rate / prior.config.fps)) / rate


def _draw(
    config: MotionEvaluation, split: str, prior: MotionPrior, rate: float, count: int
) -> Tensor:
    """Windows (count, T, 15, 3, 3) of right hands at a rate."""
    sources: tuple[Path, ...] = getattr(config, split)
    frames = round(prior.config.frames * rate / prior.config.fps)
    clips: Iterator[MotionClip]
    if sources:
        clips = (
            clip
            for source in sources
            for shard in find_shards(source, config.root).shards
            for clip in read_motion(shard)
        )
        used = WindowConfig()
    else:
        generated = replace(config.generated, fps=rate)
        number = min(getattr(generated.splits, split), max(1, count // 4))
        clips = (generate_clip(generated, split, index) for index in range(number))
        used = WindowConfig(min_variance=0.0)
    data = MotionData(clips, frames=frames, fps=rate, config=used)
    found = data.draw(count, torch.Generator().manual_seed(1))
    whole = found.valid[..., 0].all(1)
    return found.rotations[:, :, 0][whole]


def _with_noise(windows: Tensor, degrees: float) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    turn = torch.randn((*windows.shape[:-2], 3), generator=generator)
    return windows @ matrix_from_axis_angle(torch.deg2rad(torch.tensor(degrees)) * turn)
