"""Hashes of data: the same whether computed or read from the writer's record."""

import hashlib
from pathlib import Path

import numpy as np

from fourdhands.evaluation.provenance import hash_of_plain_data, hash_of_shards
from tests.helpers.clips import random_clip, write_set


def test_the_hash_of_shards_is_that_of_their_checksum_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shards = write_set(tmp_path, [[random_clip(rng, key=f"clip{k}")] for k in range(2)])
    lines = [
        f"{hashlib.sha256(shard.read_bytes()).hexdigest()}  {shard.name}\n" for shard in shards
    ]
    expected = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert hash_of_shards(shards) == expected
    (tmp_path / "set.json").unlink()
    assert hash_of_shards(shards) == expected


def test_the_order_of_keys_does_not_matter() -> None:
    assert hash_of_plain_data({"a": 1, "b": [2]}) == hash_of_plain_data({"b": [2], "a": 1})
    assert hash_of_plain_data({"a": 1}) != hash_of_plain_data({"a": 2})
