"""ARCTIC: both hands of people who use things with moving parts, in nine views.

    images/{subject}/{sequence}/{view}/%05d.jpg     view 0 egocentric, 1 to 8 static
    cropped_images/...                              the same, cut and scaled for ARCTIC's network
    raw_seqs/{subject}/{sequence}.mano.npy          MANO of both hands, world
    raw_seqs/{subject}/{sequence}.egocam.dist.npy   the egocentric camera: pose of each frame, lens
    meta/misc.json                                  the static cameras, and ioi_offset
    splits_json/protocol_{p1,p2}.json               sequences of the splits          (optional)
    processed_seqs/{subject}/{sequence}.npy         joints and crops                 (optional)
    splits/{p1,p2}_{split}.npy                      the same of a whole split        (optional)

Metres, OpenCV's cameras, MANO's order, its pose without the mean, left hands by the released model.
The labels of image n are those of index `n - ioi_offset`. Static images are free of distortion; the
egocentric ones are rectified here, their rays being those of the labels then. Images of a static
view are cut to a square of 1000 pixels about the box in `processed_seqs` or `splits`, made half as
large again; egocentric ones are scaled by 0.3.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from fourdhands.data.convert.assemble import decode_image
from fourdhands.data.convert.conventions import (
    FROM_HO3D,
    Floats,
    Mano,
    MeshParameters,
    numbers,
    rigid,
    rotation,
)
from fourdhands.data.convert.records import (
    BadFrameError,
    Dataset,
    FrameRecord,
    HandRecord,
    Recording,
)
from fourdhands.data.convert.sources import kept, numbered, read_image, read_json, read_npy, require
from fourdhands.skeleton import Side

_EGO: Final = 0
_VIEWS: Final = {"all": range(9), "p1": range(1, 9), "p2": range(1)}
_SPLITS: Final = ("train", "val", "test")
_HELD_BACK: Final = {"s05": "val", "s03": "test"}
_BORDER: Final = 10
"""Frames at both ends of a sequence that ARCTIC leaves out: their images may be black."""
_CROP: Final = 1000
_LOOSE: Final = 1.5 * 200.0
"""Pixels of a crop's side by the scale of its box."""
_EGO_SCALE: Final = 0.3
_SIDES: Final = {Side.RIGHT: "right", Side.LEFT: "left"}


