"""How far predictions are from the truth, element by element; metrics average what is here.

Each function returns one error per joint, vertex, frame or triple of frames, with a mask of those
that count: from a `Comparison` (a batch) what can be said of single frames, from `FrameErrors`
(whole clips, however they were cut into windows) what needs neighbours in time. Batched over
everything; float64, so that sums do not depend on the cut. Units are metres, pixels and m/s^2.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fourdhands.geometry.alignment import procrustes_align
from fourdhands.geometry.camera import project
from fourdhands.geometry.crop import points_at_places
from fourdhands.geometry.rotation import geodesic_distance
from fourdhands.skeleton import NUM_JOINTS, NUM_SIDES, WRIST, Side
from fourdhands.structures import (
    ClipBatch,
    ClipMeta,
    HandGeometry,
    Labels,
    Predictions,
    TensorStruct,
)

MIN_ALIGNED_JOINTS = 3
"""A similarity fitted to fewer points than this says nothing about the pose."""


@dataclass(frozen=True)
class MaskedErrors(TensorStruct):
    """Errors and which of them count.

    Attributes:
        values: (B, ...) not negative; anything where the mask is False.
        mask: (B, ...) bool.
    """

    values: Tensor
    mask: Tensor

    def scaled(self, factor: float) -> "MaskedErrors":
        """Change the unit."""
        return MaskedErrors(self.values * factor, self.mask)

    def sums(self, keep: int = 0) -> tuple[Tensor, Tensor]:
        """Sum of the errors that count, and their number, over all but the first dimensions.

        Args:
            keep: how many leading dimensions stay.

        Returns:
            Sums (float64) and counts (int64).
        """
        counted = torch.where(self.mask, self.values, 0.0).double()
        dims = tuple(range(keep, counted.ndim))
        return (counted.sum(dims), self.mask.sum(dims)) if dims else (counted, self.mask.long())


@dataclass(frozen=True)
class Comparison:
    """Prediction beside truth. Dimensions (B, T); everything real is float64.

    Attributes:
        predicted: geometry of the predicted hands.
        true: geometry of the labelled hands; only its vertices and its own root are used.
        global_orient: (B, T, S, 3, 3) predicted, camera frame.
        direct_2d: (B, T, S, J, 2) joints of the 2D branch, pixels; None without one.
        upsilon: (B, T, 3) predicted left wrist minus right wrist.
        labels: the truth.
        intrinsics: (B, T, 3, 3).
        visible: (B, T, S) hands that were asked for.
        frame_valid: (B, T) frames that are not padding.
        frame: (B, T) int64 number of the frame in its clip.
        clip: (B,) int64, see `clip_number`.
        fps: (B,) frame rate of each clip's data.
        root: joint that root-relative errors are relative to.
    """

    predicted: HandGeometry
    true: HandGeometry
    global_orient: Tensor
    direct_2d: Tensor | None
    upsilon: Tensor
    labels: Labels
    intrinsics: Tensor
    visible: Tensor
    frame_valid: Tensor
    frame: Tensor
    clip: Tensor
    fps: Tensor
    root: int = WRIST

    @classmethod
    def of(
        cls,
        predictions: Predictions,
        geometry: HandGeometry,
        batch: ClipBatch,
        true_geometry: HandGeometry,
        *,
        root: int = WRIST,
    ) -> "Comparison":
        """Put together what a predictor said of a batch and what is true.

        Args:
            predictions: of the batch.
            geometry: the hand model's, of `predictions.hands`.
            batch: with labels and with one `ClipMeta` a clip.
            true_geometry: the hand model's, of `batch.labels.hands`.
            root: joint that root-relative errors are relative to.

        Raises:
            ValueError: the batch has no labels, or not one `ClipMeta` a clip.
        """
        if batch.labels is None:
            raise ValueError("the batch has no labels, nothing to compare with")
        if len(batch.meta) != len(batch.times):
            raise ValueError(
                f"the batch has {len(batch.times)} clips but {len(batch.meta)} ClipMeta; "
                "each clip needs its own, for its name and its frame rate"
            )
        logits = predictions.joint_logits
        fps = torch.tensor([meta.fps for meta in batch.meta]).to(batch.times).double()
        return cls(
            predicted=geometry.map(Tensor.double),
            true=true_geometry.map(Tensor.double),
            global_orient=predictions.hands.global_orient.double(),
            direct_2d=(
                None if logits is None else points_at_places(logits.joints(), batch.bbox).double()
            ),
            upsilon=predictions.upsilon.double(),
            labels=batch.labels.map(_real_to_double),
            intrinsics=batch.camera.intrinsics.double(),
            visible=batch.hand_visible,
            frame_valid=batch.frame_valid,
            frame=(batch.times.double() * fps[:, None]).round().long(),
            clip=torch.tensor(list(map(clip_number, batch.meta)), device=batch.times.device),
            fps=fps,
            root=root,
        )

    @cached_property
    def joints_valid(self) -> Tensor:
        """(B, T, S, J) labelled joints of visible hands."""
        return self.labels.joints_valid & self.visible[..., None]

    @cached_property
    def relative_joints_valid(self) -> Tensor:
        """(B, T, S, J) those whose root is labelled too."""
        return self.joints_valid & self.joints_valid[..., self.root, None]

    @cached_property
    def relative_joints_error(self) -> Tensor:
        """(B, T, S, J, 3) predicted minus true joints, each relative to its own root."""
        true = self.labels.joints
        return _relative(self.predicted.joints, self.root) - _relative(true, self.root)


# ---- of single frames ----------------------------------------------------------------------------


def relative_joint_errors(c: Comparison) -> MaskedErrors:
    """Root-relative joints, metres: (B, T, S, J). The root itself counts, with error 0."""
    return MaskedErrors(c.relative_joints_error.norm(dim=-1), c.relative_joints_valid)


def aligned_joint_errors(c: Comparison) -> MaskedErrors:
    """Joints of each hand after the best similarity (proper rotation), metres: (B, T, S, J)."""
    aligned = procrustes_align(c.predicted.joints, c.labels.joints, c.joints_valid)
    enough = c.joints_valid.sum(-1, keepdim=True) >= MIN_ALIGNED_JOINTS
    return MaskedErrors((aligned - c.labels.joints).norm(dim=-1), c.joints_valid & enough)


def relative_vertex_errors(c: Comparison) -> MaskedErrors:
    """Vertices relative to the root joint of their own mesh, metres: (B, T, S, V)."""
    predicted = c.predicted.vertices - c.predicted.joints[..., c.root, None, :]
    true = c.true.vertices - c.true.joints[..., c.root, None, :]
    error = (predicted - true).norm(dim=-1)
    valid = c.labels.hands_valid & c.labels.betas_valid & c.visible
    return MaskedErrors(error, valid[..., None].expand(error.shape))


def root_offset_errors(c: Comparison) -> MaskedErrors:
    """The vector from right root to left root, metres: (B, T), frames with both roots labelled.

    The prediction is `upsilon`; for a root other than the wrist, each hand's own vector from wrist
    to root is added.
    """
    offset = c.predicted.joints[..., c.root, :] - c.predicted.joints[..., WRIST, :]
    predicted = c.upsilon + offset[..., Side.LEFT, :] - offset[..., Side.RIGHT, :]
    roots = c.labels.joints[..., c.root, :]
    true = roots[..., Side.LEFT, :] - roots[..., Side.RIGHT, :]
    valid = c.joints_valid[..., c.root] & c.labels.roots_valid
    return MaskedErrors((predicted - true).norm(dim=-1), valid.all(-1))


def image_errors(c: Comparison) -> MaskedErrors:
    """Joints projected into the full image, pixels: (B, T, S, J)."""
    projected = project(c.predicted.joints, c.intrinsics[..., None, :, :])
    error = (projected - c.labels.joints_2d).norm(dim=-1)
    return MaskedErrors(error, c.labels.joints_2d_valid & c.visible[..., None])


def direct_image_errors(c: Comparison) -> MaskedErrors:
    """Joints of the 2D branch, pixels of the full image: (B, T, S, J); none without a branch."""
    true, valid = c.labels.joints_2d, c.labels.joints_2d_valid & c.visible[..., None]
    if c.direct_2d is None:
        return MaskedErrors(torch.zeros_like(true[..., 0]), torch.zeros_like(valid))
    return MaskedErrors((c.direct_2d - true).norm(dim=-1), valid)


def orientation_errors(c: Comparison) -> MaskedErrors:
    """Angle between predicted and true orientation in the camera's frame, radians: (B, T, S)."""
    true = c.labels.hands.global_orient
    valid = c.labels.hands_valid & c.visible
    identity = torch.eye(3).to(true)
    true = torch.where(valid[..., None, None], true, identity)
    return MaskedErrors(geodesic_distance(c.global_orient, true), valid)


