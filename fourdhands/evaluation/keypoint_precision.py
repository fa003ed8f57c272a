"""Average precision of 2D keypoints by their similarity to labels (OKS), as COCO's program counts.

Everything is kept until the end: persons of one photograph may come in different batches.
"""

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from fourdhands.evaluation.alignments import Detections
from fourdhands.evaluation.statistics import Statistic
from fourdhands.skeleton import NUM_JOINTS, Side

Floats = NDArray[np.float64]

HAND_SIGMAS: Final = (
    *(0.029, 0.022, 0.035, 0.037, 0.047),
    *(0.026, 0.025, 0.024, 0.035),
    *(0.018, 0.024, 0.022, 0.026),
    *(0.017, 0.021, 0.021, 0.032),
    *(0.02, 0.019, 0.022, 0.031),
)
"""COCO-WholeBody's spread of people's own labels, wrist first, by the root of the person's area."""
SIMILARITIES: Final = np.linspace(0.5, 0.95, 10)
"""From which OKS on a hand counts as found."""
RECALLS: Final = np.linspace(0, 1, 101)
MOST_DETECTIONS: Final = 20
"""In one image, the surest first."""
_COLUMNS: Final = ("predicted", "true", "valid", "image", "area", "score", "found")


class KeypointPrecision(Statistic):
    """AP over all similarities, AP at 0.5, AP at 0.75, and average recall (AR): (4,).

    The hands of a photograph compete for its labels, the surest first; each takes the one that it
    is most similar to. Hands without a label are left out, and what was predicted for them.

    Args:
        sides: whose points make up an object; both hands of a person are one object of 42 points,
            as sure as the surer one.
    """

    def __init__(self, sides: tuple[Side, ...], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sides = sides
        for name in _COLUMNS:
            self.add_state(name, [], dist_reduce_fx="cat")
        self._append_nothing()

    def reset(self) -> None:
        """Forget all hands."""
        super().reset()
        self._append_nothing()

    def update(self, compared: Detections) -> None:
        """Add a batch."""
        sides = list(self.sides)
        self._append(
            predicted=compared.predicted[:, sides].flatten(1, 2),
            true=compared.true[:, sides].flatten(1, 2),
            valid=compared.valid[:, sides].flatten(1, 2),
            image=compared.image,
            area=compared.area,
            score=compared.score[:, sides].amax(1),
            found=compared.found[:, sides].any(1),
        )

    def compute(self) -> Tensor:
        """Shares, 0 to 1; NaN where nothing is labelled."""
        found = {name: dim_zero_cat(getattr(self, name)).cpu().numpy() for name in _COLUMNS}
        labelled = found["valid"].any(-1)
        if not labelled.any():
            return torch.full((4,), torch.nan, dtype=torch.float64)
        found = {name: array[labelled] for name, array in found.items()}
        order = np.argsort(found["image"], kind="stable")
        borders = np.flatnonzero(np.diff(found["image"][order])) + 1
        images = [
            self._hits({name: array[image] for name, array in found.items()})
            for image in np.split(order, borders)
        ]
        scores = np.concatenate([score for score, _ in images])
        hits = np.concatenate([hit for _, hit in images])[np.argsort(-scores, kind="stable")]
        precision, recall = _precision_and_recall(hits, len(order))
        at = [int(np.flatnonzero(np.isclose(SIMILARITIES, value))[0]) for value in (0.5, 0.75)]
        return torch.tensor([precision.mean(), *precision[at], recall.mean()], dtype=torch.float64)

    def _hits(self, image: dict[str, NDArray[Any]]) -> tuple[Floats, NDArray[np.bool_]]:
        """Scores (D,) of hands found in an image, and at which similarities (D, 10) each hits."""
        there = np.flatnonzero(image["found"])
        there = there[np.argsort(-image["score"][there], kind="stable")][:MOST_DETECTIONS]
        oks = _similarity(image["predicted"][there], image["true"], image["valid"], image["area"])
        taken = np.zeros((len(SIMILARITIES), oks.shape[1]), bool)
        hits = np.zeros((len(there), len(SIMILARITIES)), bool)
        rows = np.arange(len(SIMILARITIES))
        for one, similarity in enumerate(oks):
            left = np.where(taken, -1.0, similarity)
            best = left.shape[1] - 1 - left[:, ::-1].argmax(1)  # the last of equals, as COCO's
            hits[one] = left[rows, best] >= SIMILARITIES
            taken[rows, best] |= hits[one]
        return image["score"][there], hits

    def _append(self, **columns: Tensor) -> None:
        for name, tensor in columns.items():
            getattr(self, name).append(tensor)

    def _append_nothing(self) -> None:
        points = torch.zeros(0, NUM_JOINTS * len(self.sides), 2, dtype=torch.float64)
        nothing = points[:, 0, 0]
        self._append(
            predicted=points,
            true=points,
            valid=points[..., 0].bool(),
            image=nothing.long(),
            area=nothing,
            score=nothing,
            found=nothing.bool(),
        )


def _similarity(predicted: Floats, true: Floats, valid: NDArray[np.bool_], area: Floats) -> Floats:
    """OKS (D, G) of D predictions (D, K, 2) to G labelled objects, each with a label at least."""
    sigmas = np.tile(HAND_SIGMAS, true.shape[1] // NUM_JOINTS)
    squared = np.square(predicted[:, None] - true).sum(-1)
    spread = np.square(2 * sigmas) * 2 * (area[:, None] + np.spacing(1))
    return np.asarray(
        np.where(valid, np.exp(-squared / spread), 0.0).sum(-1) / valid.sum(-1), np.float64
    )


def _precision_and_recall(hits: NDArray[np.bool_], objects: int) -> tuple[Floats, Floats]:
    """Of hands (D, 10) by falling score: mean precision over recalls (10,), final recall (10,)."""
    right = hits.cumsum(0)
    recall = right / objects
    precision = right / np.maximum(np.arange(len(hits)) + 1, 1)[:, None]
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    padded = np.concatenate((precision, np.zeros((1, hits.shape[1]))))
    means = [padded[np.searchsorted(recall[:, k], RECALLS), k].mean() for k in range(hits.shape[1])]
    final = recall[-1] if len(hits) else np.zeros(hits.shape[1])
    return np.array(means), np.asarray(final, np.float64)
