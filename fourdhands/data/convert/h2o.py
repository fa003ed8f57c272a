"""H2O (Kwon et al.): two hands and objects, seen from the head and by four fixed cameras.

    subject{1-4}[_ego]/{h1,h2,k1,k2,o1,o2}/{take}/cam{0-4}/
        rgb/%06d.(png|jpg)          1280 x 720; rgb256, 455 x 256, in cam4 alone
        cam_intrinsics.txt          fx fy cx cy width height
        cam_pose/%06d.txt           4 x 4, camera to world, metres
        hand_pose/%06d.txt          left, then right: flag, 21 x 3 metres in the camera's frame
        hand_pose_MANO/%06d.txt     left, then right: flag, transl 3, pose 48, betas 10
    label_split/pose_{train,val,test}.txt    images of cam4, the head's; not contiguous

Joints come in the common order, poses with MANO's mean, betas for MANO's left hand as released.
Images of the other cameras belong to a split by their subject, as those in the lists do.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np

from fourdhands.data.convert.assemble import decode_image
from fourdhands.data.convert.conventions import Floats, Mano, intrinsics, numbers, rotation
from fourdhands.data.convert.records import (
    BadFrameError,
    Dataset,
    FrameRecord,
    HandRecord,
    Recording,
)
from fourdhands.data.convert.sources import read_image, read_numbers, require
from fourdhands.skeleton import NUM_JOINTS, Side

_EGO: Final = "cam4"
_FIXED: Final = ("cam0", "cam1", "cam2", "cam3")
_SPLITS: Final = ("train", "val", "test")
_LINE: Final = re.compile(
    r"(subject[0-9])(?:_ego)?/([a-z][0-9])/([0-9]+)/cam4/rgb(?:256)?/([0-9]{1,9})\.(?:png|jpg)"
)
_TAKES: Final = re.compile(r"(subject[0-9])(?:_ego)?/([a-z][0-9])/([0-9]+)")
_SAME_SHAPE: Final = 0.01
"""By which width and height may have been scaled differently: 455 x 256 is rounded."""


@dataclass(frozen=True)
class Camera:
    """Folders of one camera in one take, as far as they are there.

    Attributes:
        folder: below the root, `/` between its parts.
        images: name of the folder of images.
        joints: of hand_pose.
        mano: of hand_pose_MANO.
        poses: of cam_pose.
    """

    folder: str
    images: str
    joints: str | None
    mano: str | None
    poses: str | None


@dataclass(frozen=True)
class H2O(Dataset):
    """H2O of Kwon et al.

    Attributes:
        root: Folder with `subject1` to `subject4` (or `subject1_ego` ...) and `label_split`.
        cameras: `ego` for the head's camera, `all` for the four fixed ones, too.
        images: Of the head's camera: `rgb`, or `rgb256` for the small ones.
    """

    cameras: Literal["ego", "all"] = "ego"
    images: Literal["rgb", "rgb256"] = "rgb"

    name: ClassVar[str] = "h2o"
    fps: ClassVar[float] = 30.0
    left_released: ClassVar[bool] = True

    def splits(self) -> Sequence[str]:
        """Those of which any labels are there: the test subject's may not be."""
        there = {
            split_of(take)
            for take in self._takes()
            for name in self._camera_names()
            if (camera := self._camera(take, name)).joints or camera.mano
        }
        if not there:
            require(self.root / "subject1", "the folder of H2O's first subject")
            raise FileNotFoundError(
                f"{self.root}: no hand_pose folder in subject*/*/*/{_EGO}; labels are in the "
                "archives subject*_v1_1.tar.gz and subject*_ego_v1_1.tar.gz"
            )
        return [split for split in _SPLITS if split in there]

    def recordings(self, split: str) -> Iterable[Recording]:
        """One for each take and camera."""
        lines = self._lines(split)
        found: dict[tuple[str, str], set[int]] = {}
        for line in lines:
            if match := _LINE.fullmatch(line):
                take = "/".join(match.groups()[:3])
                found.setdefault((take, _EGO), set()).add(int(match[4]))
        if self.cameras == "all":
            for take in self._takes():
                if split_of(take) == split:
                    for name in _FIXED:
                        folder = self.root / self._camera(take, name).folder / "rgb"
                        found[take, name] = set(_numbers_of_images(folder))
        for (take, name), numbers_ in sorted(found.items()):
            camera = self._camera(take, name)
            frames = tuple((number, (camera, number)) for number in sorted(numbers_))
            yield Recording(take, name, frames)
        for line in sorted({line for line in lines if not _LINE.fullmatch(line)}):
            yield Recording(line[:80], _EGO, ((0, None),))

    def read(self, recording: Recording, source: Any, mano: Mano) -> FrameRecord:
        """Read the text files of one image."""
        if source is None:
            raise BadFrameError("a line of the list names no image of the head's camera")
        camera, number = source
        folder, stem = self.root / camera.folder, f"{number:06d}"
        joints = _both_hands(folder, camera.joints, stem, 1 + 3 * NUM_JOINTS)
        meshes = _both_hands(folder, camera.mano, stem, 62)
        if joints is None and meshes is None:
            raise BadFrameError("the labels of the hands are not in the download")
        image, K = self._image(folder, camera.images, stem)
        cam_from_world = None
        if camera.poses is not None:
            world_from_cam = numbers(read_numbers(folder / camera.poses / f"{stem}.txt"), 4, 4)
            cam_from_world = np.linalg.inv(world_from_cam)
        hands = {}
        for side in Side:
            hand = HandRecord()
            if joints is not None:
                if not joints[side][0]:
                    continue
                hand.joints = joints[side][1:].reshape(NUM_JOINTS, 3)
            if meshes is not None and meshes[side][0]:
                values = meshes[side][1:]
                hand.transl, hand.betas = values[:3], values[51:]
                hand.global_orient = rotation(values[3:6])
                hand.hand_pose = mano.hand_pose(side, values[6:51], mean_included=True)
            hands[side] = hand
        return FrameRecord(image, hands, K, cam_from_world)

    def _image(self, folder: Path, images: str, stem: str) -> tuple[Any, Floats]:
        """The image, and its intrinsics: those of the file are of the full size."""
        png = folder / images / f"{stem}.png"
        path = png if png.exists() else png.with_suffix(".jpg")
        encoded = read_image(path)
        pixels = decode_image(encoded)
        fx, fy, cx, cy, width, height = numbers(read_numbers(folder / "cam_intrinsics.txt"), 6)
        if min(width, height) <= 0:
            raise BadFrameError("the camera has no size")
        scale = np.array((pixels.shape[1] / width, pixels.shape[0] / height))
        if abs(scale[0] / scale[1] - 1) > _SAME_SHAPE:
            raise BadFrameError("the image is not as wide and high as its camera")
        centre = (np.array((cx, cy)) + 0.5) * scale - 0.5
        return encoded if path.suffix == ".jpg" else pixels, intrinsics(
            np.array((fx, fy)) * scale, centre
        )

    def _lines(self, split: str) -> Sequence[str]:
        path = self.root / "label_split" / f"pose_{split}.txt"
        require(path, "H2O's list of images, from label_split.zip")
        lines = [
            line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()
        ]
        splits = Counter(split_of(line) for line in lines if _LINE.fullmatch(line))
        if splits and (most := splits.most_common(1)[0][0]) != split:
            raise ValueError(
                f"{path}: lists images of the split {most!r}, by their subjects; the files of "
                "label_split have each other's names, give them their own"
            )
        return lines

    def _takes(self) -> Sequence[str]:
        """subjectN/place/number of all that is there."""
        folders = (p.relative_to(self.root).as_posix() for p in self.root.glob("subject*/*/*"))
        matches = (_TAKES.fullmatch(folder) for folder in folders)
        return sorted({"/".join(match.groups()) for match in matches if match})

    def _camera_names(self) -> Sequence[str]:
        return (*_FIXED, _EGO) if self.cameras == "all" else (_EGO,)

    def _camera(self, take: str, name: str) -> Camera:
        subject, rest = take.split("/", 1)
        places = [f"{subject}{ending}/{rest}/{name}" for ending in ("", "_ego")]
        folder = next((place for place in places if (self.root / place).is_dir()), places[0])
        # readers of this set spell hand_pose_MANO in different ways
        there: Mapping[str, str] = {}
        if (self.root / folder).is_dir():
            there = {path.name.lower(): path.name for path in (self.root / folder).iterdir()}
        return Camera(
            folder,
            self.images if name == _EGO else "rgb",
            there.get("hand_pose"),
            there.get("hand_pose_mano"),
            there.get("cam_pose"),
        )


def split_of(image: str) -> str:
    """The split of a take or an image, subjectN/place/..., by its subject and place."""
    subject, place = image.split("/")[:2]
    if subject.startswith("subject4"):
        return "test"
    return "val" if subject.startswith("subject3") and place in ("k2", "o1", "o2") else "train"


def _both_hands(folder: Path, labels: str | None, stem: str, count: int) -> Floats | None:
    """Numbers (S, count) of a file, by side; None if it is not there."""
    if labels is None or not (path := folder / labels / f"{stem}.txt").exists():
        return None
    left_first = numbers(read_numbers(path), len(Side), count)
    return left_first[::-1]


def _numbers_of_images(folder: Path) -> Iterator[int]:
    if folder.is_dir():
        for path in folder.iterdir():
            if path.suffix in (".png", ".jpg") and re.fullmatch("[0-9]{6}", path.stem):
                yield int(path.stem)
