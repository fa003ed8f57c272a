"""The order in which clips reach the network: in training, and once through for evaluation.

Both streams run inside the workers of a `DataLoader` and yield whole batches. Shards are dealt to
the streams of all ranks and workers; a shuffle buffer holds encoded bytes, of each window its own.

Training never ends by itself: epochs are numbers of steps. Which windows a worker draws depends on
(seed, epoch, rank, worker) alone, and how a clip is augmented on that and the window's position, so
that a run can go on from any batch: what lies before is read past without decoding any image.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, Generic, Literal, Never, TypeVar
from zlib import crc32

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from fourdhands.data.augment import AugmentConfig, ClipChange
from fourdhands.data.collate import Collate, JoinedClip, StoredClip, Window, follows
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
_COPIES: Final = 4

EMPTY_TURNS: Final = 10
"""How often a set is gone through for nothing, for each stream, before it counts as empty."""
MOST_LOOKED_AT: Final = 1000
"""Windows to choose from where one of a batch is broken; if none is whole, neither is the data."""

BrokenSamples = Literal["stop", "skip"]


@dataclass(frozen=True)
class Served:
    """A training batch.

    Attributes:
        batch: as it is trained on.
        left_out: the broken samples that were met on the way to it.
    """

    batch: ClipBatch
    left_out: tuple[BadSampleError, ...] = ()

    def pin_memory(self) -> "Served":
        """What the loader does with batches."""
        return replace(self, batch=self.batch.pin_memory())


StreamError = BadSampleError | OSError
"""What users can mend. Workers yield it as a value, or it would arrive wrapped in tracebacks."""


class TrainStream(IterableDataset[Served | StreamError]):
    """Endless shuffled windows, cut into epochs of a fixed number of batches."""

    def __init__(
        self,
        sets: Sequence[ShardSet],
        collate: Collate,
        *,
        gap: int,
        gap_fps: float | None = None,
        batch_size: int,
        steps_per_epoch: int,
        shuffle_buffer: int,
        augment: AugmentConfig,
        negative_share: float = 0.0,
        first_negative_batch: int = 0,
        mirrored_copy: float = 0.0,
        broken_samples: BrokenSamples = "stop",
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ):
        """Describe the stream.

        Args:
            sets: drawn from in proportion to their weights.
            collate: makes batches.
            gap: frames from one frame of a window to the next.
            gap_fps: frames a second that `gap` is meant for (see `frames_apart`).
            batch_size: clips a batch, on each rank.
            steps_per_epoch: batches an epoch, on each rank.
            shuffle_buffer: windows to choose from, in each worker.
            augment: how clips are changed.
            negative_share: of the places for a hand that get a crop without one.
            first_negative_batch: of the run, counted on each rank, that has such crops.
            mirrored_copy: share of the clips with one hand in which its mirrored copy stands for
                the other (see `data.copies`).
            broken_samples: whether a broken sample ends the stream, or another one takes its place.
            seed: of everything.
            rank: of this process.
            world_size: number of processes.
        """
        self.sets, self.collate, self.seed = tuple(sets), collate, seed
        self.gap, self.gap_fps = gap, gap_fps
        self.batch_size, self.steps_per_epoch = batch_size, steps_per_epoch
        self.shuffle_buffer, self.augment = shuffle_buffer, augment
        self.negative_share, self.first_negative_batch = negative_share, first_negative_batch
        self.mirrored_copy, self.broken_samples = mirrored_copy, broken_samples
        self.rank, self.world_size = rank, world_size
        self._left_out: list[BadSampleError] = []
        # epoch and first batch, in memory that workers which outlive an epoch share
        self._start = torch.zeros(2, dtype=torch.int64).share_memory_()

    def start_at(self, epoch: int, batch: int) -> None:
        """Set where the next iteration begins."""
        self._start[0], self._start[1] = epoch, batch

    def __iter__(self) -> Iterator[Served | StreamError]:
        """Yield this worker's batches of the epoch, from the set position on."""
        return _errors_as_items(self._batches())

    def _batches(self) -> Iterator[Served]:
        epoch, first = self._start.tolist()
        slot, workers = _worker()
        # batch k belongs to worker k % workers, and the loader asks slot 0 for the first one
        worker = (first + slot) % workers
        lane = self.rank * workers + worker
        windows = Lookahead(self.windows(epoch, lane, self.world_size * workers))
        done = len(range(worker, first, workers))
        for _ in itertools.islice(windows, done * self.batch_size):
            pass
        for k in range(done, len(range(worker, self.steps_per_epoch, workers))):
            places = range(k * self.batch_size, (k + 1) * self.batch_size)

            def rngs(purpose: int, places: range = places) -> list[np.random.Generator]:
                return [self._rng(purpose, epoch, lane, place) for place in places]

            change = ClipChange.draw(self.augment, rngs(_CHANGE))
            negatives = copied = None
            number = epoch * self.steps_per_epoch + k * workers + worker
            if self.negative_share and number >= self.first_negative_batch:
                negatives = NegativeDraw.draw(self.negative_share, rngs(_NEGATIVES))
            if self.mirrored_copy:
                draws = torch.tensor([rng.random() for rng in rngs(_COPIES)])
                copied = draws < self.mirrored_copy
            make = partial(self.collate, change=change, negatives=negatives, copied=copied)
            batch = self._whole_batch(windows, make)
            left_out, self._left_out = tuple(self._left_out), []
            yield Served(batch, left_out)

    def _whole_batch(
        self, windows: "Lookahead[Window]", make: Callable[[Sequence[Window]], ClipBatch]
    ) -> ClipBatch:
        """Make the next windows a batch; whole ones that come later stand in for broken ones.

        These are served again when it is their turn, so that which windows are whole changes
        nothing for the batches to come, and a run can be resumed without a look at them.
        """
        batch = list(itertools.islice(windows, self.batch_size))
        later, broken = iter(range(MOST_LOOKED_AT)), set[tuple[str, str]]()
        while True:
            try:
                return make(batch)
            except BadSampleError as error:
                self._leave_out(error)
                broken.add((error.shard, error.key))
                assert any(window.stored.place in broken for window in batch)
                for place, window in enumerate(batch):
                    while window.stored.place in broken:
                        if (ahead := next(later, None)) is None:
                            raise
                        window = windows.peek(ahead)
                    batch[place] = window

    def _leave_out(self, error: BadSampleError) -> None:
        """Go on without a sample, if that is wanted and it is not the whole shard.

        Raises:
            BadSampleError: the error itself.
        """
        if self.broken_samples == "stop" or not error.key:
            raise error
        self._left_out.append(error)

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
        shards, empty_turns = self.sets[index].shards, 0
        for turn in itertools.count():
            order = self._rng(_SHARDS, epoch, index, turn).permutation(len(shards))
            ordered = [shards[k] for k in order]
            empty_turns += 1
            # with few clips a lane comes away empty, but not in every turn, as lanes change places
            for stored in read_lane(ordered, (lane + turn) % lanes, lanes, self._leave_out):
                try:
                    gap = frames_apart(stored, self.gap, self.gap_fps)
                except BadSampleError as error:
                    self._leave_out(error)
                    continue
                empty_turns = 0
                yield from training_windows(stored, self.collate.num_frames, gap, rng)
            if empty_turns > EMPTY_TURNS * lanes:
                reason = "neither this shard nor the others of its set hold a clip that can be used"
                raise BadSampleError(str(ordered[0]), "", "", reason)

    def _rng(self, purpose: int, *place: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, purpose, *place])


