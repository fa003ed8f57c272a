"""COCO-WholeBody v1.0: hands of persons in COCO's photographs, labelled in 2D.

    annotations/coco_wholebody_{train,val}_v1.0.json
    {train,val}2017/*.jpg

Hands are {left,right}hand_{kpts, box, valid}: 21 times x, y, visibility in the common order, and x,
y, width, height. Visibility may be a fraction; above zero it counts. A hand is labelled only where
valid is true. Persons of whom no body keypoint is labelled and crowds are left out. The person's
area is kept, which COCO's evaluation goes by.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from fourdhands.data.convert.coco import Hands, persons, read_person
from fourdhands.data.convert.conventions import Mano, numbers
from fourdhands.data.convert.records import Dataset, FrameRecord, HandRecord, Recording
from fourdhands.data.convert.sources import first_existing, require
from fourdhands.skeleton import NUM_JOINTS, Side

_SPLITS: Final = ("train", "val")
_FIELDS: Final = (
    "iscrowd",
    "num_keypoints",
    "area",
    *(f"{side}hand_{field}" for side in ("left", "right") for field in ("kpts", "box", "valid")),
)


@dataclass(frozen=True)
class CocoWholeBody(Dataset):
    """COCO-WholeBody.

    Attributes:
        root: Folder with `annotations` and the images of COCO 2017.
    """

    name: ClassVar[str] = "coco_wholebody"

    def splits(self) -> Sequence[str]:
        """Those whose labels are there."""
        found = [split for split in _SPLITS if self._labels(split).exists()]
        if not found:
            require(self._labels("train"), "COCO-WholeBody's labels of the training images")
        return found

    def recordings(self, split: str) -> Iterable[Recording]:
        """One for each person with a labelled hand."""
        images = require(self._images(split), "the folder of COCO's images of 2017")
        folder = images.relative_to(self.root).as_posix()
        return persons(self._labels(split), folder, _FIELDS, _hands_of)

    def read(self, recording: Recording, source: Any, mano: Mano) -> FrameRecord:
        """The hands of a person."""
        return read_person(self.root, source, _hands_of)

    def _labels(self, split: str) -> Path:
        name = f"coco_wholebody_{split}_v1.0.json"
        return first_existing(self.root / "annotations" / name, self.root / name)

    def _images(self, split: str) -> Path:
        name = f"{split}2017"
        return first_existing(self.root / name, self.root / "images" / name)


def _hands_of(annotation: Mapping[str, Any]) -> Hands:
    hands: dict[Side, HandRecord] = {}
    if annotation["iscrowd"] or annotation["num_keypoints"] == 0:
        return hands
    for side in Side:
        word = f"{side.name.lower()}hand"
        if annotation[f"{word}_valid"]:
            points = numbers(annotation[f"{word}_kpts"], NUM_JOINTS, 3)
            valid = points[:, 2] > 0
            left, top, width, height = numbers(annotation[f"{word}_box"], 4)
            # COCO measures from the image's corner, we from the middle of its first pixel
            box = np.array((left, top, left + width, top + height)) - 0.5
            boxed = width > 0 and height > 0
            if valid.any() or boxed:
                hands[side] = HandRecord(
                    joints_2d=points[:, :2],
                    joints_2d_valid=valid,
                    bbox=box if boxed else None,
                    placed=False,
                )
    return hands
