"""The metrics of two-hand reconstruction: what is averaged, in which unit, exactly on any cut.

Errors come from `errors`; a metric is their mean over everything that counts. Only sums and counts
are kept, so batches, clips and processes may be cut anywhere. docs/metrics.md defines each one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from fourdhands.evaluation.errors import (
    Comparison,
    MaskedErrors,
    acceleration_errors,
    acceleration_errors_per_frame,
    aligned_joint_errors,
    image_errors,
    relative_joint_errors,
    relative_vertex_errors,
    root_offset_errors,
)
from fourdhands.skeleton import WRIST
from fourdhands.structures import ClipBatch, HandGeometry, Predictions

MILLI = 1e3
"""Millimetres in a metre."""


@dataclass(frozen=True)
class MetricInfo:
    """What a figure means.

    Attributes:
        name: as papers print it.
        unit: of the figure.
        counted: what the mean runs over.
        lower_is_better: direction.
    """

    name: str
    unit: str
    counted: str
    lower_is_better: bool = True


@dataclass(frozen=True)
class MetricDefinition:
    """A metric: the mean of errors, in a unit.

    Attributes:
        info: what the figure means.
        errors: computes them in SI units or pixels.
        factor: from those to `info.unit`.
    """

    info: MetricInfo
    errors: Callable[[Comparison], MaskedErrors]
    factor: float = 1.0


METRICS: dict[str, MetricDefinition] = {
    "mpjpe_mm": MetricDefinition(MetricInfo("MPJPE", "mm", "joints"), relative_joint_errors, MILLI),
    "pa_mpjpe_mm": MetricDefinition(
        MetricInfo("PA-MPJPE", "mm", "joints"), aligned_joint_errors, MILLI
    ),
    "mpvpe_mm": MetricDefinition(
        MetricInfo("MPVPE", "mm", "vertices"), relative_vertex_errors, MILLI
    ),
    "mrrpe_mm": MetricDefinition(MetricInfo("MRRPE", "mm", "frames"), root_offset_errors, MILLI),
    "acceleration_error_mm_per_frame2": MetricDefinition(
        MetricInfo("Acceleration error", "mm/frame^2", "joint triples"),
        acceleration_errors_per_frame,
        MILLI,
    ),
    "acceleration_error_m_per_s2": MetricDefinition(
        MetricInfo("Acceleration error", "m/s^2", "joint triples"), acceleration_errors
    ),
    "epe_2d_px": MetricDefinition(MetricInfo("2D EPE", "px", "joints"), image_errors),
}
"""Every metric by its key, which ends in its unit."""


def measure(comparison: Comparison) -> dict[str, MaskedErrors]:
    """All errors, each in its metric's unit."""
    return {key: metric.errors(comparison).scaled(metric.factor) for key, metric in METRICS.items()}


class ReconstructionMetrics(Metric):
    """All metrics of `METRICS` over any number of batches.

    Args:
        root: joint that root-relative errors are relative to.
        **kwargs: torchmetrics' own.
    """

    is_differentiable: bool | None = False
    higher_is_better: bool | None = False
    full_state_update: bool | None = False

    totals: Tensor
    counts: Tensor

    def __init__(self, *, root: int = WRIST, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = root
        size = len(METRICS)
        self.add_state("totals", torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(size, dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self,
        predictions: Predictions,
        geometry: HandGeometry,
        batch: ClipBatch,
        true_geometry: HandGeometry,
    ) -> None:
        """Add a batch.

        Args:
            predictions: of the batch.
            geometry: the hand model's, of `predictions.hands`.
            batch: with labels and meta.
            true_geometry: the hand model's, of `batch.labels.hands`.

        Raises:
            ValueError: the batch has no labels, or not one `ClipMeta` a clip.
        """
        comparison = Comparison.of(predictions, geometry, batch, true_geometry, root=self.root)
        sums = [errors.sums(keep=0) for errors in measure(comparison).values()]
        self.totals += torch.stack([total for total, _ in sums])
        self.counts += torch.stack([count for _, count in sums])

    def compute(self) -> dict[str, Tensor]:
        """Every metric by key, in its unit; NaN where nothing could be counted."""
        return dict(zip(METRICS, self.totals / self.counts, strict=True))
