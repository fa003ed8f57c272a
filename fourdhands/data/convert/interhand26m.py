"""InterHand2.6M v1.0: one or two hands in sequences of many cameras, 5 or 30 frames a second.

    images/{train,val,test}/Capture{N}/{sequence}/cam{camera}/image{frame}.jpg
    annotations/{split}/InterHand2.6M_{split}_{data,camera,joint_3d,MANO_NeuralAnnot}.json

Older trees have annotations/{all,human_annot,machine_annot}/ in place of annotations/{split}/.
Joints and cameras are in millimetres, x_camera = camrot (x_world - campos); of a frame's 42 joints
the right hand's come first. MANO's parameters are those of the world in metres, the pose without
its mean, the left hand's shape directions repaired.

A joint is valid, in 3D as in 2D, where the official evaluators count it: where the annotation of
the *image* has it (joint_valid; 0 outside the image, too) together with the wrist of its hand.
MANO's parameters hold for the frame and stay where no joint of the hand counts; in images of a
single hand only that hand's are taken. Not every hand in sight need be labelled.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fourdhands.data.convert.assemble import decode_image
from fourdhands.data.convert.conventions import (
    FROM_INTERHAND,
    Mano,
    intrinsics,
    numbers,
    rigid,
    transformed,
)
from fourdhands.data.convert.neural_annot import add_mano, compact_mano
from fourdhands.data.convert.records import (
    BadFrameError,
    Dataset,
    FrameRecord,
    HandRecord,
    Recording,
    usual_step,
)
from fourdhands.data.convert.sources import first_existing, inside, read_image, read_json, require
from fourdhands.skeleton import NUM_JOINTS, WRIST, Side

_SPLITS: Final = ("train", "val", "test")
_OLDER_TREES: Final = {"all": "all", "human": "human_annot", "machine": "machine_annot"}
_SHOWN: Final = {"right": (Side.RIGHT,), "left": (Side.LEFT,), "interacting": tuple(Side)}
_MANO_NAMES: Final = ("right", "left")
_CAMERA: Final = ("campos", "camrot", "focal", "princpt")
_POINTS: Final = 2 * NUM_JOINTS
_DARKEST: Final = 10.0
"""Mean grey level below which IntagHand leaves an image out."""


class _Image(NamedTuple):
    id: int
    file: str
    capture: int
    sequence: str
    camera: str
    frame: int


class _Annotation(NamedTuple):
    """What is needed of an image's label; `valid` are the bits of 42 joints."""

    id: int
    image: int
    hands: str
    hands_sure: bool
    valid: bytes


class _Source(NamedTuple):
    """A frame; all but `file` and `annotation` is shared with other frames.

    `joints` are (42, 4): world, millimetres, and whether the frame has that joint at all.
    """

    folder: str
    file: str
    annotation: _Annotation
    joints: NDArray[np.float32] | None
    mano: Any
    camera: dict[str, Any] | None


