"""The data module under Lightning: where a run goes on after a checkpoint."""

from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from fourdhands.data.augment import AugmentConfig
from fourdhands.data.datamodule import ClipDataModule, DataConfig
from fourdhands.structures import ClipBatch
from tests.helpers.clips import random_clip, write_set

STEPS_PER_EPOCH = 6


class Recorder(pl.LightningModule):
    """Writes down what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[object, ...]] = []
        self.validated = 0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch: ClipBatch) -> Tensor:
        self.seen.append((batch.meta, int(batch.crops.long().sum()), float(batch.bbox.sum())))
        return self.weight * batch.bbox.mean()

    def validation_step(self, batch: ClipBatch) -> None:
        self.validated += int(batch.frame_valid.sum())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("shards")
    write_set(
        folder,
        [[random_clip(rng, key=f"clip-{s}-{k}", num_frames=3) for k in range(3)] for s in range(2)],
    )
    return folder


def train(
    folder: Path, workers: int, *, save: ModelCheckpoint | None = None, resume: Path | None = None
) -> Recorder:
    """Fifteen steps, 2.5 epochs."""
    config = DataConfig(
        train=(folder,),
        val=(folder,),
        num_frames=2,
        gap=1,
        batch_size=2,
        num_workers=workers,
        steps_per_epoch=STEPS_PER_EPOCH,
        shuffle_buffer=4,
        augment=AugmentConfig(mirror=0.5, rotation=20),
    )
    recorder = Recorder()
    trainer = pl.Trainer(
        max_steps=15,
        accelerator="cpu",
        logger=False,
        callbacks=[] if save is None else [save],
        enable_checkpointing=save is not None,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(recorder, datamodule=ClipDataModule(config, (32, 24)), ckpt_path=resume)
    return recorder


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("workers", "stop"), [(0, 4), (2, 9), (0, STEPS_PER_EPOCH)])
def test_lightning_goes_on_where_it_stopped(
    folder: Path, tmp_path: Path, workers: int, stop: int
) -> None:
    save = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=stop, save_top_k=-1)
    whole = train(folder, workers, save=save)
    assert len(whole.seen) == 15 and whole.validated > 0
    checkpoint = tmp_path / f"step={stop}.ckpt"
    torch.load(checkpoint, weights_only=True)
    rest = train(folder, workers, resume=checkpoint)
    assert rest.seen == whole.seen[stop:]
