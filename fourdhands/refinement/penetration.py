"""Two hands may touch, not pass through each other: which vertices are inside, and how deep.

The inside test (`geometry.meshes`, no gradient) is the winding number of the other hand's closed
surface; pairs whose boxes do not meet are left out first. Inside vertices are then pulled to the
nearest point of the other hand's skin (gradient through both hands), never to the wrist's cap.
"""

from dataclasses import dataclass
from typing import Any, Final, Self

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fourdhands.geometry.meshes import inside
from fourdhands.hands.mano import WRIST_CAP
from fourdhands.skeleton import NUM_SIDES, Side
from fourdhands.structures import TensorStruct

MILLIMETRE: Final = 1e-3
DEEP: Final = 5e-3  # metres
_CAP: Final = len(WRIST_CAP)


@dataclass(frozen=True)
class Contacts(TensorStruct):
    """K vertices of one hand inside the other, and the nearest points of its skin.

    Attributes:
        hand: (K,) which of N pairs of hands.
        side: (K,) the side of the vertex; the skin is the other's.
        vertex: (K,) int64.
        corners: (K, 3) int64 vertices of the nearest face of the other hand.
        barycentric: (K, 3) the nearest point in it.
        direction: (K, 3) unit vectors from the vertex to the nearest point: out of the other hand.
        area: (K,) the vertex's share of its hand's skin.
    """

    hand: Tensor
    side: Tensor
    vertex: Tensor
    corners: Tensor
    barycentric: Tensor
    direction: Tensor
    area: Tensor

    def __len__(self) -> int:
        """K."""
        return len(self.hand)

    @classmethod
    def find(cls, vertices: Tensor, closed_faces: Tensor, area: Tensor) -> Self:
        """Look for penetration.

        Args:
            vertices: (N, S, V, 3) pairs of hands, metres.
            closed_faces: (S, F, 3) outward, the wrist's cap last (`HandModel.closed_faces`).
            area: (S, V) shares of vertices, see `vertex_areas`.
        """
        points = vertices.detach().double().cpu().numpy()
        faces = closed_faces.cpu().numpy()
        found: list[list[NDArray[Any]]] = []
        for side in Side:
            other = 1 - side
            own = np.ascontiguousarray(points[:, side])
            skin = np.ascontiguousarray(points[:, other])
            near = _near(own, skin)
            for pair, within in zip(near, inside(own[near], skin[near], faces[other]), strict=True):
                vertex = np.flatnonzero(within)
                if len(vertex):
                    corners, places = nearest_on_skin(
                        own[pair][vertex], skin[pair], faces[other][:-_CAP]
                    )
                    number = np.full(len(vertex), pair)
                    found.append([number, np.full_like(number, side), vertex, corners, places])
        nothing = np.zeros(0, np.int64)
        if not found:
            found.append([nothing, nothing, nothing, np.zeros((0, 3), np.int64), np.zeros((0, 3))])
        hands, sides, ids, skin_corners, weights = (
            torch.from_numpy(np.concatenate(part)).to(vertices.device)
            for part in zip(*found, strict=True)
        )
        flat = vertices.detach()
        source = flat[hands, sides, ids]
        around = flat[hands[:, None], 1 - sides[:, None], skin_corners]
        target = (around * weights[..., None]).sum(1)
        direction = torch.nn.functional.normalize(target - source, dim=-1)
        share = area[sides, ids]
        return cls(hands, sides, ids, skin_corners, weights.to(vertices), direction, share)

    def depths(self, vertices: Tensor) -> Tensor:
        """How far the vertices have to move along `direction`, (K,) metres; at most 0 outside."""
        own = vertices[self.hand, self.side, self.vertex]
        corners = vertices[self.hand[:, None], 1 - self.side[:, None], self.corners]
        skin = (corners * self.barycentric[..., None]).sum(1)
        return ((skin - own) * self.direction).sum(-1)


def penetration(
    vertices: Tensor, contacts: Contacts, share: Tensor, clip: Tensor, clips: int, margin: float
) -> Tensor:
    """L_pen = mean over skin of rho(max(0, depth + margin)) where inside, Dyn-HaMR L_pen.

    rho(d) = 2 k^2 (sqrt(1 + d^2 / k^2) - 1), d^2 for shallow contacts; where hands are deep in each
    other the nearest way out may be the wrong one, so the pull grows no further (k = `DEEP`).

    The nearest points are held, so the gradient is that of the squared distance to the surface.

    Args:
        vertices: (N, S, V, 3) pairs of hands, metres.
        contacts: of the N pairs.
        share: (N,) how much of its clip each pair is.
        clip: (N,) which clip each pair belongs to.
        clips: B.
        margin: metres that hands are to be apart where they were inside.

    Returns:
        (B,) millimetres^2: area-weighted over the skin of both hands.
    """
    zero = vertices.new_zeros(clips)
    if not len(contacts):
        return zero
    depth = (contacts.depths(vertices) + margin).clamp_min(0) / MILLIMETRE
    deep = DEEP / MILLIMETRE
    cost = 2 * deep**2 * ((1 + (depth / deep).square()).sqrt() - 1)
    each = cost * contacts.area * share[contacts.hand] / NUM_SIDES
    return zero.index_add(0, clip[contacts.hand], each)