@dataclass(frozen=True)
class InterHand26M(Dataset):
    """InterHand2.6M.

    Attributes:
        root: Folder with `images` and `annotations` of one release. The images may also lie in
            `InterHand2.6M_{release}_batch*/images`, as they are unpacked.
        release: Which of the two it is; the files do not say.
        annotations: Whose labels; in trees of annotations/{split} `human` needs InterWild's lists
            `aid_human_annot_{split}.txt`, and `machine` cannot be told from the others.
        hands: Images of which hands. `intaghand` are IntagHand's: of both hands, surely so, both
            with MANO parameters, and not darker than a mean grey level of 10.
    """

    release: Literal["5fps", "30fps"] = "5fps"
    annotations: Literal["all", "human", "machine"] = "all"
    hands: Literal["all", "interacting", "single", "intaghand"] = "all"

    name: ClassVar[str] = "interhand26m"

    def splits(self) -> Sequence[str]:
        """Those with images and labels."""
        images = self._images()
        there = [split for split in _SPLITS if (images / split).is_dir()]
        if not there:
            require(images / "train", "the folder of InterHand2.6M's training images")
        found = [split for split in there if all(path.exists() for path in self._needed(split))]
        if not found:
            for path in self._needed(there[0]):
                require(path, f"needed for --annotations {self.annotations} of InterHand2.6M")
        return found

    def recordings(self, split: str) -> Iterable[Recording]:
        """One for each sequence and camera, and one of the labels that cannot be placed."""
        files = {what: self._file(split, what) for what in ("data", "camera", "joint_3d")}
        mano_file = self._mano_file(split)
        data = read_json(files["data"], _compact)
        cameras = read_json(files["camera"])
        joints = read_json(files["joint_3d"], _compact)
        parameters = {} if mano_file is None else read_json(mano_file, _compact)
        chosen = self._chosen(split)
        images = {image.id: image for image in data["images"] if isinstance(image, _Image)}
        steps = _steps(images.values())
        folder = str((self._images() / split).relative_to(self.root))

        grouped: dict[tuple[int, str, str], dict[int, _Source]] = defaultdict(dict)
        stray = 0
        for annotation in data["annotations"]:
            image = images.get(annotation.image) if isinstance(annotation, _Annotation) else None
            if image is None:
                stray += 1
                continue
            if chosen is not None and annotation.id not in chosen:
                continue
            frame = str(image.frame)
            mano = parameters.get(str(image.capture), {}).get(frame)
            if not self._wanted(annotation, mano):
                continue
            group = grouped[image.capture, image.sequence, image.camera]
            group.setdefault(
                image.frame,
                _Source(
                    folder,
                    image.file,
                    annotation,
                    joints.get(str(image.capture), {}).get(frame),
                    mano,
                    None,
                ),
            )
        for (capture, sequence, camera), frames in sorted(grouped.items()):
            lens = _camera(cameras, str(capture), camera)
            yield Recording(
                f"Capture{capture}/{sequence}",
                camera,
                tuple((k, frames[k]._replace(camera=lens)) for k in sorted(frames)),
                step=steps[capture, sequence],
                fps=float(self.release.removesuffix("fps")),
            )
        if stray:
            yield Recording("stray labels", "none", tuple((k, None) for k in range(stray)))

    def read(self, recording: Recording, source: Any, mano: Mano) -> FrameRecord:
        """Joints and parameters from the world to the camera."""
        if source is None:
            raise BadFrameError("a label is incomplete, or its image is not listed")
        folder, file, annotation, points, parameters, camera = source
        if points is None:
            raise BadFrameError("the frame has no 3D joints")
        if camera is None:
            raise BadFrameError("the camera's parameters are missing")
        image = read_image(inside(self.root / folder, file))
        if self.hands == "intaghand" and decode_image(image).mean() < _DARKEST:
            raise BadFrameError("the image is darker than IntagHand takes them")
        R = numbers(camera["camrot"], 3, 3)
        cam_from_world = rigid(R, -R @ numbers(camera["campos"], 3) / 1000)
        values = numbers(points, _POINTS, 4)
        joints = transformed(cam_from_world, values[:, :3] / 1000)
        bits = np.frombuffer(annotation.valid, np.uint8)
        valid = np.unpackbits(bits, count=_POINTS).astype(bool) & (values[:, 3] > 0)
        hands = {}
        for side in Side:
            own = NUM_JOINTS * side + np.array(FROM_INTERHAND)
            counts = valid[own] & valid[own[WRIST]]
            hand = HandRecord(joints=joints[own], joints_valid=counts)
            mesh = (parameters or {}).get(_MANO_NAMES[side])
            if mesh is not None and side in _SHOWN[annotation.hands]:
                add_mano(hand, mano, side, mesh, cam_from_world)
            if counts.any() or hand.betas is not None:
                hands[side] = hand
        K = intrinsics(camera["focal"], camera["princpt"])
        shown = _SHOWN[annotation.hands]
        return FrameRecord(image, hands, K, cam_from_world, shown=shown)

    def _wanted(self, annotation: _Annotation, mano: Any) -> bool:
        if self.hands == "single":
            return annotation.hands != "interacting"
        if self.hands == "interacting":
            return annotation.hands == "interacting"
        if self.hands == "intaghand":
            both = isinstance(mano, dict) and all(mano.get(h) is not None for h in _MANO_NAMES)
            return annotation.hands == "interacting" and annotation.hands_sure and both
        return True

    def _images(self) -> Path:
        """Folder of the splits' images."""
        other = "30fps" if self.release == "5fps" else "5fps"
        if f"_{other}" in self.root.resolve().name:
            raise ValueError(f"release: {self.release} is not what {self.root} is called")
        folder = self.root / "images"
        if not folder.is_dir():
            unpacked = sorted(self.root.glob(f"InterHand2.6M_{self.release}_batch*/images"))
            folder = unpacked[-1] if unpacked else folder
        return folder

    def _labels(self, split: str) -> Path:
        """Folder of a split's labels: of an older tree if there is one."""
        older = self.root / "annotations" / _OLDER_TREES[self.annotations]
        newer = self.root / "annotations" / split
        return older if older.is_dir() or self.annotations == "machine" else newer

    def _needed(self, split: str) -> Sequence[Path]:
        """Files without which a split is not there."""
        path = self._labels(split) / f"InterHand2.6M_{split}_data.json"
        return (path,) if (ids := self._list(split)) is None else (path, ids)

    def _list(self, split: str) -> Path | None:
        """InterWild's list of the annotations that were made by people; None if not needed."""
        if self.annotations != "human" or self._labels(split).name != split:
            return None
        annotations = self.root / "annotations"
        name = f"aid_human_annot_{split}.txt"
        places = [annotations / name, annotations / split / name, self.root / name]
        return next((path for path in places if path.exists()), places[0])

    def _chosen(self, split: str) -> frozenset[int] | None:
        path = self._list(split)
        if path is None:
            return None
        try:
            return frozenset(map(int, path.read_text().split()))
        except ValueError:
            raise ValueError(f"{path}: holds more than annotation ids") from None

    def _file(self, split: str, what: str) -> Path:
        name = f"InterHand2.6M_{split}_{what}.json"
        return require(self._labels(split) / name, "one of InterHand2.6M's label files")

    def _mano_file(self, split: str) -> Path | None:
        """MANO's parameters are a download of their own; IntagHand's images need them."""
        name = f"InterHand2.6M_{split}_MANO_NeuralAnnot.json"
        annotations = self.root / "annotations"
        # later than the older trees, and alike for all annotations
        places = [self._labels(split), annotations / "all", annotations / split, annotations]
        found = first_existing(*(place / name for place in places))
        if self.hands == "intaghand":
            require(found, "the MANO parameters of InterHand2.6M, needed for --hands intaghand")
        return found if found.exists() else None


