"""HaMeR's training data: hands of ten data sets, image by image in tars, with pickled labels.

    {freihand,interhand26m,halpe,cocow,mtc,rhd,mpiinzsl,ho3d,h2o3d,dex}-train/%06d.tar
        KEY.(jpg|jpeg|png), KEY.data.pyd (a list of dictionaries, one for each hand)
        [KEY.detection.npz, masks, not read]

Of each hand `keypoints_2d` (21, 3) and `keypoints_3d` (21, 4) with confidences, common order,
pixels and metres; `hand_pose` (48) axis-angle, MANO's mean included, and `betas` (10), where
`has_hand_pose` and `has_betas` say so; `right`; `center` and `scale` (pixels / 200) of a box;
`extra_info`. There are no cameras, and joints are told relative to the wrist.

Left hands are stored as they are in the image: HaMeR's reader itself turns image, 2D and 3D points
and poses of what is not `right` round before its one right hand sees them, and the stored images
are those of the data sets. Were they stored the other way round, the check of the mesh against the
3D joints would fail, for no left hand fits the joints of a right one.

Tars are read where their headers say that a member lies. Nothing is unpacked, names of members are
labels and never paths, and pickles are read without running them.
"""

import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np

from fourdhands import inert_pickle
from fourdhands.data.convert.conventions import Mano, numbers, rotation
from fourdhands.data.convert.records import (
    BadFrameError,
    Dataset,
    FrameRecord,
    HandRecord,
    Recording,
)
from fourdhands.data.convert.sources import require
from fourdhands.skeleton import Side

MIN_CONFIDENCE: Final = 0.3
MIN_JOINTS: Final = 5
MAX_BETA: Final = 3.0
MAX_REPROJECTION_LOSS: Final = 31000.0
MOST_HANDS: Final = 100
"""Of an image; more are no labels."""
_BOX_UNIT: Final = 200.0
"""Pixels of a `scale` of one."""
_IMAGES: Final = ("jpg", "jpeg", "png")
_LABELS: Final = "data.pyd"
_LARGEST: Final = {**dict.fromkeys(_IMAGES, 2**28), _LABELS: 2**24}
"""Bytes of a member; real ones are a thousand times smaller."""
_MEMBER: Final = re.compile(r"((?:.*/)?[^/.]+)\.([^/]+)", re.DOTALL)
_ROOT_SPLIT: Final = "train"


class _Part(NamedTuple):
    """Where a member's bytes lie in its tar."""

    offset: int
    size: int


class _Source(NamedTuple):
    """A frame: up to one right and one left hand of an image.

    Attributes:
        tar: relative to the root.
        image: its bytes.
        labels: of all hands of the image.
        pair: which right and which left hand, counted from 0.
        fault: why none of it can be read, if that is clear already.
    """

    tar: str
    image: _Part
    labels: _Part
    pair: int
    fault: str = ""


@dataclass
class _Sample:
    """The members of one key."""

    parts: dict[str, _Part] = field(default_factory=dict)
    fault: str = ""

    def add(self, ending: str, part: _Part) -> None:
        if ending in self.parts:
            self.fault = f"the tar holds {ending} of a key more than once"
        self.parts[ending] = part

    def source(self, tar: str) -> _Source:
        """Its first frame."""
        images = [self.parts[ending] for ending in _IMAGES if ending in self.parts]
        nothing = _Part(0, 0)
        fault = self.fault
        if not fault and len(images) != 1:
            fault = "a key has more than one image" if images else "the image is missing"
        if not fault and _LABELS not in self.parts:
            fault = "the labels are missing"
        return _Source(
            tar, images[0] if images else nothing, self.parts.get(_LABELS, nothing), 0, fault
        )


