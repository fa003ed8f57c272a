"""A benchmark's report as one HTML page that needs nothing else: tables, plots, pictures, rules."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from jinja2 import Environment, StrictUndefined

from fourdhands import __version__
from fourdhands.data.manifest import ShardSet
from fourdhands.evaluation.benchmark_cases import Case, draw_cases
from fourdhands.evaluation.benchmark_plots import (
    draw_curves,
    draw_hand_errors,
    draw_joint_errors,
    draw_sequences,
)
from fourdhands.evaluation.benchmark_report import (
    BenchmarkReport,
    describe,
    number,
    published_rows,
    rules,
)
from fourdhands.evaluation.published import published_for
from fourdhands.evaluation.samples import Pair
from fourdhands.files import replacing
from fourdhands.hands.mano import HandModel

TEMPLATE: Final = Path(__file__).with_name("benchmark_page.html")


def write_report(
    report: BenchmarkReport,
    pair: Pair,
    sets: Sequence[ShardSet],
    hand_model: HandModel,
    out: Path,
    *,
    pictures: int,
) -> None:
    """Print the tables; write `benchmark.json` and `report.html`.

    Args:
        report: of the pair.
        pair: predictions and truth.
        sets: where images are.
        hand_model: of the meshes.
        out: folder, which is there.
        pictures: images to draw of each kind: worst, median, best.
    """
    print(report.table())
    report.save_json(out / "benchmark.json")
    cases: tuple[Case, ...] = ()
    if report.ranking is not None:
        cases = draw_cases(report.ranking, pair, sets, hand_model, pictures)
    save_page(report, cases, out / "report.html")


def save_page(report: BenchmarkReport, cases: Sequence[Case], path: Path) -> None:
    """Write the page, whole or not at all; whatever comes from files is escaped."""
    with replacing(path) as partial:
        partial.write_text(page_of(report, cases), encoding="utf-8")


def page_of(report: BenchmarkReport, cases: Sequence[Case]) -> str:
    """The page.

    Args:
        report: of a method.
        cases: its worst, median and best images.
    """
    columns = describe(report.protocol)["columns"]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        version=__version__,
        report=report,
        protocol=report.protocol,
        figures=[
            (column, number(report.figures[column["key"]], _digits(column["key"])))
            for column in columns
        ],
        published=[
            (table, published_rows(table, report)) for table in published_for(report.protocol.name)
        ],
        plots=[
            (title, alternative, _source("png", image))
            for title, alternative, image in _plots(report)
            if image is not None
        ],
        ranking=report.ranking and report.ranking.label,
        cases=[(case, f"{case.error_mm:.1f}", _source("jpeg", case.jpeg)) for case in cases],
        rules=rules(report.protocol),
        settings=json.dumps(dict(report.settings), indent=1, default=str),
    )


def _plots(report: BenchmarkReport) -> list[tuple[str, str, bytes | None]]:
    return [
        (
            "Share of points within a distance (PCK)",
            "curves of the share of points whose error is below a threshold",
            draw_curves(report),
        ),
        (
            "By joint",
            "bars of each joint's mean error, right and left",
            draw_joint_errors(report),
        ),
        ("By hand", "histograms of hands' mean joint errors", draw_hand_errors(report)),
        ("By sequence", "bars of sequences' mean errors", draw_sequences(report)),
    ]


def _digits(key: str) -> int:
    return 3 if key.endswith("_mm") else 4


def _source(kind: str, image: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
