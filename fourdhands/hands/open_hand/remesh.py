"""Reduce a triangle mesh to an exact number of vertices, keeping its triangles well shaped.

A mesh like a disc (one boundary loop of B vertices, no handles) always has F = 2 V - B - 2 faces:
with MANO's 778 vertices and a rim of 16 there are 1538 faces by themselves, so only the two vertex
counts have to be hit. Edges are collapsed shortest first (measured by the wanted edge length), with
flips towards Delaunay and tangential smoothing on the surface in between.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fourdhands.hands.open_hand.measurements import Floats

Surface = Callable[[Floats], Floats]  # puts points onto the surface
EdgeLength = Callable[[Floats], Floats]  # wanted edge length at points
Edge = tuple[int, int]
Face = tuple[int, int, int]
Indices = NDArray[np.integer[Any]]

_STAGES: Final = 6
_POLISH_ROUNDS: Final = 16
_LEAST_VALENCE: Final = 4
_FOLD_COSINE: Final = 0.3  # a collapse may not turn a face further than this
_FLIP_COSINE: Final = 0.5


class EditableMesh:
    """A manifold triangle mesh that can lose edges and flip them."""

    def __init__(self, vertices: Floats, faces: Indices) -> None:
        self.positions = [np.array(vertex, float) for vertex in vertices]
        self.faces: dict[int, Face] = {
            i: (int(a), int(b), int(c)) for i, (a, b, c) in enumerate(faces)
        }
        self.faces_at: dict[int, set[int]] = defaultdict(set)
        for i, face in self.faces.items():
            for vertex in face:
                self.faces_at[vertex].add(i)

    def neighbours(self, vertex: int) -> set[int]:
        """Vertices that share a face with one."""
        return {v for face in self.faces_at[vertex] for v in self.faces[face]} - {vertex}

    def faces_of_edge(self, a: int, b: int) -> set[int]:
        """The one or two faces at an edge."""
        return self.faces_at[a] & self.faces_at[b]

    def edges(self) -> list[Edge]:
        """All edges, ordered, so that a run depends on the mesh alone."""
        pairs = ((f[k], f[(k + 1) % 3]) for f in self.faces.values() for k in range(3))
        return sorted({(min(pair), max(pair)) for pair in pairs})

    def boundary(self) -> set[int]:
        """Vertices of edges with one face."""
        return {v for edge in self.edges() if len(self.faces_of_edge(*edge)) == 1 for v in edge}

    def length(self, a: int, b: int) -> float:
        """Distance between two vertices."""
        return float(np.linalg.norm(self.positions[a] - self.positions[b]))

    def normal(self, face: Face, moved: int = -1, to: Floats | None = None) -> Floats:
        """Area-weighted normal, with one vertex moved if asked."""
        a, b, c = (to if v == moved and to is not None else self.positions[v] for v in face)
        return np.cross(b - a, c - a)

    def opposite(self, edge: Edge) -> list[int]:
        """The third vertices of the faces at an edge."""
        return [v for face in self.faces_of_edge(*edge) for v in self.faces[face] if v not in edge]

    def can_collapse(self, a: int, b: int, target: Floats, boundary: set[int]) -> bool:
        """Would the mesh stay manifold, unfolded and of decent valence with b merged into a?"""
        gone = self.faces_of_edge(a, b)
        opposite = set(self.opposite((a, b)))
        if (self.neighbours(a) & self.neighbours(b)) != opposite:
            return False
        if a in boundary and b in boundary and len(gone) != 1:
            return False
        if any(
            len(self.faces_at[v]) <= (_LEAST_VALENCE - 2 if v in boundary else _LEAST_VALENCE)
            for v in opposite
        ):
            return False
        return not any(
            _turns(self.normal(self.faces[face]), self.normal(self.faces[face], v, target))
            for v in (a, b)
            for face in self.faces_at[v] - gone
        )

    def collapse(self, a: int, b: int, target: Floats) -> None:
        """Merge b into a, at `target`."""
        for face in self.faces_of_edge(a, b):
            for v in self.faces.pop(face):
                self.faces_at[v].discard(face)
        for face in self.faces_at.pop(b):
            first, second, third = (a if v == b else v for v in self.faces[face])
            self.faces[face] = (first, second, third)
            self.faces_at[a].add(face)
        self.positions[a] = target

    def flip(self, edge: Edge) -> None:
        """Turn the edge between two faces, unless that folds the surface or doubles an edge."""
        a, b = edge
        one, two = sorted(self.faces_of_edge(a, b))
        c, d = (next(v for v in self.faces[face] if v not in edge) for face in (one, two))
        if c == d or self.faces_of_edge(c, d):
            return
        k = self.faces[one].index(a)
        if self.faces[one][(k + 1) % 3] != b:
            a, b = b, a
        new = {one: (a, d, c), two: (d, b, c)}
        reference = sum(n / (np.linalg.norm(n) + 1e-12) for n in map(self._normal_of, (one, two)))
        size = np.linalg.norm(reference)
        for face in new.values():
            n = self.normal(face)
            if n @ reference <= _FLIP_COSINE * np.linalg.norm(n) * size:
                return
        for face_id, face in new.items():
            for v in self.faces[face_id]:
                self.faces_at[v].discard(face_id)
            self.faces[face_id] = face
            for v in face:
                self.faces_at[v].add(face_id)

    def arrays(self) -> tuple[Floats, Indices, Indices]:
        """Compact vertices and faces, and the mesh's own number of each vertex."""
        used = sorted({v for face in self.faces.values() for v in face})
        number = {v: i for i, v in enumerate(used)}
        faces = np.array([[number[v] for v in face] for face in self.faces.values()])
        return np.array([self.positions[v] for v in used]), faces, np.array(used)

    def _normal_of(self, face: int) -> Floats:
        return self.normal(self.faces[face])


def reduce_mesh(
    vertices: Floats,
    faces: Indices,
    edge_length: EdgeLength,
    surface: Surface,
    num_vertices: int,
    num_boundary: int,
) -> tuple[Floats, Indices]:
    """Bring a disc-like mesh to exact counts.

    Args:
        vertices: (V, 3) of the fine mesh.
        faces: (F, 3).
        edge_length: Wanted edge lengths, up to a common factor.
        surface: Projection onto the surface.
        num_vertices: Wanted vertices.
        num_boundary: Wanted vertices around the boundary.

    Returns:
        (num_vertices, 3) vertices and (2 num_vertices - num_boundary - 2, 3) faces.

    Raises:
        RuntimeError: No edge can be collapsed any more.
    """
    mesh = EditableMesh(vertices, faces)
    counts = np.geomspace(len(vertices), num_vertices, _STAGES + 1)[1:].round().astype(int)
    for count in counts:
        _shorten_boundary(mesh, num_boundary)
        _collapse_interior(mesh, edge_length, int(count))
        _flip_to_delaunay(mesh)
        _smooth(mesh, edge_length, surface, fixed=mesh.boundary(), rounds=3)
    return mesh.arrays()[:2]


def polish_mesh(
    vertices: Floats, faces: Indices, edge_length: EdgeLength, surface: Surface, fixed: list[int]
) -> tuple[Floats, Indices]:
    """Improve the triangles' shapes without moving the `fixed` vertices; counts stay."""
    mesh = EditableMesh(vertices, faces)
    for _ in range(_POLISH_ROUNDS):
        _flip_to_delaunay(mesh)
        _smooth(mesh, edge_length, surface, fixed=set(fixed), rounds=2)
    return mesh.arrays()[:2]


def boundary_loop(faces: Indices) -> list[int]:
    """Vertices around the one hole of a mesh, in the direction of the faces' edges."""
    half_edges = {(int(f[k]), int(f[(k + 1) % 3])) for f in faces for k in range(3)}
    following = {a: b for a, b in half_edges if (b, a) not in half_edges}
    loop = [min(following)]
    while (after := following[loop[-1]]) != loop[0]:
        loop.append(after)
    assert len(loop) == len(following), "the mesh has more than one hole"
    return loop


