"""What a training run is made of, and how it is put together, started and resumed."""

import logging
import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.strategies import DDPStrategy, Strategy
from pytorch_lightning.utilities import rank_zero_only

from fourdhands import config
from fourdhands.data.datamodule import ClipDataModule, DataConfig
from fourdhands.export.checkpoint import (
    CURRENT_KEY,
    KEY,
    describe,
    differences,
    read_checkpoint,
    require_same,
)
from fourdhands.export.start import start_from
from fourdhands.hands.assets import load_assets
from fourdhands.hands.mano import HandModel
from fourdhands.models.network import NetworkConfig, TwoHandNetwork
from fourdhands.training.averaging import CommonStatistics, WeightAverage
from fourdhands.training.callbacks import (
    LAST,
    Checkpoints,
    FiniteLossGuard,
    ProgressBar,
    Stopper,
    Throughput,
    ValidationPictures,
)
from fourdhands.training.launch import find_launcher
from fourdhands.training.losses import LossConfig, ReconstructionLoss
from fourdhands.training.optimizer import OptimizerConfig
from fourdhands.training.reconstruction import Reconstruction
from fourdhands.training.sharding import ShardedStrategy

MAY_CHANGE: Final = {
    *(f"trainer.{name}" for name in ("max_steps", "max_minutes", "pictures")),
    "network.backbone.checkpointing",
}
"""What a resumed run may have otherwise without being another run."""


@dataclass(frozen=True)
class TrainerConfig:
    """How long, on what, and how often something happens. Steps are optimizer steps.

    Attributes:
        max_steps: length of the run; the learning rate's schedule ends here.
        max_minutes: stop training after this time, wherever the run is; the learning rate still
            falls over max_steps, so choose those to fit, and this as the safety net.
        precision: number format of the network; the losses are always in 32 bits.
        accelerator: `cpu`, `gpu`, or whatever there is.
        devices: how many of them on each node, a process each.
        num_nodes: machines; something has to start the run on each (docs/training.md).
        strategy: how processes share the work: 'ddp', each has the whole network; 'fsdp', each
            keeps a part of it, for networks whose weights and optimizer state do not fit
            otherwise; 'auto', DDP if there are several processes.
        gradient_clip: largest norm of the gradient, or None.
        accumulate: batches that make a step, on each process.
        ema_decay: decay from step to step of an exponential moving average of the weights, which is
            then what is validated and what checkpoints give; None for the weights themselves.
        log_every_steps: steps between two lines in the log.
        val_every_steps: steps between two validations; one more comes at the end.
        checkpoint_every_steps: steps between two `last.ckpt`, besides those before validations.
        pictures: validation clips to draw.
        seed: of the initial weights and of what the network draws.
    """

    max_steps: int = 100_000
    max_minutes: float | None = None
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    gradient_clip: float | None = 1.0
    accumulate: int = 1
    ema_decay: float | None = None
    log_every_steps: int = 50
    val_every_steps: int = 1000
    checkpoint_every_steps: int = 1000
    pictures: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        counts = ("max_steps", "devices", "num_nodes", "accumulate")
        intervals = ("log_every_steps", "val_every_steps", "checkpoint_every_steps")
        for name in (*counts, *intervals):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"trainer.{name} is {getattr(self, name)}, it has to be at least 1"
                )
        if self.seed < 0:
            raise ValueError(f"trainer.seed is {self.seed}, it may not be negative")
        if self.strategy == "fsdp" and self.precision == "16-mixed":
            raise ValueError(
                "trainer.strategy fsdp cannot scale the losses of trainer.precision 16-mixed; "
                "take bf16-mixed"
            )
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(
                f"trainer.ema_decay is {self.ema_decay}, it has to be above 0 and below 1"
            )


@dataclass(frozen=True)
class ReconstructionRun:
    """Training of the two-hand network.

    Attributes:
        network: its parts.
        data: what it learns from.
        loss: what it is told.
        optimizer: how it moves.
        trainer: how long and on what.
        logger: where figures go, in the run's folder; wandb obeys WANDB_MODE=offline.
        mano: folder of converted MANO files; None for the open hand.
        out: the run's folder: config.yaml, log, last.ckpt, best.ckpt, pictures.
        resume: checkpoint to go on from, exactly.
        initial_weights: checkpoint or bundle to take the network's weights from, for a new run;
            `fourdhands import-weights` makes bundles of others' weights.
        initial_parts: which parts of the network to take from it (backbone, spatial, ...), their
            position embeddings resampled; all that it has if none is named.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: Literal["csv", "tensorboard", "wandb"] = "csv"
    mano: Path | None = None
    out: Path = Path("runs/reconstruction")
    resume: Path | None = None
    initial_weights: Path | None = None
    initial_parts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check what concerns several parts."""
        if self.optimizer.warmup_steps >= self.trainer.max_steps:
            raise ValueError(
                f"optimizer.warmup_steps is {self.optimizer.warmup_steps}, but the run has only "
                f"{self.trainer.max_steps} steps (trainer.max_steps); warm up for fewer"
            )
        if self.data.steps_per_epoch % self.trainer.accumulate:
            raise ValueError(
                f"data.steps_per_epoch is {self.data.steps_per_epoch}, not a multiple of "
                f"trainer.accumulate ({self.trainer.accumulate}): the last step would be smaller"
            )
        if self.resume is not None and self.initial_weights is not None:
            raise ValueError("resume and initial_weights exclude each other: give one of them")
        if self.initial_parts and self.initial_weights is None:
            raise ValueError("initial_parts names parts of initial_weights: give that, too")


