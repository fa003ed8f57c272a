"""How benchmarks lay a prediction over the truth before they measure, by the names they print.

Each is a function from a `Pair` to the points that are compared: joints, or vertices. What is not
labelled may come out as anything; masks decide what counts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from fourdhands.evaluation.samples import HandSamples, Pair
from fourdhands.geometry.alignment import procrustes_align
from fourdhands.skeleton import WRIST, Side

Points = Literal["joints", "vertices"]
MIDDLE: Final = 9
"""First joint of the middle finger: IntagHand's root, and the end of the bone that sets scales."""


@dataclass(frozen=True)
class Compared:
    """Points of N images laid over each other.

    Attributes:
        predicted: (N, S, K, 3); of other things than points (N, S, K, any number).
        true: alike.
        valid: (N, S, K) bool, which count.
    """

    predicted: Tensor
    true: Tensor
    valid: Tensor

    @property
    def errors(self) -> Tensor:
        """(N, S, K) distances, 0 where nothing counts."""
        return torch.where(self.valid, (self.predicted - self.true).norm(dim=-1), 0.0)


Alignment = Callable[[Pair, Points], Compared]


def absolute(pair: Pair, points: Points) -> Compared:
    """As predicted, in the camera's frame."""
    return Compared(
        _points(pair.predicted, points), _points(pair.true, points), _valid(pair, points)
    )


def root_relative(pair: Pair, points: Points, root: int = WRIST) -> Compared:
    """Each hand relative to its root joint; hands whose root is not labelled do not count."""
    found = absolute(pair, points)
    return Compared(
        found.predicted - _joint(pair.predicted, root),
        found.true - _joint(pair.true, root),
        found.valid & pair.true.joints_valid[..., root, None],
    )


def bone_scaled(pair: Pair, points: Points, root: int = MIDDLE, other: int = WRIST) -> Compared:
    """Relative to a root joint, and scaled so that one bone has its true length (IntagHand).

    A hand whose bone was predicted with no length is left as it is.
    """
    found = root_relative(pair, points, root)
    ratio = _bone(pair.true, root, other) / _bone(pair.predicted, root, other)
    ratio = torch.where(ratio.isfinite(), ratio, 1.0)
    known = pair.true.joints_valid[..., other, None]
    return Compared(found.predicted * ratio[..., None, None], found.true, found.valid & known)


def scale_translation(pair: Pair, points: Points) -> Compared:
    """HO3D's: scaled by the bone from wrist to middle finger, then wrist laid upon wrist.

    A hand predicted as a point is scaled by the true bone's length, as the official program does.
    """
    found = root_relative(pair, points)
    length = _bone(pair.predicted, MIDDLE, WRIST)
    scale = _bone(pair.true, MIDDLE, WRIST) / torch.where(length > 0, length, 1.0)
    moved = found.predicted * scale[..., None, None] + _joint(pair.true, WRIST)
    return Compared(moved, _points(pair.true, points), found.valid)


def similarity(pair: Pair, points: Points, *, reflections: bool = False) -> Compared:
    """The best rotation, scale and shift of each hand; of a mesh by its own vertices.

    With reflections it is the Procrustes analysis of FreiHAND, HO3D and DexYCB, which lays a
    mirrored hand upon the truth.
    """
    found = absolute(pair, points)
    aligned = procrustes_align(found.predicted, found.true, found.valid, reflections=reflections)
    enough = found.valid.sum(-1, keepdim=True) >= 3
    return Compared(aligned, found.true, found.valid & enough)


def back_projected(pair: Pair, points: Points) -> Compared:
    """InterNet's: pixels of the prediction at the true wrist's depth, relative to the wrist.

    A prediction there is a pixel and a depth relative to the wrist; the wrist's own depth is taken
    from the truth, so that errors of it do not count.
    """
    found = absolute(pair, points)
    predicted_wrist, true_wrist = _joint(pair.predicted, WRIST), _joint(pair.true, WRIST)
    depth = found.predicted[..., 2:] - predicted_wrist[..., 2:] + true_wrist[..., 2:]
    moved = at_depth(found.predicted, depth)
    moved_wrist = at_depth(predicted_wrist, true_wrist[..., 2:])
    valid = found.valid & pair.true.joints_valid[..., WRIST, None]
    return Compared(moved - moved_wrist, found.true - true_wrist, valid)