# ---- along time ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class FrameErrors(TensorStruct):
    """Root-relative joint errors of N frames of any clips.

    Attributes:
        clip: (N,) int64, see `clip_number`.
        frame: (N,) int64 number of the frame in its clip; neighbours differ by 1.
        fps: (N,) frame rate.
        error: (N, S, J, 3) predicted minus true, metres.
        valid: (N, S, J) bool.
    """

    clip: Tensor
    frame: Tensor
    fps: Tensor
    error: Tensor
    valid: Tensor

    @classmethod
    def of(cls, c: Comparison) -> "FrameErrors":
        """The frames of a batch, without padding."""
        return cls(
            clip=c.clip[:, None].expand(c.frame.shape)[c.frame_valid],
            frame=c.frame[c.frame_valid],
            fps=c.fps[:, None].expand(c.frame.shape)[c.frame_valid],
            error=c.relative_joints_error[c.frame_valid],
            valid=c.relative_joints_valid[c.frame_valid],
        )

    @classmethod
    def none(cls) -> "FrameErrors":
        """No frames."""
        number = torch.zeros(0, dtype=torch.int64)
        points = torch.zeros(0, NUM_SIDES, NUM_JOINTS, 3, dtype=torch.float64)
        return cls(number, number, number.double(), points, points[..., 0].bool())

    def in_order(self) -> "FrameErrors":
        """Sort by clip, and by time in each clip.

        Raises:
            ValueError: a frame comes twice.
        """
        frames = self[self.frame.argsort(stable=True)]
        frames = frames[frames.clip.argsort(stable=True)]
        if ((frames.clip.diff() == 0) & (frames.frame.diff() == 0)).any():
            raise ValueError(
                "a frame came twice: give each frame of the data once, and no two clips of a data "
                "set the same sequence, camera and key"
            )
        return frames


