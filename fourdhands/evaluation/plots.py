"""Plots that reports have in common: errors of hands and of joints, side by side for several."""

import io
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Plot
from numpy.typing import NDArray

from fourdhands.skeleton import JOINT_NAMES

LEGEND_SHARE: Final = 0.22
"""Height that is free for the legend, as a share of what is drawn."""


class Series(NamedTuple):
    """What is drawn in one colour: errors in mm, of hands or of joints."""

    values: NDArray[np.float64]
    label: str
    colour: str


def new_plot(width: float, height: float) -> Plot:
    """An empty plot, inches, that no window is opened for."""
    plot = Plot(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(plot)
    return plot


def png_of(plot: Plot) -> bytes:
    """A plot as a file's bytes."""
    file = io.BytesIO()
    plot.savefig(file, format="png")
    return file.getvalue()


def draw_distribution(axes: Axes, several: Sequence[Series]) -> None:
    """Histogram of hands' errors; the last bin holds what lies beyond."""
    together = np.concatenate([one.values for one in several])
    end = float(np.percentile(together, 99.5)) if len(together) else 1.0
    edges = np.linspace(0.0, max(end, 1e-6), 49).tolist()
    for values, label, colour in several:
        median = float(np.median(values)) if len(values) else float("nan")
        axes.hist(
            values.clip(max=end),
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
    finish(axes)


def draw_joints(axes: Axes, several: Sequence[Series]) -> None:
    """Bars of each joint's mean error: (21,)."""
    positions, width = np.arange(len(JOINT_NAMES)), 0.8 / len(several)
    for k, (values, label, colour) in enumerate(several):
        shift = 0.4 - width * (k + 0.5)
        axes.bar(positions + shift, values, width, color=colour, label=label)
    axes.set_xticks(positions, JOINT_NAMES, rotation=60, ha="right", fontsize=8)
    axes.set(ylabel="mean error (mm)")
    finish(axes, legend_columns=len(several))


def finish(axes: Axes, legend_columns: int = 1) -> None:
    """Put the legend above everything drawn, what was drawn last first, as its bars are."""
    axes.margins(y=LEGEND_SHARE)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1],
        labels[::-1],
        loc="upper right",
        ncols=legend_columns,
        framealpha=1,
        edgecolor="none",
    )
    axes.spines[["top", "right"]].set_visible(False)