class Run(Protocol):
    """What every training run has, whatever it trains."""

    @property
    def trainer(self) -> TrainerConfig: ...  # noqa: D102
    @property
    def logger(self) -> str: ...  # noqa: D102
    @property
    def out(self) -> Path: ...  # noqa: D102
    @property
    def resume(self) -> Path | None: ...  # noqa: D102


def train_reconstruction(run: ReconstructionRun) -> None:
    """Train a two-hand network from rendered or recorded clips.

    Raises:
        ValueError: the configuration, the data or a checkpoint cannot be used.
        FileNotFoundError: a file is missing.
    """
    quieten()
    # whatever is missing is said before a large network is built and anything is written
    start_step = check_start(run)
    hand_assets = load_assets(run.mano)
    data = ClipDataModule(
        run.data,
        run.network.crop_size,
        hand_assets,
        total_batches=run.trainer.max_steps * run.trainer.accumulate,
    )
    data.setup("fit")
    hand_model = HandModel(hand_assets)
    stopper = Stopper(run.trainer.max_steps, run.trainer.max_minutes)
    pictures = ValidationPictures(run.out, run.trainer.pictures, hand_model)
    trainer = assemble_trainer(run, describe(config.to_dict(run)), pictures, stopper, start_step)
    torch.manual_seed(run.trainer.seed)
    network = TwoHandNetwork(_network_to_build(run), hand_model.mean_pose)
    if run.initial_weights is not None:
        weights = read_checkpoint(run.initial_weights)
        for phrase in start_from(network, weights, run.initial_weights, run.initial_parts):
            _tell(f"not what {run.initial_weights} was trained with: {phrase}")
    module = Reconstruction(
        network,
        ReconstructionLoss(run.loss, hand_model),
        run.optimizer,
        max_steps=run.trainer.max_steps,
        seed=run.trainer.seed,
    )
    run_training(trainer, module, data, run, stopper)


def run_training(
    trainer: pl.Trainer,
    module: pl.LightningModule,
    data: pl.LightningDataModule,
    run: Run,
    stopper: Stopper,
) -> None:
    """Train until the run's end, or until it is stopped, which is told with how to go on."""
    run.out.mkdir(parents=True, exist_ok=True)
    try:
        with stopper.listening():
            trainer.fit(module, datamodule=data, ckpt_path=run.resume, weights_only=True)
    except SystemExit:
        _tell(_how_to_go_on(run))
        raise


@rank_zero_only
def _tell(message: str) -> None:
    """One process speaks for all."""
    print(message, file=sys.stderr)


def _how_to_go_on(run: Run) -> str:
    """What to tell whoever has stopped a run."""
    saved = run.out / LAST if (run.out / LAST).exists() else run.resume
    if saved is None:
        return "stopped before the first checkpoint: nothing is saved, start again"
    return f"stopped; go on with --resume {saved}"


def assemble_trainer(
    run: Run,
    description: Mapping[str, Any],
    pictures: pl.Callback,
    stopper: Stopper,
    start_step: int,
) -> pl.Trainer:
    """Lightning's trainer for a run.

    Args:
        run: of whatever is trained.
        description: stored in its checkpoints.
        pictures: draws validations.
        stopper: ends the run.
        start_step: the step it starts from.

    Raises:
        ValueError: the machine does not have what the run asks for.
    """
    trainer = run.trainer
    callbacks = [
        FiniteLossGuard(trainer.log_every_steps * trainer.accumulate),
        CommonStatistics(),
        *([] if trainer.ema_decay is None else [WeightAverage(trainer.ema_decay)]),
        stopper,
        Checkpoints(
            run.out,
            every_steps=trainer.checkpoint_every_steps,
            val_every_steps=trainer.val_every_steps,
            description=description,
            stopper=stopper,
        ),
        Throughput(trainer.log_every_steps * trainer.accumulate),
        pictures,
        ProgressBar(),
    ]
    try:
        return pl.Trainer(
            max_epochs=-1,  # steps decide
            max_steps=trainer.max_steps,
            precision=trainer.precision,
            accelerator=trainer.accelerator,
            devices=trainer.devices,
            num_nodes=trainer.num_nodes,
            strategy=_strategy(trainer),
            plugins=[find_launcher(trainer.devices, trainer.num_nodes)],
            # a sharded network cannot go back to training after it
            inference_mode=trainer.strategy != "fsdp",
            gradient_clip_val=trainer.gradient_clip,
            accumulate_grad_batches=trainer.accumulate,
            log_every_n_steps=trainer.log_every_steps,
            val_check_interval=trainer.val_every_steps * trainer.accumulate,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            logger=_build_logger(run, start_step),
            callbacks=callbacks,
            default_root_dir=run.out,
        )
    except (MisconfigurationException, ValueError) as error:
        raise ValueError(f"trainer: {error}") from error


