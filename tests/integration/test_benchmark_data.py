"""Benchmarks from converted sets and checkpoints: their split, their labels, the scored frame."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eval import EVALUATE
from fourdhands import config
from fourdhands.cli.main import main, run
from fourdhands.data.datamodule import DataConfig
from fourdhands.data.manifest import find_shards
from fourdhands.evaluation.predictions_file import load_samples, save_samples
from fourdhands.evaluation.protocols import PROTOCOLS
from fourdhands.evaluation.sources import truth_of
from fourdhands.export.checkpoint import describe
from fourdhands.hands.mano import HandModel
from fourdhands.models.network import TwoHandNetwork
from fourdhands.skeleton import WRIST, Side
from fourdhands.training.runs import ReconstructionRun
from tests.helpers.clips import random_clip, write_set
from tests.helpers.official import convert
from tests.helpers.runs import tiny_network
from tests.helpers.samples import random_pair
from tests.unit.data.convert.test_coco_wholebody import write_coco_wholebody
from tests.unit.data.convert.test_hic import ONLY_RIGHT, write_hic


def evaluate(*words: object) -> int:
    return run("eval.py", EVALUATE, [str(word) for word in words])


def figures(folder: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((folder / "benchmark.json").read_text())["figures"]
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips as rendered scenes' and their splits, and a network that has learned nothing."""
    place = tmp_path_factory.mktemp("scenes")
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        clips = [random_clip(rng, key=f"{split}{k}", sequence=f"s{k}") for k in range(3)]
        write_set(place, [[replace(c, dataset=f"synthetic-{split}-0") for c in clips]], split)
    torch.manual_seed(0)
    settings = DataConfig(train=(place / "train.json",), num_frames=3, gap=1)
    learned = ReconstructionRun(network=tiny_network(), data=settings)
    network = TwoHandNetwork(learned.network, HandModel.open().mean_pose)
    weights = {f"network.{name}": weight for name, weight in network.state_dict().items()}
    state = {"state_dict": weights, "fourdhands": describe(config.to_dict(learned))}
    torch.save(state, place / "last.ckpt")
    return place


def test_the_scored_frame_has_a_slot(place: Path, tmp_path: Path) -> None:
    flags = ("--checkpoint", place / "last.ckpt", "--data", place / "test.json")
    flags += ("--protocol", "scenes", "--num_workers", 0)
    for name, extra in (
        ("whole", ()),
        ("centre", ("--target", "centre")),
        ("last", ("--target", 2)),
        ("alone", ("--num_frames", 1)),
        ("alone centre", ("--num_frames", 1, "--target", "centre")),
    ):
        assert evaluate(*flags, "--out", tmp_path / name, *extra) == 0
    hands = {path.name: load_samples(path / "predictions.npz") for path in tmp_path.iterdir()}
    assert len({one.names for one in hands.values()}) == 1
    assert len(hands["centre"]) == 12  # as many as single images
    # the second frame of four stands in the middle of three either way
    assert hands["centre"].joints[1].allclose(hands["whole"].joints[1], atol=1e-5)
    assert hands["last"].joints[2].allclose(hands["whole"].joints[2], atol=1e-5)
    assert not hands["centre"].joints[0].allclose(hands["whole"].joints[0], atol=1e-5)
    assert figures(tmp_path / "alone") == figures(tmp_path / "alone centre")
    assert figures(tmp_path / "centre")["mpjpe_mm"] > 0


def test_our_own_metrics_count_the_same_frames_with_a_target(place: Path, tmp_path: Path) -> None:
    flags = ("--checkpoint", place / "last.ckpt", "--data", place / "test.json")
    flags += ("--num_workers", 0, "--pictures", 1, "--target", "centre")
    assert evaluate(*flags, "--out", tmp_path / "own") == 0
    own = json.loads((tmp_path / "own" / "metrics.json").read_text())
    assert own["provenance"]["settings"]["target"] == 1
    assert evaluate(*flags, "--protocol", "scenes", "--out", tmp_path / "by protocol") == 0
    found = figures(tmp_path / "by protocol")
    for key in ("mpjpe_mm", "pa_mpjpe_mm", "epe_2d_px", "acceleration_error_m_per_s2"):
        assert found[key] == pytest.approx(own["metrics"][key]["model"]["value"], rel=1e-4), key


