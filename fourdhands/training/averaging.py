"""Averages: of the weights over steps, and of batch statistics over processes."""

from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from fourdhands.export.checkpoint import CURRENT_KEY
from fourdhands.models.confidence import ConfidenceThreshold
from fourdhands.structures import ClipBatch
from fourdhands.training.sharding import cut_like, own_part


class CommonStatistics(pl.Callback):
    """Averages over processes, after every step, what layers gather from their own batches.

    Otherwise each process would validate another network, and checkpoints hold the first one's.
    """

    @torch.no_grad()
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: ClipBatch,
        batch_idx: int,
    ) -> None:
        """Average."""
        if trainer.world_size == 1 or (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        found = [
            statistic
            for part in pl_module.modules()
            if isinstance(part, _BatchNorm | ConfidenceThreshold)
            for statistic in part.buffers(recurse=False)
            if statistic.is_floating_point()
        ]
        mean = torch.cat([statistic.flatten() for statistic in found])
        dist.all_reduce(mean)  # Lightning's `reduce` would wait for the accelerator
        mean /= trainer.world_size
        for statistic, value in zip(found, mean.split([x.numel() for x in found]), strict=True):
            statistic.copy_(value.view_as(statistic))


class WeightAverage(pl.Callback):
    """Exponential moving average after every step, of weights and batch statistics alike.

    The weights of step i count in the average of step t in proportion to decay^(t - i): the first
    steps do not linger as they would if the average started from them. Validation sees the average.
    Checkpoints hold it as `state_dict`, so whoever reads them gets it, and the weights that are
    trained on beside it. Where weights are sharded, each device averages its own part (Lightning's
    `WeightAveraging` cannot).

    Args:
        decay: of a step's share in the average, from each step to the next.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.restored: dict[str, Tensor] | None = None
        self.average: dict[str, Tensor] = {}
        self.averaged_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start from the weights as they are, or from a checkpoint's average."""
        state, self.averaged_step = pl_module.state_dict(), trainer.global_step
        whole_average, self.restored = self.restored, None
        with torch.no_grad():
            for name, weight in state.items():
                if whole_average is not None:
                    weight = cut_like(whole_average[name], weight)
                self.average[name] = own_part(weight).clone()

    @torch.no_grad()
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: ClipBatch,
        batch_idx: int,
    ) -> None:
        """Move the average, if this batch ended a step."""
        if trainer.global_step == self.averaged_step:
            return
        self.averaged_step = trainer.global_step
        share = (1 - self.decay) / (1 - self.decay**self.averaged_step)
        kinds: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        for average, weight in self._pairs(pl_module):
            averages, weights = kinds.setdefault(average.dtype, ([], []))
            averages.append(average)
            weights.append(weight)
        for kind, (averages, weights) in kinds.items():
            if kind.is_floating_point:
                torch._foreach_lerp_(averages, weights, share)
            else:  # counts and indices have no mean
                torch._foreach_copy_(averages, weights)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average in place of the weights; before the strategy gathers them."""
        self._swap(pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the weights back."""
        self._swap(pl_module)

    @torch.no_grad()
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the average as the weights, and the weights beside it."""
        self._swap(pl_module)
        average = trainer.strategy.lightning_module_state_dict()
        # one of its own: these tensors may be the weights themselves
        average = {name: weight.detach().to("cpu", copy=True) for name, weight in average.items()}
        self._swap(pl_module)
        checkpoint[CURRENT_KEY], checkpoint["state_dict"] = checkpoint["state_dict"], average

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Train on with the weights; the average comes in when they are on their devices."""
        self.restored = checkpoint["state_dict"]
        pl_module.load_state_dict(checkpoint[CURRENT_KEY])

    @torch.no_grad()
    def _swap(self, pl_module: pl.LightningModule) -> None:
        for average, weight in self._pairs(pl_module):
            kept = average.clone()
            average.copy_(weight)
            weight.copy_(kept)

    def _pairs(self, pl_module: pl.LightningModule) -> list[tuple[Tensor, Tensor]]:
        """Average and weight of everything that is kept."""
        state = pl_module.state_dict()
        return [(average, own_part(state[name])) for name, average in self.average.items()]