@dataclass(frozen=True)
class Hamer(Dataset):
    """HaMeR's training tars, every data set of them a split.

    Attributes:
        root: Folder `dataset_tars`, or one with tars right in it (that is the split `train`).
        filtered: Leave out what HaMeR's training does: joints with less confidence than 0.3, then
            hands with fewer than five joints or a reprojection loss of 31000 and more, poses and
            shapes where one of both is missing or a shape number is beyond 3.
    """

    filtered: bool = True

    name: ClassVar[str] = "hamer"

    def splits(self) -> Sequence[str]:
        """Folders with tars, by name; `train` if the tars lie in the root."""
        if any(self.root.glob("*.tar")):
            return [_ROOT_SPLIT]
        found = sorted({path.parent.name for path in self.root.glob("*/*.tar")})
        if not found:
            require(self.root / "freihand-train" / "000000.tar", "a tar of HaMeR's training data")
        return found

    def recordings(self, split: str) -> Iterable[Recording]:
        """One for each image, or more if it has several right or several left hands."""
        tars = sorted(self.root.glob("*.tar")) or sorted((self.root / split).glob("*.tar"))
        for tar in tars:
            name = tar.relative_to(self.root).as_posix()
            for key, sample in _samples(tar).items():
                first = sample.source(name)
                for pair in range(1 if first.fault else _count_frames(self.root, first)):
                    yield Recording(key, tar.stem, ((pair, first._replace(pair=pair)),))

    def read(self, recording: Recording, source: Any, mano: Mano) -> FrameRecord:
        """Read one image with up to two of its hands."""
        if source.fault:
            raise BadFrameError(source.fault)
        pairs = _pairs(_read_labels(self.root, source))
        found = pairs[source.pair] if pairs else {}
        if pairs and not found:
            raise BadFrameError("a hand is neither right nor left")
        hands = {side: self._hand(side, labels, mano) for side, labels in found.items()}
        kept = {side: hand for side, hand in hands.items() if hand is not None}
        if hands and not kept:
            raise BadFrameError("HaMeR leaves it out: too few joints, or badly fitted")
        return FrameRecord(_read_part(self.root, source.tar, source.image), kept)

    def _hand(self, side: Side, labels: Mapping[str, Any], mano: Mano) -> HandRecord | None:
        """One hand; None if HaMeR leaves it out."""
        points = numbers(labels["keypoints_2d"], 21, 3)
        joints = numbers(labels["keypoints_3d"], 21, 4)
        has_pose, has_betas = _is_set(labels["has_hand_pose"]), _is_set(labels["has_betas"])
        least = MIN_CONFIDENCE if self.filtered else 0.0
        points_valid = (points[:, 2] >= least) & (points[:, 2] > 0)
        joints_valid = joints[:, 3] > 0
        if self.filtered:
            loss = _reprojection_loss(labels)
            if points_valid.sum() < MIN_JOINTS or loss >= MAX_REPROJECTION_LOSS:
                return None
            has_betas = has_betas and bool((np.abs(numbers(labels["betas"], 10)) <= MAX_BETA).all())
            has_pose = has_betas = has_pose and has_betas
        centre = numbers(labels["center"], 2)
        half = np.broadcast_to(np.asarray(labels["scale"], np.float64), (2,)) * _BOX_UNIT / 2
        hand = HandRecord(
            joints_2d=points[:, :2],
            joints_2d_valid=points_valid,
            bbox=np.concatenate((centre - half, centre + half)),
            placed=False,
        )
        if joints_valid.any():
            hand.joints, hand.joints_valid = joints[:, :3], joints_valid
        if has_pose:
            pose = numbers(labels["hand_pose"], 48)
            hand.global_orient = rotation(pose[:3])
            hand.hand_pose = mano.hand_pose(side, pose[3:], mean_included=True)
        if has_betas:
            hand.betas = numbers(labels["betas"], 10)
        return hand


# ---- tars ----------------------------------------------------------------------------------------


def _samples(tar: Path) -> dict[str, _Sample]:
    """What the headers of a tar name, by key; what is damaged is a sample with a fault."""
    samples: dict[str, _Sample] = {}
    for name, part in _members(tar, samples):
        if match := _MEMBER.fullmatch(name):
            key, ending = match[1], match[2].lower()
            if ending in _LARGEST:
                # names may hold bytes that are no text
                text = key.encode("utf-8", "backslashreplace").decode()
                samples.setdefault(text, _Sample()).add(ending, part)
    return samples


def _members(tar: Path, samples: dict[str, _Sample]) -> Iterator[tuple[str, _Part]]:
    """Plain files of a tar; links, devices and sparse files are passed over."""
    try:
        with tarfile.open(tar, "r:") as file:
            last = -1
            for member in file:
                if member.offset <= last:  # a header that leads back would do so for ever
                    raise tarfile.ReadError("members overlap")
                last = member.offset
                if member.isreg() and not member.issparse():
                    yield member.name, _Part(member.offset_data, member.size)
        # a broken header in the middle looks like the end, which is a block of zeros
        with tar.open("rb") as raw:
            raw.seek(file.offset)
            if raw.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("no end of archive")
    except Exception:  # headers can be damaged in many ways, each with its exception
        # what was found before is good
        samples[f"the rest of {tar.name}"] = _Sample(fault="a tar is cut off or damaged")


def _read_part(root: Path, tar: str, part: _Part, largest: int = max(_LARGEST.values())) -> bytes:
    with (root / tar).open("rb") as file:
        size = file.seek(0, 2)
        if part.size > largest:
            raise BadFrameError("a member of a tar is too large")
        if part.offset < 0 or part.offset + part.size > size:
            raise BadFrameError("a member of a tar is cut off")
        file.seek(part.offset)
        return file.read(part.size)


# ---- labels --------------------------------------------------------------------------------------


def _read_labels(root: Path, source: _Source) -> list[Any]:
    """One entry for each hand of an image.

    Raises:
        BadFrameError: they are not there, or are no such list.
    """
    data = _read_part(root, source.tar, source.labels, _LARGEST[_LABELS])
    try:
        hands = inert_pickle.loads(data, "the labels")
    except ValueError as error:
        if "refused" in str(error):
            raise BadFrameError("the pickle of the labels asks for something to be run") from None
        raise BadFrameError("the pickle of the labels is damaged") from None
    if not isinstance(hands, list | tuple):
        raise BadFrameError("the labels are no list of hands")
    if len(hands) > MOST_HANDS:
        raise BadFrameError("the labels are of more hands than an image shows")
    return list(hands)


def _count_frames(root: Path, source: _Source) -> int:
    """Frames that an image with all its hands becomes; unreadable ones fail as one, when read."""
    try:
        return max(1, len(_pairs(_read_labels(root, source))))
    except (BadFrameError, OSError):
        return 1


def _pairs(hands: Sequence[Any]) -> list[dict[Side, Mapping[str, Any]]]:
    """The k-th right hand with the k-th left; an empty one for every hand that is neither."""
    by_side: dict[Side, list[Mapping[str, Any]]] = {side: [] for side in Side}
    neither = 0
    for hand in hands:
        try:
            right = float(numbers(hand["right"], 1)[0])
        except (KeyError, TypeError, ValueError, IndexError):
            right = float("nan")
        if right in (0.0, 1.0):
            by_side[Side.RIGHT if right else Side.LEFT].append(hand)
        else:
            neither += 1
    count = max(len(found) for found in by_side.values())
    pairs = [
        {side: found[k] for side, found in by_side.items() if k < len(found)} for k in range(count)
    ]
    return [*pairs, *({} for _ in range(neither))]


def _is_set(flag: Any) -> bool:
    return bool(numbers(flag, 1)[0] > 0)


def _reprojection_loss(labels: Mapping[str, Any]) -> float:
    """Of the fit that made the pose; 0 if it was none."""
    extra = labels.get("extra_info")
    losses = extra.get("fitting_loss") if isinstance(extra, Mapping) else None
    if isinstance(losses, np.ndarray) and losses.shape == ():
        losses = losses.item()
    loss = losses.get("reprojection_loss") if isinstance(losses, Mapping) else None
    return 0.0 if loss is None else float(numbers(loss, 1)[0])
