"""Re:InterHand: two hands of ten captures, rendered in the light of many surroundings.

    m--{date}--{time}--{subject}--...--two-hands/
        frame_list.txt                                          frames at 30 fps, second column
        Mugsy_cameras/cam_params.json
        Mugsy_cameras/envmap_per_{frame,segment}/images/{camera}/%06d.png
        Ego_cameras/envmap_per_{frame,segment}/{images/%06d.png,cam_params/%06d.json}
        Ego_cameras/envmap_per_{frame,segment}/truncation_ratio.json
        orig_fits/{right,left}/Keypoints/keypoint-%06d.json     24 points, millimetres, world
        mano_fits/params/{frame}_{right,left}.json              or all of them in mano_fits/all.json

Seen from around (`mugsy`) in surroundings that change with every frame it has 5 frames a second,
otherwise 30. Cameras are x_camera = R x_world + t in millimetres; the egocentric one moves, and has
a fisheye's distortion, which is taken out of the images. Of a hand's 24 points two carpal ones and
the forearm are left out; the others are known in every frame. MANO's parameters are written as
InterHand2.6M's; a hand without them keeps its joints.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fourdhands.data.convert.assemble import decode_image
from fourdhands.data.convert.conventions import (
    FROM_REINTERHAND,
    Floats,
    Mano,
    intrinsics,
    numbers,
    rigid,
    transformed,
)
from fourdhands.data.convert.neural_annot import add_mano, compact_mano
from fourdhands.data.convert.records import (
    BadFrameError,
    Dataset,
    FrameRecord,
    HandRecord,
    Recording,
    usual_step,
)
from fourdhands.data.convert.sources import inside, read_image, read_json, require
from fourdhands.skeleton import Side

_TEST: Final = frozenset(
    {
        ("20221215", "0949", "RNS217"),
        ("20221216", "0953", "NKC880"),
        ("20230317", "1130", "QZX685"),
    }
)
"""Date, time and subject of the captures that the authors test on."""
_NAMES: Final = ("right", "left")
_POINTS: Final = 24
_SMALLEST_RATIO: Final = 0.2
"""InterWild leaves out egocentric frames with a `truncation_ratio` below it."""


class _Source(NamedTuple):
    """A frame; `mano` are the values of both hands, or None if they are in files of their own."""

    file: str
    camera: Any
    truncation_ratio: Any
    mano: Any


@dataclass(frozen=True)
class ReInterHand(Dataset):
    """Re:InterHand.

    Attributes:
        root: Folder of the captures.
        cameras: From around (`mugsy`) or from the head (`ego`).
        envmap: Whether each frame has its own surroundings, or each segment of a sequence.
    """

    cameras: Literal["mugsy", "ego"] = "mugsy"
    envmap: Literal["per_frame", "per_segment"] = "per_frame"

    name: ClassVar[str] = "reinterhand"
    fps: ClassVar[float] = 30.0
    all_hands_labelled: ClassVar[bool] = True

    def splits(self) -> Sequence[str]:
        """Those of whose captures there are images of these cameras and surroundings."""
        found = [split for split in ("train", "test") if self._captures(split)]
        if not found:
            require(self.root / "m--*" / self._mode / "images", "Re:InterHand's images")
        return found

    def recordings(self, split: str) -> Iterable[Recording]:
        """One for each capture and camera."""
        for capture in self._captures(split):
            folder = capture / self._mode
            for side in Side:
                require(_keypoints(capture, side), "the folder of Re:InterHand's joints")
            joined = _joined(capture / "mano_fits")
            lenses: Any = {}
            ratios: Any = {}
            if self.cameras == "mugsy":
                lenses = read_json(require(folder.parent / "cam_params.json", "the cameras' file"))
                places = sorted(path for path in (folder / "images").iterdir() if path.is_dir())
                views = {place.name: _images(place) for place in places}
            else:
                ratios = read_json(require(folder / "truncation_ratio.json", "the skipped frames'"))
                views = {"ego": _images(folder / "images")}
            if self._fps == 30:
                listed = _listed(capture / "frame_list.txt")
                views = {
                    view: {frame: files.get(frame, f"{frame:06d}.png") for frame in listed}
                    for view, files in views.items()
                    if files
                }
            step = usual_step(views.values())
            for view, files in views.items():
                frames = [
                    (
                        frame,
                        _Source(
                            file,
                            lenses.get(view),
                            ratios.get(f"{frame:06d}"),
                            None
                            if joined is None
                            else tuple(joined.get(f"{frame}_{name}") for name in _NAMES),
                        ),
                    )
                    for frame, file in files.items()
                ]
                if frames:
                    yield Recording(capture.name, view, tuple(frames), step=step, fps=self._fps)

    def read(self, recording: Recording, source: Any, mano: Mano) -> FrameRecord:
        """Joints and parameters from the world to the camera, the image without distortion."""
        file, camera, ratio, joined = source
        capture = inside(self.root, recording.sequence)
        folder = capture / self._mode
        number = int(Path(file).stem)
        if self.cameras == "ego":
            if ratio is None:
                raise BadFrameError("the frame is not in truncation_ratio.json")
            if float(ratio) < _SMALLEST_RATIO:
                raise BadFrameError("too little of the hands is in sight (truncation_ratio)")
            image = read_image(folder / "images" / file)
            camera = read_json(folder / "cam_params" / f"{number:06d}.json")
        else:
            image = read_image(inside(folder / "images", recording.camera) / file)
        if camera is None:
            raise BadFrameError("the camera's parameters are missing")
        K = intrinsics(camera["focal"], camera["princpt"])
        cam_from_world = rigid(camera["R"], numbers(camera["t"], 3) / 1000)
        hands = {}
        for side in Side:
            path = _keypoints(capture, side) / f"keypoint-{number:06d}.json"
            points = numbers(read_json(path), _POINTS, 3)[list(FROM_REINTERHAND)] / 1000
            hands[side] = HandRecord(joints=transformed(cam_from_world, points))
            values = joined[side] if joined is not None else _parameters(capture, number, side)
            if values is not None:
                add_mano(hands[side], mano, side, values, cam_from_world)
        pixels = _undistorted(image, K, camera["D"]) if self.cameras == "ego" else image
        return FrameRecord(pixels, hands, K, cam_from_world)

    @property
    def _mode(self) -> str:
        return f"{'Mugsy' if self.cameras == 'mugsy' else 'Ego'}_cameras/envmap_{self.envmap}"

    @property
    def _fps(self) -> float:
        return 5.0 if (self.cameras, self.envmap) == ("mugsy", "per_frame") else 30.0

    def _captures(self, split: str) -> Sequence[Path]:
        return [
            path
            for path in sorted(self.root.glob("m--*"))
            if (path / self._mode / "images").is_dir()
            and (tuple(path.name.split("--")[1:4]) in _TEST) == (split == "test")
        ]


def _keypoints(capture: Path, side: Side) -> Path:
    return capture / "orig_fits" / _NAMES[side] / "Keypoints"


def _joined(folder: Path) -> Any:
    """MANO's parameters of a capture by frame and side; None if there is a file for each.

    Raises:
        FileNotFoundError: there are neither.
    """
    if (folder / "params").is_dir():
        return None
    return read_json(require(folder / "all.json", "needed where there is no params"), compact_mano)


def _parameters(capture: Path, frame: int, side: Side) -> Any:
    """MANO's parameters of one hand from its own file; None if it has none."""
    try:
        path = capture / "mano_fits" / "params" / f"{frame}_{_NAMES[side]}.json"
        return read_json(path, compact_mano)
    except FileNotFoundError:
        return None


def _images(folder: Path) -> dict[int, str]:
    """Names of a folder's images by their numbers, in order."""
    names = sorted(path.name for path in folder.iterdir() if path.suffix in (".png", ".jpg"))
    found = {int(stem): name for name in names if (stem := name.rpartition(".")[0]).isdecimal()}
    return dict(sorted(found.items()))


def _listed(path: Path) -> Sequence[int]:
    """Frames of a frame_list.txt, in order."""
    lines = require(path, "Re:InterHand's list of frames").read_text().splitlines()
    try:
        return sorted({int(line.split()[1]) for line in lines if line.strip()})
    except (IndexError, ValueError):
        raise ValueError(f"{path}: the second column is not the number of a frame") from None


def _undistorted(image: bytes, K: Floats, distortion: Any) -> NDArray[np.uint8]:
    """What a pinhole camera with the same intrinsics sees; black where the fisheye saw nothing."""
    D = numbers(distortion, 4)
    if not np.isfinite(D).all():
        raise BadFrameError("the distortion is not finite")
    return np.asarray(cv2.fisheye.undistortImage(decode_image(image), K, D, Knew=K), np.uint8)
