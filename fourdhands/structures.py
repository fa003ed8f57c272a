"""Every typed thing that flows through the program.

Legend of dimensions, used throughout the project:

    B clips   T frames   S = 2 sides (0 right, 1 left)   J = 21 joints   V = 778 vertices

Metres, seconds, pixels. The camera frame is OpenCV's (x right, y down, z forward); pixel centres
lie at integer coordinates. Rotations are matrices. A missing label is zeros with a False in its
mask.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import kl_div

from fourdhands.skeleton import Side


@dataclass(frozen=True)
class TensorStruct:
    """Base of the tensor dataclasses: maps functions over all tensors, however nested."""

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Return a copy with `function` applied to every tensor; None and metadata stay."""

        def apply(value: Any) -> Any:
            if isinstance(value, Tensor):
                return function(value)
            return value.map(function) if isinstance(value, TensorStruct) else value

        return replace(self, **{f.name: apply(getattr(self, f.name)) for f in fields(self)})

    def to(self, device: torch.device | str) -> Self:
        """Copy to `device`; only the way to an accelerator need not be waited for."""
        away = torch.device(device).type != "cpu"
        return self.map(lambda tensor: tensor.to(device, non_blocking=away))

    def pin_memory(self) -> Self:
        """Copy to page-locked memory, from where `to` can copy in the background."""
        return self.map(Tensor.pin_memory)

    def detach(self) -> Self:
        """Cut every tensor from the autograd graph."""
        return self.map(Tensor.detach)

    @classmethod
    def cat(cls, parts: Sequence[Self], dim: int = 0) -> Self:
        """Join alike structures along a dimension of every tensor; metadata is the first one's."""

        def join(values: list[Any]) -> Any:
            if isinstance(values[0], Tensor):
                return torch.cat(values, dim)
            return values[0].cat(values, dim) if isinstance(values[0], TensorStruct) else values[0]

        names = [field.name for field in fields(cls)]
        return replace(parts[0], **{n: join([getattr(p, n) for p in parts]) for n in names})

    def __getitem__(self, index: Any) -> Self:
        """Index the leading dimensions of every tensor alike."""
        return self.map(lambda tensor: tensor[index])


@dataclass(frozen=True)
class HandState(TensorStruct):
    """MANO parameters of both hands: network output, label, refinement variable and file alike.

    Attributes:
        global_orient: (..., S, 3, 3) wrist rotation, camera frame.
        hand_pose: (..., S, 15, 3, 3) absolute finger rotations (MANO's mean pose included).
        betas: (..., S, 10) shape.
        transl: (..., S, 3) metres, added to MANO's posed mesh, camera frame.
    """

    global_orient: Tensor
    hand_pose: Tensor
    betas: Tensor
    transl: Tensor


@dataclass(frozen=True)
class HandGeometry(TensorStruct):
    """What a hand model makes of a `HandState`: camera frame, metres.

    Attributes:
        joints: (..., S, J, 3).
        vertices: (..., S, V, 3).
    """

    joints: Tensor
    vertices: Tensor

    @property
    def root(self) -> Tensor:
        """(..., S, 3) wrists."""
        return self.joints[..., 0, :]

    def relative_to_root(self) -> "HandGeometry":
        """Each hand relative to its own wrist."""
        root = self.root[..., None, :]
        return HandGeometry(joints=self.joints - root, vertices=self.vertices - root)


def left_from_right_root(joints: Tensor) -> Tensor:
    """`upsilon`, left wrist minus right wrist: (..., S, J, 3) joints to (..., 3) metres."""
    return joints[..., Side.LEFT, 0, :] - joints[..., Side.RIGHT, 0, :]


@dataclass(frozen=True)
class Camera(TensorStruct):
    """A pinhole camera of the full image.

    Attributes:
        intrinsics: (..., 3, 3) pixels of the full image.
        image_size: (..., 2) width, height.
        cam_from_world: (..., 4, 4) OpenCV extrinsics.
    """

    intrinsics: Tensor
    image_size: Tensor
    cam_from_world: Tensor


