"""Compiled geometry passes of the rasteriser: normals, projection, visibility.

Image coordinates have pixel centres at integers. Every kernel releases the GIL.
"""

from collections.abc import Callable
from math import ceil, floor, sqrt
from typing import Any, Final, TypeVar, cast

import numba
import numpy as np

from fourdhands.rendering.surface import Bytes, Floats, Indices

Function = TypeVar("Function", bound=Callable[..., Any])
NEAR = 0.01  # metres; a face with a vertex nearer than this is not drawn
EDGE = 1e-9  # barycentric slack, so that a sample on an edge belongs to both faces, not to none


# Kernels allocate nothing, so they do without numba's reference counts (`_nrt`), which cost more
# than the work itself wherever arrays travel in tuples.
OPTIONS: Final[dict[str, Any]] = {
    "nogil": True,
    "fastmath": True,
    "error_model": "numpy",
    "_nrt": False,
}


def kernel(function: Function) -> Function:
    """Compile a function on its first call and cache the machine code beside the source."""
    return cast(Function, numba.njit(cache=True, **OPTIONS)(function))


def inlined(function: Function) -> Function:
    """Compile a function into its callers: passing tuples of arrays by value would dominate.

    A kernel's cached code is renewed when the kernel's own file changes. After editing an inlined
    function of another file, remove the `*.nbi` files in `__pycache__`.
    """
    return cast(Function, numba.njit(inline="always", **OPTIONS)(function))


@kernel
def average_normals(vertices: Floats, faces: Indices, wanted: Bytes, normals: Floats) -> None:
    """Fill `normals` (N, 3) with area-weighted unit vertex normals where `wanted` (N,) is 1."""
    for face in range(faces.shape[0]):
        a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
        if not wanted[a]:
            continue
        ux, uy, uz = (
            vertices[b, 0] - vertices[a, 0],
            vertices[b, 1] - vertices[a, 1],
            vertices[b, 2] - vertices[a, 2],
        )
        vx, vy, vz = (
            vertices[c, 0] - vertices[a, 0],
            vertices[c, 1] - vertices[a, 1],
            vertices[c, 2] - vertices[a, 2],
        )
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for vertex in (a, b, c):
            normals[vertex, 0] += nx
            normals[vertex, 1] += ny
            normals[vertex, 2] += nz
    for vertex in range(normals.shape[0]):
        if wanted[vertex]:
            x, y, z = normals[vertex, 0], normals[vertex, 1], normals[vertex, 2]
            scale = 1.0 / (sqrt(x * x + y * y + z * z) + 1e-20)
            normals[vertex, 0] *= scale
            normals[vertex, 1] *= scale
            normals[vertex, 2] *= scale


@kernel
def project(
    vertices: Floats, fx: float, fy: float, cx: float, cy: float, points: Floats, nearness: Floats
) -> None:
    """Project to `points` (N, 2); `nearness` (N,) becomes 1/z, or -1 nearer than `NEAR`."""
    for i in range(vertices.shape[0]):
        z = vertices[i, 2]
        if z < NEAR:
            nearness[i] = -1.0
            continue
        nearness[i] = 1.0 / z
        points[i, 0] = fx * vertices[i, 0] / z + cx
        points[i, 1] = fy * vertices[i, 1] / z + cy


@kernel
def bounds(points: Floats, chosen: Bytes, low: Floats, high: Floats) -> None:
    """Bounding box of the points (N, D) whose `chosen` (N,) is not 0, into (D,) and (D,)."""
    for axis in range(points.shape[1]):
        least, most = 1e30, -1e30
        for i in range(points.shape[0]):
            if chosen[i]:
                least, most = min(least, points[i, axis]), max(most, points[i, axis])
        low[axis], high[axis] = least, most


@kernel
def draw_faces(
    points: Floats, nearness: Floats, faces: Indices, least: float, depth: Floats, ids: Indices
) -> None:
    """Z-buffer the front faces, those with negative area on an image whose y points down.

    Args:
        points: (N, 2) positions in the buffer, sample centres at integers.
        nearness: (N,) linear over the image (1/z, or minus the distance to a directional light);
            larger is nearer.
        faces: (M, 3).
        least: Faces with a vertex of less nearness are not drawn.
        depth: (H, W) greatest nearness so far, changed in place.
        ids: (H, W) its face, changed in place.
    """
    height, width = depth.shape
    for face in range(faces.shape[0]):
        a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
        # in double precision: neighbours have to agree on the side of their common edge
        ax, ay = np.float64(points[a, 0]), np.float64(points[a, 1])
        bx, by = np.float64(points[b, 0]), np.float64(points[b, 1])
        cx, cy = np.float64(points[c, 0]), np.float64(points[c, 1])
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if area >= 0.0:
            continue
        na, nb, nc = nearness[a], nearness[b], nearness[c]
        if min(na, min(nb, nc)) < least:
            continue
        left = int(max(0.0, ceil(min(ax, min(bx, cx)))))
        right = int(min(width - 1.0, floor(max(ax, max(bx, cx)))))
        top = int(max(0.0, ceil(min(ay, min(by, cy)))))
        bottom = int(min(height - 1.0, floor(max(ay, max(by, cy)))))
        if left > right or top > bottom:
            continue
        # barycentrics of a and b and the nearness are affine in x along each row
        scale = 1.0 / area
        step_a, step_b = (by - cy) * scale, (cy - ay) * scale
        step_n = step_a * na + step_b * nb - (step_a + step_b) * nc
        for y in range(top, bottom + 1):
            wa = ((bx - left) * (cy - y) - (cx - left) * (by - y)) * scale
            wb = ((cx - left) * (ay - y) - (ax - left) * (cy - y)) * scale
            near = wa * na + wb * nb + (1.0 - wa - wb) * nc
            for x in range(left, right + 1):
                if wa >= -EDGE and wb >= -EDGE and wa + wb <= 1.0 + EDGE and near > depth[y, x]:
                    depth[y, x] = near
                    ids[y, x] = face
                wa += step_a
                wb += step_b
                near += step_n