def test_slots_and_splits_that_do_not_fit(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--checkpoint", place / "last.ckpt", "--out", tmp_path, "--num_workers", 0)
    test, train = ("--data", place / "test.json"), ("--data", place / "train.json")
    for words, said in (
        ((*test, "--protocol", "scenes", "--target", 3), "slots are 0 to 2"),
        ((*test, "--protocol", "scenes", "--hold", "true"), "hands cannot be held"),
        ((*train, "--protocol", "scenes"), "is counted on synthetic test"),
        ((*test, "--protocol", "h2o"), "is synthetic-test-0 test, H2O is counted on h2o test"),
    ):
        assert evaluate(*flags, *words) == 1
        assert said in capsys.readouterr().err


def test_a_photograph_of_several_persons(tmp_path: Path) -> None:
    """From COCO's file with its areas to AP; a person who is missed costs recall."""
    write_coco_wholebody(tmp_path / "raw")
    convert("coco_wholebody", tmp_path / "raw", tmp_path / "shards")
    shards = tmp_path / "shards" / "val.json"
    true = truth_of([find_shards(shards, tmp_path)], HandModel.open())
    assert set(true.area.tolist()) == {4000.0}
    assert true.frame.tolist().count(139) == 3
    missed = true.names.index("000000000139-12/0/139")
    found = true.joints_2d_valid.clone()
    found[missed] = False
    predicted = replace(true, joints_2d_valid=found)
    save_samples(predicted, tmp_path / "mine.npz")
    flags = ("--protocol", "coco_wholebody", "--data", shards, "--out", tmp_path / "out")
    assert evaluate("--predictions", tmp_path / "mine.npz", *flags) == 0
    result = figures(tmp_path / "out")
    # three left hands are labelled and two right ones; the boxed hand has no joints
    assert result["left_ar"] == pytest.approx(2 / 3) and result["right_ar"] == 0.5
    assert result["left_ap"] == pytest.approx(67 / 101)


def test_a_hand_that_is_shown_without_a_mesh_counts_on_hic(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_hic(tmp_path / "raw")
    convert("hic", tmp_path / "raw", tmp_path / "shards")
    shards = tmp_path / "shards" / "test.json"
    true = truth_of([find_shards(shards, tmp_path)], HandModel.open())
    assert (true.handedness == 1).all()
    save_samples(true, tmp_path / "mine.npz")
    flags = ("--protocol", "hic", "--data", shards, "--out", tmp_path / "out")
    assert evaluate("--predictions", tmp_path / "mine.npz", *flags) == 0
    assert "not regressed from meshes: --mano names no hand model" in capsys.readouterr().out
    assert figures(tmp_path / "out")["mrrpe_mm"] == 0
    # a method that answers a left hand where there is no mesh is as far off as that hand stands
    joints = true.joints.clone()
    k = [name.rsplit("/", 1)[1] for name in true.names].index(str(ONLY_RIGHT))
    joints[k, Side.LEFT] = torch.tensor((0.0, 0.3, 0.4))
    save_samples(replace(true, joints=joints), tmp_path / "mine.npz")
    assert evaluate("--predictions", tmp_path / "mine.npz", *flags) == 0
    assert not true.joints_valid[k, Side.LEFT, WRIST]
    assert figures(tmp_path / "out")["mrrpe_mm"] == pytest.approx(500 / len(true))


def test_joints_are_regressed_where_there_is_a_hand_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = random_pair(0)
    for name, samples in (("mine", pair.predicted), ("truth", pair.true)):
        save_samples(samples, tmp_path / f"{name}.npz")
    assets = HandModel.open().assets
    monkeypatch.setattr("fourdhands.evaluation.benchmark_runs.load_assets", lambda folder: assets)
    flags = ("--predictions", tmp_path / "mine.npz", "--data", tmp_path / "truth.npz")
    flags += ("--protocol", "interhand26m_intaghand")
    assert evaluate(*flags, "--out", tmp_path / "given") == 0
    assert "not regressed" in capsys.readouterr().out
    assert evaluate(*flags, "--out", tmp_path / "regressed", "--mano", tmp_path) == 0
    assert "not regressed" not in capsys.readouterr().out
    given, regressed = (figures(tmp_path / name)["mpjpe_mm"] for name in ("given", "regressed"))
    assert given != pytest.approx(regressed, rel=1e-3)


def test_every_protocol_states_its_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["protocols"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(PROTOCOLS)
    for name, protocol in PROTOCOLS.items():
        assert main(["protocols", name]) == 0
        out = capsys.readouterr().out
        for what in ("data", "images", "root", "scaling", "joints", "meshes", "counted"):
            assert f"  {what} " in out
        assert all(column.key in out for column in protocol.columns)
        looks_at_meshes = any(column.points == "vertices" for column in protocol.columns)
        assert bool(protocol.meshes) == looks_at_meshes
    assert main(["protocols", "hicc"]) == 1
