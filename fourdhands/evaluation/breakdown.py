"""Benchmarks' errors taken apart: by joint, by hand, by sequence, and as curves.

It looks at what a protocol's columns look at, in the same pass. What it keeps are sums, and two
numbers a hand.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from fourdhands.evaluation.alignments import Alignment, Compared, Points
from fourdhands.evaluation.protocols import Protocol
from fourdhands.evaluation.samples import Pair
from fourdhands.evaluation.statistics import AreaUnderCurve
from fourdhands.evaluation.wording import label_of
from fourdhands.skeleton import NUM_JOINTS, NUM_SIDES, NUM_VERTICES

Floats = NDArray[np.float64]
MOST_PIECES: Final = 16
"""Of a list that grows with the batches; many small ones keep the memory between them from use."""
KEYPOINTS: Final[Mapping[Points, int]] = {"joints": NUM_JOINTS, "vertices": NUM_VERTICES}


@dataclass(frozen=True)
class Breakdown:
    """The errors of one alignment: metres, NaN where nothing is labelled.

    Attributes:
        alignment: how predictions were laid over the truth.
        points: joints or vertices.
        keypoints: (S, K) mean error of each.
        pooled: (K,) the same over both sides.
        totals: (N, S) sum of a hand's errors, images in the order in which they came.
        counts: (N, S) int64, labelled points.
        curve: share of points within each distance; None for meshes whose area under the curve
            the protocol does not ask for.
    """

    alignment: Alignment
    points: Points
    keypoints: Floats
    pooled: Floats
    totals: Floats
    counts: NDArray[np.int64]
    curve: "Curve | None"

    @property
    def label(self) -> str:
        """In words."""
        return f"{label_of(self.alignment)} {self.points}"

    @property
    def hands(self) -> Floats:
        """(N, S) mean error of each hand."""
        return _mean(self.totals, self.counts)

    @property
    def images(self) -> Floats:
        """(N,) mean error of all points of an image."""
        return _mean(self.totals.sum(-1), self.counts.sum(-1))

    def by_sequence(self, sequence: NDArray[np.int64]) -> dict[int, float]:
        """Mean error of all points of each sequence: (N,) numbers to metres."""
        numbers, place = np.unique(sequence, return_inverse=True)
        totals = np.bincount(place, self.totals.sum(-1), len(numbers)).astype(np.float64)
        counts = np.bincount(place, self.counts.sum(-1), len(numbers)).astype(np.int64)
        return dict(zip(numbers.tolist(), _mean(totals, counts).tolist(), strict=True))


@dataclass(frozen=True)
class Curve:
    """Share of points within each distance.

    Attributes:
        thresholds: (steps,) metres.
        share: (steps,) 0 to 1.
        area: under the curve, 0 to 1.
    """

    thresholds: Floats
    share: Floats
    area: float

    @classmethod
    def of(cls, statistic: AreaUnderCurve) -> "Curve":
        """What a statistic has counted."""
        thresholds, share = statistic.thresholds.numpy(), statistic.curve().numpy()
        return cls(thresholds, share, float(statistic.compute()))


class HandErrors(Metric):
    """Sums of errors of each keypoint, and of each hand in the order of arrival.

    Over several processes the hands of the first come first; sums are the same in any cut.

    Args:
        keypoints: of a hand.
    """

    full_state_update: bool | None = False
    totals: Tensor
    counts: Tensor
    hand_totals: Any
    hand_counts: Any

    def __init__(self, keypoints: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        sums = torch.zeros(NUM_SIDES, keypoints, dtype=torch.float64)
        self.add_state("totals", sums, dist_reduce_fx="sum")
        self.add_state("counts", sums.long(), dist_reduce_fx="sum")
        self.add_state("hand_totals", [], dist_reduce_fx="cat")
        self.add_state("hand_counts", [], dist_reduce_fx="cat")
        self._begin()

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self._begin()

    def _begin(self) -> None:
        # the other processes would wait for ever for one that has no images, and so no list
        self.hand_totals.append(torch.zeros(0, NUM_SIDES, dtype=torch.float64))
        self.hand_counts.append(torch.zeros(0, NUM_SIDES, dtype=torch.int64))

    def update(self, compared: Compared) -> None:
        """Add a batch."""
        errors, valid = compared.errors, compared.valid
        self.totals += errors.sum(0)
        self.counts += valid.sum(0)
        self.hand_totals.append(errors.sum(-1))
        self.hand_counts.append(valid.sum(-1))
        if len(self.hand_totals) > MOST_PIECES:
            self.hand_totals = [dim_zero_cat(self.hand_totals)]
            self.hand_counts = [dim_zero_cat(self.hand_counts)]

    def compute(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Totals and counts, (S, K) and (N, S)."""
        hands = dim_zero_cat(self.hand_totals), dim_zero_cat(self.hand_counts)
        return self.totals, self.counts, *hands


class Breakdowns:
    """One for each alignment of joints or meshes that a protocol uses.

    Args:
        protocol: the rules.
        statistics: its columns', by key: curves that they make are not made again.
    """

    def __init__(self, protocol: Protocol, statistics: Mapping[str, Any]) -> None:
        self._errors: dict[tuple[Alignment, Points], HandErrors] = {}
        self._curves: dict[tuple[Alignment, Points], AreaUnderCurve] = {}
        self._own: set[tuple[Alignment, Points]] = set()
        for column in protocol.columns:
            what, statistic = (column.alignment, column.points), statistics[column.key]
            if column.temporal or column.trajectory or column.alone:
                continue
            if column.points not in KEYPOINTS:
                continue
            self._errors.setdefault(what, HandErrors(KEYPOINTS[column.points]))
            if isinstance(statistic, AreaUnderCurve) and column.chosen == "all":
                self._curves[what] = statistic
        for what in self._errors.keys() - self._curves.keys():
            if what[1] == "joints":
                self._curves[what] = AreaUnderCurve(NUM_JOINTS)
                self._own.add(what)

    def update(self, aligned: Mapping[tuple[Alignment, Points], Compared], pair: Pair) -> None:
        """Add a batch, as its columns saw it; what are no points of hands in space is left out."""
        for what, errors in self._errors.items():
            shape = (len(pair), NUM_SIDES, KEYPOINTS[what[1]], 3)
            if what in aligned and aligned[what].predicted.shape == shape:
                errors.update(aligned[what])
                if what in self._own:
                    self._curves[what].update(aligned[what])

    def compute(self) -> tuple[Breakdown, ...]:
        """Those for which there was anything to count, in the order of the columns."""
        found = []
        for (alignment, points), errors in self._errors.items():
            if not errors.update_called:
                continue
            totals, counts, hand_totals, hand_counts = (x.numpy() for x in errors.compute())
            statistic = self._curves.get((alignment, points))
            found.append(
                Breakdown(
                    alignment,
                    points,
                    _mean(totals, counts),
                    _mean(totals.sum(0), counts.sum(0)),
                    hand_totals,
                    hand_counts,
                    None if statistic is None else Curve.of(statistic),
                )
            )
        return tuple(one for one in found if one.counts.any())


def _mean(totals: Floats, counts: NDArray[np.int64]) -> Floats:
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)
