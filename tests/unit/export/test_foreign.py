"""Foreign weights: read what they hold, execute nothing, believe no size."""

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fourdhands.export.foreign import read_tensors


class Harmful:
    def __reduce__(self):
        return os.system, ("touch harm-was-done",)


class CfgNode(dict):
    """Like yacs': a dict with attributes, pickled by its class's name."""


CfgNode.__module__ = "yacs.config"


def rewritten(path: Path, change, compression: int = zipfile.ZIP_STORED) -> Path:
    """The torch file with entries changed: name, bytes to bytes."""
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in entries.items():
            file.writestr(name, change(name, data))
    return path


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    whole = torch.randn(4, 6)
    return {"a": whole, "view": whole.T[1:3], "b.c": torch.arange(3), "half": whole.half()}


def assert_read(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    found = read_tensors(path)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_reads_state_dicts_however_they_are_wrapped(tensors, tmp_path):
    path = tmp_path / "a.pth"
    for content in (
        tensors,
        OrderedDict(tensors),
        {"state_dict": tensors, "epoch": 3},
        {"model": {f"module.{name}": value for name, value in tensors.items()}, "lr": 0.1},
        {"state_dict": {k: torch.nn.Parameter(v, False) for k, v in tensors.items()}},
    ):
        torch.save(content, path)
        assert_read(path, tensors)
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    assert_read(path, tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    assert_read(path, tensors)


def test_configurations_are_not_needed_and_not_called(tensors, tmp_path, monkeypatch):
    """A Lightning checkpoint of HaMeR carries its yacs configuration."""
    import sys
    import types

    module = types.ModuleType("yacs.config")
    module.CfgNode = CfgNode
    monkeypatch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
    monkeypatch.setitem(sys.modules, "yacs.config", module)
    cfg = CfgNode(MODEL=CfgNode(SIZE=256))
    cfg.__dict__["__immutable__"] = True
    extra = {"hyper_parameters": {"cfg": cfg}, "callbacks": {Path("a"): {1, 2}}, "d": torch.float32}
    torch.save({"state_dict": tensors, **extra}, tmp_path / "a.ckpt")
    monkeypatch.undo()
    assert_read(tmp_path / "a.ckpt", tensors)


@pytest.mark.parametrize("legacy", [False, True])
def test_hostile_pickles_execute_nothing(tmp_path, monkeypatch, legacy):
    monkeypatch.chdir(tmp_path)
    for content in (
        {"state_dict": Harmful()},
        {"state_dict": {"a": torch.ones(1)}, "x": [Harmful()]},
    ):
        torch.save(content, "evil.pth", _use_new_zipfile_serialization=not legacy)
        with pytest.raises(ValueError, match=r"evil.pth: (refused|not readable)") as caught:
            read_tensors(Path("evil.pth"))
        assert "\n" not in str(caught.value)
    Path("plain.pth").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(ValueError, match=r"plain.pth: not readable as weights"):
        read_tensors(Path("plain.pth"))
    assert not Path("harm-was-done").exists()


def test_what_claims_more_than_it_holds_is_refused(tmp_path):
    path = tmp_path / "bomb.pth"

    def refused(words: str) -> None:
        with pytest.raises(ValueError, match=words) as caught:
            read_tensors(path)
        assert "\n" not in str(caught.value)

    torch.save({"a": torch.zeros(1000, 1000)}, path)
    rewritten(path, lambda name, data: data, zipfile.ZIP_DEFLATED)
    refused("compressed or encrypted")
    torch.save({"a": torch.ones(1).expand(10**6, 10**6)}, path)
    refused("a tensor of 1000000000000 numbers on a storage of 1")
    torch.save({"a": torch.ones(4)}, path)
    rewritten(path, lambda name, data: data[:8] if name.endswith("data/0") else data)
    refused("storage 0 holds 8 bytes")
    torch.save({"a": torch.ones(4)}, path)
    memo = pickle.dumps({}, 2)[:-1] + b"r\xff\xff\xff\x7f."
    rewritten(path, lambda name, data: memo if name.endswith("data.pkl") else data)
    refused("memo slot")
    for header in (2**62, 2**30):
        path.write_bytes(struct.pack("<Q", header) + b'{"a":1}')
        refused("header claims")


def test_a_pickle_cannot_change_how_the_next_is_read(tmp_path):
    """BUILD on a class would set its attributes: here the check of a tensor's reach."""
    path = tmp_path / "a.pth"
    torch.save({"a": torch.ones(4)}, path)
    note, nothing = (f"ctorch._utils\n_rebuild_{n}\n".encode() for n in ("tensor_v2", "parameter"))
    poison = b"\x80\x02" + note + b"N}X\x05\x00\x00\x00check" + nothing + b"s\x86b."
    rewritten(path, lambda name, data: poison if name.endswith("data.pkl") else data)
    with pytest.raises(ValueError, match="not readable as weights"):
        read_tensors(path)
    torch.save({"a": torch.ones(1).expand(10**6, 10**6)}, path)
    with pytest.raises(ValueError, match="on a storage of 1"):
        read_tensors(path)


def test_files_without_weights_are_refused(tmp_path):
    path = tmp_path / "a.pth"
    for content in ([1, 2], {}, {"state_dict": {"a": 1}}, torch.ones(2)):
        torch.save(content, path)
        with pytest.raises(ValueError, match=r"no state dict|no tensors"):
            read_tensors(path)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("../../evil/data.pkl", b"")
    for garbage in (b"", b"hello", b"PK\x03\x04 no", buffer.getvalue()):
        path.write_bytes(garbage)
        with pytest.raises(ValueError, match=r"a.pth: not readable as weights"):
            read_tensors(path)
    with pytest.raises(FileNotFoundError, match="no such file of weights"):
        read_tensors(tmp_path / "none.pth")
