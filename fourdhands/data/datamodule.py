"""The data of a run: from a `DataConfig` to loaders of `ClipBatch` for training and evaluation."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import cv2
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter
from tqdm import tqdm

from fourdhands.data.augment import AugmentConfig, Augmenter
from fourdhands.data.collate import BoxKind, Collate, CropConfig
from fourdhands.data.manifest import ShardSet, find_shards
from fourdhands.data.negatives import NegativeConfig
from fourdhands.data.stream import BrokenSamples, EvalStream, StreamError, TrainStream
from fourdhands.hands.assets import ManoAssets, load_assets
from fourdhands.structures import ClipBatch

T = TypeVar("T")

BROKEN_NAMED: Final = 5
"""Broken samples that a report names."""


@dataclass(frozen=True)
class DataConfig:
    """Where the data come from and how they are served.

    Attributes:
        train: manifests or folders of shards to train on.
        val: manifests or folders to watch the training with.
        test: manifests or folders to evaluate on.
        root: folder that the manifests' shard patterns are relative to.
        weights: how often training draws from a set, relative to the others, by the manifest's file
            name without the split: freihand for freihand_train.yaml (a set without a manifest: as
            in `train`); sets that are not named here keep their manifest's weight.
        num_frames: T, frames a clip; 1 for single images.
        gap: frames of the source from one frame of a clip to the next.
        gap_fps: frames a second that `gap` is meant for: in a source of another rate as many of its
            frames as come nearest to the same time; null for `gap` frames of any source.
        batch_size: clips a batch, on each rank.
        num_workers: processes that decode, on each rank; the order of the training data depends
            on it.
        steps_per_epoch: training batches an epoch, on each rank.
        shuffle_buffer: encoded clips that each worker chooses from.
        bbox_scale: margin of the crops, as a factor of the tight box.
        box: 'separate' crops each hand by its own box; 'holistic' gives both hands one crop around
            both (4DHands' ablation +Cross H).
        augment: how training clips are changed.
        negatives: training crops without a hand, which teach the confidence.
        mirrored_copy: share of the training clips with one hand in which the hand's mirrored copy,
            far away, stands for the other hand, as in 4DHands; with 1, evaluation does the same.
        broken_samples: 'stop' ends training at a broken sample; 'skip' trains on another in its
            place, and reports after each epoch. Evaluation always stops.
        seed: of order and augmentation.
    """

    train: tuple[Path, ...] = ()
    val: tuple[Path, ...] = ()
    test: tuple[Path, ...] = ()
    root: Path = Path("data")
    weights: Mapping[str, float] = field(default_factory=dict)
    num_frames: int = 9
    gap: int = 5
    gap_fps: float | None = None
    batch_size: int = 16
    num_workers: int = 2
    steps_per_epoch: int = 1000
    shuffle_buffer: int = 512
    bbox_scale: float = 1.2
    box: BoxKind = "separate"
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    negatives: NegativeConfig = field(default_factory=NegativeConfig)
    mirrored_copy: float = 0.0
    broken_samples: BrokenSamples = "stop"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("num_frames", "gap", "batch_size", "steps_per_epoch", "shuffle_buffer"):
            if getattr(self, name) < 1:
                raise ValueError(f"data.{name} is {getattr(self, name)}, it has to be at least 1")
        for name in ("num_workers", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"data.{name} is {getattr(self, name)}, it may not be negative")
        if self.bbox_scale <= 0:
            raise ValueError(f"data.bbox_scale is {self.bbox_scale}, it has to be positive")
        if self.negatives.share and self.box == "holistic":
            raise ValueError("data.negatives.share: one box around both hands cannot be moved away")
        if not 0 <= self.mirrored_copy <= 1:
            raise ValueError(
                f"data.mirrored_copy is {self.mirrored_copy}, it has to lie within 0 and 1"
            )
        if self.mirrored_copy and self.box == "holistic":
            raise ValueError(
                "data.mirrored_copy: a far copy has no place in a box around both hands"
            )
        if self.gap_fps is not None and self.gap_fps <= 0:
            raise ValueError(f"data.gap_fps is {self.gap_fps}, it has to be positive or null")
        for name, weight in self.weights.items():
            if not 0 < weight < float("inf"):
                raise ValueError(f"data.weights: {name} is {weight}, it has to be positive")


class EvalLoader:
    """One exact pass at each iteration (see `EvalStream`)."""

    def __init__(self, stream: EvalStream, num_workers: int):
        """Keep the stream; workers start with each pass."""
        self._loader = _data_loader(stream, num_workers, persistent=False)

    def __iter__(self) -> Iterator[ClipBatch]:
        """Yield the batches.

        Raises:
            BadSampleError: a sample is broken.
            OSError: a shard cannot be read.
        """
        return _raise_errors(self._loader)


class TrainLoader:
    """One epoch at each iteration; remembers how far it came, and goes on from there.

    Lightning saves and restores `state_dict` in the middle of an epoch. A loader that is iterated
    again starts the next epoch; a loader that was restored finishes the epoch first.
    """

    def __init__(self, stream: TrainStream, num_workers: int):
        """Keep the stream; workers start with the first epoch and stay."""
        self._stream = stream
        self._loader = _data_loader(stream, num_workers, persistent=num_workers > 0)
        self._epoch = self._batch = 0
        self._restored = False
        self._left_out: Counter[str] = Counter()

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return self._stream.steps_per_epoch

    def __iter__(self) -> Iterator[ClipBatch]:
        """Yield the rest of a restored epoch, or the next one.

        Raises:
            BadSampleError: a sample is broken, and the stream is not to go on without it.
            OSError: a shard cannot be read.
        """
        if self._batch and not self._restored:
            self._epoch, self._batch = self._epoch + 1, 0
        self._restored = False
        self._stream.start_at(self._epoch, self._batch)
        for item in _raise_errors(self._loader):
            self._left_out.update(map(str, item.left_out))
            self._batch += 1
            yield item.batch
        self._report()

    def _report(self) -> None:
        """Name the samples that were left out since the last report, on stderr."""
        counts, self._left_out = self._left_out, Counter()
        if not counts:
            return
        head = f"training left out broken samples, {counts.total()} times; {len(counts)} in all:"
        lines = [f"  {count} times {message}" for message, count in counts.most_common()]
        if len(lines) > BROKEN_NAMED:
            lines[BROKEN_NAMED:] = [f"  and {len(lines) - BROKEN_NAMED} more"]
        tqdm.write("\n".join((head, *lines)), file=sys.stderr)

    def close(self) -> None:
        """End the workers; left to the garbage collector, they can be slow to go."""
        self._report()
        workers = self._loader._iterator
        self._loader._iterator = None
        if isinstance(workers, _MultiProcessingDataLoaderIter):
            workers._shutdown_workers()

    def state_dict(self) -> dict[str, int]:
        """Epoch, and how many of its batches were handed out."""
        return {"epoch": self._epoch, "batch": self._batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the batch that a `state_dict` was taken at."""
        self._epoch, self._batch, self._restored = state["epoch"], state["batch"], True
        if self._batch >= len(self):
            self._epoch, self._batch = self._epoch + 1, 0


class ClipDataModule(pl.LightningDataModule):
    """The loaders of a run, for each rank its own part."""

    def __init__(
        self,
        config: DataConfig,
        crop_size: tuple[int, int],
        hand_assets: tuple[ManoAssets, ManoAssets] | None = None,
        *,
        total_batches: int = 0,
    ):
        """Describe the data.

        Args:
            config: what to serve.
            crop_size: height, width of the crops, as the network wants them.
            hand_assets: right and left hand that the labels' parameters belong to; None for the
                open hand.
            total_batches: of the run on each rank, which `negatives.start` is a share of.
        """
        super().__init__()
        self.config = config
        self._first_negative_batch = round(config.negatives.start * total_batches)
        self._hand_assets = hand_assets
        self._collate = Collate(
            config.num_frames,
            CropConfig(size=crop_size, bbox_scale=config.bbox_scale, box=config.box),
            Augmenter(hand_assets or load_assets()),
        )
        self._train_loader: TrainLoader | None = None
        self._train_state: dict[str, int] = {}

    def check(self, split: str) -> tuple[ShardSet, ...]:
        """The sets of one split, whole and in place.

        Raises:
            FileNotFoundError: a manifest, a folder or a shard is missing.
            ValueError: the run names no data for the split, a set is unfinished or damaged, or a
                weight is given to none of the sets.
        """
        sources = getattr(self.config, split)
        if not sources:
            raise ValueError(f"data.{split} is empty; name manifests or folders of shards there")
        sets = tuple(find_shards(Path(source), self.config.root) for source in sources)
        return self._weighted(sets) if split == "train" else sets

    def _weighted(self, sets: tuple[ShardSet, ...]) -> tuple[ShardSet, ...]:
        weights, known = self.config.weights, {one.dataset for one in sets}
        if unknown := sorted(weights.keys() - known):
            raise ValueError(
                f"data.weights: '{unknown[0]}' is none of the training sets, which are "
                f"{', '.join(sorted(known))}; leave it out, or say --data.weights {{}} "
                "to go by the manifests' weights"
            )
        return tuple(replace(one, weight=weights.get(one.dataset, one.weight)) for one in sets)

    def setup(self, stage: str) -> None:
        """Look for what is missing before anything runs."""
        for split in {"fit": ("train", "val"), "validate": ("val",)}.get(stage, ("test",)):
            self.check(split)

    def teardown(self, stage: str) -> None:
        """End the training workers."""
        if self._train_loader is not None:
            self._train_loader.close()

    def train_dataloader(self) -> TrainLoader:
        """Shuffled, augmented, endless."""
        config = self.config
        stream = TrainStream(
            self.check("train"),
            self._collate,
            gap=config.gap,
            gap_fps=config.gap_fps,
            batch_size=config.batch_size,
            steps_per_epoch=config.steps_per_epoch,
            shuffle_buffer=config.shuffle_buffer,
            augment=config.augment,
            negative_share=config.negatives.share,
            first_negative_batch=self._first_negative_batch,
            mirrored_copy=config.mirrored_copy,
            broken_samples=config.broken_samples,
            seed=config.seed,
            **self._ranks(),
        )
        self._train_loader = TrainLoader(stream, config.num_workers)
        if self._train_state:
            self._train_loader.load_state_dict(self._train_state)
        return self._train_loader

    def val_dataloader(self) -> EvalLoader:
        """The exact pass over `config.val`."""
        return self.eval_dataloader("val")

    def test_dataloader(self) -> EvalLoader:
        """The exact pass over `config.test`."""
        return self.eval_dataloader("test")

    def eval_dataloader(
        self, split: str, negative_share: float = 0.0, target: int | None = None
    ) -> EvalLoader:
        """The exact pass over any split.

        Args:
            split: train, val or test.
            negative_share: of the hands that give way to crops without one.
            target: slot of a window in which every frame stands once; None for windows in which
                every frame stands once wherever it falls.
        """
        stream = EvalStream(
            self.check(split),
            self._collate,
            gap=self.config.gap,
            gap_fps=self.config.gap_fps,
            batch_size=self.config.batch_size,
            negative_share=negative_share,
            mirrored_copies=self.config.mirrored_copy == 1,
            target=target,
            **self._ranks(),
        )
        return EvalLoader(stream, self.config.num_workers)

    def state_dict(self) -> dict[str, Any]:
        """Position in the training data."""
        return {} if self._train_loader is None else self._train_loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Start from a saved position."""
        self._train_state = state_dict

    def _ranks(self) -> dict[str, int]:
        if self.trainer is None:
            return {"rank": 0, "world_size": 1}
        return {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}


def _data_loader(
    stream: IterableDataset[T], num_workers: int, *, persistent: bool
) -> DataLoader[T]:
    """Workers hand over whole batches as they are."""
    return DataLoader(
        stream,
        batch_size=None,
        num_workers=num_workers,
        persistent_workers=persistent,
        worker_init_fn=_start_worker,
        pin_memory=torch.cuda.is_available(),
    )


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)  # the workers are the parallelism


def _raise_errors(items: Iterable[T | StreamError]) -> Iterator[T]:
    """Raise the errors that workers hand over, as if they had happened here."""
    for item in items:
        if isinstance(item, Exception):
            try:
                raise item
            finally:
                del item  # or the error, its traceback and this frame would hold the workers
        yield item
