"""What spoils crops on purpose in training: patches, motion blur, low resolution, jpg.

In this order, which is that of a camera. One draw for a clip: a patch stays where it is on the
hand, sharpness and compression do not change from frame to frame, and blur follows the motion.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fourdhands.skeleton import NUM_SIDES
from fourdhands.structures import TensorStruct

Picture = NDArray[np.uint8]

PATCH_SIDES: Final = (0.15, 0.5)
"""Sides of a patch, as shares of the crop's."""
PATCH_COLORS: Final = 3
"""Colours along each side of a patch, blended into each other."""
BEST_JPEG: Final = 95
WORST_JPEG: Final = 15
STILL: Final = 0.02
"""A hand that moves by less of its box from frame to frame is blurred in a random direction."""


@dataclass(frozen=True)
class PixelChange(TensorStruct):
    """What happens to the crops of B clips.

    Attributes:
        patch: (B, S, 4) centre and size as shares of the crop; size 0 for none.
        patch_colors: (B, S, k, k, 3) 0 to 255.
        blur: (B,) length of the streak as a share of the crop's longer side.
        blur_angle: (B,) radians, for hands that do not move.
        reduction: (B,) factor by which resolution is lost; 1 for none.
        jpeg_quality: (B,) of OpenCV; above `BEST_JPEG` for none.
    """

    patch: Tensor
    patch_colors: Tensor
    blur: Tensor
    blur_angle: Tensor
    reduction: Tensor
    jpeg_quality: Tensor

    @staticmethod
    def draw(
        rngs: Sequence[np.random.Generator],
        *,
        occlusion: float,
        blur: float,
        low_resolution: float,
        jpeg: float,
    ) -> "PixelChange":
        """Draw one change per generator (see `AugmentConfig`); half the clips keep each quality."""
        count = NUM_SIDES * (5 + PATCH_COLORS**2 * 3) + 7
        draws = torch.from_numpy(np.stack([rng.random(count) for rng in rngs])).float()
        patches, clips = draws.split([count - 7, 7], dim=1)
        places, colors = patches.unflatten(1, (NUM_SIDES, -1)).split(
            [5, PATCH_COLORS**2 * 3], dim=2
        )
        low, high = PATCH_SIDES
        side = (low + (high - low) * places[..., 2:4]) * (places[..., 4:] < occlusion)
        strengths = torch.where(clips[:, 0:3] < 0.5, clips[:, 3:6], 0.0)
        return PixelChange(
            patch=torch.cat((places[..., :2], side), -1),
            patch_colors=colors.unflatten(2, (PATCH_COLORS, PATCH_COLORS, 3)) * 255,
            blur=strengths[:, 0] * blur,
            blur_angle=clips[:, 6] * torch.pi,
            reduction=(strengths[:, 1] * low_resolution).exp(),
            jpeg_quality=100 - strengths[:, 2] * jpeg * (100 - WORST_JPEG),
        )


def streaks(
    change: PixelChange, bbox: Tensor, crop_size: tuple[int, int], mirrored: Tensor
) -> Tensor:
    """How pixels are smeared, (B, T, S, 2) in pixels of each (mirrored) crop.

    Args:
        change: of B clips.
        bbox: (B, T, S, 4) regions of the crops.
        crop_size: height, width.
        mirrored: (S,) which crops are.
    """
    height, width = crop_size
    centre, size = bbox[..., :2], bbox[..., 2:]
    moved = torch.zeros_like(centre)
    if bbox.shape[1] > 1:
        moved = torch.gradient(centre, dim=1)[0] / size
    moved = moved * moved.new_tensor((width, height))
    moved = torch.where(mirrored[:, None], moved * moved.new_tensor((-1, 1)), moved)
    random = torch.stack((change.blur_angle.cos(), change.blur_angle.sin()), -1)[:, None, None]
    speed = moved.norm(dim=-1, keepdim=True)
    direction = torch.where(speed > STILL * max(crop_size), moved / speed.clamp_min(1e-6), random)
    return direction * (change.blur * max(crop_size))[:, None, None, None]


def degrade(
    crop: Picture, change: PixelChange, clip: int, side: int, streak: tuple[float, float]
) -> Picture:
    """Spoil one crop (h, w, 3) of a clip.

    Args:
        crop: any order of channels.
        change: of the batch.
        clip: number in the batch.
        side: whose crop.
        streak: how pixels are smeared (see `streaks`).
    """
    crop = _cover(crop, change.patch[clip, side].numpy(), change.patch_colors[clip, side].numpy())
    crop = _smear(crop, streak)
    crop = _reduce(crop, float(change.reduction[clip]))
    quality = int(change.jpeg_quality[clip])
    if quality > BEST_JPEG:
        return crop
    encoded = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)


def _cover(crop: Picture, patch: NDArray[np.float32], colors: NDArray[np.float32]) -> Picture:
    height, width = crop.shape[:2]
    low = np.round((patch[:2] - patch[2:] / 2) * (width, height)).astype(int)
    size = np.round(patch[2:] * (width, height)).astype(int)
    start, end = np.maximum(low, 0), np.minimum(low + size, (width, height))
    if (end <= start).any():
        return crop
    columns, rows = int(size[0]), int(size[1])
    texture = cv2.resize(colors, (columns, rows), interpolation=cv2.INTER_LINEAR)
    covered = crop.copy()
    window = slice(start[1] - low[1], end[1] - low[1]), slice(start[0] - low[0], end[0] - low[0])
    covered[start[1] : end[1], start[0] : end[0]] = texture[window]
    return covered


def _smear(crop: Picture, streak: tuple[float, float]) -> Picture:
    radius = int(np.ceil(np.hypot(*streak) / 2))
    if np.hypot(*streak) < 1:
        return crop
    line = np.zeros((2 * radius + 1, 2 * radius + 1), np.float32)
    bits = 4  # fixed-point coordinates: 1/16 pixel
    start, end = (
        [round((radius + sign * part / 2) * 2**bits) for part in streak] for sign in (-1, 1)
    )
    cv2.line(line, start, end, (1.0,), 1, cv2.LINE_8, bits)
    blurred = cv2.filter2D(crop, -1, line / line.sum(), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, np.uint8)


def _reduce(crop: Picture, factor: float) -> Picture:
    height, width = crop.shape[:2]
    small = max(round(width / factor), 1), max(round(height / factor), 1)
    if small == (width, height):
        return crop
    reduced = cv2.resize(crop, small, interpolation=cv2.INTER_AREA)
    return np.asarray(
        cv2.resize(reduced, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8
    )
