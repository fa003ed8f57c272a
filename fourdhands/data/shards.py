"""Shards on disk: tar files of clips, written whole or not at all, and read one sample at a time.

A set `name` is a folder with `name-000000.tar`, `name-000001.tar`, ... and `name.json`, which
records what the set was made from, how many shards belong to it and, once it is finished, what
they hold.
"""

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from webdataset import TarWriter
from webdataset.tariterators import group_by_keys, tar_file_expander

from fourdhands.data.schema import (
    SCHEMA_VERSION,
    BadSampleError,
    Clip,
    count_frames,
    decode_clip,
    encode_clip,
)
from fourdhands.files import SUFFIX, replacing

_END_OF_ARCHIVE: Final = bytes(1024)


@dataclass(frozen=True)
class ShardEntry:
    """What one finished shard holds."""

    file: str
    clips: int
    frames: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class SetSummary:
    """The contents of `name.json`.

    Attributes:
        name: of the set.
        recipe: what the set was made from, as plain values; equal recipes make equal bytes.
        num_shards: how many shards belong to the set.
        shards: one entry per shard once all are written, else empty.
        schema_version: of the samples.
    """

    name: str
    recipe: Mapping[str, Any]
    num_shards: int
    shards: tuple[ShardEntry, ...] = ()
    schema_version: int = field(default=SCHEMA_VERSION)

    @property
    def finished(self) -> bool:
        """Whether all shards are written."""
        return len(self.shards) == self.num_shards

    def save(self, path: Path) -> None:
        """Write as JSON, at once."""
        with replacing(path) as partial:
            partial.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @staticmethod
    def load(path: Path) -> "SetSummary":
        """Read `name.json`.

        Raises:
            ValueError: the file is not a summary.
        """
        try:
            plain = json.loads(path.read_text())
            entries = tuple(ShardEntry(**entry) for entry in plain.pop("shards"))
            return SetSummary(**plain, shards=entries)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{path}: not the summary of a set of shards ({error}); delete it and write the "
                "set again"
            ) from None


