"""Training of the motion prior: what a run is made of, and its Lightning module."""

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset, IterableDataset

from fourdhands import config
from fourdhands.data.motion.source import MotionDataConfig, load_motion
from fourdhands.data.motion.windows import MotionData, MotionWindows, sample_masks
from fourdhands.evaluation.motion import completion_errors, latent_statistics
from fourdhands.export.checkpoint import describe
from fourdhands.hands.assets import load_assets
from fourdhands.hands.kinematics import FingerChains
from fourdhands.hands.mano import HandModel
from fourdhands.models.motion_prior.prior import MotionPrior
from fourdhands.models.motion_prior.two_hands import fit_coupling
from fourdhands.models.motion_prior.vae import MotionPriorConfig
from fourdhands.skeleton import Side
from fourdhands.structures import TensorStruct
from fourdhands.training.callbacks import Stopper
from fourdhands.training.motion_losses import MotionLoss, MotionLossConfig
from fourdhands.training.motion_pictures import MotionPictures
from fourdhands.training.optimizer import OptimizerConfig, build_schedule
from fourdhands.training.runs import (
    TrainerConfig,
    assemble_trainer,
    check_start,
    quieten,
    run_training,
)

PAIRS: Final = 256
"""Windows of two hands from which their coupling is computed."""
LINEAR_SHARE: Final = 0.002
"""How fast weights move, as a share of the rate, that begin where a linear model is best."""


@dataclass(frozen=True)
class MotionPriorRun:
    """Training of the motion prior.

    Attributes:
        network: its parts.
        data: what it learns from.
        loss: what it is told.
        optimizer: how it moves.
        trainer: how long and on what.
        moments: pairs of neighbouring frames of each window that a step decodes.
        whole: share of each batch that is also encoded from all its frames.
        start_windows: windows whose principal components the network begins from.
        logger: where figures go, in the run's folder; wandb obeys WANDB_MODE=offline.
        mano: folder of converted MANO files, for joints and pictures; None for the open hand.
        out: the run's folder: config.yaml, log, last.ckpt, best.ckpt, pictures.
        resume: checkpoint to go on from, exactly.
    """

    network: MotionPriorConfig = field(default_factory=MotionPriorConfig)
    data: MotionDataConfig = field(default_factory=MotionDataConfig)
    loss: MotionLossConfig = field(default_factory=MotionLossConfig)
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            learning_rate=3e-3, weight_decay=1e-2, betas=(0.9, 0.98), warmup_steps=40
        )
    )
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    moments: int = 12
    whole: float = 0.25
    start_windows: int = 4000
    logger: Literal["csv", "tensorboard", "wandb"] = "csv"
    mano: Path | None = None
    out: Path = Path("runs/motion_prior")
    resume: Path | None = None

    def __post_init__(self) -> None:
        """Check what concerns several parts."""
        if self.optimizer.warmup_steps >= self.trainer.max_steps:
            raise ValueError(
                f"optimizer.warmup_steps is {self.optimizer.warmup_steps}, but the run has only "
                f"{self.trainer.max_steps} steps (trainer.max_steps); warm up for fewer"
            )
        if not 0 < self.whole <= 1 or self.moments < 1:
            raise ValueError(
                f"whole is {self.whole}, moments {self.moments}: give a share above 0 and at "
                "least 1"
            )


def train_motion_prior(run: MotionPriorRun) -> None:
    """Train a prior of finger motion from generated or recorded motion.

    Raises:
        ValueError: the configuration, the data or a checkpoint cannot be used.
        FileNotFoundError: a file is missing.
    """
    start_step = check_start(run)
    hand_assets = load_assets(run.mano)
    description = describe(config.to_dict(run))
    half = in_half(run.trainer)
    # Lightning's own would round rotations and joints, too
    run = replace(run, trainer=replace(run.trainer, precision="32-true"))
    quieten()
    network = run.network
    train, val = (
        load_motion(run.data, split, frames=network.frames, fps=network.fps)
        for split in ("train", "val")
    )
    torch.manual_seed(run.trainer.seed)
    prior = MotionPrior(run.network)
    prior.vae.encoder.in_bfloat16 = half
    if run.resume is None:
        generator = torch.Generator().manual_seed(run.trainer.seed)
        prior.vae.start_linear(train.draw(run.start_windows, generator).rotations[:, :, 0])
    skeleton = FingerChains(hand_assets[Side.RIGHT])
    stopper = Stopper(run.trainer.max_steps, run.trainer.max_minutes)
    pictures = MotionPictures(run.out, run.trainer.pictures, HandModel(hand_assets))
    trainer = assemble_trainer(run, description, pictures, stopper, start_step)
    module = MotionPriorTraining(
        prior,
        MotionLoss(run.loss, skeleton, moments=run.moments, whole=run.whole),
        run.optimizer,
        max_steps=run.trainer.max_steps,
        pairs=train.draw_pairs(PAIRS, torch.Generator().manual_seed(run.trainer.seed)),
    )
    data = MotionBatches(
        train, val, batch_size=run.data.batch_size, seed=run.trainer.seed, windows=run.data.windows
    )
    run_training(trainer, module, data, run, stopper)


