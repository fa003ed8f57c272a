"""What benchmarks make of errors: their means, curves and scores, exact on any cut of the data.

Every statistic keeps sums only, so batches may come in any number, order and process.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor
from torchmetrics import Metric

from fourdhands.evaluation.alignments import Compared

Points = NDArray[np.float64]
F_SCORE_DISTANCES: Final = (0.005, 0.015)
"""Metres: F@5 and F@15."""


class Statistic(Metric):
    """One or more numbers of compared points; NaN where nothing could be counted."""

    full_state_update: bool | None = False

    def _add_sums(self, *shape: int) -> None:
        self.add_state("totals", torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    totals: Tensor
    counts: Tensor


class PooledMean(Statistic):
    """Mean of all errors: every point weighs the same."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._add_sums()

    def update(self, compared: Compared) -> None:
        """Add a batch."""
        self.totals += compared.errors.sum()
        self.counts += compared.valid.sum()

    def compute(self) -> Tensor:
        """Metres."""
        return self.totals / self.counts


class KeypointMean(Statistic):
    """Mean over keypoints of each one's mean error: every keypoint weighs the same.

    Args:
        keypoints: of a hand.
        sides: 1 if both hands' keypoints are pooled, 2 if each hand has its own (InterNet).
    """

    def __init__(self, keypoints: int, sides: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._add_sums(sides, keypoints)

    def update(self, compared: Compared) -> None:
        """Add a batch."""
        totals, counts = compared.errors.sum(0), compared.valid.sum(0)
        if len(self.totals) == 1:
            totals, counts = totals.sum(0, keepdim=True), counts.sum(0, keepdim=True)
        self.totals += totals
        self.counts += counts

    def compute(self) -> Tensor:
        """Metres; keypoints that are never labelled do not count."""
        return (self.totals / self.counts)[self.counts > 0].mean()


class ImageMean(Statistic):
    """Mean over images of the mean over the hands there of each hand's mean error (ARCTIC)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._add_sums()

    def update(self, compared: Compared) -> None:
        """Add a batch."""
        number = compared.valid.sum(-1)
        hands = compared.errors.sum(-1) / number.clamp_min(1)
        there = number > 0
        images = hands.sum(-1) / there.sum(-1).clamp_min(1)
        self.totals += images.sum()
        self.counts += there.any(-1).sum()

    def compute(self) -> Tensor:
        """Metres."""
        return self.totals / self.counts


class AreaUnderCurve(Statistic):
    """Share of points within a distance, over all distances of a range: PCK and its area.

    Both ends of the range are thresholds, `<=` counts, the area is the trapezoids'; every keypoint
    weighs the same (FreiHAND, HO3D, DexYCB: 100 thresholds from 0 to 50 mm).

    Args:
        keypoints: of a hand.
        low: metres, first threshold.
        high: metres, last threshold.
        steps: number of thresholds.
    """

    def __init__(
        self, keypoints: int, low: float = 0.0, high: float = 0.05, steps: int = 100, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.thresholds = torch.linspace(low, high, steps, dtype=torch.float64)
        self._add_sums(keypoints)
        hits = torch.zeros(keypoints, steps, dtype=torch.float64)
        self.add_state("within", hits, dist_reduce_fx="sum")

    within: Tensor

    def update(self, compared: Compared) -> None:
        """Add a batch."""
        keypoint = compared.valid.nonzero()[:, -1]
        # the first threshold that each error does not exceed; beyond the last one, none
        errors = compared.distances[compared.valid]
        first = torch.searchsorted(self.thresholds.to(errors), errors)
        keypoints, steps = self.within.shape
        hits = (keypoint * (steps + 1) + first).bincount(minlength=keypoints * (steps + 1))
        self.within += hits.view(keypoints, steps + 1)[:, :steps].cumsum(-1)
        self.counts += compared.valid.sum((0, 1))

    def curve(self) -> Tensor:
        """Share of points within each threshold, 0 to 1: (steps,)."""
        known = self.counts > 0
        return (self.within[known] / self.counts[known][:, None]).mean(0)

    def compute(self) -> Tensor:
        """Area, 0 to 1."""
        return torch.trapezoid(self.curve()) / (len(self.thresholds) - 1)


class FScore(Statistic):
    """Mean over meshes of the F-score at some distances: harmonic mean of precision and recall.

    A point is hit if the other mesh has one nearer than the distance.

    Args:
        distances: metres.
    """

    def __init__(self, distances: tuple[float, ...] = F_SCORE_DISTANCES, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.distances = distances
        self.threads = torch.get_num_threads()
        self._add_sums(len(distances))

    def update(self, compared: Compared) -> None:
        """Add a batch."""
        there = compared.valid.all(-1)
        pairs = zip(compared.predicted[there].numpy(), compared.true[there].numpy(), strict=True)
        with ThreadPoolExecutor(self.threads) as pool:  # the trees release the lock
            scores = list(pool.map(lambda pair: self._scores(*pair), pairs))
        if scores:
            self.totals += torch.from_numpy(np.stack(scores)).sum(0)
            self.counts += len(scores)

    def _scores(self, predicted: Points, true: Points) -> Points:
        missed, wrong = (
            # what lies beyond the bound is hit by nothing; quick trees: they are asked once
            cKDTree(mesh, balanced_tree=False, compact_nodes=False).query(
                points, distance_upper_bound=max(self.distances)
            )[0]
            for mesh, points in ((predicted, true), (true, predicted))
        )
        recall = np.array([np.mean(missed < d) for d in self.distances])
        precision = np.array([np.mean(wrong < d) for d in self.distances])
        total = recall + precision
        return np.where(total > 0, 2 * recall * precision / np.where(total > 0, total, 1), 0.0)

    def compute(self) -> Tensor:
        """(distances,) 0 to 1."""
        return self.totals / self.counts


class Largest(Statistic):
    """The largest of all errors."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        nothing = torch.tensor(-torch.inf, dtype=torch.float64)
        self.add_state("largest", nothing, dist_reduce_fx="max")

    largest: Tensor

    def update(self, compared: Compared) -> None:
        """Add a batch."""
        if compared.valid.any():
            self.largest = self.largest.maximum(compared.errors[compared.valid].max())

    def compute(self) -> Tensor:
        """Metres."""
        return torch.where(self.largest >= 0, self.largest, torch.nan)
