"""Hands that somebody else found in a video: a file of boxes in place of a detector."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fourdhands.skeleton import NUM_JOINTS, Side
from fourdhands.video.detect import Detection, Image, corners

COLUMNS = ("frame", "side", "score", "x", "y", "width", "height")
_JOINTS = 3 * NUM_JOINTS


class GivenHands:
    """Answers, frame after frame, with the hands of a file (docs/reconstruct.md).

    Args:
        path: of a CSV file: `COLUMNS`, then either nothing or x, y, score of the 21 joints.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a line is not as it should be.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file of boxes")
        self._path, self._frame = path, 0
        self._hands: dict[int, list[Detection]] = {}
        for frame, hand in _read(path):
            self._hands.setdefault(frame, []).append(hand)
        if not self._hands:
            raise ValueError(f"{path}: holds no boxes")

    def restart(self) -> None:
        """A cut: the file goes on."""

    def __call__(self, image: Image) -> list[Detection]:
        """The hands of the next frame.

        Raises:
            ValueError: a box lies outside it.
        """
        height, width = image.shape[:2]
        hands = self._hands.get(self._frame, [])
        for hand in hands:
            low, high = corners(hand.bbox)
            if (high <= 0).any() or (low >= (width - 1, height - 1)).any():
                raise ValueError(
                    f"{self._path}: frame {self._frame}: the {hand.side.name.lower()} hand's box "
                    f"lies outside the frame of {width} x {height} pixels"
                )
        self._frame += 1
        return list(hands)


def _read(path: Path) -> Iterator[tuple[int, Detection]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text file; boxes come as CSV") from None
    for number, row in enumerate(csv.reader(lines), 1):
        fields = [field.strip() for field in row]
        if not any(fields) or fields[0].startswith("#") or (number == 1 and fields[0] == "frame"):
            continue
        try:
            yield _hand(fields)
        except (ValueError, KeyError):
            raise ValueError(
                f"{path}: line {number} is not {','.join(COLUMNS)} with side right or left, sizes "
                f"above 0, and nothing or {_JOINTS} numbers (x, y, score of each joint) behind it"
            ) from None


def _hand(fields: list[str]) -> tuple[int, Detection]:
    frame, side = int(fields[0]), Side[fields[1].upper()]
    numbers = np.array(fields[2:], np.float64)
    score, (x, y, width, height) = float(numbers[0]), numbers[1:5]
    joints = numbers[5:]
    if frame < 0 or not np.isfinite(numbers).all() or min(width, height) <= 0:
        raise ValueError
    if not 0 <= score <= 1 or len(joints) not in (0, _JOINTS):
        raise ValueError
    box = np.array((x + (width - 1) / 2, y + (height - 1) / 2, width, height), np.float32)
    if not len(joints):
        return frame, Detection(side, box, score)
    points = joints.reshape(NUM_JOINTS, 3).astype(np.float32)
    return frame, Detection(side, box, score, points[:, :2], points[:, 2])
