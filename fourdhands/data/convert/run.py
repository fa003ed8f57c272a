"""Converting a data set: a plan of clips, a check on a sample of them, then all shards in parallel.

What a shard holds depends on the download, the data set's options and the plan alone, so the number
of workers does not matter and a killed run goes on where it stopped. A frame that cannot be used is
left out, and the clip ends there; its reason is counted in the report.
"""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from tqdm import tqdm

from fourdhands.data.convert.assemble import (
    Frame,
    Residuals,
    Run,
    assemble,
    check_frame,
    has_hand,
)
from fourdhands.data.convert.conventions import Mano
from fourdhands.data.convert.records import BadFrameError, Dataset, Recording
from fourdhands.data.pool import count_done, run_tasks
from fourdhands.data.schema import Clip
from fourdhands.data.shards import ShardWriter, read_samples
from fourdhands.files import replacing
from fourdhands.hands.assets import ManoAssets
from fourdhands.skeleton import Side

CONVERTER_VERSION: Final = 2
"""Part of every recipe: raise it when the same download makes other clips."""
CLIP_FRAMES: Final = 120
"""Longest clip: a training window of 9 frames, 5 apart, spans 41."""
SHARD_FRAMES: Final = 1000
BATCH_FRAMES: Final = 200
"""Frames whose hands are posed together."""
SAMPLE_FRAMES: Final = 64
"""Frames of a split that are checked before anything is written."""
LABELS: Final = {
    "2D joints": "joints_2d_valid",
    "3D joints": "joints_valid",
    "places in front of the camera": "roots_valid",
    "MANO poses": "hands_valid",
    "MANO shapes": "betas_valid",
    "meshes": "vertices_valid",
}
"""Kinds of labels, and the arrays that tell who has them."""
EXAMPLES: Final = 3
"""Frames named for each reason why some were left out."""


@dataclass(frozen=True)
class PlannedClip:
    """Frames of a recording that follow each other.

    Attributes:
        recording: without its frames.
        index: of the recording in its split.
        frames: numbers, and what `Dataset.read` needs.
    """

    recording: Recording
    index: int
    frames: tuple[tuple[int, Any], ...]


@dataclass
class Skipped:
    """Frames that were left out, by reason."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, frame: str) -> None:
        """Count one."""
        self.counts[reason] += 1
        named = self.examples.setdefault(reason, [])
        if len(named) < EXAMPLES:
            named.append(frame)

    def join(self, other: "Skipped") -> None:
        """Count those of another, later part."""
        self.counts += other.counts
        for reason, frames in other.examples.items():
            named = self.examples.setdefault(reason, [])
            named += frames[: EXAMPLES - len(named)]

    def plain(self) -> dict[str, Any]:
        """As JSON values, the most frequent reason first."""
        return {
            reason: {"frames": count, "examples": self.examples[reason]}
            for reason, count in sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        }

    @staticmethod
    def load(path: Path) -> "Skipped":
        """Read what `plain` gave."""
        found = Skipped()
        for reason, entry in json.loads(path.read_text()).items():
            found.counts[reason] = entry["frames"]
            found.examples[reason] = entry["examples"]
        return found


@dataclass(frozen=True)
class SplitReport:
    """What became of a split; the contents of `SPLIT-report.json`.

    Attributes:
        dataset: name.
        split: name.
        recordings: in the download.
        clips: written.
        frames: written.
        hands: written with a box, by side.
        labels: how many hands have each kind of label.
        skipped: frames by reason, with examples.
        residuals: what the check of the sample found, in per cent of the hand's size.
        notes: what the data say about facts that nobody had checked.
    """

    dataset: str
    split: str
    recordings: int
    clips: int
    frames: int
    hands: Mapping[str, int]
    labels: Mapping[str, int]
    skipped: Mapping[str, Any]
    residuals: Mapping[str, float]
    notes: Sequence[str]

    def lines(self) -> Iterator[str]:
        """For people."""
        hands = ", ".join(f"{count} {side}" for side, count in self.hands.items())
        yield f"{self.split}: {self.clips} clips, {self.frames} frames, hands: {hands}"
        yield "  labelled: " + ", ".join(f"{n} {kind}" for kind, n in self.labels.items())
        for name, percent in self.residuals.items():
            yield f"  {name}: {percent:.1f} % of the hand's size"
        for reason, entry in self.skipped.items():
            yield f"  left out {entry['frames']} frames: {reason} (as {entry['examples'][0]})"
        yield from (f"  {note}" for note in self.notes)


@dataclass(frozen=True)
class Conversion:
    """All that the bytes of the shards depend on, but the download itself.

    Attributes:
        dataset: with its options.
        mano: folder of the hand models that the labels belong to; None for the open hand.
    """

    dataset: Dataset
    mano: Path | None

    def recipe(self, split: str, plan: Sequence[PlannedClip]) -> dict[str, Any]:
        """For the set's summary."""
        options = {
            option.name: getattr(self.dataset, option.name)
            for option in fields(self.dataset)
            if option.name != "root"
        }
        listing = hashlib.sha256()
        for clip in plan:
            numbers = [number for number, _ in clip.frames]
            listing.update(
                f"{clip.recording.sequence}\0{clip.recording.camera}\0{numbers}\n".encode()
            )
        return {
            "converter": self.dataset.name,
            "converter_version": CONVERTER_VERSION,
            "split": split,
            "options": json.loads(json.dumps(options, default=str)),
            "hand_model": _digest(Mano(self.mano).assets),
            "plan_sha256": listing.hexdigest(),
        }


