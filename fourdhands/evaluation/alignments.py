"""How benchmarks lay a prediction over the truth before they measure, by the names they print.

Each is a function from a `Pair` to the points that are compared: joints, or vertices. What is not
labelled may come out as anything; masks decide what counts.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor

from fourdhands.evaluation.samples import HandSamples, Pair
from fourdhands.geometry.alignment import procrustes_align
from fourdhands.skeleton import WRIST, Side

Points = Literal["joints", "vertices", "joints_2d"]
MIDDLE: Final = 9
"""First joint of the middle finger: IntagHand's root, and the end of the bone that sets scales."""


@dataclass(frozen=True)
class Compared:
    """Points of N images laid over each other.

    Attributes:
        predicted: (N, S, K, 3); of other things than points (N, S, K, any number), as pixels.
        true: alike.
        valid: (N, S, K) bool, which count.
    """

    predicted: Tensor
    true: Tensor
    valid: Tensor

    @cached_property
    def distances(self) -> Tensor:
        """(N, S, K), of what does not count, too."""
        return (self.predicted - self.true).norm(dim=-1)

    @cached_property
    def errors(self) -> Tensor:
        """(N, S, K) distances, 0 where nothing counts."""
        return torch.where(self.valid, self.distances, 0.0)

    def only(self, keep: Tensor) -> "Compared":
        """Leave out what is not to count: bool, of a shape that fits (N, S, K)."""
        chosen = replace(self, valid=self.valid & keep)
        chosen.__dict__["distances"] = self.distances  # they are the same; measured once
        return chosen


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
    length = torch.where(length > 0, length, 1.0)[..., None, None]
    true_length = _bone(pair.true, MIDDLE, WRIST)[..., None, None]

    def scaled(predicted: Tensor) -> Tensor:
        # in the program's order: of a perfect prediction, rounding decides what is within 0 mm
        return predicted / length * true_length

    wrist = scaled(_joint(pair.predicted, WRIST))
    moved = scaled(_points(pair.predicted, points)) - wrist + _joint(pair.true, WRIST)
    return Compared(moved, _points(pair.true, points), found.valid)


def similarity(
    pair: Pair, points: Points, *, reflections: bool = False, softening: float = 0.0
) -> Compared:
    """The best rotation, scale and shift of each hand; of a mesh by its own vertices.

    With reflections it is the Procrustes analysis of FreiHAND, HO3D and DexYCB, which lays a
    mirrored hand upon the truth, softened (see `procrustes_align`) by 1e-8 of the program's unit.
    That decides one digit: a hand that fits exactly misses the threshold 0 of their curves.
    """
    found = absolute(pair, points)
    enough = found.valid.sum(-1) >= 3
    aligned = torch.zeros_like(
        found.predicted
    )  # of hands that are there; half of them often is not
    aligned[enough] = procrustes_align(
        found.predicted[enough],
        found.true[enough],
        found.valid[enough],
        reflections=reflections,
        softening=softening,
    )
    return Compared(aligned, found.true, found.valid & enough[..., None])


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


def from_meshes(alignment: Alignment) -> Alignment:
    """The same with joints regressed from the meshes, of hands that have one.

    Where nobody has regressed any, joints stay those that truth and prediction bring.
    """

    def regressed(samples: HandSamples) -> HandSamples:
        if samples.mesh_joints is None:
            return samples
        valid = samples.vertices_valid[..., None].expand(samples.joints_valid.shape)
        return replace(samples, joints=samples.mesh_joints, joints_valid=valid)

    def aligned(pair: Pair, points: Points) -> Compared:
        both = replace(pair, predicted=regressed(pair.predicted), true=regressed(pair.true))
        return alignment(both, points)

    return aligned


def at_depth(points: Tensor, depth: Tensor) -> Tensor:
    """Move points (..., 3) along their line of sight to a depth (..., 1)."""
    return torch.cat((points[..., :2] / points[..., 2:] * depth, depth), -1)


def _points(samples: HandSamples, points: Points) -> Tensor:
    return {
        "joints": samples.joints,
        "vertices": samples.vertices,
        "joints_2d": samples.joints_2d,
    }[points]


