"""Does a posed hand pierce itself? Ten times faster than the full test of `hands.anatomy`.

Only skin of different bones is tested against each other, and only where the bones' boxes overlap:
cheap enough for every frame of every clip.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourdhands.hands.assets import ManoAssets
from fourdhands.rendering.kernels import inlined, kernel
from fourdhands.skeleton import NUM_MANO_JOINTS

TOUCH = 1e-3  # an edge that ends within this share of its length at a face only touches it


class PiercingTest:
    """Tests posed hands of one side.

    Args:
        assets: Of that side.
    """

    def __init__(self, assets: ManoAssets) -> None:
        bones = assets.weights[assets.faces].sum(axis=1).argmax(axis=1)
        order = np.argsort(bones, kind="stable")
        self._faces = np.ascontiguousarray(assets.faces[order], np.int32)
        self._starts = np.searchsorted(bones[order], np.arange(NUM_MANO_JOINTS + 1)).astype(
            np.int32
        )
        self._boxes = np.empty((len(self._faces), 6), np.float32)
        self._bone_boxes = np.empty((NUM_MANO_JOINTS, 6), np.float32)
        self._near = np.empty(len(self._faces), np.int32)

    def __call__(self, vertices: NDArray[np.floating[Any]]) -> bool:
        """Whether any edge of one bone's skin passes through a face of another's: (778, 3)."""
        return bool(
            _pierces(
                np.ascontiguousarray(vertices, np.float32),
                self._faces, self._starts, self._boxes, self._bone_boxes, self._near,
            )
        )  # fmt: skip


@kernel
def _pierces(vertices, faces, starts, boxes, bone_boxes, near):  # type: ignore[no-untyped-def]
    """`boxes`, `bone_boxes` (lower, upper corner) and `near` are work space."""
    bones = bone_boxes.shape[0]
    for bone in range(bones):
        for axis in range(3):
            bone_boxes[bone, axis], bone_boxes[bone, 3 + axis] = 1e9, -1e9
            for face in range(starts[bone], starts[bone + 1]):
                p = vertices[faces[face, 0], axis]
                q = vertices[faces[face, 1], axis]
                r = vertices[faces[face, 2], axis]
                boxes[face, axis], boxes[face, 3 + axis] = min(p, q, r), max(p, q, r)
                bone_boxes[bone, axis] = min(bone_boxes[bone, axis], boxes[face, axis])
                bone_boxes[bone, 3 + axis] = max(bone_boxes[bone, 3 + axis], boxes[face, 3 + axis])
    for first in range(bones):
        for second in range(first + 1, bones):
            if not _overlap(bone_boxes[first], bone_boxes[second]):
                continue
            count = 0
            for face in range(starts[second], starts[second + 1]):
                if _overlap(boxes[face], bone_boxes[first]):
                    near[count] = face
                    count += 1
            if count == 0:
                continue
            for face in range(starts[first], starts[first + 1]):
                if not _overlap(boxes[face], bone_boxes[second]):
                    continue
                for k in range(count):
                    other = near[k]
                    if _overlap(boxes[face], boxes[other]) and (
                        _crosses(vertices, faces[face], faces[other])
                        or _crosses(vertices, faces[other], faces[face])
                    ):
                        return True
    return False


@inlined
def _overlap(one, other):  # type: ignore[no-untyped-def]
    return (
        one[0] <= other[3] and other[0] <= one[3]
        and one[1] <= other[4] and other[1] <= one[4]
        and one[2] <= other[5] and other[2] <= one[5]
    )  # fmt: skip


@kernel
def _crosses(vertices, face, other):  # type: ignore[no-untyped-def]
    """Does an edge of `face` pass through the triangle `other`, sharing no vertex with it?"""
    p, q, r = other[0], other[1], other[2]
    px, py, pz = vertices[p, 0], vertices[p, 1], vertices[p, 2]
    ux, uy, uz = vertices[q, 0] - px, vertices[q, 1] - py, vertices[q, 2] - pz
    vx, vy, vz = vertices[r, 0] - px, vertices[r, 1] - py, vertices[r, 2] - pz
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    for corner in range(3):
        a, b = face[corner], face[(corner + 1) % 3]
        if a in (p, q, r) or b in (p, q, r):
            continue
        ax, ay, az = vertices[a, 0] - px, vertices[a, 1] - py, vertices[a, 2] - pz
        bx, by, bz = vertices[b, 0] - px, vertices[b, 1] - py, vertices[b, 2] - pz
        from_a, from_b = ax * nx + ay * ny + az * nz, bx * nx + by * ny + bz * nz
        if from_a * from_b >= 0:
            continue
        t = from_a / (from_a - from_b)
        if t <= TOUCH or t >= 1 - TOUCH:
            continue
        hx, hy, hz = ax + t * (bx - ax), ay + t * (by - ay), az + t * (bz - az)
        # areas of the two triangles that the hit point makes with u and v, along the normal
        w = (hy * vz - hz * vy) * nx + (hz * vx - hx * vz) * ny + (hx * vy - hy * vx) * nz
        s = (uy * hz - uz * hy) * nx + (uz * hx - ux * hz) * ny + (ux * hy - uy * hx) * nz
        if w >= 0 and s >= 0 and w + s <= nx * nx + ny * ny + nz * nz:
            return True
    return False
