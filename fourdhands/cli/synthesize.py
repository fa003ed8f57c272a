"""`fourdhands synthesize`: render two-hand scenes into shards."""

import os
from pathlib import Path

from fourdhands.data.sheet import write_contact_sheet
from fourdhands.data.synthetic.synthesize import SynthesizeConfig, synthesize_splits


def synthesize(config: SynthesizeConfig, *, out: Path, workers: int | None = None) -> None:
    """Render two-hand scenes into shards.

    A run that was stopped goes on where it was; the number of workers does not change a byte.

    Args:
        config: What to render.
        out: Folder for shards, summaries and contact sheets.
        workers: Rendering processes; one per core if not given.
    """
    if workers is None:
        workers = len(os.sched_getaffinity(0))
    summaries = synthesize_splits(config, out, workers)
    for summary in summaries:
        sheet = out / f"{summary.name}-sheet.png"
        write_contact_sheet([out / shard.file for shard in summary.shards], sheet)
        frames = sum(shard.frames for shard in summary.shards)
        clips = sum(shard.clips for shard in summary.shards)
        print(
            f"{summary.name}: {clips} clips, {frames} frames, {len(summary.shards)} shards; {sheet}"
        )
