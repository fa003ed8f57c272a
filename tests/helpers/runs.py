"""The smallest training run: a tiny network on a handful of random clips; and a way to stop it."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fourdhands.data.datamodule import DataConfig
from fourdhands.models.backbone import BackboneConfig
from fourdhands.models.network import NetworkConfig
from fourdhands.models.rat import RelationConfig
from fourdhands.models.sir import SpatialConfig, TemporalConfig
from fourdhands.training.callbacks import Stopper
from fourdhands.training.optimizer import OptimizerConfig
from fourdhands.training.runs import ReconstructionRun, TrainerConfig
from tests.helpers.clips import random_clip, write_set


def tiny_network() -> NetworkConfig:
    """A network that draws random numbers while it learns (its backbone drops paths)."""
    small = {"head_dim": 8, "mlp_dim": 16}
    return NetworkConfig(
        crop_size=(64, 48),
        backbone=BackboneConfig("resnet10t", dim=16, options={"drop_path_rate": 0.5}),
        relation=RelationConfig(hidden_dim=8),
        spatial=SpatialConfig(
            dim=16,
            encoder_depth=1,
            encoder_heads=2,
            decoder_depth=1,
            decoder_heads=2,
            **small,
        ),
        temporal=TemporalConfig(depth=1, num_heads=2, **small),
    )


def tiny_run(folder: Path) -> ReconstructionRun:
    """A run of 20 steps into `folder / "run"` on shards that are written now, if there are none."""
    shards = {"train": folder / "train", "val": folder / "val"}
    rng = np.random.default_rng(0)
    for name, place in shards.items():
        if not place.exists():
            clips = [
                [random_clip(rng, key=f"{name}{k}-{i}", num_frames=4) for i in range(3)]
                for k in range(2)
            ]
            write_set(place, clips, name)
    return ReconstructionRun(
        network=tiny_network(),
        data=DataConfig(
            train=(shards["train"],),
            val=(shards["val"],),
            num_frames=2,
            gap=1,
            batch_size=2,
            num_workers=1,
            steps_per_epoch=7,
            shuffle_buffer=4,
        ),
        optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=2),
        trainer=TrainerConfig(
            max_steps=20,
            accelerator="cpu",
            log_every_steps=5,
            val_every_steps=10,
            checkpoint_every_steps=5,
            pictures=1,
        ),
        out=folder / "run",
    )


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, number: int) -> None:
    """Let this process get a signal at a step, as if from outside."""
    decide = Stopper.on_train_batch_end

    def signalled(self: Stopper, trainer: Any, *rest: Any) -> None:
        if trainer.global_step == step:
            os.kill(os.getpid(), number)
        decide(self, trainer, *rest)

    monkeypatch.setattr(Stopper, "on_train_batch_end", signalled)
