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
    lines = [f"{digest}  {shard.name}\n" for shard, digest in hashes_of_shards(shards).items()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def hashes_of_shards(shards: Collection[Path]) -> dict[Path, str]:
    """sha256 of each shard, from the summary beside it where there is one."""
    recorded = recorded_entries(shards)
    return {
        shard: recorded[shard].sha256 if shard in recorded else hash_of_file(shard)
        for shard in shards
    }


def hashes_of_data(data: Collection[Path], shards: Collection[Path]) -> dict[str, dict[str, str]]:
    """sha256 of files by kind and path: truth, manifests, summaries, shards.

    Args:
        data: files and folders that were named as data.
        shards: that they led to.
    """
    kinds = {".npz": "truth", ".json": "summaries", ".yaml": "manifests", ".yml": "manifests"}
    found: dict[str, dict[str, str]] = {}
    for path in dict.fromkeys((*data, *sorted(_summaries(shards)))):
        if path.is_file():
            found.setdefault(kinds[path.suffix], {})[str(path)] = hash_of_file(path)
    if shards:
        found["shards"] = {str(shard): one for shard, one in hashes_of_shards(shards).items()}
    return found


def recorded_entries(shards: Collection[Path]) -> dict[Path, ShardEntry]:
    """What the summaries beside shards say of them; nothing of shards without a summary."""
    return {
        summary.with_name(entry.file): entry
        for summary in _summaries(shards)
        for entry in SetSummary.load(summary).shards
    }


def _summaries(shards: Collection[Path]) -> set[Path]:
    paths = {shard.with_name(f"{shard.name.rsplit('-', 1)[0]}.json") for shard in shards}
    return {path for path in paths if path.is_file()}
