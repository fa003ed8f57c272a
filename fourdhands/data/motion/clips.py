"""Motion shards: tar files of finger motion without images, written whole or not at all.

A sample of the key KEY is three members:

    KEY.meta.json       schema version, dataset, sequence, fps
    KEY.hand_pose.npy   (F, S, 15, 3) float32: axis-angle, true lefts, MANO's mean included
    KEY.valid.npy       (F, S) bool: where the hand was recorded

A set is a folder of such shards with `name.json`, as for clips with images (`data.shards`).
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from webdataset import TarWriter

from fourdhands.data.schema import BadSampleError
from fourdhands.data.shards import SetSummary, ShardEntry, ShardWriter, read_samples
from fourdhands.files import replacing
from fourdhands.skeleton import NUM_SIDES

MOTION_SCHEMA_VERSION: Final = 1
_META: Final = {"dataset": str, "sequence": str, "fps": float}


@dataclass(frozen=True)
class MotionClip:
    """Finger motion of one or two hands over consecutive frames.

    Attributes:
        key: unique in its set.
        dataset: name of the data set.
        sequence: name of the recording.
        fps: frames a second.
        hand_pose: (F, S, 15, 3) float32 axis-angle rotations, MANO's order, absolute (its mean
            included); left hands as they are, not mirrored.
        valid: (F, S) bool; poses are zeros elsewhere.
    """

    key: str
    dataset: str
    sequence: str
    fps: float
    hand_pose: NDArray[np.float32]
    valid: NDArray[np.bool_]

    @property
    def num_frames(self) -> int:
        """F."""
        return len(self.valid)

    def check(self) -> None:
        """Check shapes, kinds and ranges.

        Raises:
            ValueError: something does not fit; says what.
        """
        shape = (self.num_frames, NUM_SIDES, 15, 3)
        if self.hand_pose.shape != shape or self.hand_pose.dtype != np.float32:
            raise ValueError(
                f"hand_pose is {self.hand_pose.dtype} {self.hand_pose.shape}, not float32 {shape}"
            )
        if self.valid.shape != shape[:2] or self.valid.dtype != np.bool_:
            raise ValueError(
                f"valid is {self.valid.dtype} {self.valid.shape}, not bool {shape[:2]}"
            )
        if not np.isfinite(self.hand_pose).all():
            raise ValueError("hand_pose holds values that are not finite")
        if not (np.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps is {self.fps}, it has to be positive")


class MotionShardWriter(ShardWriter):
    """`ShardWriter` for `MotionClip`: the same course, names, summary and resumption."""

    def write(self, index: int, clips: Iterable[Any]) -> None:
        """Write one shard of motion clips, unless it is already there.

        Raises:
            ValueError: a clip is wrong, or two share a key.
        """
        path = self.path(index)
        if path.exists():
            return
        keys: set[str] = set()
        with (
            replacing(path) as partial,
            partial.open("wb") as file,
            TarWriter(file, user="", group="", mode=0o644, mtime=0, encoder=False) as tar,
        ):
            for clip in clips:
                if clip.key in keys:
                    raise BadSampleError(path.name, clip.key, "", "the key appears twice")
                keys.add(clip.key)
                tar.write(_encode(clip))

    def finish(self, progress: Callable[[Iterable[int]], Iterable[int]] = iter) -> SetSummary:
        """Read every shard once and write the finished summary."""
        known = SetSummary.load(self.summary_path)
        if known.finished:
            return known
        if pending := self.pending():
            raise ValueError(f"{self.path(pending[0])}: missing, {len(pending)} shards in all")
        entries = []
        for index in progress(range(self.summary.num_shards)):
            path = self.path(index)
            lengths = [clip.num_frames for clip in read_motion(path)]
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = path.stat().st_size
            entries.append(ShardEntry(path.name, len(lengths), sum(lengths), size, digest))
        recipe, count = self.summary.recipe, self.summary.num_shards
        finished = SetSummary(self.name, recipe, count, tuple(entries), MOTION_SCHEMA_VERSION)
        finished.save(self.summary_path)
        return finished


def read_motion(shard: Path) -> Iterator[MotionClip]:
    """The clips of a motion shard, each checked.

    Raises:
        FileNotFoundError: there is no such shard.
        BadSampleError: it is cut off, of another kind, or a sample is wrong.
    """
    for sample in read_samples(shard):
        key = str(sample["__key__"])
        try:
            clip = _decode(key, sample)
        except (ValueError, KeyError, TypeError, EOFError) as error:
            reason = (
                f"lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
            )
            raise BadSampleError(
                str(shard), key, "", f"is not a sample of finger motion ({reason})"
            ) from None
        yield clip


def _encode(clip: MotionClip) -> dict[str, bytes | str]:
    clip.check()
    meta = {
        "motion_schema_version": MOTION_SCHEMA_VERSION,
        **{name: kind(getattr(clip, name)) for name, kind in _META.items()},
    }
    return {
        "__key__": clip.key,
        "meta.json": json.dumps(meta).encode(),
        "hand_pose.npy": _npy(clip.hand_pose),
        "valid.npy": _npy(clip.valid),
    }


def _decode(key: str, sample: Mapping[str, Any]) -> MotionClip:
    meta = json.loads(sample["meta.json"])
    if meta.get("motion_schema_version") != MOTION_SCHEMA_VERSION:
        raise ValueError(
            f"motion_schema_version is {meta.get('motion_schema_version')!r}, this version reads "
            f"{MOTION_SCHEMA_VERSION}"
        )
    arrays = {
        name: np.load(io.BytesIO(sample[f"{name}.npy"]), allow_pickle=False)
        for name in ("hand_pose", "valid")
    }
    clip = MotionClip(key, **{name: kind(meta[name]) for name, kind in _META.items()}, **arrays)
    clip.check()
    return clip


def _npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=(1, 0), allow_pickle=False)
    return file.getvalue()
