"""Augmentation of whole clips: one change of a clip moves pixels, boxes, labels and camera alike.

Geometry is never resampled twice: the change gives an affine from the stored image to the changed
one, which `data.collate` joins to the crop's, and each crop is cut in a single warp.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

from fourdhands.data.degrade import PixelChange
from fourdhands.geometry.crop import apply_affine, mirror_bbox
from fourdhands.geometry.rotation import (
    matrix_from_axis_angle,
    mirror_hands,
    mirror_points,
)
from fourdhands.hands.assets import ManoAssets
from fourdhands.hands.mano import wrist_at_rest
from fourdhands.skeleton import NUM_SIDES
from fourdhands.structures import Camera, Labels, TensorStruct

CUT: Final = (0.1, 0.45)
"""Share of a box's side that truncation takes."""
_SIDES_DIM: Final = 2
"""Where S stands in the labels (B, T, S, ...)."""


@dataclass(frozen=True)
class AugmentConfig:
    """How far a training clip may be changed; zero leaves that part alone.

    Attributes:
        mirror: probability of mirroring the frame, which swaps the hands.
        rotation: degrees; turns the frame about the principal point, up to this either way.
        scale: each hand's box grows or shrinks by a factor of up to exp(scale).
        shift: each hand's box moves by up to this share of its size, along each axis.
        brightness: all colours are multiplied by a factor of up to exp(brightness) either way.
        tint: each channel is multiplied by a factor of up to exp(tint) either way.
        truncation: probability that a hand's box is cut, so that the crop shows a part of the hand.
        occlusion: probability that a patch covers a part of a hand's crop.
        blur: crops are smeared along the hand's motion by up to this share of their longer side.
        low_resolution: crops lose resolution by a factor of up to exp(low_resolution).
        jpeg: 0 for none to 1 for crops that are compressed down to quality 15.
    """

    mirror: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    brightness: float = 0.0
    tint: float = 0.0
    truncation: float = 0.0
    occlusion: float = 0.0
    blur: float = 0.0
    low_resolution: float = 0.0
    jpeg: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        largest = {"rotation": 180.0, "blur": 0.5, "low_resolution": 3.0}
        for option in fields(self):
            self._require(option.name, largest.get(option.name, 1.0))

    def _require(self, name: str, largest: float) -> None:
        value = getattr(self, name)
        if not 0 <= value <= largest:
            raise ValueError(f"augment.{name} is {value}, it has to lie within 0 and {largest:g}")


@dataclass(frozen=True)
class ClipChange(TensorStruct):
    """What happens to each of B clips.

    Attributes:
        mirrored: (B,) bool, first of all.
        angle: (B,) radians, the frame turns clockwise as seen on the screen.
        box_scale: (B, S) factor, by side after mirroring.
        box_shift: (B, S, 2) share of the box.
        gain: (B, 3) factor of red, green and blue.
        cut: (B, S, 4) shares of the box that are cut off at the left, top, right and bottom, by
            side after mirroring.
        pixels: what happens to the crops besides.
    """

    mirrored: Tensor
    angle: Tensor
    box_scale: Tensor
    box_shift: Tensor
    gain: Tensor
    cut: Tensor
    pixels: PixelChange

    @staticmethod
    def draw(config: AugmentConfig, rngs: list[np.random.Generator]) -> "ClipChange":
        """Draw one change per generator; the draws of one part do not depend on the others."""
        draws = torch.from_numpy(np.stack([rng.uniform(-1, 1, 12) for rng in rngs])).float()
        mirror, angle, scale, shift, brightness, tint = draws.split([1, 1, 2, 4, 1, 3], dim=1)
        cut = torch.from_numpy(np.stack([rng.random((NUM_SIDES, 3)) for rng in rngs])).float()
        return ClipChange(
            mirrored=(mirror[:, 0] + 1) / 2 < config.mirror,
            angle=angle[:, 0] * math.radians(config.rotation),
            box_scale=(scale * config.scale).exp(),
            box_shift=shift.unflatten(1, (NUM_SIDES, 2)) * config.shift,
            gain=(brightness * config.brightness + tint * config.tint).exp(),
            cut=_draw_cut(cut, config.truncation),
            pixels=PixelChange.draw(
                rngs,
                occlusion=config.occlusion,
                blur=config.blur,
                low_resolution=config.low_resolution,
                jpeg=config.jpeg,
            ),
        )


def _draw_cut(draws: Tensor, probability: float) -> Tensor:
    """From (B, S, 3) uniform numbers: one border, or two that meet, moved inwards."""
    chosen = draws[..., 0] < probability
    corner = (draws[..., 1] * 8).long()
    first = torch.nn.functional.one_hot(corner % 4, 4)
    second = torch.nn.functional.one_hot((corner + 1) % 4, 4) * (corner >= 4)[..., None]
    low, high = CUT
    return (first + second) * (chosen * (low + (high - low) * draws[..., 2]))[..., None]


@dataclass(frozen=True)
class Annotations(TensorStruct):
    """What is known about the frames of B clips, (B, T, ...), besides their pixels.

    Attributes:
        camera: of the full image.
        labels: of both hands.
        bbox: (B, T, S, 4) tight boxes, zeros where there is no hand.
        image_from_stored: (B, T, 2, 3) takes pixels of the stored image to those of the full
            image that everything else refers to.
    """

    camera: Camera
    labels: Labels
    bbox: Tensor
    image_from_stored: Tensor


