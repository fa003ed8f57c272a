"""Rendering whole data sets: every split cut into shards, the shards shared out among processes.

A shard is one task. What it holds depends on the configuration, the split and its number alone, so
the number of workers does not matter and a killed run goes on where it stopped.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Final

from tqdm import tqdm

from fourdhands.data.pool import count_done, run_tasks
from fourdhands.data.schema import Clip
from fourdhands.data.shards import SetSummary, ShardWriter
from fourdhands.data.synthetic.config import SceneConfig
from fourdhands.data.synthetic.generate import ClipGenerator
from fourdhands.data.synthetic.textures import image_paths
from fourdhands.hands.assets import load_assets
from fourdhands.rendering.realistic import import_mitsuba

GENERATOR_VERSION: Final = 2
"""Part of every recipe: raise it when the same configuration makes other clips."""


@dataclass(frozen=True)
class SplitConfig:
    """One split of a data set.

    Attributes:
        clips: How many.
        num_frames: Frames a clip.
        fps: Frames a second: a low rate makes the frames of a short clip differ.
    """

    clips: int
    num_frames: int = 8
    fps: float = 10.0

    def __post_init__(self) -> None:
        """Refuse an empty split."""
        if self.clips < 1:
            raise ValueError(f"clips is {self.clips}: a split needs at least 1; null leaves it out")
        if self.num_frames < 1 or self.fps <= 0:
            raise ValueError(f"num_frames {self.num_frames} and fps {self.fps} have to be positive")


@dataclass(frozen=True)
class SplitsConfig:
    """The splits; each has clips, textures and noise of its own. null leaves one out.

    Attributes:
        train: For training.
        val: For watching the training.
        test: For the final figures.
    """

    train: SplitConfig | None = field(default_factory=lambda: SplitConfig(2000))
    val: SplitConfig | None = field(default_factory=lambda: SplitConfig(40))
    test: SplitConfig | None = field(default_factory=lambda: SplitConfig(60))


@dataclass(frozen=True)
class SynthesizeConfig:
    """A rendered data set.

    Attributes:
        scene: What the clips show.
        splits: How many clips, and how long.
        shard_clips: Clips in one shard.
        seed: Another seed makes another data set.
    """

    scene: SceneConfig = field(default_factory=SceneConfig)
    splits: SplitsConfig = field(default_factory=SplitsConfig)
    shard_clips: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what makes no shards."""
        if self.shard_clips < 1:
            raise ValueError(f"shard_clips is {self.shard_clips}: at least 1 is needed")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}: it may not be negative")
        if not any(getattr(self.splits, split.name) for split in fields(self.splits)):
            raise ValueError("splits are all null: give at least one of train, val, test")


@dataclass(frozen=True)
class _Split:
    """A split with everything that its shards depend on."""

    name: str
    number: int
    scene: SceneConfig
    size: SplitConfig
    shard_clips: int
    seed: int

    def writer(self, folder: Path) -> ShardWriter:
        # frames and rate stand among the scene's fields, where finished sets have them
        scene = asdict(self.scene) | {"num_frames": self.size.num_frames, "fps": self.size.fps}
        recipe = {
            "generator": "fourdhands.data.synthetic",
            "generator_version": GENERATOR_VERSION,
            "seed": self.seed,
            "clips": self.size.clips,
            "shard_clips": self.shard_clips,
            "scene": json.loads(json.dumps(scene, default=str)),
        }
        return ShardWriter(
            folder, self.name, num_shards=-(-self.size.clips // self.shard_clips), recipe=recipe
        )

    def indices(self, shard: int) -> range:
        start = shard * self.shard_clips
        return range(start, min(start + self.shard_clips, self.size.clips))


def synthesize_splits(config: SynthesizeConfig, folder: Path, workers: int) -> list[SetSummary]:
    """Render all splits into `folder`, resuming what is there.

    Args:
        config: What to render.
        folder: Where the shards go.
        workers: Processes that render.

    Returns:
        One summary a split.

    Raises:
        ValueError: The folder holds shards of another configuration, or the configuration is bad.
        FileNotFoundError: The MANO folder is missing.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}: at least 1 is needed")
    load_assets(config.scene.mano)  # what users get wrong is said before anything is written
    if config.scene.background.folder is not None:
        image_paths(config.scene.background.folder)
    if (tracing := config.scene.path_tracing) is not None:
        import_mitsuba(tracing.variant)
    splits = _splits(config)
    writers = [split.writer(folder) for split in splits]
    for writer in writers:
        writer.start()
    tasks = [
        (split, shard)
        for split, writer in zip(splits, writers, strict=True)
        for shard in writer.pending()
    ]
    total = sum(len(split.indices(shard)) * split.size.num_frames for split, shard in tasks)
    if tasks:
        with tqdm(total=total, unit=" frames", desc="rendering", smoothing=0.05) as bar:
            run_tasks(_render_shard, [(*task, folder) for task in tasks], workers, bar)
    return [writer.finish() for writer in writers]


def _splits(config: SynthesizeConfig) -> list[_Split]:
    splits = []
    for number, split_field in enumerate(fields(config.splits)):
        split: SplitConfig | None = getattr(config.splits, split_field.name)
        if split is not None:
            splits.append(
                _Split(
                    split_field.name, number, config.scene, split, config.shard_clips, config.seed
                )
            )
    return splits


# ---- in the worker processes ---------------------------------------------------------------------


@lru_cache(maxsize=1)  # the shards of a split follow each other
def _generator(split: _Split) -> ClipGenerator:
    # clips of other splits and seeds are other clips, also where sets are evaluated together
    dataset = f"synthetic-{split.name}-{split.seed}"
    return ClipGenerator(
        split.scene,
        num_frames=split.size.num_frames,
        fps=split.size.fps,
        dataset=dataset,
        seed=(split.seed, split.number),
    )


def _render_shard(split: _Split, shard: int, folder: Path) -> None:
    split.writer(folder).write(shard, _clips(split, shard))


def _clips(split: _Split, shard: int) -> Iterator[Clip]:
    generator = _generator(split)
    for index in split.indices(shard):
        yield generator.clip(index)
        count_done(split.size.num_frames)
