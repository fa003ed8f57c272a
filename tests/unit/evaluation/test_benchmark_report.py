"""What is written of a benchmark: beside papers, as JSON, as a page that needs nothing else."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fourdhands.data.manifest import ShardSet
from fourdhands.evaluation.benchmark import measure
from fourdhands.evaluation.benchmark_cases import draw_cases, find_photographs
from fourdhands.evaluation.benchmark_page import page_of
from fourdhands.evaluation.benchmark_report import BenchmarkReport, name_sequences
from fourdhands.evaluation.protocols import PROTOCOLS
from fourdhands.evaluation.published import PUBLISHED, PublishedTable
from fourdhands.evaluation.samples import HandSamples, Pair
from fourdhands.evaluation.sources import name_of
from fourdhands.hands.mano import HandModel
from fourdhands.structures import HandState
from tests.helpers.clips import random_clip, write_set
from tests.helpers.samples import random_pair, without

HOSTILE = "<script>alert('$x_1$')</script>&\"/0"


def report_of(name: str, pair: Pair, **changes: object) -> BenchmarkReport:
    report = BenchmarkReport.of(
        measure(PROTOCOLS[name], pair, any_count=True),
        pair.true,
        method="runs/last.ckpt",
        hashes={"checkpoint": {"runs/last.ckpt": "a" * 64}},
        settings={"gap": 5},
    )
    return replace(report, **changes)


def partly_labelled(seed: int, name: str = "scenes") -> Pair:
    pair = random_pair(seed)
    if PROTOCOLS[name].complete == "images":
        return pair
    return replace(pair, true=without(pair, seed=seed + 1).true)


def renamed(pair: Pair, folder: str) -> Pair:
    names = tuple(f"{folder}{number}/{k}" for k, number in enumerate(pair.true.sequence.tolist()))
    return Pair(replace(pair.predicted, names=names), replace(pair.true, names=names))


# ---- papers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", PUBLISHED, ids=lambda table: table.source)
def test_published_columns_are_columns_of_ours(table: PublishedTable) -> None:
    assert all(len(values) == len(table.columns) for _, values in table.rows)
    assert any(column.key for column in table.columns) and table.note
    if table.protocol not in PROTOCOLS:
        pytest.skip(f"{table.protocol} is not there yet")
    columns = {column.key: column for column in PROTOCOLS[table.protocol].columns}
    for column in table.columns:
        if column.key is None:
            continue
        unit = re.search(r"\((.*)\)", column.name)
        known = {"_cm": ("mm", 10), "_mm": ("mm", 1), "_auc": ("%", 100), "_f5": ("%", 100)}
        known |= {"_f15": ("%", 100), "_mm_per_frame2": ("mm/frame^2", 1)}
        end = next(end for end in known if columns[column.key].key.endswith(end))
        assert unit is None or (unit[1], column.factor) == known[end]


def test_our_figures_stand_in_the_papers_units() -> None:
    report = report_of("freihand", random_pair(0, sides=1))
    table = next(one for one in PUBLISHED if one.protocol == "freihand")
    ours = table.ours(report.figures)
    assert ours[0] == pytest.approx(10 * report.figures["xyz_procrustes_mean_cm"])
    assert ours[3] == pytest.approx(100 * report.figures["mesh_aligned_f15"])
    text = report.table()
    assert re.search(r"\nDaHyF +4\.0 +4\.7 +84\.8 +99\.8\n", text)
    assert f"{ours[0]:.1f}" in text and "not comparable: the benchmark has 3,960 images" in text


# ---- JSON ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROTOCOLS)
def test_json_is_finite(name: str, tmp_path: Path) -> None:
    pair = partly_labelled(1, name)
    unlabelled = pair.true.joints_valid.clone()
    unlabelled[..., 7] = False
    by_joint = PROTOCOLS[name].complete == "joints"
    pair = Pair(pair.predicted, replace(pair.true, joints_valid=unlabelled))
    report = report_of(name, pair)
    report.save_json(tmp_path / "benchmark.json")
    plain = json.loads((tmp_path / "benchmark.json").read_text(), parse_constant=pytest.fail)
    assert plain["figures"].keys() == report.figures.keys()
    assert [column["key"] for column in plain["protocol"]["columns"]] == list(report.figures)
    joints = [one for one in plain["breakdowns"] if one["points"] == "joints"]
    for one in joints:
        assert (one["joints_mean_mm"]["right"]["index3"] is None) == by_joint
        assert one["joints_mean_mm"]["all"]["index4"] > 0
        assert len(one["pck"]["share"]) == len(one["pck"]["thresholds_mm"]) == 100


def test_sequences_have_names() -> None:
    pair = renamed(random_pair(3), "capture")
    numbers = set(pair.true.sequence.tolist())
    assert name_sequences(pair.true) == {k: f"capture{k}" for k in numbers}
    flat = replace(pair.true, names=tuple(f"image{k}" for k in range(len(pair))))
    first = {int(k): f"image{pair.true.sequence.tolist().index(k)}" for k in numbers}
    assert name_sequences(flat) == first
    report = report_of("dexycb", pair)
    sequences = report.to_plain()["breakdowns"][0]["sequences_mean_mm"]
    assert sequences.keys() == {f"capture{k}" for k in numbers}
    alone = Pair(pair.predicted, replace(pair.true, sequence=torch.arange(len(pair))))
    assert not report_of("dexycb", alone).to_plain()["breakdowns"][0]["sequences_mean_mm"]


# ---- the page ------------------------------------------------------------------------------------


class Page(HTMLParser):
    """All tags with their attributes, and the text; fails where tags do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.open = "", [""]
        self.feed(text)
        assert self.open == [""]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def links(page: Page) -> Iterator[str]:
    for _, attributes in page.tags:
        yield from (attributes[name] or "" for name in ("src", "href") if name in attributes)


