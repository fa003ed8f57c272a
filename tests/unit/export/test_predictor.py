"""Predictors: the network of a checkpoint again, or one line about why not."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fourdhands import config
from fourdhands.data.copies import FAR
from fourdhands.export.checkpoint import describe
from fourdhands.export.predictor import HoldingPredictor, Predictor, load_predictor
from fourdhands.hands.mano import HandModel
from fourdhands.models.backbone import BackboneConfig
from fourdhands.models.joints_2d import Joints2dConfig
from fourdhands.models.network import NetworkConfig, TwoHandNetwork
from fourdhands.models.sir import SpatialConfig
from tests.helpers.batches import random_batch

TINY = NetworkConfig(
    crop_size=(32, 32), spatial=SpatialConfig(dim=32), relation=None, temporal=None
)


def write_checkpoint(path: Path, trained: TwoHandNetwork, **changes) -> Path:
    run = {
        "network": config.to_dict(trained.config),
        "data": {"bbox_scale": 1.7, "box": "separate", "batch_size": 3},
        "mano": None,
    }
    weights = {f"network.{name}": value for name, value in trained.state_dict().items()}
    torch.save({"state_dict": weights, "fourdhands": describe(run | changes)}, path)
    return path


@pytest.fixture(scope="module")
def network() -> TwoHandNetwork:
    torch.manual_seed(0)
    return TwoHandNetwork(TINY).eval()


def test_predicts_what_the_trained_network_predicts(network, tmp_path):
    predictor = load_predictor(write_checkpoint(tmp_path / "a.ckpt", network))
    assert predictor.crop.size == (32, 32)
    assert predictor.crop.bbox_scale == 1.7
    assert not predictor.network.training
    batch = random_batch(HandModel(), crop_size=(32, 32))
    predicted = predictor(batch)
    with torch.no_grad():
        expected = network(batch)
    assert torch.equal(predicted.hands.hand_pose, expected.hands.hand_pose)
    assert torch.equal(predicted.upsilon, expected.upsilon)
    assert not predicted.upsilon.requires_grad


def test_a_mirrored_copy_does_not_move_the_hand(network, tmp_path):
    """Between two hands cameras and the vector between roots are reconciled, with a copy not."""
    predictor = load_predictor(write_checkpoint(tmp_path / "a.ckpt", network))
    batch = random_batch(HandModel(), crop_size=(32, 32))
    width = batch.camera.image_size[..., 0]
    bbox = batch.bbox.clone()
    bbox[:, :, 1, 0] = width - 1 - bbox[:, :, 0, 0] - FAR * width
    for present, is_moved in ((batch.bbox, True), (bbox, False)):
        moved = replace(batch, bbox=present)
        with torch.no_grad():
            alone = network(moved).hands.transl
        assert torch.equal(predictor(moved).hands.transl, alone) != is_moved


def test_never_fetches_pretrained_weights(network, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    trained = replace(TINY, backbone=BackboneConfig(pretrained=True))
    path = write_checkpoint(tmp_path / "a.ckpt", network, network=config.to_dict(trained))
    assert not load_predictor(path).network.config.backbone.pretrained


def test_misfits_are_refused_in_one_line(network, tmp_path):
    wider = config.to_dict(replace(TINY, spatial=SpatialConfig(dim=64)))
    unknown = config.to_dict(TINY) | {"wings": 2}
    opens = config.to_dict(TINY)
    opens["backbone"]["options"] = {"checkpoint_path": "evil.pth"}
    elsewhere, deep, vast = (config.to_dict(TINY) for _ in range(3))
    elsewhere["backbone"]["name"] = "local-dir:/tmp/evil"
    deep["spatial"]["encoder_depth"] = 10**6
    vast["backbone"]["options"] = {"block_args": {"width": 10**9}}
    not_ours = config.to_dict(replace(TINY, backbone=BackboneConfig(options={"wings": 2})))
    for changes, message in (
        ({"network": wider}, r"a.ckpt: the weights are of another network"),
        ({"network": unknown}, r"a.ckpt: network: unknown key 'wings'"),
        ({"network": opens}, r"backbone.options may not hold checkpoint_path"),
        ({"network": elsewhere}, r"'local-dir:/tmp/evil': unknown to timm"),
        ({"network": deep}, r"encoder_depth is 1000000, more than its weights are for"),
        ({"network": vast}, r"width is 1000000000, more than its weights are for"),
        ({"network": not_ours}, r"wings"),
        ({"data": 3}, r"a.ckpt: its configuration of the run is none"),
        ({"data": {"bbox_scale": 1.7, "box": "separate", "gap": "x"}}, r"gap_fps have to be num"),
        ({"data": {}}, r"a.ckpt: data: .*bbox_scale"),
        ({"mano": str(tmp_path / "gone")}, r"MANO folder '.*gone' does not exist"),
    ):
        path = write_checkpoint(tmp_path / "a.ckpt", network, **changes)
        with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
            load_predictor(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        load_predictor(tmp_path / "none.ckpt")


def test_hands_are_held_until_they_are_confident_again(network, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="no 2D branch"):
        HoldingPredictor(load_predictor(write_checkpoint(tmp_path / "a.ckpt", network)))
    trained = TwoHandNetwork(replace(TINY, joints_2d=Joints2dConfig())).eval()
    predictor = load_predictor(write_checkpoint(tmp_path / "b.ckpt", trained))
    with pytest.raises(ValueError, match="saw no crops without a hand"):
        HoldingPredictor(predictor)
    monkeypatch.setattr(Predictor, "confidence_threshold", 0.5)
    confident = torch.tensor([[1, 0, 1], [1, 1, 0]]).bool().mT  # (T, S)
    monkeypatch.setattr(Predictor, "confidence", lambda *_: confident.float().expand(2, 3, 2))
    batch = random_batch(predictor.hand_model, crop_size=(32, 32))
    plain, held = predictor(batch), HoldingPredictor(predictor)(batch)
    for frame, (right, left) in enumerate(((0, 0), (0, 1), (2, 1))):
        for side, source in enumerate((right, left)):
            torch.testing.assert_close(
                held.hands.hand_pose[:, frame, side], plain.hands.hand_pose[:, source, side]
            )
    roots = predictor.hand_model.roots(held.hands)
    torch.testing.assert_close(held.upsilon, roots[..., 1, :] - roots[..., 0, :])
