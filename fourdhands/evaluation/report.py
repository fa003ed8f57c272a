"""What people read after an evaluation: a table, `metrics.json` and plots.

Figures of the model always stand beside those of the mean-pose predictor on the same data.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Plot
from numpy.typing import NDArray

from fourdhands.evaluation.confidence import ConfidenceScores
from fourdhands.evaluation.metrics import METRICS
from fourdhands.evaluation.provenance import Provenance
from fourdhands.evaluation.runner import RANKED_BY, Figure, Scores
from fourdhands.files import replacing
from fourdhands.skeleton import JOINT_NAMES

FORMAT_VERSION = 1
LEGEND_SHARE = 0.22
"""Height that is free for the legend, as a share of what is drawn."""
MODEL_COLOUR, MEAN_POSE_COLOUR = "#2f6fb5", "#b9b4ab"


@dataclass(frozen=True)
class EvalReport:
    """The result of an evaluation.

    Attributes:
        model: scores of the checkpoint.
        mean_pose: scores of the predictor that always answers the mean pose.
        provenance: what was evaluated on what.
        confidence: of the checkpoint's; None without a 2D branch.
    """

    model: Scores
    mean_pose: Scores
    provenance: Provenance
    confidence: ConfidenceScores | None = None

    def ratio(self, key: str) -> float | None:
        """The model's figure over the mean pose's; None where either is missing."""
        model, mean_pose = self.model.figures[key].value, self.mean_pose.figures[key].value
        return model / mean_pose if model is not None and mean_pose else None

    def to_plain(self) -> dict[str, Any]:
        """Everything but the single errors, as JSON values."""
        figures = {"model": self.model.figures, "mean_pose": self.mean_pose.figures}
        return {
            "format_version": FORMAT_VERSION,
            "provenance": asdict(self.provenance),
            "clips": self.model.num_clips,
            "frames": self.model.num_frames,
            "labelled": {
                "clips": self.model.labelled_clips,
                "frames": len(self.model.samples),
                "hands": len(self.model.hands),
            },
            "metrics": {
                key: asdict(info)
                | {name: asdict(values[key]) for name, values in figures.items()}
                | {"ratio": self.ratio(key)}
                for key, info in METRICS.items()
            },
            "confidence": self.confidence and self.confidence.to_plain(),
            "joints": {
                "metric": RANKED_BY,
                "model": _by_joint(self.model),
                "mean_pose": _by_joint(self.mean_pose),
            },
            "sequences": {
                name: {key: asdict(figure) for key, figure in figures.items()}
                for name, figures in self.model.figures_by_sequence.items()
            },
        }

    def table(self) -> str:
        """The figures in lines of text, with units."""
        rows = [("", "unit", "model", "mean pose", "ratio", "mean over")]
        for key, info in METRICS.items():
            model, mean_pose = self.model.figures[key], self.mean_pose.figures[key]
            ratio = self.ratio(key)
            rows.append(
                (
                    info.name,
                    info.unit,
                    _number(model),
                    _number(mean_pose),
                    "-" if ratio is None else f"{ratio:.3f}",
                    f"{model.count:,} {info.counted}",
                )
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        align = "<<>>>>"
        lines = [
            "  ".join(f"{cell:{a}{w}}" for cell, a, w in zip(row, align, widths, strict=True))
            for row in rows
        ]
        title = (
            f"{self.provenance.checkpoint} on {self.provenance.data}\n"
            f"{self.model.num_frames:,} frames in {self.model.num_clips:,} clips; "
            f"{len(self.model.hands):,} hands are labelled, "
            f"in {len(self.model.samples):,} of the frames and {self.model.labelled_clips:,} clips"
        )
        note = f"mean pose: from {self.provenance.mean_pose}"
        rule = "-" * len(lines[0])
        notes = [note] if self.confidence is None else [note, self.confidence.line()]
        return "\n".join((title, "", lines[0], rule, *lines[1:], rule, *notes))

    def save_json(self, path: Path) -> None:
        """Write `to_plain`, at once."""
        text = json.dumps(self.to_plain(), indent=2, allow_nan=False) + "\n"
        with replacing(path) as partial:
            partial.write_text(text)

    def save_plots(self, path: Path) -> None:
        """Draw hands' errors, the mean error of each joint and the confidence, as PNG."""
        has_confidence = self.confidence is not None
        plot = Plot(figsize=(17 if has_confidence else 12, 4.5), dpi=110, layout="constrained")
        FigureCanvasAgg(plot)
        ratios = (1, 1.4, 1)[: 2 + has_confidence]
        hands, joints, *rest = plot.subplots(1, 2 + has_confidence, width_ratios=ratios)
        for axes in rest:
            assert self.confidence is not None
            self.confidence.draw(axes, "Hand or not")
        _draw_distribution(hands, self)
        _draw_joints(joints, self)
        with replacing(path) as partial:
            plot.savefig(partial, format="png")


def save_image(image: NDArray[np.uint8], path: Path) -> None:
    """Write an RGB image as PNG, whole or not at all."""
    encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
    with replacing(path) as partial:
        partial.write_bytes(encoded.tobytes())


def _number(figure: Figure) -> str:
    return "n/a" if figure.value is None else f"{figure.value:.2f}"


def _by_joint(scores: Scores) -> dict[str, float | None]:
    return {
        name: float(error) if np.isfinite(error) else None
        for name, error in zip(JOINT_NAMES, scores.joints, strict=True)
    }


def _draw_distribution(axes: Axes, report: EvalReport) -> None:
    """Histogram of hands' errors; the last bin holds what lies beyond."""
    both = np.concatenate((report.model.hands, report.mean_pose.hands))
    end = float(np.percentile(both, 99.5)) if len(both) else 1.0
    edges = np.linspace(0.0, end, 49).tolist()
    for scores, label, colour in _predictors(report):
        median = float(np.median(scores.hands)) if len(scores.hands) else float("nan")
        axes.hist(
            scores.hands.clip(max=end),
            edges,
            color=colour,
            alpha=0.75,
            label=f"{label}, median {median:.1f} mm (dashed)",
        )
        axes.axvline(median, ymax=1 / (1 + LEGEND_SHARE), color=colour, linestyle="--")
    axes.set(
        xlabel="MPJPE of a hand (mm); the last bar holds whatever is beyond",
        ylabel="hands",
        title="Distribution over hands",
    )
    _finish(axes)


def _draw_joints(axes: Axes, report: EvalReport) -> None:
    positions = np.arange(len(JOINT_NAMES))
    for offset, (scores, label, colour) in zip((0.2, -0.2), _predictors(report), strict=True):
        axes.bar(positions + offset, scores.joints, 0.4, color=colour, label=label)
    axes.set_xticks(positions, JOINT_NAMES, rotation=60, ha="right", fontsize=8)
    axes.set(ylabel="mean error (mm)", title="By joint, relative to the root")
    _finish(axes)


def _finish(axes: Axes) -> None:
    """Put the legend above everything drawn, the model first, as its bars are."""
    axes.margins(y=LEGEND_SHARE)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="upper right", framealpha=1, edgecolor="none")
    axes.spines[["top", "right"]].set_visible(False)


def _predictors(report: EvalReport) -> tuple[tuple[Scores, str, str], ...]:
    return (
        (report.mean_pose, "mean pose", MEAN_POSE_COLOUR),
        (report.model, "model", MODEL_COLOUR),
    )