@dataclass(frozen=True)
class Labels(TensorStruct):
    """Ground truth of a clip, with masks for what is missing.

    Attributes:
        hands: MANO parameters; hands_valid (..., S) says where rotations are known, betas_valid
            (..., S) where the shape is, too, so that there is a mesh.
        roots_valid: (..., S) where a hand's place is known: its `transl`, and joints that are more
            than relative to the wrist.
        joints: (..., S, J, 3) camera frame; joints_valid (..., S, J).
        joints_2d: (..., S, J, 2) pixels of the full image; joints_2d_valid (..., S, J).
        is_hand: (..., S) bool; False where the box was put away from every hand on purpose.
    """

    hands: HandState
    hands_valid: Tensor
    betas_valid: Tensor
    roots_valid: Tensor
    joints: Tensor
    joints_valid: Tensor
    joints_2d: Tensor
    joints_2d_valid: Tensor
    is_hand: Tensor


@dataclass(frozen=True)
class ClipMeta:
    """Where a clip comes from; plain Python, one per clip."""

    dataset: str
    key: str
    sequence: str
    camera: str
    fps: float
    frame_ids: tuple[int, ...]

    @property
    def name(self) -> str:
        """No other clip has it, in this data set or another."""
        return "/".join((self.dataset, self.sequence, self.camera, self.key))


@dataclass(frozen=True)
class ClipBatch(TensorStruct):
    """A batch of clips as the network sees them.

    Attributes:
        crops: uint8 (B, T, S, 3, h, w) RGB; left crops are mirrored, so all show right hands.
        bbox: (B, T, S, 4) region each crop shows: centre x, y and size x, y in full-image pixels.
        camera: of the full image, dimensions (B, T).
        hand_present: (B, T, S) bool; an absent hand's crop and box are never looked at.
        frame_valid: (B, T) bool; False pads a clip.
        times: (B, T) seconds.
        labels: dimensions (B, T), or None.
        meta: one `ClipMeta` per clip.
    """

    crops: Tensor
    bbox: Tensor
    camera: Camera
    hand_present: Tensor
    frame_valid: Tensor
    times: Tensor
    labels: Labels | None
    meta: tuple[ClipMeta, ...] = ()

    @property
    def crop_size(self) -> tuple[int, int]:
        """Height and width of the crops."""
        return self.crops.shape[-2], self.crops.shape[-1]

    def at_slot(self, slot: int) -> "ClipBatch":
        """One frame of each clip, (B, 1)."""
        return self.slots(slot, slot + 1)

    def slots(self, start: int, stop: int) -> "ClipBatch":
        """Some frames of each clip, (B, stop - start)."""
        meta = tuple(replace(one, frame_ids=one.frame_ids[start:stop]) for one in self.meta)
        return replace(self[:, start:stop], meta=meta)

    @property
    def hand_visible(self) -> Tensor:
        """(B, T, S) bool: a present hand in a valid frame."""
        return self.hand_present & self.frame_valid[..., None]

    @property
    def visible_bbox(self) -> Tensor:
        """(B, T, S, 4) `bbox`, and the whole image where no hand is visible."""
        size = self.camera.image_size
        image = torch.cat(((size - 1) / 2, size), -1)[..., None, :]
        return torch.where(self.hand_visible[..., None], self.bbox, image)


@dataclass(frozen=True)
class AxisLogits(TensorStruct):
    """2D joints of crops as distributions over bins of each axis (SimCC, DaHyF).

    Attributes:
        x: (..., J, bins) over the width of the (mirrored) crop.
        y: (..., J, bins) over its height.
    """

    x: Tensor
    y: Tensor

    def joints(self) -> Tensor:
        """Mean places (..., J, 2), -0.5 to 0.5 over the crop's width and height."""
        return torch.stack([_mean_place(logits) for logits in (self.x, self.y)], -1)

    def deviations(self) -> Tensor:
        """Standard deviations (..., J, 2) of the distributions, parts of the width and height."""
        return torch.stack([_deviation(logits) for logits in (self.x, self.y)], -1)

    def divergence(self, joints: Tensor, sigma: Tensor) -> Tensor:
        """KL divergence (..., J) from Gaussians about (..., J, 2) of deviation `sigma` (2,)."""
        per_axis = [
            _divergence(logits, _log_gaussian(logits.shape[-1], joints[..., i], sigma[i]))
            for i, logits in enumerate((self.x, self.y))
        ]
        return torch.stack(per_axis, -1).mean(-1)


