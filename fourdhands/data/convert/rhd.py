"""RHD v2: rendered single images of people with both hands, joints only.

    {training,evaluation}/color/%05d.png              320 x 320
    {training,evaluation}/anno_{training,evaluation}.pickle
        image number: xyz (42, 3), uv_vis (42, 3), K (3, 3)

Metres, OpenCV's camera. Joints 0-20 are of the left hand and 21-41 of the right one, each with the
wrist first and then every finger from its tip. Labels are complete even where a hand is hidden or
outside the image, so hands of which little shows are left out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from fourdhands.data.convert.conventions import FROM_RHD, Mano, numbers
from fourdhands.data.convert.records import (
    BadFrameError,
    Dataset,
    FrameRecord,
    HandRecord,
    Recording,
)
from fourdhands.data.convert.sources import read_image, read_pickle, require
from fourdhands.skeleton import NUM_JOINTS, Side

_FOLDERS: Final = {"train": "training", "test": "evaluation"}
_BLOCKS: Final = (Side.LEFT, Side.RIGHT)
_ORDER: Final = list(FROM_RHD)


@dataclass(frozen=True)
class Rhd(Dataset):
    """RHD v2.

    Attributes:
        root: Folder with `training` and `evaluation`.
        least_visible: Joints of a hand that have to be visible.
    """

    least_visible: int = 5

    name: ClassVar[str] = "rhd"

    def splits(self) -> Sequence[str]:
        """Those whose images are there."""
        found = [s for s, folder in _FOLDERS.items() if (self.root / folder / "color").is_dir()]
        if not found:
            require(self.root / "training" / "color", "the folder of RHD's training images")
        return found

    def recordings(self, split: str) -> Iterable[Recording]:
        """One for each image."""
        folder = _FOLDERS[split]
        path = require(self.root / folder / f"anno_{folder}.pickle", "RHD's labels")
        labels = read_pickle(path)
        if not isinstance(labels, Mapping):
            raise ValueError(f"{path}: holds no dictionary of labels by image number")
        images = sorted(labels.items(), key=lambda item: str(item[0]).zfill(8))
        for position, (image, entry) in enumerate(images):
            number = image if isinstance(image, int) else position
            source = (f"{folder}/color/{str(image).zfill(5)}.png", entry)
            yield Recording(str(image).zfill(5), "0", ((number, source),))

    def read(self, recording: Recording, source: Any, mano: Mano) -> FrameRecord:
        """Both hands, as far as they show."""
        image, labels = source
        xyz = numbers(labels["xyz"], 2, NUM_JOINTS, 3)[:, _ORDER]
        uv_vis = numbers(labels["uv_vis"], 2, NUM_JOINTS, 3)[:, _ORDER]
        hands = {
            side: HandRecord(joints=joints, joints_2d=labelled[:, :2])
            for side, joints, labelled in zip(_BLOCKS, xyz, uv_vis, strict=True)
            if (labelled[:, 2] > 0).sum() >= self.least_visible
        }
        if not hands:
            raise BadFrameError("too little of either hand is visible")
        return FrameRecord(
            read_image(self.root / image), hands, intrinsics=numbers(labels["K"], 3, 3)
        )
