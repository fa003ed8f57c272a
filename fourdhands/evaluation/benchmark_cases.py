"""Pictures of a benchmark's worst, median and best images, for its report.

Where images are at hand the hands lie over them; beside it, or alone, hands and joints from the
front and from the side.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fourdhands.data.collate import StoredClip
from fourdhands.data.manifest import ShardSet
from fourdhands.data.stream import read_lane
from fourdhands.evaluation.breakdown import Breakdown
from fourdhands.evaluation.pictures import ranked
from fourdhands.evaluation.provenance import recorded_entries
from fourdhands.evaluation.samples import HandSamples, Pair
from fourdhands.evaluation.sources import labels_of, name_of
from fourdhands.geometry.camera import crop_intrinsics, project
from fourdhands.geometry.crop import bbox_around, crop_affine, expand_bbox, warp_crop
from fourdhands.hands.mano import HandModel
from fourdhands.rendering.overlay import (
    PAPER,
    draw_hands,
    draw_skeleton,
    front_view,
    grid,
    side_view,
)
from fourdhands.skeleton import WRIST, Side

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]
Cells = list[tuple[str, Image]]

CELL: Final = 208
"""Pixels."""
MARGIN: Final = 1.6
"""Side of a picture over that of the true hands in it."""
BEYOND: Final = 0.15
"""Of an image's size: how far outside it a hand is shown."""
NEAREST: Final = 0.05
"""Metres: what is predicted nearer to the camera was not meant to be where a camera sees it."""
LONGEST_EDGE: Final = 0.1
"""Of a mesh over its extent, in the mean; other vertices are not in MANO's order."""
MOST_EXTENT: Final = 2.5
"""Of true and predicted joints together over that of the true ones, to be seen together."""
GREY: Final = dict.fromkeys(Side, (150, 150, 150))


@dataclass(frozen=True)
class Case:
    """An image that is worth looking at.

    Attributes:
        rank: "best", "median" or "worst".
        name: of the image.
        error_mm: what it was ranked by.
        jpeg: a row of pictures.
    """

    rank: str
    name: str
    error_mm: float
    jpeg: bytes


@dataclass(frozen=True)
class Photograph:
    """An image as the data have it.

    Attributes:
        image: (H, W, 3) RGB.
        intrinsics: (3, 3).
        true: its labels; with meshes also where a protocol looks at joints alone.
    """

    image: Image
    intrinsics: torch.Tensor
    true: HandSamples


def draw_cases(
    ranking: Breakdown, pair: Pair, sets: Sequence[ShardSet], hand_model: HandModel, each: int
) -> tuple[Case, ...]:
    """The worst, median and best images by their mean joint error.

    Args:
        ranking: of joints; its images are those of the pair in the order of time.
        pair: predictions and truth, these in the order in which the data were read.
        sets: where images are, last among the data.
        hand_model: of the meshes.
        each: how many of each kind, every one of another sequence.
    """
    order = pair.true.in_order()
    counted = np.flatnonzero(np.isfinite(ranking.images))
    errors, places = ranking.images[counted], order.numpy()[counted]
    if not len(counted) or not each:
        return ()
    chosen = ranked(errors, pair.true.sequence.numpy()[places].tolist(), each)
    wanted = {int(places[k]): pair.true.names[places[k]] for _, k in chosen}
    photographs = find_photographs(sets, wanted, len(pair), hand_model)
    cases = []
    for rank, k in sorted(chosen, key=lambda one: ("worst", "median", "best").index(one[0])):
        index = torch.tensor([int(places[k])])
        one = pair.take(index).double()
        name = one.true.names[0]
        cells = draw_case(ranking, one, photographs.get(name), hand_model)
        sheet = grid([image for _, image in cells], len(cells), [text for text, _ in cells])
        bgr = cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR)
        jpeg = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, 88))[1].tobytes()
        cases.append(Case(rank, name, 1e3 * float(errors[k]), jpeg))
    return tuple(cases)