def vertex_areas(template: Tensor, faces: Tensor) -> Tensor:
    """Each vertex's share of its hand's skin: (S, V, 3), (S, F, 3) to (S, V) that sum to one."""
    shares = []
    for points, triangles in zip(template, faces, strict=True):
        corner = points[triangles]
        cross = torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
        area = cross.norm(dim=-1)[:, None].expand(-1, 3).reshape(-1)
        share = points.new_zeros(len(points)).index_add(0, triangles.reshape(-1), area)
        shares.append(share / share.sum())
    return torch.stack(shares)


def _near(own: NDArray[np.float64], skin: NDArray[np.float64]) -> NDArray[np.int64]:
    """Pairs whose boxes overlap."""
    apart = (own.min(1) > skin.max(1)) | (own.max(1) < skin.min(1))
    return np.flatnonzero(~apart.any(-1))


def nearest_on_skin(
    points: NDArray[np.float64], vertices: NDArray[np.float64], faces: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Nearest points of a surface.

    Args:
        points: (P, 3).
        vertices: (V, 3).
        faces: (F, 3).

    Returns:
        Corners (P, 3) of the face, and barycentric coordinates (P, 3) in it.
    """
    return _nearest(points, vertices, np.ascontiguousarray(faces))


@numba.njit(cache=True, nogil=True)
def _nearest(points, vertices, faces):  # type: ignore[no-untyped-def]
    corners = np.empty((len(points), 3), np.int64)
    places = np.empty((len(points), 3))
    centres = np.empty((len(faces), 3))
    radii = np.empty(len(faces))
    for face in range(len(faces)):
        a, b, c = faces[face]
        radius = 0.0
        for axis in range(3):
            centres[face, axis] = (vertices[a, axis] + vertices[b, axis] + vertices[c, axis]) / 3
        for corner in range(3):
            distance = 0.0
            for axis in range(3):
                distance += (vertices[faces[face, corner], axis] - centres[face, axis]) ** 2
            radius = max(radius, distance)
        radii[face] = np.sqrt(radius)
    for p in range(len(points)):
        best = np.inf
        for face in range(len(faces)):
            dx = points[p, 0] - centres[face, 0]
            dy = points[p, 1] - centres[face, 1]
            dz = points[p, 2] - centres[face, 2]
            reach = np.sqrt(best) + radii[face]
            if dx * dx + dy * dy + dz * dz > reach * reach:
                continue
            u, v, w, squared = _nearest_in_face(points[p], vertices, faces[face])
            if squared < best:
                best = squared
                corners[p] = faces[face]
                places[p, 0], places[p, 1], places[p, 2] = u, v, w
    return corners, places


@numba.njit(cache=True, nogil=True)
def _nearest_in_face(point, vertices, face):  # type: ignore[no-untyped-def]
    """Barycentric coordinates of the nearest point of a triangle, and its squared distance.

    Ericson, Real-Time Collision Detection, 2005, section 5.1.5: by the region the point is over.
    """
    a, b, c = face
    d1 = d2 = d3 = d4 = d5 = d6 = 0.0
    for k in range(3):
        ab = vertices[b, k] - vertices[a, k]
        ac = vertices[c, k] - vertices[a, k]
        d1 += ab * (point[k] - vertices[a, k])
        d2 += ac * (point[k] - vertices[a, k])
        d3 += ab * (point[k] - vertices[b, k])
        d4 += ac * (point[k] - vertices[b, k])
        d5 += ab * (point[k] - vertices[c, k])
        d6 += ac * (point[k] - vertices[c, k])
    va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    if d1 <= 0 and d2 <= 0:
        v, w = 0.0, 0.0
    elif d3 >= 0 and d4 <= d3:
        v, w = 1.0, 0.0
    elif d6 >= 0 and d5 <= d6:
        v, w = 0.0, 1.0
    elif vc <= 0 and d1 >= 0 and d3 <= 0:
        v, w = d1 / (d1 - d3), 0.0
    elif vb <= 0 and d2 >= 0 and d6 <= 0:
        v, w = 0.0, d2 / (d2 - d6)
    elif va <= 0 and d4 >= d3 and d5 >= d6:
        w = (d4 - d3) / (d4 - d3 + d5 - d6)
        v = 1 - w
    else:
        total = va + vb + vc
        v, w = vb / total, vc / total
    u = 1 - v - w
    squared = 0.0
    for k in range(3):
        nearest = u * vertices[a, k] + v * vertices[b, k] + w * vertices[c, k]
        squared += (point[k] - nearest) ** 2
    return u, v, w, squared
