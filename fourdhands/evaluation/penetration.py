"""How deep predicted hands stick in each other, and the volume that they share.

Of the prediction alone: the truth only says which images show both hands. Like the alignments, each
is a function from a `Pair` to what is averaged, here one number an image.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fourdhands.evaluation.alignments import Compared, Points
from fourdhands.evaluation.samples import Pair
from fourdhands.geometry.meshes import depths, shared_volumes
from fourdhands.skeleton import NUM_VERTICES, Side

TORN: Final = 0.1
"""Mean edge over the diagonal of a mesh's box: 0.03 of hands, 0.3 of vertices in another order."""

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def penetration_depth(pair: Pair, points: Points = "vertices") -> Compared:
    """Depth of the vertex that lies deepest in the other hand, 0 where hands are apart.

    Depth is the distance to the nearest point of the other mesh, closed at the wrist; both hands'
    vertices are asked.

    Returns:
        (N, 1, 1, 1) metres, against 0; images that show both hands count.
    """

    def deepest(right: Floats, left: Floats, faces: list[Indices]) -> Floats:
        in_left = depths(right, left, faces[Side.LEFT]).max(1)
        in_right = depths(left, right, faces[Side.RIGHT]).max(1)
        return np.maximum(in_left, in_right)

    return _of_both_hands(pair, deepest)


def penetration_volume(pair: Pair, points: Points = "vertices") -> Compared:
    """Volume that both meshes share, closed at the wrist, along lines a millimetre apart.

    Returns:
        (N, 1, 1, 1) cubic metres, against 0; images that show both hands count.
    """

    def shared(right: Floats, left: Floats, faces: list[Indices]) -> Floats:
        return shared_volumes(right, faces[Side.RIGHT], left, faces[Side.LEFT])

    return _of_both_hands(pair, shared)


def _of_both_hands(
    pair: Pair, measure: Callable[[Floats, Floats, list[Indices]], Floats]
) -> Compared:
    """A number of the meshes of each image that shows both hands; nothing counts without faces."""
    both = pair.interacting & (pair.closed_faces is not None)
    found = torch.zeros(len(pair), dtype=torch.float64)
    if pair.closed_faces is not None and both.any():
        meshes = _meshes(pair, both)
        faces = [side.numpy() for side in pair.closed_faces]
        for side in Side:
            _check_order(meshes[:, side], faces[side])
        found[both] = torch.from_numpy(measure(meshes[:, Side.RIGHT], meshes[:, Side.LEFT], faces))
    value = found[:, None, None, None]
    return Compared(value, torch.zeros_like(value), both[:, None, None])


def _meshes(pair: Pair, both: Tensor) -> Floats:
    """Predicted, of the images that show both hands: (M, S, V, 3)."""
    there = pair.predicted.vertices_valid.all(-1)
    if pair.predicted.vertices.shape[2] != NUM_VERTICES or (both & ~there).any():
        k = int((both & ~there).nonzero()[0]) if (both & ~there).any() else 0
        raise ValueError(
            f"vertices: {pair.true.names[k]!r} shows both hands, and not both have a predicted "
            "mesh; penetration is measured between two"
        )
    vertices: Floats = pair.predicted.vertices[both].numpy()
    return vertices


def _check_order(meshes: Floats, faces: Indices) -> None:
    """Faces of another hand model would measure something, silently."""
    edges = meshes[:, faces] - meshes[:, np.roll(faces, 1, axis=1)]
    edge = np.linalg.norm(edges, axis=-1).mean((1, 2))
    size = np.linalg.norm(np.ptp(meshes, axis=1), axis=-1)
    if np.median(edge) > TORN * np.median(size):
        raise ValueError(
            "vertices: the predicted meshes are torn, neighbours by the hand model's faces lie far "
            "apart; are they MANO's? Then give its folder, --mano"
        )
