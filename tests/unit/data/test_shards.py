import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourdhands.data.schema import BadSampleError, Clip, decode_clip
from fourdhands.data.shards import (
    SetSummary,
    ShardWriter,
    frames_and_labels,
    inspect_shard,
    read_samples,
)
from tests.helpers.clips import random_clip, write_set


def clips(seed: int, count: int = 3) -> list[Clip]:
    rng = np.random.default_rng(seed)
    return [random_clip(rng, key=f"clip-{seed}-{k}", num_frames=2) for k in range(count)]


def writer(folder: Path, **recipe: object) -> ShardWriter:
    return ShardWriter(folder, "set", num_shards=3, recipe=recipe)


def test_round_trip_and_summary(tmp_path: Path) -> None:
    paths = write_set(tmp_path, [clips(0), clips(1, 2)])
    keys = [decode_clip(sample).key for path in paths for sample in read_samples(path)]
    assert keys == ["clip-0-0", "clip-0-1", "clip-0-2", "clip-1-0", "clip-1-1"]
    summary = SetSummary.load(tmp_path / "set.json")
    assert summary.finished
    assert [(entry.clips, entry.frames) for entry in summary.shards] == [(3, 6), (2, 4)]
    assert summary.shards[1] == inspect_shard(paths[1])


def test_equal_clips_give_equal_bytes(tmp_path: Path) -> None:
    first, second = (write_set(tmp_path / name, [clips(0)])[0] for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_interrupted_set_is_continued(tmp_path: Path) -> None:
    def failing() -> object:
        yield clips(1)[0]
        raise KeyboardInterrupt

    first = writer(tmp_path, seed=1)
    first.start()
    first.write(0, clips(0))
    with pytest.raises(KeyboardInterrupt):
        first.write(1, failing())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set-000000.tar", "set.json"]
    (tmp_path / ".set-000001.tar.123.partial").write_bytes(b"left by a killed process")

    second = writer(tmp_path, seed=1)
    second.start()
    assert second.pending() == [1, 2]
    with pytest.raises(ValueError, match=r"set-000001\.tar: missing, 2 shards"):
        second.finish()
    second.write(0, failing())  # there already: not even asked for
    second.write(1, clips(1))
    second.write(2, clips(2))
    assert second.finish() == second.finish()
    assert not list(tmp_path.glob(".*"))


def test_other_recipe_is_refused(tmp_path: Path) -> None:
    first = writer(tmp_path, seed=0, scene={"fps": 5, "kinds": {"close": 1}})
    first.start()
    other = writer(tmp_path, seed=0, scene={"fps": 5, "kinds": {"close": 2}})
    other.start()  # nothing was made from the first one
    other.write(0, clips(0))
    with pytest.raises(ValueError, match=r"with scene\.kinds\.close = 2, not 1"):
        first.start()


def test_shards_of_unknown_origin_are_refused(tmp_path: Path) -> None:
    (tmp_path / "set-000000.tar").touch()
    with pytest.raises(ValueError, match="nobody knows"):
        writer(tmp_path).start()


def test_damaged_summary_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.json"
    for text in ("", "[]", "{}", json.dumps({"shards": [1]})):
        path.write_text(text)
        with pytest.raises(ValueError, match="not the summary"):
            SetSummary.load(path)


def test_duplicate_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSampleError, match="twice"):
        write_set(tmp_path, [clips(0) * 2])
    assert not list(tmp_path.glob("*.tar*"))


def test_select_skips_members(tmp_path: Path) -> None:
    clip = random_clip(np.random.default_rng(0), num_frames=1)
    object.__setattr__(clip, "masks", (b"mask",))
    (path,) = write_set(tmp_path, [[clip]])
    assert "000.mask.png" in next(read_samples(path))
    assert "000.mask.png" not in next(read_samples(path, frames_and_labels))


def test_missing_shard(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.tar is missing"):
        next(read_samples(tmp_path / "nowhere.tar"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_set(tmp_path_factory.mktemp("whole"), [clips(0)])[0].read_bytes()


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 0.999))
def test_truncation_anywhere_is_noticed(
    whole: bytes, tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.tar"
    end = len(whole.rstrip(b"\0"))  # what follows is the end mark and padding
    path.write_bytes(whole[: int(share * end)])
    with pytest.raises(BadSampleError, match=r"cut\.tar.*write"):
        for sample in read_samples(path):
            decode_clip(sample)


def test_noise_is_not_a_shard(tmp_path: Path) -> None:
    path = tmp_path / "noise.tar"
    path.write_bytes(np.random.default_rng(0).bytes(4096) + bytes(1024))
    with pytest.raises(BadSampleError, match="not a readable tar"):
        list(read_samples(path))
