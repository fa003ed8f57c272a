"""Finding hands in all frames of a video: the first phase, and its file."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fourdhands.skeleton import NUM_JOINTS, Side
from fourdhands.video.detect import Detection, Detector, Image
from fourdhands.video.frames import Video
from fourdhands.video.phases import Arrays
from fourdhands.video.shots import CutFinder
from fourdhands.video.stillness import StillnessTest

_J: Final = NUM_JOINTS


class VideoDetector(Detector, Protocol):
    """A detector that may remember the frames before."""

    def restart(self) -> None:
        """Forget them, as after a cut."""
        ...


@dataclass(frozen=True)
class EachFrame:
    """A detector of single images for video: it remembers nothing.

    Attributes:
        detector: of images.
    """

    detector: Detector

    def restart(self) -> None:
        """Nothing to forget."""

    def __call__(self, image: Image) -> Sequence[Detection]:
        """Find the hands of a frame."""
        return self.detector(image)


@dataclass(frozen=True)
class Search:
    """What was found in T frames.

    Attributes:
        detections: of each frame.
        shots: first frame and end of each.
        times: (T,) seconds.
        still: of each shot, whether the background stands still.
    """

    detections: list[list[Detection]]
    shots: list[tuple[int, int]]
    times: list[float]
    still: list[bool]

    def to_arrays(self) -> Arrays:
        """Named arrays for a file."""
        flat = [(k, hand) for k, hands in enumerate(self.detections) for hand in hands]
        hands = [hand for _, hand in flat]

        def of(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
            values = [getattr(hand, name) for hand in hands]
            nothing = np.full(shape, np.nan, np.float32)
            rows = [nothing if value is None else value for value in values]
            return np.array(rows, np.float32).reshape(len(rows), *shape)

        return {
            "frame": np.array([k for k, _ in flat], np.int64),
            "side": np.array([int(hand.side) for hand in hands], np.int64),
            "score": np.array([hand.score for hand in hands], np.float64),
            "bbox": of("bbox", (4,)),
            "joints_2d": of("joints_2d", (_J, 2)),
            "joint_scores": of("joint_scores", (_J,)),
            "joints_3d": of("joints_3d", (_J, 3)),
            "times": np.array(self.times, np.float64),
            "shots": np.array(self.shots, np.int64).reshape(-1, 2),
            "still": np.array(self.still, bool),
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> "Search":
        """Inverse of `to_arrays`."""
        detections: list[list[Detection]] = [[] for _ in arrays["times"]]

        def maybe(name: str, k: int) -> NDArray[np.float32] | None:
            value: NDArray[np.float32] = arrays[name][k]
            return None if np.isnan(value).any() else value

        for k, frame in enumerate(arrays["frame"].tolist()):
            detections[frame].append(
                Detection(
                    Side(int(arrays["side"][k])),
                    arrays["bbox"][k],
                    float(arrays["score"][k]),
                    maybe("joints_2d", k),
                    maybe("joint_scores", k),
                    maybe("joints_3d", k),
                )
            )
        shots = [(int(start), int(end)) for start, end in arrays["shots"]]
        return cls(detections, shots, arrays["times"].tolist(), arrays["still"].tolist())


def search(video: Video, detector: VideoDetector) -> Search:
    """Go through the frames once: hands, cuts, and whether the camera moves.

    Raises:
        ValueError: the video has no frames.
    """
    detections: list[list[Detection]] = []
    times: list[float] = []
    starts: list[int] = []
    still: list[bool] = []
    is_cut, test = CutFinder(), StillnessTest()
    for frame in tqdm(video, desc="finding hands", unit="frame", total=video.estimated_frames):
        if is_cut(frame.image) or not starts:
            if starts:
                still.append(test.still)
                test = StillnessTest()
                detector.restart()
            starts.append(frame.index)
        hands = list(detector(frame.image))
        detections.append(hands)
        times.append(frame.time)
        test(frame.image, [hand.bbox for hand in hands])
    if not times:
        raise ValueError(f"{video.path}: there is no frame in the span of time that was asked for")
    still.append(test.still)
    shots = list(pairwise([*starts, len(times)]))
    return Search(detections, shots, times, still)
