"""The order in which clips reach the network: in training, and once through for evaluation.

Both streams run inside the workers of a `DataLoader` and yield whole batches. Shards are dealt to
the streams of all ranks and workers; a shuffle buffer holds encoded bytes, of each window its own.

Training never ends by itself: epochs are numbers of steps. Which windows a worker draws depends on
(seed, epoch, rank, worker) alone, and how a clip is augmented on that and the window's position, so
that a run can go on from any batch: what lies before is read past without decoding anything.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar
from zlib import crc32

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from fourdhands.data.augment import AugmentConfig, ClipChange
from fourdhands.data.collate import Collate, StoredClip, Window
from fourdhands.data.manifest import ShardSet
from fourdhands.data.negatives import NegativeDraw
from fourdhands.data.schema import BadSampleError
from fourdhands.data.shards import frames_and_labels, read_samples
from fourdhands.structures import ClipBatch

T = TypeVar("T")

# What a generator is for: keeps the draws for different purposes apart.
_ORDER: Final = 0
_SHARDS: Final = 1
_CHANGE: Final = 2
_NEGATIVES: Final = 3

StreamItem = ClipBatch | BadSampleError | OSError
"""What a worker hands over: errors travel as values, or they would arrive wrapped in tracebacks."""


class TrainStream(IterableDataset[StreamItem]):
    """Endless shuffled windows, cut into epochs of a fixed number of batches."""

    def __init__(
        self,
        sets: Sequence[ShardSet],
        collate: Collate,
        *,
        gap: int,
        batch_size: int,
        steps_per_epoch: int,
        shuffle_buffer: int,
        augment: AugmentConfig,
        negative_share: float = 0.0,
        first_negative_batch: int = 0,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ):
        """Describe the stream.

        Args:
            sets: drawn from in proportion to their weights.
            collate: makes batches.
            gap: frames from one frame of a window to the next.
            batch_size: clips a batch, on each rank.
            steps_per_epoch: batches an epoch, on each rank.
            shuffle_buffer: windows to choose from, in each worker.
            augment: how clips are changed.
            negative_share: of the places for a hand that get a crop without one.
            first_negative_batch: of the run, counted on each rank, that has such crops.
            seed: of everything.
            rank: of this process.
            world_size: number of processes.
        """
        self.sets, self.collate, self.gap, self.seed = tuple(sets), collate, gap, seed
        self.batch_size, self.steps_per_epoch = batch_size, steps_per_epoch
        self.shuffle_buffer, self.augment = shuffle_buffer, augment
        self.negative_share, self.first_negative_batch = negative_share, first_negative_batch
        self.rank, self.world_size = rank, world_size
        # epoch and first batch, in memory that workers which outlive an epoch share
        self._start = torch.zeros(2, dtype=torch.int64).share_memory_()

    def start_at(self, epoch: int, batch: int) -> None:
        """Set where the next iteration begins."""
        self._start[0], self._start[1] = epoch, batch

    def __iter__(self) -> Iterator[StreamItem]:
        """Yield this worker's batches of the epoch, from the set position on."""
        return _errors_as_items(self._batches())

    def _batches(self) -> Iterator[ClipBatch]:
        epoch, first = self._start.tolist()
        slot, workers = _worker()
        # batch k belongs to worker k % workers, and the loader asks slot 0 for the first one
        worker = (first + slot) % workers
        lane = self.rank * workers + worker
        windows = self.windows(epoch, lane, self.world_size * workers)
        done = len(range(worker, first, workers))
        for _ in itertools.islice(windows, done * self.batch_size):
            pass
        for k in range(done, len(range(worker, self.steps_per_epoch, workers))):
            batch = list(itertools.islice(windows, self.batch_size))
            places = range(k * self.batch_size, (k + 1) * self.batch_size)
            rngs = [self._rng(_CHANGE, epoch, lane, place) for place in places]
            change = ClipChange.draw(self.augment, rngs)
            number = epoch * self.steps_per_epoch + k * workers + worker
            if self.negative_share and number >= self.first_negative_batch:
                rngs = [self._rng(_NEGATIVES, epoch, lane, place) for place in places]
                yield self.collate(batch, change, NegativeDraw.draw(self.negative_share, rngs))
            else:
                yield self.collate(batch, change)

    def windows(self, epoch: int, lane: int, lanes: int) -> Iterator[Window]:
        """Endless shuffled windows of one lane; nothing is decoded yet."""
        rng = self._rng(_ORDER, epoch, lane)
        sources = [
            self._windows_of_set(index, epoch, lane, lanes, rng) for index in range(len(self.sets))
        ]
        mixed = mix(sources, [one.weight for one in self.sets], rng)
        return shuffle(mixed, self.shuffle_buffer, rng)

    def _windows_of_set(
        self, index: int, epoch: int, lane: int, lanes: int, rng: np.random.Generator
    ) -> Iterator[Window]:
        """Windows of one set in the order of its shards, which each turn permutes anew."""
        shards = self.sets[index].shards
        for turn in itertools.count():
            order = self._rng(_SHARDS, epoch, index, turn).permutation(len(shards))
            empty = True
            for stored in read_lane([shards[k] for k in order], lane, lanes):
                empty = False
                yield from training_windows(stored, self.collate.num_frames, self.gap, rng)
            if empty:
                raise BadSampleError(
                    str(shards[order[lane % len(shards)]]),
                    "",
                    "",
                    f"has too few clips for {lanes} streams (ranks x workers); use fewer workers "
                    "or write smaller shards",
                )

    def _rng(self, purpose: int, *place: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, purpose, *place])