def clip_number(meta: ClipMeta) -> int:
    """A number that stands for a clip, the same in every process."""
    digest = hashlib.blake2b(meta.name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def acceleration_errors_per_frame(frames: FrameErrors) -> MaskedErrors:
    """Second difference over time of the root-relative joints, metres/frame^2: (N - 2, S, J).

    A triple counts if its joint is valid in all three frames and the frames follow each other in
    one clip, in whichever windows they were predicted.

    Args:
        frames: in order.
    """
    # differences are linear: the error of the acceleration is the acceleration of the error
    error = frames.error.diff(n=2, dim=0).norm(dim=-1)
    follows = (frames.clip.diff() == 0) & (frames.frame.diff() == 1)
    follows = (follows[1:] & follows[:-1])[:, None, None]
    valid = frames.valid
    return MaskedErrors(error, valid[:-2] & valid[1:-1] & valid[2:] & follows)


def acceleration_errors(frames: FrameErrors) -> MaskedErrors:
    """The same in m/s^2, each clip by its own frame rate: (N - 2, S, J)."""
    errors = acceleration_errors_per_frame(frames)
    rate = frames.fps[: len(errors.values), None, None]
    return MaskedErrors(errors.values * rate.square(), errors.mask)


def _relative(joints: Tensor, root: int) -> Tensor:
    return joints - joints[..., root, None, :]


def _real_to_double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor
