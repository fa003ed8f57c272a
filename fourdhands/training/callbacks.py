"""What happens beside the training steps: guarding, stopping, saving, timing and drawing.

The order counts (`runs.assemble_trainer`): the loss is checked, weights are averaged and a stop is
decided before anything is saved.
"""

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from pytorch_lightning.callbacks import TQDMProgressBar
from torch import Tensor

from fourdhands import config
from fourdhands.evaluation.pictures import draw_frame, draw_rows
from fourdhands.evaluation.report import save_image
from fourdhands.export.checkpoint import KEY, read_checkpoint
from fourdhands.files import replacing
from fourdhands.hands.mano import HandModel
from fourdhands.structures import ClipBatch

MPJPE = "val/mpjpe_mm"
LAST, BEST = "last.ckpt", "best.ckpt"
TIME_IS_UP = 1  # beside the signals' numbers, which are larger


class FiniteLossGuard(pl.Callback):
    """Stops the run when the loss is not finite, naming the terms and the samples.

    Looking at the loss makes the processor wait for the accelerator, so losses are gathered and
    looked at every `every` batches, and before anything is saved. The weights may be spoilt by
    then, but no checkpoint is. One process's bad loss spoils the weights of all: all stop with the
    first that was bad.

    Args:
        every: batches between two looks.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.unseen: list[tuple[int, list[str], dict[str, Tensor]]] = []

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: ClipBatch,
        batch_idx: int,
    ) -> None:
        """Remember this batch's loss."""
        losses = {"total": outputs["loss"].detach(), **outputs["terms"]}
        completed = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        step = trainer.global_step if completed else trainer.global_step + 1
        self.unseen.append((step, [meta.name for meta in batch.meta], losses))
        if len(self.unseen) >= self.every:
            self.look(trainer.world_size)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Never save after a loss that was not finite."""
        self.look(trainer.world_size)

    def look(self, world_size: int) -> None:
        """Check what has gathered; all processes do so after the same batch.

        Args:
            world_size: number of processes.

        Raises:
            ValueError: a loss is not finite.
        """
        gathered, self.unseen = self.unseen, []
        if not gathered:
            return
        totals = torch.stack([losses["total"] for _, _, losses in gathered])
        bad = (~totals.isfinite()).any()
        if world_size > 1:
            bad = bad.float()
            dist.all_reduce(bad, dist.ReduceOp.MAX)
        if not bad.item():  # the one wait for the accelerator
            return
        found = [self._first_bad(gathered)]
        if world_size > 1:
            found *= world_size
            dist.all_gather_object(found, found[0])
        _, message = min(first for first in found if first is not None)
        raise ValueError(message)

    @staticmethod
    def _first_bad(
        gathered: list[tuple[int, list[str], dict[str, Tensor]]],
    ) -> tuple[int, str] | None:
        """Step and message of the first loss that is not finite."""
        for step, keys, losses in gathered:
            bad = [f"{name} = {x.item()}" for name, x in losses.items() if not x.isfinite()]
            if bad:
                return step, (
                    f"the loss of step {step} is not finite ({', '.join(bad)}); its samples are "
                    f"{', '.join(keys)}; check their labels, or lower optimizer.learning_rate"
                )
        return None


class Stopper(pl.Callback):
    """Ends the run between two steps: at the last step, when time is up, or on a signal.

    At the last step and when time is up, Lightning validates once more. On SIGINT or SIGTERM the
    process leaves as soon as `Checkpoints`, which comes next, has saved; on a second one, at once.
    What one of several processes is asked holds for all, one step later: asking the others at once
    would wait for the accelerators at every step.

    Args:
        max_steps: the last step.
        max_minutes: time that this process may train for, or None.
    """

    def __init__(self, max_steps: int, max_minutes: float | None) -> None:
        self.max_steps = max_steps
        self.max_minutes = max_minutes
        self.deadline = float("inf")
        self.signal: int | None = None
        self.agreed_signal = 0
        self.asked_of_any: Tensor | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take over SIGINT and SIGTERM, also in data workers started meanwhile."""
        owner = os.getpid()

        def on_signal(number: int, frame: FrameType | None) -> None:
            if os.getpid() != owner:  # a data worker: a terminal's Ctrl-C reaches it, too
                if number == signal.SIGTERM:
                    os._exit(128 + number)
            elif self.signal is not None:
                raise SystemExit(128 + number)
            else:
                self.signal = number

        previous = {n: signal.signal(n, on_signal) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        if self.max_minutes is not None:
            self.deadline = time.monotonic() + 60 * self.max_minutes

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: ClipBatch,
        batch_idx: int,
    ) -> None:
        """Decide whether this step was the last; all processes decide alike."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        asked = self.signal or (TIME_IS_UP if time.monotonic() > self.deadline else 0)
        if trainer.world_size > 1:
            before, device = self.asked_of_any, trainer.strategy.root_device
            self.asked_of_any = torch.full((), asked, device=device)
            dist.all_reduce(self.asked_of_any, dist.ReduceOp.MAX)
            asked = 0 if before is None else int(before)
        self.agreed_signal = asked if asked > TIME_IS_UP else 0
        if asked or trainer.global_step >= self.max_steps:
            trainer.should_stop = True

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: ClipBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Leave a validation; its step is saved already."""
        self.agreed_signal = self.signal or 0
        self.leave_if_asked()

    def leave_if_asked(self) -> None:
        """Leave the process if a signal has come, with the exit status that tells so."""
        if self.agreed_signal:
            raise SystemExit(128 + self.agreed_signal)


