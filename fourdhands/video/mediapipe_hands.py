"""MediaPipe's hand detector behind the `Detector` protocol (extra `video`).

The old interface `mp.solutions.hands` is used on purpose: its last wheel, 0.10.21, carries the
models, so that pip alone is enough and nothing is downloaded.
"""

import os
import re
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fourdhands.skeleton import WRIST, Side
from fourdhands.video.detect import Detection, Floats, Image, bbox_from_joints, corners
from fourdhands.video.pairing import merge_duplicates

# The old interface takes its input for a mirrored selfie: in an ordinary photograph its "Left" is
# a right hand.
SIDE_OF_LABEL: Final = {"Left": Side.RIGHT, "Right": Side.LEFT}
MAX_HANDS: Final = 8
MOVED: Final = (
    (WRIST, 9, 0.12),
    *((1, 0, -0.36), (3, 2, 0.13), (4, 3, 0.33)),
    *((5, 0, -0.03), (6, 5, 0.05), (7, 6, 0.19), (8, 7, 0.37)),
    *((9, 0, -0.03), (10, 9, 0.04), (11, 10, 0.22), (12, 11, 0.37)),
    *((13, 0, -0.07), (15, 14, 0.16), (16, 15, 0.37)),
    *((17, 0, -0.08), (20, 19, 0.35)),
)
"""MediaPipe's points and the hand model's joints are not the same: each joint, from which other one
it has to be moved away, and how far, in parts of their distance. Tips lie on the nails instead of
where fingers end, the wrist in its crease. Measured on 777 rendered hands (docs/reconstruct.md)."""
MIN_PALM_SCORE: Final = 0.2
MIN_LONE_SCORE: Final = 0.7
"""A hand that one look alone shows needs a surer side than this to count."""
MAX_FOLLOWED: Final = 4
MIN_FOLLOW_SCORE: Final = 0.5
MOST_WAIT: Final = 8
"""Frames between looks in all ways, at most."""
LOOK_ROUND: Final = 15
"""Frames after which a crowd is looked at in all ways again."""
CUT_MARGIN: Final = 0.02
"""Hands nearer to the cut border of a tile than this fraction of its size may go on beyond it."""

_CHATTER: Final = re.compile(rb"INFO: |WARNING: All log messages before absl|[IW]\d{4} ")


@dataclass(frozen=True)
class Look:
    """One way of looking at an image: a part of it, turned, with one of MediaPipe's models.

    Attributes:
        model: 1 the full model, 0 the lite one.
        turns: quarter turns, anticlockwise.
        tile: left, top, width, height of the part as fractions of the image.
    """

    model: int
    turns: int = 0
    tile: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


def _tiles(count: int, size: float) -> list[tuple[float, float, float, float]]:
    """A grid of count x count overlapping tiles; `size` is a tile's fraction of the image."""
    starts = [(1 - size) * k / (count - 1) for k in range(count)]
    return [(left, top, size, size) for top in starts for left in starts]


# MediaPipe finds palms in a 192 x 192 copy of the image, so small hands need tiles and odd angles
# need turns. The most trusted look comes first. Figures: docs/predict.md.
ALL_LOOKS: Final = (
    Look(model=1),
    Look(model=0),
    *(Look(model=1, turns=turns) for turns in (1, 2, 3)),
    *(Look(model=1, tile=tile) for tile in _tiles(2, 0.65)),
    *(Look(model=1, tile=tile) for tile in _tiles(3, 0.45)),
    *(Look(model=0, turns=turns) for turns in (1, 2, 3)),
    *(Look(model=0, tile=tile) for tile in _tiles(2, 0.65)),
)


