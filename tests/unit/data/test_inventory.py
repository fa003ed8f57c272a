"""`fourdhands data`: what is there, and that nothing wrong with it goes unseen."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from fourdhands.cli.main import main
from fourdhands.data.manifest import Manifest, record_shards
from fourdhands.data.schema import SCHEMA_VERSION
from fourdhands.data.shards import SetSummary, ShardWriter
from fourdhands.skeleton import Side
from tests.helpers.clips import random_clip, write_set

SHARDS, CLIPS, FRAMES = 3, 2, 2
ALL_FRAMES = SHARDS * CLIPS * FRAMES


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """A manifests folder that describes `toy` and `gone`, and a root where only `toy` is."""
    manifests, root = tmp_path / "manifests", tmp_path / "data"
    rng = np.random.default_rng(0)
    contents = [
        [random_clip(rng, key=f"clip{s}{c}", num_frames=FRAMES) for c in range(CLIPS)]
        for s in range(SHARDS)
    ]
    write_set(root / "toy", contents, name="train")
    manifests.mkdir()
    for name in ("toy", "gone"):
        write_manifest(manifests, name, expected={"frames": ALL_FRAMES})
    return manifests, root


def write_manifest(folder: Path, place: str, **fields: object) -> Path:
    path = folder / f"{place}_train.yaml"
    known = {"name": "random", "split": "train", "source": "make it", "licence": "MIT", "fps": 30}
    path.write_text(yaml.safe_dump({**known, "shards": f"{place}/train-*.tar", **fields}))
    return path


def data(command: str, places: tuple[Path, Path], *words: str) -> int:
    flags = ["--manifests", str(places[0]), "--root", str(places[1])]
    return main(["data", command, *words, *flags])


def check(places: tuple[Path, Path], *words: str) -> int:
    return data("check", places, "--workers", "1", *words)


def write_report(root: Path, frames: int, hands: int, left_out: int = 0) -> None:
    skipped = {"blurred": {"frames": left_out, "examples": []}} if left_out else {}
    plain = {"frames": frames, "hands": {"right": hands, "left": 0}, "skipped": skipped}
    (root / "toy" / "train-report.json").write_text(json.dumps(plain))


def test_whole_sets_are_listed_and_pass(places, capsys):
    assert data("list", places) == 0
    gone, toy = capsys.readouterr().out.splitlines()[1:]
    assert gone.split()[:3] == ["gone_train", "train", "missing"]
    assert toy.split()[:8] == ["toy_train", "train", "complete", "12", "/", "12", "-", "3"]
    assert check(places) == 0  # what is not there is no fault
    assert f"frames {ALL_FRAMES}, hands {2 * ALL_FRAMES}" in capsys.readouterr().out
    assert check(places, "toy", "--workers", "2") == 0
    assert check(places, "gone") == 1  # unless it is asked for
    assert "gone_train" in capsys.readouterr().err


def test_an_empty_root_is_listed_and_has_nothing_to_check(places, capsys):
    empty = places[0], places[1] / "nowhere"
    assert data("list", empty) == 0
    assert capsys.readouterr().out.count("missing") == 2
    assert check(empty) == 1
    assert "nothing was checked" in capsys.readouterr().err


def test_all_shipped_manifests_are_listed(tmp_path, capsys):
    shipped = Path(__file__).parents[3] / "data_manifests"
    assert data("list", (shipped, tmp_path)) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 1 + len(list(shipped.glob("*.yaml")))
    assert all("missing" in line for line in out[1:])


def test_an_unknown_name_gets_the_nearest(places, capsys):
    assert check(places, "toy_tarin") == 1
    assert "did you mean toy_train" in capsys.readouterr().err


def flip(shard: Path, needle: bytes, offset: int) -> None:
    content = bytearray(shard.read_bytes())
    content[content.index(needle) + offset] ^= 1
    shard.write_bytes(content)


@pytest.mark.parametrize(("needle", "offset"), [(b"\xff\xd8\xff", 60), (b"clip10.000.jpg", 0)])
def test_a_flipped_byte_is_found(places, capsys, needle, offset):
    flip(places[1] / "toy" / "train-000001.tar", needle, offset)
    assert check(places, "--quick") == 0  # that needs reading
    assert check(places) == 1
    out, err = capsys.readouterr()
    assert "toy/train-000001.tar: " in out and "1 of 1 sets" in err


def test_missing_truncated_and_stray_shards_are_found(places, capsys):
    folder = places[1] / "toy"
    (folder / "train-000000.tar").unlink()
    shard = folder / "train-000001.tar"
    shard.write_bytes(shard.read_bytes()[:-1024])
    (folder / "train-000007.tar").write_bytes((folder / "train-000002.tar").read_bytes())
    for words in ((), ("--quick",)):
        assert check(places, *words) == 1
        out = capsys.readouterr().out
        assert "toy/train-000000.tar: missing" in out
        assert "toy/train-000001.tar: has another size" in out
        assert "toy/train-000007.tar: in no summary" in out
        assert "expected" not in out  # one fault is told once


def test_a_wrong_count_is_found_unless_frames_were_left_out(places, capsys):
    write_manifest(places[0], "toy", expected={"frames": ALL_FRAMES + 3, "hands": 30})
    assert check(places) == 1
    assert f"{ALL_FRAMES} frames, expected are {ALL_FRAMES + 3}" in capsys.readouterr().out
    write_report(places[1], ALL_FRAMES, 2 * ALL_FRAMES, left_out=3)
    assert check(places) == 0
    write_report(places[1], ALL_FRAMES, 2 * ALL_FRAMES, left_out=2)
    assert check(places, "--quick") == 1
    write_manifest(places[0], "toy", expected={"frames": 99}, counts_checked=False)
    capsys.readouterr()
    assert check(places) == 0  # a figure that nobody has checked
    assert "note: 12 frames and 2 left out, expected are 99" in capsys.readouterr().out


def test_the_report_has_to_agree_with_the_shards(places, capsys):
    write_report(places[1], ALL_FRAMES, 2 * ALL_FRAMES - 1)
    assert check(places, "--quick") == 0
    assert check(places) == 1
    assert "24 hands, the conversion's report says 23" in capsys.readouterr().out
    write_report(places[1], ALL_FRAMES + 1, 2 * ALL_FRAMES)
    assert check(places, "--quick") == 1


def test_what_is_labelled_and_whose_the_clips_are(places, capsys):
    write_manifest(places[0], "toy", annotations=["joints_2d", "vertices", "masks"])
    assert check(places) == 0
    assert "none of its clips has vertices, masks" in capsys.readouterr().out
    write_manifest(places[0], "toy", name="other")
    assert check(places) == 1
    assert "6 clips are of 'random', not of 'other'" in capsys.readouterr().out


def test_other_shards_than_those_on_record_are_found(places, capsys):
    manifest = places[0] / "toy_train.yaml"
    record_shards(manifest, SetSummary.load(places[1] / "toy" / "train.json"))
    assert check(places) == 0
    folder = places[1] / "toy"
    for file in folder.iterdir():
        file.unlink()
    clip = random_clip(np.random.default_rng(1), num_frames=ALL_FRAMES, sides=[Side.LEFT])
    write_set(folder, [[clip]], name="train")
    assert data("list", places) == 0
    out = capsys.readouterr().out
    assert "differs" in out and "not the shard that the manifest has on record" in out
    assert "train-000001.tar, train-000002.tar: missing, the manifest lists it" in out
    assert check(places) == 1


def test_samples_of_another_version_are_told_without_reading(places, capsys):
    summary = places[1] / "toy" / "train.json"
    version = f'"schema_version": {SCHEMA_VERSION}'
    summary.write_text(summary.read_text().replace(version, '"schema_version": 999'))
    assert check(places) == 1
    assert capsys.readouterr().out.count("samples of version 999") == 1


def test_an_unfinished_set_is_told(places, capsys):
    writer = ShardWriter(places[1] / "gone", "train", num_shards=2, recipe={})
    writer.start()
    writer.write(0, [random_clip(np.random.default_rng(2), num_frames=1)])
    assert data("list", places) == 0
    assert "gone_train  train  unfinished" in capsys.readouterr().out
    assert check(places) == 1
    assert "wrong: unfinished, so far 1 of 2 shards" in capsys.readouterr().out


# ---- filling in ----------------------------------------------------------------------------------

COMMENTED = """\
# The toy set.
name: random # as in its clips
split: train
expected: {frames: 12}
num_shards: null # filled in
checksums: {} # filled in, too