def _compact(entry: dict[str, Any]) -> Any:
    """Objects of the label files as small as can be; what is not as it should be stays as it is.

    The training split has more than a million images, each with a list of 42 lists of one number.
    """
    try:
        if "image_id" in entry:
            return _Annotation(
                int(entry["id"]),
                int(entry["image_id"]),
                _known_hands(entry["hand_type"]),
                bool(np.all(entry["hand_type_valid"])),
                np.packbits(numbers(entry["joint_valid"], _POINTS) > 0).tobytes(),
            )
        if "file_name" in entry:
            return _Image(
                int(entry["id"]),
                str(entry["file_name"]),
                int(entry["capture"]),
                sys.intern(entry["seq_name"]),
                sys.intern(str(entry["camera"])),
                int(entry["frame_idx"]),
            )
        if "world_coord" in entry:
            valid = numbers(entry["joint_valid"], _POINTS, 1)
            points = numbers(entry["world_coord"], _POINTS, 3)
            return np.concatenate((points, valid), 1).astype(np.float32)
    except (KeyError, TypeError, ValueError):
        return entry
    return compact_mano(entry)


def _known_hands(hands: str) -> str:
    if hands not in _SHOWN:
        raise ValueError
    return sys.intern(hands)


def _camera(cameras: Any, capture: str, camera: str) -> dict[str, Any] | None:
    """Its parameters, unchecked; None if any of them is missing."""
    try:
        return {name: cameras[capture][name][camera] for name in _CAMERA}
    except (KeyError, TypeError):
        return None


def _steps(images: Iterable[_Image]) -> dict[tuple[int, str], int]:
    """From one frame to the next, by capture and sequence; measured, for nobody documents it."""
    frames: dict[tuple[int, str], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for image in images:
        frames[image.capture, image.sequence][image.camera].append(image.frame)
    return {
        sequence: usual_step(sorted(set(numbers_)) for numbers_ in cameras.values())
        for sequence, cameras in frames.items()
    }
