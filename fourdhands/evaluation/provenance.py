"""What was evaluated on what: names and hashes that travel with every report."""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fourdhands.data.shards import SetSummary, ShardEntry


@dataclass(frozen=True)
class Provenance:
    """Names and hashes (sha256) of everything that decides the figures.

    Attributes:
        checkpoint: path; checkpoint_sha256: of its bytes.
        config_sha256: of the configuration that the checkpoint was trained with.
        data: name of the data; data_sha256: see `hash_of_shards`.
        mean_pose: where the mean pose comes from.
        settings: of the evaluation.
        version: of this program.
    """

    checkpoint: str
    checkpoint_sha256: str
    config_sha256: str
    data: str
    data_sha256: str
    mean_pose: str
    settings: Mapping[str, Any]
    version: str


def hash_of_file(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_of_plain_data(data: Any) -> str:
    """sha256 of JSON values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def hash_of_shards(shards: Collection[Path]) -> str:
    """sha256 of the lines `sha256  name` of all shards, as `sha256sum *.tar | sha256sum` prints it.

    The shards' own hashes come from the summary that their writer left beside them, where there is
    one: reading large sets through takes hours.
    """
    recorded = recorded_entries(shards)
    hashes = {
        shard: recorded[shard].sha256 if shard in recorded else hash_of_file(shard)
        for shard in shards
    }
    lines = [f"{digest}  {shard.name}\n" for shard, digest in hashes.items()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def recorded_entries(shards: Collection[Path]) -> dict[Path, ShardEntry]:
    """What the summaries beside shards say of them; nothing of shards without a summary."""
    summaries = {shard.with_name(f"{shard.name.rsplit('-', 1)[0]}.json") for shard in shards}
    return {
        summary.with_name(entry.file): entry
        for summary in summaries
        if summary.is_file()
        for entry in SetSummary.load(summary).shards
    }