def in_half(trainer: TrainerConfig) -> bool:
    """Whether the transformer is trained in bfloat16.

    Not on processors that would have to emulate it, which takes many times as long.

    Raises:
        ValueError: the precision is another one.
    """
    if trainer.precision == "16-mixed":
        raise ValueError(
            "trainer.precision is 16-mixed: the motion prior takes bf16-mixed or 32-true"
        )
    on_cpu = trainer.accelerator == "cpu" or (
        trainer.accelerator == "auto" and not torch.cuda.is_available()
    )
    if trainer.precision == "bf16-mixed" and on_cpu and not has_bfloat16():
        logging.getLogger("fourdhands").warning("no bfloat16 on this processor: 32 bits instead")
        return False
    return trainer.precision == "bf16-mixed"


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 matrices itself."""
    return bool(torch.cpu._is_avx512_bf16_supported())


@dataclass(frozen=True)
class MotionBatch(TensorStruct):
    """What a step sees.

    Attributes:
        windows: N windows of single hands.
        seen: (N, T) frames that completion may look at.
        index: number of the batch in the run; -1 in validation.
    """

    windows: MotionWindows
    seen: Tensor
    index: int

    @property
    def times(self) -> Tensor:
        """One entry a window, for whoever counts."""
        return self.seen

    @property
    def meta(self) -> Sequence["WindowName"]:
        """Names of the samples: windows are drawn, so the batch's number is all that names them."""
        return (WindowName(f"batch {self.index}"),)


@dataclass(frozen=True)
class WindowName:
    """A name to report."""

    name: str


class MotionBatches(pl.LightningDataModule):
    """Batches drawn from motion in memory; batch k of a run is the same whenever it is drawn.

    Args:
        train: motion to train on.
        val: motion to watch the training with.
        batch_size: windows a batch, on each process.
        seed: of the windows and masks.
        windows: of the validation.
    """

    def __init__(
        self, train: MotionData, val: MotionData, *, batch_size: int, seed: int, windows: int
    ) -> None:
        super().__init__()
        self.train, self.val = train, val
        self.batch_size, self.seed, self.windows = batch_size, seed, windows

    def train_dataloader(self) -> DataLoader[MotionBatch]:
        """From the batch after the last that a resumed run has seen."""
        assert self.trainer is not None
        first = self.trainer.fit_loop.total_batch_idx + 1
        return DataLoader(_Drawn(self, first, self.trainer.global_rank), batch_size=None)

    def val_dataloader(self) -> DataLoader[MotionBatch]:
        """The same windows at every validation, in one batch."""
        generator = torch.Generator().manual_seed(0)
        windows = self.val.draw(self.windows, generator)
        batch = MotionBatch(windows, windows.valid[..., 0], -1)
        return DataLoader(_Fixed((batch,)), batch_size=None)

    def draw(self, index: int, rank: int) -> MotionBatch:
        """Batch `index` of one process."""
        seed = int(np.random.SeedSequence((self.seed, rank, index)).generate_state(1)[0])
        generator = torch.Generator().manual_seed(seed)
        windows = self.train.draw(self.batch_size, generator)
        seen = sample_masks(self.batch_size, self.train.frames, generator)
        return MotionBatch(windows, seen, index)


