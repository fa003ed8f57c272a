"""One page about a reconstruction: what was seen when, how sure, how well it fits, what to know."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fourdhands.files import replacing
from fourdhands.rendering.overlay import SIDE_COLOURS
from fourdhands.skeleton import Side
from fourdhands.video.phases import Stopwatch
from fourdhands.video.results import VideoHands

_LINES: Final = ("-", "--", "-.", ":")
"""Of the people in turn."""
NEAR: Final = 0.1
"""Parts of a hand's box within which its joints count as lying on what was detected."""
_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em;"
    "color:#282c34}table{border-collapse:collapse}td,th{padding:.2em 1em .2em 0;text-align:left}"
    "th{white-space:nowrap}"
    "img,video{max-width:100%}"
)


def write_summary(
    hands: VideoHands, name: str, watch: Stopwatch, written: Sequence[str], path: Path
) -> None:
    """Write the page, which needs nothing but the overlay beside it.

    Args:
        hands: the result.
        name: of the video.
        watch: of the run.
        written: files beside it.
        path: of the page.
    """
    rows = "".join(
        f"<tr><th>{html.escape(key)}</th><td>{html.escape(value)}</td></tr>"
        for key, value in figures(hands, watch).items()
    )
    notes = _list("What to know", [str(note) for note in hands.notes])
    endings = _list("Where hands were lost", [str(ending) for ending in hands.endings])
    video = '<video controls src="overlay.mp4"></video>' if "overlay.mp4" in written else ""
    if "overlay.png" in written:
        video = '<img src="overlay.png" alt="hands">'
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f"<title>{html.escape(name)}</title><style>{_STYLE}</style>"
        f"<h1>{html.escape(name)}</h1><table>{rows}</table>{video}"
        f'<h2>Over time</h2><img alt="confidence and distance over time" src="{_plot(hands)}">'
        f"{notes}{endings}"
    )
    with replacing(path) as partial:
        partial.write_text(page, encoding="utf-8")


def figures(hands: VideoHands, watch: Stopwatch) -> dict[str, str]:
    """The figures of the page by their names."""
    off = hands.reprojection()
    known = off[np.isfinite(off)]
    found = {
        "frames": f"{hands.num_frames} at {float(hands.fps):.4g} a second, "
        f"{hands.image_size[0]} x {hands.image_size[1]} pixels",
        "focal length": f"{hands.intrinsics[0, 0]:.0f} pixels ({hands.focal_length_source})",
        "camera": str(hands.camera_source),
    }
    for g in range(len(hands.valid)):
        for side in Side:
            seen, filled = hands.observed[g, :, side].sum(), hands.completed[g, :, side].sum()
            person = f"person {g + 1}, " if len(hands.valid) > 1 else ""
            found[f"{person}{side.name.lower()} hand"] = f"seen {seen} times, filled in {filled}"
    if len(known):
        found["joints to detected joints"] = (
            f"median {100 * np.median(known):.1f} % of the hand's box; "
            f"{100 * (known < NEAR).mean():.1f} % of hands within {100 * NEAR:.0f} %"
        )
    before = hands.acceleration(hands.frame_joints)
    found["acceleration of joints"] = (
        f"{hands.acceleration(hands.joints):.1f} m/s², {before:.1f} before refinement"
    )
    found["time"] = str(watch)
    return found


def _list(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{html.escape(line)}" for line in lines)
    return f"<h2>{title}</h2><ul>{items}</ul>"


def _plot(hands: VideoHands) -> str:
    """Confidence and distance over time, as a data URL."""
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1, sharex=True)
    off = hands.reprojection()
    times = hands.times
    for g in range(len(hands.valid)):
        for side in Side:
            colour = tuple(value / 255 for value in SIDE_COLOURS[side])
            confidence = np.where(hands.observed[g, :, side], hands.confidence[g, :, side], np.nan)
            label = side.name.lower() + (f" {g + 1}" if len(hands.valid) > 1 else "")
            style = _LINES[g % len(_LINES)]
            top.plot(times, confidence, style, color=colour, label=label)
            filled = hands.completed[g, :, side]
            top.plot(times[filled], np.zeros(filled.sum()), "|", color=colour)
            bottom.plot(times, 100 * off[g, :, side], style, color=colour)
    for cut in times[1:][np.diff(hands.shot) > 0]:
        top.axvline(cut, color="grey", linewidth=0.8)
        bottom.axvline(cut, color="grey", linewidth=0.8)
    top.set(ylabel="confidence", ylim=(-0.05, 1.05))
    top.legend(loc="lower right", ncols=len(hands.valid))
    bottom.axhline(100 * NEAR, color="grey", linewidth=0.8, linestyle="--")
    bottom.set(ylabel="distance, % of box", xlabel="seconds", ylim=(0, None))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
