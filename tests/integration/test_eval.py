"""`eval.py` as a user runs it: results in a folder, or one line that says what is wrong."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import eval as eval_script
from fourdhands import config
from fourdhands.cli.main import run as run_command
from fourdhands.data.datamodule import DataConfig
from fourdhands.evaluation.metrics import METRICS
from fourdhands.evaluation.runs import EvaluationConfig
from fourdhands.export.checkpoint import describe
from fourdhands.hands.mano import HandModel
from fourdhands.models.network import TwoHandNetwork
from fourdhands.skeleton import Side
from fourdhands.training.runs import ReconstructionRun
from tests.helpers.clips import random_clip, write_set
from tests.helpers.runs import tiny_network

REPOSITORY = Path(eval_script.__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards, and the checkpoint of a network that has learned nothing."""
    folder = tmp_path_factory.mktemp("evaluation")
    rng = np.random.default_rng(0)
    for name in ("train", "test"):
        clips = [random_clip(rng, key=f"{name}{k}", num_frames=4) for k in range(4)]
        write_set(folder / name, [clips[:2], clips[2:]], name)
    torch.manual_seed(0)
    run = ReconstructionRun(
        network=tiny_network(),
        data=DataConfig(train=(folder / "train",), num_frames=2, gap=2),
    )
    network = TwoHandNetwork(run.network, HandModel.open().mean_pose)
    write_checkpoint(run, network, folder / "last.ckpt")
    moved = replace(run, data=replace(run.data, train=(folder / "gone",)))
    write_checkpoint(moved, network, folder / "moved.ckpt")
    (folder / "garbage.ckpt").write_bytes(b"not a checkpoint")
    (folder / "empty").mkdir()
    (folder / "misspelt.yaml").write_text("rooot: wrist\n")
    return folder


def write_checkpoint(run: ReconstructionRun, network: TwoHandNetwork, path: Path) -> None:
    weights = {f"network.{name}": weight for name, weight in network.state_dict().items()}
    torch.save({"state_dict": weights, "fourdhands": describe(config.to_dict(run))}, path)


def arguments(folder: Path, out: Path, changes: dict[str, str] | None = None) -> list[str]:
    options = {
        "--checkpoint": str(folder / "last.ckpt"),
        "--data": str(folder / "test"),
        "--out": str(out),
        "--num_workers": "0",
        "--pictures": "1",
    }
    options |= {f"--{name}": value.format(folder=folder) for name, value in (changes or {}).items()}
    return [word for option in options.items() for word in option]