# where from
source: make it
licence: MIT
shards: toy/train-*.tar
fps: 30
"""


def test_checksums_are_filled_in_and_nothing_else_changes(places):
    path = places[0] / "toy_train.yaml"
    path.write_text(COMMENTED)
    summary = SetSummary.load(places[1] / "toy" / "train.json")
    assert record_shards(path, summary)
    lines = "".join(f"\n  {entry.file}: {entry.sha256}" for entry in summary.shards)
    filled = COMMENTED.replace("num_shards: null", "num_shards: 3")
    filled = filled.replace("checksums: {} # filled in, too", f"checksums: # filled in, too{lines}")
    assert path.read_text() == filled
    assert Manifest.load(path).checksums == {e.file: e.sha256 for e in summary.shards}
    before = path.stat()
    assert not record_shards(path, summary)
    assert path.stat() == before
    fewer = SetSummary("train", {}, 1, summary.shards[:1])
    assert record_shards(path, fewer) and record_shards(path, summary)
    assert path.read_text() == filled


@pytest.mark.parametrize("ending", ["fps: 30\n", "fps: 30"])
def test_fields_that_are_not_there_are_added(places, ending):
    path = places[0] / "toy_train.yaml"
    text = path.read_text().replace("fps: 30\n", "") + ending
    path.write_text(text)
    assert record_shards(path, SetSummary.load(places[1] / "toy" / "train.json"))
    assert path.read_text().startswith(text.rstrip() + "\nnum_shards: 3\nchecksums:\n  train-0")


def test_a_layout_that_cannot_be_changed_in_place_is_refused(places):
    path = places[0] / "toy_train.yaml"
    text = f"{{{', '.join(COMMENTED.replace(' # as in its clips', '').splitlines()[1:3])},\n"
    text += "source: a, licence: b, shards: toy/train-*.tar, fps: 3}\n"
    path.write_text(text)
    Manifest.load(path)
    with pytest.raises(ValueError, match=r"toy_train\.yaml: not yaml|alone"):
        record_shards(path, SetSummary.load(places[1] / "toy" / "train.json"))
    assert path.read_text() == text
