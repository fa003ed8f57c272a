"""Bringing two meshes into contact: how far one can slide towards the other before it touches.

Both meshes are seen along the sliding direction as height fields on one grid. The first contact is
where the gap between the two fields is smallest, so nothing overlaps by construction.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fourdhands.rendering.kernels import draw_faces

Floats = NDArray[np.floating]

CELL = 0.0015  # metres; grid of the height fields
NOTHING = -1e3  # metres; height where the grid sees no face


@dataclass(frozen=True)
class FirstContact:
    """Where two meshes meet.

    Attributes:
        offset: Metres along the direction that bring the moving mesh to touch the fixed one.
        fixed_face: Face of the fixed mesh that is touched.
        moving_face: Face of the moving mesh that touches it.
    """

    offset: float
    fixed_face: int
    moving_face: int


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
    return FirstContact(float(overlap[cell]), int(top_faces[cell]), int(bottom_faces[::-1][cell]))


def _basis(direction: Floats) -> Floats:
    """Right-handed axes for `draw_faces`: across, down, and towards the viewer at `direction`."""
    helper = np.eye(3)[np.abs(direction).argmin()]
    across = np.cross(helper, direction)
    across /= np.linalg.norm(across)
    return np.stack((across, -np.cross(direction, across), direction))


def _height_field(
    points: Floats, heights: Floats, faces: NDArray[np.int32], shape: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    field = np.full(shape, NOTHING, np.float32)
    ids = np.full(shape, -1, np.int32)
    draw_faces(
        np.ascontiguousarray(points, np.float32),
        np.ascontiguousarray(heights, np.float32),
        faces, False, field, ids,
    )  # fmt: skip
    return field, ids
