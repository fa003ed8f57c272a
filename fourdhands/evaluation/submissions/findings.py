"""What is strange about the hands of a submission: another unit, other axes, other joints.

Each of these makes columns of the official programs mean nothing, and none of them is an error that
those programs notice.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import torch
from torch import Tensor

from fourdhands.data.convert.conventions import COMMON, FROM_HO3D, FROM_INTERHAND, FROM_RHD
from fourdhands.evaluation.samples import HandSamples
from fourdhands.skeleton import BONES, FINGERTIP_VERTICES, FINGERTIPS, NUM_SIDES, WRIST, Side

HAND_LENGTH: Final = (0.06, 0.35)
"""Metres between the two joints that are farthest apart, in the median."""
_UNITS: Final = {1e3: "millimetres", 1e2: "centimetres", 1e-3: "metres taken for millimetres"}
_NEAR_ORIGIN: Final = 0.02
"""Metres: no camera sees wrists that are so near to it."""
_OFF_MESH: Final = 0.04
"""Metres from a joint to the nearest vertex; inside of a hand it is half of that at most."""
_AT_TIP: Final = 0.02
"""Metres from a tip to MANO's vertex there, by any of the tables in use."""
_SHARE: Final = 0.01
"""Of the images that may be odd without anybody having mistaken anything."""
_SHORTER: Final = 0.85
"""By which bones have to be shorter in another order of the joints for that to be the right one."""
_BENT: Final = 0.05
"""Share of a hand's length that tips are bent out of the palm's plane, in the median."""
_ORDERS: Final[Mapping[str, tuple[int, ...]]] = {
    "the common order": COMMON,
    "HO3D's and MANO's order": FROM_HO3D,
    "InterHand2.6M's order": FROM_INTERHAND,
    "RHD's order": FROM_RHD,
}
_AT_ONCE: Final = 256


def find_oddities(
    samples: HandSamples, order: tuple[int, ...], sides: tuple[Side, ...] | None
) -> Iterator[str]:
    """Say what is odd, a line each.

    Args:
        samples: hands in the camera's frame, metres, if the file is what it should be.
        order: `common[k] = file[order[k]]`, as the file's joints were read.
        sides: whose hands these are; None if the file does not say.
    """
    if not len(samples):
        yield "there are no images"
        return
    columns = [int(side) for side in sides or (Side.RIGHT,)]
    joints = samples.joints[:, columns].double()
    vertices = samples.vertices[:, columns].double()
    finite = (joints.isfinite().flatten(1).all(1)) & vertices.isfinite().flatten(1).all(1)
    if not finite.all():
        yield f"{_count(~finite)} have values that are not finite, {_first(~finite)}"
        return
    lengths = _lengths(joints)
    if (empty := (lengths < 1e-9).any(-1)).any():
        yield f"{_count(empty)} have hands whose joints are all in one point, {_first(empty)}"
        if empty.all():
            return
    keep = ~empty
    joints, vertices, lengths = joints[keep], vertices[keep], lengths[keep]
    numbers = keep.nonzero()[:, 0]
    length = float(lengths.median())
    if unit := _unit(length):
        yield unit
        return  # all else goes by metres
    yield from _places(joints, numbers)
    if other := _other_order(joints, order):
        yield other
        return
    mano = True
    if vertices.shape[2]:
        yield from _apart(joints, vertices, numbers)
        mano = _is_mano(joints, vertices)
    if sides is not None and mano:
        yield from _mirrored(joints, lengths, sides)


def summary(samples: HandSamples, sides: tuple[Side, ...] | None) -> str:
    """How many images, how far away, how large."""
    columns = [int(side) for side in sides or (Side.RIGHT,)]
    joints = samples.joints[:, columns].double()
    depth, length = float(joints[..., 2].mean()), float(_lengths(joints).median())
    meshes = " and meshes" if samples.vertices.shape[2] else ""
    return (
        f"{len(samples):,} images, joints{meshes}; mean depth {depth:.3f} m, median length of the "
        f"hands {length:.3f} m"
    )


def _count(bad: Tensor) -> str:
    return f"{int(bad.sum()):,} of {len(bad):,} images"