def find_photographs(
    sets: Sequence[ShardSet], wanted: Mapping[int, str], images: int, hand_model: HandModel
) -> dict[str, Photograph]:
    """Read some images once more; only of the shards that hold them, where summaries tell.

    Args:
        sets: last among the data.
        wanted: images by their number in the data.
        images: number of all data.
        hand_model: of the meshes.
    """
    shards = [shard for one in sets for shard in one.shards]
    recorded = recorded_entries(shards)
    known = recorded.keys() >= set(shards)
    start = images - sum(recorded[shard].frames for shard in shards) if known else 0
    found: dict[str, Photograph] = {}
    for shard in shards:
        names = set(wanted.values())
        if known:
            end = start + recorded[shard].frames
            names = {name for place, name in wanted.items() if start <= place < end}
            start = end
        if names:
            for stored in read_lane([shard], 0, 1):
                found |= _photographs_of(stored, names, hand_model)
    return found


def draw_case(
    ranking: Breakdown, one: Pair, photograph: Photograph | None, hand_model: HandModel
) -> Cells:
    """Captions and pictures of one image; of labelled hands alone.

    Args:
        ranking: how joints are laid over each other.
        one: its hands, in double precision.
        photograph: the image, if it is at hand.
        hand_model: of the meshes.
    """
    if photograph is not None and not one.true.vertices.shape[2]:
        one = replace(one, true=photograph.true).double()
    one, moved = _in_front_of_the_camera(one)
    told = "predicted, on true wrists" if moved else "predicted"
    shown = one.true.joints_valid[0].any(-1) | one.true.vertices_valid[0]
    cells: Cells = []
    meshes = {
        name: _mesh(samples, shown, hand_model)
        for name, samples in ((told, one.predicted), ("true", one.true))
    }
    if photograph is not None:
        crop, intrinsics = _crop(one.true, shown, photograph)
        cells.append(("image", crop))
        for name, samples in ((told, one.predicted), ("true", one.true)):
            cells.append((name, _over(crop, samples, meshes[name], shown, intrinsics, hand_model)))
    surfaces = {name: mesh for name, mesh in meshes.items() if mesh is not None}
    if len(surfaces) == len(meshes):
        faces = hand_model.faces.cpu().numpy()
        extent = max(
            float(np.ptp(mesh[shown].reshape(-1, 3), 0).max()) for mesh in surfaces.values()
        )
        views = (
            (("side", side_view),) if photograph else (("front", front_view), ("side", side_view))
        )
        for where, view in views:
            for name, mesh in surfaces.items():
                cells.append((f"{name}, {where}", view(mesh, shown, CELL, faces, extent)))
    return cells + _joints_over_joints(ranking, one)


def _photographs_of(
    stored: StoredClip, names: Collection[str], hand_model: HandModel
) -> dict[str, Photograph]:
    clip = stored.clip
    found: dict[str, Photograph] = {}
    for k, number in enumerate(clip.frame_ids):
        if (name := name_of(clip.meta, number)) in names:
            image = cv2.cvtColor(stored.decode_frame(k), cv2.COLOR_BGR2RGB).astype(np.uint8)
            true = labels_of(clip, hand_model).take(torch.tensor([k]))
            found[name] = Photograph(image, torch.tensor(clip.intrinsics[k]).double(), true)
    return found


def _in_front_of_the_camera(one: Pair) -> tuple[Pair, bool]:
    """Lay predicted wrists upon the true ones where predictions are relative to something."""
    shown = one.true.joints_valid.any(-1)
    if (one.predicted.joints[shown][..., 2] > NEAREST).all():
        return one, False
    predicted, true = one.predicted, one.true
    shift = (true.joints - predicted.joints)[:, :, WRIST, None]
    joints, vertices = predicted.joints + shift, predicted.vertices + shift
    moved = replace(predicted, joints=joints, vertices=vertices, hands=None)
    return replace(one, predicted=moved), True


