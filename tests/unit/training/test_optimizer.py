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
    assert optimizer.param_groups[0]["lr"] == 0
    return found


def test_only_matrices_of_layers_are_decayed():
    parts = Parts()
    decayed, free = build_optimizer(OptimizerConfig(weight_decay=0.5), parts).param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.5, 0)
    assert {id(p) for p in decayed["params"]} == {id(parts.linear.weight), id(parts.conv.weight)}
    trainable = [p for p in parts.parameters() if p.requires_grad]
    assert len(decayed["params"]) + len(free["params"]) == len(trainable)


def test_the_rate_decays_linearly_to_zero():
    assert rates(OptimizerConfig(learning_rate=1.0), 4) == pytest.approx([1, 0.75, 0.5, 0.25])


def test_warm_up_rises_first():
    found = rates(OptimizerConfig(learning_rate=1.0, warmup_steps=3), 7)
    assert found == pytest.approx([0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25])
