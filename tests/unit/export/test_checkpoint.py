"""Checkpoints: what they say of themselves, and refusing what is not one."""

import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from fourdhands.export.checkpoint import (
    KEY,
    describe,
    load_network_weights,
    network_weights,
    read_checkpoint,
    require_same,
)

RUN = {"network": {"dim": 4, "temporal": None}, "seed": 1}


class Harmful:
    def __reduce__(self):
        return Path.touch, (Path("harm-was-done"),)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    weights = {f"network.{name}": value for name, value in nn.Linear(4, 4).state_dict().items()}
    path = tmp_path / "good.ckpt"
    torch.save({"state_dict": weights, "fourdhands": describe(RUN)}, path)
    return path


def test_reads_what_was_written(checkpoint):
    content = read_checkpoint(checkpoint)
    assert content["fourdhands"]["run"] == RUN
    assert content["fourdhands"]["network"] == RUN["network"]
    layer = nn.Linear(4, 4)
    load_network_weights(layer, content, checkpoint)
    assert all(torch.equal(layer.state_dict()[k], v) for k, v in network_weights(content).items())


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"PK\x03\x04 broken", b"\x80\x02}q\x00.", b"\xff" * 8 + b"{"]
)
def test_garbage_is_refused_in_one_line(tmp_path, content):
    for path in (tmp_path / "bad.ckpt", tmp_path / "bad.safetensors"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{path.name}: not a ") as caught:
            read_checkpoint(path)
        assert "\n" not in str(caught.value)


def test_truncated_files_are_refused(checkpoint):
    checkpoint.write_bytes(checkpoint.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"good.ckpt: not a readable checkpoint"):
        read_checkpoint(checkpoint)


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.ckpt: no such checkpoint"):
        read_checkpoint(tmp_path / "none.ckpt")
    foreign = tmp_path / "foreign.ckpt"
    torch.save({"state_dict": {}}, foreign)
    with pytest.raises(ValueError, match="not a checkpoint of fourdhands"):
        read_checkpoint(foreign)
    torch.save({"state_dict": {}, "fourdhands": {"format_version": 99}}, foreign)
    with pytest.raises(ValueError, match="checkpoint format 99, this version reads 1"):
        read_checkpoint(foreign)
    for own, state, words in (
        ({"network": 3}, {}, "does not say of what network"),
        ({"parts": 3}, {}, "does not say of what network"),
        ({}, {3: torch.ones(1)}, "its state_dict is no mapping of names"),
        ({}, 3, "its state_dict is no mapping of names"),
    ):
        torch.save({"state_dict": state, "fourdhands": describe(RUN) | own}, foreign)
        with pytest.raises(ValueError, match=words):
            read_checkpoint(foreign)


def test_hostile_files_execute_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Harmful(), "fourdhands": describe(RUN)}, "evil.ckpt")
    with pytest.raises(ValueError, match=r"evil.ckpt: not a readable checkpoint"):
        read_checkpoint(Path("evil.ckpt"))
    assert not Path("harm-was-done").exists()


def test_zip_bombs_are_refused(checkpoint):
    with zipfile.ZipFile(checkpoint) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(checkpoint, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries.items():
            file.writestr(name, data)
    with pytest.raises(ValueError, match=r"good.ckpt: not a readable checkpoint .*compressed"):
        read_checkpoint(checkpoint)


def test_other_networks_are_refused(checkpoint):
    content = read_checkpoint(checkpoint)
    begun = content[KEY]["run"]
    require_same(begun, RUN | {"seed": 2}, "network", checkpoint)
    for network, message in (
        ({"dim": 8, "temporal": None}, r"another network: network.dim is 4 there and 8 here"),
        ({"dim": 4, "temporal": {"depth": 1}}, r"network.temporal is None there and 'absent' here"),
    ):
        with pytest.raises(ValueError, match=message):
            require_same(begun, {"network": network}, "network", checkpoint)
    wider = {"network": {"dim": 8, "temporal": None}}
    require_same(begun, wider, "network", checkpoint, may_change={"network.dim"})
    with pytest.raises(ValueError, match=r"weight is \(4, 4\) there and \(5, 4\) here; bias"):
        load_network_weights(nn.Linear(4, 5), content, checkpoint)
