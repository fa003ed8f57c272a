"""HIC, Hands in Action (Tzionas et al.), as InterWild's evaluation lists it: a test set of meshes.

    HIC.json        COCO's layout: images {id, file_name, seq_name, width, height} and annotations
                    {image_id, hand_type, right_mano_path, left_mano_path}, paths or null
    ...             images and PLY files of 778 vertices, where HIC.json says

Metres, OpenCV's camera, one camera for all. Where a path is null the hand has no mesh, though it
may well be seen; `hand_type` says which hands the image shows (right, left, interacting). The
joints are those that the mesh itself gives.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, ClassVar, Final

from fourdhands.data.convert.conventions import Mano, intrinsics
from fourdhands.data.convert.records import (
    BadFrameError,
    Dataset,
    FrameRecord,
    HandRecord,
    Recording,
)
from fourdhands.data.convert.sources import inside, read_image, read_json, read_ply, require
from fourdhands.skeleton import NUM_VERTICES, Side

_INTRINSICS: Final = intrinsics(525.0, (319.5, 239.5))
_SHOWN: Final = {"right": {Side.RIGHT}, "left": {Side.LEFT}, "interacting": set(Side)}
_MESHES: Final = {Side.RIGHT: "right_mano_path", Side.LEFT: "left_mano_path"}


@dataclass(frozen=True)
class Hic(Dataset):
    """HIC with InterWild's annotations.

    Attributes:
        root: Folder with `HIC.json` and all that it names.
    """

    name: ClassVar[str] = "hic"
    fps: ClassVar[float] = 30.0

    def splits(self) -> Sequence[str]:
        """It is there to test with."""
        require(self.root / "HIC.json", "InterWild's annotations of HIC")
        return ["test"]

    def recordings(self, split: str) -> Iterable[Recording]:
        """One for each folder of images; one for an image whose name tells no new number."""
        listing = read_json(self.root / "HIC.json")
        annotations: dict[str, list[Any]] = {}
        for annotation in listing["annotations"]:
            if isinstance(annotation, dict) and "image_id" in annotation:
                annotations.setdefault(str(annotation["image_id"]), []).append(annotation)
        folders: dict[str, dict[int, Any]] = {}
        alone: list[Recording] = []
        for k, image in enumerate(listing["images"]):
            entry = image if isinstance(image, dict) else {}
            path = PurePosixPath(str(entry.get("file_name")))
            its = annotations.get(str(entry["id"]), []) if "id" in entry else []
            source = (entry.get("file_name"), its)
            number = _number(path)
            frames = folders.setdefault(path.parent.as_posix(), {})
            if number is None or number in frames:
                alone.append(Recording(f"{path.as_posix()}-{k}", "0", ((k, source),)))
            else:
                frames[number] = source
        for folder, frames in sorted(folders.items()):
            if frames:
                yield Recording(folder, "0", sorted(frames.items(), key=lambda item: item[0]))
        yield from alone

    def read(self, recording: Recording, source: Any, mano: Mano) -> FrameRecord:
        """Meshes, and joints regressed from them."""
        image, annotations = source
        if not isinstance(image, str):
            raise BadFrameError("HIC.json does not name the image")
        hands: dict[Side, HandRecord] = {}
        shown: set[Side] = set()
        for annotation in annotations:
            shown |= _SHOWN[annotation["hand_type"]]
            for side, field in _MESHES.items():
                if (mesh := annotation[field]) is None:
                    continue
                vertices = read_ply(inside(self.root, mesh))
                if len(vertices) != NUM_VERTICES:
                    raise BadFrameError("a mesh has another number of vertices than MANO's")
                joints = mano.joints_of_mesh(side, vertices)
                hands[side] = HandRecord(joints=joints, vertices=vertices)
        return FrameRecord(
            read_image(inside(self.root, image)),
            hands,
            intrinsics=_INTRINSICS,
            size=(640, 480),
            shown=shown,
        )


def _number(path: PurePosixPath) -> int | None:
    """The digits that a file's name ends in."""
    digits = path.stem[len(path.stem.rstrip("0123456789")) :]
    return int(digits) if digits else None
