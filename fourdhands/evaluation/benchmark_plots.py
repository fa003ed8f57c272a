"""Plots of a benchmark's report: curves, joints, hands and sequences."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from fourdhands.evaluation.benchmark_report import BenchmarkReport, number
from fourdhands.evaluation.breakdown import Breakdown
from fourdhands.evaluation.plots import Series, draw_distribution, draw_joints, new_plot, png_of
from fourdhands.skeleton import Side

COLOURS: Final = ("#2f6fb5", "#d1793c", "#4c9a6a", "#8a63b0", "#b0504f", "#6b7785")
SIDE_COLOURS: Final = {Side.RIGHT: "#de7458", Side.LEFT: "#548ada"}
MOST_SEQUENCES: Final = 40
LONGEST_NAME: Final = 48


def draw_curves(report: BenchmarkReport) -> bytes | None:
    """Share of points within each distance, a curve for each alignment; PNG."""
    found = [(one, one.curve) for one in report.breakdowns if one.curve is not None]
    if not found:
        return None
    plot = new_plot(8.6, 4.2)
    axes = plot.subplots()
    for k, (one, curve) in enumerate(found):
        dashes = "-" if one.points == "joints" else "--"
        label = f"{one.label}\nAUC {number(curve.area, 4)}"
        colour = COLOURS[k % len(COLOURS)]
        axes.plot(1e3 * curve.thresholds, curve.share, dashes, color=colour, label=label)
    axes.set(xlabel="error (mm)", ylabel="share of points within it", ylim=(0, 1.01))
    axes.set_xlim(0, 1e3 * max(float(curve.thresholds[-1]) for _, curve in found))
    axes.grid(color="#e4e2dd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, labelspacing=1.0)
    return png_of(plot)


def draw_joint_errors(report: BenchmarkReport) -> bytes | None:
    """Mean error of each joint, right and left, a panel for each alignment; PNG."""
    found = _joints(report)
    if not found:
        return None
    plot = new_plot(11, 0.8 + 2.6 * len(found))
    panels = plot.subplots(len(found), 1, sharex=True, squeeze=False)[:, 0]
    for axes, one in zip(panels, found, strict=True):
        present = [side for side in reversed(Side) if np.isfinite(one.keypoints[side]).any()]
        draw_joints(
            axes,
            [
                Series(1e3 * one.keypoints[s], f"{s.name.lower()} hand", SIDE_COLOURS[s])
                for s in present
            ],
        )
        axes.set_title(one.label, fontsize=10)
        axes.margins(x=0.01)
    return png_of(plot)


def draw_hand_errors(report: BenchmarkReport) -> bytes | None:
    """How hands' mean joint errors are distributed, a panel for each alignment; PNG."""
    found = _joints(report)
    if not found:
        return None
    columns = min(len(found), 3)
    rows = -(-len(found) // columns)
    plot = new_plot(max(3.9 * columns, 6.5), 3.4 * rows)
    panels = plot.subplots(rows, columns, squeeze=False).flat
    for k, axes in enumerate(panels):
        if k >= len(found):
            axes.set_axis_off()
            continue
        hands = 1e3 * found[k].hands
        draw_distribution(axes, [Series(hands[np.isfinite(hands)], "hands", COLOURS[0])])
        axes.set_title(found[k].label, fontsize=10)
        axes.set_xlabel("mean joint error of a hand (mm); last bar: all beyond", fontsize=9)
    return png_of(plot)


def draw_sequences(report: BenchmarkReport) -> bytes | None:
    """Mean joint error of the sequences, worst first; PNG."""
    if report.ranking is None:
        return None
    errors = report.by_sequence(report.ranking)
    counted = [(name, 1e3 * error) for name, error in errors.items() if np.isfinite(error)]
    if len(counted) < 2:
        return None
    worst = sorted(counted, key=lambda one: -one[1])[:MOST_SEQUENCES]
    plot = new_plot(9.5, 1.1 + 0.23 * len(worst))
    axes = plot.subplots()
    places = np.arange(len(worst))
    axes.barh(places, [error for _, error in worst], 0.7, color=COLOURS[0])
    names = [_end_of(name) for name, _ in worst]
    axes.set_yticks(places, names, fontsize=8, parse_math=False)
    axes.set(ylim=(len(worst) - 0.4, -0.6))
    axes.set_xlabel(f"mean error (mm), {report.ranking.label}")
    mean = 1e3 * float(np.nanmean(report.ranking.images))
    axes.axvline(mean, color="#444444", linestyle="--", linewidth=1)
    axes.set_title(
        f"{len(worst)} of {len(counted)} sequences, worst first; dashed: mean of images, "
        f"{mean:.1f} mm",
        fontsize=10,
    )
    axes.spines[["top", "right"]].set_visible(False)
    return png_of(plot)


def _joints(report: BenchmarkReport) -> Sequence[Breakdown]:
    return [one for one in report.breakdowns if one.points == "joints"]


def _end_of(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"…{name[1 - LONGEST_NAME :]}"
