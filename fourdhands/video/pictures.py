"""Pictures of a photograph's hands: the overlay, and a sheet of everything that led to it."""

from typing import Final

import cv2
import numpy as np
import torch

from fourdhands.geometry.crop import apply_affine, crop_affine
from fourdhands.rendering.overlay import (
    PAPER,
    SIDE_COLOURS,
    draw_hands,
    draw_skeleton,
    grid,
    side_view,
)
from fourdhands.skeleton import NUM_SIDES, Side
from fourdhands.video.detect import Image, corners
from fourdhands.video.predict import PhotoHands, cut_crop

CELL: Final = 480
"""Height of the sheet's pictures."""


def draw_overlay(image: Image, photo: PhotoHands) -> Image:
    """All hands over the photograph (H, W, 3), farther pairs first."""
    depth = [photo.transl[g, photo.present[g], 2].mean() for g in range(len(photo.present))]
    for g in np.argsort(depth)[::-1]:
        image = draw_hands(
            image, photo.vertices[g], photo.present[g], photo.intrinsics, faces=photo.faces
        )
    return image


def draw_detections(image: Image, photo: PhotoHands) -> Image:
    """Tight boxes with pair, side and score, and in thinner lines the regions of the crops."""
    image = image.copy()
    pen = max(1, round(max(image.shape) / 500))
    for g, side in np.argwhere(photo.present):
        colour = SIDE_COLOURS[Side(side)]
        for bbox, width in ((photo.bbox[g, side], pen), (photo.detected_bbox[g, side], 2 * pen)):
            low, high = (corner.round().astype(int).tolist() for corner in corners(bbox))
            cv2.rectangle(image, low, high, colour, width, cv2.LINE_AA)
        text = f"{g + 1} {Side(side).name.lower()} {photo.score[g, side]:.2f}"
        _write(image, text, (low[0], max(low[1], 20 * pen)), colour, pen)
    return image


def _write(
    image: Image, text: str, corner: tuple[int, int], colour: tuple[int, int, int], pen: int
) -> None:
    """White on the colour, upwards from the lower left corner."""
    font, scale, margin = cv2.FONT_HERSHEY_SIMPLEX, 0.5 * pen, 4 * pen
    (width, height), _ = cv2.getTextSize(text, font, scale, pen)
    left, bottom = corner
    top_right = (left + width + 2 * margin, bottom - height - 2 * margin)
    cv2.rectangle(image, corner, top_right, colour, cv2.FILLED)
    where = (left + margin, bottom - margin)
    cv2.putText(image, text, where, font, scale, (255, 255, 255), pen, cv2.LINE_AA)


def draw_sheet(
    image: Image, photo: PhotoHands, crop_size: tuple[int, int], found: str = "detected hands"
) -> Image:
    """Detections, joints and meshes; below, a row for each pair: its crops and its side view.

    Args:
        image: (H, W, 3) the photograph.
        photo: its hands.
        crop_size: height, width of the network's crops.
        found: what the boxes are.
    """
    skeletons = image
    for joints_2d, present in zip(photo.joints_2d, photo.present, strict=True):
        skeletons = draw_skeleton(skeletons, joints_2d, present)
    photographs = (draw_detections(image, photo), skeletons, draw_overlay(image, photo))
    cells = [_fit(picture) for picture in photographs]
    captions = [f"{found}, regions cropped", "predicted joints", "predicted meshes"]
    for g, present in enumerate(photo.present):
        cells += [_crop_cell(image, photo, g, side, crop_size) for side in Side]
        cells.append(side_view(photo.vertices[g], present, CELL, faces=photo.faces))
        captions += [f"{g + 1} right", f"{g + 1} left, mirrored", f"{g + 1} from the side"]
    return grid(cells, columns=3, captions=captions)


def _crop_cell(
    image: Image, photo: PhotoHands, pair: int, side: Side, crop_size: tuple[int, int]
) -> Image:
    """What the network sees of a hand, enlarged, and the joints it answers."""
    height, width = crop_size
    size = CELL, round(CELL * width / height)
    if not photo.present[pair, side]:
        return np.full((*size, 3), PAPER, np.uint8)
    bbox = torch.from_numpy(photo.bbox[pair, side])
    affine = crop_affine(bbox, size, torch.tensor(side is Side.LEFT))
    joints_2d = apply_affine(affine, torch.from_numpy(photo.joints_2d[pair]))
    crop = cut_crop(image, bbox, side, crop_size)
    enlarged = cv2.resize(crop, size[::-1], interpolation=cv2.INTER_CUBIC)
    return draw_skeleton(np.asarray(enlarged, np.uint8), joints_2d, np.arange(NUM_SIDES) == side)


def _fit(image: Image) -> Image:
    scale = min(1.0, CELL / image.shape[0], 1.5 * CELL / image.shape[1])
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