def _mesh(samples: HandSamples, shown: torch.Tensor, hand_model: HandModel) -> Floats | None:
    """(S, V, 3) of one image; None without meshes, or where vertices are not in MANO's order."""
    vertices, there = samples.vertices, samples.vertices_valid[0]
    if not vertices.shape[2] and samples.hands is not None:
        device, dtype = hand_model.faces.device, torch.get_default_dtype()
        hands = samples.hands.map(lambda tensor: tensor.to(device, dtype))
        with torch.no_grad():
            vertices, there = hand_model(hands).vertices.cpu().double(), shown
    if not vertices.shape[2] or not there[shown].all():
        return None
    mesh = vertices[0].numpy()
    for side in np.flatnonzero(shown.numpy()):
        corners = mesh[side][hand_model.faces[side].cpu().numpy()]
        edges = np.linalg.norm(corners - np.roll(corners, 1, 1), axis=-1)
        if edges.mean() > LONGEST_EDGE * np.ptp(mesh[side], axis=0).max():
            return None
    return np.asarray(mesh, np.float64)


def _crop(true: HandSamples, shown: torch.Tensor, photograph: Photograph) -> tuple[Image, Floats]:
    """The part of the image around the true hands, and its intrinsics."""
    places, valid = true.joints_2d[0].double(), true.joints_2d_valid[0] & shown[:, None]
    if not valid.any():
        places = project(true.joints[0], photograph.intrinsics)
        valid = true.joints_valid[0] & (true.joints[0][..., 2] > NEAREST)
    height, width = photograph.image.shape[:2]
    size = torch.tensor((width, height)).double()
    whole = torch.cat(((size - 1) / 2, size))
    places = places.clamp(-BEYOND * size, (1 + BEYOND) * size)
    box = bbox_around(places.reshape(-1, 2), valid.reshape(-1)) if valid.any() else whole
    box = expand_bbox(box, scale=MARGIN, aspect=1.0)
    affine = crop_affine(box, (CELL, CELL), torch.tensor(False))
    crop = warp_crop(photograph.image, affine.numpy(), (CELL, CELL))
    return crop, crop_intrinsics(photograph.intrinsics, affine).numpy()


def _over(
    crop: Image,
    samples: HandSamples,
    mesh: Floats | None,
    shown: torch.Tensor,
    intrinsics: Floats,
    hand_model: HandModel,
) -> Image:
    if mesh is not None:
        faces = hand_model.faces.cpu().numpy()
        return draw_hands(crop, mesh, shown.numpy(), intrinsics, faces=faces)
    points = project(samples.joints[0], torch.from_numpy(intrinsics)).numpy()
    return draw_skeleton(crop, points, samples.joints_valid[0].numpy() & shown[:, None].numpy())


def _joints_over_joints(ranking: Breakdown, one: Pair) -> Cells:
    """Predicted joints in colours over the true ones in grey, laid over them as they are measured.

    Hands that are measured relative to something stand at their true wrists.
    """
    compared = ranking.alignment(one, "joints")
    valid = compared.valid[0].numpy()
    shift = one.true.joints[0][:, WRIST, None] - compared.true[0][:, WRIST, None]
    true, predicted = ((x[0] + shift).numpy() for x in (compared.true, compared.predicted))
    if not valid.any():
        return []
    both = np.concatenate((true[valid], predicted[valid]))
    if np.ptp(both, 0).max() > MOST_EXTENT * np.ptp(true[valid], 0).max():
        both = true[valid]  # what is that far away lies outside the picture
    low, high = both.min(0), both.max(0)
    extent = max(float((high - low).max()), 1e-3)
    cells: Cells = []
    for where, axes in (("front", [0, 1]), ("side", [2, 1])):
        size = 2 * CELL  # drawn larger, for thinner lines
        places = [
            (x - (low + high) / 2)[..., axes] * (0.88 * size / extent) + size / 2
            for x in (true, predicted)
        ]
        paper = np.full((size, size, 3), PAPER, np.uint8)
        paper = draw_skeleton(paper, places[0], valid, GREY)
        paper = draw_skeleton(paper, places[1], valid)
        small = cv2.resize(paper, (CELL, CELL), interpolation=cv2.INTER_AREA)
        cells.append((f"joints, {where}", np.asarray(small, np.uint8)))
    return cells