def _strategy(trainer: TrainerConfig) -> str | Strategy:
    """Lightning's strategy; by default DDP hands buffers around before every forward.

    A rank without validation clips would then be waited for for ever, and MANO's constant arrays
    would travel at every step.
    """
    if trainer.strategy == "fsdp":
        return ShardedStrategy()
    if trainer.strategy == "ddp" or trainer.devices * trainer.num_nodes > 1:
        return DDPStrategy(broadcast_buffers=False)
    return trainer.strategy


def _network_to_build(run: ReconstructionRun) -> NetworkConfig:
    """Pretrained weights are not fetched where a checkpoint's will replace them."""
    parts = run.initial_parts or ("backbone",)
    if run.resume is None and (run.initial_weights is None or "backbone" not in parts):
        return run.network
    return replace(run.network, backbone=replace(run.network.backbone, pretrained=False))


def _build_logger(run: Run, start_step: int) -> Logger:
    if run.logger == "wandb":
        # no run of wandb's is resumed: a resumed run logs into one of its own, as below
        return WandbLogger(name=run.out.name, save_dir=run.out, project="fourdhands", resume=None)
    # a resumed run logs into a folder of its own: CSVLogger would start the same file anew
    place: dict[str, Any] = {"name": "log", "version": f"from-{start_step:06d}"}
    if run.logger == "tensorboard":
        return TensorBoardLogger(run.out, **place)
    return CSVLogger(run.out, **place, flush_logs_every_n_steps=run.trainer.log_every_steps)


def check_start(run: Run) -> int:
    """Refuse starts that cannot work or would overwrite a run, before anything is written.

    Returns:
        The step that the run starts from.
    """
    _check_folder(run.out)
    initial_weights: Path | None = getattr(run, "initial_weights", None)
    if initial_weights is not None:
        read_checkpoint(initial_weights, mmap=True)
    if run.resume is None:
        if (run.out / LAST).exists():
            raise ValueError(
                f"{run.out} holds a run already; go on with it by --resume {run.out / LAST}, "
                "or choose another folder with --out"
            )
        return 0
    checkpoint, wanted = read_checkpoint(run.resume), config.to_dict(run)
    # fields that came after the checkpoint have their defaults
    stored = config.from_dict(type(run), checkpoint[KEY]["run"], source=str(run.resume))
    begun = config.to_dict(stored)
    for part in ("network", "optimizer"):
        require_same(begun, wanted, part, run.resume, may_change=MAY_CHANGE)
    if missing := {"optimizer_states", "lr_schedulers", "loops", "global_step"} - checkpoint.keys():
        raise ValueError(
            f"{run.resume}: cannot be resumed, it has no {', '.join(sorted(missing))}; "
            "use it as initial_weights"
        )
    ema_decay, averaged = run.trainer.ema_decay, CURRENT_KEY in checkpoint
    if averaged != (ema_decay is not None):
        raise ValueError(
            f"{run.resume}: of a run with{'' if averaged else 'out'} an average of its weights, "
            f"but trainer.ema_decay is {ema_decay} here; set it as it was there, or use the "
            "checkpoint as initial_weights"
        )
    step: int = checkpoint["global_step"]
    if step >= run.trainer.max_steps:
        raise ValueError(
            f"{run.resume}: this run has finished its {step} steps; raise trainer.max_steps "
            f"(now {run.trainer.max_steps}) to train on"
        )
    for part in ("loss", "data", "trainer"):
        for phrase in differences(begun, wanted, part, may_change=MAY_CHANGE):
            _tell(f"not the run that {run.resume} is of: {phrase}")
    return step


def _check_folder(out: Path) -> None:
    existing = next(folder for folder in (out, *out.parents) if folder.exists())
    if not existing.is_dir():
        raise ValueError(f"out: {existing} is a file; name a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"out: {existing} may not be written to; name another folder")


def quieten() -> None:
    """Leave out Lightning's advice and what we decided on purpose."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (
        r".*does not have many workers",  # the configuration says how many
        r".*`IterableDataset` has `__len__` defined",
        r".*The dirpath|.*Experiment logs directory",
        r".*module\(s\) in eval mode",
        r".*`self.log\('val/.*sync_dist",  # the metrics are summed over processes already
        r".*isinstance\(treespec, LeafSpec\)",  # Lightning's own affair with torch
        r".*`broadcast_buffers` is deprecated",  # what would replace it still hands them around
        r".*was called before the ``update``",  # some processes have nothing to validate
        r".*returned a view tensor. An in-place op",  # nobody changes predictions in place
    ):
        warnings.filterwarnings("ignore", message=message)