class EvalStream(IterableDataset[ClipBatch | StreamError]):
    """Every frame of every clip exactly once, in a fixed order, unshuffled and unchanged.

    The frames of a clip are split into windows of T frames `gap` apart: those of phase 0 (frames
    0, gap, 2 gap, ...), then of phase 1, and so on; the last window of a phase may be shorter and
    is then filled up with frames that are not valid. Nothing is dropped or repeated, so that ranks
    and workers may get unequal numbers of batches. `ClipMeta.key`, its frame ids and the times tell
    how to put sequences together again. A broken sample ends the pass, or figures would be of other
    data than they say.

    With a target, every frame gets a window of its own instead (see `target_windows`), which may
    reach into the neighbouring clips of its shard.
    """

    def __init__(
        self,
        sets: Sequence[ShardSet],
        collate: Collate,
        *,
        gap: int,
        gap_fps: float | None = None,
        batch_size: int,
        negative_share: float = 0.0,
        mirrored_copies: bool = False,
        target: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ):
        """Describe the stream; see `TrainStream`."""
        self.target = target
        self.sets, self.collate = tuple(sets), collate
        self.gap, self.gap_fps = gap, gap_fps
        self.negative_share, self.mirrored_copies = negative_share, mirrored_copies
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size

    def __iter__(self) -> Iterator[ClipBatch | StreamError]:
        """Yield this worker's batches."""
        return _errors_as_items(self._batches())

    def _batches(self) -> Iterator[ClipBatch]:
        slot, workers = _worker()
        lane, lanes = self.rank * workers + slot, self.world_size * workers
        windows = (window for one in self.sets for window in self._windows(one, lane, lanes))
        while batch := list(itertools.islice(windows, self.batch_size)):
            yield self.collate(
                batch,
                negatives=self._negatives(batch) if self.negative_share else None,
                copied=torch.ones(len(batch), dtype=torch.bool) if self.mirrored_copies else None,
            )

    def _windows(self, one: ShardSet, lane: int, lanes: int) -> Iterator[Window]:
        T = self.collate.num_frames
        if self.target is None:
            for stored in read_lane(one.shards, lane, lanes):
                gap = frames_apart(stored, self.gap, self.gap_fps)
                yield from evaluation_windows(stored, T, gap)
            return
        for shard in one.shards[lane::lanes]:  # whole, for neighbours to stay together
            for joined in with_neighbours(read_lane([shard], 0, 1)):
                gap = frames_apart(joined, self.gap, self.gap_fps)
                yield from target_windows(joined, T, gap, self.target)

    def _negatives(self, windows: Sequence[Window]) -> NegativeDraw:
        """The same for a window wherever and with whichever others it is served."""
        names = [(one.stored.clip.meta.name, one.frames[0]) for one in windows]
        rngs = [np.random.default_rng([_NEGATIVES, crc32(n.encode()), k]) for n, k in names]
        return NegativeDraw.draw(self.negative_share, rngs)


