"""ARCTIC: MANO parameters of both hands, a folder of tensors for each sequence and view.

    {task}/eval/{subject}_{sequence}_{view}/meta_info/meta_info.imgname.pt
    {task}/eval/{subject}_{sequence}_{view}/preds/pred.mano.{pose,beta,cam_t}.{r,l}.pt
    {task}/eval/{subject}_{sequence}_{view}/preds/pred.object.{rot,cam_t,radian}.pt

The server adds MANO's mean pose to axis-angles that it takes out of the rotation matrices, and its
left hand has the shape directions as they were released.
"""

import io
import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import roma
import torch
from torch import Tensor

from fourdhands.data.convert.sources import read_json
from fourdhands.evaluation.predictions_file import samples_of
from fourdhands.evaluation.samples import HandSamples
from fourdhands.evaluation.submissions.archives import zip_to_read, zip_to_write
from fourdhands.evaluation.submissions.base import (
    MOST_IMAGES,
    Contents,
    Context,
    Key,
    ServerFile,
    frame_key,
    read_lines,
    refuse_first,
    unique,
)
from fourdhands.hands.assets import ManoAssets
from fourdhands.hands.mano import HandModel, wrist_at_rest
from fourdhands.skeleton import NUM_BETAS, NUM_JOINTS, NUM_MANO_JOINTS, NUM_SIDES, Side
from fourdhands.structures import HandState

TASKS: Final = {"pose_p1_test": tuple(range(1, 9)), "pose_p2_test": (0,)}
"""Views of a task: static ones, the egocentric one."""
FIRST_FRAME: Final = 10
"""Of every sequence; those before are left out."""
_IMAGES: Final = "./data/arctic_data/data/cropped_images"
_FOLDER: Final = re.compile(r"(s\d\d)_(\w+)_([0-8])")
_MEMBER: Final = re.compile(r"(\w+)/eval/(\w+)/(preds|meta_info)/([\w.]+)\.pt")
_SIDES: Final = {Side.RIGHT: "r", Side.LEFT: "l"}
_SHAPES: Final = {
    **{f"pred.mano.pose.{side}": (NUM_MANO_JOINTS, 3, 3) for side in "rl"},
    **{f"pred.mano.beta.{side}": (NUM_BETAS,) for side in "rl"},
    **{f"pred.mano.cam_t.{side}": (3,) for side in "rl"},
    "pred.object.rot": (3,),
    "pred.object.cam_t": (3,),
    "pred.object.radian": (),
}
"""Of one image; the object's are of no use here, but the server reads them."""
_NAMES: Final = "meta_info.imgname"
_LARGEST: Final = 64 << 20
"""Bytes of a tensor; the longest sequence has less than a hundredth of it."""
_POSED_AT_ONCE: Final = 2048