class _Fixed(Dataset[MotionBatch]):
    """Batches that there are."""

    def __init__(self, batches: Sequence[MotionBatch]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> MotionBatch:
        return self.batches[index]


class _Drawn(IterableDataset[MotionBatch]):
    """Batches without end."""

    def __init__(self, source: MotionBatches, first: int, rank: int) -> None:
        self.source, self.first, self.rank = source, first, rank

    def __iter__(self) -> Iterator[MotionBatch]:
        for index in itertools.count(self.first):
            yield self.source.draw(index, self.rank)


class MotionPriorTraining(pl.LightningModule):
    """Training of a `MotionPrior`; only its weights enter checkpoints, as `network.*`.

    Args:
        network: what learns.
        loss: the objective.
        optimizer: how weights move.
        max_steps: length of the run, over which the learning rate falls.
        pairs: windows of both hands, from which every checkpoint's coupling is computed.
    """

    def __init__(
        self,
        network: MotionPrior,
        loss: MotionLoss,
        optimizer: OptimizerConfig,
        *,
        max_steps: int,
        pairs: MotionWindows | None,
    ) -> None:
        super().__init__()
        self.network, self.loss = network, loss
        self.optimizer_config, self.max_steps, self.pairs = optimizer, max_steps, pairs

    def training_step(self, batch: MotionBatch, batch_idx: int) -> dict[str, Any]:
        """Lightning's hook.

        Returns:
            The loss and its unweighted terms.
        """
        generator = torch.Generator().manual_seed(batch.index)
        rotations, valid = batch.windows.rotations[:, :, 0], batch.windows.valid[..., 0]
        losses = self.loss(self.network.vae, rotations, valid, batch.seen, generator)
        count = len(batch.seen)
        self.log("train/loss", losses.total, prog_bar=True, batch_size=count)
        logged = {f"train/{name}": term.detach() for name, term in losses.terms.items()}
        logged["train/learning_rate"] = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log_dict(logged, batch_size=count)
        return {"loss": losses.total, "terms": {n: t.detach() for n, t in losses.terms.items()}}

    def validation_step(self, batch: MotionBatch, batch_idx: int) -> Mapping[str, Any]:
        """Lightning's hook: errors of reconstruction and completion, spread of z."""
        rotations, valid = batch.windows.rotations[:, :, 0], batch.windows.valid[..., 0]
        figures = completion_errors(self.network, self.loss.skeleton, rotations, valid)
        figures |= latent_statistics(self.network, rotations, valid)
        # what is kept as best: completion over a half and a whole second
        figures["mpjpe_mm"] = (figures["completion_16_mm"] + figures["completion_32_mm"]) / 2
        for name, value in figures.items():
            self.log(f"val/{name}", value, prog_bar=name == "mpjpe_mm", batch_size=1)
        return {
            "prior": self.network,
            "skeleton": self.loss.skeleton,
            "rotations": rotations,
            "valid": valid,
        }

    @torch.no_grad()
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Lightning's hook: measure how the hands of the training data go together."""
        if self.pairs is None:
            return
        pairs = self.pairs.to(self.device)
        right, left = (
            self.network.vae.encode(pairs.rotations[:, :, side], pairs.valid[..., side])[0]
            for side in Side
        )
        self.network.coupling.copy_(fit_coupling(right, left))
        checkpoint["state_dict"]["network.coupling"] = self.network.coupling.clone()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Lightning's hook."""
        settings = self.optimizer_config
        linear = {id(weight) for weight in self.network.vae.linear_weights()}
        weights = [p for p in self.network.parameters() if p.requires_grad]
        matrices = [p for p in weights if id(p) not in linear and p.ndim > 1]
        others = [p for p in weights if id(p) not in linear and p.ndim < 2]
        rate = settings.learning_rate
        groups: list[dict[str, Any]] = [
            {"params": matrices, "lr": rate, "weight_decay": settings.weight_decay},
            {"params": others, "lr": rate, "weight_decay": 0.0},
            {
                "params": [p for p in weights if id(p) in linear],
                "lr": LINEAR_SHARE * rate,
                "weight_decay": 0.0,
            },
        ]
        groups = [group for group in groups if group["params"]]
        optimizer = AdamW(groups, lr=rate, betas=settings.betas)
        schedule: LambdaLR = build_schedule(settings, optimizer, self.max_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }
