"""Bringing two meshes into contact: how far one can slide towards the other before it touches.

Both meshes are seen along the sliding direction as height fields on one grid. The first contact is
where the gap between the two fields is smallest, so nothing overlaps by construction.
"""

from dataclasses import dataclass
from math import atan2, pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourdhands.geometry.mesh_kernels import squared_distance_to_triangle
from fourdhands.rendering.kernels import draw_faces, inlined, kernel

Floats = NDArray[np.floating[Any]]

CELL = 0.0015  # metres; grid of the height fields
CLOSE = 0.006  # metres
NOTHING = -1e3  # metres; height where the grid sees no face


@dataclass(frozen=True)
class FirstContact:
    """Where two meshes meet.

    Attributes:
        offset: Metres along the direction that bring the moving mesh to touch the fixed one.
        fixed_face: Face of the fixed mesh that is touched.
        moving_face: Face of the moving mesh that touches it.
        close_area: Square metres, seen along the direction, over which less than `CLOSE` is left.
    """

    offset: float
    fixed_face: int
    moving_face: int
    close_area: float


def first_contact(
    fixed: Floats,
    fixed_faces: NDArray[np.int32],
    moving: Floats,
    moving_faces: NDArray[np.int32],
    direction: Floats,
) -> FirstContact | None:
    """Slide a mesh against `direction` from far away until it touches another.

    Args:
        fixed: (n, 3) metres.
        fixed_faces: (k, 3) outward.
        moving: (m, 3) metres, at offset 0.
        moving_faces: (l, 3) outward.
        direction: (3,) unit vector from the fixed mesh to where the moving one comes from.

    Returns:
        The contact, or None if the meshes pass each other.
    """
    basis = _basis(direction)
    below, above = fixed @ basis.T, moving @ basis.T
    low = np.maximum(below[:, :2].min(axis=0), above[:, :2].min(axis=0))
    high = np.minimum(below[:, :2].max(axis=0), above[:, :2].max(axis=0))
    width, height = np.ceil((high - low) / CELL).astype(int)
    if width < 1 or height < 1:
        return None
    grid = (below[:, :2] - low) / CELL, (above[:, :2] - low) / CELL
    # seen from the fixed mesh the grid is mirrored: turn it, so that outer faces are drawn
    grid[1][:, 1] = height - 1 - grid[1][:, 1]
    tops, top_faces = _height_field(grid[0], below[:, 2], fixed_faces, (height, width))
    bottoms, bottom_faces = _height_field(grid[1], -above[:, 2], moving_faces, (height, width))
    overlap = tops + bottoms[::-1]
    cell = np.unravel_index(overlap.argmax(), overlap.shape)
    if overlap[cell] < NOTHING / 2:
        return None
    return FirstContact(
        offset=float(overlap[cell]),
        fixed_face=int(top_faces[cell]),
        moving_face=int(bottom_faces[::-1][cell]),
        close_area=float((overlap > overlap[cell] - CLOSE).sum() * CELL**2),
    )


def _basis(direction: Floats) -> Floats:
    """Image axes for `draw_faces`: right, down, and towards a viewer who looks along -direction."""
    k = int(np.abs(direction).argmin())
    across = np.zeros(3)
    across[k - 2], across[k - 1] = -direction[k - 1], direction[k - 2]  # axis k cross direction
    across /= np.linalg.norm(across)
    down = np.roll(across, -1) * np.roll(direction, -2) - np.roll(across, -2) * np.roll(
        direction, -1
    )
    return np.stack((across, down, direction))


def _height_field(
    points: Floats, heights: Floats, faces: NDArray[np.int32], shape: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    field = np.full(shape, NOTHING, np.float32)
    ids = np.full(shape, -1, np.int32)
    draw_faces(
        np.ascontiguousarray(points, np.float32),
        np.ascontiguousarray(heights, np.float32),
        faces, NOTHING, field, ids,
    )  # fmt: skip
    return field, ids


@dataclass(frozen=True)
class Separation:
    """How two closed meshes lie to each other, vertices against surfaces, both ways.

    Attributes:
        gap: Least distance between them in metres, 0 if they overlap.
        penetration: Depth in metres of the vertex that lies deepest inside the other mesh.
    """

    gap: float
    penetration: float


def measure_separation(
    first: Floats, first_faces: NDArray[np.int32], second: Floats, second_faces: NDArray[np.int32]
) -> Separation:
    """Measure gap and penetration of two closed meshes exactly, at every vertex: slow.

    Args:
        first: (n, 3) metres.
        first_faces: (k, 3) outward.
        second: (m, 3) metres.
        second_faces: (l, 3) outward.
    """
    distances = []
    for points, vertices, faces in (
        (first, second, second_faces), (second, first, first_faces),
    ):  # fmt: skip
        signed = np.empty(len(points))
        _signed_distances(
            np.ascontiguousarray(points, np.float64),
            np.ascontiguousarray(vertices, np.float64)[faces],
            signed,
        )
        distances.append(signed.min())
    nearest = min(distances)
    return Separation(gap=max(nearest, 0.0), penetration=max(-nearest, 0.0))


@kernel
def _signed_distances(points, triangles, signed):  # type: ignore[no-untyped-def]
    """Distance of each point to the triangles, negative where their winding number is 1."""
    for i in range(points.shape[0]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        nearest, turns = 1e9, 0.0
        for t in range(triangles.shape[0]):
            ax, ay, az = triangles[t, 0, 0] - x, triangles[t, 0, 1] - y, triangles[t, 0, 2] - z
            bx, by, bz = triangles[t, 1, 0] - x, triangles[t, 1, 1] - y, triangles[t, 1, 2] - z
            cx, cy, cz = triangles[t, 2, 0] - x, triangles[t, 2, 1] - y, triangles[t, 2, 2] - z
            a, b, c = _length(ax, ay, az), _length(bx, by, bz), _length(cx, cy, cz)
            # solid angle (Van Oosterom and Strackee 1983)
            volume = ax * (by * cz - bz * cy) - ay * (bx * cz - bz * cx) + az * (bx * cy - by * cx)
            ab = ax * bx + ay * by + az * bz
            bc = bx * cx + by * cy + bz * cz
            ca = cx * ax + cy * ay + cz * az
            turns += 2 * atan2(volume, a * b * c + ab * c + bc * a + ca * b)
            nearest = min(nearest, squared_distance_to_triangle(ax, ay, az, bx, by, bz, cx, cy, cz))
        inside = turns > 2 * pi  # half of the full 4 pi
        signed[i] = -sqrt(nearest) if inside else sqrt(nearest)


@inlined
def _length(x: float, y: float, z: float) -> float:
    return sqrt(x * x + y * y + z * z)
