"""Generated motion as shards: `fourdhands synthesize --motion`, and the set made on the spot.

A shard depends on the configuration, its split and its number alone.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from tqdm import tqdm

from fourdhands.data.motion.clips import MotionClip, MotionShardWriter
from fourdhands.data.motion.generate import GeneratorConfig, generate_angles
from fourdhands.data.pool import count_done, run_tasks
from fourdhands.data.shards import SetSummary
from fourdhands.hands.anatomy import JointAxes, axis_angle_from_angles
from fourdhands.hands.assets import load_assets

GENERATOR_VERSION: Final = 1
"""Part of every recipe: raise it when the same configuration makes other motion."""


@dataclass(frozen=True)
class MotionSplits:
    """How many clips of both hands each split has; 0 leaves it out.

    Attributes:
        train: for training.
        val: for watching the training.
        test: for the final figures.
    """

    train: int = 1200
    val: int = 120
    test: int = 120

    def __post_init__(self) -> None:
        """Refuse an empty set."""
        counts = [getattr(self, entry.name) for entry in fields(self)]
        if min(counts) < 0 or sum(counts) == 0:
            raise ValueError(f"splits are {counts}: none may be negative, one has to be positive")


@dataclass(frozen=True)
class MotionSetConfig:
    """A generated set of finger motion.

    Attributes:
        motion: what it is like.
        splits: how many clips.
        fps: frames a second.
        shard_clips: clips in one shard.
        seed: another seed makes another set.
    """

    motion: GeneratorConfig = field(default_factory=GeneratorConfig)
    splits: MotionSplits = field(default_factory=MotionSplits)
    fps: float = 30.0
    shard_clips: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.fps <= 0 or self.shard_clips < 1 or self.seed < 0:
            raise ValueError(
                f"fps is {self.fps}, shard_clips {self.shard_clips}, seed {self.seed}: they have "
                "to be positive, at least 1, at least 0"
            )


def synthesize_motion(config: MotionSetConfig, folder: Path, workers: int) -> list[SetSummary]:
    """Generate all splits into a folder; what is there already is kept.

    Args:
        config: What to generate.
        folder: Where the shards go.
        workers: Processes.

    Returns:
        One summary a split.

    Raises:
        ValueError: The folder holds shards of another configuration.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}: at least 1 is needed")
    splits = [entry.name for entry in fields(config.splits) if getattr(config.splits, entry.name)]
    writers = {split: _writer(config, split, folder) for split in splits}
    for writer in writers.values():
        writer.start()
    tasks = [(config, s, shard, folder) for s in splits for shard in writers[s].pending()]
    total = sum(len(_indices(config, split, shard)) for _, split, shard, _ in tasks)
    if tasks:
        with tqdm(total=total, unit=" clips", desc="moving", smoothing=0.05) as bar:
            run_tasks(_write_shard, tasks, workers, bar, here=True)
    return [writer.finish() for writer in writers.values()]


def generate_clips(config: MotionSetConfig, split: str, workers: int) -> list[MotionClip]:
    """The clips of one split, without writing them."""
    shards = -(-getattr(config.splits, split) // config.shard_clips)
    tasks = [(config, split, shard) for shard in range(shards)]
    with tqdm(total=getattr(config.splits, split), unit=" clips", desc=f"moving ({split})") as bar:
        parts = run_tasks(_shard_clips, tasks, workers, bar, here=True)
    return [clip for part in parts for clip in part]


def generate_clip(config: MotionSetConfig, split: str, index: int) -> MotionClip:
    """One clip of a split; other rates of `config.fps` film the same motion."""
    number = [entry.name for entry in fields(MotionSplits)].index(split)
    frames = round(config.motion.seconds * config.fps)
    times = np.arange(frames) / config.fps
    angles = generate_angles(config.motion, (config.seed, number, index), times)
    poses = [axis_angle_from_angles(angles[:, side], axes) for side, axes in enumerate(_axes())]
    return MotionClip(
        key=f"{index:07d}",
        dataset=f"generated-{split}-{config.seed}",
        sequence=f"{index:07d}",
        fps=float(config.fps),
        hand_pose=np.stack(poses, axis=1).astype(np.float32),
        valid=np.ones((frames, len(poses)), bool),
    )


@cache
def _axes() -> tuple[JointAxes, ...]:
    return tuple(JointAxes.from_assets(side) for side in load_assets())


def _indices(config: MotionSetConfig, split: str, shard: int) -> range:
    start = shard * config.shard_clips
    return range(start, min(start + config.shard_clips, getattr(config.splits, split)))


def _writer(config: MotionSetConfig, split: str, folder: Path) -> MotionShardWriter:
    recipe = {
        "generator": "fourdhands.data.motion",
        "generator_version": GENERATOR_VERSION,
        "clips": getattr(config.splits, split),
        **json.loads(json.dumps(asdict(replace(config, splits=MotionSplits())))),
    }
    del recipe["splits"]
    shards = -(-recipe["clips"] // config.shard_clips)
    return MotionShardWriter(folder, split, num_shards=shards, recipe=recipe)


# ---- in the worker processes ---------------------------------------------------------------------


def _write_shard(config: MotionSetConfig, split: str, shard: int, folder: Path) -> None:
    _writer(config, split, folder).write(shard, _clips(config, split, shard))


def _shard_clips(config: MotionSetConfig, split: str, shard: int) -> list[MotionClip]:
    return list(_clips(config, split, shard))


def _clips(config: MotionSetConfig, split: str, shard: int) -> Iterator[MotionClip]:
    for index in _indices(config, split, shard):
        yield generate_clip(config, split, index)
        count_done(1)
