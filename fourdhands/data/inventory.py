"""What there is of the sets that manifests describe, and whether it is what it should be.

`take_stock` looks at names, sizes and what was written down of a set; `check_set` reads all of it.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
from tqdm import tqdm

from fourdhands.data.manifest import Annotation, Manifest
from fourdhands.data.pool import count_done, run_tasks
from fourdhands.data.schema import SCHEMA_VERSION, BadSampleError, Clip
from fourdhands.data.shards import SetSummary, ShardEntry, inspect_shard

Status = Literal["missing", "unfinished", "complete", "differs"]
EXAMPLES: Final = 3
"""Shards named for each thing that is wrong with several."""
REMAKE: Final = "delete it and run what makes the set once more"


@dataclass(frozen=True)
class Shard:
    """A shard that is there.

    Attributes:
        path: the file.
        entry: what the set's summary says of it, if there is a summary.
        on_record: sha256 in the manifest, if it is on record there.
    """

    path: Path
    entry: ShardEntry | None
    on_record: str | None


@dataclass(frozen=True)
class Stock:
    """What there is of a set.

    Attributes:
        path: of the manifest.
        manifest: itself.
        state: missing, unfinished or finished.
        shards: those that are there.
        bytes: their size.
        clips: in them; None if nobody wrote it down, as for the next three.
        frames: likewise.
        hands: likewise.
        left_out: frames that conversion left out, each for a reason that its report gives.
        readable: whether this program reads samples of their version.
        faults: what is wrong but the counts, a line each.
        remarks: what else is worth knowing, a line each.
    """

    path: Path
    manifest: Manifest
    state: Literal["missing", "unfinished", "finished"]
    shards: tuple[Shard, ...] = ()
    bytes: int = 0
    clips: int | None = None
    frames: int | None = None
    hands: int | None = None
    left_out: int | None = None
    readable: bool = True
    faults: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the set and split: the manifest's file name."""
        return self.path.stem

    @property
    def status(self) -> Status:
        """Complete: as it is on record, and as the manifest expects it."""
        if self.state != "finished":
            return self.state
        return "differs" if self.problems else "complete"

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, a line each."""
        checked = self.manifest.counts_checked
        return (*self.faults, *(self._count_differences() if checked else ()))

    @property
    def notes(self) -> tuple[str, ...]:
        """What is worth knowing, a line each."""
        checked = self.manifest.counts_checked
        unchecked = () if checked else self._count_differences()
        return (*self.remarks, *(f"{line} (nobody has checked that)" for line in unchecked))

    def _count_differences(self) -> Iterator[str]:
        """What the manifest expects and the set does not have.

        Frames that were left out count as there, and take up to two hands each with them. How many
        clips there are then, nobody knows.
        """
        if self.state != "finished":
            return
        expected, left_out = self.manifest.expected, self.left_out or 0
        frames, hands, clips = (expected.get(name) for name in ("frames", "hands", "clips"))
        if frames and self.frames is not None and self.frames + left_out != frames:
            but = f" and {left_out} left out" if left_out else ""
            yield f"{self.frames} frames{but}, expected are {frames}"
        fewest = (hands or 0) - 2 * left_out
        if hands and self.hands is not None and not fewest <= self.hands <= hands:
            yield f"{self.hands} hands, expected are {hands}"
        if clips and self.clips is not None and not left_out and self.clips != clips:
            yield f"{self.clips} clips, expected are {clips}"


def take_stock(path: Path, manifest: Manifest, root: Path) -> Stock:
    """Compare what is there of a set with what was written down of it; reads no shard.

    Args:
        path: of the manifest.
        manifest: itself.
        root: folder that the manifest's shards are relative to.
    """
    files = sorted(file for file in root.glob(manifest.shards) if file.is_file())
    summaries = sorted(root.glob(manifest.summaries)) if manifest.summaries else []
    if not files and not summaries:
        return Stock(path, manifest, "missing")
    faults = _Faults()
    entries: dict[Path, ShardEntry] = {}
    finished, outdated, planned = True, False, 0
    for summary_path in summaries:
        try:
            summary = SetSummary.load(summary_path)
        except ValueError as error:
            faults.add(str(error))
            continue
        if summary.schema_version != SCHEMA_VERSION:
            faults.add(
                f"samples of version {summary.schema_version}, this program reads version "
                f"{SCHEMA_VERSION}; delete the set and make it again",
                str(summary_path.relative_to(root)),
            )
            outdated = True
        finished &= summary.finished
        planned += summary.num_shards
        entries |= {summary_path.with_name(entry.file): entry for entry in summary.shards}
    shards = tuple(
        Shard(file, entries.get(file), manifest.checksums.get(file.name)) for file in files
    )
    size = sum(file.stat().st_size for file in files)
    if not finished:
        line = f"unfinished, so far {len(shards)} of {planned} shards; run what makes it once more"
        return Stock(path, manifest, "unfinished", shards, size, faults=(line,))
    _compare_names(shards, entries, manifest, root, faults)
    report = _Report.load(summaries)
    frames = sum(entry.frames for entry in entries.values()) if entries else None
    if report.frames not in (None, frames):
        faults.add(f"{frames} frames by the summary, {report.frames} by the conversion's report")
    return Stock(
        path,
        manifest,
        "finished",
        shards,
        size,
        clips=sum(entry.clips for entry in entries.values()) if entries else None,
        frames=frames,
        hands=report.hands,
        left_out=report.left_out,
        readable=not outdated,
        faults=tuple(faults.lines()),
    )


class _Faults:
    """Things that are wrong; the same thing of many shards is one line."""

    def __init__(self) -> None:
        self._where: dict[str, list[str]] = {}

    def add(self, what: str, where: str = "") -> None:
        """Note one."""
        self._where.setdefault(what, []).append(where)

    def lines(self) -> Iterator[str]:
        """A line for each thing, with the first few places where it was found."""
        for what, places in self._where.items():
            named = ", ".join(place for place in places[:EXAMPLES] if place)
            more = f" and {len(places) - EXAMPLES} more" if len(places) > EXAMPLES else ""
            yield f"{named}{more}: {what}" if named else what


def _compare_names(
    shards: Sequence[Shard],
    entries: dict[Path, ShardEntry],
    manifest: Manifest,
    root: Path,
    faults: _Faults,
) -> None:
    """Which shards are there, how large, and which of them should be."""

    def place(path: Path) -> str:
        return str(path.relative_to(root))

    there = {shard.path for shard in shards}
    for path in sorted(entries.keys() - there):
        faults.add("missing; run what makes the set once more", place(path))
    for shard in shards:
        if shard.entry is None:
            faults.add("in no summary, so nobody knows how it was made", place(shard.path))
        elif shard.path.stat().st_size != shard.entry.bytes:
            faults.add(f"has another size than its summary says; {REMAKE}", place(shard.path))
        elif shard.on_record not in (None, shard.entry.sha256):
            faults.add(
                "not the shard that the manifest has on record; make or fetch the set again",
                place(shard.path),
            )
    known = {path.name for path in there | entries.keys()}
    for name in sorted(manifest.checksums.keys() - known):
        faults.add("missing, the manifest lists it", name)
    if manifest.num_shards not in (None, len(there)):
        faults.add(f"{len(there)} shards, the manifest says {manifest.num_shards}")


@dataclass(frozen=True)
class _Report:
    """What conversions wrote beside the summaries."""

    frames: int | None = None
    hands: int | None = None
    left_out: int | None = None

    @staticmethod
    def load(summaries: Iterable[Path]) -> "_Report":
        """Add up the reports; without values if one of them is not there or not readable."""
        frames = hands = left_out = 0
        found = False
        for summary in summaries:
            try:
                plain = json.loads(summary.with_name(f"{summary.stem}-report.json").read_text())
                frames += int(plain["frames"])
                hands += sum(int(count) for count in plain["hands"].values())
                left_out += sum(int(entry["frames"]) for entry in plain["skipped"].values())
            except (OSError, ValueError, TypeError, KeyError, AttributeError):
                return _Report()
            found = True
        return _Report(frames, hands, left_out) if found else _Report()


# ---- reading every shard -------------------------------------------------------------------------


@dataclass
class ShardFindings:
    """What one shard holds.

    Attributes:
        problem: what is wrong with it; empty if nothing is.
        clips: in it.
        frames: in them.
        hands: in those, by their boxes.
        datasets: clips by the data set that they name.
        annotations: labels that at least one clip has.
    """

    problem: str = ""
    clips: int = 0
    frames: int = 0
    hands: int = 0
    datasets: Counter[str] = field(default_factory=Counter)
    annotations: set[Annotation] = field(default_factory=set)

    def add(self, clip: Clip) -> None:
        """Count a clip."""
        self.clips += 1
        self.frames += clip.num_frames
        self.hands += int((clip.bbox[..., 2] > 0).sum())
        self.datasets[clip.dataset] += 1
        self.annotations |= annotations_of(clip)
        count_done(clip.num_frames)


def annotations_of(clip: Clip) -> set[Annotation]:
    """What is labelled in at least one frame of a clip."""
    there: dict[Annotation, bool] = {
        "boxes": bool((clip.bbox[..., 2] > 0).any()),
        "joints_2d": bool(clip.joints_2d_valid.any()),
        "joints_3d": bool(clip.joints_valid.any()),
        "roots": bool(clip.roots_valid.any()),
        "mano": bool(clip.hands_valid.any()),
        "betas": bool(clip.betas_valid.any()),
        "vertices": bool(clip.vertices_valid.any()),
        "intrinsics": clip.intrinsics_known,
        "cameras": bool((clip.cam_from_world != np.eye(4)).any()),
        "masks": bool(clip.masks),
        "depth": bool(clip.depths),
    }
    return {name for name, known in there.items() if known}


def check_set(stock: Stock, *, workers: int) -> Stock:
    """Read every shard of a set: bytes, samples, counts.

    Args:
        stock: what is there; a set that is missing, unfinished or outdated is returned as it is.
        workers: processes.

    Returns:
        The stock with what reading it has shown.
    """
    if stock.state != "finished" or not stock.readable:
        return stock
    readable = [s for s in stock.shards if s.entry is None or _size_fits(s, s.entry)]
    tasks = [(shard,) for shard in readable]
    total = sum(shard.entry.frames for shard in readable if shard.entry)
    with tqdm(total=total, unit=" frames", desc=stock.name, smoothing=0.05, leave=False) as bar:
        findings = run_tasks(check_shard, tasks, workers, bar, here=True)
    faults = _Faults()
    for shard, found in zip(readable, findings, strict=True):
        if found.problem:
            faults.add(found.problem, f"{shard.path.parent.name}/{shard.path.name}")
    datasets = sum((found.datasets for found in findings), Counter[str]())
    own = stock.manifest.name
    for name, clips in sorted(datasets.items()):
        if name != own and not name.startswith(f"{own}-"):  # synthetic-val-0 is synthetic
            faults.add(f"{clips} clips are of {name!r}, not of {own!r}")
    # a shard that is missing or damaged accounts for any number of hands
    if stock.faults or any(found.problem for found in findings):
        return replace(stock, faults=(*stock.faults, *faults.lines()))
    hands = sum(found.hands for found in findings)
    if stock.hands not in (None, hands):
        faults.add(f"{hands} hands, the conversion's report says {stock.hands}")
    seen = {name for found in findings for name in found.annotations}
    absent = [name for name in stock.manifest.annotations if name not in seen]
    remark = f"none of its clips has {', '.join(absent)}, which the manifest lists"
    return replace(
        stock,
        clips=sum(found.clips for found in findings),
        frames=sum(found.frames for found in findings),
        hands=hands,
        faults=(*stock.faults, *faults.lines()),
        remarks=(*stock.remarks, *([remark] if absent else ())),
    )


def _size_fits(shard: Shard, entry: ShardEntry) -> bool:
    return shard.path.stat().st_size == entry.bytes


def check_shard(shard: Shard) -> ShardFindings:
    """Read one shard, every sample of it, and compare with what is on record."""
    found = ShardFindings()
    try:
        entry = inspect_shard(shard.path, found.add)
    except BadSampleError as error:
        found.problem = f"{BadSampleError('', error.key, error.member, error.reason)}; {REMAKE}"
        return found
    except OSError as error:
        found.problem = f"cannot be read ({error.strerror or error})"
        return found
    if shard.entry and entry.sha256 != shard.entry.sha256:
        found.problem = f"its sha256 is not that of its summary: it was changed; {REMAKE}"
    elif shard.on_record not in (None, entry.sha256):
        found.problem = f"its sha256 is not the manifest's; {REMAKE}"
    elif shard.entry and (entry.clips, entry.frames) != (shard.entry.clips, shard.entry.frames):
        found.problem = (
            f"holds {entry.clips} clips, {entry.frames} frames, its summary says "
            f"{shard.entry.clips}, {shard.entry.frames}; {REMAKE}"
        )
    return found
