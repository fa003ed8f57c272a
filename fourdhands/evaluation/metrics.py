"""The metrics of two-hand reconstruction: what is averaged, in which unit, exactly on any cut.

Errors come from `errors`; a metric is their mean over everything that counts, however the data
were cut into windows, batches and processes. docs/metrics.md defines each one.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities import dim_zero_cat

from fourdhands.evaluation.errors import (
    Comparison,
    FrameErrors,
    MaskedErrors,
    acceleration_errors,
    acceleration_errors_per_frame,
    aligned_joint_errors,
    direct_image_errors,
    image_errors,
    orientation_errors,
    relative_joint_errors,
    relative_vertex_errors,
    root_offset_errors,
)
from fourdhands.skeleton import WRIST
from fourdhands.structures import ClipBatch, HandGeometry, Predictions

Compared = TypeVar("Compared")

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
class MetricDefinition(Generic[Compared]):
    """A metric: the mean of errors, in a unit.

    Attributes:
        info: what the figure means.
        errors: computes them in SI units or pixels.
        factor: from those to `info.unit`.
    """

    info: MetricInfo
    errors: Callable[[Compared], MaskedErrors]
    factor: float = 1.0


FRAME_METRICS: dict[str, MetricDefinition[Comparison]] = {
    "mpjpe_mm": MetricDefinition(MetricInfo("MPJPE", "mm", "joints"), relative_joint_errors, MILLI),
    "pa_mpjpe_mm": MetricDefinition(
        MetricInfo("PA-MPJPE", "mm", "joints"), aligned_joint_errors, MILLI
    ),
    "mpvpe_mm": MetricDefinition(
        MetricInfo("MPVPE", "mm", "vertices"), relative_vertex_errors, MILLI
    ),
    "mrrpe_mm": MetricDefinition(MetricInfo("MRRPE", "mm", "frames"), root_offset_errors, MILLI),
    "orientation_error_deg": MetricDefinition(
        MetricInfo("Orientation error", "deg", "hands"), orientation_errors, math.degrees(1)
    ),
    "epe_2d_px": MetricDefinition(MetricInfo("2D EPE, projected", "px", "joints"), image_errors),
    "epe_2d_direct_px": MetricDefinition(
        MetricInfo("2D EPE, direct", "px", "joints"), direct_image_errors
    ),
}
"""Metrics of single frames by key."""

CLIP_METRICS: dict[str, MetricDefinition[FrameErrors]] = {
    "acceleration_error_mm_per_frame2": MetricDefinition(
        MetricInfo("Acceleration error", "mm/frame^2", "joint triples"),
        acceleration_errors_per_frame,
        MILLI,
    ),
    "acceleration_error_m_per_s2": MetricDefinition(
        MetricInfo("Acceleration error", "m/s^2", "joint triples"), acceleration_errors
    ),
}
"""Metrics of frames in the order of time by key."""

METRICS: dict[str, MetricInfo] = {
    key: metric.info for key, metric in (FRAME_METRICS | CLIP_METRICS).items()
}
"""Every metric by its key, which ends in its unit."""


def measure(
    metrics: Mapping[str, MetricDefinition[Compared]], compared: Compared
) -> dict[str, MaskedErrors]:
    """The errors of some metrics, each in its metric's unit."""
    return {key: metric.errors(compared).scaled(metric.factor) for key, metric in metrics.items()}


class FrameMetrics(Metric):
    """Means of `FRAME_METRICS` over any number of batches; keeps sums and counts."""

    full_state_update: bool | None = False
    totals: Tensor
    counts: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        size = len(FRAME_METRICS)
        self.add_state("totals", torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(size, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, comparison: Comparison) -> None:
        """Add a batch."""
        sums = [errors.sums() for errors in measure(FRAME_METRICS, comparison).values()]
        self.totals += torch.stack([total for total, _ in sums])
        self.counts += torch.stack([count for _, count in sums])

    def compute(self) -> dict[str, Tensor]:
        """Every mean by key; NaN where nothing could be counted."""
        return dict(zip(FRAME_METRICS, self.totals / self.counts, strict=True))


class ClipMetrics(Metric):
    """Means of `CLIP_METRICS`; keeps joint errors until all frames of every clip are there.

    A kilobyte a frame. Clips may come in windows of any kind and order, from any process.
    """

    full_state_update: bool | None = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for field in fields(FrameErrors):
            self.add_state(field.name, [], dist_reduce_fx="cat")
        self._append(FrameErrors.none())

    def reset(self) -> None:
        """Forget all frames."""
        super().reset()
        self._append(FrameErrors.none().to(self.device))

    def update(self, comparison: Comparison) -> None:
        """Add a batch."""
        self._append(FrameErrors.of(comparison))

    def compute(self) -> dict[str, Tensor]:
        """Every mean by key; NaN where nothing could be counted.

        Raises:
            ValueError: a frame came twice.
        """
        columns = (dim_zero_cat(getattr(self, field.name)) for field in fields(FrameErrors))
        sums = {
            key: errors.sums()
            for key, errors in measure(CLIP_METRICS, FrameErrors(*columns).in_order()).items()
        }
        return {key: total / count for key, (total, count) in sums.items()}

    def _append(self, frames: FrameErrors) -> None:
        for name, tensor in vars(frames).items():
            getattr(self, name).append(tensor)


class ReconstructionMetrics(MetricCollection):
    """All of `METRICS` over any number of batches.

    Args:
        root: joint that root-relative errors are relative to.
    """

    def __init__(self, *, root: int = WRIST) -> None:
        super().__init__([FrameMetrics(), ClipMetrics()], compute_groups=False)
        self.root = root

    def update(  # type: ignore[override]  # torchmetrics' own takes anything
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
        super().update(Comparison.of(predictions, geometry, batch, true_geometry, root=self.root))