def _first(bad: Tensor, numbers: Tensor | None = None) -> str:
    place = int(bad.nonzero()[0, 0])
    return f"as number {place if numbers is None else int(numbers[place])} of the file"


def _lengths(joints: Tensor) -> Tensor:
    """(N, S) metres between the joints that are farthest apart."""
    return torch.cat(
        [torch.cdist(part, part).flatten(2).amax(-1) for part in joints.split(_AT_ONCE)]
    )


def _unit(length: float) -> str | None:
    """The unit that hands of this length (as read, in metres) seem to have, if it is wrong."""
    low, high = HAND_LENGTH
    if low <= length <= high:
        return None
    for factor, unit in _UNITS.items():
        if low <= length / factor <= high:
            return f"the hands are {length:.3g} m long: these look like {unit}"
    return f"the hands are {length:.3g} m long"


def _places(joints: Tensor, numbers: Tensor) -> Iterator[str]:
    wrists = joints[:, :, WRIST]
    if float(wrists.norm(dim=-1).median()) < _NEAR_ORIGIN:
        yield (
            "the wrists are at the origin: hands look relative to their wrist, errors without "
            "alignment mean nothing"
        )
        return
    behind = (joints[..., 2].mean(-1) < 0).any(-1)
    if behind.float().mean() > 0.5:
        yield (
            f"{_count(behind)} have hands behind the camera: the axes look like the other ones of "
            "OpenCV's (z forward) and OpenGL's (z backward)"
        )
    elif behind.any():
        yield f"{_count(behind)} have hands behind the camera, {_first(behind, numbers)}"


def _other_order(joints: Tensor, order: tuple[int, ...]) -> str | None:
    """Bones are shortest in the right order."""
    as_in_file = torch.empty_like(joints)
    as_in_file[:, :, list(order)] = joints
    parents, children = (list(ends) for ends in zip(*BONES, strict=True))

    def total(table: tuple[int, ...]) -> float:
        ordered = as_in_file[:, :, list(table)]
        bones = ordered[:, :, children] - ordered[:, :, parents]
        return float(bones.norm(dim=-1).sum(-1).median())

    own = total(order)
    name, best = min(((n, total(t)) for n, t in _ORDERS.items()), key=lambda pair: pair[1])
    if best < _SHORTER * own:
        return f"the joints look to be in {name}, which this server does not want"
    return None


def _apart(joints: Tensor, vertices: Tensor, numbers: Tensor) -> Iterator[str]:
    """Joints lie within their mesh."""
    pieces = zip(joints.split(_AT_ONCE), vertices.split(_AT_ONCE), strict=True)
    off = torch.cat([torch.cdist(j, v).amin(-1).amax(-1).amax(-1) for j, v in pieces])
    apart = off > _OFF_MESH
    if apart.float().mean() > _SHARE:
        yield (
            f"{_count(apart)} have vertices far from their joints, {_first(apart, numbers)} "
            f"({float(off[apart][0]):.3f} m): both have to be in one frame"
        )


def _is_mano(joints: Tensor, vertices: Tensor) -> bool:
    """Whether tips are where MANO's order of vertices has them."""
    off = joints[:, :, list(FINGERTIPS)] - vertices[:, :, list(FINGERTIP_VERTICES)]
    return float(off.norm(dim=-1).median()) < _AT_TIP


def _mirrored(joints: Tensor, lengths: Tensor, sides: tuple[Side, ...]) -> Iterator[str]:
    """Fingers bend towards the palm, which is to the one side of a right hand's knuckles."""
    index, little = joints[:, :, 5] - joints[:, :, WRIST], joints[:, :, 17] - joints[:, :, WRIST]
    palm = torch.linalg.cross(index, little)
    palm = palm / palm.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    fingers = joints[:, :, list(FINGERTIPS[1:])] - joints[:, :, [5, 9, 13, 17]]
    bent = ((fingers * palm[:, :, None]).sum(-1).mean(-1) / lengths).median(0).values
    for place, side in enumerate(sides):
        sign = 1 if side is Side.RIGHT else -1
        if float(bent[place]) * sign < -_BENT:
            swapped = ", or right and left are swapped" if len(sides) == NUM_SIDES else ""
            yield f"the {side.name.lower()} hands look mirrored{swapped}: fingers bend backward"