def _shorten_boundary(mesh: EditableMesh, num_boundary: int) -> None:
    while len(boundary := mesh.boundary()) > num_boundary:
        rim = [edge for edge in mesh.edges() if len(mesh.faces_of_edge(*edge)) == 1]
        for a, b in sorted(rim, key=lambda edge: mesh.length(*edge)):
            middle = (mesh.positions[a] + mesh.positions[b]) / 2
            if mesh.can_collapse(a, b, middle, boundary):
                mesh.collapse(a, b, middle)
                break
        else:
            raise RuntimeError("no edge of the boundary can be collapsed")


def _collapse_interior(mesh: EditableMesh, edge_length: EdgeLength, count: int) -> None:
    boundary = mesh.boundary()
    wanted = edge_length(np.array(mesh.positions))
    version: dict[int, int] = defaultdict(int)

    def entry(a: int, b: int) -> tuple[float, int, int, int, int]:
        return mesh.length(a, b) / (wanted[a] + wanted[b]), a, b, version[a], version[b]

    heap = [entry(a, b) for a, b in mesh.edges()]
    heapq.heapify(heap)
    alive = sum(bool(faces) for faces in mesh.faces_at.values())
    while alive > count:
        if not heap:
            raise RuntimeError(f"no edge can be collapsed any more at {alive} vertices")
        _, a, b, version_a, version_b = heapq.heappop(heap)
        if (version[a], version[b]) != (version_a, version_b) or not mesh.faces_of_edge(a, b):
            continue
        if a in boundary and b in boundary:
            continue
        if b in boundary:
            a, b = b, a
        middle = (mesh.positions[a] + mesh.positions[b]) / 2  # smoothing puts it on the surface
        target = mesh.positions[a] if a in boundary else middle
        if not mesh.can_collapse(a, b, target, boundary):
            continue
        mesh.collapse(a, b, target)
        alive -= 1
        wanted[a] = (wanted[a] + wanted[b]) / 2
        version[a] += 1
        version[b] += 1
        for c in sorted(mesh.neighbours(a)):
            heapq.heappush(heap, entry(a, c))


def _flip_to_delaunay(mesh: EditableMesh, passes: int = 2) -> None:
    """Flip edges whose two opposite angles sum to more than a half turn."""
    for _ in range(passes):
        for edge in mesh.edges():
            if len(mesh.faces_of_edge(*edge)) == 2:
                ends = [mesh.positions[v] for v in edge]
                corners = (mesh.positions[v] for v in mesh.opposite(edge))
                if sum(_angle(ends[0] - corner, ends[1] - corner) for corner in corners) > np.pi:
                    mesh.flip(edge)


def _smooth(
    mesh: EditableMesh, edge_length: EdgeLength, surface: Surface, fixed: set[int], rounds: int
) -> None:
    """Move vertices within the surface to the centroids of their faces."""
    for _ in range(rounds):
        vertices, faces, numbers = mesh.arrays()
        corners = vertices[faces]
        face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        weight = np.linalg.norm(face_normals, axis=1) / edge_length(vertices)[faces].mean(1) ** 2
        normal, centroid = np.zeros_like(vertices), np.zeros_like(vertices)
        total = np.zeros(len(vertices))
        for k in range(3):
            np.add.at(normal, faces[:, k], face_normals)
            np.add.at(centroid, faces[:, k], weight[:, None] * corners.mean(1))
            np.add.at(total, faces[:, k], weight)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
        move = centroid / total[:, None] - vertices
        move -= (move * normal).sum(1, keepdims=True) * normal
        moved = surface(vertices + 0.5 * move)
        for number, position in zip(numbers, moved, strict=True):
            if int(number) not in fixed:
                mesh.positions[int(number)] = position


def _turns(before: Floats, after: Floats) -> bool:
    """Does a face degenerate or turn too far?"""
    lengths = np.linalg.norm(before), np.linalg.norm(after)
    return bool(lengths[1] < 1e-9 or before @ after < _FOLD_COSINE * lengths[0] * lengths[1])


def _angle(first: Floats, second: Floats) -> float:
    cosine = first @ second / (np.linalg.norm(first) * np.linalg.norm(second) + 1e-12)
    return float(np.arccos(np.clip(cosine, -1, 1)))
