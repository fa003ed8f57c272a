"""Does a hand's skin pierce itself? A fast exact test that rejects or relaxes sampled poses."""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from fourdhands.hands.assets import IndexArray

# Cells about as large as a face: few faces a cell, few cells a face.
_CELL_METRES = 0.008
# An edge that ends within this fraction of its length at a face touches it, and does not pierce it.
_TOUCH = 1e-3


def pierced_faces(vertices: NDArray[np.floating[Any]], faces: IndexArray) -> NDArray[np.bool_]:
    """Mark the faces that an edge of the same mesh passes through.

    Faces that share a vertex with the edge do not count. A uniform grid finds the candidates.

    Args:
        vertices: (V, 3) metres.
        faces: (F, 3).

    Returns:
        (F,) True where a face is pierced.
    """
    return _pierced(np.ascontiguousarray(vertices, dtype=np.float64), np.ascontiguousarray(faces))


def self_intersections(vertices: NDArray[np.floating[Any]], faces: IndexArray) -> int:
    """Number of pierced faces, 0 for a clean mesh; see `pierced_faces`."""
    return int(pierced_faces(vertices, faces).sum())


@numba.njit(cache=True, nogil=True)
def _pierced(vertices, faces):  # type: ignore[no-untyped-def]
    lower = np.empty(3)
    size = np.empty(3, np.int64)
    for axis in range(3):
        lower[axis] = vertices[:, axis].min()
        size[axis] = int((vertices[:, axis].max() - lower[axis]) / _CELL_METRES) + 1
    starts, members = _bin_faces(vertices, faces, lower, size)
    pierced = np.zeros(len(faces), np.bool_)
    for face in range(len(faces)):
        for corner in range(3):
            a, b = faces[face, corner], faces[face, (corner + 1) % 3]
            if a > b:  # the neighbouring face runs along this edge the other way round
                continue
            first, last = _cells(vertices, a, b, b, lower)
            for i in range(first[0], last[0] + 1):
                for j in range(first[1], last[1] + 1):
                    for k in range(first[2], last[2] + 1):
                        cell = (i * size[1] + j) * size[2] + k
                        for entry in range(starts[cell], starts[cell + 1]):
                            other = members[entry]
                            if not pierced[other]:
                                pierced[other] = _passes(vertices, a, b, faces[other])
    return pierced


@numba.njit(cache=True, nogil=True)
def _cells(vertices, a, b, c, lower):  # type: ignore[no-untyped-def]
    """First and last grid cell along each axis of the box around three vertices."""
    first = np.empty(3, np.int64)
    last = np.empty(3, np.int64)
    for axis in range(3):
        p, q, r = vertices[a, axis], vertices[b, axis], vertices[c, axis]
        first[axis] = int((min(p, q, r) - lower[axis]) / _CELL_METRES)
        last[axis] = int((max(p, q, r) - lower[axis]) / _CELL_METRES)
    return first, last


@numba.njit(cache=True, nogil=True)
def _bin_faces(vertices, faces, lower, size):  # type: ignore[no-untyped-def]
    """Faces of each grid cell: `members[starts[cell]:starts[cell + 1]]`."""
    starts = np.zeros(size[0] * size[1] * size[2] + 1, np.int64)
    members = np.empty(0, np.int64)
    for fill in (False, True):  # count, then fill from the back
        for face in range(len(faces)):
            first, last = _cells(vertices, faces[face, 0], faces[face, 1], faces[face, 2], lower)
            for i in range(first[0], last[0] + 1):
                for j in range(first[1], last[1] + 1):
                    for k in range(first[2], last[2] + 1):
                        cell = (i * size[1] + j) * size[2] + k
                        if fill:
                            starts[cell] -= 1
                            members[starts[cell]] = face
                        else:
                            starts[cell] += 1
        if not fill:
            starts = np.cumsum(starts)
            members = np.empty(starts[-1], np.int64)
    return starts, members


@numba.njit(cache=True, nogil=True)
def _passes(vertices, a, b, face):  # type: ignore[no-untyped-def]
    """Does the open segment from vertex a to vertex b pass through the triangle?"""
    for corner in range(3):
        if face[corner] == a or face[corner] == b:
            return False
    o, u, v = face
    # Written out in scalars: small arrays would be allocated for every candidate.
    ux, vx = vertices[u, 0] - vertices[o, 0], vertices[v, 0] - vertices[o, 0]
    uy, vy = vertices[u, 1] - vertices[o, 1], vertices[v, 1] - vertices[o, 1]
    uz, vz = vertices[u, 2] - vertices[o, 2], vertices[v, 2] - vertices[o, 2]
    sx, wx = vertices[b, 0] - vertices[a, 0], vertices[a, 0] - vertices[o, 0]
    sy, wy = vertices[b, 1] - vertices[a, 1], vertices[a, 1] - vertices[o, 1]
    sz, wz = vertices[b, 2] - vertices[a, 2], vertices[a, 2] - vertices[o, 2]
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    slope = sx * nx + sy * ny + sz * nz
    if slope == 0:
        return False
    fraction = -(wx * nx + wy * ny + wz * nz) / slope
    if fraction <= _TOUCH or fraction >= 1 - _TOUCH:
        return False
    wx, wy, wz = wx + fraction * sx, wy + fraction * sy, wz + fraction * sz  # where it crosses
    uu, vv = ux * ux + uy * uy + uz * uz, vx * vx + vy * vy + vz * vz
    uv = ux * vx + uy * vy + uz * vz
    wu, wv = wx * ux + wy * uy + wz * uz, wx * vx + wy * vy + wz * vz
    scale = uu * vv - uv * uv
    along_u, along_v = vv * wu - uv * wv, uu * wv - uv * wu
    return along_u >= 0 and along_v >= 0 and along_u + along_v <= scale
