from pathlib import Path

import numpy as np
import pytest
import yaml

from fourdhands.data.convert.names import DATASETS
from fourdhands.data.manifest import Manifest, find_shards
from tests.helpers.clips import random_clip, write_set

SHIPPED = sorted((Path(__file__).parents[3] / "data_manifests").glob("*.yaml"))
MANIFEST = {
    "name": "toy",
    "split": "train",
    "source": "make toy",
    "licence": "MIT",
    "shards": "toy/set-*.tar",
    "fps": 30,
}


def write(path: Path, **changes: object) -> Path:
    values = {k: v for k, v in {**MANIFEST, **changes}.items() if v != "absent"}
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    contents = [[random_clip(rng, key=f"clip{k}", num_frames=1)] for k in range(3)]
    return write_set(tmp_path / "toy", contents)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_manifests_are_complete_and_named_alike(path: Path) -> None:
    manifest = Manifest.load(path)
    assert manifest.title and manifest.description and manifest.annotations
    folder, shards = manifest.shards.split("/")
    part = shards.removesuffix("-*.tar").removesuffix(manifest.split).removesuffix("-")
    assert path.stem == "_".join(word for word in (folder, part, manifest.split) if word)
    if folder != "quickstart":
        assert manifest.citation and manifest.source.startswith("http")
        assert folder.startswith(manifest.name)


def test_shipped_manifests_agree_with_each_other_and_the_converters() -> None:
    manifests = [Manifest.load(path) for path in SHIPPED]
    assert len({manifest.shards for manifest in manifests}) == len(manifests)
    assert {*DATASETS} <= {manifest.name for manifest in manifests}


def test_finds_shards_in_order(tmp_path: Path, shards: list[Path]) -> None:
    manifest = find_shards(write(tmp_path / "toy.yaml", weight=2), tmp_path)
    assert manifest.shards == tuple(shards) and manifest.weight == 2
    for source in (tmp_path / "toy", tmp_path / "toy" / "set.json"):
        assert find_shards(source, tmp_path).shards == tuple(shards)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weigth": 1}, "unknown field 'weigth'"),
        ({"licence": "absent"}, "'licence' is missing"),
        ({"split": "training"}, "one of train, val, test"),
        ({"fps": "fast"}, "positive number"),
        ({"weight": -1}, "positive number"),
        ({"num_shards": 2.5}, "whole number"),
        ({"shards": "/anywhere/*.tar"}, "relative"),
        ({"checksums": [1]}, "sha256"),
        ({"annotations": ["joints"]}, "a list of boxes, joints_2d"),
        ({"expected": {"images": 3}}, "clips, frames, hands"),
        ({"expected": {"frames": True}}, "positive whole numbers"),
        ({"counts_checked": "perhaps"}, "true or false"),
        ({"citation": ["A. Author"]}, "text"),
    ],
)
def test_bad_fields(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = write(tmp_path / "toy.yaml", **changes)
    with pytest.raises(ValueError, match=message) as error:
        Manifest.load(path)
    assert str(path) in str(error.value)


def test_not_a_manifest(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    for text in ("[1, 2]", "a: [", ""):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"toy\.yaml"):
            Manifest.load(path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        Manifest.load(tmp_path / "other.yaml")


def test_what_is_missing_is_said(tmp_path: Path, shards: list[Path]) -> None:
    manifest = write(tmp_path / "toy.yaml")
    with pytest.raises(FileNotFoundError, match=r"found 0 of any shards.*make toy"):
        find_shards(manifest, tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="found 3 of 4"):
        find_shards(write(tmp_path / "four.yaml", num_shards=4), tmp_path)
    with pytest.raises(ValueError, match="not the shard"):
        find_shards(write(tmp_path / "sum.yaml", checksums={shards[0].name: "00"}), tmp_path)
    with pytest.raises(FileNotFoundError, match="no shards"):
        find_shards(tmp_path / "nowhere", tmp_path)

    shards[1].write_bytes(shards[1].read_bytes()[:5000])
    for source in (manifest, tmp_path / "toy", tmp_path / "toy" / "set.json"):
        with pytest.raises(ValueError, match=r"set-000001\.tar has 5000 bytes"):
            find_shards(source, tmp_path)
    shards[1].unlink()
    for source in (manifest, tmp_path / "toy", tmp_path / "toy" / "set.json"):
        with pytest.raises(FileNotFoundError, match=r"set-000001\.tar is missing"):
            find_shards(source, tmp_path)


def test_folder_of_several_sets_is_ambiguous(tmp_path: Path, shards: list[Path]) -> None:
    clip = random_clip(np.random.default_rng(1), num_frames=1)
    write_set(tmp_path / "toy", [[clip]], name="other")
    with pytest.raises(ValueError, match=r"other\.json, set\.json"):
        find_shards(tmp_path / "toy", tmp_path)
    assert len(find_shards(tmp_path / "toy" / "other.json", tmp_path).shards) == 1