@dataclass(frozen=True)
class CellLogits(TensorStruct):
    """2D joints of crops as distributions over the cells of a map (heatmaps).

    Attributes:
        cells: (..., J, rows, columns) over the (mirrored) crop.
    """

    cells: Tensor

    def joints(self) -> Tensor:
        """Mean places (..., J, 2), -0.5 to 0.5 over the crop's width and height."""
        return self._axes().joints()

    def deviations(self) -> Tensor:
        """Standard deviations (..., J, 2), parts of the width and height."""
        return self._axes().deviations()

    def _axes(self) -> AxisLogits:
        return AxisLogits(x=self.cells.logsumexp(-2), y=self.cells.logsumexp(-1))

    def divergence(self, joints: Tensor, sigma: Tensor) -> Tensor:
        """KL divergence (..., J) from Gaussians about (..., J, 2) of deviation `sigma` (2,)."""
        rows, columns = self.cells.shape[-2:]
        x = _log_gaussian(columns, joints[..., 0], sigma[0])
        y = _log_gaussian(rows, joints[..., 1], sigma[1])
        return _divergence(self.cells.flatten(-2), (y[..., None] + x[..., None, :]).flatten(-2))


JointLogits = AxisLogits | CellLogits


def _bin_places(bins: int, device: torch.device) -> Tensor:
    """Middles of the bins, -0.5 to 0.5 over the whole side."""
    return (torch.arange(bins, device=device) + 0.5) / bins - 0.5


def _mean_place(logits: Tensor) -> Tensor:
    return logits.softmax(-1) @ _bin_places(logits.shape[-1], logits.device)


def _deviation(logits: Tensor) -> Tensor:
    places = _bin_places(logits.shape[-1], logits.device)
    off = (places - _mean_place(logits)[..., None]).square()
    return (logits.softmax(-1) * off).sum(-1).sqrt()


def _log_gaussian(bins: int, place: Tensor, sigma: Tensor) -> Tensor:
    """Log of a Gaussian in bins that sum to one: (...) to (..., bins)."""
    distance = (_bin_places(bins, place.device) - place[..., None]) / sigma
    return (-distance.square() / 2).log_softmax(-1)


def _divergence(logits: Tensor, log_target: Tensor) -> Tensor:
    return kl_div(logits.log_softmax(-1), log_target, reduction="none", log_target=True).sum(-1)


@dataclass(frozen=True)
class FrameFeatures(TensorStruct):
    """What the network takes from each frame by itself; a stream keeps it.

    Attributes:
        hands: (B, T, S, D), zeros where a hand is not visible.
        joint_logits: 2D joints of the crops, or None if the network has no 2D branch.
    """

    hands: Tensor
    joint_logits: JointLogits | None


@dataclass(frozen=True)
class Predictions(TensorStruct):
    """What the network says of a `ClipBatch`; dimensions (B, T).

    Attributes:
        hands: both hands in the camera frame (true left and right).
        crop_camera: (B, T, S, 3) weak perspective (s, t_x, t_y) of each (mirrored) crop.
        rotations_6d: (B, T, S, 16, 6) rotations as each (mirrored) crop shows them, wrist first,
            before they are made orthonormal; what the pose loss compares.
        upsilon: (B, T, 3) left wrist minus right wrist, metres, camera frame.
        joint_logits: 2D joints of each (mirrored) crop; None without a 2D branch.
    """

    hands: HandState
    crop_camera: Tensor
    rotations_6d: Tensor
    upsilon: Tensor
    joint_logits: JointLogits | None = None
