"""AdamW, its groups of parameters, and the learning rate over a run."""

import math
from dataclasses import dataclass
from typing import Literal

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR


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
    """

    learning_rate: float = 1e-5
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_steps: int = 0
    schedule: Literal["linear", "steps"] = "linear"
    drop_factor: float = 0.1
    drop_every: float = 0.5

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, holds, allowed in (
            ("learning_rate", 0 < self.learning_rate < math.inf, "positive"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "at least 0"),
            ("betas", all(0 <= beta < 1 for beta in self.betas), "at least 0 and below 1"),
            ("warmup_steps", self.warmup_steps >= 0, "at least 0"),
            ("drop_factor", 0 < self.drop_factor <= 1, "above 0 and at most 1"),
            ("drop_every", 0 < self.drop_every <= 1, "above 0 and at most 1"),
        ):
            if not holds:
                raise ValueError(
                    f"optimizer.{name} is {getattr(self, name)}, it has to be {allowed}"
                )


def build_optimizer(config: OptimizerConfig, module: nn.Module) -> AdamW:
    """AdamW over the trainable parameters of a module.

    Biases, norms, embeddings and free parameters (queries, position embeddings) are not decayed:
    their size means something.
    """
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    layers = (part for part in module.modules() if isinstance(part, nn.Linear | _ConvNd))
    matrices = {id(layer.weight) for layer in layers}
    groups = [
        {
            "params": [p for p in trainable if id(p) in matrices],
            "weight_decay": config.weight_decay,
        },
        {"params": [p for p in trainable if id(p) not in matrices], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=config.learning_rate, betas=config.betas)


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
