"""What people read of a benchmark: tables, also beside papers' figures, and `benchmark.json`.

`benchmark_page` makes the page that shows them, with plots and pictures.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fourdhands import __version__
from fourdhands.evaluation.benchmark import ProtocolMetrics
from fourdhands.evaluation.breakdown import Breakdown
from fourdhands.evaluation.protocols import Protocol
from fourdhands.evaluation.published import PublishedTable, published_for
from fourdhands.evaluation.samples import HandSamples
from fourdhands.evaluation.wording import label_of, meaning_of
from fourdhands.files import replacing
from fourdhands.skeleton import JOINT_NAMES, Side

FORMAT_VERSION: Final = 2
MISSING: Final = "n/a"
"""Where nothing could be counted."""
OTHER: Final = "-"
"""Where a paper prints nothing, or we count nothing like it."""

Hashes = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class BenchmarkReport:
    """The figures of one method.

    Attributes:
        protocol: their rules.
        figures: by key; NaN where nothing could be counted.
        breakdowns: of the errors, images in the order of time.
        images: that were compared.
        sequences: (N,) numbers of the images' sequences, in the order of time.
        sequence_names: of them, by number.
        method: what made the predictions.
        hashes: sha256 of what decides the figures: kind, path, hash.
        settings: how predictions were made, and what was asked for.
    """

    protocol: Protocol
    figures: dict[str, float]
    breakdowns: tuple[Breakdown, ...]
    images: int
    sequences: NDArray[np.int64]
    sequence_names: Mapping[int, str]
    method: str
    hashes: Hashes
    settings: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        metrics: ProtocolMetrics,
        true: HandSamples,
        *,
        method: str,
        hashes: Hashes,
        settings: Mapping[str, Any],
    ) -> "BenchmarkReport":
        """What was measured of all images of the truth."""
        return cls(
            metrics.protocol,
            metrics.compute(),
            metrics.breakdowns.compute(),
            images=len(true),
            sequences=true.sequence[true.in_order()].numpy(),
            sequence_names=name_sequences(true),
            method=method,
            hashes=hashes,
            settings=settings,
        )

    @property
    def is_whole(self) -> bool:
        """Whether the official number of images was scored, as far as anybody knows it."""
        return not self.protocol.counts or self.images in self.protocol.counts.values()

    @cached_property
    def ranking(self) -> Breakdown | None:
        """Whose joint errors tell good images from bad: the first that does not count place."""
        joints = [one for one in self.breakdowns if one.points == "joints"]
        placed = [one for one in joints if label_of(one.alignment) != "absolute"]
        return next(iter(placed + joints), None)

    def by_sequence(self, breakdown: Breakdown) -> dict[str, float]:
        """Mean errors (m) by name; empty if each image is a sequence of its own."""
        if len(self.sequence_names) == len(self.sequences):
            return {}
        found = breakdown.by_sequence(self.sequences)
        return {self.sequence_names[number]: error for number, error in found.items()}

    def table(self) -> str:
        """The figures in lines of text, then beside those of papers."""
        title = f"{self.method}: {self.protocol.title}, {self.images:,} images"
        rows = [
            (column.name, number(self.figures[column.key], 6)) for column in self.protocol.columns
        ]
        lines = [title, *([self.protocol.note] if self.protocol.note else []), "", *_aligned(rows)]
        for table in published_for(self.protocol.name):
            lines += ["", f"beside {table.source}", *_aligned(published_rows(table, self))]
            lines += [table.note]
        if not self.is_whole:
            lines += [
                "",
                f"not comparable: the benchmark has {self.protocol.counts_in_words} images",
            ]
        return "\n".join(lines)

    def to_plain(self) -> dict[str, Any]:
        """Everything but single errors, as JSON values; figures that are not there are None."""
        return {
            "format_version": FORMAT_VERSION,
            "version": __version__,
            "protocol": describe(self.protocol),
            "method": self.method,
            "images": self.images,
            "settings": dict(self.settings),
            "hashes": {kind: dict(paths) for kind, paths in self.hashes.items()},
            "figures": {key: _finite(value) for key, value in self.figures.items()},
            "breakdowns": [self._plain_breakdown(one) for one in self.breakdowns],
            "published": [_plain_table(table, self) for table in published_for(self.protocol.name)],
        }

    def save_json(self, path: Path) -> None:
        """Write `to_plain`, at once."""
        with replacing(path) as partial:
            partial.write_text(json.dumps(self.to_plain(), indent=2, allow_nan=False) + "\n")

    def _plain_breakdown(self, one: Breakdown) -> dict[str, Any]:
        plain: dict[str, Any] = {
            "alignment": label_of(one.alignment),
            "points": one.points,
            "hands": int((one.counts > 0).sum()),
            "sequences_mean_mm": {k: _mm(v) for k, v in self.by_sequence(one).items()},
        }
        if one.points == "joints":
            plain["joints_mean_mm"] = {
                "all": _by_joint(one.pooled),
                **{side.name.lower(): _by_joint(one.keypoints[side]) for side in Side},
            }
        if one.curve is not None:
            plain["pck"] = {
                "auc": _finite(one.curve.area),
                "thresholds_mm": [round(1e3 * float(x), 9) for x in one.curve.thresholds],
                "share": [_finite(float(x)) for x in one.curve.share],
            }
        return plain


def number(value: float | None, digits: int) -> str:
    """A figure as text."""
    if value is None:
        return OTHER
    return f"{value:.{digits}f}" if math.isfinite(value) else MISSING


def published_rows(table: PublishedTable, report: BenchmarkReport) -> list[tuple[str, ...]]:
    """Heads, methods and the reported one last, in the papers' units."""
    arrows = {"lower": "↓", "higher": "↑"}
    rows = [*table.rows, ("this", table.ours(report.figures))]
    digits = [column.digits for column in table.columns]
    return [
        ("method", *(f"{column.name} {arrows[column.better]}" for column in table.columns)),
        *((name, *map(number, values, digits)) for name, values in rows),
    ]


