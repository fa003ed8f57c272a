"""Hands of CMU's HandDB, labelled in 2D: MPII and NZSL by hand, and its two other sets.

    hand_labels/manual_{train,test}/{name}_{l,r}.{jpg,json}
    hand_labels_synth/synth{1,2,3,4}/{name}.{jpg,json}
    hand143_panopticdb/hands_v143_14817.json, and its images

Every json file has one hand of a whole photograph: hand_pts, 21 times x, y and whether it is
labelled, in the common order for both sides, and is_left. The labels of hand143_panopticdb are a
list `root` of joint_self, likewise, and img_paths; all are right hands. Every labelled hand has an
image file of its own, also where two are of one person.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from fourdhands.data.convert.conventions import Mano, numbers
from fourdhands.data.convert.records import Dataset, FrameRecord, HandRecord, Recording
from fourdhands.data.convert.sources import (
    first_existing,
    inside,
    read_image,
    read_json,
    require,
)
from fourdhands.skeleton import NUM_JOINTS, Side

_MANUAL: Final = {"train": "manual_train", "test": "manual_test"}
_SYNTHETIC: Final = ("synth1", "synth2", "synth3", "synth4")
_PANOPTIC: Final = "hand143_panopticdb"


@dataclass(frozen=True)
class MpiiNzsl(Dataset):
    """Hands of CMU's HandDB, as the splits train and test, synth and panoptic.

    Attributes:
        root: Folder with `hand_labels`; with `hand_labels_synth` and `hand143_panopticdb`, if they
            are to be converted, too.
    """

    name: ClassVar[str] = "mpii_nzsl"

    def splits(self) -> Sequence[str]:
        """Those that are there."""
        found = [split for split in (*_MANUAL, "synth") if self._folders(split)]
        if self._list().exists():
            found.append("panoptic")
        if not found:
            require(self.root / "hand_labels" / "manual_train", "the folder of training images")
        return found

    def recordings(self, split: str) -> Iterable[Recording]:
        """One for each labelled hand."""
        return self._listed() if split == "panoptic" else self._in_files(split)

    def read(self, recording: Recording, source: Any, mano: Mano) -> FrameRecord:
        """One hand."""
        if isinstance(source, Path):
            labels = read_json(self.root / source)
            side = Side.LEFT if labels["is_left"] else Side.RIGHT
            points = labels["hand_pts"]
            image = self.root / source.with_suffix(".jpg")
        else:
            side, points = Side.RIGHT, source["joint_self"]
            image = inside(self.root / _PANOPTIC, source["img_paths"])
        values = numbers(points, NUM_JOINTS, 3)
        hand = HandRecord(joints_2d=values[:, :2], joints_2d_valid=values[:, 2] > 0, placed=False)
        return FrameRecord(read_image(image), {side: hand})

    def _folders(self, split: str) -> list[Path]:
        if split == "synth":
            places = [self.root / "hand_labels_synth" / name for name in _SYNTHETIC]
        else:
            name = _MANUAL[split]
            places = [first_existing(self.root / "hand_labels" / name, self.root / name)]
        return [place for place in places if place.is_dir()]

    def _in_files(self, split: str) -> Iterator[Recording]:
        for folder in self._folders(split):
            prefix = f"{folder.name}-" if split == "synth" else ""
            for path in sorted(folder.glob("*.json")):
                yield Recording(f"{prefix}{path.stem}", "0", ((0, path.relative_to(self.root)),))

    def _list(self) -> Path:
        return self.root / _PANOPTIC / "hands_v143_14817.json"

    def _listed(self) -> Iterator[Recording]:
        for number, entry in enumerate(read_json(self._list())["root"]):
            source = entry if isinstance(entry, dict) else {}
            yield Recording(
                f"panoptic-{number:05d}",
                "0",
                ((number, {k: source[k] for k in ("joint_self", "img_paths") if k in source}),),
            )
