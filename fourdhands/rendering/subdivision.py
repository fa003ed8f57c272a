"""Loop subdivision as one fixed sparse matrix: smooth surfaces from the 778 vertices of a hand.

Labels stay on the coarse mesh; only what is drawn is subdivided, after posing.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from fourdhands.rendering.surface import Floats, Indices


class LoopSubdivision:
    """Loop's scheme on a manifold triangle mesh, with its rules for open boundaries.

    An inner edge's new vertex is 3/8 of its ends and 1/8 of the two opposite vertices; an inner
    vertex of degree d keeps 1 - d * beta and takes beta of each neighbour, where
    beta = (5/8 - (3/8 + cos(2 pi / d) / 4)^2) / d. Boundary edges and vertices follow the cubic
    B-spline of the boundary alone, so two meshes that share a boundary curve still meet after
    subdivision.

    Smoothing shrinks: fingertips would end 1 to 2 mm before the vertices of the labels. So the
    vertices are first pushed out by what smoothing A takes from them, v + (v - A v), which leaves
    a second-order remainder (a tenth of a millimetre on a hand).

    Attributes:
        num_vertices: n.
        faces: (m * 4**levels, 3) int32 faces of the refined mesh, oriented as the given ones.
        parents: (m * 4**levels,) int32 given face that each refined face lies in.

    Args:
        faces: (m, 3) given faces.
        num_vertices: n, at least 1 + the largest index.
        levels: How often to subdivide; 0 leaves the mesh as it is.

    Raises:
        ValueError: An edge has more than two faces.
    """

    def __init__(self, faces: ArrayLike, num_vertices: int, levels: int = 1) -> None:
        self.num_vertices = num_vertices
        self.faces: Indices = np.ascontiguousarray(faces, np.int32)
        self.parents: Indices = np.arange(len(self.faces), dtype=np.int32)
        matrix = sparse.csr_array(sparse.eye_array(num_vertices))
        for _ in range(levels):
            step, self.faces = _loop_step(self.faces, matrix.shape[0])
            matrix = step @ matrix
            self.parents = np.tile(self.parents, 4)
        self._smooth = sparse.csr_array(matrix.astype(np.float32))
        kept = self._smooth[:num_vertices]  # a step keeps the old vertices first
        push = 2.0 * sparse.eye_array(num_vertices) - kept
        self._push = sparse.csr_array(push.astype(np.float32))

    def __call__(self, values: ArrayLike) -> Floats:
        """Refine values on the vertices: (n,) or (n, c) -> (n',) or (n', c) float32."""
        return self._smooth @ (self._push @ np.asarray(values, np.float32))


def _loop_step(faces: Indices, num_vertices: int) -> tuple[sparse.csr_array, Indices]:
    """One step: the (n + edges, n) matrix and the refined faces, four blocks of m."""
    corners = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    opposite = np.concatenate([faces[:, 2], faces[:, 0], faces[:, 1]])
    edges, edge_of_corner, uses = np.unique(
        np.sort(corners, axis=1), axis=0, return_inverse=True, return_counts=True
    )
    edge_of_corner = edge_of_corner.ravel()
    if uses.max() > 2:
        raise ValueError("Loop subdivision needs a manifold mesh: an edge has more than two faces")
    border = uses == 1
    new = num_vertices + np.arange(len(edges))
    inner_corner = ~border[edge_of_corner]
    entries = [
        (new, edges[:, 0], np.where(border, 1 / 2, 3 / 8)),
        (new, edges[:, 1], np.where(border, 1 / 2, 3 / 8)),
        (new[edge_of_corner[inner_corner]], opposite[inner_corner], 1 / 8),
    ]
    on_border = np.zeros(num_vertices, bool)
    on_border[edges[border]] = True
    degree = np.bincount(edges.ravel(), minlength=num_vertices)
    valence = np.maximum(degree, 1)
    beta = (5 / 8 - (3 / 8 + np.cos(2 * np.pi / valence) / 4) ** 2) / valence
    old = np.arange(num_vertices)
    entries.append((old, old, np.where(on_border, 3 / 4, 1 - degree * beta)))
    for vertex, neighbour in (edges.T, edges[:, ::-1].T):
        inner = ~on_border[vertex]
        entries.append((vertex[inner], neighbour[inner], beta[vertex[inner]]))
        entries.append((vertex[border], neighbour[border], 1 / 8))
    rows, columns, weights = zip(*entries, strict=True)
    values = [np.broadcast_to(w, r.shape) for w, r in zip(weights, rows, strict=True)]
    matrix = sparse.coo_array(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))),
        shape=(num_vertices + len(edges), num_vertices),
    ).tocsr()
    ab, bc, ca = (new[part] for part in np.split(edge_of_corner, 3))
    a, b, c = faces.T
    blocks = [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
    refined = np.concatenate([np.stack(block, axis=1) for block in blocks])
    return matrix, refined.astype(np.int32)