class MediaPipeDetector:
    """Hands of single images by MediaPipe, looking several times.

    Args:
        looks: what each image is looked at with, the most trusted first; one look is the plain
            detector and takes about 20 ms, all of them half a second.

    Raises:
        ValueError: MediaPipe is missing or carries no models.
    """

    def __init__(self, looks: Sequence[Look] = ALL_LOOKS) -> None:
        self._looks = tuple(looks)
        solution = _import_solution()
        with quiet_native_logs():
            self._models = {
                model: _started(
                    self,
                    solution.Hands(
                        static_image_mode=True,
                        max_num_hands=MAX_HANDS,
                        model_complexity=model,
                        min_detection_confidence=MIN_PALM_SCORE,
                    ),
                )
                for model in {look.model for look in self._looks}
            }

    def __call__(self, image: Image) -> list[Detection]:
        """Find the hands of an RGB image (H, W, 3), every hand once."""
        found = self.all_of(image)
        lone_score = MIN_LONE_SCORE if len(self._looks) > 1 else 0.0
        return merge_duplicates(found, min_lone_score=lone_score)

    def all_of(self, image: Image) -> list[Detection]:
        """What each look shows, the most trusted first; a hand may come often."""
        with quiet_native_logs():
            return [hand for look in self._looks for hand in self._look(image, look)]

    def _look(self, image: Image, look: Look) -> Iterator[Detection]:
        height, width = image.shape[:2]
        offset, part = _cut(image, look.tile)
        if not part.size:  # a tile of next to nothing
            return
        turned = np.ascontiguousarray(np.rot90(part, look.turns))
        answer = self._models[look.model].process(turned)
        for landmarks, in_space, handedness in zip(
            answer.multi_hand_landmarks or (),
            answer.multi_hand_world_landmarks or (),
            answer.multi_handedness or (),
            strict=True,
        ):
            category = handedness.classification[0]
            joints_2d = (
                unturn(pixels_of(landmarks.landmark, turned.shape), turned.shape, look.turns)
                + offset
            )
            joints_3d = unturn_directions(metres_of(in_space.landmark), look.turns)
            hand = make_detection(
                category.label, category.score, joints_2d, (width, height), joints_3d
            )
            if (hand.bbox[2:] > 0).all() and not _is_cut(hand, offset, part, image):
                yield hand


class FollowingDetector:
    """Hands of a video's frames: MediaPipe follows them, and looks again where it lost one.

    Every frame is looked at three times: by the model that goes on where the hand was in the frame
    before, and by both models as if the frame were a photograph. A frame in which a side is missing
    is looked at in all ways; where that does not help for a while, more and more rarely. So is a
    crowd, if there were more hands the last time, or that was long ago.

    Args:
        crowd: whether everybody's hands are wanted.

    Raises:
        ValueError: MediaPipe is missing or carries no models.
    """

    def __init__(self, *, crowd: bool = False) -> None:
        self._crowd = crowd
        self._plain = MediaPipeDetector(ALL_LOOKS[:2])
        self._more = MediaPipeDetector(ALL_LOOKS[2:])
        with quiet_native_logs():
            self._follower = _started(
                self,
                _import_solution().Hands(
                    static_image_mode=False,
                    max_num_hands=MAX_HANDS if crowd else MAX_FOLLOWED,
                    model_complexity=1,
                    min_detection_confidence=MIN_PALM_SCORE,
                    min_tracking_confidence=MIN_FOLLOW_SCORE,
                ),
            )
        self._forget()

    def restart(self) -> None:
        """Forget the frames before, as after a cut."""
        with quiet_native_logs():
            self._follower.reset()
        self._forget()

    def _forget(self) -> None:
        self._wait = self._patience = 0
        self._count, self._since = 0, LOOK_ROUND  # hands at the last look in all ways, and frames

    def __call__(self, image: Image) -> list[Detection]:
        """Find the hands of the next frame (H, W, 3), every hand once."""
        with quiet_native_logs():
            found = list(_read(self._follower.process(image), image.shape))
        found += self._plain.all_of(image)
        hands = merge_duplicates(found)
        self._since += 1
        if not self._misses_some(hands):
            self._patience = 0
        elif self._wait:
            self._wait -= 1
        else:
            more = merge_duplicates(found + self._more.all_of(image), min_lone_score=MIN_LONE_SCORE)
            self._patience = 0 if len(more) > len(hands) else min(self._patience + 1, MOST_WAIT)
            self._wait = self._patience
            hands = more if len(more) >= len(hands) else hands
            self._count, self._since = len(hands), 0
        return hands

    def _misses_some(self, hands: Sequence[Detection]) -> bool:
        if len({hand.side for hand in hands}) < len(Side):
            return True
        return self._crowd and (len(hands) < self._count or self._since > LOOK_ROUND)


def _started(owner: object, solution: Any) -> Any:
    """One of MediaPipe's solutions, ready to work; closed with its owner, or its memory would stay.

    Its threads load networks with the first image, and chat as they do.
    """
    solution.process(np.zeros((64, 64, 3), np.uint8))
    weakref.finalize(owner, solution.close).atexit = False
    return solution


def _read(answer: Any, shape: tuple[int, ...]) -> Iterator[Detection]:
    """What MediaPipe says of a whole image."""
    for landmarks, in_space, handedness in zip(
        answer.multi_hand_landmarks or (),
        answer.multi_hand_world_landmarks or (),
        answer.multi_handedness or (),
        strict=True,
    ):
        category = handedness.classification[0]
        hand = make_detection(
            category.label,
            category.score,
            pixels_of(landmarks.landmark, shape),
            (shape[1], shape[0]),
            metres_of(in_space.landmark),
        )
        if (hand.bbox[2:] > 0).all():
            yield hand


