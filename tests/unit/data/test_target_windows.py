"""Windows of their own for every frame: which frames they show, and that each is asked for once."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fourdhands.data.collate import JoinedClip, StoredClip
from fourdhands.data.datamodule import ClipDataModule, DataConfig
from fourdhands.data.schema import Clip
from fourdhands.data.stream import target_windows
from tests.helpers.clips import random_clip, write_set


def stored(length: int) -> JoinedClip:
    sample = {"__key__": "clip", **{f"{k:03d}.jpg": b"" for k in range(length)}}
    return JoinedClip(None, StoredClip(sample), None)


@given(
    length=st.integers(1, 40),
    num_frames=st.integers(1, 12),
    gap=st.integers(1, 9),
    place=st.floats(0, 0.999),
)
def test_every_frame_has_one_window_with_its_neighbours(
    length: int, num_frames: int, gap: int, place: float
) -> None:
    target = int(place * num_frames)
    windows = list(target_windows(stored(length), num_frames, gap, target))
    assert [window.frames[target] for window in windows] == list(range(length))
    for frame, window in enumerate(windows):
        assert len(window.frames) == num_frames
        for slot, shown in enumerate(window.frames):
            wanted = frame + gap * (slot - target)
            while wanted < 0:
                wanted += gap
            while wanted >= length:
                wanted -= gap
            assert shown == wanted


def test_the_ends_of_a_clip_are_repeated() -> None:
    windows = [window.frames for window in target_windows(stored(7), 5, 2, 2)]
    assert windows == [
        (0, 0, 0, 2, 4),
        (1, 1, 1, 3, 5),
        (0, 0, 2, 4, 6),
        (1, 1, 3, 5, 5),
        (0, 2, 4, 6, 6),
        (1, 3, 5, 5, 5),
        (2, 4, 6, 6, 6),
    ]
    assert [w.frames for w in target_windows(stored(3), 2, 1, 1)] == [(0, 0), (0, 1), (1, 2)]


@pytest.mark.parametrize("workers", [0, 2])
def test_each_frame_is_asked_for_once_in_windows_that_end_with_its_run(
    tmp_path: Path, workers: int
) -> None:
    """A run of three clips, a hole, another recording, and its end in another shard."""
    rng = np.random.default_rng(0)

    def clip(sequence: str, first: int, count: int) -> Clip:
        key = f"{sequence}-{first}"
        return random_clip(rng, key=key, sequence=sequence, first_frame=first, num_frames=count)

    run = [clip("a", 0, 4), clip("a", 4, 4), clip("a", 8, 2)]
    write_set(tmp_path, [[*run, clip("a", 11, 3), clip("b", 14, 3)], [clip("b", 17, 3)]])
    runs = [("a", range(10)), ("a", range(11, 14)), ("b", range(14, 17)), ("b", range(17, 20))]
    settings = DataConfig(test=(tmp_path,), num_frames=5, gap=2, batch_size=4, num_workers=workers)
    module = ClipDataModule(settings, (64, 48))
    crops = {
        (meta.sequence, number): crop
        for batch in module.test_dataloader()
        for meta, row in zip(batch.meta, batch.crops, strict=True)
        for number, crop in zip(meta.frame_ids, row, strict=True)
    }

    def expected(sequence: str, number: int) -> list[int]:
        (its,) = (frames for name, frames in runs if name == sequence and number in frames)
        alike = [frame for frame in its if (frame - number) % 2 == 0]
        return [min(max(number + 2 * k, alike[0]), alike[-1]) for k in (-2, -1, 0, 1, 2)]

    asked: Counter[tuple[str, int]] = Counter()
    for batch in module.eval_dataloader("test", target=2):
        assert batch.frame_valid.all()
        alone = batch.at_slot(2)
        assert alone.crops.shape[1] == 1 and torch.equal(alone.crops[:, 0], batch.crops[:, 2])
        for k, meta in enumerate(batch.meta):
            (number,) = alone.meta[k].frame_ids
            asked[meta.sequence, number] += 1
            begins = int(meta.key.split("-")[1])  # it bears its own clip's name
            assert begins <= number < begins + 4
            assert list(meta.frame_ids) == expected(meta.sequence, number)
            seconds = (np.array(meta.frame_ids) - number) / meta.fps
            np.testing.assert_allclose(batch.times[k] - batch.times[k, 2], seconds, atol=1e-5)
            for frame, crop in zip(meta.frame_ids, batch.crops[k], strict=True):
                assert torch.equal(crop, crops[meta.sequence, frame])
    assert asked == Counter((name, frame) for name, frames in runs for frame in frames)
