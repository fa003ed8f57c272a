"""AdamW, its groups of parameters, and the learning rate over a run."""

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Final, Literal

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from fourdhands.models.backbone import Backbone

LOSS_RATE: Final = 10.0
"""How many times faster moves what the loss itself learns: few numbers, far from where they end."""


@dataclass(frozen=True)
class OptimizerConfig:
    """How weights move.

    Attributes:
        learning_rate: the highest.
        weight_decay: of linear and convolution weights; nothing else is decayed.
        betas: decay rates of the running mean and mean square of the gradient.
        warmup_steps: steps of linear rise before the rate falls.
        schedule: 'linear' decay that would reach zero after the last step, or 'steps' down.
        drop_factor: what each of the 'steps' multiplies the rate by.
        drop_every: share of the run between two of the 'steps'; by default DaHyF's, a tenth after
            half of the run.
        layer_decay: factor of the rate from each block of the backbone to the one before it, down
            to the patch embedding or stem; None moves the whole network alike.
    """

    learning_rate: float = 1e-5
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_steps: int = 0
    schedule: Literal["linear", "steps"] = "linear"
    drop_factor: float = 0.1
    drop_every: float = 0.5
    layer_decay: float | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        layer_decay = 0.5 if self.layer_decay is None else self.layer_decay
        for name, holds, allowed in (
            ("learning_rate", 0 < self.learning_rate < math.inf, "positive"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "at least 0"),
            ("betas", all(0 <= beta < 1 for beta in self.betas), "at least 0 and below 1"),
            ("warmup_steps", self.warmup_steps >= 0, "at least 0"),
            ("drop_factor", 0 < self.drop_factor <= 1, "above 0 and at most 1"),
            ("drop_every", 0 < self.drop_every <= 1, "above 0 and at most 1"),
            ("layer_decay", 0 < layer_decay < 1, "above 0 and below 1"),
        ):
            if not holds:
                raise ValueError(
                    f"optimizer.{name} is {getattr(self, name)}, it has to be {allowed}"
                )


def build_optimizer(config: OptimizerConfig, network: nn.Module, loss: nn.Module) -> AdamW:
    """AdamW over the trainable parameters of a network, fastest groups first, and of its loss.

    Biases, norms, embeddings and free parameters (queries, position embeddings) are not decayed:
    their size means something. Nor is what the loss learns, which moves faster, by `LOSS_RATE`.

    Raises:
        ValueError: layer_decay is set, but the backbone's layers are not known.
    """
    layers = (part for part in network.modules() if isinstance(part, nn.Linear | _ConvNd))
    matrices = {id(layer.weight) for layer in layers}
    shares = _shares_of_rate(config, network)
    found = defaultdict(list)
    for parameter in network.parameters():
        if parameter.requires_grad:
            key = (shares.get(id(parameter), 1.0), id(parameter) in matrices)
            found[key].append(parameter)
    groups: list[dict[str, Any]] = [
        {
            "params": found[share, decayed],
            "lr": share * config.learning_rate,
            "weight_decay": config.weight_decay if decayed else 0.0,
        }
        for share, decayed in sorted(found, reverse=True)
    ]
    if learnt := [parameter for parameter in loss.parameters() if parameter.requires_grad]:
        rate = LOSS_RATE * config.learning_rate
        groups.append({"params": learnt, "lr": rate, "weight_decay": 0.0})
    return AdamW(groups, lr=config.learning_rate, betas=config.betas)


def _shares_of_rate(config: OptimizerConfig, network: nn.Module) -> dict[int, float]:
    """What the backbone's parameters get of the learning rate, by id."""
    if config.layer_decay is None:
        return {}
    return {
        id(parameter): config.layer_decay**depth
        for part in network.modules()
        if isinstance(part, Backbone)
        for depth, layer in enumerate(reversed(part.layers()))
        for parameter in layer
    }


def build_schedule(config: OptimizerConfig, optimizer: AdamW, max_steps: int) -> LambdaLR:
    """Linear rise over the warm-up, then linear decay or steps down.

    A function of the step alone, so a resumed run continues it exactly.
    """
    assert config.warmup_steps < max_steps
    interval = max(1, round(config.drop_every * max_steps))

    def factor(step: int) -> float:
        rise = (step + 1) / (config.warmup_steps + 1)
        if config.schedule == "steps":
            fall = config.drop_factor ** (step // interval)
        else:
            fall = (max_steps - step) / (max_steps - config.warmup_steps)
        return max(0.0, min(rise, fall))

    return LambdaLR(optimizer, factor)
