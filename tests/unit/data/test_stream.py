import gc
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from fourdhands.data import stream
from fourdhands.data.augment import AugmentConfig
from fourdhands.data.collate import PADDING, StoredClip
from fourdhands.data.copies import is_beside
from fourdhands.data.datamodule import ClipDataModule, DataConfig, EvalLoader, TrainLoader
from fourdhands.data.manifest import find_shards
from fourdhands.data.negatives import NegativeConfig
from fourdhands.data.schema import BadSampleError, Clip, encode_clip
from fourdhands.data.shards import read_samples
from fourdhands.data.stream import (
    EvalStream,
    TrainStream,
    evaluation_windows,
    mix,
    read_lane,
    shuffle,
    training_windows,
)
from fourdhands.geometry.camera import project
from fourdhands.geometry.crop import apply_affine, crop_from_image, mirror_bbox
from fourdhands.skeleton import Side
from fourdhands.structures import ClipBatch
from tests.helpers.clips import random_clip, smooth_frames, write_set

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")

CROP_SIZE = (64, 48)
LENGTHS = (1, 5, 7, 12, 3)  # frames of the clips of a shard
AUGMENT = AugmentConfig(mirror=0.5, rotation=30, scale=0.2, shift=0.1, brightness=0.2, tint=0.1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards of five clips of different lengths, some with one hand only."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("shards")
    sides = ((Side.RIGHT, Side.LEFT), (Side.LEFT,), (Side.RIGHT,))
    shards = [
        [
            random_clip(rng, key=f"clip-{s}-{k}", num_frames=length, sides=sides[k % 3])
            for k, length in enumerate(LENGTHS)
        ]
        for s in range(3)
    ]
    write_set(folder, shards)
    return folder


@pytest.fixture(scope="module")
def several_sets(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """The clips above, one image for both ranks, and clips some of which are broken."""
    place = tmp_path_factory.mktemp("several")
    image = random_clip(np.random.default_rng(1), key="image", num_frames=1, sides=(Side.LEFT,))
    write_set(place / "image", [[image]])
    return folder, place / "image", set_with_broken(place / "broken")


def module(folder: Path, **changes: object) -> ClipDataModule:
    values: dict[str, object] = {
        "train": (folder,),
        "val": (folder,),
        "test": (folder,),
        "num_frames": 3,
        "gap": 2,
        "batch_size": 4,
        "num_workers": 0,
        "steps_per_epoch": 7,
        "shuffle_buffer": 8,
        "augment": AUGMENT,
        **changes,
    }
    return ClipDataModule(DataConfig(**values), CROP_SIZE)


def assert_same(first: ClipBatch, second: ClipBatch) -> None:
    assert first.meta == second.meta
    tensors = [asdict(replace(batch, meta=())) for batch in (first, second)]
    torch.testing.assert_close(*tensors, rtol=0, atol=0)


# ---- windows and the order -----------------------------------------------------------------------


@given(length=st.integers(1, 60), num_frames=st.integers(1, 12), gap=st.integers(1, 9))
def test_windows(length: int, num_frames: int, gap: int) -> None:
    stored = StoredClip({"__key__": "clip", **{f"{k:03d}.jpg": b"" for k in range(length)}})
    seen: list[int] = []
    for window in evaluation_windows(stored, num_frames, gap):
        assert 1 <= len(window.frames) <= num_frames
        assert set(np.diff(window.frames)) <= {gap}
        seen += window.frames
    assert sorted(seen) == list(range(length))
    windows = list(training_windows(stored, num_frames, gap, np.random.default_rng(0)))
    assert windows
    for window in windows:
        frames = np.array(window.frames)
        assert len(frames) == num_frames and frames.min() >= 0 and frames.max() < length
        shown = np.unique(frames)  # as many as fit
        assert len(shown) == min(num_frames, (length - 1) // gap + 1)
        assert set(np.diff(shown)) <= {gap}
        assert set(np.abs(np.diff(frames))) <= ({gap} if len(shown) > 1 else {0})
        assert sorted(frames[: len(shown)]) == frames[: len(shown)].tolist()
    if length >= num_frames * gap:
        assert len(windows) == length // num_frames


def test_training_windows_start_anywhere() -> None:
    stored = StoredClip({"__key__": "clip", **{f"{k:03d}.jpg": b"" for k in range(6)}})
    rng = np.random.default_rng(0)
    starts = {w.frames[0] for _ in range(50) for w in training_windows(stored, 2, 3, rng)}
    assert starts == {0, 1, 2}


def test_window_that_waits_holds_its_own_jpgs_only() -> None:
    """A buffer of single frames would otherwise hold the whole clips that they are of."""
    clip = random_clip(np.random.default_rng(0), num_frames=40)
    sample = encode_clip(clip)
    names = {name for name in sample if name.endswith(".jpg")}
    windows = list(training_windows(StoredClip(sample), 3, 5, np.random.default_rng(0)))
    members = {id(sample[name]): name for name in names}
    del sample
    assert len(windows) == 13
    for window in windows:
        held = {members[key] for key in reachable(window) & members.keys()}
        assert held == {f"{k:03d}.jpg" for k in window.frames}
        decoded = window.stored.decode_frame(window.frames[-1])
        expected = cv2.imdecode(np.frombuffer(clip.frames[window.frames[-1]], np.uint8), 1)
        np.testing.assert_array_equal(decoded, expected)


def reachable(thing: object) -> set[int]:
    """Identities of everything that an object keeps alive, classes and modules aside."""
    found: set[int] = set()
    todo = [thing]
    while todo:
        one = todo.pop()
        if id(one) not in found and not isinstance(one, type | ModuleType):
            found.add(id(one))
            todo += gc.get_referents(one)
    return found


@pytest.mark.parametrize(
    ("fps", "gap_fps", "expected"),
    [(30, 30, 5), (5, 30, 1), (10, 30, 2), (60, 30, 10), (1, 30, 1), (5, None, 5)],
)
def test_gap_means_the_same_time_in_any_source(
    tmp_path: Path, fps: float, gap_fps: float | None, expected: int
) -> None:
    clip = random_clip(np.random.default_rng(0), num_frames=12)
    write_set(tmp_path, [[replace(clip, fps=float(fps))]])
    data = module(tmp_path, num_frames=2, gap=5, gap_fps=gap_fps, batch_size=1)
    for loader in (data.train_dataloader(), data.test_dataloader()):
        batch = next(iter(loader))
        first, second = batch.meta[0].frame_ids
        assert second - first == expected
        torch.testing.assert_close(batch.times[0].diff(), torch.tensor([expected / fps]))


@pytest.mark.parametrize("lanes", [1, 2, 3, 4, 7])
def test_lanes_share_every_clip_once(folder: Path, lanes: int) -> None:
    shards = find_shards(folder, folder).shards
    keys = [stored.clip.key for lane in range(lanes) for stored in read_lane(shards, lane, lanes)]
    assert sorted(keys) == sorted(f"clip-{s}-{k}" for s in range(3) for k in range(5))


def test_shuffle_and_mix_keep_their_promises() -> None:
    rng = np.random.default_rng(0)

    def endless(label: str) -> Iterator[str]:
        while True:
            yield label

    mixed = mix([endless("a"), endless("b")], [3.0, 1.0], rng)
    counts = Counter(next(mixed) for _ in range(4000))
    assert 0.72 < counts["a"] / 4000 < 0.78
    shuffled = shuffle(iter(range(1000)), 50, rng)
    first = [next(shuffled) for _ in range(500)]
    assert len(set(first)) == 500 and max(first) < 550 and first != sorted(first)


# ---- batches -------------------------------------------------------------------------------------


def test_evaluation_sees_every_frame_once(folder: Path) -> None:
    expected = Counter(
        (f"clip-{s}-{k}", frame)
        for s in range(3)
        for k, length in enumerate(LENGTHS)
        for frame in range(length)
    )
    sets = [find_shards(folder, folder)]
    collate = module(folder)._collate
    for world_size, workers in ((1, 0), (2, 0), (5, 0), (2, 2)):
        seen: Counter[tuple[str, int]] = Counter()
        for rank in range(world_size):
            stream = EvalStream(
                sets, collate, gap=2, batch_size=4, rank=rank, world_size=world_size
            )
            for batch in EvalLoader(stream, workers):
                for meta, valid in zip(batch.meta, batch.frame_valid, strict=True):
                    assert [frame != PADDING for frame in meta.frame_ids] == valid.tolist()
                    seen.update((meta.key, frame) for frame in meta.frame_ids if frame != PADDING)
        assert seen == expected


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("shards", [(5,), (1,), (2, 3, 1, 4)])
def test_ranks_and_workers_share_evaluation(
    tmp_path: Path, world_size: int, workers: int, shards: tuple[int, ...]
) -> None:
    """Also where there are fewer shards, or fewer clips, than ranks."""
    rng = np.random.default_rng(0)
    clips = [
        [random_clip(rng, key=f"{s}-{k}", num_frames=1 + k % 3) for k in range(count)]
        for s, count in enumerate(shards)
    ]
    write_set(tmp_path, clips)
    expected = Counter((c.key, f) for one in clips for c in one for f in range(c.num_frames))
    data = module(tmp_path)
    sets, collate = data.check("test"), data._collate
    seen: Counter[tuple[str, int]] = Counter()
    for rank in range(world_size):
        stream = EvalStream(sets, collate, gap=2, batch_size=2, rank=rank, world_size=world_size)
        for batch in EvalLoader(stream, workers):
            seen.update((m.key, k) for m in batch.meta for k in m.frame_ids if k != PADDING)
    assert seen == expected


def test_evaluation_is_the_same_each_time(folder: Path) -> None:
    loader = module(folder, num_workers=2).test_dataloader()
    for first, second in zip(loader, loader, strict=True):
        assert_same(first, second)


def test_labels_project_into_the_crops(folder: Path) -> None:
    """Joints -> image -> crop is one path for every joint, augmented or not."""
    data = module(folder)
    for loader in (data.train_dataloader(), data.test_dataloader()):
        for batch in loader:
            labels = batch.labels
            pixels = project(labels.joints, batch.camera.intrinsics[:, :, None])
            difference = (pixels - labels.joints_2d)[labels.joints_2d_valid]
            assert difference.abs().max() < 1e-2
            in_crop = apply_affine(crop_from_image(batch.bbox, CROP_SIZE), labels.joints_2d)
            inside = in_crop[batch.hand_visible].mean(1)  # a hand's joints surround its centre
            limits = torch.tensor(CROP_SIZE[::-1])
            assert ((inside > -0.2 * limits) & (inside < 1.2 * limits)).all()


def test_absent_hands_and_padding(folder: Path) -> None:
    for batch in module(folder).test_dataloader():
        labels, width, height = batch.labels, 160, 120
        there = batch.hand_present
        assert not batch.crops[~there].any()
        harmless = torch.tensor([(width - 1) / 2, (height - 1) / 2, width, height])
        assert (batch.bbox[~there] == harmless).all()
        assert not labels.hands_valid[~there].any() and not labels.joints_valid[~there].any()
        assert not there[~batch.frame_valid].any()
        assert batch.crops[there].flatten(1).any(1).all()
        for b, meta in enumerate(batch.meta):
            clip = int(meta.key[-1])
            expected = [clip % 3 != 1, clip % 3 != 2]  # see `folder`
            assert there[b, 0].tolist() == expected
            times = torch.tensor(meta.frame_ids) / 30
            torch.testing.assert_close(
                batch.times[b][batch.frame_valid[b]], times[batch.frame_valid[b]]
            )


def test_left_crop_is_the_mirrored_image(tmp_path: Path) -> None:
    clip = random_clip(np.random.default_rng(0), num_frames=1)
    bbox = clip.bbox.copy()
    bbox[:] = [79.5, 59.5, 96, 128]  # both crops show the same region, at one crop pixel a pixel
    write_set(tmp_path, [[replace(clip, bbox=bbox)]])
    data = ClipDataModule(
        DataConfig(test=(tmp_path,), num_frames=1, num_workers=0, bbox_scale=1.0), (128, 96)
    )
    (batch,) = data.test_dataloader()
    right, left = batch.crops[0, 0]
    assert (right.int() - left.flip(-1).int()).abs().max() <= 1
    image = cv2.imdecode(np.frombuffer(clip.frames[0], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    difference = right[:, 4:-4].int() - torch.from_numpy(image[:, 32:-32].copy()).permute(2, 0, 1)
    assert difference.abs().max() <= 1


def test_holistic_box_surrounds_both_hands(folder: Path) -> None:
    separate = list(module(folder, bbox_scale=1.0).test_dataloader())
    holistic = list(module(folder, bbox_scale=1.0, box="holistic").test_dataloader())
    for one, both in zip(separate, holistic, strict=True):
        assert torch.equal(one.hand_present, both.hand_present)
        two_hands = both.hand_present.all(-1)
        region = both.bbox[two_hands]
        assert torch.equal(region[:, 0], region[:, 1])
        inner = one.bbox[two_hands]
        assert (inner[..., 2:] <= region[..., 2:]).any(-1).all()
        tight = both.labels.joints_2d[two_hands]
        half = region[..., None, 2:] / 2 + 1e-3
        inside = (tight - region[..., None, :2]).abs() <= half
        image = torch.tensor([160, 120])
        off_image = (tight < -0.5) | (tight > image - 0.5)
        assert (inside | off_image).all()


# ---- weights -----------------------------------------------------------------------------------


def named_sets(folder: Path, *names: str) -> tuple[Path, ...]:
    """Manifests of sets of three clips each, whose keys begin with the set's name."""
    for name in names:
        rng = np.random.default_rng(0)
        clips = [random_clip(rng, key=f"{name}-{k}", num_frames=1) for k in range(3)]
        write_set(folder / name, [clips], name)
        (folder / f"{name}_train.yaml").write_text(
            f"{{name: same, split: train, source: x, licence: x, shards: {name}/*.tar, fps: 1}}"
        )
    return tuple(folder / f"{name}_train.yaml" for name in names)


def test_sets_are_mixed_by_the_weights_of_the_run(tmp_path: Path) -> None:
    sources = (*named_sets(tmp_path, "a", "b"), tmp_path / "a")
    changes = {"root": tmp_path, "train": sources, "num_frames": 1, "batch_size": 100}
    weights = {"a": 5.0, str(tmp_path / "a"): 2.0}  # b keeps its manifest's
    data = module(tmp_path, **changes, weights=weights)
    assert [one.weight for one in data.check("train")] == [5.0, 1.0, 2.0]
    counts = Counter(meta.key[0] for batch in data.train_dataloader() for meta in batch.meta)
    assert 0.82 < counts["a"] / 700 < 0.93  # 7 / 8
    with pytest.raises(ValueError, match=r"data\.weights: 'c' is none of .*, which are .*a, b"):
        module(tmp_path, **changes, weights={"c": 1.0}).setup("fit")
    with pytest.raises(ValueError, match=r"data\.weights: a is 0, it has to be positive"):
        DataConfig(weights={"a": 0})


# ---- clips that are shorter than a window --------------------------------------------------------


def test_short_clips_are_repeated_in_training_and_decoded_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: Counter[tuple[str, int]] = Counter()
    decode = StoredClip.decode_frame

    def spy(self: StoredClip, index: int) -> object:
        decoded[self.clip.key, index] += 1
        return decode(self, index)

    monkeypatch.setattr(StoredClip, "decode_frame", spy)
    augment = AugmentConfig(mirror=0.5, rotation=30, shift=0.1, tint=0.1)
    short = 0
    for batch in module(folder, num_frames=5, batch_size=1, augment=augment).train_dataloader():
        frames = batch.meta[0].frame_ids
        assert batch.frame_valid.all() and PADDING not in frames
        assert decoded == Counter({(batch.meta[0].key, k): 1 for k in set(frames)})
        decoded.clear()
        short += len(set(frames)) < 5
        torch.testing.assert_close(batch.times[0], torch.tensor(frames) / 30)
        for t, frame in enumerate(frames):
            first = frames.index(frame)
            assert torch.equal(batch.crops[:, t], batch.crops[:, first])
            assert torch.equal(batch.bbox[:, t], batch.bbox[:, first])
            assert batch.labels is not None
            assert torch.equal(batch.labels.joints_valid[:, t], batch.labels.joints_valid[:, first])
    assert short > 2


# ---- mirrored copies -----------------------------------------------------------------------------


def test_a_copy_is_the_mirrored_hand_far_away_without_labels(folder: Path) -> None:
    plain = list(module(folder).test_dataloader())
    copied = list(module(folder, mirrored_copy=1.0).test_dataloader())
    width, number = 160, 0
    for before, after in zip(plain, copied, strict=True):
        new = after.hand_present & ~before.hand_present
        one_hand = before.hand_present.any(1).sum(-1) == 1
        expected = before.hand_present.flip(-1) & one_hand[:, None, None] & ~before.hand_present
        assert torch.equal(new, expected)
        number += int(new.sum())
        own, source = after.bbox[new], after.bbox.flip(2)[new]
        assert torch.equal(after.crops[new], after.crops.flip(2)[new]) and after.crops[new].any()
        assert torch.equal(own[:, 1:], source[:, 1:])
        # the image mirrored, and five widths further on: to the right for right hands
        is_left = new.nonzero()[:, 2] == Side.LEFT
        beside = width - 1 - source[:, 0] + torch.where(is_left, -5.0, 5.0) * width
        torch.testing.assert_close(own[:, 0], beside)
        assert is_beside(own, torch.tensor([160.0, 120.0]).expand(len(own), 2)[:, None]).all()
        assert not is_beside(before.bbox, before.camera.image_size).any()
        assert after.labels is not None and before.labels is not None
        assert after.labels.is_hand.all()
        labels = [asdict(batch.labels) for batch in (before, after)]
        torch.testing.assert_close(*labels, rtol=0, atol=0)
        assert (
            not after.labels.joints_2d_valid[new].any() and not after.labels.hands_valid[new].any()
        )
        assert torch.equal(after.crops[~new], before.crops[~new])
        assert torch.equal(after.bbox[~new], before.bbox[~new])
    assert number > 5


def test_copies_are_shared_out_in_training_and_never_of_crops_without_a_hand(folder: Path) -> None:
    changes: dict[str, object] = {"num_frames": 1, "batch_size": 50}
    plain = list(module(folder, **changes).train_dataloader())
    some = list(module(folder, **changes, mirrored_copy=0.3).train_dataloader())
    single = sum(int((batch.hand_present.sum(-1) == 1).sum()) for batch in plain)
    left = sum(int((batch.hand_present.sum(-1) == 1).sum()) for batch in some)
    assert 0.2 < 1 - left / single < 0.4
    for one, other in zip(plain, some, strict=True):
        assert one.meta == other.meta
        assert torch.equal(one.crops[one.hand_present], other.crops[one.hand_present])
    negatives = NegativeConfig(share=0.5, start=0.0)
    for batch in module(
        folder, **changes, mirrored_copy=1.0, negatives=negatives
    ).train_dataloader():
        assert batch.labels is not None
        copies = is_beside(batch.bbox, batch.camera.image_size) & batch.hand_present
        assert copies.any() and batch.labels.is_hand[copies].all()
        assert batch.labels.is_hand.flip(-1)[copies].all()


def test_a_mirrored_clip_has_a_mirrored_copy(folder: Path) -> None:
    def batches(mirror: float) -> list[ClipBatch]:
        augment = AugmentConfig(mirror=mirror)
        return list(module(folder, mirrored_copy=1.0, augment=augment).train_dataloader())

    for plain, mirrored in zip(batches(0.0), batches(1.0), strict=True):
        there = plain.hand_present
        assert torch.equal(there.flip(-1), mirrored.hand_present)
        expected = mirror_bbox(plain.bbox, 160).flip(2)
        torch.testing.assert_close(expected[there.flip(-1)], mirrored.bbox[there.flip(-1)])


# ---- crops without a hand ------------------------------------------------------------------------


def overlaps(first: torch.Tensor, second: torch.Tensor) -> bool:
    distance = (first[:2] - second[:2]).abs()
    return bool((distance < (first[2:] + second[2:]) / 2 - 1e-4).all())


def test_negatives_lie_away_from_every_hand_and_have_no_labels(folder: Path) -> None:
    data = module(folder, num_frames=2, test=(folder,))
    plain = list(data.eval_dataloader("test"))
    moved = list(data.eval_dataloader("test", negative_share=0.5))
    number = 0
    for before, after in zip(plain, moved, strict=True):
        assert before.labels is not None and after.labels is not None
        assert before.labels.is_hand.all()
        for clip, frame, side in (~after.labels.is_hand).nonzero().tolist():
            if not after.frame_valid[clip, frame]:
                continue
            number += 1
            where = (clip, frame, side)
            assert after.hand_present[where] and after.crops[where].any()
            assert not after.labels.hands_valid[where]
            assert not after.labels.joints_valid[where].any()
            assert not after.labels.joints_2d_valid[where].any()
            for other in (0, 1):  # the tight box is what the crop's margin surrounds
                if before.hand_present[clip, frame, other]:
                    tight = before.bbox[clip, frame, other].clone()
                    tight[2:] /= 1.2 * 2  # certainly inside the tight box
                    assert not overlaps(after.bbox[where], tight)
        stays = after.labels.is_hand
        assert torch.equal(after.bbox[stays], before.bbox[stays])
        assert torch.equal(after.crops[stays], before.crops[stays])
        assert torch.equal(after.labels.hands_valid[stays], before.labels.hands_valid[stays])
    assert number > 3


def test_negatives_come_when_the_run_is_that_far_and_resume(folder: Path) -> None:
    negatives = NegativeConfig(share=0.7, start=0.5)

    def batches(start: dict[str, int] | None = None) -> list[ClipBatch]:
        config = module(folder, negatives=negatives, num_workers=2).config
        loader = ClipDataModule(config, CROP_SIZE, total_batches=14).train_dataloader()
        if start:
            loader.load_state_dict(start)
        found = list(loader) + list(loader)
        loader.close()
        return found

    straight = batches()
    shares = [(~batch.labels.is_hand).float().mean() for batch in straight if batch.labels]
    assert max(shares[:7]) == 0 and min(shares[7:]) > 0
    assert_same(straight[9], batches({"epoch": 1, "batch": 2})[0])


def test_one_box_around_both_hands_cannot_be_moved_away() -> None:
    with pytest.raises(ValueError, match=r"negatives.share"):
        DataConfig(box="holistic", negatives=NegativeConfig(share=0.1))
    with pytest.raises(ValueError, match=r"data.negatives.start is 2"):
        NegativeConfig(start=2.0)
    with pytest.raises(ValueError, match=r"data.mirrored_copy: a far copy"):
        DataConfig(box="holistic", mirrored_copy=0.1)


# ---- resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "stop"), [(0, 3), (2, 3), (2, 4), (2, 7)])
def test_resume_to_the_bit(folder: Path, workers: int, stop: int) -> None:
    data = module(folder, num_workers=workers)
    loader = data.train_dataloader()
    whole = [batch for _ in range(3) for batch in loader]  # three epochs of seven steps
    assert len(whole) == 21 and whole[0].meta != whole[7].meta

    first = module(folder, num_workers=workers)
    start = iter(first.train_dataloader())
    for k in range(stop):
        assert_same(next(start), whole[k])
    state = first.state_dict()

    second = module(folder, num_workers=workers)
    second.load_state_dict(state)
    loader = second.train_dataloader()
    rest = [*loader, *loader] if stop < 7 else [*loader]
    assert len(rest) == 14 - stop
    for k, batch in enumerate(rest, stop):
        assert_same(batch, whole[k])


@settings(max_examples=8, deadline=None)
@given(
    workers=st.sampled_from([0, 1, 3]),
    stop=st.integers(1, 10),
    first_epoch=st.integers(0, 2),
    rank=st.integers(0, 1),
    seed=st.integers(0, 5),
    fps=st.sampled_from([None, 15.0]),
)
def test_resume_anywhere_whatever_is_switched_on(
    several_sets: tuple[Path, ...],
    workers: int,
    stop: int,
    first_epoch: int,
    rank: int,
    seed: int,
    fps: float | None,
) -> None:
    """Several sets, broken samples, copies, crops without a hand; at any batch of either rank."""
    data = module(
        several_sets[0],
        train=several_sets,
        weights={str(several_sets[0]): 3.0},
        gap_fps=fps,
        mirrored_copy=0.5,
        negatives=NegativeConfig(share=0.3, start=0.0),
        broken_samples="skip",
        num_workers=workers,
        seed=seed,
    )

    def loader(epoch: int, batch: int) -> TrainLoader:
        data._ranks = lambda: {"rank": rank, "world_size": 2}  # type: ignore[method-assign]
        data.load_state_dict({"epoch": epoch, "batch": batch})
        return data.train_dataloader()

    straight = loader(first_epoch, 0)
    whole = [batch for _ in range(2) for batch in straight]
    straight.close()
    epoch, batch = divmod(stop, 7)
    resumed = loader(first_epoch + epoch, batch)
    rest = list(resumed)
    resumed.close()
    assert len(rest) == 7 - batch
    for one, other in zip(rest, whole[stop:], strict=False):
        assert_same(one, other)


def test_epoch_that_was_left_early_is_not_continued(folder: Path) -> None:
    loader = module(folder).train_dataloader()
    next(iter(loader))
    assert len(list(loader)) == len(loader) == 7
    assert loader.state_dict() == {"epoch": 1, "batch": 7}


def test_skipping_decodes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = module(folder).train_dataloader()
    loader.load_state_dict({"epoch": 0, "batch": 6})
    decoded: list[str] = []
    decode = StoredClip.decode_frame

    def spy(self: StoredClip, index: int) -> object:
        decoded.append(self.clip.key)
        return decode(self, index)

    monkeypatch.setattr(StoredClip, "decode_frame", spy)
    (batch,) = loader
    shown = {(meta.key, frame) for meta in batch.meta for frame in meta.frame_ids}
    assert 0 < len(decoded) <= len(batch.meta) * 3 and set(decoded) == {key for key, _ in shown}


def test_seed_epoch_rank_and_worker_matter(folder: Path) -> None:
    def first_batch(**changes: object) -> ClipBatch:
        return next(iter(module(folder, **changes).train_dataloader()))

    assert_same(first_batch(), first_batch())
    assert first_batch(seed=1).meta != first_batch().meta
    sets, collate = [find_shards(folder, folder)], module(folder)._collate
    streams = [
        TrainStream(
            sets,
            collate,
            gap=2,
            batch_size=4,
            steps_per_epoch=7,
            shuffle_buffer=4,
            augment=AUGMENT,
            seed=0,
            rank=rank,
            world_size=2,
        )
        for rank in range(2)
    ]
    keys = [{m.key for batch in TrainLoader(s, 0) for m in batch.meta} for s in streams]
    assert keys[0] != keys[1]


# ---- bad input -----------------------------------------------------------------------------------


def broken_set(folder: Path, **changes: object) -> Path:
    rng = np.random.default_rng(0)
    clips: list[Clip] = [random_clip(rng, key=f"good-{k}", num_frames=3) for k in range(3)]
    write_set(folder, [[*clips, replace(clips[0], key="bad", **changes)]])
    return folder


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_jpg_is_named_in_one_line(tmp_path: Path, workers: int) -> None:
    frames = smooth_frames(np.random.default_rng(1), 3, (160, 120))
    cut = (frames[0][: len(frames[0]) // 2], *frames[1:])
    for name, bad, reason in (
        ("cut", cut, "000.jpg: is a broken jpg"),
        ("noise", (b"\xff\xd9", *frames[1:]), "000.jpg: is a broken jpg"),
        ("size", smooth_frames(np.random.default_rng(1), 3, (80, 60)), "80 x 60 pixels"),
    ):
        data = module(broken_set(tmp_path / name, frames=bad), num_workers=workers)
        for loader in (data.test_dataloader(), data.train_dataloader()):
            message = refusal(loader)
            assert f"{name}/set-000000.tar, sample bad" in message and reason in message
            assert "\n" not in message


BROKEN = ("frame", "labels", "meta", "nothing")


def set_with_broken(folder: Path, *, broken: bool = True, whole: int = 6) -> Path:
    """A shard of whole clips with one of each kind of `BROKEN` among them, unless all are whole."""
    rng = np.random.default_rng(3)
    keys = [f"good-{k}" for k in range(whole)]
    for place, kind in enumerate(BROKEN):
        keys.insert(2 * place, kind)
    samples = [encode_clip(random_clip(rng, key=key, num_frames=4)) for key in keys]
    for sample in samples if broken else []:
        if sample["__key__"] == "frame":
            sample["001.jpg"] = sample["001.jpg"][:100]
        elif sample["__key__"] == "labels":
            sample["joints.npy"] = sample["joints.npy"][:-4]
        elif sample["__key__"] == "meta":
            sample["meta.json"] = b"{"
        elif sample["__key__"] == "nothing":
            for k in range(4):
                del sample[f"{k:03d}.jpg"]
    folder.mkdir(parents=True, exist_ok=True)
    with webdataset.TarWriter(str(folder / "set-000000.tar"), encoder=False) as tar:
        for sample in samples:
            tar.write(sample)
    return folder


@pytest.mark.parametrize("workers", [0, 2])
def test_training_goes_on_without_broken_samples_and_counts_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    folders = [set_with_broken(tmp_path / str(b), broken=b) for b in (True, False)]
    changes = {"num_frames": 2, "num_workers": workers, "broken_samples": "skip"}
    served, as_if_whole = (list(module(one, **changes).train_dataloader()) for one in folders)
    replaced = 0
    for one, other in zip(served, as_if_whole, strict=True):
        for meta, wanted in zip(one.meta, other.meta, strict=True):
            # of the clip with a broken frame, the others can be used
            assert "good" in meta.key or (meta.key == "frame" and 1 not in meta.frame_ids)
            replaced += meta.key != wanted.key
    assert replaced > 2
    first, *lines = capsys.readouterr().err.strip().splitlines()
    assert first.startswith("training left out broken samples, ")
    assert "; 4 in all:" in first and len(lines) == 4
    for kind, reason in zip(
        BROKEN,
        (
            "member 001.jpg: is a broken jpg of 100 bytes",
            "member joints.npy: holds ",
            "member meta.json: is not JSON",
            "member 000.jpg: there are 0 for 4 frames",
        ),
        strict=True,
    ):
        (line,) = (line for line in lines if f"sample {kind}, " in line)
        assert " times shard " in line and "set-000000.tar" in line and reason in line


def test_whole_samples_stay_where_they_were(tmp_path: Path) -> None:
    """Which samples are broken decides nothing but who stands in for them."""
    folders = [set_with_broken(tmp_path / str(b), broken=b) for b in (True, False)]
    for folder in folders:  # a clip without frames is no clip: it has no windows to be replaced
        shutil.move(folder / "set-000000.tar", folder / "old.tar")
        with webdataset.TarWriter(str(folder / "set-000000.tar"), encoder=False) as tar:
            for sample in read_samples(folder / "old.tar"):
                if sample["__key__"] != "nothing":
                    tar.write({k: v for k, v in sample.items() if k == "__key__" or k[0] != "_"})
        (folder / "old.tar").unlink()
    changes = {"num_frames": 2, "broken_samples": "skip", "steps_per_epoch": 30}
    served, as_if_whole = (list(module(one, **changes).train_dataloader()) for one in folders)
    same = 0
    for one, other in zip(served, as_if_whole, strict=True):
        for place, wanted in enumerate(other.meta):
            if wanted.key.startswith("good"):
                same += 1
                assert one.meta[place] == wanted
                assert torch.equal(one.crops[place], other.crops[place])
    assert same > 40


def test_what_is_not_to_be_skipped_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST_LOOKED_AT", 50)
    folder = set_with_broken(tmp_path / "some")
    skipping = module(folder, num_frames=2, broken_samples="skip")
    assert "set-000000.tar, sample " in refusal(skipping.test_dataloader())
    assert "set-000000.tar, sample " in refusal(module(folder, num_frames=2).train_dataloader())
    for gap_fps in (None, 30.0):  # found to be broken when it is collated, and before
        nothing = module(
            set_with_broken(tmp_path / "all", whole=0),
            num_frames=4,
            gap=1,
            gap_fps=gap_fps,
            broken_samples="skip",
        )
        assert re.search(r"sample frame, .* is a broken jpg", refusal(nothing.train_dataloader()))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.tar").write_bytes(bytes(10240))
    nothing = module(tmp_path / "empty", broken_samples="skip")
    assert "hold a clip that can be used" in refusal(nothing.train_dataloader())
    shard = folder / "set-000000.tar"
    shard.write_bytes(shard.read_bytes()[:20000])
    assert "is cut off" in refusal(skipping.train_dataloader())


def refusal(loader: TrainLoader | EvalLoader) -> str:
    """The message; `pytest.raises` would hold on to the traceback and with it the workers."""
    try:
        list(loader)
    except BadSampleError as error:
        return str(error)
    pytest.fail("the broken sample was not noticed")


def test_shard_that_vanishes_or_shrinks_is_named(tmp_path: Path) -> None:
    data = module(broken_set(tmp_path), num_workers=1)
    (shard,) = find_shards(tmp_path, tmp_path).shards
    loader = data.test_dataloader()
    shard.write_bytes(shard.read_bytes()[:20000])
    with pytest.raises(BadSampleError, match=r"set-000000\.tar: is cut off"):
        list(loader)
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=r"set-000000\.tar is missing"):
        list(loader)
    with pytest.raises(FileNotFoundError, match=r"set-000000\.tar is missing|no shards"):
        data.setup("test")


def test_sample_without_frames_is_named() -> None:
    sample = encode_clip(random_clip(np.random.default_rng(0), num_frames=1))
    del sample["000.jpg"]
    with pytest.raises(BadSampleError, match="0 for 1 frames"):
        StoredClip(sample)


def test_more_streams_than_clips(tmp_path: Path) -> None:
    """A tiny set can be mixed in whatever the number of processes is."""
    rng = np.random.default_rng(0)
    clips = [random_clip(rng, key=f"clip-{k}", num_frames=1) for k in range(3)]
    write_set(tmp_path, [clips[:2], clips[2:]])
    data = module(tmp_path, num_workers=0)
    for rank in range(9):
        stream = TrainStream(
            data.check("train"),
            data._collate,
            gap=1,
            batch_size=4,
            steps_per_epoch=3,
            shuffle_buffer=4,
            augment=AUGMENT,
            seed=0,
            rank=rank,
            world_size=9,
        )
        assert {m.key for batch in TrainLoader(stream, 0) for m in batch.meta} <= {
            clip.key for clip in clips
        }


def test_config_is_checked() -> None:
    for name, value in (
        ("gap", 0),
        ("num_frames", 0),
        ("seed", -1),
        ("bbox_scale", 0),
        ("gap_fps", 0),
        ("mirrored_copy", 1.5),
    ):
        with pytest.raises(ValueError, match=rf"data\.{name} is {value}"):
            DataConfig(**{name: value})
    with pytest.raises(ValueError, match=r"data\.test is empty"):
        ClipDataModule(DataConfig(), CROP_SIZE).setup("test")
