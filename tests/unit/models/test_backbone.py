"""The backbones: what is trained gets a gradient."""

from dataclasses import replace

import pytest
import torch

from fourdhands.hands.mano import HandModel
from fourdhands.models.backbone import Backbone, BackboneConfig
from fourdhands.models.network import TwoHandNetwork
from fourdhands.training.losses import LossConfig, ReconstructionLoss
from tests.helpers.batches import random_batch
from tests.helpers.runs import tiny_network

KINDS = {
    "resnet10t": {},
    "hrnet_w18_small": {},
    "efficientnet_lite0": {},
    "convnext_atto": {},
    "vit_tiny_patch16_224": {"depth": 2},
}


@pytest.mark.parametrize("name", KINDS)
def test_every_trained_weight_gets_a_gradient(name):
    torch.manual_seed(0)
    hand_model = HandModel.open()
    backbone = BackboneConfig(name, dim=16, options=KINDS[name])
    config = replace(tiny_network(), crop_size=(64, 64), backbone=backbone)
    network = TwoHandNetwork(config, hand_model.mean_pose)
    batch = random_batch(hand_model, clips=1, frames=2, crop_size=(64, 64))
    ReconstructionLoss(LossConfig(), hand_model)(network(batch), batch).total.backward()
    for weight_name, weight in network.named_parameters():
        assert weight.requires_grad == (weight.grad is not None), weight_name
    frozen = [weight for weight in network.parameters() if not weight.requires_grad]
    assert bool(frozen) == name.startswith("hrnet")  # elsewhere nothing but last stages is unused


def test_crops_that_a_model_cannot_take_are_refused():
    with pytest.raises(ValueError, match=r"cannot take crops of \(64, 48\) .*network.crop_size"):
        Backbone(BackboneConfig("hrnet_w18_small"), (64, 48))


def test_what_is_left_out_changes_no_token():
    """The stages after the map are not computed; the map is timm's."""
    torch.manual_seed(0)
    backbone = Backbone(BackboneConfig("efficientnet_lite0", dim=8), (64, 48)).eval()
    assert len(backbone.model.blocks) == 5  # of 7
    assert backbone.layers()
    crops = torch.randint(0, 256, (2, 3, 64, 48), dtype=torch.uint8)
    assert backbone(crops, torch.ones(2, dtype=torch.bool)).shape == (2, 12, 8)