def test_a_checkpoint_is_scored(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    command = [sys.executable, "eval.py", *arguments(folder, out)]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "MPJPE" in done.stdout
    assert "mm/frame^2" in done.stdout
    plain = json.loads((out / "metrics.json").read_text())
    assert plain["metrics"].keys() == METRICS.keys()
    direct = plain["metrics"].pop("epe_2d_direct_px")  # this network has no 2D branch
    assert (direct["model"], direct["ratio"]) == ({"value": None, "count": 0}, None)
    for figures in plain["metrics"].values():
        assert figures["model"]["value"] > 0
        assert figures["ratio"] == pytest.approx(
            figures["model"]["value"] / figures["mean_pose"]["value"]
        )
    assert (plain["clips"], plain["frames"]) == (4, 16)
    assert plain["labelled"] == {"clips": 4, "frames": 16, "hands": 32}
    # 4 clips of 4 frames, every frame once, though windows leave out every second frame
    assert plain["metrics"]["mpjpe_mm"]["model"]["count"] == 4 * 4 * 2 * 21
    assert plain["metrics"]["acceleration_error_m_per_s2"]["model"]["count"] == 4 * 2 * 2 * 21
    assert plain["provenance"]["mean_pose"] == f"the labels of {folder / 'train'}"
    for name in ("errors.png", "samples.png"):
        assert cv2.imread(str(out / name)).std() > 5
    assert sorted(path.name for path in out.iterdir()) == [
        "errors.png",
        "metrics.json",
        "samples.png",
    ]


def test_a_checkpoints_hands_are_refined_before_they_are_scored(
    folder: Path, tmp_path: Path
) -> None:
    """Hands that keep still in pictures that flicker: the network's hands shake, refined ones less.

    Windows are training's two frames, side by side.
    """
    clip = random_clip(np.random.default_rng(1), num_frames=12)
    still = {
        name: np.repeat(value[:1], 12, 0)
        for name, value in vars(clip).items()
        if isinstance(value, np.ndarray) and len(value) == 12
    }
    write_set(tmp_path / "still", [[replace(clip, **still)]], "still")
    changes = {"data": str(tmp_path / "still"), "pictures": "0"}
    refinement = {"refinement": str(REPOSITORY / "configs" / "refinement" / "default.yaml")}
    found = []
    for name, more in (("plain", {}), ("refined", refinement)):
        command = arguments(folder, tmp_path / name, changes | more)
        assert run_command("eval.py", eval_script.EVALUATE, command) == 0
        found.append(json.loads((tmp_path / name / "metrics.json").read_text())["metrics"])
    plain, refined = ({name: one["model"] for name, one in figures.items()} for figures in found)
    shaking = "acceleration_error_m_per_s2"
    assert plain[shaking]["count"] == refined[shaking]["count"] > 0
    assert refined[shaking]["value"] < 0.7 * plain[shaking]["value"]


def test_without_training_data_the_mean_pose_is_the_hand_models(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"checkpoint": "{folder}/moved.ckpt", "pictures": "0"}
    command = arguments(folder, tmp_path / "report", changes)
    assert run_command("eval.py", eval_script.EVALUATE, command) == 0
    assert "mean pose: from the hand model (no training data at hand)" in capsys.readouterr().out
    assert not (tmp_path / "report" / "samples.png").exists()


def test_single_hands_are_evaluated_beside_their_copies(folder: Path, tmp_path: Path) -> None:
    clip = random_clip(np.random.default_rng(0), sides=(Side.LEFT,))
    write_set(tmp_path / "left", [[clip]])
    plain = []
    for copied in ("false", "true"):
        changes = {"mirrored_copy": copied, "pictures": "0", "data": str(tmp_path / "left")}
        command = arguments(folder, tmp_path / copied, changes)
        assert run_command("eval.py", eval_script.EVALUATE, command) == 0
        plain.append(json.loads((tmp_path / copied / "metrics.json").read_text()))
        assert plain[-1]["provenance"]["settings"]["mirrored_copy"] is (copied == "true")
    assert plain[0]["labelled"] == plain[1]["labelled"] == {"clips": 1, "frames": 4, "hands": 4}
    first, second = (one["metrics"]["mpjpe_mm"] for one in plain)
    assert first["mean_pose"] == second["mean_pose"]  # labels of the copy count nowhere
    assert first["model"]["count"] == second["model"]["count"]
    assert first["model"]["value"] != second["model"]["value"]  # the network sees it


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoint": "{folder}/none.ckpt"}, "none.ckpt: no such checkpoint"),
        ({"checkpoint": "{folder}/garbage.ckpt"}, "garbage.ckpt: not a readable checkpoint"),
        ({"data": "{folder}/empty"}, "empty: no shards"),
        ({"data": "{folder}/none.yaml"}, "none.yaml does not exist"),
        ({"config": "{folder}/misspelt.yaml"}, "unknown key 'rooot', did you mean 'root'?"),
        ({"root": "elbow"}, "root is 'elbow'"),
        ({"mean_pose": "[{folder}/none]"}, "none: no shards"),
        ({"gap": "0"}, "data.gap is 0"),
        ({"out": "{folder}/last.ckpt"}, "last.ckpt is a file"),
    ],
)
def test_what_cannot_be_evaluated_is_said_in_one_line(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, str],
    message: str,
) -> None:
    out = tmp_path / "report"
    command = arguments(folder, out, changes)
    assert run_command("eval.py", eval_script.EVALUATE, command) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("eval.py: error: ")
    assert message in lines[0]
    assert not out.exists()


def test_the_shipped_configuration_is_valid() -> None:
    files = sorted((REPOSITORY / "configs" / "evaluation").glob("*.yaml"))
    assert files
    for file in files:
        config.load(EvaluationConfig, file)
