"""A running average of the weights, which validates and is kept in place of the weights."""

from typing import Any, Final

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

AVERAGE_KEY: Final = "averaging_state"
"""Lightning's key of what a checkpoint with an average holds besides."""


class WeightAverage(WeightAveraging):
    """Exponential moving average after every step, of weights and batch statistics alike.

    The weights of step i count in the average of step t in proportion to decay^(t - i): the first
    steps do not linger as they would if the average started from them. Checkpoints hold the
    average as `state_dict`, so whoever reads them gets it, and the weights that are trained on
    beside it.

    Args:
        decay: of a step's share in the average, from each step to the next.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(use_buffers=True, multi_avg_fn=self._move)
        self.decay = decay

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Copy the module, on the device it will train on; it is not there yet."""
        super().setup(trainer, pl_module, stage)
        assert self._average_model is not None
        self._average_model.module.to(trainer.strategy.root_device)

    @torch.no_grad()
    def _move(self, average: list[Tensor], weights: list[Tensor], _: Any) -> None:
        """Move averages towards weights; the tensors of each list are of one type."""
        if not average[0].is_floating_point():  # counts and indices have no mean
            torch._foreach_copy_(average, weights)
            return
        assert self._average_model is not None
        steps = int(self._average_model.n_averaged) + 1
        torch._foreach_lerp_(average, weights, (1 - self.decay) / (1 - self.decay**steps))
