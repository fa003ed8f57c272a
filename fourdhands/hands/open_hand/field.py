"""A signed distance field of soft-blended round cones: the flesh that the open hand's skin covers.

Cones blend inside their own group first (a finger, the palm), then the groups blend, so that
neighbouring fingers stay apart while each grows smoothly out of the palm.
"""

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from fourdhands.hands.open_hand.measurements import Floats, unit
from fourdhands.skeleton import MANO_FINGERS

PALM: Final = 5  # group of the palm; groups 0..4 are the fingers in MANO's order
GROUPS: Final = (*MANO_FINGERS, "palm")
# Radii of blending, millimetres: within a finger, within the palm, between groups.
_BLEND_FINGER: Final = 1.6
_BLEND_PALM: Final = 3.6
_BLEND_GROUPS: Final = 2.2
_GRADIENT_STEP: Final = 0.25
_CHUNK: Final = 40_000
_LONGEST_MOVE: Final = 2.0  # millimetres a step of `project`; far away the field is no distance


@dataclass(frozen=True)
class Flesh:
    """Round cones, some flattened: `N` line segments with a radius at either end.

    Attributes:
        ends: (N, 2, 3) millimetres.
        radii: (N, 2) millimetres.
        up: (N, 3) direction along which the cross-section is squeezed.
        flatness: (N,) factor of the squeeze, 1 for a circle.
        group: (N,) 0..4 fingers, 5 palm.
    """

    ends: Floats
    radii: Floats
    up: Floats
    flatness: Floats
    group: NDArray[np.int64]

    def moved(self, ends: Floats, up: Floats) -> Self:
        """The same cones elsewhere."""
        return type(self)(ends, self.radii, up, self.flatness, self.group)


def group_distances(points: Floats, flesh: Flesh) -> Floats:
    """Distance to the surface of each group by itself: (P, 3) to (P, 6) millimetres."""
    points = np.asarray(points, np.float32)
    if len(points) > _CHUNK:
        chunks = np.array_split(points, -(-len(points) // _CHUNK))
        return np.concatenate([group_distances(chunk, flesh) for chunk in chunks])
    columns = []
    for group in range(len(GROUPS)):
        cones = [_cone_distance(points, flesh, k) for k in np.flatnonzero(flesh.group == group)]
        columns.append(_soft_minimum(cones, _BLEND_PALM if group == PALM else _BLEND_FINGER))
    return np.stack(columns, axis=-1)


def distance(points: Floats, flesh: Flesh) -> Floats:
    """Signed distance to the skin, negative inside: (P, 3) to (P,) millimetres."""
    return _soft_minimum(list(group_distances(points, flesh).T), _BLEND_GROUPS)


def normals(points: Floats, flesh: Flesh) -> Floats:
    """Outward unit normals of the level set through each point, (P, 3)."""
    offsets = np.repeat(np.eye(3) * _GRADIENT_STEP, 2, axis=0) * np.array((1, -1) * 3)[:, None]
    shifted = (np.asarray(points)[:, None] + offsets).reshape(-1, 3)
    values = distance(shifted, flesh).reshape(-1, 3, 2)
    return unit(values[..., 0] - values[..., 1] + 1e-12)


def project(
    points: Floats, flesh: Flesh, steps: int = 4, in_plane: NDArray[Any] | None = None
) -> Floats:
    """Move points onto the skin along the field's gradient.

    Args:
        points: (P, 3) millimetres, near the skin.
        flesh: The field.
        steps: Newton steps.
        in_plane: (P,) mask of points that keep their x, as the rim of the wrist does.

    Returns:
        (P, 3) points on the skin.
    """
    points = np.array(points, np.float64)
    for _ in range(steps):
        far = np.clip(distance(points, flesh), -_LONGEST_MOVE, _LONGEST_MOVE)
        move = far[:, None] * normals(points, flesh)
        if in_plane is not None:
            move[in_plane, 0] = 0
        points -= move
    return points


def _cone_distance(points: Floats, flesh: Flesh, k: int) -> Floats:
    """Distance to one cone, its radius interpolated along the segment; good enough to blend."""
    start, end = flesh.ends[k].astype(np.float32)
    first, last = flesh.radii[k]
    axis = end - start
    if flesh.flatness[k] != 1:
        up = flesh.up[k] - flesh.up[k] @ axis / (axis @ axis) * axis
        up = (up / np.linalg.norm(up)).astype(np.float32)
        stretch = np.float32(1 / flesh.flatness[k] - 1)
        points = points + ((points - start) @ up * stretch)[:, None] * up
    along = np.clip((points - start) @ axis / max(float(axis @ axis), 1e-9), 0, 1)
    away = np.linalg.norm(points - start - along[:, None] * axis, axis=-1)
    return (away - (first + (last - first) * along)) * (1 + flesh.flatness[k]) / 2


def _soft_minimum(values: list[Floats], radius: float) -> Floats:
    stacked = np.stack(values)
    least = stacked.min(0)
    return least - radius * np.log(np.exp((least - stacked) / radius).sum(0))