class Checkpoints(pl.Callback):
    """Keeps the run's folder: `config.yaml`, and two checkpoints.

    `last.ckpt` is written at steps, before validations and at the end; `best.ckpt` whenever the val
    MPJPE is the lowest so far. Instead of Lightning's ModelCheckpoint: the files have fixed names,
    are replaced atomically, hold plain data only, say what they are, and do not remember the folder
    they were written to.

    Args:
        folder: of the run.
        every_steps: steps between two `last.ckpt`.
        val_every_steps: steps between two validations.
        description: stored in the checkpoints, see `export.checkpoint.describe`.
        stopper: asked whether to leave after saving.
    """

    def __init__(
        self,
        folder: Path,
        *,
        every_steps: int,
        val_every_steps: int,
        description: Mapping[str, Any],
        stopper: Stopper,
    ) -> None:
        self.folder = folder
        self.intervals = (every_steps, val_every_steps)
        self.description = description
        self.stopper = stopper
        self.saved_step = 0
        self.best = float("inf")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the folder, and go on from the best of a run that is resumed."""
        self.saved_step = trainer.global_step
        if trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            config.save(self.description["run"], self.folder / "config.yaml")
        if (self.folder / BEST).is_file():
            best = read_checkpoint(self.folder / BEST, mmap=True)
            self.best = best["callbacks"][self.state_key]["mpjpe_mm"]
        # all save together, so they may not see different folders
        self.best = trainer.strategy.broadcast(self.best)

    def state_dict(self) -> dict[str, float]:
        """The lowest val MPJPE so far."""
        return {"mpjpe_mm": self.best}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Say what the checkpoint is."""
        checkpoint[KEY] = dict(self.description)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: ClipBatch,
        batch_idx: int,
    ) -> None:
        """Save at the end of a step, before a validation that may follow."""
        step = trainer.global_step
        due = trainer.should_stop or any(step % interval == 0 for interval in self.intervals)
        if due and step > self.saved_step:
            self.save(trainer, LAST)
            self.saved_step = step
        self.stopper.leave_if_asked()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the best."""
        mpjpe = float(trainer.callback_metrics[MPJPE])
        if mpjpe < self.best:
            self.best = mpjpe
            self.save(trainer, BEST)

    def save(self, trainer: pl.Trainer, name: str) -> None:
        """Write a checkpoint under its name in one go; all processes help, the first one writes."""
        path = self.folder / name
        with replacing(path) if trainer.is_global_zero else contextlib.nullcontext(path) as place:
            trainer.save_checkpoint(place)


class Throughput(pl.Callback):
    """Logs clips a second of all processes over the last batches, validation left out.

    Args:
        window: batches to average over.
    """

    def __init__(self, window: int) -> None:
        self.ends: deque[tuple[float, int]] = deque(maxlen=window + 1)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: ClipBatch,
        batch_idx: int,
    ) -> None:
        """Count."""
        self.ends.append((time.perf_counter(), len(batch.times) * trainer.world_size))
        if len(self.ends) > 1:
            clips = sum(count for _, count in self.ends) - self.ends[0][1]
            rate = clips / (self.ends[-1][0] - self.ends[0][0])
            pl_module.log("train/clips_per_second", rate, batch_size=1)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start anew."""
        self.ends.clear()


class ValidationPictures(pl.Callback):
    """Draws a frame of each of the first validation clips: `pictures/step-000100.png`.

    Args:
        folder: of the run.
        count: clips to draw.
        hand_model: makes the meshes.
    """

    def __init__(self, folder: Path, count: int, hand_model: HandModel) -> None:
        self.folder = folder / "pictures"
        self.count = count
        self.hand_model = hand_model
        self.rows: dict[str, list[NDArray[np.uint8]]] = {}

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: ClipBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw what is still wanted."""
        if not trainer.is_global_zero:
            return
        middle = (batch.frame_valid.sum(1) // 2).tolist()  # padding comes last
        for clip, meta in enumerate(batch.meta):
            if len(self.rows) < self.count and meta.name not in self.rows:
                self.rows[meta.name] = draw_frame(
                    batch, outputs["predictions"], self.hand_model, clip, middle[clip]
                )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the sheet."""
        rows, self.rows = self.rows, {}
        if not rows:
            return
        self.folder.mkdir(exist_ok=True)
        save_image(
            draw_rows(list(rows.items())), self.folder / f"step-{trainer.global_step:06d}.png"
        )


class ProgressBar(TQDMProgressBar):
    """One bar for the whole run; Lightning's has one for each epoch."""

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Show the whole run."""
        super().on_train_start(trainer)
        self.train_progress_bar.total = trainer.max_steps * trainer.accumulate_grad_batches
        self.train_progress_bar.initial = trainer.fit_loop.total_batch_idx + 1

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Go on with the same bar."""

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: ClipBatch,
        batch_idx: int,
    ) -> None:
        """Count from the start of the run."""
        total_idx = trainer.fit_loop.total_batch_idx
        super().on_train_batch_end(trainer, pl_module, outputs, batch, total_idx)

    def on_exception(self, *_: Any) -> None:
        """End the line, so that a message stands below it."""
        if self._train_progress_bar is not None:
            self._train_progress_bar.close()

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """What stands beside the bar; not the logger's version."""
        metrics = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in metrics.items() if name != "v_num"}
