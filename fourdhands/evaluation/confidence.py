"""Does the confidence tell hands from crops without one? Scored on data with labelled hands."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torchmetrics.functional.classification import binary_auroc
from tqdm import tqdm

from fourdhands.export.predictor import Predictor
from fourdhands.structures import ClipBatch

NEGATIVE_SHARE = 0.5
"""Of the places for a hand that get a crop without one."""
HAND_COLOUR, OTHER_COLOUR = "#2f6fb5", "#b9b4ab"


@dataclass(frozen=True)
class ConfidenceScores:
    """Confidences of hands and of crops without one.

    Attributes:
        hands: (H,) -1 to 1.
        others: (N,) -1 to 1.
        threshold: calibrated in training; NaN if it saw no crops without a hand.
    """

    hands: NDArray[np.float32]
    others: NDArray[np.float32]
    threshold: float

    @property
    def auroc(self) -> float:
        """Probability that a hand is more confident than a crop without one."""
        values = torch.from_numpy(np.concatenate((self.hands, self.others)))
        is_hand = torch.arange(len(values)) < len(self.hands)
        # what is not a probability would be taken for a logit
        return float(binary_auroc((values + 1) / 2, is_hand.long()))

    @property
    def hands_kept(self) -> float:
        """Share of the hands above the threshold."""
        return float((self.hands > self.threshold).mean())

    @property
    def others_refused(self) -> float:
        """Share of the crops without a hand that are not above the threshold."""
        return float((self.others <= self.threshold).mean())

    def line(self) -> str:
        """The figures in a line of text."""
        text = (
            f"confidence: AUROC {self.auroc:.3f} "
            f"({len(self.hands):,} hands, {len(self.others):,} crops without one)"
        )
        if np.isnan(self.threshold):
            return f"{text}; not calibrated, training saw no crops without a hand"
        return (
            f"{text}; above the threshold of {self.threshold:.2f}: {self.hands_kept:.1%} of the "
            f"hands, {1 - self.others_refused:.1%} of the others"
        )

    def to_plain(self) -> dict[str, Any]:
        """The figures as JSON values."""
        calibrated = not np.isnan(self.threshold)
        return {
            "auroc": self.auroc,
            "hands": len(self.hands),
            "others": len(self.others),
            "threshold": self.threshold if calibrated else None,
            "hands_kept": self.hands_kept if calibrated else None,
            "others_refused": self.others_refused if calibrated else None,
        }

    def draw(self, axes: Axes, title: str) -> None:
        """Draw both distributions as shares, and the threshold."""
        edges = np.linspace(-1, 1, 41).tolist()
        kinds = (("hands", self.hands, HAND_COLOUR), ("without a hand", self.others, OTHER_COLOUR))
        for label, values, colour in kinds:
            weights = np.full(len(values), 1 / max(len(values), 1))
            axes.hist(
                values,
                edges,
                weights=weights,
                color=colour,
                alpha=0.75,
                label=f"{label} ({len(values):,})",
            )
        if not np.isnan(self.threshold):
            axes.axvline(self.threshold, color="#333333", linestyle="--", label="threshold")
        axes.set(xlabel="confidence", ylabel="share", title=f"{title}, AUROC {self.auroc:.3f}")
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)


@torch.inference_mode()
def score_confidence(predictor: Predictor, batches: Iterable[ClipBatch]) -> ConfidenceScores | None:
    """Score the confidence on batches in which some crops show no hand.

    Args:
        predictor: to score.
        batches: with labels; see `ClipDataModule.eval_dataloader`.

    Returns:
        None if one of the two kinds is missing.
    """
    hands, others = [], []
    for batch in tqdm(batches, desc="confidence", unit=" batches"):
        predictions = predictor(batch)
        geometry = predictor.hand_model(predictions.hands)
        confidence = predictor.confidence(predictions, geometry, batch)
        assert batch.labels is not None and confidence is not None
        values, is_hand = confidence.cpu(), batch.labels.is_hand
        seen = batch.labels.joints_2d_valid.any(-1) & is_hand
        hands.append(values[batch.hand_visible & seen])
        others.append(values[batch.hand_visible & ~is_hand])
    if not sum(map(len, hands)) or not sum(map(len, others)):
        return None
    return ConfidenceScores(
        hands=torch.cat(hands).numpy(),
        others=torch.cat(others).numpy(),
        threshold=predictor.confidence_threshold,
    )
