"""A finished conversion tells the manifest of its set which shards there are."""

import json
from pathlib import Path

import pytest

from fourdhands.data.manifest import Manifest
from tests.helpers.official import convert
from tests.unit.data.convert.test_freihand import write_freihand

MANIFEST = """\
# a comment
name: freihand
split: train
source: somewhere
licence: research
shards: freihand_small/train-*.tar
fps: 1
checksums: {}
"""


def test_the_folder_decides_which_manifest_is_filled_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    path, other = manifests / "freihand_small_train.yaml", manifests / "freihand_train.yaml"
    path.write_text(MANIFEST)
    other.write_text(MANIFEST.replace("freihand_small/", "freihand/"))
    write_freihand(tmp_path / "raw", count=1)
    for state in ("now has", "has"):
        out = tmp_path / "freihand_small"
        convert("freihand", tmp_path / "raw", out, "--manifests", str(manifests))
        assert f"{path} {state} the checksums of 1 shards" in capsys.readouterr().out
        summary = json.loads((out / "train.json").read_text())
        digests = {entry["file"]: entry["sha256"] for entry in summary["shards"]}
        assert Manifest.load(path).checksums == digests
    assert path.read_text().startswith(MANIFEST.removesuffix(" {}\n"))
    assert not Manifest.load(other).checksums

    convert("freihand", tmp_path / "raw", tmp_path / "out", "--manifests", str(manifests))
    assert "has no manifest of freihand for out/train-*.tar" in capsys.readouterr().out
