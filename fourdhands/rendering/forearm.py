"""The forearm that continues a posed hand: one smooth mesh, so that no stump and no seam shows.

A hand model ends in an open ring of 16 vertices at the wrist. `skin` paints the arm, `sleeve`
dresses it.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourdhands.hands.assets import ManoAssets
from fourdhands.rendering.subdivision import LoopSubdivision
from fourdhands.rendering.surface import Floats, Indices
from fourdhands.skeleton import NUM_FACES, NUM_VERTICES

Points = NDArray[np.float64]

LENGTH: Final = 0.26  # metres from the ring to the elbow
MAX_BEND: Final = np.radians(75.0)  # between the hand's own axis and the forearm
BEND_LENGTH: Final = 0.05  # metres over which the wrist bends
# Stations of the forearm in shares of its length, close together where it bends and is seen most,
# and its half axes there in units of the wrist's: it swells to the belly of its muscles.
STATIONS: Final = LENGTH * np.linspace(0.0, 1.0, 11)[1:] ** 1.35
PROFILE: Final = ((0.0, 1.0, 1.0), (0.25, 1.02, 1.18), (0.65, 1.38, 1.75), (1.0, 1.3, 1.65))
END_CAP: Final = ((0.012, 0.85), (0.018, 0.5))  # metres behind the elbow, scale: a rounded end


def wrist_ring(faces: ArrayLike) -> NDArray[np.int64]:
    """The open rim of a hand mesh, (16,) vertices in the direction in which its faces run."""
    table = np.asarray(faces, np.int64)
    edges = np.concatenate([table[:, [0, 1]], table[:, [1, 2]], table[:, [2, 0]]])
    used = set(map(tuple, edges.tolist()))
    following = {a: b for a, b in used if (b, a) not in used}
    if not following:
        raise ValueError("the hand mesh is closed: it has no ring at the wrist to continue")
    ring = [min(following)]
    while (vertex := following[ring[-1]]) != ring[0]:
        ring.append(vertex)
    if len(ring) != len(following):
        raise ValueError("the hand mesh has more openings than the wrist")
    return np.array(ring)


def wrist_axis(vertices: ArrayLike, ring: NDArray[np.int64]) -> Points:
    """Unit vector (3,) out of the hand through the ring: where the unbent forearm points."""
    points = np.asarray(vertices, np.float64)
    rim = points[ring] - points[ring].mean(axis=0)
    normal = np.cross(rim, np.roll(rim, -1, axis=0)).sum(axis=0)
    outward = points[ring].mean(axis=0) - points.mean(axis=0)
    return normal / np.linalg.norm(normal) * np.sign(normal @ outward)


@dataclass(frozen=True)
class Centreline:
    """The axis of a posed forearm, bent in one plane behind the wrist, and its cross-sections.

    Attributes:
        origin: (3,) centre of the wrist ring.
        axis: (3,) unit vector out of the hand.
        across: (3,) unit vector to which the bend turns the axis.
        bend: Angle of the bend in radians.
        rim: (16, 3) the ring about its centre.
        width: (3,) half the wrist's width, as a vector.
        depth: (3,) half its thickness, likewise.
    """

    origin: Points
    axis: Points
    across: Points
    bend: float
    rim: Points
    width: Points
    depth: Points

    @classmethod
    def of(
        cls, vertices: ArrayLike, ring: NDArray[np.int64], elbow_direction: ArrayLike | None
    ) -> "Centreline":
        """Fit to the ring of a posed hand; a bend beyond `MAX_BEND` is held there."""
        points = np.asarray(vertices, np.float64)
        axis = wrist_axis(points, ring)
        rim = points[ring] - points[ring].mean(axis=0)
        flat = rim - np.outer(rim @ axis, axis)
        _, spread, directions = np.linalg.svd(flat, full_matrices=False)
        half = spread[:2] * np.sqrt(2.0 / len(ring))  # exact for an evenly sampled ellipse
        elbow = axis if elbow_direction is None else np.asarray(elbow_direction, np.float64)
        across = elbow - (elbow @ axis) * axis
        length = np.linalg.norm(across)
        bend = float(np.arctan2(length, elbow @ axis))
        return cls(
            origin=points[ring].mean(axis=0),
            axis=axis,
            across=across / length if length > 1e-9 else directions[0],
            bend=min(bend, MAX_BEND),
            rim=rim,
            width=directions[0] * half[0],
            depth=directions[1] * half[1],
        )

    @property
    def elbow_direction(self) -> Points:
        """(3,) unit vector of the forearm behind the bend."""
        return np.cos(self.bend) * self.axis + np.sin(self.bend) * self.across

    def sections(self, stations: ArrayLike) -> tuple[Points, Points]:
        """Cross-sections at distances behind the ring (negative: inside the hand's wrist).

        Args:
            stations: (k,) metres.

        Returns:
            Centres (k, 3), and the skin about them (k, 16, 3).
        """
        s = np.asarray(stations, np.float64)
        share = np.clip(s / LENGTH, 0.0, 1.0)
        shares, wide, deep = np.array(PROFILE).T
        phase = np.arctan2(
            self.rim @ self.depth / (self.depth @ self.depth),
            self.rim @ self.width / (self.width @ self.width),
        )
        ellipse = np.interp(share, shares, wide)[:, None, None] * np.outer(
            np.cos(phase), self.width
        )
        ellipse += np.interp(share, shares, deep)[:, None, None] * np.outer(
            np.sin(phase), self.depth
        )
        blend = _smoothstep(share / 0.25)[:, None, None]
        offsets = (1.0 - blend) * self.rim + blend * ellipse

        # the bend turns sections in the plane of axis and across
        angle = self._angle(s)[:, None]
        along, aside = offsets @ self.axis, offsets @ self.across
        offsets += (along * (np.cos(angle) - 1.0) - aside * np.sin(angle))[..., None] * self.axis
        offsets += (along * np.sin(angle) + aside * (np.cos(angle) - 1.0))[..., None] * self.across
        return self._centres(s), offsets

    def _angle(self, stations: Points) -> Points:
        return self.bend * _smoothstep(stations / BEND_LENGTH)

    def _centres(self, stations: Points) -> Points:
        fine = np.linspace(0.0, BEND_LENGTH, 33)
        angle = self._angle((fine[1:] + fine[:-1]) / 2)
        steps = np.stack([np.cos(angle), np.sin(angle)], axis=1) * fine[1]
        path = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
        along, aside = (np.interp(stations, fine, column)[:, None] for column in path.T)
        before = np.minimum(stations, 0.0)[:, None]
        behind = np.maximum(stations - BEND_LENGTH, 0.0)[:, None]
        bent = (along + before) * self.axis + aside * self.across
        return self.origin + bent + behind * self.elbow_direction


class ArmMesh:
    """A hand of one side with its forearm: one refined mesh, drawn as two surfaces.

    Attributes:
        ring: (16,) the hand's wrist vertices.
        refine: From the control mesh (778 hand vertices, then the forearm's) to the drawn one.
        hand_faces: Drawn faces of the hand.
        forearm_faces: Drawn faces of the forearm, over the same vertices.
        rest: Drawn vertices of the mean hand at rest with a straight forearm.

    Args:
        assets: The hand.
        levels: Loop subdivisions; 1 for crops of 256 pixels, 2 for close-ups.
    """

    def __init__(self, assets: ManoAssets, levels: int = 1) -> None:
        self.ring = wrist_ring(assets.faces)
        rows = len(STATIONS) + len(END_CAP)
        end = NUM_VERTICES + rows * len(self.ring)
        behind = np.arange(NUM_VERTICES, end).reshape(rows, -1)
        forearm = tube_faces(np.concatenate([self.ring[None], behind]), end)
        self.refine = LoopSubdivision(np.concatenate([assets.faces, forearm]), end + 1, levels)
        of_hand = self.refine.parents < NUM_FACES
        self.hand_faces: Indices = np.ascontiguousarray(self.refine.faces[of_hand])
        self.forearm_faces: Indices = np.ascontiguousarray(self.refine.faces[~of_hand])
        self.rest: Floats = self.pose(assets.v_template)

    def pose(self, vertices: ArrayLike, elbow_direction: ArrayLike | None = None) -> Floats:
        """Drawn vertices (n, 3) of a posed hand (778, 3) and the forearm behind it.

        Args:
            vertices: Metres, any frame.
            elbow_direction: (3,) from the wrist to the elbow in that frame; None for a forearm
                that continues the hand unbent.
        """
        forearm = self.forearm(vertices, elbow_direction)
        return self.refine(np.concatenate([np.asarray(vertices), forearm]))

    def forearm(self, vertices: ArrayLike, elbow_direction: ArrayLike | None = None) -> Points:
        """Control points (k, 3) of the forearm, which `refine` takes after the hand's vertices.

        They follow the wrist rigidly as long as it keeps its bend. Arguments as of `pose`.
        """
        line = Centreline.of(vertices, self.ring, elbow_direction)
        behind, scales = np.array(END_CAP).T
        centres, offsets = line.sections(np.concatenate([STATIONS, LENGTH + behind]))
        offsets[-len(scales) :] *= scales[:, None, None]
        end = centres[-1] + 0.002 * line.elbow_direction
        return np.concatenate([(centres[:, None] + offsets).reshape(-1, 3), end[None]])


def tube_faces(rows: ArrayLike, end: int) -> NDArray[np.int64]:
    """Faces of a tube over rows of vertices (k, p), p even, closed by a fan over its `end` vertex.

    They look outward if the rows follow each other away from a hand whose `wrist_ring` gave the
    order within a row. Diagonals alternate, so that a row run through backwards, as a left hand's
    is, gives the mirror image.
    """
    near, far = np.asarray(rows, np.int64)[:-1], np.asarray(rows, np.int64)[1:]
    quads = np.stack([near, np.roll(near, -1, axis=1), np.roll(far, -1, axis=1), far], axis=-1)
    even, odd = quads[:, 0::2].reshape(-1, 4), quads[:, 1::2].reshape(-1, 4)
    last = far[-1]
    fan = np.stack([np.roll(last, -1), last, np.full_like(last, end)], axis=-1)
    return np.concatenate(
        [even[:, [1, 0, 3]], even[:, [1, 3, 2]], odd[:, [0, 3, 2]], odd[:, [1, 0, 2]], fan]
    )


def _smoothstep(x: ArrayLike) -> Points:
    t = np.clip(np.asarray(x, np.float64), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)
