"""Several processes: DDP and FSDP train alike, validate exactly, stop together, and are started."""

import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

import train
from fourdhands import config
from fourdhands.data.negatives import NegativeConfig
from fourdhands.evaluation.runs import EvaluationConfig, evaluate_checkpoint
from fourdhands.export.checkpoint import read_checkpoint
from fourdhands.models.backbone import BackboneConfig
from fourdhands.models.joints_2d import Joints2dConfig
from fourdhands.training.callbacks import FiniteLossGuard, Stopper
from fourdhands.training.launch import find_launcher
from fourdhands.training.losses import LossConfig
from fourdhands.training.optimizer import OptimizerConfig
from fourdhands.training.runs import ReconstructionRun, train_reconstruction
from tests.helpers.clips import random_clip, write_set
from tests.helpers.processes import together, train_together
from tests.helpers.runs import tiny_run

REPOSITORY = Path(train.__file__).parent
VIT = BackboneConfig("vit_tiny_patch16_224", dim=16, options={"depth": 2})
"""A backbone whose output for a crop does not depend on the other crops of the batch."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ReconstructionRun:
    run = tiny_run(tmp_path_factory.mktemp("processes"))
    return replace(
        run,
        network=replace(run.network, backbone=VIT),
        data=replace(run.data, num_workers=0, steps_per_epoch=4),
        optimizer=OptimizerConfig(learning_rate=1e-3),
        trainer=replace(run.trainer, pictures=0, log_every_steps=1),
    )


def shorter(
    run: ReconstructionRun, name: str, steps: int, count: int = 1, **trainer: Any
) -> ReconstructionRun:
    """As long as that, on so many processes, into a folder of its own."""
    lengths = {"max_steps": steps, "val_every_steps": 2, "checkpoint_every_steps": 2}
    return replace(
        run,
        trainer=replace(run.trainer, devices=count, **(lengths | trainer)),
        out=run.out.with_name(name),
    )


def logged(run: ReconstructionRun, column: str) -> list[float]:
    (table,) = (run.out / "log").glob("*/metrics.csv")
    rows = csv.DictReader(table.open())
    return [float(row[column]) for row in rows if row.get(column)]


def assert_close(first: Any, second: Any, where: str = "") -> None:
    """Nearly equal plain tensors, through dicts and lists."""
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_close(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, list | tuple):
        for one, other in zip(first, second, strict=True):
            assert_close(one, other, where)
    elif isinstance(first, torch.Tensor):
        assert type(second) is torch.Tensor, where
        torch.testing.assert_close(first, second, atol=2e-5, rtol=1e-4, msg=lambda m: where + m)
    else:
        assert first == second, where


def assert_same_training(first: ReconstructionRun, second: ReconstructionRun) -> None:
    checkpoints = [read_checkpoint(one.out / "last.ckpt") for one in (first, second)]
    keys = ["global_step", "state_dict", "optimizer_states", "lr_schedulers"]
    if first.trainer.ema_decay is not None:
        keys.append("current_model_state")
    for key in keys:
        assert_close(*(checkpoint[key] for checkpoint in checkpoints), key)


def test_sharded_training_is_training_and_goes_on(run):
    rng = np.random.default_rng(1)
    one = run.out.with_name("one")
    write_set(one, [[random_clip(rng, key="one", num_frames=2)]], "one")
    run = replace(
        run,
        network=replace(run.network, joints_2d=Joints2dConfig(channels=8)),
        data=replace(run.data, val=(one,)),  # one process has nothing to validate
        loss=LossConfig(joint_bins=1.0, uncertainty=("joint_bins", "rotations")),
        optimizer=OptimizerConfig(
            learning_rate=1e-3, schedule="steps", drop_factor=1.0, layer_decay=0.5
        ),
        trainer=replace(run.trainer, ema_decay=0.9, gradient_clip=0.5, accumulate=2),
    )
    whole = shorter(run, "whole", 4, count=2, strategy="ddp")
    train_together(whole, 2)

    half = shorter(run, "sharded", 2, count=2, strategy="fsdp")
    frugal = replace(run.network, backbone=replace(VIT, checkpointing=True))
    half = replace(half, network=frugal)
    train_together(half, 2)
    rest = shorter(run, "rest", 4, count=2, strategy="fsdp")
    rest = replace(rest, resume=half.out / "last.ckpt")
    train_together(rest, 2)
    assert_same_training(whole, rest)
    figures = [logged(one, "val/mpjpe_mm") for one in (whole, half, rest)]
    assert figures[1] + figures[2] == pytest.approx(figures[0], rel=1e-5)


def test_validation_is_exact_on_any_number_of_processes(run):
    train_reconstruction(shorter(run, "start", 1))
    still = replace(
        run,
        optimizer=OptimizerConfig(learning_rate=1e-12),
        initial_weights=run.out.with_name("start") / "last.ckpt",
    )
    names = ("mpjpe_mm", "pa_mpjpe_mm", "mrrpe_mm", "acceleration_error_mm_per_frame2")
    figures = []
    for count in (1, 2, 3):
        alike = shorter(still, f"validated-by-{count}", 1, count)
        train_together(alike, count)
        figures.append([logged(alike, f"val/{name}")[-1] for name in names])
    assert figures[1] == pytest.approx(figures[0], rel=1e-6)
    assert figures[2] == pytest.approx(figures[0], rel=1e-6)


@pytest.mark.parametrize(
    ("strategy", "precision", "tolerance"),
    [("ddp", "32-true", 1e-5), ("fsdp", "bf16-mixed", 1e-3)],  # evaluations are in 32 bits
)
def test_what_was_validated_is_what_was_saved(run, strategy, precision, tolerance):
    """Each process gathers batch statistics of its own."""
    conv = replace(run.network, backbone=BackboneConfig("resnet10t", dim=16))
    run = replace(run, network=replace(conv, joints_2d=Joints2dConfig(channels=8)))
    run = replace(
        run,
        data=replace(run.data, negatives=NegativeConfig(0.5, 0.0)),
        loss=LossConfig(joint_bins=1.0, confidence=1.0),
    )
    run = shorter(run, f"saved-{strategy}", 3, 2, strategy=strategy, precision=precision)
    train_together(run, 2)
    checkpoint = run.out / "last.ckpt"
    assert read_checkpoint(checkpoint)["state_dict"]["network.confidence_threshold.weight"].min()
    single = EvaluationConfig(num_workers=0, pictures=0, device="cpu", batch_size=2)
    evaluate_checkpoint(single, checkpoint=checkpoint, data=run.data.val, out=run.out / "eval")
    text = (run.out / "eval" / "metrics.json").read_text()
    found = json.loads(text)["metrics"]["mpjpe_mm"]["model"]["value"]
    assert logged(run, "val/mpjpe_mm")[-1] == pytest.approx(found, rel=tolerance)


def test_half_batches_twice_make_the_same_step(run):
    run = replace(run, loss=LossConfig(closeness=0.0))  # the other terms count as much everywhere
    large = replace(run, data=replace(run.data, batch_size=4))
    large = shorter(large, "large", 3, val_every_steps=3)
    small = shorter(run, "accumulated", 3, val_every_steps=3, accumulate=2)
    small = replace(small, data=replace(small.data, steps_per_epoch=8))
    for one in (large, small):
        train_reconstruction(one)
    assert_same_training(large, small)
    for column in ("step", "train/learning_rate", "val/mpjpe_mm"):
        assert logged(small, column) == pytest.approx(logged(large, column), rel=1e-5)


def stop_and_fail() -> tuple[list[int], str]:
    """What one of two processes is asked, and what one of them finds."""
    dist.init_process_group("gloo")
    second = dist.get_rank() == 1
    state: Any = SimpleNamespace(
        world_size=2,
        global_step=1,
        accumulate_grad_batches=1,
        should_stop=False,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )
    stopper, agreed = Stopper(100, None), []
    for step in range(4):
        if second and step == 1:
            stopper.signal = signal.SIGTERM
        stopper.on_train_batch_end(state, None, None, None, step)
        agreed.append(stopper.agreed_signal)
        assert state.should_stop == (step >= 2)
    guard = FiniteLossGuard(every=1)
    loss = {"total": torch.tensor(float("nan") if second else 1.0)}
    guard.unseen = [(5, ["clip of the second" if second else "clip of the first"], loss)]
    try:
        guard.look(world_size=2)
    except ValueError as error:
        return agreed, str(error)
    return agreed, "nothing"


def test_processes_stop_and_fail_together():
    for agreed, message in together(2, stop_and_fail):
        assert agreed == [0, 0, signal.SIGTERM, signal.SIGTERM]
        assert "loss of step 5 is not finite" in message
        assert "samples are clip of the second;" in message


# ---- starting ------------------------------------------------------------------------------------


def command(run: ReconstructionRun, *line: str, **environ: str) -> str:
    """Run a command on a run's configuration, and return what it printed if it went well."""
    config.save(replace(run, out=Path("elsewhere")), run.out.with_name("command.yaml"))
    done = subprocess.run(
        [*line, "--config", str(run.out.with_name("command.yaml")), "--out", str(run.out)],
        env=os.environ | environ,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def python_on_path(folder: Path) -> str:
    """A PATH on which `python` is this one, with what is in a folder before it."""
    return os.pathsep.join((str(folder), str(Path(sys.executable).parent), os.environ["PATH"]))


def test_the_torchrun_script_trains(run, tmp_path):
    run = shorter(run, "torchrun", 1, strategy="fsdp")
    path = python_on_path(tmp_path)
    command(run, "scripts/train_torchrun.sh", DEVICES="2", PATH=path)
    kept = read_checkpoint(run.out / "last.ckpt")
    assert kept["global_step"] == 1
    assert kept["fourdhands"]["run"]["trainer"]["devices"] == 2


SRUN = """#!/usr/bin/env bash
# srun of one machine: as many tasks as wanted, each told its place
while [[ $1 == --* ]]; do
    if [[ $1 == --ntasks-per-node ]]; then count=$2; fi
    if [[ $1 == *=* ]]; then shift; else shift 2; fi
done
export SLURM_NTASKS=$count SLURM_NTASKS_PER_NODE=$count SLURM_STEP_NUM_TASKS=$count SLURM_NODEID=0
for rank in $(seq 0 $((count - 1))); do
    SLURM_PROCID=$rank SLURM_LOCALID=$rank "$@" & tasks+=($!)
done
for task in "${tasks[@]}"; do wait "$task" || exit 1; done
"""


def test_the_slurm_script_trains(run, tmp_path):
    run = shorter(run, "slurm", 1)
    (tmp_path / "srun").write_text(SRUN)
    (tmp_path / "srun").chmod(0o755)
    allocation = {
        "SLURM_SUBMIT_DIR": str(REPOSITORY),
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_NNODES": "1",
        "SLURM_JOB_ID": str(10000 + os.getpid() % 10000),
        "SLURM_NODELIST": "127.0.0.1",
        "SLURM_JOB_NAME": "fourdhands",
    }
    command(run, "scripts/train_slurm.sh", PATH=python_on_path(tmp_path), **allocation)
    kept = read_checkpoint(run.out / "last.ckpt")
    assert kept["global_step"] == 1
    assert kept["fourdhands"]["run"]["trainer"]["devices"] == 2


def test_a_shell_inside_an_allocation_is_not_a_task(monkeypatch):
    """Its variables are those of tasks that nobody has started."""
    shell = {"SLURM_JOB_NAME": "training", "SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "8"}
    step = {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}
    for name, value in (shell | step).items():
        monkeypatch.setenv(name, value)
    for environ in (shell, shell | step):
        for devices in (1, 8):
            launcher = find_launcher(devices, 1, environ)
            assert not launcher.creates_processes_externally
    assert find_launcher(4, 2, shell | {"SLURM_STEP_NUM_TASKS": "8"}).creates_processes_externally


@pytest.mark.parametrize(
    ("devices", "num_nodes", "environ", "message"),
    [
        (1, 1, {"SLURM_STEP_NUM_TASKS": "4"}, "srun has started 4 processes, but .* is 1"),
        (8, 1, {"SLURM_STEP_NUM_TASKS": "16"}, r"16 processes, .*num_nodes .1. is 8"),
        (1, 1, {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2"}, "torchrun has started 2"),
        (8, 2, {}, "num_nodes is 2: start the run on every node, by scripts/"),
    ],
)
def test_processes_that_do_not_fit_are_refused(devices, num_nodes, environ, message):
    with pytest.raises(ValueError, match=message):
        find_launcher(devices, num_nodes, environ)
