"""Closed meshes and what they share: which points lie inside, how deep, and the common volume.

Compiled loops, batched over pairs of points and meshes and spread over the threads of torch. Faces
are outward. Where a mesh overlaps itself it counts once: inside is where it winds at least once.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from fourdhands.geometry.mesh_kernels import mark_inside, measure_depth, shared_volume

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

LINE_SPACING: Final = 0.001
"""Metres between the lines along which shared volumes are measured."""


def inside(points: Floats, vertices: Floats, faces: Indices) -> NDArray[np.bool_]:
    """Which points lie inside closed meshes, by the signed faces above each point: exact.

    Args:
        points: (N, P, 3).
        vertices: (N, V, 3) of the mesh that belongs to these points.
        faces: (F, 3) outward, closed.

    Returns:
        (N, P). A point on the surface may come out either way.
    """
    found = np.zeros(points.shape[:2], np.bool_)
    points, vertices = _checked(points), _checked(vertices)
    _for_each(len(points), lambda k: mark_inside(points[k], vertices[k], faces, found[k]))
    return found


def depths(points: Floats, vertices: Floats, faces: Indices) -> Floats:
    """How deep points lie inside closed meshes: distance to the nearest point of the surface.

    Args:
        points: (N, P, 3) metres.
        vertices: (N, V, 3) metres.
        faces: (F, 3) outward, closed.

    Returns:
        (N, P) metres, 0 outside.
    """
    within = inside(points, vertices, faces)
    found = np.zeros(points.shape[:2])
    points, vertices = _checked(points), _checked(vertices)
    _for_each(
        len(points), lambda k: measure_depth(points[k], within[k], vertices[k], faces, found[k])
    )
    return found


def shared_volumes(
    first: Floats,
    first_faces: Indices,
    second: Floats,
    second_faces: Indices,
    spacing: float = LINE_SPACING,
) -> Floats:
    """Volumes that pairs of closed meshes have in common.

    The length that both share of lines along z, exact on each line, times the area of a line. The
    lines stand evenly over the rectangle in which the meshes' boxes overlap, in the middle of
    cells of at most the spacing.

    Args:
        first: (N, V, 3) metres.
        first_faces: (F, 3) outward, closed.
        second: (N, W, 3) metres.
        second_faces: (G, 3) outward, closed.
        spacing: metres from line to line; at most 512 lines stand along an axis.

    Returns:
        (N,) cubic metres.
    """
    found = np.zeros(len(first))
    first, second = _checked(first), _checked(second)

    def measure(k: int) -> None:
        found[k] = shared_volume(first[k], first_faces, second[k], second_faces, spacing)

    _for_each(len(first), measure)
    return found


def _checked(points: Floats) -> Floats:
    """What compiled loops can be trusted with."""
    if not np.isfinite(points).all():
        raise ValueError("meshes: a coordinate is not finite")
    return np.ascontiguousarray(points, np.float64)


def _for_each(count: int, work: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # the loops release the lock
        list(pool.map(work, range(count)))
