"""From what a data set says of its frames to clips of the schema, and how well it all agrees."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fourdhands.data.convert.conventions import Mano
from fourdhands.data.convert.records import (
    BadFrameError,
    Dataset,
    FrameRecord,
    HandRecord,
    Recording,
)
from fourdhands.data.schema import Clip
from fourdhands.geometry.camera import default_intrinsics, project
from fourdhands.geometry.crop import bbox_around
from fourdhands.hands.mano import HandModel, wrist_at_rest
from fourdhands.skeleton import NUM_BETAS, NUM_JOINTS, NUM_SIDES, NUM_VERTICES, WRIST, Side
from fourdhands.structures import HandGeometry, HandState

JPEG_QUALITY: Final = 95
"""Of images that are not jpgs in the download."""
FARTHEST: Final = 100.0
"""Metres; beyond it labels are taken for broken."""
HAND_LENGTH: Final = (0.02, 0.6)
"""Metres between the two joints of a hand that are farthest apart."""
LARGEST_BETA: Final = 30.0
SMALLEST_BOX: Final = 2.0
"""Pixels; hands that show less than this of themselves have no box."""
_JPEG: Final = b"\xff\xd8\xff"
_END_OF_JPEG: Final = b"\xff\xd9"
_DECODE: Final = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION

# Of each side: shape of a label, and how far from zero it may be.
_LABELS: Final[dict[str, tuple[tuple[int, ...], float]]] = {
    "joints": ((NUM_JOINTS, 3), FARTHEST),
    "joints_2d": ((NUM_JOINTS, 2), 1e5),
    "global_orient": ((3, 3), 1.001),
    "hand_pose": ((15, 3, 3), 1.001),
    "betas": ((NUM_BETAS,), LARGEST_BETA),
    "transl": ((3,), FARTHEST),
    "vertices": ((NUM_VERTICES, 3), FARTHEST),
    "bbox": ((4,), 1e5),
}


@dataclass(frozen=True)
class Frame:
    """A checked frame.

    Attributes:
        jpg: encoded.
        size: width, height.
        labels: arrays (S, ...) by the names of `HandRecord`, zeros where unknown.
        known: (S,) by the same names.
        intrinsics: (3, 3), or None if unknown.
        cam_from_world: (4, 4).
        shown: (S,) bool, or None; see `FrameRecord`, as for the next.
        person_area: pixels^2, or None.
    """

    jpg: bytes
    size: tuple[int, int]
    labels: dict[str, NDArray[Any]]
    known: dict[str, NDArray[np.bool_]]
    intrinsics: NDArray[np.float64] | None
    cam_from_world: NDArray[np.float64]
    shown: NDArray[np.bool_] | None
    person_area: np.float32 | None


@dataclass(frozen=True)
class Run:
    """Frames that become one clip.

    Attributes:
        key: of the clip.
        recording: that they are of.
        numbers: of the frames.
        frames: at least one, all of one size.
    """

    key: str
    recording: Recording
    numbers: tuple[int, ...]
    frames: Sequence[Frame]


@dataclass(frozen=True)
class Residuals:
    """How far labels of N frames disagree, (N, S) as shares of the hand's size; NaN if unknown.

    Attributes:
        mesh_to_image: projected joints of the MANO parameters from the 2D labels, by the box.
        joints_to_image: projected 3D joints from the 2D labels, by the box.
        mesh_to_joints: joints of the parameters from the 3D joints, both relative to the wrist.
        other_left_to_joints: the same with the left hand that the set is not said to use.
    """

    mesh_to_image: NDArray[np.float64]
    joints_to_image: NDArray[np.float64]
    mesh_to_joints: NDArray[np.float64]
    other_left_to_joints: NDArray[np.float64]


def check_frame(record: FrameRecord) -> Frame:
    """Make sure that a frame can be used.

    Raises:
        BadFrameError: it cannot.
    """
    jpg, size = _as_jpg(record.image)
    if record.size not in (None, size):
        raise BadFrameError("the image is not of the size that its labels were made for")
    hands = [record.hands.get(side, HandRecord()) for side in Side]
    labels: dict[str, NDArray[Any]] = {}
    known: dict[str, NDArray[np.bool_]] = {}
    for name, (shape, _) in _LABELS.items():
        labels[name] = np.zeros((NUM_SIDES, *shape))
        known[name] = np.array([getattr(hand, name) is not None for hand in hands])
        for side in np.flatnonzero(known[name]):
            labels[name][side] = _checked(name, getattr(hands[side], name), shape)
    for name in ("joints", "joints_2d"):
        valid = np.stack([_mask(getattr(hand, f"{name}_valid")) for hand in hands])
        labels[f"{name}_valid"] = valid & known[name][:, None]
        labels[name] = np.where(labels[f"{name}_valid"][..., None], labels[name], 0.0)
    for name, (_, limit) in _LABELS.items():
        if not np.isfinite(labels[name]).all():
            raise BadFrameError(f"{name} are not finite")
        if (np.abs(labels[name]) > limit).any():
            raise BadFrameError(f"{name} are out of all proportion")
    known["rotations"] = known["global_orient"] & known["hand_pose"]
    known["placed"] = np.array([hand.placed for hand in hands])
    for rotations in (
        labels["global_orient"][known["rotations"]],
        labels["hand_pose"][known["rotations"]],
    ):
        _require_rotations(rotations)
    _require_hand_size(labels["joints"], labels["joints_valid"])
    return Frame(
        jpg,
        size,
        labels,
        known,
        _checked_intrinsics(record.intrinsics),
        _checked_pose(record.cam_from_world),
        None if record.shown is None else np.array([side in record.shown for side in Side]),
        _checked_area(record.person_area),
    )


def has_hand(frame: Frame) -> bool:
    """Whether a frame has any label."""
    names = ("joints_valid", "joints_2d_valid")
    known = ("rotations", "vertices", "bbox")
    return any(frame.labels[n].any() for n in names) or any(frame.known[n].any() for n in known)


def assemble(runs: Sequence[Run], dataset: Dataset, mano: Mano) -> tuple[list[Clip], Residuals]:
    """Make clips, all hands of all runs posed at once, and hold their labels against each other."""
    frames = [frame for run in runs for frame in run.frames]
    labels = {
        name: torch.from_numpy(np.stack([frame.labels[name] for frame in frames]))
        for name in frames[0].labels
    }
    known = {
        name: torch.from_numpy(np.stack([frame.known[name] for frame in frames]))
        for name in frames[0].known
    }
    size = torch.tensor([frame.size for frame in frames], dtype=torch.float64)
    guessed = default_intrinsics(size)
    intrinsics = torch.stack(
        [
            g if f.intrinsics is None else torch.from_numpy(f.intrinsics)
            for f, g in zip(frames, guessed, strict=True)
        ]
    )
    hands = HandState(*(labels[n] for n in ("global_orient", "hand_pose", "betas", "transl")))
    is_mesh = known["rotations"] & known["betas"]
    mesh = _pose(hands, is_mesh, mano.released if dataset.left_released else mano.model)
    other = mesh
    if (is_mesh & known["joints"])[:, Side.LEFT].any():
        other = _pose(hands, is_mesh, mano.model if dataset.left_released else mano.released)
    roots = known["placed"] & (known["transl"] | known["joints"] | known["vertices"])
    mesh_placed = is_mesh & known["placed"] & known["transl"]

    joints_known = known["joints"]
    joints = torch.where(joints_known[..., None, None], labels["joints"], mesh.joints)
    joints_valid = labels["joints_valid"] | (is_mesh & ~joints_known)[..., None]
    K = intrinsics[:, None]
    in_front = joints_valid & roots[..., None] & (joints[..., 2] > 1e-3)
    given = known["joints_2d"][..., None]
    joints_2d = torch.where(given[..., None], labels["joints_2d"], project(joints, K))
    joints_2d_valid = torch.where(given, labels["joints_2d_valid"], in_front)
    joints_2d_valid &= (joints_2d.abs() < 1e5).all(-1)

    own = known["vertices"]
    vertices = torch.where(own[..., None, None], labels["vertices"], mesh.vertices)
    outline = (own & known["placed"]) | mesh_placed
    bbox = _boxes(
        project(vertices, K),
        vertices[..., 2] > 1e-3,
        outline,
        joints_2d,
        joints_2d_valid,
        labels["bbox"],
        known["bbox"],
        size,
    )
    inside = (joints_2d > -0.5).all(-1) & (joints_2d < size[:, None, None] - 0.5).all(-1)

    betas_valid = is_mesh
    vertices_valid = own
    if dataset.left_released:
        left = torch.arange(NUM_SIDES) == Side.LEFT
        hands = _refit_left(hands, is_mesh & left, mano)
        betas_valid = is_mesh & ~left
        vertices_valid = own | (is_mesh & left)
    arrays = {
        "intrinsics": intrinsics,
        "cam_from_world": torch.from_numpy(np.stack([frame.cam_from_world for frame in frames])),
        "global_orient": _keep(hands.global_orient, known["rotations"]),
        "hand_pose": _keep(hands.hand_pose, known["rotations"]),
        "betas": _keep(hands.betas, is_mesh),
        "transl": _keep(hands.transl, mesh_placed),
        "hands_valid": known["rotations"],
        "betas_valid": betas_valid,
        "roots_valid": roots,
        "vertices_valid": vertices_valid,
        "joints": _keep(joints, joints_valid),
        "joints_valid": joints_valid,
        "joints_2d": _keep(joints_2d, joints_2d_valid),
        "joints_2d_valid": joints_2d_valid,
        "joints_visible": joints_2d_valid & inside,
        "bbox": bbox,
    }
    residuals = Residuals(
        *(
            array.numpy()
            for array in (
                _image_residual(
                    project(mesh.joints, K),
                    joints_2d,
                    joints_2d_valid
                    & (mesh_placed & (joints_known | known["joints_2d"]))[..., None],
                    bbox,
                ),
                _image_residual(
                    project(joints, K), joints_2d, joints_2d_valid & in_front & given, bbox
                ),
                _joint_residual(
                    mesh.joints, joints, joints_valid & (is_mesh & joints_known)[..., None]
                ),
                _joint_residual(
                    other.joints, joints, joints_valid & (is_mesh & joints_known)[..., None]
                ),
            )
        )
    )
    return _cut(runs, arrays, _keep(vertices, vertices_valid), dataset), residuals


def _cut(
    runs: Sequence[Run], arrays: dict[str, Tensor], vertices: Tensor, dataset: Dataset
) -> list[Clip]:
    plain: dict[str, Any] = {
        name: (tensor if tensor.dtype == torch.bool else tensor.float()).numpy()
        for name, tensor in arrays.items()
    }
    meshes = vertices.float().numpy()
    clips, start = [], 0
    for run in runs:
        part = slice(start, start + len(run.frames))
        start = part.stop
        own: dict[str, Any] = {n: np.ascontiguousarray(a[part]) for n, a in plain.items()}
        has_mesh = own["vertices_valid"].any()
        clips.append(
            Clip(
                key=run.key,
                dataset=dataset.name,
                sequence=run.recording.sequence,
                camera=run.recording.camera,
                fps=run.recording.fps or dataset.fps,
                frame_ids=run.numbers,
                image_size=run.frames[0].size,
                frames=tuple(frame.jpg for frame in run.frames),
                intrinsics_known=run.frames[0].intrinsics is not None,
                all_hands_labelled=dataset.all_hands_labelled,
                vertices=np.ascontiguousarray(meshes[part]) if has_mesh else None,
                hands_shown=_all_or_none([frame.shown for frame in run.frames]),
                person_area=_all_or_none([frame.person_area for frame in run.frames]),
                **own,
            )
        )
    return clips


def _all_or_none(values: Sequence[Any]) -> NDArray[Any] | None:
    """What all frames of a clip say, or none of them."""
    return None if values[0] is None else np.stack(values)


# ---- one frame -----------------------------------------------------------------------------------


def _as_jpg(image: bytes | NDArray[np.uint8]) -> tuple[bytes, tuple[int, int]]:
    """Encoded jpg and width, height; what is a good jpg already stays as it is."""
    if isinstance(image, bytes):
        pixels = decode_image(image)
        if image.startswith(_JPEG):
            return image, (pixels.shape[1], pixels.shape[0])
    else:
        pixels = image
    done, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert done
    return encoded.tobytes(), (pixels.shape[1], pixels.shape[0])


def decode_image(image: bytes) -> NDArray[np.uint8]:
    """Decode a jpg or png to (H, W, 3) uint8, blue first; orientation tags are not followed.

    Raises:
        BadFrameError: it is broken or cut off.
    """
    # OpenCV fills up a jpg that was cut off with grey
    whole = not image.startswith(_JPEG) or _END_OF_JPEG in image[-64:]
    pixels = None
    if whole and image:
        try:
            pixels = cv2.imdecode(np.frombuffer(image, np.uint8), _DECODE)
        except cv2.error:  # more pixels than OpenCV will decode
            pixels = None
    if pixels is None or max(pixels.shape[:2]) > 65535:
        raise BadFrameError("the image is broken")
    return np.asarray(pixels, np.uint8)


def _checked(name: str, value: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise BadFrameError(f"{name} are not numbers") from None
    if array.shape != shape:
        raise BadFrameError(f"{name} have the wrong shape")
    return array


def _mask(value: Any) -> NDArray[np.bool_]:
    if value is None:
        return np.ones(NUM_JOINTS, bool)
    mask = np.asarray(value)
    if mask.shape != (NUM_JOINTS,):
        raise BadFrameError("a mask of joints has the wrong shape")
    return mask.astype(bool)


def _require_rotations(matrices: NDArray[np.float64]) -> None:
    flat = matrices.reshape(-1, 3, 3)
    if len(flat) and not (
        (np.abs(flat @ flat.swapaxes(-1, -2) - np.eye(3)) < 1e-3).all()
        and (np.linalg.det(flat) > 0).all()
    ):
        raise BadFrameError("rotations are no rotations")


def _require_hand_size(joints: NDArray[np.float64], valid: NDArray[np.bool_]) -> None:
    for points, known in zip(joints, valid, strict=True):
        if known.sum() > 1:
            found = points[known]
            extent = np.linalg.norm(found[:, None] - found[None], axis=-1).max()
            if extent > HAND_LENGTH[1] or (known.all() and extent < HAND_LENGTH[0]):
                raise BadFrameError("joints are not the size of a hand")


def _checked_intrinsics(value: Any) -> NDArray[np.float64] | None:
    if value is None:
        return None
    K = _checked("intrinsics", value, (3, 3))
    if not (np.isfinite(K).all() and (np.diag(K) > 0).all() and (np.abs(K) < 1e6).all()):
        raise BadFrameError("intrinsics are those of no camera")
    if (K[2] != (0, 0, 1)).any():
        raise BadFrameError("intrinsics are those of no camera")
    return K


def _checked_area(value: Any) -> np.float32 | None:
    if value is None:
        return None
    area = _checked("areas", value, ())
    if not 0 < area < 1e9:
        raise BadFrameError("the person's area is out of all proportion")
    return np.float32(area)


def _checked_pose(value: Any) -> NDArray[np.float64]:
    if value is None:
        return np.eye(4)
    pose = _checked("cam_from_world", value, (4, 4))
    if not (np.isfinite(pose).all() and (np.abs(pose) < 1e5).all()):
        raise BadFrameError("the camera's pose is out of all proportion")
    _require_rotations(pose[:3, :3])
    pose = pose.copy()
    pose[3] = (0, 0, 0, 1)
    return pose


# ---- many frames ---------------------------------------------------------------------------------


def _pose(hands: HandState, there: Tensor, model: HandModel) -> HandGeometry:
    """Meshes of hands (N, S), in double precision up to the model; anything where there is none."""
    identity = torch.eye(3, dtype=hands.betas.dtype)
    whole = replace(
        hands,
        global_orient=torch.where(there[..., None, None], hands.global_orient, identity),
        hand_pose=torch.where(there[..., None, None, None], hands.hand_pose, identity),
    )
    with torch.no_grad():
        return model(whole.map(Tensor.float)).map(Tensor.double)


def _refit_left(hands: HandState, which: Tensor, mano: Mano) -> HandState:
    """Betas of the repaired left hand that come closest to the released one's shape at rest."""
    repaired, released = mano.assets[Side.LEFT], mano.released.assets[Side.LEFT]
    wrist_of_shape = wrist_at_rest(mano.assets)[1][Side.LEFT].double()
    released_wrist = wrist_at_rest(mano.released.assets)[1][Side.LEFT].double()

    def about_wrist(shapedirs: NDArray[np.float32], of_shape: Tensor) -> Tensor:
        return (torch.from_numpy(shapedirs).double() - of_shape).reshape(-1, NUM_BETAS)

    ours = about_wrist(repaired.shapedirs, wrist_of_shape)
    theirs = about_wrist(released.shapedirs, released_wrist)
    ours_from_theirs = torch.linalg.lstsq(ours, theirs).solution
    betas = hands.betas @ ours_from_theirs.mT
    # the wrist stays where it is
    moved = hands.betas @ released_wrist.mT - betas @ wrist_of_shape.mT
    return replace(
        hands,
        betas=torch.where(which[..., None], betas, hands.betas),
        transl=torch.where(which[..., None], hands.transl + moved, hands.transl),
    )


