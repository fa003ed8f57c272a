"""Bundles: the same predictions again, nothing of MANO, and nothing but what the manifest says."""

import json
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import fourdhands
from fourdhands import config
from fourdhands.export.bundle import MANIFEST, WEIGHTS, check_files, write_manifest
from fourdhands.export.checkpoint import CURRENT_KEY, describe
from fourdhands.export.publish import export_bundle
from fourdhands.hands.assets import load_assets, save_assets
from fourdhands.hands.mano import HandModel
from fourdhands.models.network import NetworkConfig, TwoHandNetwork
from fourdhands.models.sir import SpatialConfig
from tests.helpers.batches import random_batch

TINY = NetworkConfig(
    crop_size=(32, 32), spatial=SpatialConfig(dim=32), relation=None, temporal=None
)


def write_checkpoint(path: Path, mano: Path | None = None, average: bool = False) -> Path:
    torch.manual_seed(1)
    hand_model = HandModel(load_assets(mano))
    network = TwoHandNetwork(TINY, hand_model.mean_pose)
    run = {
        "network": config.to_dict(TINY),
        "data": {"bbox_scale": 1.7, "box": "separate", "train": ["gone.yaml"]},
        "mano": None if mano is None else str(mano),
        "out": "/home/somebody/run",
    }
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    content = {"state_dict": weights, "fourdhands": describe(run), "global_step": 12}
    if average:
        content[CURRENT_KEY] = {name: value + 1 for name, value in weights.items()}
    torch.save(content, path)
    return path


def predict(source, **options):
    predictor = fourdhands.load_predictor(source, **options)
    return predictor(random_batch(HandModel(), crop_size=(32, 32)))


def assert_same(first, second):
    for name, value in vars(first.hands).items():
        assert torch.equal(value, vars(second.hands)[name]), name
    assert torch.equal(first.upsilon, second.upsilon)


def test_bundles_predict_the_same_to_the_bit(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "a.ckpt")
    export_bundle(checkpoint, tmp_path / "b", open_hand=True)
    export_bundle(tmp_path / "b", tmp_path / "again")
    expected = predict(checkpoint)
    for source in (tmp_path / "b", str(tmp_path / "b"), tmp_path / "again"):
        assert_same(predict(source), expected)
    check_files(tmp_path / "b")
    assert (tmp_path / "b" / "open_hand" / "MANO_LEFT.npz").is_file()
    stored = json.loads((tmp_path / "b" / "config.json").read_text())
    assert stored["preprocessing"]["crop"] == {
        "size": [32, 32],
        "bbox_scale": 1.7,
        "box": "separate",
    }
    assert "somebody" not in json.dumps(stored)
    card = (tmp_path / "b" / "README.md").read_text()
    assert "12 steps" in card
    assert "gone.yaml | | not on record" in card


def test_average_or_trained_weights(tmp_path):
    averaged = write_checkpoint(tmp_path / "a.ckpt", average=True)
    for weights, offset in (("saved", 0), ("average", 0), ("trained", 1)):
        export_bundle(averaged, tmp_path / "b", weights=weights)
        found = load_file(tmp_path / "b" / WEIGHTS)["spatial.query"]
        expected = torch.load(averaged, weights_only=True)["state_dict"]["network.spatial.query"]
        assert torch.equal(found, expected + offset)
    with pytest.raises(ValueError, match="has no average of its weights"):
        export_bundle(write_checkpoint(tmp_path / "c.ckpt"), tmp_path / "d", weights="average")


def test_nothing_of_mano_is_in_a_bundle(tmp_path):
    """MANO as one may be: other numbers than the open hand's, not marked as open."""
    rng = np.random.default_rng(0)
    mean = rng.normal(size=45).astype(np.float32) * 0.1
    sides = tuple(replace(side, source="mano", hands_mean=mean) for side in load_assets())
    save_assets(sides, tmp_path / "mano")
    checkpoint = write_checkpoint(tmp_path / "a.ckpt", mano=tmp_path / "mano")
    export_bundle(checkpoint, tmp_path / "b", open_hand=True)
    weights = load_file(tmp_path / "b" / WEIGHTS)
    assert "mano_head.mean_rotations" not in weights
    sixd = torch.load(checkpoint, weights_only=True)["state_dict"][
        "network.mano_head.mean_rotations"
    ]
    for array in (torch.from_numpy(mean), sixd[1:].flatten(), sixd[1]):
        for name, weight in weights.items():
            if weight.numel() >= len(array):
                assert not torch.isin(weight, array).all(), name
    with pytest.raises(ValueError, match="give the folder that `fourdhands hands import` wrote"):
        fourdhands.load_predictor(tmp_path / "b")
    assert_same(predict(tmp_path / "b", mano=tmp_path / "mano"), predict(checkpoint))
    export_bundle(tmp_path / "b", tmp_path / "again", mano=tmp_path / "mano")
    assert "mano_head.mean_rotations" not in load_file(tmp_path / "again" / WEIGHTS)


def test_damaged_and_hostile_bundles_are_refused(tmp_path):
    good, folder = tmp_path / "good", tmp_path / "b"
    checkpoint = write_checkpoint(tmp_path / "a.ckpt")
    export_bundle(checkpoint, good)
    shutil.copytree(good, folder)

    def refused(words: str) -> None:
        with pytest.raises((ValueError, FileNotFoundError), match=words) as caught:
            fourdhands.load_predictor(folder)
            check_files(folder)
        assert "\n" not in str(caught.value)
        shutil.rmtree(folder)
        shutil.copytree(good, folder)

    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1] + b"!")
    refused("model.safetensors: not the file that the manifest describes")
    (folder / "config.json").write_text("{" * 10)
    refused("config.json: not the file")
    (folder / WEIGHTS).unlink()
    refused("model.safetensors is missing")
    for name in ("../../etc/passwd", "/etc/passwd", "a/../../b", ".hidden", "a\\b"):
        manifest = json.loads((folder / MANIFEST).read_text())
        manifest["files"][name] = {"bytes": 1, "sha256": "0"}
        (folder / MANIFEST).write_text(json.dumps(manifest))
        refused("is no name of a file in a bundle")
    for data, words in (
        (struct.pack("<Q", 2**62) + b"{}", "header claims 4611686018427387904 bytes"),
        (struct.pack("<Q", 2) + b"{]", "not readable as safetensors"),
        (b"PK", "not readable as safetensors"),
    ):
        (folder / WEIGHTS).write_bytes(data)
        write_manifest(folder)  # the manifest is the attacker's, too
        refused(words)
    (folder / MANIFEST).write_text("[" * 100_000)
    refused("manifest.json: not readable as JSON")
    (folder / MANIFEST).unlink()
    with pytest.raises(FileNotFoundError, match="no checkpoint and no bundle"):
        fourdhands.load_predictor(folder)
    with pytest.raises(ValueError, match="is there and no bundle"):
        export_bundle(checkpoint, folder)


def test_a_bundle_is_replaced_and_nothing_else(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "a.ckpt")
    export_bundle(checkpoint, tmp_path / "b", open_hand=True)
    export_bundle(checkpoint, tmp_path / "b")
    assert not (tmp_path / "b" / "open_hand").exists()
    (tmp_path / "b" / "mine.png").touch()
    with pytest.raises(ValueError, match=r"holds mine.png, which is no part of the bundle"):
        export_bundle(checkpoint, tmp_path / "b")
    assert (tmp_path / "b" / "mine.png").is_file()


def test_offline_the_cache_is_asked_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match="nobody/nothing: no such file or folder, not in"):
        fourdhands.load_predictor("nobody/nothing")