def _valid(pair: Pair, points: Points) -> Tensor:
    if points == "joints":
        return pair.true.joints_valid
    if points == "joints_2d":
        return pair.true.joints_2d_valid
    return pair.true.vertices_valid[..., None].expand(pair.true.vertices.shape[:-1])


def _joint(samples: HandSamples, joint: int) -> Tensor:
    """(N, S, 1, 3)."""
    return samples.joints[..., joint, None, :]


def _bone(samples: HandSamples, first: int, second: int) -> Tensor:
    """(N, S) length."""
    x, y, z = (samples.joints[..., first, :] - samples.joints[..., second, :]).unbind(-1)
    squared = x * x + y * y + z * z
    return torch.from_numpy(np.sqrt(squared.numpy()))  # torch's may be wrong in the last bit


# ---- pairs of hands, kinds of images, time -------------------------------------------------------


def between_wrists(pair: Pair, points: Points = "joints") -> Compared:
    """The vector from the right wrist to the left, where both are labelled: (N, 1, 1, 3)."""

    def offset(samples: HandSamples) -> Tensor:
        wrists = samples.joints[:, :, WRIST]
        return (wrists[:, Side.LEFT] - wrists[:, Side.RIGHT])[:, None, None]

    valid = pair.true.joints_valid[..., WRIST].all(-1)[:, None, None]
    return Compared(offset(pair.predicted), offset(pair.true), valid)


def between_shown_wrists(pair: Pair, points: Points = "joints") -> Compared:
    """InterWild's on HIC: of all images that show both hands.

    The wrist of a hand that is not labelled counts as the origin, as a mesh of zeros gives it.
    """
    valid = pair.true.joints_valid[..., None]
    true = replace(
        pair.true,
        joints=torch.where(valid, pair.true.joints, 0.0),
        joints_valid=pair.interacting[:, None, None].expand(pair.true.joints_valid.shape),
    )
    return between_wrists(replace(pair, true=true), points)


def both_from_right_wrist(pair: Pair, points: Points) -> Compared:
    """Both hands relative to the right one's wrist, where both are labelled (InterWild's RRVE)."""
    found = absolute(pair, points)
    right = slice(Side.RIGHT, Side.RIGHT + 1)
    valid = found.valid & found.valid.any(-1).all(-1)[:, None, None]
    return Compared(
        found.predicted - _joint(pair.predicted, WRIST)[:, right],
        found.true - _joint(pair.true, WRIST)[:, right],
        valid & pair.true.joints_valid[:, right, WRIST, None],
    )


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


# ---- the image -----------------------------------------------------------------------------------


def in_image(pair: Pair, points: Points = "joints_2d") -> Compared:
    """Joints in pixels of the full image, where the prediction has any: (N, S, J, 2)."""
    found = absolute(pair, "joints_2d")
    return replace(found, valid=found.valid & pair.predicted.joints_2d_valid)


@dataclass(frozen=True)
class Detections(Compared):
    """Hands of persons, to be found in photographs of several persons: (N, S, J, 2) pixels.

    Attributes:
        image: (N,) int64, the photograph that each person is in.
        area: (N,) pixels^2 of each person.
        score: (N, S) how surely each hand was found.
        found: (N, S) whether it was found at all.
    """

    image: Tensor
    area: Tensor
    score: Tensor
    found: Tensor


def detections(pair: Pair, points: Points = "joints_2d") -> Detections:
    """COCO's: hands of the persons of an image, which `frame` numbers.

    Raises:
        ValueError: a labelled person has no area.
    """
    compared = absolute(pair, "joints_2d")
    lacking = compared.valid.flatten(1).any(1) & (pair.true.area <= 0)
    if lacking.any():
        name = pair.true.names[int(lacking.nonzero()[0])]
        raise ValueError(f"the truth has no area of {name!r}, which OKS needs; convert it anew")
    return Detections(
        **vars(compared),
        image=pair.true.frame,
        area=pair.true.area,
        score=pair.predicted.handedness,
        found=pair.predicted.joints_2d_valid.any(-1),
    )
