"""Training the motion prior from end to end: a tiny run, pictures, resumption, evaluation."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from fourdhands.cli.main import main
from fourdhands.data.motion.source import MotionDataConfig
from fourdhands.evaluation.motion_report import MotionEvaluation, evaluate_motion_prior
from fourdhands.export.checkpoint import read_checkpoint
from fourdhands.export.motion_prior import load_motion_prior
from fourdhands.training.motion_prior import MotionPriorRun, train_motion_prior
from fourdhands.training.optimizer import OptimizerConfig
from fourdhands.training.runs import TrainerConfig
from tests.helpers.motion import SMALL_SET, TINY
from tests.helpers.runs import stop_at


def tiny_run(folder: Path, steps: int = 6) -> MotionPriorRun:
    return MotionPriorRun(
        network=TINY,
        data=MotionDataConfig(generated=SMALL_SET, batch_size=8, windows=6),
        optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=2),
        trainer=TrainerConfig(
            max_steps=steps,
            accelerator="cpu",
            log_every_steps=2,
            val_every_steps=6,
            checkpoint_every_steps=3,
            pictures=1,
        ),
        start_windows=100,
        out=folder,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("motion") / "run"
    train_motion_prior(tiny_run(folder))
    return folder


def test_a_run_leaves_everything(trained: Path) -> None:
    assert {p.name for p in trained.iterdir()} == {
        *("config.yaml", "log", "pictures", "last.ckpt", "best.ckpt")
    }
    with Image.open(trained / "pictures" / "step-000006.webp") as film:
        assert film.n_frames > 30  # type: ignore[attr-defined]
    for name in ("step-000006.png", "step-000006-statistics.png"):
        with Image.open(trained / "pictures" / name) as picture:
            assert min(picture.size) > 200
    with (trained / "log" / "from-000000" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for term in ("rotations", "joints", "velocities", "kl", "completion", "guess", "match"):
        assert any(row[f"train/{term}"] for row in rows)
    (val,) = [row for row in rows if row["val/mpjpe_mm"]]
    assert 0 < float(val["val/ratio_to_slerp_16"]) < 2
    assert 0.5 < float(val["val/aggregate_std"]) < 2


def test_the_prior_comes_back_from_its_checkpoint(trained: Path) -> None:
    prior = load_motion_prior(trained / "last.ckpt")
    assert prior.config == TINY
    assert prior.coupling.abs().max() > 0.02  # measured on the hands that move together
    drawn = prior.sample(2, torch.arange(200) / 30, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (2, 200, 2, 15, 3, 3)
    assert drawn.isfinite().all()


def test_a_resumed_run_is_the_same_run(trained: Path, tmp_path: Path) -> None:
    whole = read_checkpoint(trained / "last.ckpt")["state_dict"]
    cut = tiny_run(tmp_path / "cut")
    cut = replace(cut, trainer=replace(cut.trainer, pictures=0))
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 3, 15)
        with pytest.raises(SystemExit):
            train_motion_prior(cut)
    train_motion_prior(replace(cut, resume=tmp_path / "cut" / "last.ckpt"))
    other = read_checkpoint(tmp_path / "cut" / "last.ckpt")["state_dict"]
    assert whole.keys() == other.keys()
    for name, weight in whole.items():
        assert torch.equal(weight, other[name]), name


def test_the_report(trained: Path, tmp_path: Path) -> None:
    text = evaluate_motion_prior(
        MotionEvaluation(
            trained / "last.ckpt", tmp_path, generated=SMALL_SET, windows=4, learn_windows=60
        )
    )
    assert (tmp_path / "statistics.png").is_file()
    assert "GMM prior" in text and "HMP, optimised" in text
    figures = json.loads((tmp_path / "metrics.json").read_text())
    for table in ("15 fps", "30 fps", "60 fps", "noise"):
        assert figures[table]["slerp"]["ratio 0.53 s"] == 1
    assert figures["prior"]["frames of samples inside the joints' limits, share"] > 0.99


def test_shards_train_too(tmp_path: Path) -> None:
    args = ["synthesize", "--motion", "--out", str(tmp_path / "set"), "--splits.train", "3"]
    args += ["--splits.val", "2", "--splits.test", "0", "--motion.seconds", "5", "--workers", "1"]
    assert main(args) == 0
    run = tiny_run(tmp_path / "run", steps=3)
    data = replace(
        run.data, train=(tmp_path / "set" / "train.json",), val=(tmp_path / "set" / "val.json",)
    )
    trainer = replace(run.trainer, val_every_steps=3, pictures=0)
    train_motion_prior(replace(run, data=data, trainer=trainer))
    assert (tmp_path / "run" / "best.ckpt").is_file()
