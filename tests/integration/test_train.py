"""Training as a whole: results in the run's folder, exact resume, stops, and refusals."""

import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import train
from fourdhands import config
from fourdhands.cli.main import run as run_command
from fourdhands.data.negatives import NegativeConfig
from fourdhands.export.checkpoint import network_weights, read_checkpoint
from fourdhands.export.predictor import load_predictor
from fourdhands.models.direction_map import DirectionConfig
from fourdhands.models.joints_2d import Joints2dConfig
from fourdhands.models.network import NetworkConfig, TwoHandNetwork
from fourdhands.training import runs
from fourdhands.training.losses import LossConfig
from fourdhands.training.runs import ReconstructionRun, train_reconstruction
from tests.helpers.clips import random_clip, write_set
from tests.helpers.runs import stop_at, tiny_run

REPOSITORY = Path(train.__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def finished(folder: Path) -> ReconstructionRun:
    run = tiny_run(folder)
    train_reconstruction(run)
    return run


def assert_same(first: Any, second: Any) -> None:
    """Equal to the bit, through dicts and lists."""
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    else:
        assert first == second


def logged(run: ReconstructionRun) -> list[dict[str, str]]:
    rows = []
    for path in sorted((run.out / "log").glob("*/metrics.csv")):
        rows += list(csv.DictReader(path.open()))
    return rows


def test_a_run_leaves_what_it_promises(finished):
    names = {path.name for path in finished.out.iterdir()}
    assert names == {"config.yaml", "last.ckpt", "best.ckpt", "log", "pictures"}
    assert config.load(ReconstructionRun, finished.out / "config.yaml") == finished
    pictures = sorted(path.name for path in (finished.out / "pictures").iterdir())
    assert pictures == ["step-000010.png", "step-000020.png"]
    assert cv2.imread(str(finished.out / "pictures" / pictures[0])).std() > 10
    rows = logged(finished)
    steps = [int(row["step"]) for row in rows if row["train/loss"]]
    assert steps == [4, 9, 14, 19]
    for name in ("train/joints_3d", "train_weighted/joints_3d", "train/clips_per_second"):
        assert float(rows[0][name]) > 0
    assert sum(bool(row["val/mpjpe_mm"]) for row in rows) == 2


def test_a_checkpoint_is_plain_and_tells_its_network(finished):
    checkpoint = read_checkpoint(finished.out / "last.ckpt")
    described = checkpoint["fourdhands"]
    assert config.from_dict(ReconstructionRun, described["run"], source="checkpoint") == finished
    network = TwoHandNetwork(
        config.from_dict(NetworkConfig, described["network"], source="checkpoint")
    )
    network.load_state_dict(network_weights(checkpoint))
    assert all(name.startswith("network.") for name in checkpoint["state_dict"])


@pytest.mark.parametrize(("num_workers", "steps_per_epoch"), [(1, 5), (2, 7)])
def test_resume_is_exact(folder, finished, monkeypatch, num_workers, steps_per_epoch):
    data = replace(finished.data, num_workers=num_workers, steps_per_epoch=steps_per_epoch)
    name = f"{num_workers}-{steps_per_epoch}"
    straight = replace(finished, data=data, out=folder / f"straight-{name}")
    train_reconstruction(straight)

    stopped = replace(straight, out=folder / f"stopped-{name}")
    with monkeypatch.context() as patched:
        stop_at(patched, 10, signal.SIGTERM)
        with pytest.raises(SystemExit) as left:
            train_reconstruction(stopped)
    assert left.value.code == 128 + signal.SIGTERM
    assert read_checkpoint(stopped.out / "last.ckpt")["global_step"] == 10
    torch.manual_seed(1234)
    train_reconstruction(replace(stopped, resume=stopped.out / "last.ckpt"))

    first = read_checkpoint(straight.out / "last.ckpt")
    second = read_checkpoint(stopped.out / "last.ckpt")
    for key in ("global_step", "state_dict", "optimizer_states", "lr_schedulers"):
        assert_same(first[key], second[key])
    ends = [logged(run)[-2:] for run in (straight, stopped)]
    for row in (row for end in ends for row in end):
        row.pop("train/clips_per_second")
    assert ends[0] == ends[1]


def watch(monkeypatch: pytest.MonkeyPatch, hook: str) -> dict[int, dict[str, torch.Tensor]]:
    """The network's state whenever a hook is called, by step."""
    seen = {}
    inner = getattr(runs.Reconstruction, hook)

    def watched(self: Any, *rest: Any) -> Any:
        seen[self.global_step] = {n: x.clone() for n, x in self.network.state_dict().items()}
        return inner(self, *rest)

    monkeypatch.setattr(runs.Reconstruction, hook, watched)
    return seen


def test_an_average_is_validated_kept_and_resumed(folder, finished, monkeypatch):
    trainer = replace(finished.trainer, ema_decay=0.9)
    straight = replace(finished, trainer=trainer, out=folder / "straight-average")
    with monkeypatch.context() as patched:
        trained, validated = watch(patched, "training_step"), watch(patched, "validation_step")
        train_reconstruction(straight)
    last, best = (read_checkpoint(straight.out / name) for name in ("last.ckpt", "best.ckpt"))
    assert_same(network_weights(last), validated[20])
    assert_same(network_weights(best), validated[best["global_step"]])
    predictor = load_predictor(straight.out / "last.ckpt")
    assert_same(dict(predictor.network.state_dict()), validated[20])

    trained[20] = network_weights({"state_dict": last["current_model_state"]})
    assert_same(trained[20], network_weights(read_checkpoint(finished.out / "last.ckpt")))
    shares = 0.9 ** torch.arange(20.0).flip(0)
    for name, average in validated[20].items():
        weights = torch.stack([trained[step][name] for step in range(1, 21)])
        if average.is_floating_point():
            expected = torch.tensordot(shares / shares.sum(), weights, 1)
            torch.testing.assert_close(average, expected, atol=1e-6, rtol=1e-5)
        else:
            assert torch.equal(average, weights[-1])

    stopped = replace(straight, out=folder / "stopped-average")
    with monkeypatch.context() as patched:
        stop_at(patched, 10, signal.SIGTERM)
        with pytest.raises(SystemExit):
            train_reconstruction(stopped)
    train_reconstruction(replace(stopped, resume=stopped.out / "last.ckpt"))
    resumed = read_checkpoint(stopped.out / "last.ckpt")
    for key in ("state_dict", "current_model_state", "optimizer_states"):
        assert_same(last[key], resumed[key])


def test_a_stop_before_anything_is_saved_says_so(folder, finished, monkeypatch, capsys):
    trainer = replace(finished.trainer, accumulate=7)  # the first step takes 7 batches
    run = replace(finished, trainer=trainer, out=folder / "stopped-at-once")
    stop_at(monkeypatch, 0, signal.SIGTERM)
    with pytest.raises(SystemExit):
        train_reconstruction(run)
    assert "stopped before the first checkpoint: nothing is saved" in capsys.readouterr().err


def test_what_is_missing_is_said_before_a_network_is_built(folder, finished, monkeypatch):
    monkeypatch.setattr(runs, "TwoHandNetwork", lambda *_: pytest.fail("a network is built"))
    for change, message in (
        ({"data": replace(finished.data, val=())}, "data.val is empty"),
        ({"mano": folder / "nowhere"}, "nowhere"),
        ({"initial_weights": folder / "nowhere.ckpt"}, "no such checkpoint"),
        ({"out": finished.out / "config.yaml" / "run"}, r"config\.yaml is a file; name a folder"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            train_reconstruction(replace(finished, **{"out": folder / "missing"} | change))
    assert not (folder / "missing").exists()


def test_dropped_paths_make_steps_random(finished):
    """Or the exact resume would not show that random draws are resumed."""
    network = TwoHandNetwork(finished.network).train()
    network.load_state_dict(network_weights(read_checkpoint(finished.out / "last.ckpt")))
    crops = torch.randint(0, 256, (8, 1, 2, 3, 64, 48), dtype=torch.uint8)
    visible = torch.ones(8, 1, 2, dtype=torch.bool)
    assert not torch.equal(network.backbone(crops, visible), network.backbone(crops, visible))


def test_time_runs_out(folder, finished):
    limit = replace(finished.trainer, max_steps=100_000, max_minutes=1e-6)
    run = replace(finished, trainer=limit, out=folder / "limited")
    train_reconstruction(run)
    assert read_checkpoint(run.out / "last.ckpt")["global_step"] == 1
    assert len(list((run.out / "pictures").iterdir())) == 1  # it is validated at the end


def test_initial_weights_start_a_new_run(folder, finished):
    short = replace(finished.trainer, max_steps=1, val_every_steps=100)
    run = replace(
        finished,
        trainer=short,
        optimizer=replace(finished.optimizer, learning_rate=1e-12, warmup_steps=0),
        initial_weights=finished.out / "last.ckpt",
        out=folder / "warm",
    )
    train_reconstruction(run)
    first = network_weights(read_checkpoint(finished.out / "last.ckpt"))
    second = network_weights(read_checkpoint(run.out / "last.ckpt"))
    for name, weight in first.items():
        if "running_" not in name and "num_batches" not in name:
            torch.testing.assert_close(weight, second[name], atol=1e-11, rtol=0)


def test_a_loss_that_is_not_finite_stops_the_run(folder, finished, monkeypatch):
    run = replace(finished, out=folder / "broken")
    step = runs.Reconstruction.training_step

    def spoilt(self: Any, batch: Any, batch_idx: int) -> dict[str, Any]:
        output = step(self, batch, batch_idx)
        if self.trainer.global_step == 6:
            output["loss"] = output["loss"] * float("nan")
        return output

    monkeypatch.setattr(runs.Reconstruction, "training_step", spoilt)
    with pytest.raises(ValueError, match=r"loss of step 7 is not finite .*are random/.*train\d-\d"):
        train_reconstruction(run)
    assert read_checkpoint(run.out / "last.ckpt")["global_step"] == 5


# ---- the command ---------------------------------------------------------------------------------


def run_line(run: ReconstructionRun, folder: Path, *flags: str) -> list[str]:
    folder.mkdir(exist_ok=True)
    config.save(run, folder / "run.yaml")
    return ["reconstruction", "--config", str(folder / "run.yaml"), *flags]


def test_the_command_trains_and_ctrl_c_keeps_what_was_learnt(folder, finished):
    endless = replace(finished.trainer, max_steps=100_000, val_every_steps=100_000)
    run = replace(finished, trainer=endless, out=folder / "interrupted")
    process = subprocess.Popen(
        [sys.executable, "train.py", *run_line(run, folder / "command")],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        while not (run.out / "last.ckpt").exists():
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to data workers, too
        errors = process.communicate(timeout=300)[1]
    finally:
        process.kill()
    assert process.returncode == 130
    assert f"go on with --resume {run.out / 'last.ckpt'}" in errors
    assert "Traceback" not in errors
    saved = read_checkpoint(run.out / "last.ckpt")["global_step"]
    assert saved >= 5
    more = replace(run, resume=run.out / "last.ckpt", trainer=replace(endless, max_steps=saved + 1))
    train_reconstruction(more)
    assert read_checkpoint(run.out / "last.ckpt")["global_step"] == saved + 1


def test_two_processes_train_the_whole_model_though_one_has_nothing_to_validate(folder, finished):
    rng = np.random.default_rng(1)
    write_set(folder / "one", [[random_clip(rng, key="one", num_frames=2)]], "one")
    network = replace(
        finished.network, direction=DirectionConfig(), joints_2d=Joints2dConfig(channels=8)
    )
    run = replace(
        finished,
        network=network,
        data=replace(
            finished.data, val=(folder / "one",), negatives=NegativeConfig(0.5, 0.0), num_workers=0
        ),
        loss=LossConfig(joint_bins=1.0, confidence=1.0, uncertainty=("joint_bins",)),
        trainer=replace(
            finished.trainer, devices=2, strategy="ddp", max_steps=4, val_every_steps=2, pictures=0
        ),
        out=folder / "two",
    )
    done = subprocess.run(
        [sys.executable, "train.py", *run_line(run, folder / "command")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    checkpoint = read_checkpoint(run.out / "last.ckpt")
    assert checkpoint["global_step"] == 4
    state = checkpoint["state_dict"]
    assert state["loss.log_variances.joint_bins"] != 0
    assert state["network.confidence_threshold.weight"].min() > 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--network.spatial.dimm", "3"], "network.spatial.dimm"),
        (["--netwrk.crop_size", "[1,2]"], "unknown option --netwrk.crop_size"),
        (["--config", "{bad}"], "bad.yaml: unknown key 'trainer.max_step', did you mean"),
        (["--config", "{nowhere}.yaml"], "no such configuration file"),
        (["--resume", "{nowhere}.ckpt"], "no such checkpoint"),
        (["--resume", "{bad}"], "bad.yaml: not a readable checkpoint"),
        (["--resume", "{last}", "--network.spatial.dim", "32"], "network.spatial.dim is 16 there"),
        (["--resume", "{last}", "--optimizer.learning_rate", "1"], "learning_rate is 0.001 there"),
        (["--resume", "{last}", "--trainer.ema_decay", "0.9"], "of a run without an average"),
        (["--trainer.ema_decay", "1"], "trainer.ema_decay is 1.0, it has to be above 0"),
        (["--resume", "{last}"], "has finished its 20 steps; raise trainer.max_steps"),
        (["--resume", "{last}", "--initial_weights", "{last}"], "exclude each other"),
        (["--initial_weights", "{last}", "--network.spatial.dim", "32"], "weights are of another"),
        (["--initial_weights", "{nowhere}.ckpt"], "no such checkpoint"),
        (["--out", "{finished}"], "holds a run already; go on with it by --resume"),
        (["--data.train", "[{nowhere}]"], "nowhere"),
        (["--data.train", "[]"], "data.train is empty"),
        (["--mano", "{nowhere}"], "nowhere"),
        (["--optimizer.warmup_steps", "50"], "warmup_steps is 50"),
        (["--optimizer.learning_rate", "0"], "optimizer.learning_rate is 0.0, it has to be"),
        (["--trainer.accumulate", "2"], "steps_per_epoch is 7, not a multiple of"),
        (["--trainer.seed", "-1"], "trainer.seed is -1, it may not be negative"),
        (
            ["--network.backbone.name", "qqqq"],
            "backbone.name 'qqqq': unknown to timm; timm.list_models()",
        ),
        (["--trainer.max_steps", "0"], "trainer.max_steps is 0, it has to be at least 1"),
        (["--trainer.accelerator", "gpu"], "trainer: "),
        (["--trainer.strategy", "fsdp", "--trainer.precision", "16-mixed"], "take bf16-mixed"),
        (["--trainer.strategy", "dp"], "trainer.strategy"),
        (["--trainer.num_nodes", "2"], "start the run on every node, by scripts/train_torchrun.sh"),
    ],
)
def test_mistakes_are_told_in_one_line_and_nothing_is_written(
    folder, finished, capsys, tmp_path, flags, message
):
    if "gpu" in flags and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    bad = folder / "bad.yaml"
    bad.write_text("trainer: {max_step: 3}")
    places = {
        "bad": bad,
        "nowhere": folder / "nowhere",
        "last": finished.out / "last.ckpt",
        "finished": finished.out,
    }
    out = tmp_path / "refused"
    line = run_line(replace(finished, out=out), folder / "command")
    line += [flag.format(**places) for flag in flags]
    assert run_command("train.py", train.TRAIN, line) == 1
    errors = capsys.readouterr().err.strip()
    assert message in errors
    assert errors.startswith("train.py: error: ")
    assert "\n" not in errors
    assert not out.exists()
