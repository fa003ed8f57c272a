"""Recorded finger motion into motion shards: AMASS's hands, ARCTIC's, and those of clip shards.

Only fingers are kept: no wrist, no shape, no images. Nothing of any file is executed.
"""

import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from fourdhands.data.convert.conventions import Mano
from fourdhands.data.convert.sources import read_npy, require
from fourdhands.data.manifest import Split, find_shards
from fourdhands.data.motion.clips import MotionClip, MotionShardWriter
from fourdhands.data.shards import SetSummary, read_samples
from fourdhands.skeleton import NUM_SIDES, Side

CONVERTER_VERSION: Final = 1
"""Part of every recipe: raise it when the same files make other clips."""
SHARD_SEQUENCES: Final = 50
_AMASS_HANDS: Final = {
    # width of `poses`: where the left and right hand's 45 numbers begin, and the rate's name
    165: ({Side.LEFT: 75, Side.RIGHT: 120}, ("mocap_frame_rate", "mocap_framerate")),
    156: ({Side.LEFT: 66, Side.RIGHT: 111}, ("mocap_framerate", "mocap_frame_rate")),
}


class MotionSource(Protocol):
    """Recordings of one data set."""

    @property
    def name(self) -> str:
        """Of the data set."""
        ...

    def sequences(self) -> list[str]:
        """Names of what there is, sorted.

        Raises:
            FileNotFoundError: the download is not where it should be.
        """
        ...

    def split_of(self, sequence: str) -> Split:
        """The split that a recording belongs to."""
        ...

    def read(self, sequence: str) -> MotionClip:
        """One recording.

        Raises:
            ValueError: it cannot be read; says why.
        """
        ...


@dataclass(frozen=True)
class Amass:
    """The hands of AMASS's GRAB, TCDHands and SAMP, as SMPL-X or SMPL+H `.npz` files.

        {root}/{subject}/{sequence}.npz     or deeper

    SMPL-X N files have `poses` (F, 165) with the left hand at 75:120 and the right one at 120:165,
    and `mocap_frame_rate`; SMPL+H ones (F, 156), 66:111 and 111:156, and `mocap_framerate`. Hands
    are absolute axis-angle rotations in MANO's order (`flat_hand_mean`). HMP's splits: GRAB trains,
    SAMP validates, TCDHands tests.

    Attributes:
        root: Folder of one of the subsets, as AMASS unpacks it.
        subset: Which one.
        split: Its split; by default HMP's.
    """

    root: Path
    subset: str = "GRAB"
    split: Split | None = None

    name: ClassVar[str] = "amass"

    def sequences(self) -> list[str]:
        """All files but those of bodies at rest (`shape.npz`, `*stagei.npz`)."""
        folder = require(self.root, f"AMASS's {self.subset}")
        found = [
            str(path.relative_to(folder).with_suffix(""))
            for path in sorted(folder.rglob("*.npz"))
            if path.stem != "shape" and not path.stem.endswith("stagei")
        ]
        if not found:
            raise FileNotFoundError(f"{folder}: no motion (*.npz) in it")
        return found

    def split_of(self, sequence: str) -> Split:
        """HMP's, or as configured."""
        known: dict[str, Split] = {"grab": "train", "samp": "val", "tcdhands": "test"}
        split = self.split or known.get(re.sub(r"[^a-z]", "", self.subset.lower()))
        if split is None:
            raise ValueError(
                f"subset {self.subset!r} is none of GRAB, SAMP, TCDHands: say its split (--split)"
            )
        return split

    def read(self, sequence: str) -> MotionClip:
        """Both hands of a body's motion."""
        path = self.root / f"{sequence}.npz"
        try:
            with np.load(path, allow_pickle=False) as file:
                poses = np.asarray(file["poses"], np.float32)
                hands, names = _AMASS_HANDS[poses.shape[1]]
                rate = next(float(file[name]) for name in names if name in file.files)
        except (KeyError, IndexError):
            raise ValueError(
                f"{path}: needs `poses` of 165 (SMPL-X) or 156 (SMPL+H) columns"
            ) from None
        except StopIteration:
            raise ValueError(f"{path}: has no mocap_frame_rate") from None
        except Exception as error:  # zip files can be damaged in many ways
            raise ValueError(f"{path}: not a readable npz file ({error})") from None
        pose = np.stack(
            [poses[:, hands[side] : hands[side] + 45].reshape(-1, 15, 3) for side in Side], axis=1
        )
        return _clip(f"amass-{self.subset}", sequence, rate, pose)


