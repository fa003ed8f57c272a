"""AdamW with linear warm-up and linear decay to zero."""

from dataclasses import dataclass

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
        warmup_steps: steps of linear rise before the linear decay to zero at the last step.
    """

    learning_rate: float = 1e-5
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_steps: int = 0


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
    """Linear rise over the warm-up, then linear decay that would reach 0 after the last step.

    A function of the step alone, so a resumed run continues it exactly.
    """
    assert config.warmup_steps < max_steps

    def factor(step: int) -> float:
        rise = (step + 1) / (config.warmup_steps + 1)
        fall = (max_steps - step) / (max_steps - config.warmup_steps)
        return max(0.0, min(rise, fall))

    return LambdaLR(optimizer, factor)
