"""Rotations of the few bodies of a scene, as (3, 3) matrices.

OpenCV and plain arithmetic: the rotation objects of scipy cost 0.05 ms a call, which adds up to a
tenth of the time of a short clip.
"""

from typing import cast

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def matrices_from_vectors(vectors: ArrayLike) -> Array:
    """Rotation vectors (N, 3), radians, to matrices (N, 3, 3)."""
    return np.stack([matrix_from_vector(vector) for vector in np.asarray(vectors)])


def matrix_from_vector(vector: ArrayLike) -> Array:
    """Rotation vector (3,), radians, to matrix (3, 3)."""
    return cast(Array, cv2.Rodrigues(np.asarray(vector, np.float64))[0])


def vector_from_matrix(matrix: Array) -> Array:
    """Matrix (3, 3) to rotation vector (3,), radians, at most half a turn."""
    return cast(Array, cv2.Rodrigues(matrix)[0][:, 0])


def random_rotation(rng: np.random.Generator) -> Array:
    """A rotation drawn uniformly from SO(3), from a quaternion uniform on its sphere."""
    w, x, y, z = unit(rng.normal(size=4))
    vector = np.array((x, y, z))
    sine = np.linalg.norm(vector)
    return matrix_from_vector(vector * (2 * np.arctan2(sine, w) / max(sine, 1e-12)))


def rotation_between(source: Array, target: Array) -> Array:
    """The smallest rotation (3, 3) that takes one unit vector (3,) to another."""
    axis = np.array(
        (
            source[1] * target[2] - source[2] * target[1],
            source[2] * target[0] - source[0] * target[2],
            source[0] * target[1] - source[1] * target[0],
        )
    )
    sine, cosine = np.linalg.norm(axis), source @ target
    if sine < 1e-9:  # none, or half a turn about anything perpendicular
        axis = np.cross(source, np.eye(3)[np.abs(source).argmin()])
        return matrix_from_vector(unit(axis) * (0.0 if cosine > 0 else np.pi))
    return matrix_from_vector(axis / sine * np.arctan2(sine, cosine))


def unit(vectors: Array) -> Array:
    """Vectors (..., N) at length 1."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
