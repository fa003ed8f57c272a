"""Whether a camera stands still: corners of the background stay where they are."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from fourdhands.video.detect import Floats, Image, corners

Points = NDArray[np.float32]
HEIGHT: Final = 270
CELLS: Final = (6, 8)
"""Rows and columns; the best corner of each cell is followed, so that people do not have most."""
WEAKEST: Final = 0.02  # contrast of a corner that can be followed, 0 to 1
FEWEST: Final = 6
"""Corners that can be followed; with fewer nothing is known."""
EVERY: Final = 5
"""Frames from one comparison to the next."""
MOVED: Final = 0.004
"""Of the picture's height: a shift that noise does not make."""
QUANTILE: Final = 0.3
"""Share of the corners that may stand still while a camera moves: those followed badly."""
SHARE: Final = 0.2
"""Share of comparisons that show motion when a camera moves."""
_BODY: Final = 2.0  # boxes of hands are grown so much: arms move with them


class StillnessTest:
    """Follows corners of the background over the frames of a shot.

    A camera that moves moves everything. So it is taken to move only if hardly any corner stands
    still; a person may move as much as they like.
    """

    def __init__(self) -> None:
        self._before: Image | None = None
        self._points: Points | None = None
        self._count = 0
        self._shifts: list[float] = []

    def __call__(self, image: Image, boxes: Sequence[Floats]) -> None:
        """Look at the next frame and its hands."""
        self._count += 1
        if (self._count - 1) % EVERY:
            return
        scale = HEIGHT / image.shape[0]
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)
        if self._before is not None and self._points is not None and len(self._points) >= FEWEST:
            moved, found, _ = cv2.calcOpticalFlowPyrLK(
                self._before, grey, self._points, np.zeros_like(self._points)
            )
            back, again, _ = cv2.calcOpticalFlowPyrLK(
                grey, self._before, moved, np.zeros_like(self._points)
            )
            there_and_back = np.linalg.norm((back - self._points)[:, 0], axis=-1)
            good = (found[:, 0] > 0) & (again[:, 0] > 0) & (there_and_back < 1.0)
            if good.sum() >= FEWEST:
                shift = np.linalg.norm((moved - self._points)[good, 0], axis=-1)
                self._shifts.append(float(np.quantile(shift, QUANTILE)) / HEIGHT)
        mask = np.full(grey.shape, 255, np.uint8)
        for box in boxes:
            low, high = corners(np.concatenate((box[:2], _BODY * box[2:])) * scale)
            left, top = np.maximum(low, 0).astype(int)
            right, bottom = np.maximum(high, 0).astype(int)
            mask[top : bottom + 1, left : right + 1] = 0
        self._points, self._before = _spread_corners(grey, mask), grey

    @property
    def still(self) -> bool:
        """Whether nothing says that the camera moves."""
        moving = np.array(self._shifts) > MOVED
        return len(moving) == 0 or bool(moving.mean() < SHARE)


def _spread_corners(grey: Image, mask: Image) -> Points:
    """The sharpest corner of each cell that has one, (N, 1, 2) as OpenCV wants them."""
    strength = np.where(mask > 0, cv2.cornerMinEigenVal(grey, 5), 0.0)
    rows, columns = (np.linspace(0, n, k + 1).astype(int) for n, k in zip(
        grey.shape, CELLS, strict=True))  # fmt: skip
    found = []
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            cell = strength[top:bottom, left:right]
            y, x = np.unravel_index(cell.argmax(), cell.shape)
            if cell[y, x] > WEAKEST**2 / 10:
                found.append((left + x, top + y))
    return np.array(found, np.float32).reshape(-1, 1, 2)
