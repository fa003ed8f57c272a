"""Windows of their own for every frame: which frames they show, and that each is asked for once."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fourdhands.data.collate import StoredClip
from fourdhands.data.datamodule import ClipDataModule, DataConfig
from fourdhands.data.stream import target_windows
from tests.helpers.clips import random_clip, write_set


def stored(length: int) -> StoredClip:
    return StoredClip({"__key__": "clip", **{f"{k:03d}.jpg": b"" for k in range(length)}})


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
def test_each_frame_of_the_data_is_asked_for_once_and_windows_stay_in_their_clip(
    tmp_path: Path, workers: int
) -> None:
    rng = np.random.default_rng(0)
    first, second = (
        # the second clip begins after a hole in the same recording
        random_clip(rng, key=f"clip{start}", num_frames=5, first_frame=start)
        for start in (0, 9)
    )
    write_set(tmp_path, [[first], [second]])
    settings = DataConfig(test=(tmp_path,), num_frames=3, gap=1, batch_size=4, num_workers=workers)
    loader = ClipDataModule(settings, (64, 48)).eval_dataloader("test", target=1)
    asked: Counter[int] = Counter()
    for batch in loader:
        assert batch.frame_valid.all()
        alone = batch.at_slot(1)
        assert alone.crops.shape[1] == 1 and torch.equal(alone.crops[:, 0], batch.crops[:, 1])
        for meta, one in zip(batch.meta, alone.meta, strict=True):
            assert one.frame_ids == meta.frame_ids[1:2]
            begins = {"clip0": 0, "clip9": 9}[meta.key]
            assert all(begins <= frame < begins + 5 for frame in meta.frame_ids)
            asked.update(one.frame_ids)
    assert asked == Counter([*range(5), *range(9, 14)])