class Arctic(ServerFile):
    """One task's zip."""

    name = "arctic"
    wants_parameters = True
    note = (
        "objects are not predicted, their tensors are zeros: of the server's columns only "
        "MPJPE-RA, MRRPE r/l and the hands' ACC mean anything"
    )
    list_is = "ARCTIC's protocol_p1.json or protocol_p2.json, or a text file of the task's images"
    split: ClassVar[str] = "test"

    def keys(self, names: Sequence[str], listed: Sequence[Key]) -> list[Key]:
        """`s03/box_use_01/0` and the number of the image; of a path its end."""
        found: list[Key] = []
        for name in names:
            folder, number = frame_key(name)
            parts = folder.split("/")[-3:]
            if len(parts) != 3 or _FOLDER.fullmatch("_".join(parts)) is None:
                raise ValueError(f"{name[:80]!r} is no image of ARCTIC, s03/box_use_01/0/10")
            found.append(("/".join(parts), number))
        return found

    def name_of(self, key: Key) -> str:
        """As of a converted set."""
        return f"{key[0]}/{key[1]}" if isinstance(key, tuple) else str(key)

    def write(self, samples: HandSamples, path: Path, context: Context) -> str:
        """Write the task whose views the images are of; see `ServerFile`."""
        keys = sorted(self.keys(samples.names, ()), key=str)
        unique(keys, path)
        frames = _frames(keys)
        task = _task(frames)
        _check_frames(frames)
        self._check_list(frames, keys, context)
        ordered = self.in_order(
            samples, [(f, n) for f, numbers in frames.items() for n in numbers], "the predictions"
        )
        tensors = _tensors(ordered, context.assets)
        start = 0
        with zip_to_write(path) as archive:
            for folder, numbers in frames.items():
                part = slice(start, start + len(numbers))
                start = part.stop
                place = f"{task}/eval/{folder.replace('/', '_')}"
                for name, tensor in tensors.items():
                    _save(archive, f"{place}/preds/{name}.pt", tensor[part].clone())
                images = [f"{_IMAGES}/{folder}/{number:05d}.jpg" for number in numbers]
                _save(archive, f"{place}/meta_info/{_NAMES}.pt", images)
        return f"{len(keys):,} images, {task}: {len(frames)} sequences and views"

    def read(self, path: Path, context: Context, *, meshes: bool = True) -> Contents:
        """Read the tensors of all folders; see `ServerFile`."""
        folders: dict[str, dict[str, Any]] = {}
        with zip_to_read(path) as archive:
            for info in archive.infolist():
                if info.is_dir():
                    continue
                if (match := _MEMBER.fullmatch(info.filename)) is None or match[1] not in TASKS:
                    raise ValueError(
                        f"{path}: {info.filename[:80]!r} is not TASK/eval/FOLDER/preds/NAME.pt, "
                        f"TASK being {' or '.join(TASKS)}"
                    )
                if (parts := _FOLDER.fullmatch(match[2])) is None:
                    raise ValueError(f"{path}: {match[2][:60]!r} is no SUBJECT_SEQUENCE_VIEW")
                if int(parts[3]) not in TASKS[match[1]]:
                    raise ValueError(f"{path}: view {parts[3]} of {match[2]} is not of {match[1]}")
                found = folders.setdefault("/".join(parts.groups()), {})
                found[match[4]] = _load(archive, info, path)
        keys: list[Key] = []
        for folder, found in sorted(folders.items()):
            keys += self._checked(folder, found, path)
        if not keys:
            raise ValueError(f"{path}: holds no image")
        if len(keys) > MOST_IMAGES:
            raise ValueError(f"{path}: more than {MOST_IMAGES} images")
        unique(keys, path)
        frames = _frames(keys)
        _task(frames)
        _check_frames(frames)
        self._check_list(frames, keys, context)
        tensors = {
            name: torch.cat([folders[folder][name].float() for folder in sorted(folders)])
            for name in _SHAPES
        }
        return Contents(keys, _hands(tensors, context.assets, [str(key) for key in keys], meshes))

    def _checked(self, folder: str, found: Mapping[str, Any], path: Path) -> list[Key]:
        """The images of a folder, all of whose tensors are what they should be."""
        where = f"{path}: {folder.replace('/', '_')}"
        if missing := sorted({*_SHAPES, _NAMES} - found.keys()):
            raise ValueError(f"{where}: {missing[0]}.pt is missing")
        if extra := sorted(found.keys() - {*_SHAPES, _NAMES}):
            raise ValueError(f"{where}: nobody wants {extra[0]}.pt")
        names = found[_NAMES]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{where}: {_NAMES}.pt is no list of texts")
        for name, shape in _SHAPES.items():
            tensor = found[name]
            if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
                raise ValueError(f"{where}: {name}.pt is no tensor of real numbers")
            if tuple(tensor.shape) != (len(names), *shape):
                raise ValueError(
                    f"{where}: {name}.pt is {tuple(tensor.shape)}, it has to be "
                    f"{(len(names), *shape)}"
                )
        keys = self.keys(names, ())
        if wrong := [n for n, key in zip(names, keys, strict=True) if key[0] != folder]:  # type: ignore[index]
            raise ValueError(f"{where}: {wrong[0]!r} is an image of another folder")
        if keys != sorted(keys, key=lambda key: key[1]):  # type: ignore[index]
            raise ValueError(f"{where}: the images are not in the order of their numbers")
        return keys

    def _check_list(
        self, frames: Mapping[str, Sequence[int]], keys: Sequence[Key], context: Context
    ) -> None:
        """Hold the images against a list of sequences or of images, if one was given."""
        if context.images is None:
            return
        if context.images.suffix == ".json":
            content = read_json(context.images)
            wanted = content.get(self.split) if isinstance(content, dict) else None
            if not isinstance(wanted, list):
                raise ValueError(f"{context.images}: has no list {self.split!r} of sequences")
            views = TASKS[_task(frames)]
            listed: set[Key] = {f"{sequence}/{view}" for sequence in wanted for view in views}
            there: set[Key] = set(frames)
        else:
            listed = set(self.keys(read_lines(context.images, self.list_is), ()))
            there = set(keys)
        if missing := sorted(map(str, listed - there)):
            raise ValueError(f"{missing[0]} of {context.images} is missing, of {len(missing)}")
        if extra := sorted(map(str, there - listed)):
            raise ValueError(f"{extra[0]} is not in {context.images}, of {len(extra)}")


