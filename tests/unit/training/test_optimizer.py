"""The optimizer's groups and the learning rate over a run."""

import pytest
import torch
from torch import nn

from fourdhands.hands.mano import HandModel
from fourdhands.models.backbone import BackboneConfig
from fourdhands.models.network import NetworkConfig, TwoHandNetwork
from fourdhands.training.losses import LossConfig, ReconstructionLoss
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
    optimizer = build_optimizer(config, nn.Linear(1, 1), nn.Identity())
    schedule = build_schedule(config, optimizer, max_steps)
    found = []
    for _ in range(max_steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_only_matrices_of_layers_are_decayed():
    parts = Parts()
    optimizer = build_optimizer(OptimizerConfig(weight_decay=0.5), parts, nn.Identity())
    decayed, free = optimizer.param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.5, 0)
    assert {id(p) for p in decayed["params"]} == {id(parts.linear.weight), id(parts.conv.weight)}
    trainable = [p for p in parts.parameters() if p.requires_grad]
    assert len(decayed["params"]) + len(free["params"]) == len(trainable)


def test_what_the_loss_learns_moves_ten_times_as_fast():
    loss = ReconstructionLoss(LossConfig(), HandModel.open())
    config = OptimizerConfig(learning_rate=1.0, weight_decay=0.5)
    assert len(build_optimizer(config, Parts(), loss).param_groups) == 2  # MANO learns nothing
    loss.log_variances = nn.Parameter(torch.zeros(3))
    *_, last = build_optimizer(config, Parts(), loss).param_groups
    assert (last["lr"], last["weight_decay"]) == (10, 0)
    assert [id(parameter) for parameter in last["params"]] == [id(loss.log_variances)]


VIT = BackboneConfig("vit_tiny_patch16_224", dim=32, options={"depth": 3})


@pytest.mark.parametrize(
    ("backbone", "depths"),
    [
        (
            VIT,
            {
                "neck": 0,
                "model.norm": 0,
                "model.blocks.2": 0,
                "model.blocks.1": 1,
                "model.blocks.0": 2,
                "model.patch_embed": 3,
                "model.pos_embed": 3,
            },
        ),
        (
            BackboneConfig("resnet10t", dim=32),
            {
                "neck": 0,
                "model.layer3.0": 0,
                "model.layer2.0": 1,
                "model.layer1.0": 2,
                "model.conv1": 3,
                "model.bn1": 3,
            },
        ),
    ],
)
def test_the_rate_falls_from_block_to_block_of_the_backbone(backbone, depths):
    network = TwoHandNetwork(NetworkConfig(crop_size=(64, 48), backbone=backbone))
    config = OptimizerConfig(learning_rate=1.0, weight_decay=0.5, layer_decay=0.5)
    layered = build_optimizer(config, network, nn.Identity())
    assert layered.param_groups[0]["lr"] == 1  # the one that is logged
    groups = {id(p): group for group in layered.param_groups for p in group["params"]}
    for name, parameter in network.named_parameters():
        place = next((d for n, d in depths.items() if name.startswith(f"backbone.{n}")), None)
        assert (place is None) == (not name.startswith("backbone.")), name
        assert groups[id(parameter)]["lr"] == 0.5 ** (place or 0), name

    plain = build_optimizer(OptimizerConfig(weight_decay=0.5), network, nn.Identity())
    decays = [
        {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
        for optimizer in (layered, plain)
    ]
    assert decays[0] == decays[1]
    assert len(plain.param_groups) == 2


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
        ("layer_decay", 0.0),
    ],
)
def test_values_without_sense_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"optimizer\.{name} is .*, it has to be"):
        OptimizerConfig(**{name: value})