@dataclass(frozen=True)
class ArcticMotion:
    """ARCTIC's hands: `{root}/raw_seqs/{subject}/{sequence}.mano.npy`, 30 frames a second.

    Poses are offsets from MANO's mean, which is added; by subject, s05 validates and s03 tests.

    Attributes:
        root: Folder with `raw_seqs`.
        mano: Folder that `fourdhands hands import` wrote, whose mean is added; the open hand's if
            not given, which differs.
    """

    root: Path
    mano: Path | None = None

    name: ClassVar[str] = "arctic"

    def sequences(self) -> list[str]:
        """As `s01/box_grab_01`."""
        folder = require(self.root / "raw_seqs", "ARCTIC's labels")
        found = sorted(
            str(path.relative_to(folder)).removesuffix(".mano.npy")
            for path in folder.glob("s*/*.mano.npy")
        )
        if not found:
            raise FileNotFoundError(f"{folder}: no SUBJECT/SEQUENCE.mano.npy in it")
        return found

    def split_of(self, sequence: str) -> Split:
        """By subject."""
        held_back: Mapping[str, Split] = {"s05": "val", "s03": "test"}
        return held_back.get(sequence.partition("/")[0], "train")

    def read(self, sequence: str) -> MotionClip:
        """Both hands."""
        path = self.root / "raw_seqs" / f"{sequence}.mano.npy"
        labels = read_npy(path)
        model = Mano(self.mano)
        try:
            poses = [
                np.asarray(labels[name]["pose"], np.float64) + model.assets[side].hands_mean
                for side, name in ((Side.RIGHT, "right"), (Side.LEFT, "left"))
            ]
            pose = np.stack(poses, axis=1).reshape(-1, NUM_SIDES, 15, 3)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not ARCTIC's labels of two hands ({error})") from None
        return _clip("arctic", sequence, 30.0, pose.astype(np.float32))