def _frames(keys: Sequence[Key]) -> dict[str, list[int]]:
    """Numbers of the images by their folder, both in order."""
    frames: dict[str, list[int]] = {}
    for key in keys:
        assert isinstance(key, tuple)
        frames.setdefault(key[0], []).append(key[1])
    return {folder: sorted(frames[folder]) for folder in sorted(frames)}


def _task(frames: Mapping[str, Sequence[int]]) -> str:
    """The task that views are of.

    Raises:
        ValueError: they are of both, or of neither.
    """
    views = {int(folder[-1]) for folder in frames}
    for task, known in TASKS.items():
        if views and views <= set(known):
            return task
    raise ValueError(
        f"views {', '.join(map(str, sorted(views)))} are not of one task: the egocentric view 0 is "
        "one submission, the static views 1 to 8 are another"
    )


def _check_frames(frames: Mapping[str, Sequence[int]]) -> None:
    """The server goes by places: nothing may be missing at the start or in between.

    Raises:
        ValueError: an image or a view is missing; names it.
    """
    whole: dict[str, int] = {}
    for folder, numbers in frames.items():
        sequence = folder.rpartition("/")[0]
        whole[sequence] = max(whole.get(sequence, 0), numbers[-1])
    views = TASKS[_task(frames)]
    for sequence, last in whole.items():
        for view in views:
            folder = f"{sequence}/{view}"
            there = set(frames.get(folder, ()))
            lacking = [n for n in range(FIRST_FRAME, last + 1) if n not in there]
            if lacking:
                raise ValueError(
                    f"{len(lacking)} images of {folder} are missing, as {folder}/{lacking[0]}: the "
                    f"server wants all from {FIRST_FRAME} on, of all views of the task"
                )
            if min(there) < FIRST_FRAME:
                raise ValueError(
                    f"{folder}/{min(there)} is none of the server's images, which begin with "
                    f"{FIRST_FRAME}"
                )


# ---- tensors -------------------------------------------------------------------------------------


def _tensors(samples: HandSamples, assets: tuple[ManoAssets, ManoAssets]) -> dict[str, Tensor]:
    """What the server takes of all images, float32."""
    hands = samples.hands
    if hands is None:
        raise ValueError(
            "predictions: ARCTIC's server wants MANO parameters, but there are no global_orient, "
            "hand_pose, betas and transl"
        )
    hands = hands.map(Tensor.double)
    there = samples.joints_valid.any(-1)
    refuse_first(samples, ~there.all(-1), "only one hand where the server wants two")
    refuse_first(
        samples,
        ~torch.stack([x.isfinite().flatten(1).all(1) for x in vars(hands).values()]).all(0),
        "values that are not finite",
    )
    rotations = torch.cat((hands.global_orient[:, :, None], hands.hand_pose), 2)
    identity = torch.eye(3, dtype=torch.float64)
    off = (rotations @ rotations.mT - identity).abs().flatten(1).amax(1) > 1e-3
    refuse_first(samples, off, "rotations that are no rotations")
    hands = _with_released_left(hands, assets)
    tensors = {}
    for side, letter in _SIDES.items():
        mean = torch.from_numpy(assets[side].hands_mean).double().reshape(15, 3)
        offsets = _without_mean(hands.hand_pose[:, side], mean)
        far = offsets.norm(dim=-1).amax(-1) >= math.pi - 1e-4
        refuse_first(samples, far, "finger rotations that cannot be told without MANO's mean pose")
        fingers = roma.rotvec_to_rotmat(offsets)
        tensors[f"pred.mano.pose.{letter}"] = torch.cat(
            (hands.global_orient[:, side, None], fingers), 1
        )
        tensors[f"pred.mano.beta.{letter}"] = hands.betas[:, side]
        tensors[f"pred.mano.cam_t.{letter}"] = hands.transl[:, side]
    for name, shape in _SHAPES.items():
        tensors.setdefault(name, torch.zeros(len(samples), *shape))
    return {name: tensor.float() for name, tensor in tensors.items()}