def frames_apart(stored: StoredClip, gap: int, gap_fps: float | None) -> int:
    """Frames of a clip from one frame of a window to the next.

    Args:
        stored: the clip.
        gap: frames at `gap_fps`.
        gap_fps: frames a second; a clip of another rate gets the number of frames that is nearest
            in time, and at least 1. None for `gap` frames whatever the rate.

    Raises:
        BadSampleError: the clip's rate was asked for, and the sample breaks the schema.
    """
    return gap if gap_fps is None else max(1, round(gap * stored.clip.fps / gap_fps))


def training_windows(
    stored: StoredClip, num_frames: int, gap: int, rng: np.random.Generator
) -> Iterator[Window]:
    """Windows with random starts, as many as show about as many frames as the clip has.

    A clip that is too short for `num_frames` gives windows with as many frames as fit, to and fro:
    a, b, c, b, a, ... (each frame at its own time); a single image is repeated.
    """
    fitting = min(num_frames, (stored.num_frames - 1) // gap + 1)
    latest = stored.num_frames - 1 - (fitting - 1) * gap
    there = range(fitting)
    to_and_fro = itertools.cycle((*there, *reversed(there[1:-1])))
    steps = tuple(itertools.islice(to_and_fro, num_frames))
    for _ in range(stored.num_frames // fitting):
        start = int(rng.integers(latest + 1))
        frames = tuple(start + gap * step for step in steps)
        yield Window(stored.only(frames), frames)


def evaluation_windows(stored: StoredClip, num_frames: int, gap: int) -> Iterator[Window]:
    """Windows that hold every frame exactly once (see `EvalStream`)."""
    for phase in range(min(gap, stored.num_frames)):
        frames = range(phase, stored.num_frames, gap)
        for first in range(0, len(frames), num_frames):
            yield Window(stored, tuple(frames[first : first + num_frames]))


def target_windows(joined: JoinedClip, num_frames: int, gap: int, target: int) -> Iterator[Window]:
    """A window for every frame of the middle clip, which stands in its slot `target`.

    Frames beyond the ends are the last ones within, so that all of a window are valid.
    """
    steps = [gap * (slot - target) for slot in range(num_frames)]
    for frame in joined.own:
        earliest = frame % gap
        latest = frame + (joined.num_frames - 1 - frame) // gap * gap
        yield Window(joined, tuple(min(max(frame + s, earliest), latest) for s in steps))


def with_neighbours(clips: Iterator[StoredClip]) -> Iterator[JoinedClip]:
    """Each clip together with the one before and the one after, if they are of one run."""
    before, middle = None, next(clips, None)
    while middle is not None:
        after = next(clips, None)
        goes_on = after is not None and follows(middle, after)
        yield JoinedClip(before, middle, after if goes_on else None)
        before, middle = middle if goes_on else None, after


def raise_error(error: Exception) -> Never:
    """What is done about a broken sample where none may be left out."""
    raise error


def read_lane(
    shards: Sequence[Path],
    lane: int,
    lanes: int,
    on_broken: Callable[[BadSampleError], None] = raise_error,
) -> Iterator[StoredClip]:
    """The clips that fall to one of `lanes` streams; together they get every clip exactly once.

    Whole shards are dealt in turn. Where there are more streams than shards, streams share a shard
    and take its clips in turn.

    Args:
        shards: of a set.
        lane: number of the stream.
        lanes: number of streams.
        on_broken: called with what is wrong with a sample that is no clip at all.
    """
    if lanes <= len(shards):
        mine, share, shares = shards[lane::lanes], 0, 1
    else:
        first = lane % len(shards)
        mine, share = shards[first : first + 1], lane // len(shards)
        shares = len(range(first, lanes, len(shards)))
    for shard in mine:
        samples = read_samples(shard, frames_and_labels)
        for sample in itertools.islice(samples, share, None, shares):
            try:
                stored = StoredClip(sample)
            except BadSampleError as error:
                on_broken(error)
            else:
                yield stored


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


class Lookahead(Iterator[T], Generic[T]):
    """An endless iterator that shows what comes without taking it."""

    def __init__(self, items: Iterator[T]):
        """Take over `items`."""
        self._items, self._shown = items, deque[T]()

    def __next__(self) -> T:
        """Take the next one."""
        return self._shown.popleft() if self._shown else next(self._items)

    def peek(self, ahead: int) -> T:
        """The one that comes after `ahead` others."""
        while len(self._shown) <= ahead:
            self._shown.append(next(self._items))
        return self._shown[ahead]


def _worker() -> tuple[int, int]:
    """Number of this worker, and how many there are."""
    info = get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)


def _errors_as_items(batches: Iterable[T]) -> Iterator[T | StreamError]:
    """Yield a user's error instead of raising it."""
    try:
        yield from batches
    except (BadSampleError, OSError) as error:
        yield error
