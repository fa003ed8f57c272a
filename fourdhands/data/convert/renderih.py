"""RenderIH: rendered single images of two hands, labelled as IntagHand labels InterHand2.6M.

    train/color_img/{i}.jpg       256 x 256, numbered from 366358, after IntagHand's real images
    train/color_annot/{i}.pkl     camera {R, t, camera (K)}, mano_params {left, right}

Metres. Hands are in a world frame, x_c = R x + t leads to the camera. MANO's wrist is a matrix R,
its fingers are 45 coefficients of principal components without the mean pose; the left hand's shape
directions are repaired. The authors' readers call the folder of labels color_anno, too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final

import numpy as np

from fourdhands.data.convert.conventions import Mano, MeshParameters, numbers, rigid
from fourdhands.data.convert.records import Dataset, FrameRecord, HandRecord, Recording
from fourdhands.data.convert.sources import first_existing, read_image, read_pickle, require
from fourdhands.skeleton import Side

_SPLITS: Final = ("train", "val", "test")


@dataclass(frozen=True)
class RenderIh(Dataset):
    """RenderIH.

    Attributes:
        root: Folder with `train`, in it `color_img` and `color_annot`.
    """

    name: ClassVar[str] = "renderih"
    all_hands_labelled: ClassVar[bool] = True

    def splits(self) -> Sequence[str]:
        """Those whose images are there; so far there is only the first."""
        found = [s for s in _SPLITS if (self.root / s / "color_img").is_dir()]
        if not found:
            require(self.root / "train" / "color_img", "the folder of RenderIH's images")
        return found

    def recordings(self, split: str) -> Iterable[Recording]:
        """One for each image."""
        folder = self.root / split
        labels = first_existing(folder / "color_annot", folder / "color_anno")
        require(labels, "the folder of RenderIH's labels, one pickle for each image")
        numbers_of_images = sorted(
            int(path.stem)
            for path in (folder / "color_img").glob("*.jpg")
            if path.stem.isascii() and path.stem.isdigit()
        )
        for number in numbers_of_images:
            source = f"{split}/color_img/{number}.jpg", f"{split}/{labels.name}/{number}.pkl"
            yield Recording(str(number), "0", ((number, source),))

    def read(self, recording: Recording, source: Any, mano: Mano) -> FrameRecord:
        """Bring both hands from their world to the camera."""
        image, pickle = source
        labels = read_pickle(self.root / pickle)
        camera = labels["camera"]
        R, t = numbers(camera["R"], 3, 3), numbers(camera["t"], 3)
        hands = {}
        for side in Side:
            parameters = labels["mano_params"][side.name.lower()]
            if parameters is not None:
                coefficients = np.ravel(parameters["pose"])
                in_world = MeshParameters(
                    numbers(parameters["R"], 3, 3),
                    mano.hand_pose_from_pca(side, coefficients),
                    numbers(parameters["shape"], 10),
                    numbers(parameters["trans"], 3),
                )
                hands[side] = HandRecord(**asdict(mano.moved(side, in_world, R, t)))
        return FrameRecord(
            read_image(self.root / image),
            hands,
            intrinsics=numbers(camera["camera"], 3, 3),
            cam_from_world=rigid(R, t),
        )