def describe(protocol: Protocol) -> dict[str, Any]:
    """A protocol's definition as JSON values; functions are named."""
    return {
        field.name: getattr(protocol, field.name)
        for field in fields(protocol)
        if field.name != "columns"
    } | {
        "columns": [
            {
                field.name: label_of(value) if callable(value) else value
                for field in fields(column)
                for value in (getattr(column, field.name),)
            }
            for column in protocol.columns
        ]
    }


def rules(protocol: Protocol) -> dict[str, str]:
    """What the names of alignments and statistics in a protocol mean, in a sentence each."""
    parts = [part for column in protocol.columns for part in (column.alignment, column.statistic)]
    return {label_of(part): meaning_of(part) for part in parts}


def name_sequences(samples: HandSamples) -> dict[int, str]:
    """Names of sequences by number: the folder that their images are named in, or the first image.

    Names of images of converted sets are SEQUENCE/CAMERA/FRAME.
    """
    numbers = samples.sequence.tolist()
    places = sorted(range(len(numbers)), key=lambda k: numbers[k])
    found: dict[int, str] = {}
    first: dict[int, str] = {}
    for sequence, images in groupby(places, key=lambda k: numbers[k]):
        names = [samples.names[k] for k in images]
        folders = {name.rpartition("/")[0] for name in names}
        first[sequence] = names[0]
        found[sequence] = (folders.pop() if len(folders) == 1 else "") or names[0]
    return found if len(set(found.values())) == len(found) else first


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Names to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows:
        right = (f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        yield "  ".join((f"{name:<{widths[0]}}", *right))


def _plain_table(table: PublishedTable, report: BenchmarkReport) -> dict[str, Any]:
    return {
        "source": table.source,
        "note": table.note,
        "columns": [
            {"name": c.name, "key": c.key, "factor": c.factor, "better": c.better}
            for c in table.columns
        ],
        "rows": {name: list(values) for name, values in table.rows},
        "this": [None if x is None else _finite(x) for x in table.ours(report.figures)],
    }


def _by_joint(errors: NDArray[np.float64]) -> dict[str, float | None]:
    return dict(zip(JOINT_NAMES, map(_mm, errors.tolist()), strict=True))


def _mm(metres: float) -> float | None:
    return _finite(1e3 * metres)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