def convert_split(
    conversion: Conversion, split: str, out: Path, *, workers: int, tolerance: float
) -> SplitReport:
    """Write the shards of one split, or what is missing of them.

    Args:
        conversion: what to convert.
        split: of `Dataset.splits`.
        out: folder of the shards.
        workers: processes.
        tolerance: share of the hand's size by which labels may disagree (median of a sample).

    Returns:
        What became of it.

    Raises:
        FileNotFoundError: a file that all frames need is missing.
        ValueError: labels disagree with images or each other, nothing can be used, or the folder
            holds another set.
        OSError: a file cannot be read or written.
    """
    recordings = _recordings(conversion.dataset, split)
    plan = [clip for k, recording in enumerate(recordings) for clip in plan_clips(recording, k)]
    if not plan:
        raise ValueError(f"{conversion.dataset.root}: no frames of the split {split!r} are there")
    shards = list(_shards(plan))
    writer = ShardWriter(out, split, num_shards=len(shards), recipe=conversion.recipe(split, plan))
    report_path = out / f"{split}-report.json"
    if not (writer.summary_path.exists() and report_path.exists() and not writer.pending()):
        check = check_sample(conversion, split, plan, tolerance)
        writer.start()
        pending = writer.pending()
        if len(pending) == len(shards):  # nothing is there that earlier pages could be about
            report_path.unlink(missing_ok=True)
            (out / f"{split}-sheet.png").unlink(missing_ok=True)
        tasks = [(conversion, writer, index, shards[index]) for index in pending]
        total = sum(len(clip.frames) for index in pending for clip in shards[index])
        with tqdm(total=total, unit=" frames", desc=f"{split}: converting", smoothing=0.05) as bar:
            run_tasks(write_shard, tasks, workers, bar, here=True)
        if not report_path.exists():  # else only shards that got lost were written again
            _finish(conversion, writer, len(recordings), check, report_path)
    writer.start()  # refuses what another recipe has made
    summary = writer.finish()
    for sidecar in out.glob(f".{split}-*.skipped.json"):
        sidecar.unlink()
    plain = json.loads(report_path.read_text())
    assert sum(shard.clips for shard in summary.shards) == plain["clips"]
    return SplitReport(**plain)


def _recordings(dataset: Dataset, split: str) -> list[Recording]:
    try:
        return list(tqdm(dataset.recordings(split), desc=f"{split}: listing", leave=False))
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(
            f"{dataset.root}: the files that list {dataset.name} {split} are not in the layout "
            f"that this version knows ({type(error).__name__}: {one_line(error)})"
        ) from error


def plan_clips(recording: Recording, index: int) -> Iterator[PlannedClip]:
    """Cut a recording where frames are missing, and where a clip gets too long."""
    numbers = [number for number, _ in recording.frames]
    assert all(first < second for first, second in pairwise(numbers)), recording.sequence
    bare = Recording(
        recording.sequence, recording.camera, (), step=recording.step, fps=recording.fps
    )
    start = 0
    for k in range(1, len(numbers) + 1):
        last = k == len(numbers)
        if last or numbers[k] - numbers[k - 1] > recording.step or k - start == CLIP_FRAMES:
            yield PlannedClip(bare, index, tuple(recording.frames[start:k]))
            start = k


def _shards(plan: Sequence[PlannedClip]) -> Iterator[list[PlannedClip]]:
    shard: list[PlannedClip] = []
    frames = 0
    for clip in plan:
        shard.append(clip)
        frames += len(clip.frames)
        if frames >= SHARD_FRAMES:
            yield shard
            shard, frames = [], 0
    if shard:
        yield shard


