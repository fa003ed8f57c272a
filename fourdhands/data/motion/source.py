"""Where a run's motion comes from: shards that it names, or motion generated on the spot."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from fourdhands.data.manifest import find_shards
from fourdhands.data.motion.clips import MotionClip, read_motion
from fourdhands.data.motion.synthesize import MotionSetConfig, generate_clips
from fourdhands.data.motion.windows import MotionData, WindowConfig


@dataclass(frozen=True)
class MotionDataConfig:
    """What a run learns from.

    Attributes:
        train: manifests, summaries or folders of motion shards; none: generated motion.
        val: the same, to watch the training with.
        root: folder that the manifests' shard patterns are relative to.
        generated: the motion that is generated where no shards are named.
        recorded: which stretches of shards are used; generated motion is used whole.
        batch_size: windows a step, on each process.
        windows: of the validation.
    """

    train: tuple[Path, ...] = ()
    val: tuple[Path, ...] = ()
    root: Path = Path("data")
    generated: MotionSetConfig = field(default_factory=MotionSetConfig)
    recorded: WindowConfig = field(default_factory=WindowConfig)
    batch_size: int = 64
    windows: int = 192

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.batch_size < 1 or self.windows < 2:
            raise ValueError(
                f"batch_size is {self.batch_size}, windows {self.windows}: at least 1 and 2 are "
                "needed"
            )


def load_motion(
    config: MotionDataConfig, split: Literal["train", "val"], *, frames: int, fps: float
) -> MotionData:
    """All motion of a split.

    Args:
        config: Where it comes from.
        split: Which.
        frames: Of a window.
        fps: Of the time base.

    Raises:
        FileNotFoundError: A set or a shard is missing.
        ValueError: A shard is broken, or nothing is left to learn from.
    """
    sources = getattr(config, split)
    if sources:
        return MotionData(
            _clips(sources, config.root), frames=frames, fps=fps, config=config.recorded
        )
    clips = generate_clips(config.generated, split, len(os.sched_getaffinity(0)))
    whole = replace(WindowConfig(), min_variance=0.0)
    return MotionData(clips, frames=frames, fps=fps, config=whole)


def _clips(sources: tuple[Path, ...], root: Path) -> Iterator[MotionClip]:
    for source in sources:
        for shard in find_shards(source, root).shards:
            yield from read_motion(shard)
