"""What people read after an evaluation: a table, `metrics.json` and plots.

Figures of the model always stand beside those of the mean-pose predictor on the same data.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fourdhands.evaluation.confidence import ConfidenceScores
from fourdhands.evaluation.metrics import METRICS
from fourdhands.evaluation.plots import Series, draw_distribution, draw_joints, new_plot, png_of
from fourdhands.evaluation.provenance import Provenance
from fourdhands.evaluation.runner import RANKED_BY, Figure, Scores
from fourdhands.files import replacing
from fourdhands.skeleton import JOINT_NAMES

FORMAT_VERSION = 1
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
        plot = new_plot(17 if has_confidence else 12, 4.5)
        ratios = (1, 1.4, 1)[: 2 + has_confidence]
        hands, joints, *rest = plot.subplots(1, 2 + has_confidence, width_ratios=ratios)
        for axes in rest:
            assert self.confidence is not None
            self.confidence.draw(axes, "Hand or not")
        predictors = (
            (self.mean_pose, "mean pose", MEAN_POSE_COLOUR),
            (self.model, "model", MODEL_COLOUR),
        )
        draw_distribution(hands, [Series(s.hands, name, ink) for s, name, ink in predictors])
        draw_joints(joints, [Series(s.joints, name, ink) for s, name, ink in predictors])
        joints.set_title("By joint, relative to the root")
        with replacing(path) as partial:
            partial.write_bytes(png_of(plot))


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