class Augmenter:
    """Changes annotations as a `ClipChange` says, keeping labels and cameras true."""

    def __init__(self, hand_assets: tuple[ManoAssets, ManoAssets]):
        """Keep the wrist at rest as a function of shape: MANO turns about it, not the origin."""
        self._wrist, self._wrist_of_shape = wrist_at_rest(hand_assets)

    def __call__(self, change: ClipChange, stored: Annotations) -> Annotations:
        """Apply the geometric part of a change: mirror, then turn, then jitter the boxes."""
        mirrored = _choose(change.mirrored, mirror_clips(stored), stored)
        turned = self.turn(change.angle, mirrored)
        return replace(turned, bbox=jitter_bbox(change, turned.bbox))

    def turn(self, angle: Tensor, old: Annotations) -> Annotations:
        """Turn each clip's camera (B,) radians about its optical axis: pixels by K R_z K^-1."""
        zero = torch.zeros_like(angle)
        rotation = matrix_from_axis_angle(torch.stack((zero, zero, angle), -1))[:, None]
        K, labels, hands = old.camera.intrinsics, old.labels, old.labels.hands
        new_from_old = (K @ rotation @ torch.linalg.inv(K))[..., :2, :]
        per_hand = rotation[:, :, None]
        # MANO turns about its wrist at rest: v = R (x - wrist) + wrist + transl
        wrist = self._wrist + (self._wrist_of_shape @ hands.betas[..., None])[..., 0]
        turned_wrist = (per_hand @ (hands.transl + wrist)[..., None])[..., 0]
        joints_2d = apply_affine(new_from_old[:, :, None], labels.joints_2d)
        return Annotations(
            camera=replace(
                old.camera, cam_from_world=_homogeneous(rotation) @ old.camera.cam_from_world
            ),
            labels=replace(
                labels,
                hands=replace(
                    hands,
                    global_orient=per_hand @ hands.global_orient,
                    transl=(turned_wrist - wrist) * labels.roots_valid[..., None],
                ),
                joints=labels.joints @ per_hand.mT,
                joints_2d=joints_2d * labels.joints_2d_valid[..., None],
            ),
            bbox=_turn_bbox(new_from_old, old.bbox),
            image_from_stored=compose(new_from_old, old.image_from_stored),
        )


def mirror_clips(old: Annotations) -> Annotations:
    """Mirror the frames; the hands change sides.

    The world is mirrored in its own x as well, so that `cam_from_world` stays a rigid motion.
    """
    labels = old.labels.map(lambda tensor: tensor.flip(_SIDES_DIM))
    K, width = old.camera.intrinsics, old.camera.image_size[..., 0]
    flip = torch.eye(3).expand(K.shape).clone()  # pixels: x becomes w - 1 - x
    flip[..., 0, 0], flip[..., 0, 2] = -1.0, width - 1
    mirror = torch.diag(torch.tensor((-1.0, 1.0, 1.0, 1.0)))  # space
    joints_2d = apply_affine(flip[:, :, None, :2], labels.joints_2d)
    bbox = mirror_bbox(old.bbox, width[..., None, None]) * is_box(old.bbox)[..., None]
    return Annotations(
        camera=replace(
            old.camera,
            intrinsics=flip @ K @ mirror[:3, :3],
            cam_from_world=mirror @ old.camera.cam_from_world @ mirror,
        ),
        labels=replace(
            labels,
            hands=mirror_hands(labels.hands),
            joints=mirror_points(labels.joints),
            joints_2d=joints_2d * labels.joints_2d_valid[..., None],
        ),
        bbox=bbox.flip(_SIDES_DIM),
        image_from_stored=compose(flip[..., :2, :], old.image_from_stored),
    )


def jitter_bbox(change: ClipChange, bbox: Tensor) -> Tensor:
    """Cut, move and scale boxes (B, T, S, 4), alike in all frames of a clip."""
    low, high = change.cut[:, None].split(2, dim=-1)
    size = bbox[..., 2:] * (1 - low - high)
    centre = bbox[..., :2] + bbox[..., 2:] * (low - high) / 2 + change.box_shift[:, None] * size
    return torch.cat((centre, size * change.box_scale[:, None, :, None]), -1)


def is_box(bbox: Tensor) -> Tensor:
    """(...) bool: whether there is a box (..., 4) at all."""
    return (bbox[..., 2:] > 0).all(-1)


def _turn_bbox(affine: Tensor, bbox: Tensor) -> Tensor:
    """Boxes (B, T, S, 4) after (B, T, 2, 3): of the ellipse that fills the old box, hand-like.

    The box of the turned corners would grow with every turn, and training would see looser boxes
    than evaluation.
    """
    centre = apply_affine(affine, bbox[..., :2])
    size = (bbox[..., 2:].square() @ affine[..., :2].square().mT).sqrt()
    return torch.cat((centre, size), -1) * is_box(bbox)[..., None]


def _homogeneous(rotation: Tensor) -> Tensor:
    """(..., 3, 3) to (..., 4, 4)."""
    transform = torch.eye(4).repeat(*rotation.shape[:-2], 1, 1)
    transform[..., :3, :3] = rotation
    return transform


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """The affine (..., 2, 3) that does `inner`, then `outer`."""
    linear = outer[..., :2] @ inner[..., :2]
    offset = outer[..., :2] @ inner[..., 2:] + outer[..., 2:]
    return torch.cat((linear, offset), -1)


def _choose(mask: Tensor, chosen: Annotations, other: Annotations) -> Annotations:
    """Per clip (B,), one or the other."""
    others = iter(_tensors(other))
    return chosen.map(
        lambda tensor: torch.where(mask.view(-1, *[1] * (tensor.ndim - 1)), tensor, next(others))
    )


def _tensors(struct: TensorStruct) -> list[Tensor]:
    """All tensors, in the order in which `map` visits them."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    struct.map(keep)
    return found
