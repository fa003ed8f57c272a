"""Mirrored copies: a clip with one hand served as a clip with two, as 4DHands does.

The mirrored image shows the hand as one of the other side. It is thought to lie `FAR` image widths
beside the image itself, so the copy's box is the mirrored box there: too far for a relation between
the hands. A left crop is mirrored once more, so the copy's crop is the hand's own crop again.

A copy counts as present and has no labels. `Labels.is_hand` stays True: its crop does show a hand.
"""

from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from fourdhands.data.augment import Annotations
from fourdhands.geometry.crop import mirror_bbox

FAR: Final = 5.0
"""Image widths from the image to its mirrored copy: to the right for a copy in the right hand's
place, to the left for one in the left's, so that a mirrored clip has a mirrored copy."""


def mirrored_copies(
    wanted: Tensor, annotations: Annotations, present: Tensor
) -> tuple[Annotations, Tensor]:
    """Give boxes to copies in clips that show exactly one hand.

    Args:
        wanted: (B,) bool, in which clips.
        annotations: dimensions (B, T).
        present: (B, T, S) bool, which hands are there.

    Returns:
        Annotations with the copies' boxes, and (B, T, S) bool where a copy is: wherever the one
        hand is present, and is not a crop without a hand.
    """
    seen = present.any(1)
    alone = wanted[:, None] & ~seen & seen.flip(-1)  # (B, S) places to fill
    copied = alone[:, None] & (present & annotations.labels.is_hand).flip(-1)
    width = annotations.camera.image_size[..., None, :1]  # (B, T, 1, 1)
    beside = mirror_bbox(annotations.bbox.flip(-2), width)
    beside[..., 0] += FAR * width[..., 0] * torch.tensor((1.0, -1.0))
    bbox = torch.where(copied[..., None], beside, annotations.bbox)
    return replace(annotations, bbox=bbox), copied


def is_beside(bbox: Tensor, image_size: Tensor) -> Tensor:
    """Whether boxes are those of copies: so far beside the image that no hand in it has them.

    Args:
        bbox: (..., S, 4).
        image_size: (..., 2) width, height.

    Returns:
        (..., S) bool.
    """
    width = image_size[..., None, 0]
    return (bbox[..., 0] - (width - 1) / 2).abs() > FAR / 2 * width
