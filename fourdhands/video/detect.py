"""Hands found in an image: what every detector answers, and boxes given by hand.

The first step from a photograph to hands; `video.pairing` groups what is found here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from fourdhands.skeleton import Side

Image = NDArray[np.uint8]
"""(H, W, 3) RGB."""
Floats = NDArray[np.floating[Any]]

# Measured on posed meshes seen from all directions: the box of the joints, the wrist pushed out by
# 0.3 palms and all grown by 0.08 of its longer side, is the mesh's box to 5 % of its size.
WRIST_EXTENSION: Final = 0.3
FLESH: Final = 0.08
_KNUCKLES: Final = (5, 9, 13, 17)


@dataclass(frozen=True)
class Detection:
    """One hand in one image.

    Attributes:
        side: which hand it is.
        bbox: (4,) tight box of the hand inside the image: centre x, y, size x, y in pixels.
        score: 0 to 1.
        joints_2d: (21, 2) pixels in the common joint order, or None if the detector gives none.
        joint_scores: (21,) 0 to 1, or None with `joints_2d`.
        joints_3d: (21, 3) metres, about anywhere, with the axes of a camera that looks straight at
            the hand; None if the detector gives none.
    """

    side: Side
    bbox: NDArray[np.float32]
    score: float
    joints_2d: NDArray[np.float32] | None = None
    joint_scores: NDArray[np.float32] | None = None
    joints_3d: NDArray[np.float32] | None = None


class Detector(Protocol):
    """Finds hands in an image."""

    def __call__(self, image: Image) -> Sequence[Detection]:
        """Find the hands of an RGB image (H, W, 3), every hand once."""
        ...


@dataclass(frozen=True)
class BoxDetector:
    """Answers with boxes given by hand.

    Attributes:
        detections: the hands, whatever the image shows.
    """

    detections: tuple[Detection, ...]

    def __call__(self, image: Image) -> list[Detection]:
        """Return the given hands.

        Raises:
            ValueError: a box lies outside the image.
        """
        height, width = image.shape[:2]
        for detection in self.detections:
            low, high = corners(detection.bbox)
            if (high <= 0).any() or (low >= (width - 1, height - 1)).any():
                x, y = low + 0.5
                raise ValueError(
                    f"box at x={x:g}, y={y:g} lies outside the image of {width} x {height} pixels"
                )
        return list(self.detections)


def parse_box(text: str) -> Detection:
    """Read a hand from `x,y,w,h,side`.

    Args:
        text: x, y of the box's top left pixel, its width and height in pixels, and `right` or
            `left`.

    Raises:
        ValueError: the text is anything else.
    """
    fields = [field.strip() for field in text.split(",")]
    try:
        x, y, width, height = (float(field) for field in fields[:-1])
        side = Side[fields[-1].upper()]
    except (ValueError, KeyError):
        raise ValueError(
            f"box '{text}' is not x,y,w,h,side; for example 120,80,200,240,right"
        ) from None
    if not (np.isfinite((x, y, width, height)).all() and width > 0 and height > 0):
        raise ValueError(f"box '{text}' needs finite numbers, its width and height above 0")
    bbox = np.array((x + (width - 1) / 2, y + (height - 1) / 2, width, height), np.float32)
    return Detection(side, bbox, score=1.0)


def bbox_from_joints(joints_2d: Floats, image_size: tuple[int, int]) -> NDArray[np.float32]:
    """Estimate the tight box of a hand's visible flesh from its joints.

    Args:
        joints_2d: (21, 2) pixels.
        image_size: width, height; what lies outside is cut off.

    Returns:
        (4,) box; its sizes are 0 if all of the hand lies outside.
    """
    wrist, knuckles = joints_2d[0], joints_2d[_KNUCKLES, :].mean(0)
    points = np.vstack((joints_2d, wrist + WRIST_EXTENSION * (wrist - knuckles)))
    margin = FLESH * np.ptp(joints_2d, axis=0).max()
    edge = np.array(image_size) - 0.5
    low = np.clip(points.min(0) - margin, -0.5, edge)
    high = np.clip(points.max(0) + margin, -0.5, edge)
    return np.concatenate(((low + high) / 2, high - low)).astype(np.float32)


def corners(bbox: Floats) -> tuple[Floats, Floats]:
    """Top left and bottom right corners (2,) of a box (4,)."""
    return bbox[:2] - bbox[2:] / 2, bbox[:2] + bbox[2:] / 2
