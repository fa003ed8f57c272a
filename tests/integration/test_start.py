"""The weights of others as the start of training, from the file to the first checkpoint."""

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
import yaml
from timm.layers import resample_abs_pos_embed

from fourdhands import config
from fourdhands.cli.main import main
from fourdhands.export.checkpoint import network_weights, read_checkpoint
from fourdhands.models.backbone import BackboneConfig
from fourdhands.training.runs import train_reconstruction
from tests.helpers.runs import tiny_network, tiny_run


@pytest.mark.parametrize("source", ["mae", "timm"])
def test_training_starts_from_an_imported_file(source: str, tmp_path: Path) -> None:
    """A ViT of square images with patches of 14, for crops of 64 x 48 with patches of 16."""
    torch.manual_seed(3)
    model = timm.create_model("vit_tiny_patch16_224", depth=1, patch_size=14, img_size=224)
    theirs = {name: 0.1 * torch.randn_like(weight) for name, weight in model.state_dict().items()}
    if source == "mae":  # what such files have besides
        theirs |= {"mask_token": torch.ones(1, 1, 8), "decoder_pred.bias": torch.ones(3)}
    torch.save({"model": theirs}, tmp_path / "theirs.pth")
    backbone = BackboneConfig("vit_tiny_patch16_224", options={"depth": 1})
    own = tiny_network()
    network = replace(own, backbone=backbone, spatial=replace(own.spatial, encoder_heads=3))
    (tmp_path / "network.yaml").write_text(yaml.safe_dump(config.to_dict(network)))
    command = ["import-weights", str(tmp_path / "theirs.pth"), "--from", source]
    command += ["--network", str(tmp_path / "network.yaml"), "--out", str(tmp_path / "bundle")]
    assert main(command) == 0
    run = tiny_run(tmp_path)
    run = replace(
        run,
        network=network,
        trainer=replace(run.trainer, max_steps=1, val_every_steps=100, pictures=0),
        optimizer=replace(run.optimizer, learning_rate=1e-12, warmup_steps=0),
        initial_weights=tmp_path / "bundle",
    )
    train_reconstruction(run)
    begun = network_weights(read_checkpoint(run.out / "last.ckpt"))
    places = resample_abs_pos_embed(
        theirs["pos_embed"][:, 1:], [4, 3], [16, 16], num_prefix_tokens=0
    )
    for name, expected in (
        ("pos_embed", places),
        ("blocks.0.attn.qkv.weight", theirs["blocks.0.attn.qkv.weight"]),
        ("norm.bias", theirs["norm.bias"]),
    ):
        torch.testing.assert_close(begun[f"backbone.model.{name}"], expected, atol=1e-10, rtol=0)