class EvalStream(IterableDataset[StreamItem]):
    """Every frame of every clip exactly once, in a fixed order, unshuffled and unchanged.

    The frames of a clip are split into windows of T frames `gap` apart: those of phase 0 (frames
    0, gap, 2 gap, ...), then of phase 1, and so on; the last window of a phase may be shorter and
    is then filled up with frames that are not valid. Nothing is dropped or repeated, so that ranks
    and workers may get unequal numbers of batches. `ClipMeta.key`, its frame ids and the times tell
    how to put sequences together again.
    """

    def __init__(
        self,
        sets: Sequence[ShardSet],
        collate: Collate,
        *,
        gap: int,
        batch_size: int,
        negative_share: float = 0.0,
        rank: int = 0,
        world_size: int = 1,
    ):
        """Describe the stream; see `TrainStream`."""
        self.sets, self.collate, self.gap = tuple(sets), collate, gap
        self.negative_share = negative_share
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size

    def __iter__(self) -> Iterator[StreamItem]:
        """Yield this worker's batches."""
        return _errors_as_items(self._batches())

    def _batches(self) -> Iterator[ClipBatch]:
        slot, workers = _worker()
        windows = (
            window
            for one in self.sets
            for stored in read_lane(
                one.shards, self.rank * workers + slot, self.world_size * workers
            )
            for window in evaluation_windows(stored, self.collate.num_frames, self.gap)
        )
        while batch := list(itertools.islice(windows, self.batch_size)):
            if self.negative_share:
                yield self.collate(batch, None, self._negatives(batch))
            else:
                yield self.collate(batch)

    def _negatives(self, windows: Sequence[Window]) -> NegativeDraw:
        """The same for a window wherever and with whichever others it is served."""
        names = [(one.stored.clip.meta.name, one.frames[0]) for one in windows]
        rngs = [np.random.default_rng([_NEGATIVES, crc32(n.encode()), k]) for n, k in names]
        return NegativeDraw.draw(self.negative_share, rngs)


def training_windows(
    stored: StoredClip, num_frames: int, gap: int, rng: np.random.Generator
) -> Iterator[Window]:
    """Windows with random starts, as many as show about as many frames as the clip has.

    A clip that is too short for `num_frames` gives windows with as many frames as fit.
    """
    fitting = min(num_frames, (stored.num_frames - 1) // gap + 1)
    latest = stored.num_frames - 1 - (fitting - 1) * gap
    for _ in range(stored.num_frames // fitting):
        start = int(rng.integers(latest + 1))
        frames = tuple(range(start, start + fitting * gap, gap))
        yield Window(stored.only(frames), frames)


def evaluation_windows(stored: StoredClip, num_frames: int, gap: int) -> Iterator[Window]:
    """Windows that hold every frame exactly once (see `EvalStream`)."""
    for phase in range(min(gap, stored.num_frames)):
        frames = range(phase, stored.num_frames, gap)
        for first in range(0, len(frames), num_frames):
            yield Window(stored, tuple(frames[first : first + num_frames]))


def read_lane(shards: Sequence[Path], lane: int, lanes: int) -> Iterator[StoredClip]:
    """The clips that fall to one of `lanes` streams; together they get every clip exactly once.

    Whole shards are dealt in turn. Where there are more streams than shards, streams share a shard
    and take its clips in turn.
    """
    if lanes <= len(shards):
        mine, share, shares = shards[lane::lanes], 0, 1
    else:
        first = lane % len(shards)
        mine, share = shards[first : first + 1], lane // len(shards)
        shares = len(range(first, lanes, len(shards)))
    for shard in mine:
        samples = read_samples(shard, frames_and_labels)
        yield from map(StoredClip, itertools.islice(samples, share, None, shares))


def mix(
    sources: Sequence[Iterator[T]], weights: Sequence[float], rng: np.random.Generator
) -> Iterator[T]:
    """Draw from endless iterators, in proportion to their weights."""
    shares = np.cumsum(weights) / np.sum(weights)
    while True:
        yield next(sources[int(np.searchsorted(shares, rng.random(), side="right"))])


def shuffle(items: Iterator[T], size: int, rng: np.random.Generator) -> Iterator[T]:
    """Shuffle an endless iterator through a buffer that is always full."""
    buffer = list(itertools.islice(items, size))
    for item in items:
        k = int(rng.integers(size))
        yield buffer[k]
        buffer[k] = item


def _worker() -> tuple[int, int]:
    """Number of this worker, and how many there are."""
    info = get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)


def _errors_as_items(batches: Iterable[ClipBatch]) -> Iterator[StreamItem]:
    """Yield a user's error instead of raising it."""
    try:
        yield from batches
    except (BadSampleError, OSError) as error:
        yield error
