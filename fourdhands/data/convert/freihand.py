"""FreiHAND v2: single images of right hands, with meshes.

    {training,evaluation}/rgb/%08d.jpg
    {training,evaluation}_{K,xyz,verts,mano}.json     one entry for each image of the first version

Every training image comes in up to four versions (green screen and three backgrounds): version k
of image i is file `i + 32560 k`, all with the labels of i. Metres, OpenCV's camera, MANO's pose
without its mean. The labels of `evaluation` may be missing; its hands then have the whole image as
their box, which is how the images were cut.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from fourdhands.data.convert.conventions import Mano, MeshParameters, numbers, rotation
from fourdhands.data.convert.records import Dataset, FrameRecord, HandRecord, Recording
from fourdhands.data.convert.sources import read_image, read_json, require
from fourdhands.skeleton import Side

_FOLDERS: Final = {"train": "training", "test": "evaluation"}
_UNIQUE: Final = 32560
"""Training images of the first version."""
_WHOLE_IMAGE: Final = (-0.5, -0.5, 223.5, 223.5)


@dataclass(frozen=True)
class FreiHand(Dataset):
    """FreiHAND v2.

    Attributes:
        root: Folder with `training`, `evaluation` and the json files.
    """

    name: ClassVar[str] = "freihand"

    def splits(self) -> Sequence[str]:
        """Those whose images are there."""
        found = [s for s, folder in _FOLDERS.items() if (self.root / folder / "rgb").is_dir()]
        if not found:
            require(self.root / "training" / "rgb", "the folder of FreiHAND's training images")
        return found

    def recordings(self, split: str) -> Iterable[Recording]:
        """One for each image."""
        folder = _FOLDERS[split]
        require(self.root / f"{folder}_K.json", "FreiHAND's list of cameras")
        lists = {
            name: read_json(path)
            for name in ("K", "xyz", "verts", "mano")
            if (path := self.root / f"{folder}_{name}.json").exists()
        }
        count = len(lists["K"])
        for name, entries in lists.items():
            if len(entries) != count:  # the number of entries tells versions of an image apart
                raise ValueError(
                    f"{self.root / folder}_{name}.json has {len(entries)} entries, {folder}_K.json "
                    f"has {count}; download FreiHAND's lists again"
                )
        found = sorted((self.root / folder / "rgb").glob("*.jpg"))
        paths = [path for path in found if path.stem.isdigit()]
        most = max((int(path.stem) for path in paths), default=0)
        for path in paths:
            image = int(path.stem)
            place = image % (_UNIQUE if most >= _UNIQUE else count)
            # an image beyond the lists has no labels, as `read` will say
            labels = {name: entries[place] for name, entries in lists.items() if place < count}
            yield Recording(path.stem, "0", ((image, (f"{folder}/rgb/{path.name}", labels)),))

    def read(self, recording: Recording, source: Any, mano: Mano) -> FrameRecord:
        """Put MANO's mesh where the data set's own is; uv_root and scale are less exact."""
        image, labels = source
        joints, vertices = labels.get("xyz"), labels.get("verts")
        whole = None if joints is not None else _WHOLE_IMAGE
        hand = HandRecord(joints=joints, vertices=vertices, bbox=whole)
        if "mano" in labels:
            values = numbers(labels["mano"], 61)
            hand.global_orient = rotation(values[:3])
            hand.hand_pose = mano.hand_pose(Side.RIGHT, values[3:48], mean_included=False)
            hand.betas = values[48:58]
            if vertices is not None:
                origin = MeshParameters(
                    hand.global_orient, hand.hand_pose, hand.betas, numbers((0, 0, 0), 3)
                )
                hand.transl = mano.transl_onto(Side.RIGHT, origin, vertices).transl
        return FrameRecord(
            read_image(self.root / image), {Side.RIGHT: hand}, intrinsics=labels["K"]
        )
