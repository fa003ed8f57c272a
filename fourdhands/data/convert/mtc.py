"""MTC: joints of hands in the Panoptic Studio, seen by many cameras (Monocular Total Capture).

    annotation.pkl, camera_data.pkl       or {a4,a5}_collected.pkl with camera_data_{a4,a5}.pkl
    a4_hands_annotated.txt                sequence, frame, left or righ, whether it is correct
    hdImgs/{sequence}/{frame}/00_{camera:02d}_{frame}.jpg     1920 x 1080

These lie in the root or, for several releases, each in a folder of its own. training_data and
testing_data list persons: seqName, frame_str, id and, where there are such hands, left_hand and
right_hand of landmarks (63) and, by camera, 2D of insideImg, occluded (21 each) and overlap.
Cameras are K, R, t and distCoef k1, k2, p1, p2, k3, with x_c = R x + t. Centimetres; joints in the
common order.

Only the views that the authors use become frames: all joints inside the image, none occluded, no
overlap with the other hand. Where the list of reviewed hands has a sequence, hands that it does not
call correct are left out. Images are undistorted.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, ClassVar, Final

import cv2
import numpy as np

from fourdhands.data.convert.assemble import decode_image
from fourdhands.data.convert.conventions import Floats, Mano, numbers, rigid, transformed
from fourdhands.data.convert.records import (
    BadFrameError,
    Dataset,
    FrameRecord,
    HandRecord,
    Recording,
)
from fourdhands.data.convert.sources import inside, read_image, read_pickle, require
from fourdhands.skeleton import NUM_JOINTS, Side

_LISTS: Final = {"train": "training_data", "test": "testing_data"}
_FILES: Final = {
    "annotation.pkl": "camera_data.pkl",
    "a4_collected.pkl": "camera_data_a4.pkl",
    "a5_collected.pkl": "camera_data_a5.pkl",
}
_REVIEWS: Final = "a4_hands_annotated.txt"
_WORDS: Final = {Side.RIGHT: "right_hand", Side.LEFT: "left_hand"}
_REVIEWED: Final = {"left": Side.LEFT, "righ": Side.RIGHT, "right": Side.RIGHT}
_ANSWERS: Final = {"true": True, "1": True, "false": False, "0": False}
_METRES: Final = 0.01
_BORDER: Final = 20.0
"""Pixels by which a joint that is said to be inside the image may miss it."""

Reviews = Mapping[tuple[str, str, Side], bool]
_UNREADABLE: Final = "labels of a person are not in the layout that this version knows"
_MALFORMED: Final = (KeyError, TypeError, ValueError, IndexError, AttributeError)


@dataclass(frozen=True)
class _View:
    """One person, one frame, one camera.

    Attributes:
        image: within the release.
        landmarks: by the sides that show well, as they are in the file.
        camera: as it is in the file; empty if it is not there.
    """

    image: str
    landmarks: Mapping[Side, Any]
    camera: Mapping[str, Any]


@dataclass(frozen=True)
class Mtc(Dataset):
    """MTC.

    Attributes:
        root: Folder with `annotation.pkl`, `camera_data.pkl` and `hdImgs`, or with folders of them.
    """

    name: ClassVar[str] = "mtc"
    fps: ClassVar[float] = 30.0

    def splits(self) -> Sequence[str]:
        """Both lists are in one file."""
        if not self._releases():
            require(self.root / "annotation.pkl", "MTC's labels")
        return tuple(_LISTS)

    def recordings(self, split: str) -> Iterable[Recording]:
        """One for each person of a sequence and each camera that shows a hand well."""
        for labels, cameras in self._releases():
            people = read_pickle(labels)[_LISTS[split]]
            calibration = read_pickle(require(cameras, "MTC's cameras"))
            folder = labels.parent.relative_to(self.root) / "hdImgs"
            yield from _recordings(
                folder.as_posix(), people, calibration, _reviews(labels.parent / _REVIEWS)
            )

    def read(self, recording: Recording, source: Any, mano: Mano) -> FrameRecord:
        """Bring joints to the camera, and the image to a pinhole's."""
        if not isinstance(source, _View):
            raise BadFrameError(source)
        K, R = numbers(source.camera["K"], 3, 3), numbers(source.camera["R"], 3, 3)
        pose = rigid(R, numbers(source.camera["t"], 3) * _METRES)
        distortion = numbers(source.camera["distCoef"], 5)
        image = decode_image(read_image(inside(self.root, source.image)))
        hands = {}
        for side, landmarks in source.landmarks.items():
            joints = transformed(pose, numbers(landmarks, NUM_JOINTS, 3) * _METRES)
            _require_inside(joints, K, distortion, image.shape[:2])
            hands[side] = HandRecord(joints=joints)
        return FrameRecord(
            np.asarray(cv2.undistort(image, K, distortion), np.uint8),
            hands,
            intrinsics=K,
            cam_from_world=pose,
        )

    def _releases(self) -> list[tuple[Path, Path]]:
        """Files of labels and of cameras."""
        folders = [self.root, *sorted(path for path in self.root.iterdir() if path.is_dir())]
        return [
            (folder / labels, folder / cameras)
            for folder in folders
            for labels, cameras in _FILES.items()
            if (folder / labels).exists()
        ]