def at_depth(points: Tensor, depth: Tensor) -> Tensor:
    """Move points (..., 3) along their line of sight to a depth (..., 1)."""
    return torch.cat((points[..., :2] / points[..., 2:] * depth, depth), -1)


def _points(samples: HandSamples, points: Points) -> Tensor:
    return samples.joints if points == "joints" else samples.vertices


def _valid(pair: Pair, points: Points) -> Tensor:
    if points == "joints":
        return pair.true.joints_valid
    return pair.true.vertices_valid[..., None].expand(pair.true.vertices.shape[:-1])


def _joint(samples: HandSamples, joint: int) -> Tensor:
    """(N, S, 1, 3)."""
    return samples.joints[..., joint, None, :]


def _bone(samples: HandSamples, first: int, second: int) -> Tensor:
    """(N, S) length."""
    return (samples.joints[..., first, :] - samples.joints[..., second, :]).norm(dim=-1)


# ---- pairs of hands, kinds of images, time -------------------------------------------------------


def between_wrists(pair: Pair, points: Points = "joints") -> Compared:
    """The vector from the right wrist to the left, where both are labelled: (N, 1, 1, 3)."""

    def offset(samples: HandSamples) -> Tensor:
        wrists = samples.joints[:, :, WRIST]
        return (wrists[:, Side.LEFT] - wrists[:, Side.RIGHT])[:, None, None]

    valid = pair.true.joints_valid[..., WRIST].all(-1)[:, None, None]
    return Compared(offset(pair.predicted), offset(pair.true), valid)


def between_back_projected_wrists(pair: Pair, points: Points = "joints") -> Compared:
    """InterNet's: the right wrist at its true depth, the left as much deeper as predicted."""
    wrists, true = pair.predicted.joints[:, :, WRIST], pair.true.joints[:, :, WRIST]
    right_depth = true[:, Side.RIGHT, 2:]
    left_depth = right_depth + wrists[:, Side.LEFT, 2:] - wrists[:, Side.RIGHT, 2:]
    right = at_depth(wrists[:, Side.RIGHT], right_depth)
    left = at_depth(wrists[:, Side.LEFT], left_depth)
    found = (left - right)[:, None, None]
    expected = (true[:, Side.LEFT] - true[:, Side.RIGHT])[:, None, None]
    both = pair.true.joints_valid[..., WRIST].all(-1) & pair.interacting
    return Compared(found, expected, both[:, None, None])


def handedness_hits(pair: Pair, points: Points = "joints") -> Compared:
    """1 for images of which both hands are told rightly, present or absent; 0 for others."""
    told = (pair.predicted.handedness > 0.5) == (pair.true.handedness > 0.5)
    hit = told.all(-1).double()[:, None, None, None]
    return Compared(hit, torch.zeros_like(hit), torch.ones_like(hit[..., 0], dtype=torch.bool))


def accelerations(
    pair: Pair, points: Points, *, of: Alignment = root_relative, per_frame: bool = False
) -> Compared:
    """Second differences of points over three frames that follow each other.

    Args:
        pair: N images in order.
        points: joints or vertices.
        of: what is differentiated.
        per_frame: m/frame^2, whatever a frame lasts, and not m/s^2.

    Returns:
        (N - 2, S, K, 3) of the middle frames.
    """
    found = of(pair, points)
    rate = 1.0 if per_frame else pair.true.fps[1:-1].square()[:, None, None, None]
    follow = (pair.true.sequence.diff() == 0) & (pair.true.frame.diff() == 1)
    follow = (follow[1:] & follow[:-1])[:, None, None]
    valid = found.valid[:-2] & found.valid[1:-1] & found.valid[2:] & follow
    predicted, true = (x.diff(n=2, dim=0) * rate for x in (found.predicted, found.true))
    return Compared(predicted, true, valid)


def in_image(pair: Pair, points: Points = "joints") -> Compared:
    """Joints in pixels of the full image, where the prediction has any: (N, S, J, 2)."""
    valid = pair.true.joints_2d_valid & pair.predicted.joints_2d_valid
    return Compared(pair.predicted.joints_2d, pair.true.joints_2d, valid)