def make_detection(
    label: str,
    score: float,
    joints_2d: Floats,
    image_size: tuple[int, int],
    joints_3d: Floats | None = None,
) -> Detection:
    """One hand in our terms.

    Args:
        label: MediaPipe's, "Left" or "Right" as in a mirror.
        score: how sure MediaPipe is of the label.
        joints_2d: (21, 2) pixels; MediaPipe's order is the common one.
        image_size: width, height.
        joints_3d: (21, 3) metres, or None.
    """
    return detection_of(SIDE_OF_LABEL[label], score, joints_2d, image_size, joints_3d)


def detection_of(
    side: Side,
    score: float,
    joints_2d: Floats,
    image_size: tuple[int, int],
    joints_3d: Floats | None = None,
) -> Detection:
    """One hand whose side is known; as `make_detection`."""
    joints_2d = model_joints(joints_2d)
    inside = ((joints_2d >= -0.5) & (joints_2d <= np.array(image_size) - 0.5)).all(-1)
    return Detection(
        side=side,
        bbox=bbox_from_joints(joints_2d, image_size),
        score=float(score),
        joints_2d=joints_2d.astype(np.float32),
        joint_scores=(score * inside).astype(np.float32),
        joints_3d=None if joints_3d is None else joints_3d.astype(np.float32),
    )


def model_joints(points: Floats) -> Floats:
    """The hand model's joints (21, 2) of MediaPipe's points in the picture; see `MOVED`."""
    joint, other = np.array([pair[:2] for pair in MOVED]).T
    share = np.array([pair[2] for pair in MOVED])[:, None]
    moved = points.copy()
    moved[joint] += share * (points[joint] - points[other])
    return moved


def unturn(points: Floats, shape: tuple[int, ...], turns: int) -> Floats:
    """Where pixels (N, 2) of `numpy.rot90(image, turns)` with this shape lie in the image."""
    height, width = shape[:2]
    for _ in range(turns):
        points = np.stack((height - 1 - points[:, 1], points[:, 0]), -1)
        height, width = width, height
    return points


def unturn_directions(points: Floats, turns: int) -> Floats:
    """Camera axes (N, 3) of `numpy.rot90(image, turns)` in those of the image."""
    for _ in range(turns % 4):
        points = np.stack((-points[:, 1], points[:, 0], points[:, 2]), -1)
    return points


def metres_of(landmarks: Any) -> Floats:
    """(21, 3) of MediaPipe's landmarks in space."""
    return np.array([(landmark.x, landmark.y, landmark.z) for landmark in landmarks])


def pixels_of(landmarks: Any, shape: tuple[int, ...]) -> Floats:
    """(21, 2) of its landmarks in an image of this shape."""
    height, width = shape[:2]  # the image spans 0 to 1 there, -0.5 to size - 0.5 here
    unit = np.array([(landmark.x, landmark.y) for landmark in landmarks])
    return unit * (width, height) - 0.5


def _cut(image: Image, tile: tuple[float, float, float, float]) -> tuple[NDArray[np.int64], Image]:
    """Left top corner (2,) and pixels of a tile."""
    height, width = image.shape[:2]
    left, top = round(tile[0] * width), round(tile[1] * height)
    right, bottom = round((tile[0] + tile[2]) * width), round((tile[1] + tile[3]) * height)
    return np.array((left, top)), image[top:bottom, left:right]


def _is_cut(
    hand: Detection,
    offset: NDArray[np.int64],
    part: Image,
    image: Image,
) -> bool:
    """Whether a hand touches a border of the part that is not one of the image."""
    size, image_size = np.array(part.shape[1::-1]), np.array(image.shape[1::-1])
    margin = CUT_MARGIN * size.max()
    low, high = corners(hand.bbox)
    at_start = (offset > 0) & (low < offset + margin)
    at_end = (offset + size < image_size) & (high > offset + size - margin)
    return bool((at_start | at_end).any())


def _import_solution() -> Any:
    remedy = "install it with `pip install -c constraints.txt -e '.[video]'`, or give boxes by hand"
    try:
        with quiet_native_logs():
            import mediapipe
            from mediapipe.python.solutions import hands
    except ModuleNotFoundError as error:
        if error.name == "mediapipe":
            raise ValueError(f"finding hands needs MediaPipe: {remedy}") from None
        raise ValueError(
            f"MediaPipe {mediapipe.__version__} carries no models, 0.10.21 does: {remedy}"
        ) from error
    return hands


@contextmanager
def quiet_native_logs() -> Iterator[None]:
    """Drop what MediaPipe's C++ side chats on stderr, whatever its log level; errors pass."""
    with tempfile.TemporaryFile() as kept:
        stderr = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            kept.seek(0)
            for line in kept:
                if not _CHATTER.match(line):
                    os.write(2, line)
