"""Imports of image models, what does not fit by name, and starting training from parts."""

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed, resample_patch_embed

from fourdhands import config
from fourdhands.export.checkpoint import read_checkpoint
from fourdhands.export.importers import HAMER, OMNIHANDS, import_weights
from fourdhands.export.predictor import load_predictor
from fourdhands.export.start import start_from
from fourdhands.models.backbone import BackboneConfig
from fourdhands.models.network import NetworkConfig, TwoHandNetwork
from fourdhands.models.sir import SpatialConfig

CONFIGS = Path(__file__).parents[3] / "configs" / "model"
SMALL = SpatialConfig(dim=16, encoder_depth=0, decoder_depth=1, decoder_heads=1, mlp_dim=16)
VIT = NetworkConfig(
    crop_size=(64, 48),
    backbone=BackboneConfig("vit_tiny_patch16_224", options={"depth": 1}),
    spatial=replace(SMALL, encoder_heads=3),
    relation=None,
    temporal=None,
)


@pytest.fixture(scope="module")
def vit() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", depth=1, patch_size=14, img_size=224)
    return {name: torch.randn_like(weight) * 0.1 for name, weight in model.state_dict().items()}


def save(weights, path: Path) -> Path:
    torch.save({"model": weights}, path)
    return path


def test_presets_are_what_the_files_say():
    assert config.load(NetworkConfig, CONFIGS / "hamer.yaml") == HAMER
    assert config.load(NetworkConfig, CONFIGS / "omnihands.yaml") == OMNIHANDS


@pytest.mark.parametrize("source", ["mae", "timm"])
def test_vits_fill_the_backbone_resampled(source, vit, tmp_path):
    file = save(vit, tmp_path / "vit.pth")
    report = import_weights(source, file, tmp_path / "out", network=VIT)
    assert not report.faults()
    network = TwoHandNetwork(VIT)
    assert start_from(network, read_checkpoint(tmp_path / "out"), tmp_path / "out") == []
    model = network.backbone.model
    places = resample_abs_pos_embed(vit["pos_embed"][:, 1:], [4, 3], [16, 16], num_prefix_tokens=0)
    assert torch.equal(model.pos_embed, places)
    patches = resample_patch_embed(vit["patch_embed.proj.weight"], [16, 16])
    assert torch.equal(model.patch_embed.proj.weight, patches)
    assert torch.equal(model.blocks[0].attn.qkv.weight, vit["blocks.0.attn.qkv.weight"])
    assert torch.equal(model.norm.weight, vit["norm.weight"])
    with pytest.raises(ValueError, match="holds the backbone alone"):
        load_predictor(tmp_path / "out")


def test_vitpose_keeps_its_embedding_of_the_class_token(vit, tmp_path):
    theirs = {
        name.replace("norm.", "last_norm.", name.startswith("norm")): vit[name] for name in vit
    }
    weights = {f"backbone.{n}": w for n, w in theirs.items() if not n.startswith(("head", "cls"))}
    weights["backbone.pos_embed"] = torch.randn(1, 13, 192)
    weights["backbone.patch_embed.proj.weight"] = torch.randn(192, 3, 16, 16)
    weights["keypoint_head.final_layer.bias"] = torch.ones(17)
    padded = replace(VIT, backbone=replace(VIT.backbone, patch_padding=2))
    import_weights("vitpose", save(weights, tmp_path / "v.pth"), tmp_path / "out", network=padded)
    network = TwoHandNetwork(VIT)
    told = start_from(network, read_checkpoint(tmp_path / "out"), tmp_path / "out")
    assert told == ["backbone.patch_padding was 2 and is 0"]
    places = weights["backbone.pos_embed"]
    assert torch.equal(network.backbone.model.pos_embed, places[:, 1:] + places[:, :1])


def test_maps_of_convolutional_models_are_found_by_their_plain_names(tmp_path):
    torch.manual_seed(0)
    whole = timm.create_model("efficientnet_lite0").state_dict()
    network = NetworkConfig(
        crop_size=(64, 64), backbone=BackboneConfig("efficientnet_lite0", dim=16)
    )
    file = save(whole, tmp_path / "a.pth")
    report = import_weights("timm", file, tmp_path / "b", network=network, partial=True)
    assert not report.missing
    assert not report.misshaped
    built = TwoHandNetwork(network)
    start_from(built, read_checkpoint(tmp_path / "b"), tmp_path / "b")
    for name, weight in built.backbone.model.state_dict().items():
        assert torch.equal(weight, whole[name]), name


def test_what_does_not_fit_is_named_and_taken_only_when_asked(vit, tmp_path):
    wrong = dict(vit)
    del wrong["norm.bias"]
    wrong["wings"] = torch.ones(2)
    wrong["blocks.0.mlp.fc1.bias"] = torch.ones(5)
    file = save(wrong, tmp_path / "vit.pth")
    with pytest.raises(ValueError, match=r"vit.pth: not the weights of") as caught:
        import_weights("timm", file, tmp_path / "out", network=VIT)
    said = str(caught.value)
    for words in (
        "missing: norm.bias (for backbone.model.norm.bias)",
        "not known: wings",
        "shape: blocks.0.mlp.fc1.bias (5) for backbone.model.blocks.0.mlp.fc1.bias (768)",
        "--partial",
    ):
        assert words in said
    assert not (tmp_path / "out").exists()
    report = import_weights("timm", file, tmp_path / "out", network=VIT, partial=True)
    assert len(report.faults()) == 3
    assert "backbone.model.norm.bias" not in report.used


def test_other_peers_weights_are_refused(vit, tmp_path):
    with pytest.raises(ValueError, match=r"no ViT of a known width|not the weights of"):
        import_weights("vitpose", save(vit, tmp_path / "a.pth"), tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").touch()
    with pytest.raises(ValueError, match="name a folder that is new or empty"):
        import_weights("timm", tmp_path / "a.pth", tmp_path / "full", network=VIT)


def test_parts_of_a_whole_network_start_another(tmp_path, vit):
    import_weights("timm", save(vit, tmp_path / "a.pth"), tmp_path / "b", network=VIT)
    other = replace(VIT, crop_size=(96, 64), spatial=replace(VIT.spatial, dim=32))
    network = TwoHandNetwork(other)
    start_from(network, read_checkpoint(tmp_path / "b"), tmp_path / "b", ["backbone"])
    stored = read_checkpoint(tmp_path / "b")["state_dict"]["network.backbone.model.pos_embed"]
    expected = resample_abs_pos_embed(stored, [6, 4], [4, 3], num_prefix_tokens=0)
    assert torch.equal(network.backbone.model.pos_embed, expected)
    for parts, message in (
        (["spatial"], "'spatial' is no part of .*b; there are backbone"),
        (["wings"], "'wings' is no part of the network; there are backbone"),
    ):
        with pytest.raises(ValueError, match=message):
            start_from(network, read_checkpoint(tmp_path / "b"), tmp_path / "b", parts)