def _without_mean(rotations: Tensor, mean: Tensor) -> Tensor:
    """Axis-angles (N, 15, 3) that give rotations when the mean is added to them.

    A rotation has two axis-angles below a full turn; the one nearer to the mean is taken, because
    the server finds no more than half a turn in a matrix.
    """
    angles = roma.rotmat_to_rotvec(rotations)
    size = angles.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    other = angles * (1 - 2 * math.pi / size)
    one, two = angles - mean, other - mean
    nearer = one.norm(dim=-1, keepdim=True) <= two.norm(dim=-1, keepdim=True)
    return torch.where(nearer, one, two)


def released(assets: tuple[ManoAssets, ManoAssets]) -> tuple[ManoAssets, ManoAssets]:
    """The hands with the left one's shape directions as MANO was released."""
    right, left = assets
    shapedirs = left.shapedirs.copy()
    shapedirs[:, 0] *= -1
    return right, replace(left, shapedirs=shapedirs)


def _with_released_left(hands: HandState, assets: tuple[ManoAssets, ManoAssets]) -> HandState:
    """Left betas of the released hand that come closest to ours at rest; wrists stay in place."""

    def about_wrist(which: tuple[ManoAssets, ManoAssets]) -> tuple[Tensor, Tensor]:
        wrist = wrist_at_rest(which)[1][Side.LEFT].double()
        directions = torch.from_numpy(which[Side.LEFT].shapedirs).double()
        return wrist, (directions - wrist).reshape(-1, NUM_BETAS)

    (our_wrist, ours), (their_wrist, theirs) = about_wrist(assets), about_wrist(released(assets))
    theirs_from_ours = torch.linalg.lstsq(theirs, ours).solution
    old = hands.betas[:, Side.LEFT]
    new = old @ theirs_from_ours.mT
    betas, transl = hands.betas.clone(), hands.transl.clone()
    betas[:, Side.LEFT] = new
    transl[:, Side.LEFT] += old @ our_wrist.mT - new @ their_wrist.mT
    return replace(hands, betas=betas, transl=transl)


def _hands(
    tensors: Mapping[str, Tensor],
    assets: tuple[ManoAssets, ManoAssets],
    names: Sequence[str],
    meshes: bool,
) -> HandSamples:
    """The hands as the server makes them."""
    model = HandModel(released(assets))
    orient, pose, betas, transl = [], [], [], []
    for side, letter in _SIDES.items():
        rotations = tensors[f"pred.mano.pose.{letter}"].double()
        mean = torch.from_numpy(assets[side].hands_mean).double().reshape(15, 3)
        orient.append(rotations[:, 0])
        pose.append(roma.rotvec_to_rotmat(roma.rotmat_to_rotvec(rotations[:, 1:]) + mean))
        betas.append(tensors[f"pred.mano.beta.{letter}"].double())
        transl.append(tensors[f"pred.mano.cam_t.{letter}"].double())
    state = HandState(*(torch.stack(parts, 1) for parts in (orient, pose, betas, transl)))
    joints, vertices = [], []
    with torch.no_grad():
        for start in range(0, len(names), _POSED_AT_ONCE):
            made = model(state[start : start + _POSED_AT_ONCE])
            joints.append(made.joints)
            if meshes:
                vertices.append(made.vertices)
    valid = np.ones((len(names), NUM_SIDES, NUM_JOINTS), bool)
    arrays: dict[str, Any] = {"joints": torch.cat(joints).numpy(), "joints_valid": valid}
    if meshes:
        arrays |= {"vertices": torch.cat(vertices).numpy(), "vertices_valid": valid[..., 0]}
    return samples_of(tuple(names), arrays)


def _save(archive: zipfile.ZipFile, name: str, content: Any) -> None:
    file = io.BytesIO()
    torch.save(content, file)
    archive.writestr(name, file.getvalue())


def _load(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Any:
    """What a member holds: tensors and texts; nothing in it is executed."""
    if info.file_size > _LARGEST:
        raise ValueError(f"{path}: {info.filename} has {info.file_size} bytes, that is no tensor")
    data = archive.read(info)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as inner:  # torch writes zips, nothing compressed
            if sum(member.file_size for member in inner.infolist()) > _LARGEST:
                raise ValueError("it unpacks to more than any tensor has")
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch tells of broken files in many ways
        reason = " ".join(str(error).split())[:100]
        raise ValueError(f"{path}: {info.filename} is not readable ({reason})") from None