def _boxes(
    vertices_2d: Tensor,
    in_front: Tensor,
    outline: Tensor,
    joints_2d: Tensor,
    joints_2d_valid: Tensor,
    given: Tensor,
    is_given: Tensor,
    size: Tensor,
) -> Tensor:
    """Tight boxes (N, S, 4) of what lies inside the image; zeros where that is nothing."""
    border = size[:, None, None] - 0.5

    def around(points: Tensor, valid: Tensor) -> Tensor:
        return bbox_around(points.clamp_min(-0.5).minimum(border), valid)

    mesh = around(vertices_2d, in_front)
    bones = around(joints_2d, joints_2d_valid)
    corners = around(given.unflatten(-1, (2, 2)), torch.ones_like(given[..., :2], dtype=torch.bool))
    bbox = torch.where(outline[..., None], mesh, bones)
    bbox = torch.where((is_given & ~outline)[..., None], corners, bbox)
    return torch.where((bbox[..., 2:] >= SMALLEST_BOX).all(-1, keepdim=True), bbox, 0.0)


def _keep(values: Tensor, known: Tensor) -> Tensor:
    """Zeros where nothing is known: (N, S, ...) and (N, S, ...) of fewer dimensions."""
    return torch.where(known.view(*known.shape, *[1] * (values.ndim - known.ndim)), values, 0.0)


def _image_residual(found: Tensor, true: Tensor, valid: Tensor, bbox: Tensor) -> Tensor:
    """(N, S) mean distance by the box's longer side; NaN where nothing can be compared."""
    distance = torch.where(valid, (found - true).norm(dim=-1), 0.0).sum(-1) / valid.sum(-1)
    return distance / bbox[..., 2:].amax(-1).clamp_min(SMALLEST_BOX)


def _joint_residual(found: Tensor, true: Tensor, valid: Tensor) -> Tensor:
    """(N, S) mean distance relative to the wrist by the hand's length."""
    valid = valid & valid[..., WRIST, None]
    found, true = found - found[..., WRIST, None, :], true - true[..., WRIST, None, :]
    distance = torch.where(valid, (found - true).norm(dim=-1), 0.0).sum(-1) / valid.sum(-1)
    return distance / found.norm(dim=-1).amax(-1).clamp_min(HAND_LENGTH[0])
