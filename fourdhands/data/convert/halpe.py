"""Halpe Full-Body: hands of persons in photographs of HICO-DET and COCO, labelled in 2D.

    halpe_{train,val}_v1.json                          or in annotations
    hico_20160224_det/images/train2015/*.jpg           or {,images/}train2015
    {,images/}val2017/*.jpg

Keypoints are 136 times x, y, score; 94-114 are the left hand and 115-135 the right one, each in the
common order. Persons may come without keypoints.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from fourdhands.data.convert.coco import Hands, persons, read_person
from fourdhands.data.convert.conventions import Mano, numbers
from fourdhands.data.convert.records import Dataset, FrameRecord, HandRecord, Recording
from fourdhands.data.convert.sources import first_existing, require
from fourdhands.skeleton import NUM_JOINTS, Side

_FOLDERS: Final = {"train": "train2015", "val": "val2017"}
_FIELDS: Final = ("iscrowd", "keypoints")
_NUM_KEYPOINTS: Final = 136
_FIRST: Final = {Side.LEFT: 94, Side.RIGHT: 115}


@dataclass(frozen=True)
class Halpe(Dataset):
    """Halpe.

    Attributes:
        root: Folder with the json files and the images of HICO-DET and COCO's val2017.
        least_score: From which score on a keypoint counts; the authors draw those from 0.6 on.
    """

    least_score: float = 0.6

    name: ClassVar[str] = "halpe"

    def splits(self) -> Sequence[str]:
        """Those whose labels are there."""
        found = [split for split in _FOLDERS if self._labels(split).exists()]
        if not found:
            require(self._labels("train"), "Halpe's labels of the training images")
        return found

    def recordings(self, split: str) -> Iterable[Recording]:
        """One for each person with a hand that scores high enough."""
        images = require(self._images(split), "the folder of HICO-DET's or COCO's images")
        folder = images.relative_to(self.root).as_posix()
        return persons(self._labels(split), folder, _FIELDS, self._hands_of)

    def read(self, recording: Recording, source: Any, mano: Mano) -> FrameRecord:
        """The hands of a person."""
        return read_person(self.root, source, self._hands_of)

    def _hands_of(self, annotation: Mapping[str, Any]) -> Hands:
        keypoints = annotation.get("keypoints")
        hands: dict[Side, HandRecord] = {}
        if annotation.get("iscrowd") or not isinstance(keypoints, list) or not keypoints:
            return hands
        points = numbers(keypoints, _NUM_KEYPOINTS, 3)
        for side, first in _FIRST.items():
            hand = points[first : first + NUM_JOINTS]
            valid = hand[:, 2] >= self.least_score
            if valid.any():
                hands[side] = HandRecord(joints_2d=hand[:, :2], joints_2d_valid=valid, placed=False)
        return hands

    def _labels(self, split: str) -> Path:
        name = f"halpe_{split}_v1.json"
        return first_existing(self.root / name, self.root / "annotations" / name)

    def _images(self, split: str) -> Path:
        name = _FOLDERS[split]
        places = [self.root / name, self.root / "images" / name]
        if split == "train":
            places.insert(0, self.root / "hico_20160224_det" / "images" / name)
        return first_existing(*places)