def _recordings(folder: str, people: Any, calibration: Any, reviews: Reviews) -> list[Recording]:
    """What cannot be read becomes a frame of which the source is the reason, not a view."""
    reviewed = {sequence for sequence, _, _ in reviews}
    frames: dict[tuple[str, int], dict[int, _View | str]] = {}
    bad = []
    for position, entry in enumerate(people):
        try:
            sequence, frame = str(entry["seqName"]), str(entry["frame_str"])
            number, person = int(frame), f"{sequence}-{entry.get('id', 0)}"
            hands = {side: entry[word] for side, word in _WORDS.items() if word in entry}
        except _MALFORMED:
            bad.append(Recording(f"entry{position}", "none", ((position, _UNREADABLE),)))
            continue
        views: dict[int, dict[Side, Any]] = {}
        unreadable = set()
        for side, hand in hands.items():
            if sequence in reviewed and not reviews.get((sequence, frame, side), False):
                continue
            try:
                cameras = _by_number(hand["2D"])
            except _MALFORMED:
                name = f"{person}-entry{position}-{side.name.lower()}"
                bad.append(Recording(name, "none", ((number, _UNREADABLE),)))
                continue
            for camera, seen in cameras.items():
                try:
                    if _shows_well(seen):
                        views.setdefault(camera, {})[side] = hand["landmarks"]
                except _MALFORMED:
                    unreadable.add(camera)
        for camera in sorted({*views, *unreadable}):
            view = _View(
                f"{folder}/{sequence}/{frame}/00_{camera:02d}_{frame}.jpg",
                views.get(camera, {}),
                _camera(calibration, sequence, camera),
            )
            known = frames.setdefault((person, camera), {})
            if number in known:  # the same person twice
                known = frames.setdefault((f"{person}-entry{position}", camera), {})
            known[number] = _UNREADABLE if camera in unreadable else view
    return bad + [
        Recording(person, str(camera), tuple(sorted(found.items(), key=itemgetter(0))))
        for (person, camera), found in sorted(frames.items())
    ]


def _by_number(cameras: Any) -> dict[int, Any]:
    """What is kept by camera, in a list or under a number."""
    items = enumerate(cameras) if isinstance(cameras, list) else cameras.items()
    return {int(camera): values for camera, values in items}


def _camera(calibration: Any, sequence: str, camera: int) -> Mapping[str, Any]:
    try:
        return dict(_by_number(calibration[sequence])[camera])
    except _MALFORMED:
        return {}


def _shows_well(seen: Any) -> bool:
    inside_image, occluded = np.asarray(seen["insideImg"]), np.asarray(seen["occluded"])
    if inside_image.size != NUM_JOINTS or occluded.size != NUM_JOINTS:
        raise ValueError("not a value for each joint")
    return bool(inside_image.all() and not occluded.any() and not np.any(seen["overlap"]))


def _reviews(path: Path) -> Reviews:
    """Whether hands were found correct, by sequence, frame and side; nothing if there is no list.

    Raises:
        ValueError: the list is not one.
    """
    found = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        words = line.split()
        if len(words) > 3 and words[2] in _REVIEWED and words[3].lower() in _ANSWERS:
            found[words[0], words[1], _REVIEWED[words[2]]] = _ANSWERS[words[3].lower()]
        elif words:
            raise ValueError(
                f"{path}: {line[:80]!r} is not a sequence, a frame, left or righ, and true or false"
            )
    return found


def _require_inside(joints: Floats, K: Floats, distortion: Floats, size: tuple[int, ...]) -> None:
    """Hold the cameras against what the labels say of the image; wrong units would show."""
    points = cv2.projectPoints(joints, np.zeros(3), np.zeros(3), K, distortion)[0].reshape(-1, 2)
    far = (points < -_BORDER) | (points > np.array(size[::-1]) + _BORDER)
    if (joints[:, 2] <= 0).any() or far.any():
        raise BadFrameError("joints that are said to be inside the image are not")
