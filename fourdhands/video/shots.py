"""Cuts between the shots of a video: a hand's track and a camera's path end there."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from fourdhands.video.detect import Image

THUMBNAIL: Final = (48, 27)
BINS: Final = 16
LEAST_CHANGE: Final = 0.12
"""Mean change of the thumbnail, 0 to 1, of a cut at least."""
SUDDENNESS: Final = 3.0
"""A cut changes the picture so many times more than the frames before it did."""
LEAST_RECOLOURING: Final = 0.25
"""Share of the pixels whose colour comes or goes: moving things keep their colours."""


class CutFinder:
    """Tells, frame by frame, whether a new shot begins."""

    def __init__(self) -> None:
        self._thumbnail: NDArray[np.float32] | None = None
        self._colours: NDArray[np.float32] | None = None
        self._usual = 0.0

    def __call__(self, image: Image) -> bool:
        """Look at the next frame; the first one begins no new shot."""
        small = cv2.resize(image, THUMBNAIL, interpolation=cv2.INTER_AREA)
        thumbnail = small.astype(np.float32) / 255
        colours = np.concatenate(
            [np.histogram(small[..., c], BINS, (0, 256))[0] for c in range(3)]
        ).astype(np.float32) / (3 * small.shape[0] * small.shape[1])
        cut = False
        if self._thumbnail is not None and self._colours is not None:
            change = float(np.abs(thumbnail - self._thumbnail).mean())
            recoloured = float(np.abs(colours - self._colours).sum()) / 2
            cut = (
                change > max(LEAST_CHANGE, SUDDENNESS * self._usual)
                and recoloured > LEAST_RECOLOURING
            )
            self._usual = 0.0 if cut else 0.7 * self._usual + 0.3 * change
        self._thumbnail, self._colours = thumbnail, colours
        return cut