@dataclass(frozen=True)
class Arctic(Dataset):
    """ARCTIC.

    Attributes:
        root: Folder with `images`, `raw_seqs` and `meta`.
        images: Which of the two folders of images.
        protocol: Which views: p1 static, p2 egocentric.
    """

    images: Literal["images", "cropped_images"] = "images"
    protocol: Literal["all", "p1", "p2"] = "all"

    name: ClassVar[str] = "arctic"
    fps: ClassVar[float] = 30.0
    all_hands_labelled: ClassVar[bool] = True
    left_released: ClassVar[bool] = True

    def splits(self) -> Sequence[str]:
        """Those that have a sequence whose labels are there; ARCTIC keeps those of the test."""
        require(self.root / "raw_seqs", "ARCTIC's labels")
        labelled = [s for s in self._sequences() if _labels_of(self.root, s).exists()]
        if not labelled:
            raise FileNotFoundError(
                f"{self.root / 'raw_seqs'}: none of the sequences in {self.root / self.images} "
                "has its SUBJECT/SEQUENCE.mano.npy there"
            )
        there = {self._split_of(s, view) for s in labelled for view in _VIEWS[self.protocol]}
        return [split for split in _SPLITS if split in there]

    def recordings(self, split: str) -> Iterable[Recording]:
        """One for each sequence and view."""
        misc, crops = self._misc(), self._crops(split)
        for sequence in self._sequences():
            views = [v for v in _VIEWS[self.protocol] if self._split_of(sequence, v) == split]
            last = _last_frame(_labels_of(self.root, sequence)) if views else None
            boxes = _by_image(crops.get(sequence), misc.get(sequence.partition("/")[0]))
            for view in views:
                folder = self.root / self.images / sequence / str(view)
                frames = [
                    (number, (name, boxes(number, view)))
                    for number, name in numbered(folder, r"(\d+)\.(?:jpg|png)")
                    if number >= _BORDER and (last is None or number < last)
                ]
                if frames:
                    yield Recording(sequence, str(view), frames)

    def read(self, recording: Recording, source: Any, mano: Mano) -> FrameRecord:
        """World to camera; the egocentric image as a pinhole camera sees it."""
        name, box = source
        subject, view = recording.sequence.partition("/")[0], int(recording.camera)
        misc = self._misc()[subject]
        index = int(Path(name).stem) - int(misc["ioi_offset"])
        labels = kept(read_npy, _labels_of(self.root, recording.sequence))
        if not 0 <= index < len(labels["right"]["rot"]):
            raise BadFrameError("there are no labels for the image's number")
        processed = self.root / "processed_seqs" / f"{recording.sequence}.npy"
        own = kept(read_npy, processed) if processed.exists() else None
        if own is not None:
            box = own["bbox"][index, view]
        K, cam_from_world, lens = self._camera(recording, view, index)
        width, height = (int(side) for side in misc["image_size"][view])
        if self.images == "cropped_images":
            K, (width, height) = _cropped(K, (width, height), view, box)
        image: bytes | NDArray[np.uint8] = read_image(
            self.root / self.images / recording.sequence / recording.camera / name
        )
        if lens is not None:
            pixels = decode_image(bytes(image))
            maps = _rectification(K.tobytes(), lens.tobytes(), pixels.shape[1], pixels.shape[0])
            image = np.asarray(cv2.remap(pixels, *maps, cv2.INTER_LINEAR), np.uint8)
        hands = {}
        for side, field in _SIDES.items():
            hands[side] = _hand(labels[field], index, side, cam_from_world, mano)
            if own is not None:
                joints = numbers(own["cam_coord"][f"joints.{field}"][index, view], 21, 3)
                hands[side].joints = joints[list(FROM_HO3D)]
        return FrameRecord(
            image, hands, intrinsics=K, cam_from_world=cam_from_world, size=(width, height)
        )

    def _camera(
        self, recording: Recording, view: int, index: int
    ) -> tuple[Floats, Floats, Floats | None]:
        """Intrinsics, world to camera, and the lens where it distorts."""
        subject, _, sequence = recording.sequence.partition("/")
        if view != _EGO:
            misc = self._misc()[subject]
            K = numbers(misc["intris_mat"][view - 1], 3, 3)
            return K, numbers(misc["world2cam"][view - 1], 4, 4), None
        ego = kept(read_npy, self.root / "raw_seqs" / subject / f"{sequence}.egocam.dist.npy")
        pose = rigid(ego["R_k_cam_np"][index], ego["T_k_cam_np"][index])
        return numbers(ego["intrinsics"], 3, 3), pose, numbers(ego["dist8"], 8)

    def _split_of(self, sequence: str, view: int) -> str:
        """By the protocol's list if it is there, else by the subject."""
        lists = _protocol(self.root / "splits_json" / f"protocol_p{2 if view == _EGO else 1}.json")
        if lists is None:
            return _HELD_BACK.get(sequence.partition("/")[0], "train")
        # what is held back is never trained on, even if a list has it twice
        return next((split for split in reversed(_SPLITS) if sequence in lists[split]), "")

    def _crops(self, split: str) -> Mapping[str, Any]:
        """Boxes (F, views, 3) of sequences, if images are cropped by them and no other file has."""
        cut = self.images == "cropped_images" and self.protocol != "p2"
        if not cut or (self.root / "processed_seqs").is_dir():
            return {}
        paths = [self.root / "splits" / f"{p}_{split}.npy" for p in ("p1", "p2")]
        path = next((path for path in paths if path.exists()), None)
        if path is None:
            raise FileNotFoundError(
                f"{paths[0]} does not exist; it or processed_seqs says where cropped_images were "
                "cut, so download one of them, or convert with `--images images`"
            )
        data = read_npy(path)["data_dict"]
        return {sequence: np.asarray(entry["bbox"], np.float32) for sequence, entry in data.items()}

    def _misc(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = kept(
            read_json, require(self.root / "meta" / "misc.json", "ARCTIC's list of cameras")
        )
        return found

    def _sequences(self) -> list[str]:
        """As `s01/box_grab_01`, sorted."""
        folder = require(self.root / self.images, "the folder of ARCTIC's images")
        return sorted(
            f"{subject.name}/{sequence.name}"
            for subject in folder.iterdir()
            if re.fullmatch(r"s\d\d", subject.name)
            for sequence in subject.iterdir()
            if sequence.is_dir()
        )


def _labels_of(root: Path, sequence: str) -> Path:
    return root / "raw_seqs" / f"{sequence}.mano.npy"


def _last_frame(labels: Path) -> int | None:
    """Number that ends a sequence; None if its labels cannot be read, as every frame will say."""
    try:
        return len(read_npy(labels)["right"]["rot"]) - _BORDER
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _by_image(boxes: Any, misc: Any) -> Callable[[int, int], Any]:
    """The box of an image by its number and view, from boxes (F, views, 3)."""

    def box(number: int, view: int) -> Any:
        try:
            index = number - int(misc["ioi_offset"])
            return boxes[index, view] if index >= 0 else None
        except (IndexError, KeyError, TypeError):
            return None

    return box


def _hand(
    labels: Mapping[str, Any], index: int, side: Side, cam_from_world: Floats, mano: Mano
) -> HandRecord:
    # one shape for all frames, or one for each
    shapes = np.asarray(labels["shape"], np.float64).reshape(-1, 10)
    in_world = MeshParameters(
        rotation(labels["rot"][index]),
        mano.hand_pose(side, labels["pose"][index], mean_included=False),
        shapes[index if len(shapes) > 1 else 0],
        numbers(labels["trans"][index], 3),
    )
    hand = mano.moved(
        side, in_world, cam_from_world[:3, :3], cam_from_world[:3, 3], released=Arctic.left_released
    )
    return HandRecord(
        global_orient=hand.global_orient,
        hand_pose=hand.hand_pose,
        betas=hand.betas,
        transl=hand.transl,
    )


def _cropped(
    K: Floats, size: tuple[int, int], view: int, box: Any
) -> tuple[Floats, tuple[int, int]]:
    """Intrinsics and size of an image of `cropped_images`."""
    if view == _EGO:
        corner, old = np.zeros(2), np.array(size, np.float64)
        width, height = (int(_EGO_SCALE * side) for side in size)
    else:
        if box is None:
            raise BadFrameError("the box that the image was cut to is not known")
        centre_x, centre_y, scale = numbers(box, 3)
        half = _LOOSE * scale / 2
        # the images were cut at whole pixels
        corner = np.round((centre_x - half, centre_y - half))
        old = np.round((centre_x + half, centre_y + half)) - corner
        width = height = _CROP
    if not (old > 0).all():
        raise BadFrameError("the box that the image was cut to is empty")
    factor = np.array((width, height)) / old
    # pixel centres lie at integers, the edges that are scaled half a pixel beside them
    made = np.diag((*factor, 1.0))
    made[:2, 2] = factor * (0.5 - corner) - 0.5
    return made @ K, (width, height)


@lru_cache(maxsize=2)
def _rectification(
    intrinsics: bytes, lens: bytes, width: int, height: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Where each pixel of a pinhole image is in the distorted one."""
    K = np.frombuffer(intrinsics).reshape(3, 3)
    return cv2.initUndistortRectifyMap(
        K, np.frombuffer(lens), np.eye(3), K, (width, height), cv2.CV_32FC1
    )


def _protocol(path: Path) -> Mapping[str, Any] | None:
    if not path.exists():
        return None
    lists = kept(read_json, path)
    if not isinstance(lists, dict) or any(split not in lists for split in _SPLITS):
        raise ValueError(f"{path}: has no lists 'train', 'val' and 'test'")
    return lists