# ---- the check -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """What a sample of a split showed."""

    residuals: dict[str, float]
    notes: list[str]


def check_sample(
    conversion: Conversion, split: str, plan: Sequence[PlannedClip], tolerance: float
) -> Check:
    """See on some frames whether joints, parameters, cameras and images belong together.

    Raises:
        ValueError: they do not; tells by how much.
    """
    places = [(clip, k) for clip in plan for k in range(len(clip.frames))]
    chosen = np.linspace(0, len(places) - 1, min(SAMPLE_FRAMES, len(places))).round().astype(int)
    skipped, runs = Skipped(), []
    for place in tqdm(chosen, desc=f"{split}: checking", leave=False):
        clip, k = places[place]
        one = PlannedClip(clip.recording, clip.index, clip.frames[k : k + 1])
        runs += list(read_runs(conversion, one, skipped))
    dataset = conversion.dataset
    if not runs:
        return Check({}, list(dataset.notes(split)))
    clips, residuals = assemble(runs, dataset, _mano(conversion.mano))
    found = medians(residuals)
    for name, share in found.items():
        if share > tolerance:
            raise ValueError(
                f"{dataset.root}: {dataset.name} {split}: {name} by {100 * share:.1f} % of the "
                f"hand's size in the middle of {len(runs)} frames, {100 * tolerance:.1f} % are "
                "allowed; nothing was written. Labels that are MANO parameters need --mano FOLDER "
                "(see `fourdhands hands import`); otherwise the download is not in the layout that "
                "this version knows, or --tolerance is too strict"
            )
    return Check(
        {name: round(100 * share, 2) for name, share in found.items()},
        [
            *dataset.notes(split),
            *_left_hand_note(residuals, dataset),
            *_unchecked_note(residuals, clips, conversion),
        ],
    )


def medians(residuals: Residuals) -> dict[str, float]:
    """Median over the frames of what can be compared, by what is compared."""
    named = {
        "the mesh misses the 2D labels": residuals.mesh_to_image,
        "projected joints miss the 2D labels": residuals.joints_to_image,
        "the mesh misses the 3D joints": residuals.mesh_to_joints,
    }
    found = {}
    for name, values in named.items():
        for side in Side:
            known = values[:, side][np.isfinite(values[:, side])]
            if len(known):
                found[f"{side.name.lower()} hand: {name}"] = float(np.median(known))
    return found


def _left_hand_note(residuals: Residuals, dataset: Dataset) -> Iterator[str]:
    """Which of the two left hands fits stored joints better, where that can be told."""
    ours = residuals.mesh_to_joints[:, Side.LEFT]
    other = residuals.other_left_to_joints[:, Side.LEFT]
    known = np.isfinite(ours) & np.isfinite(other)
    if not known.any() or np.allclose(ours[known], other[known], atol=1e-4):
        return
    used, unused = ("released", "repaired") if dataset.left_released else ("repaired", "released")
    fits, misses = np.median(ours[known]), np.median(other[known])
    verdict = "as expected" if fits <= misses else "NOT AS EXPECTED: please report it"
    yield (
        f"left hands fit their joints to {100 * fits:.1f} % with the {used} shape directions and "
        f"to {100 * misses:.1f} % with the {unused} ones, {verdict}"
    )


def _unchecked_note(
    residuals: Residuals, clips: Sequence[Clip], conversion: Conversion
) -> Iterator[str]:
    """A warning where nothing tells whether MANO parameters belong to the hand model."""
    posed = any(clip.hands_valid.any() for clip in clips)
    # joints that were made from the parameters themselves agree with them always
    if posed and not np.isfinite(residuals.mesh_to_joints).any() and conversion.mano is None:
        yield (
            "nothing tells whether the MANO parameters fit the open hand: the labels have no "
            "joints of their own; real labels need --mano FOLDER"
        )


# ---- in the worker processes ---------------------------------------------------------------------


def write_shard(
    conversion: Conversion, writer: ShardWriter, index: int, plan: Sequence[PlannedClip]
) -> None:
    """Convert the clips of one shard."""
    skipped = Skipped()
    sidecar = _sidecar(writer, index)

    def clips() -> Iterator[Clip]:
        yield from read_clips(conversion, plan, skipped)
        # what was left out is on record before the shard is
        with replacing(sidecar) as partial:
            partial.write_text(json.dumps(skipped.plain()))

    writer.write(index, clips())


