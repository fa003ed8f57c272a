"""The optimizer's groups and the learning rate over a run."""

import pytest
import torch
from torch import nn

from fourdhands.training.optimizer import OptimizerConfig, build_optimizer, build_schedule


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.tied = self.linear
        self.conv = nn.Conv2d(3, 3, 1)
        self.norm = nn.LayerNorm(3)
        self.embedding = nn.Embedding(2, 3)
        self.query = nn.Parameter(torch.zeros(1, 1, 3))
        self.frozen = nn.Linear(3, 3).requires_grad_(False)


def rates(config: OptimizerConfig, max_steps: int) -> list[float]:
    optimizer = build_optimizer(config, nn.Linear(1, 1))
    schedule = build_schedule(config, optimizer, max_steps)
    found = []
    for _ in range(max_steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_only_matrices_of_layers_are_decayed():
    parts = Parts()
    decayed, free = build_optimizer(OptimizerConfig(weight_decay=0.5), parts).param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.5, 0)
    assert {id(p) for p in decayed["params"]} == {id(parts.linear.weight), id(parts.conv.weight)}
    trainable = [p for p in parts.parameters() if p.requires_grad]
    assert len(decayed["params"]) + len(free["params"]) == len(trainable)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
        ({"warmup_steps": 2}, [1 / 3, 2 / 3, 1, 3 / 4, 2 / 4, 1 / 4]),
        ({"schedule": "steps"}, [1, 1, 1, 0.1, 0.1, 0.1]),
        ({"schedule": "steps", "warmup_steps": 1}, [0.5, 1, 1, 0.1, 0.1, 0.1]),
        (
            {"schedule": "steps", "drop_factor": 0.5, "drop_every": 1 / 3},
            [1, 1, 0.5, 0.5, 0.25, 0.25],
        ),
    ],
)
def test_the_rate_is_a_function_of_the_step(options, expected):
    assert rates(OptimizerConfig(learning_rate=1.0, **options), 6) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("weight_decay", -1.0),
        ("betas", (0.9, 1.0)),
        ("warmup_steps", -1),
        ("drop_factor", 0.0),
        ("drop_every", 1.5),
    ],
)
def test_values_without_sense_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"optimizer\.{name} is .*, it has to be"):
        OptimizerConfig(**{name: value})