def test_a_page_needs_nothing_and_believes_nothing() -> None:
    pair = renamed(random_pair(4), HOSTILE)
    hashes = {"truth": {HOSTILE: "b" * 64}}
    report = report_of("dexycb", pair, method=HOSTILE, hashes=hashes, settings={"x": HOSTILE})
    assert report.ranking is not None
    cases = draw_cases(report.ranking, pair, (), HandModel.open(), 1)
    text = page_of(report, cases)
    page = Page(text)
    assert [one.rank for one in cases] == ["worst", "median", "best"]
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert all(link.startswith("data:image/") for link in links(page))
    assert "url(" not in text and "@import" not in text
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.text.count("<script>alert") >= 5  # as text: title, head, cases, hashes, settings
    for figure in PROTOCOLS["dexycb"].columns:
        assert figure.name in page.text
    assert "4DHands, table 3" in page.text and "HMP, table 4" in page.text
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 4 + len(cases)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_has_a_page(name: str) -> None:
    pair = partly_labelled(5, name)
    Page(page_of(report_of(name, pair), ()))


# ---- pictures ------------------------------------------------------------------------------------


def posed(count: int, hand_model: HandModel) -> HandSamples:
    """Flat open hands that stand before the camera, each image's hand turned somewhat more."""
    sides = (count, 2)
    angle = torch.linspace(0, 1, count)
    turn = torch.eye(3).repeat(count, 1, 1)
    turn[:, 0, 0], turn[:, 0, 1] = angle.cos(), -angle.sin()
    turn[:, 1, 0], turn[:, 1, 1] = angle.sin(), angle.cos()
    state = HandState(
        turn[:, None].expand(*sides, 3, 3),
        torch.eye(3).expand(*sides, 15, 3, 3),
        torch.zeros(*sides, 10),
        torch.tensor([[0.1, 0.0, 0.6], [-0.1, 0.0, 0.6]]).expand(*sides, 3),
    )
    geometry = hand_model(state)
    true = random_pair(0, count).true
    return replace(
        true, joints=geometry.joints.double(), vertices=geometry.vertices.double(), hands=state
    )


def test_cases_show_meshes_where_there_are_any() -> None:
    hand_model = HandModel.open()
    true = posed(5, hand_model)
    turned = true.take(torch.tensor([0, 2, 4, 1, 3]))
    predicted = replace(true, joints=turned.joints, vertices=turned.vertices)
    relative = replace(
        predicted,
        joints=predicted.joints - predicted.joints[:, :, :1],
        vertices=predicted.vertices - predicted.joints[:, :, :1],
    )
    wide, narrow = [], []
    for samples in (predicted, relative):
        report = report_of("interhand26m_interwild", Pair(samples, true))
        assert report.ranking is not None
        cases = draw_cases(report.ranking, Pair(samples, true), (), hand_model, 1)
        wide.append([(one.rank, one.name, round(one.error_mm, 6)) for one in cases])
        narrow.append(len(cases[0].jpeg))
    assert wide[0] == wide[1] and wide[0][0][2] > wide[0][1][2] > wide[0][2][2]
    scattered = Pair(*(replace(part, vertices=part.vertices.flip(2)) for part in (predicted, true)))
    mixed = scattered.true.vertices[:, :, torch.randperm(778)]
    scattered = Pair(scattered.predicted, replace(scattered.true, vertices=mixed))
    report = report_of("interhand26m_interwild", scattered)
    assert report.ranking is not None
    skeletons = draw_cases(report.ranking, scattered, (), hand_model, 1)
    assert len(skeletons[0].jpeg) < min(narrow) / 1.5  # two cells, not six


def test_photographs_are_found_by_the_record_and_without(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clips = [random_clip(rng, key=f"c{k}", sequence=f"s{k}", num_frames=2 + k) for k in range(3)]
    shards = write_set(tmp_path, [clips[:2], clips[2:]])
    one = ShardSet("set", "set", tuple(shards))
    names = [name_of(clip.meta, number) for clip in clips for number in clip.frame_ids]
    wanted = {7 + place: names[place] for place in (3, 6)}  # after seven images of other data
    hand_model = HandModel.open()
    found = find_photographs([one], wanted, 7 + len(names), hand_model)
    image = cv2.imdecode(np.frombuffer(clips[2].frames[1], np.uint8), cv2.IMREAD_COLOR)
    assert (found[names[6]].image == image[..., ::-1]).all()
    assert found[names[3]].intrinsics.numpy() == pytest.approx(clips[1].intrinsics[1], rel=1e-6)
    (tmp_path / "set.json").unlink()
    again = find_photographs([one], wanted, 7 + len(names), hand_model)
    assert again.keys() == found.keys() == set(wanted.values())


def test_an_unlabelled_benchmark_has_no_cases() -> None:
    pair = random_pair(7)
    report = report_of("dexycb", pair)
    assert report.ranking is not None
    nothing = replace(report.ranking, counts=np.zeros_like(report.ranking.counts))
    assert draw_cases(nothing, pair, (), HandModel.open(), 2) == ()