def read_clips(
    conversion: Conversion, plan: Sequence[PlannedClip], skipped: Skipped
) -> Iterator[Clip]:
    """The clips of a plan, as far as they can be used."""
    runs: list[Run] = []
    for clip in plan:
        runs += list(read_runs(conversion, clip, skipped))
        count_done(len(clip.frames))
        if sum(len(run.frames) for run in runs) >= BATCH_FRAMES:
            yield from assemble(runs, conversion.dataset, _mano(conversion.mano))[0]
            runs = []
    if runs:
        yield from assemble(runs, conversion.dataset, _mano(conversion.mano))[0]


def read_runs(conversion: Conversion, clip: PlannedClip, skipped: Skipped) -> Iterator[Run]:
    """Read the frames of a clip; a run ends before a frame that cannot be used."""
    numbers: list[int] = []
    frames: list[Frame] = []

    def run() -> Run:
        key = f"{clip.index:07d}-{numbers[0]:08d}"
        return Run(key, clip.recording, tuple(numbers), tuple(frames))

    for number, source in clip.frames:
        name = f"{clip.recording.sequence} {clip.recording.camera} {number}"
        frame = _read_frame(conversion, clip.recording, source, name, skipped)
        if frames and (frame is None or frame.size != frames[0].size):
            yield run()
            numbers, frames = [], []
        if frame is not None:
            numbers.append(number)
            frames.append(frame)
    if frames:
        yield run()


def _read_frame(
    conversion: Conversion, recording: Recording, source: Any, name: str, skipped: Skipped
) -> Frame | None:
    try:
        record = conversion.dataset.read(recording, source, _mano(conversion.mano))
        frame = check_frame(record)
        if not has_hand(frame):
            raise BadFrameError("no hand is labelled")
    except BadFrameError as error:
        skipped.add(str(error), name)
    except KeyError as error:
        skipped.add(f"the field {error} is missing", name)
    except FileNotFoundError as error:
        skipped.add("a file is missing", f"{name}: {error.filename or error}")
    except (ValueError, TypeError, IndexError, AttributeError, ArithmeticError, OSError) as error:
        skipped.add("the labels cannot be read", f"{name}: {one_line(error)}")
    else:
        return frame
    return None


@lru_cache(maxsize=1)
def _mano(folder: Path | None) -> Mano:
    return Mano(folder)


# ---- the end -------------------------------------------------------------------------------------


def _sidecar(writer: ShardWriter, index: int) -> Path:
    path = writer.path(index)
    return path.with_name(f".{path.stem}.skipped.json")


def _finish(
    conversion: Conversion, writer: ShardWriter, recordings: int, check: Check, path: Path
) -> None:
    """Gather what the shards hold and what was left out."""
    skipped, clips, frames = Skipped(), 0, 0
    hands = dict.fromkeys((side.name.lower() for side in Side), 0)
    labels = dict.fromkeys(LABELS, 0)
    for index in range(writer.summary.num_shards):
        skipped.join(Skipped.load(_sidecar(writer, index)))
        for sample in read_samples(writer.path(index), lambda name: not name.endswith("jpg")):
            there = np.load(io.BytesIO(sample["bbox.npy"]))[..., 2] > 0
            clips, frames = clips + 1, frames + len(there)
            for kind, array in LABELS.items():
                known = np.load(io.BytesIO(sample[f"{array}.npy"]))
                labels[kind] += int(known.reshape(*there.shape, -1).any(-1).sum())
            for side in Side:
                hands[side.name.lower()] += int(there[:, side].sum())
    if not clips:
        reasons = "; ".join(
            f"{reason} ({count} frames)" for reason, count in skipped.counts.most_common(3)
        )
        for index in range(writer.summary.num_shards):
            writer.path(index).unlink()
            _sidecar(writer, index).unlink()
        writer.summary_path.unlink()
        raise ValueError(
            f"{conversion.dataset.root}: not one frame of {writer.name} can be used: {reasons}"
        )
    report = SplitReport(
        dataset=conversion.dataset.name,
        split=writer.name,
        recordings=recordings,
        clips=clips,
        frames=frames,
        hands=hands,
        labels=labels,
        skipped=skipped.plain(),
        residuals=check.residuals,
        notes=check.notes,
    )
    with replacing(path) as partial:
        partial.write_text(json.dumps(asdict(report), indent=1) + "\n")


def one_line(error: Exception) -> str:
    """What an exception says, shortened."""
    return " ".join(str(error).split())[:200]


def _digest(assets: tuple[ManoAssets, ManoAssets]) -> str:
    """Of the numbers of both hands: labels become others with other hands."""
    digest = hashlib.sha256()
    for side in assets:
        for array in (
            side.v_template,
            side.shapedirs,
            side.posedirs,
            side.hands_mean,
            side.hands_components,
        ):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
