"""`fourdhands synthesize --motion`, `fourdhands motion`: finger motion, and its prior's report."""

import os
from pathlib import Path

from fourdhands.data.manifest import Split
from fourdhands.data.motion.convert import Amass, ArcticMotion, ClipShardMotion, convert_motion
from fourdhands.data.motion.synthesize import MotionSetConfig, synthesize_motion
from fourdhands.data.shards import SetSummary
from fourdhands.evaluation.motion_report import MotionEvaluation, evaluate_motion_prior


def synthesize(config: MotionSetConfig, *, out: Path, workers: int | None = None) -> None:
    """Generate finger motion of both hands into shards, without images.

    A run that was stopped goes on where it was; the number of workers does not change a byte.

    Args:
        config: What to generate.
        out: Folder for shards and summaries.
        workers: Processes; one per core if not given.
    """
    _tell(synthesize_motion(config, out, workers or len(os.sched_getaffinity(0))))


def amass(source: Amass, *, out: Path) -> None:
    """Bring the hands of a subset of AMASS into motion shards.

    Args:
        source: What to convert.
        out: Folder for shards and summaries.
    """
    recipe = {"subset": source.subset}
    _tell(convert_motion(source, out, recipe))


def arctic(source: ArcticMotion, *, out: Path) -> None:
    """Bring ARCTIC's hands into motion shards.

    Args:
        source: What to convert.
        out: Folder for shards and summaries.
    """
    _tell(convert_motion(source, out, {"mano": source.mano is not None}))


def clips(*, source: Path, out: Path, root: Path = Path("data"), split: Split = "train") -> None:
    """Bring the fingers of shards with images into motion shards.

    Args:
        source: Manifest, summary or folder of the shards.
        out: Folder for shards and summaries.
        root: What a manifest's pattern is relative to.
        split: The split that they become.
    """
    _tell(convert_motion(ClipShardMotion(source, root, split), out, {"source": source.name}))


def evaluate(config: MotionEvaluation) -> None:
    """Hold a motion prior against slerp, smoothness, PCA and a mixture on held-out motion.

    Args:
        config: What is evaluated, on what.
    """
    print(evaluate_motion_prior(config))


def _tell(summaries: list[SetSummary]) -> None:
    for summary in summaries:
        frames = sum(shard.frames for shard in summary.shards)
        clips = sum(shard.clips for shard in summary.shards)
        print(f"{summary.name}: {clips} clips, {frames} frames, {len(summary.shards)} shards")
