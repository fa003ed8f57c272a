"""From a checkpoint and images whose hands are hidden to the server's file, and back to figures."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from eval import EVALUATE
from fourdhands import config
from fourdhands.cli.main import main, run
from fourdhands.data.datamodule import DataConfig
from fourdhands.export.checkpoint import describe
from fourdhands.hands.mano import HandModel
from fourdhands.models.network import TwoHandNetwork
from fourdhands.training.runs import ReconstructionRun
from tests.helpers.official import convert
from tests.helpers.runs import tiny_network
from tests.unit.data.convert.test_ho3d import joints, opengl, write_evaluation


def evaluate(*words: object) -> int:
    return run("eval.py", EVALUATE, [str(word) for word in words])


def test_hidden_hands_become_a_submission_that_can_be_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, hidden, published = (tmp_path / name for name in ("raw", "hidden", "published"))
    hands = write_evaluation(raw)
    convert("ho3d_v2", raw, hidden)
    shutil.copytree(raw, tmp_path / "raw2")
    for name, points in (
        ("xyz", [joints(hand).tolist() for hand in hands]),
        ("verts", [opengl(hand.vertices).tolist() for hand in hands]),
    ):
        (tmp_path / "raw2" / f"evaluation_{name}.json").write_text(json.dumps(points))
    convert("ho3d_v2", tmp_path / "raw2", published)

    training = ReconstructionRun(
        network=tiny_network(), data=DataConfig(train=(hidden,), num_frames=1, gap=1)
    )
    torch.manual_seed(0)
    network = TwoHandNetwork(training.network, HandModel.open().mean_pose)
    weights = {f"network.{name}": weight for name, weight in network.state_dict().items()}
    checkpoint = tmp_path / "last.ckpt"
    torch.save(
        {"state_dict": weights, "fourdhands": describe(config.to_dict(training))}, checkpoint
    )

    flags = ("--protocol", "ho3d_v2", "--any_count", "true", "--num_workers", 0)
    images = ("--submission_list", raw / "evaluation.txt")
    made = ("--checkpoint", checkpoint, "--data", hidden / "test.json", *flags)
    out, zipped = tmp_path / "out", tmp_path / "out" / "pred.zip"
    assert evaluate(*made, "--out", out) == 1
    assert "the truth is hidden: --submission" in capsys.readouterr().err
    assert evaluate(*made, "--out", out, "--submission", zipped) == 1
    assert "--submission_list has to be HO3D's evaluation.txt" in capsys.readouterr().err
    assert evaluate(*made, "--out", out, "--submission", zipped, *images) == 0
    said = capsys.readouterr().out
    assert "4 images, joints and vertices" in said and "Procrustes" not in said
    assert sorted(path.name for path in out.iterdir()) == ["pred.zip", "predictions.npz"]

    # the file of predictions needs no data to become the same submission
    again = tmp_path / "again.zip"
    mine = ("--predictions", out / "predictions.npz", *flags)
    assert evaluate(*mine, "--out", tmp_path / "o2", "--submission", again, *images) == 0
    with zipfile.ZipFile(zipped) as one, zipfile.ZipFile(again) as other:
        assert one.read("pred.json") == other.read("pred.json")

    # when the labels come out, the submission has the figures of the predictions
    figures = []
    for source in (out / "predictions.npz", zipped):
        truth = ("--data", published / "test.json", "--out", tmp_path / "scores")
        assert evaluate("--predictions", source, *flags, *truth, *images) == 0
        figures.append(json.loads((tmp_path / "scores" / "benchmark.json").read_text())["figures"])
    assert figures[0].keys() == figures[1].keys()
    for name, figure in figures[0].items():
        assert figures[1][name] == pytest.approx(figure, rel=1e-7), name
    words = ["submission", "check", str(zipped), "--benchmark", "ho3d_v2"]
    assert main([*words, "--list", str(raw / "evaluation.txt")]) == 1
    assert "has 4 images, HO3D v2 has 11524" in capsys.readouterr().out
