"""What people read of a benchmark: a table and `benchmark.json`."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from fourdhands import __version__
from fourdhands.evaluation.protocols import Protocol
from fourdhands.files import replacing


@dataclass(frozen=True)
class BenchmarkReport:
    """The figures of one method.

    Attributes:
        protocol: their rules.
        figures: by key; NaN where nothing could be counted.
        images: that were compared.
        method: what made the predictions.
        hashes: sha256 of what decides the figures, by name.
    """

    protocol: Protocol
    figures: dict[str, float]
    images: int
    method: str
    hashes: dict[str, str]

    def table(self) -> str:
        """The figures in lines of text."""
        names = [column.name for column in self.protocol.columns]
        width = max(map(len, names))
        lines = [
            f"{name:<{width}}  {_number(self.figures[column.key])}"
            for name, column in zip(names, self.protocol.columns, strict=True)
        ]
        title = f"{self.method}: {self.protocol.title}, {self.images:,} images"
        note = [self.protocol.note] if self.protocol.note else []
        return "\n".join((title, *note, "", *lines))

    def save_json(self, path: Path) -> None:
        """Write everything, at once; figures that are not there are null."""
        plain = {
            "format_version": 1,
            "version": __version__,
            "protocol": self.protocol.name,
            "note": self.protocol.note,
            "method": self.method,
            "images": self.images,
            "hashes": self.hashes,
            "figures": {k: None if math.isnan(v) else v for k, v in self.figures.items()},
        }
        with replacing(path) as partial:
            partial.write_text(json.dumps(plain, indent=2, allow_nan=False) + "\n")


def _number(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.6f}"
