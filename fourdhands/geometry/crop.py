"""Boxes, and the affine between the full image and a hand's crop.

A bbox is (centre x, centre y, size x, size y) in pixels of the full image. Pixel centres lie at
integers, so an image of width w spans [-0.5, w - 0.5]. The box is the only record of a crop: the
affine is derived from it wherever it is needed.
"""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fourdhands.skeleton import NUM_SIDES, Side


def bbox_around(points: Tensor, valid: Tensor) -> Tensor:
    """Tight box of the valid points: (..., N, 2), (..., N) to (..., 4); zeros if none is."""
    inf = torch.tensor(float("inf"), dtype=points.dtype, device=points.device)
    low = torch.where(valid[..., None], points, inf).amin(-2)
    high = torch.where(valid[..., None], points, -inf).amax(-2)
    box = torch.cat(((low + high) / 2, high - low), -1)
    return torch.where(valid.any(-1)[..., None], box, torch.zeros_like(box))


def expand_bbox(bbox: Tensor, *, scale: float, aspect: float) -> Tensor:
    """Grow one side of (..., 4) boxes until width / height = aspect, and both by `scale`."""
    width = torch.maximum(bbox[..., 2], bbox[..., 3] * aspect) * scale
    return torch.cat((bbox[..., :2], torch.stack((width, width / aspect), -1)), -1)


def patch_centres(bbox: Tensor, grid: tuple[int, int]) -> Tensor:
    """Centres of a box's patches in the full image (4DHands eq. 1, true centres).

    Args:
        bbox: (..., 4).
        grid: rows and columns.

    Returns:
        (..., rows * columns, 2) pixels, rows first.
    """
    rows, columns = grid
    offset_y = (2 * torch.arange(rows, device=bbox.device) + 1 - rows) / (2 * rows)
    offset_x = (2 * torch.arange(columns, device=bbox.device) + 1 - columns) / (2 * columns)
    y, x = torch.meshgrid(offset_y, offset_x, indexing="ij")
    offset = torch.stack((x.flatten(), y.flatten()), -1).to(bbox)
    return bbox[..., None, :2] + offset * bbox[..., None, 2:]


def mirror_bbox(bbox: Tensor, image_width: Tensor | float) -> Tensor:
    """The boxes (..., 4) in the mirrored image."""
    return torch.cat((image_width - 1 - bbox[..., :1], bbox[..., 1:]), -1)


def crop_affine(bbox: Tensor, crop_size: tuple[int, int], mirrored: Tensor) -> Tensor:
    """Affine taking full-image pixels to crop pixels.

    Args:
        bbox: (..., 4).
        crop_size: height, width of the crop.
        mirrored: (...) bool, whether the crop is flipped in x.

    Returns:
        (..., 2, 3).
    """
    height, width = crop_size
    scale_x, scale_y = width / bbox[..., 2], height / bbox[..., 3]
    sign = torch.where(mirrored, -1.0, 1.0).to(bbox)
    zero = torch.zeros_like(scale_x)
    row_x = torch.stack((sign * scale_x, zero, (width - 1) / 2 - sign * scale_x * bbox[..., 0]), -1)
    row_y = torch.stack((zero, scale_y, (height - 1) / 2 - scale_y * bbox[..., 1]), -1)
    return torch.stack((row_x, row_y), -2)


def side_mirrored(reference: Tensor) -> Tensor:
    """(S,) bool on the device of `reference`: which side's crops are mirrored (the left's)."""
    # a plain number: torch.compile takes the comparison with an enum for one of objects
    return torch.arange(NUM_SIDES, device=reference.device) == int(Side.LEFT)


def crop_from_image(bbox: Tensor, crop_size: tuple[int, int]) -> Tensor:
    """Affines (..., S, 2, 3) of both hands' crops, the left one mirrored."""
    return crop_affine(bbox, crop_size, side_mirrored(bbox).expand(bbox.shape[:-1]))


def places_in_crops(points: Tensor, bbox: Tensor) -> Tensor:
    """Where points of the full image lie in each hand's crop, the left one mirrored.

    Args:
        points: (..., S, N, 2) pixels of the full image.
        bbox: (..., S, 4).

    Returns:
        (..., S, N, 2) fractions of the crop's width and height from its middle: -0.5 to 0.5 inside.
    """
    places = (points - bbox[..., None, :2]) / bbox[..., None, 2:]
    return _mirror_left(places)


def points_at_places(places: Tensor, bbox: Tensor) -> Tensor:
    """Inverse of `places_in_crops`: places (..., S, N, 2) to pixels of the full image."""
    return _mirror_left(places) * bbox[..., None, 2:] + bbox[..., None, :2]


def _mirror_left(places: Tensor) -> Tensor:
    """(..., S, N, 2)."""
    x, y = places.unbind(-1)
    return torch.stack((torch.where(side_mirrored(places)[:, None], -x, x), y), -1)


def apply_affine(affine: Tensor, points: Tensor) -> Tensor:
    """Apply (..., 2, 3) to points (..., N, 2)."""
    return points @ affine[..., :2].mT + affine[..., None, :, 2]


def warp_crop(
    image: NDArray[np.uint8], affine: NDArray[np.float64], crop_size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Cut a crop out of an image (H, W, 3), black outside it, without aliasing.

    Args:
        image: full image.
        affine: (2, 3) crop_from_image.
        crop_size: height, width.

    Returns:
        (height, width, 3).
    """
    height, width = crop_size
    reduction = int(1 / np.linalg.norm(affine[:, :2], axis=1).max())
    if reduction >= 2:  # bilinear sampling alone would skip pixels: first average blocks of them
        image, affine = _averaged_region(image, affine, crop_size, reduction)
    flags, border = cv2.INTER_LINEAR, cv2.BORDER_CONSTANT
    return np.asarray(
        cv2.warpAffine(image, affine, (width, height), flags=flags, borderMode=border), np.uint8
    )


def _averaged_region(
    image: NDArray[np.uint8],
    affine: NDArray[np.float64],
    crop_size: tuple[int, int],
    reduction: int,
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The part of the image a crop shows, reduced by block averages, and the affine from it."""
    height, width = crop_size
    corners = np.array([(-1, -1), (width, -1), (-1, height), (width, height)], float)
    # written out: LAPACK would wake threads that spin on after each call, in every worker
    (a, b), (c, d) = affine[:, :2].tolist()
    inverse = np.array(((d, -b), (-c, a))) / (a * d - b * c)
    source = (corners - affine[:, 2]) @ inverse.T
    size = np.array((image.shape[1], image.shape[0]))
    low = np.clip(np.floor(source.min(0)) - reduction, 0, size).astype(int)
    high = np.clip(np.ceil(source.max(0)) + reduction + 1, low, size).astype(int)
    columns, rows = np.maximum(-(-(high - low) // reduction), 1)
    region = image[low[1] : high[1], low[0] : high[0]]
    bottom, right = rows * reduction - region.shape[0], columns * reduction - region.shape[1]
    whole = cv2.copyMakeBorder(region, 0, bottom, 0, right, cv2.BORDER_CONSTANT)
    reduced = cv2.resize(whole, (int(columns), int(rows)), interpolation=cv2.INTER_AREA)
    # Pixel k of the reduced region is centred on low + reduction k + (reduction - 1) / 2.
    offset = affine[:, 2] + affine[:, :2] @ (low + (reduction - 1) / 2)
    return np.asarray(reduced, np.uint8), np.column_stack((affine[:, :2] * reduction, offset))
