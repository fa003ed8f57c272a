"""Crops without a hand: boxes put away from every hand of the same frames (DaHyF's negatives).

A place whose hand gives way has no labels, and `Labels.is_hand` says so. Clips in which a hand may
be unlabelled (`Clip.all_hands_labelled`) are left alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

from fourdhands.data.augment import Annotations, is_box
from fourdhands.geometry.crop import expand_bbox
from fourdhands.skeleton import NUM_SIDES
from fourdhands.structures import TensorStruct

CANDIDATES: Final = 32
SIZES: Final = (0.6, 1.6)
"""Sizes of the boxes, as factors of the frames' largest hand."""


@dataclass(frozen=True)
class NegativeConfig:
    """When and how often a crop shows no hand.

    Attributes:
        share: of the places for a hand (two a clip), absent hands' included.
        start: share of the run after which they come.
    """

    share: float = 0.0
    start: float = 0.8

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("share", "start"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"data.negatives.{name} is {getattr(self, name)}, it has to lie within 0 and 1"
                )


@dataclass(frozen=True)
class NegativeDraw(TensorStruct):
    """Which hands of B clips give way, and where else to look; all uniform numbers.

    Attributes:
        wanted: (B, S) bool.
        places: (B, S, K, 3) centre x, y and size, 0 to 1 over what is possible.
    """

    wanted: Tensor
    places: Tensor

    @staticmethod
    def draw(share: float, rngs: Sequence[np.random.Generator]) -> "NegativeDraw":
        """Draw for one clip a generator."""
        draws = np.stack([rng.random((NUM_SIDES, 3 * CANDIDATES + 1)) for rng in rngs])
        numbers = torch.from_numpy(draws).float()
        return NegativeDraw(
            wanted=numbers[..., 0] < share,
            places=numbers[..., 1:].unflatten(-1, (CANDIDATES, 3)),
        )

    def only(self, clips: Tensor) -> "NegativeDraw":
        """Leave the hands of all but some clips (B,) where they are."""
        return replace(self, wanted=self.wanted & clips[:, None])


def boxes_without_hands(
    places: Tensor, hands: Tensor, image_size: Tensor, *, bbox_scale: float, aspect: float
) -> tuple[Tensor, Tensor]:
    """The first boxes at which a crop shows no hand in any frame.

    Args:
        places: (B, N, K, 3) of `NegativeDraw`, K candidates for each of N boxes.
        hands: (B, T, S, 4) tight boxes, zeros where there is none.
        image_size: (B, 2) width, height.
        bbox_scale: margin that crops will have, as a factor of the box.
        aspect: width by height of the crops.

    Returns:
        Boxes (B, N, 4), and (B, N) bool whether there is such a place.
    """
    largest = hands[..., 2:].amax((1, 2, 3))
    largest = torch.where(largest > 0, largest, image_size.amin(-1) / 3)
    low, high = SIZES
    side = largest[:, None, None] * low * (high / low) ** places[..., 2]
    centre = places[..., :2] * image_size[:, None, None] - 0.5
    boxes = torch.cat((centre, side[..., None].expand(*side.shape, 2)), -1)  # (B, N, K, 4)
    seen = expand_bbox(boxes, scale=bbox_scale, aspect=aspect)[:, :, :, None, None]
    distance = (seen[..., :2] - hands[:, None, None, ..., :2]).abs()
    apart = (distance >= (seen[..., 2:] + hands[:, None, None, ..., 2:]) / 2).any(-1)
    free = (apart | ~is_box(hands)[:, None, None]).all((-1, -2))  # (B, N, K)
    first = free.int().argmax(-1)[..., None, None].expand(-1, -1, 1, 4)
    return boxes.gather(2, first)[:, :, 0], free.any(-1)


def put_negatives(
    draw: NegativeDraw, annotations: Annotations, *, bbox_scale: float, aspect: float
) -> Annotations:
    """Move the boxes of the chosen hands to where there is no hand, and drop their labels.

    A clip without such a place stays as it is. Boxes stand still.

    Args:
        draw: for each clip.
        annotations: dimensions (B, T).
        bbox_scale: margin that crops will have, as a factor of the box.
        aspect: width by height of the crops.
    """
    boxes, found = boxes_without_hands(
        draw.places,
        annotations.bbox,
        annotations.camera.image_size[:, 0],
        bbox_scale=bbox_scale,
        aspect=aspect,
    )
    moved = (draw.wanted & found)[:, None, :, None]  # (B, 1, S, 1)
    labels, stays = annotations.labels, ~moved
    return replace(
        annotations,
        bbox=torch.where(moved, boxes[:, None], annotations.bbox),
        labels=replace(
            labels,
            hands_valid=labels.hands_valid & stays[..., 0],
            betas_valid=labels.betas_valid & stays[..., 0],
            roots_valid=labels.roots_valid & stays[..., 0],
            joints_valid=labels.joints_valid & stays,
            joints_2d_valid=labels.joints_2d_valid & stays,
            is_hand=labels.is_hand & stays[..., 0],
        ),
    )
