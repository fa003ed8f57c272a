"""The Lightning module: what it trains, what it keeps, and in which precision."""

from dataclasses import replace

import pytest
import torch

from fourdhands.hands.mano import HandModel
from fourdhands.models.joints_2d import Joints2dConfig
from fourdhands.models.network import TwoHandNetwork
from fourdhands.structures import ClipMeta
from fourdhands.training.losses import LossConfig, ReconstructionLoss
from fourdhands.training.optimizer import OptimizerConfig
from fourdhands.training.reconstruction import Reconstruction
from tests.helpers.batches import random_batch
from tests.helpers.runs import tiny_network


@pytest.fixture(scope="module")
def module() -> Reconstruction:
    torch.manual_seed(0)
    hand_model = HandModel.open()
    network = TwoHandNetwork(tiny_network(), hand_model.mean_pose)
    loss = ReconstructionLoss(LossConfig(), hand_model)
    return Reconstruction(network, loss, OptimizerConfig(), max_steps=10, seed=0).eval()


def test_only_the_network_is_kept(module):
    names = set(module.state_dict())
    assert names == {f"network.{name}" for name in module.network.state_dict()}


def test_predictions_leave_autocast_in_single_precision(module):
    batch = random_batch(module.loss.hand_model)
    exact = module.predict(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = module.predict(batch)
    assert half.hands.hand_pose.dtype == half.upsilon.dtype == torch.float32
    rotation = half.hands.hand_pose
    identity = rotation @ rotation.mT
    torch.testing.assert_close(identity, torch.eye(3).expand_as(identity), atol=1e-5, rtol=0)
    torch.testing.assert_close(half.upsilon, exact.upsilon, atol=5e-3, rtol=0)


def test_validation_sums_metrics_over_batches(module):
    first, second = (
        replace(
            random_batch(module.loss.hand_model, clips=1, seed=seed),
            meta=(ClipMeta("set", f"clip{seed}", "sequence", "camera", 6.0, (0, 1, 2)),),
        )
        for seed in range(2)
    )
    logged: dict[str, float] = {}
    module.log = lambda name, value, **_: logged.update({name: float(value)})

    def mpjpe(*batches) -> float:
        for batch in batches:
            module.validation_step(batch, 0)
        module.on_validation_epoch_end()
        return logged["val/mpjpe_mm"]

    with torch.no_grad():
        assert mpjpe(first, second) == pytest.approx((mpjpe(first) + mpjpe(second)) / 2)


@pytest.mark.parametrize(
    ("losses", "encoded", "frozen"),
    [
        ({}, True, set()),
        ({"joint_relation": 0.0, "closeness": 0.0}, True, {"upsilon_head"}),
        ({}, False, {"joints_2d"}),
        ({"joint_bins": 1.0}, False, set()),
    ],
)
def test_only_what_a_loss_reaches_is_trained(losses, encoded, frozen):
    torch.manual_seed(0)
    hand_model = HandModel.open()
    branch = Joints2dConfig(channels=8, positional_encoding=encoded)
    network = TwoHandNetwork(replace(tiny_network(), joints_2d=branch), hand_model.mean_pose)
    loss = ReconstructionLoss(LossConfig(**losses), hand_model)
    Reconstruction(network, loss, OptimizerConfig(), max_steps=10, seed=0)
    batch = random_batch(hand_model, clips=1, frames=2)
    loss(network(batch), batch).total.backward()
    weights = dict(network.named_parameters())
    for name, weight in weights.items():
        assert weight.requires_grad == (weight.grad is not None), name
    assert {n.split(".")[0] for n, weight in weights.items() if not weight.requires_grad} == frozen