class ClipShardMotion:
    """The fingers of shards with images, strung together where frames follow each other.

    Of several cameras that film a sequence the first one is taken: they see the same fingers.

    Args:
        source: manifest, summary or folder of shards.
        root: what a manifest's pattern is relative to.
        split: the split that they become.
    """

    name = "clips"

    def __init__(self, source: Path, root: Path, split: Split) -> None:
        self.split = split
        self._runs: dict[str, list[tuple[int, int, float, NDArray[Any], NDArray[Any]]]] = {}
        cameras: dict[str, str] = {}
        self.dataset = ""
        for shard in find_shards(source, root).shards:
            for sample in read_samples(shard, _labels_only):
                meta = json.loads(sample["meta.json"])
                sequence, camera = f"{meta['dataset']}/{meta['sequence']}", meta["camera"]
                if cameras.setdefault(sequence, camera) != camera or len(meta["frame_ids"]) < 1:
                    continue
                self.dataset = self.dataset or meta["dataset"]
                pose = np.load(io.BytesIO(sample["hand_pose.npy"]), allow_pickle=False)
                valid = np.load(io.BytesIO(sample["hands_valid.npy"]), allow_pickle=False)
                for k, number in enumerate(meta["frame_ids"]):
                    frame = (number, k, float(meta["fps"]), pose[k], valid[k])
                    self._runs.setdefault(sequence, []).append(frame)
        for frames in self._runs.values():
            frames.sort(key=lambda frame: frame[0])

    def sequences(self) -> list[str]:
        """Of the shards."""
        return sorted(self._runs)

    def split_of(self, sequence: str) -> Split:
        """The one that was given."""
        return self.split

    def read(self, sequence: str) -> MotionClip:
        """All frames of a sequence; frames that are missing between are not valid.

        A sequence that is labelled every n-th frame only has 1/n of the rate.
        """
        frames = {frame[0]: frame for frame in self._runs[sequence]}
        numbers = sorted(frames)
        steps = [b - a for a, b in pairwise(numbers)] or [1]
        step = max(1, int(np.gcd.reduce(steps)))
        count = (numbers[-1] - numbers[0]) // step + 1
        fps = frames[numbers[0]][2] / step
        pose = np.zeros((count, NUM_SIDES, 15, 3), np.float32)
        valid = np.zeros((count, NUM_SIDES), bool)
        index = [(number - numbers[0]) // step for number in numbers]
        found = np.stack([frames[number][3] for number in numbers])
        pose[index] = _axis_angle(found)
        valid[index] = np.stack([frames[number][4] for number in numbers])
        pose[~valid] = 0
        return _clip(sequence.partition("/")[0], sequence, fps, pose, valid)


def convert_motion(
    source: MotionSource, folder: Path, recipe: Mapping[str, Any]
) -> list[SetSummary]:
    """Write the recordings of a source as motion shards, a set for each split.

    What is there already is kept; recordings that cannot be read are left out and named in
    `SPLIT.skipped.json`.

    Args:
        source: The recordings.
        folder: Where the shards go.
        recipe: What the source was made from.

    Raises:
        FileNotFoundError: The download is not where it should be.
        ValueError: The folder holds another set, or nothing can be read.
    """
    by_split: dict[Split, list[str]] = {}
    for sequence in source.sequences():
        by_split.setdefault(source.split_of(sequence), []).append(sequence)
    summaries = []
    for split, names in by_split.items():
        shards = -(-len(names) // SHARD_SEQUENCES)
        full = {"converter": f"fourdhands.data.motion.convert:{source.name}", **recipe}
        full |= {"converter_version": CONVERTER_VERSION, "sequences": len(names)}
        writer = MotionShardWriter(folder, split, num_shards=shards, recipe=full)
        writer.start()
        skipped: dict[str, str] = {}
        for shard in tqdm(writer.pending(), desc=f"{source.name} {split}"):
            part = names[shard * SHARD_SEQUENCES : (shard + 1) * SHARD_SEQUENCES]
            writer.write(shard, _readable(source, part, skipped))
        if len(skipped) == len(names):
            raise ValueError(f"no recording of {split} can be read: {next(iter(skipped.values()))}")
        if skipped:
            (folder / f"{split}.skipped.json").write_text(json.dumps(skipped, indent=1) + "\n")
        summaries.append(writer.finish())
    return summaries


def _readable(
    source: MotionSource, names: Iterable[str], skipped: dict[str, str]
) -> Iterator[MotionClip]:
    for name in names:
        try:
            clip = source.read(name)
            clip.check()
        except (ValueError, OSError) as error:
            skipped[name] = " ".join(str(error).split())[:300]
        else:
            yield clip


def _clip(
    dataset: str,
    sequence: str,
    fps: float,
    pose: NDArray[np.float32],
    valid: NDArray[np.bool_] | None = None,
) -> MotionClip:
    key = re.sub(r"[^A-Za-z0-9_-]", "-", sequence)[-80:]
    valid = np.ones(pose.shape[:2], bool) if valid is None else valid
    return MotionClip(key, dataset, sequence, float(fps), np.ascontiguousarray(pose), valid)


def _axis_angle(rotations: NDArray[Any]) -> NDArray[np.float32]:
    flat = np.asarray(rotations, np.float64).reshape(-1, 3, 3)
    # what is not labelled is zeros
    flat = np.where(np.abs(flat).sum((1, 2), keepdims=True) > 0, flat, np.eye(3))
    vectors = Rotation.from_matrix(flat).as_rotvec()
    return np.asarray(vectors.reshape(rotations.shape[:-1]), np.float32)


def _labels_only(name: str) -> bool:
    return name.endswith(("meta.json", "hand_pose.npy", "hands_valid.npy"))
