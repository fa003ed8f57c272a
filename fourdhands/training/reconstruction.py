"""The Lightning module: batch -> network -> loss while training, -> metrics while validating.

Nothing of the method is here; `models.network` predicts, `training.losses` says what is wrong with
it, `evaluation.metrics` how wrong it is.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer

from fourdhands.evaluation.metrics import ReconstructionMetrics
from fourdhands.models.joints_2d import Joints2dBranch
from fourdhands.models.network import TwoHandNetwork
from fourdhands.models.two_hands import between_wrists
from fourdhands.structures import ClipBatch, Predictions
from fourdhands.training.losses import LossConfig, ReconstructionLoss
from fourdhands.training.optimizer import OptimizerConfig, build_optimizer, build_schedule
from fourdhands.training.sharding import ShardedStrategy, clip_gradients


class Reconstruction(pl.LightningModule):
    """Training of a `TwoHandNetwork`; only its weights enter checkpoints, as `network.*`.

    Args:
        network: what learns.
        loss: the objective, with the hand model; what it learns itself is trained, too.
        optimizer: how weights move.
        max_steps: length of the run, over which the learning rate falls.
        seed: of whatever the network draws while training (dropout).
    """

    def __init__(
        self,
        network: TwoHandNetwork,
        loss: ReconstructionLoss,
        optimizer: OptimizerConfig,
        *,
        max_steps: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.metrics = ReconstructionMetrics()
        self.optimizer_config = optimizer
        self.max_steps = max_steps
        self.seed = seed
        self._has_gradients = False
        _freeze_what_no_loss_reaches(network, loss.config)

    def on_train_batch_start(self, batch: ClipBatch, batch_idx: int) -> None:
        """Give every batch its own seed, so that a resumed run draws what this one would draw."""
        index = (self.seed, self.global_rank, self.trainer.fit_loop.total_batch_idx)
        torch.manual_seed(int(np.random.SeedSequence(index).generate_state(1)[0]))

    def training_step(self, batch: ClipBatch, batch_idx: int) -> dict[str, Any]:
        """Lightning's hook.

        Returns:
            The loss and its unweighted terms.
        """
        predictions = self.predict(batch)
        with torch.autocast(self.device.type, enabled=False):
            losses = self.loss(predictions, batch)
        clips = len(batch.times)
        self.log("train/loss", losses.total, prog_bar=True, batch_size=clips)
        logged = {f"train/{name}": term for name, term in losses.terms.items()}
        logged |= {f"train_weighted/{name}": term for name, term in losses.weighted.items()}
        for name, variance in self.loss.log_variances.items():
            logged[f"train_log_variance/{name}"] = variance.detach()
        logged["train/learning_rate"] = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log_dict(logged, batch_size=clips)
        if losses.confidence is not None:
            assert batch.labels is not None
            is_hand = batch.labels.is_hand
            known = batch.hand_visible & (batch.labels.hands_valid | ~is_hand)
            self.network.confidence_threshold.update(losses.confidence, is_hand, known)
        terms = {name: term.detach() for name, term in losses.terms.items()}
        return {"loss": losses.total, "terms": terms}

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> dict[str, Any]:
        """Lightning's hook.

        Returns:
            The predictions, for whoever draws them.
        """
        predictions = self.predict(batch)
        assert batch.labels is not None
        hand_model = self.loss.hand_model
        with torch.autocast(self.device.type, enabled=False):
            geometry, true = hand_model(predictions.hands), hand_model(batch.labels.hands)
            self.metrics.update(predictions, geometry, batch, true)
        return {"predictions": predictions}

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the whole validation split."""
        for name, value in self.metrics.compute().items():
            self.log(f"val/{name}", value, prog_bar=name == "mpjpe_mm")
        self.metrics.reset()

    def on_after_backward(self) -> None:
        """Lightning's hook: DDP waits for every gradient, so look once whether there is one.

        Raises:
            ValueError: a weight has none.
        """
        if self.trainer.world_size == 1 or self._has_gradients:
            return
        self._has_gradients = True
        weights = self.network.named_parameters()
        if missing := [n for n, w in weights if w.requires_grad and w.grad is None]:
            raise ValueError(
                f"network.{missing[0]} ({len(missing)} such weights): no loss reaches it, and "
                "several devices cannot train what has no gradient; give a loss that does a weight"
            )

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Lightning's hook: what the loss learns is too small to be sharded."""
        if isinstance(self.trainer.strategy, ShardedStrategy):
            self.trainer.strategy.average_gradients(self.loss.parameters())

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Lightning's hook: sharded or not, one norm for all."""
        if gradient_clip_val is not None:
            groups = optimizer.param_groups
            clip_gradients((p for group in groups for p in group["params"]), gradient_clip_val)

    def predict(self, batch: ClipBatch) -> Predictions:
        """Predictions in single precision, whatever the network computes in."""
        network_says: Predictions = self.network(batch)
        said = network_says.map(Tensor.float)
        head = self.network.config.head
        return replace(
            said, upsilon=between_wrists(said.upsilon, head, said.hands, self.loss.hand_model)
        )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Lightning's hook."""
        optimizer = build_optimizer(self.optimizer_config, self.network, self.loss)
        schedule = build_schedule(self.optimizer_config, optimizer, self.max_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def _freeze_what_no_loss_reaches(network: TwoHandNetwork, loss: LossConfig) -> None:
    """DDP waits for the gradient of everything that is trained, and these would have none."""
    if not (loss.joint_relation or loss.closeness):
        network.upsilon_head.requires_grad_(False)
    branch = network.joints_2d
    if isinstance(branch, Joints2dBranch) and not (
        branch.hybrid.encodes or loss.joint_bins or loss.l1_direct_2d or loss.confidence
    ):
        branch.maps.requires_grad_(False)
        branch.classifier.requires_grad_(False)