class ShardWriter:
    """Writes a set of shards: any process may write any shard, and a killed run is continued.

    A shard appears under its name only when it is complete, and is never rewritten. Equal clips
    give equal bytes. The usual course:

        writer = ShardWriter(folder, "train", num_shards=12, recipe={"seed": 0})
        writer.start()
        for index in writer.pending():  # in any number of processes
            writer.write(index, clips_of(index))
        writer.finish()
    """

    def __init__(self, folder: Path, name: str, *, num_shards: int, recipe: Mapping[str, Any]):
        """Describe the set; nothing is touched yet.

        Args:
            folder: where the shards go.
            name: of the set.
            num_shards: how many shards the set has.
            recipe: JSON values that decide the contents (seed, counts, version of the generator).
        """
        self.folder, self.name = folder, name
        self.summary = SetSummary(name, json.loads(json.dumps(dict(recipe))), num_shards)

    def start(self) -> None:
        """Make the folder ready: record the recipe, clear what a killed run left half-written.

        Raises:
            ValueError: the folder holds the same set made from another recipe.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        shards = sorted(self.folder.glob(f"{self.name}-*.tar"))
        if not shards:  # what was started and came to nothing binds nobody
            self.summary.save(self.summary_path)
        elif self.summary_path.exists():
            self._require_same_recipe(SetSummary.load(self.summary_path))
        else:
            raise ValueError(
                f"{shards[0]} is there but {self.summary_path.name} is not, so nobody knows "
                "how it was made; delete the shards or choose another folder"
            )
        for dots in (".", ".."):  # of shards, and of hidden files beside them
            for leftover in self.folder.glob(f"{dots}{self.name}-*{SUFFIX}"):
                leftover.unlink()

    def pending(self) -> list[int]:
        """Indices of the shards that are still to be written."""
        return [k for k in range(self.summary.num_shards) if not self.path(k).exists()]

    def write(self, index: int, clips: Iterable[Clip]) -> None:
        """Write one shard, unless it is already there; `clips` is consumed only if it is not.

        Raises:
            ValueError: a clip breaks the schema, or two share a key.
        """
        path = self.path(index)
        if path.exists():
            return
        with replacing(path) as partial, partial.open("wb") as file:
            _write_tar(file, clips, path.name)

    def finish(self, progress: Callable[[Iterable[int]], Iterable[int]] = iter) -> SetSummary:
        """Read every shard once and write the finished summary.

        Args:
            progress: wraps the loop over the shards' indices, e.g. in a progress bar.

        Raises:
            ValueError: shards are missing or damaged.
        """
        if pending := self.pending():
            raise ValueError(f"{self.path(pending[0])}: missing, {len(pending)} shards in all")
        known = SetSummary.load(self.summary_path)
        if known.finished:
            return known
        entries = [inspect_shard(self.path(k)) for k in progress(range(self.summary.num_shards))]
        finished = SetSummary(
            self.name, self.summary.recipe, self.summary.num_shards, tuple(entries)
        )
        finished.save(self.summary_path)
        return finished

    def path(self, index: int) -> Path:
        """Where shard `index` goes."""
        return self.folder / f"{self.name}-{index:06d}.tar"

    @property
    def summary_path(self) -> Path:
        """Where the summary goes."""
        return self.folder / f"{self.name}.json"

    def _require_same_recipe(self, found: SetSummary) -> None:
        ours = {**self.summary.recipe, "num_shards": self.summary.num_shards}
        theirs = {**found.recipe, "num_shards": found.num_shards}
        for name, (found_value, our_value) in _differences(theirs, ours).items():
            raise ValueError(
                f"{self.summary_path}: the set there was made with {name} = {found_value!r}, not "
                f"{our_value!r}; choose another folder or delete the old set"
            )


def _differences(first: Any, second: Any, name: str = "") -> dict[str, tuple[Any, Any]]:
    """Values that differ, by their dotted names."""
    if not (isinstance(first, Mapping) and isinstance(second, Mapping)):
        return {} if first == second else {name: (first, second)}
    found: dict[str, tuple[Any, Any]] = {}
    for key in sorted({*first, *second}):
        inner = f"{name}.{key}" if name else str(key)
        found |= _differences(first.get(key), second.get(key), inner)
    return found


def _write_tar(file: Any, clips: Iterable[Clip], shard: str) -> None:
    """Write clips to an open file; times and owners are fixed: equal clips give equal bytes."""
    keys: set[str] = set()
    with TarWriter(file, user="", group="", mode=0o644, mtime=0, encoder=False) as tar:
        for clip in clips:
            if clip.key in keys:
                raise BadSampleError(shard, clip.key, "", "the key appears twice")
            keys.add(clip.key)
            tar.write(encode_clip(clip))


def every_member(name: str) -> bool:
    """Select all members (see `read_samples`)."""
    return True


def frames_and_labels(name: str) -> bool:
    """Select what training and evaluation need: not the masks and depths."""
    return not name.endswith(".png")


def read_samples(
    shard: Path, select: Callable[[str], bool] = every_member
) -> Iterator[dict[str, Any]]:
    """Iterate over the samples of a shard: encoded members by name, `__key__` and `__url__`.

    Args:
        shard: a tar file.
        select: which members to keep, by file name; the others are skipped over.

    Raises:
        FileNotFoundError: the shard is missing.
        BadSampleError: the shard is truncated or is not a tar file.
    """
    require_whole(shard)
    with shard.open("rb") as stream:
        members = tar_file_expander([{"url": str(shard), "stream": stream}], select_files=select)
        try:
            yield from group_by_keys(members, lcase=False)
        except (tarfile.TarError, EOFError, ValueError) as error:
            raise BadSampleError(
                str(shard), "", "", f"is not a readable tar file ({error.args[0]}); write it again"
            ) from None


def require_whole(shard: Path) -> None:
    """Check in one read that a shard is there and was not cut off.

    Raises:
        FileNotFoundError: the shard is missing.
        BadSampleError: the end of the archive is missing.
    """
    if not shard.is_file():
        raise FileNotFoundError(f"shard {shard} is missing; write the set again to complete it")
    with shard.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(_END_OF_ARCHIVE)))
        if size % 512 or file.read() != _END_OF_ARCHIVE:
            raise BadSampleError(
                str(shard), "", "", f"is cut off after {size} bytes; delete it and write it again"
            )


def inspect_shard(shard: Path, visit: Callable[[Clip], object] | None = None) -> ShardEntry:
    """Read a whole shard, check every sample and count.

    Args:
        shard: a tar file.
        visit: is shown every clip.

    Raises:
        FileNotFoundError: the shard is missing.
        BadSampleError: a sample breaks the schema.
    """
    clips = frames = 0
    for sample in read_samples(shard):
        clip = decode_clip(sample)
        if visit is not None:
            visit(clip)
        clips, frames = clips + 1, frames + count_frames(sample)
    with shard.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ShardEntry(shard.name, clips, frames, shard.stat().st_size, digest)
