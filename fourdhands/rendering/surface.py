"""What is drawn: closed triangle surfaces with their colours and the material they are made of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.int32]
Bytes = NDArray[np.uint8]

MAX_SURFACES = 255  # instance maps are uint8, 0 is the background


@dataclass(frozen=True)
class Material:
    """How a surface answers light; its base colours are on the vertices.

    A material has two layers: the base, and a glossy one that the vertices' `gloss` blends in
    (nails on skin, stripes on cloth).

    Attributes:
        wrap: How far diffuse light creeps past the terminator, per RGB channel: 0 is Lambert's
            law; in skin red light travels furthest, which is most of what makes it look alive.
        roughness: GGX roughness of the base, 0 to 1.
        reflectance: Mirror reflectance at normal incidence.
        bump: Strength of the fine grain (colour and relief), 0 for a smooth surface.
        gloss_albedo: Linear RGB of the glossy layer.
        gloss_roughness: GGX roughness of the glossy layer.
    """

    wrap: Sequence[float] = (0.0, 0.0, 0.0)
    roughness: float = 0.6
    reflectance: float = 0.04
    bump: float = 0.0
    gloss_albedo: Sequence[float] = (0.5, 0.5, 0.5)
    gloss_roughness: float = 0.3

    def row(self) -> Floats:
        """The material as one row (10,) of the shading kernel's table."""
        values = (*self.wrap, self.roughness, self.reflectance, self.bump)
        return np.array((*values, *self.gloss_albedo, self.gloss_roughness), np.float32)


@dataclass(frozen=True)
class Surface:
    """A triangle mesh in the camera frame (x right, y down, z forward; metres).

    Faces run counter-clockwise seen from outside; back faces are never drawn, so a surface has to
    be closed, or its open side hidden by another surface.

    Attributes:
        vertices: (n, 3).
        faces: (m, 3) vertex indices.
        albedo: (n, 3) linear RGB of the base layer, 0 to 1.
        gloss: (n,) amount of the glossy layer. It is clamped to 0..1 only after interpolation, so
            a steep signed field gives an outline sharper than the mesh.
        rest: (n, 3) metres, the same points before posing: the fine grain is fixed to them.
        material: Of the whole surface.
        normals: (n, 3) unit vectors, or None to average them from the faces. Two surfaces that
            continue each other without a visible seam share theirs.
    """

    vertices: Floats
    faces: Indices
    albedo: Floats
    gloss: Floats
    rest: Floats
    material: Material = Material()
    normals: Floats | None = None

    @classmethod
    def plain(
        cls,
        vertices: ArrayLike,
        faces: ArrayLike,
        colour: ArrayLike,
        material: Material | None = None,
    ) -> "Surface":
        """A surface of one linear RGB colour (3,)."""
        points = np.ascontiguousarray(vertices, np.float32)
        return cls(
            vertices=points,
            faces=np.ascontiguousarray(faces, np.int32),
            albedo=np.tile(np.asarray(colour, np.float32), (len(points), 1)),
            gloss=np.zeros(len(points), np.float32),
            rest=points,
            material=material or Material(),
        )

    def moved(self, rotation: ArrayLike, translation: ArrayLike) -> "Surface":
        """The surface turned by (3, 3) and then shifted by (3,) metres; its grain goes along."""
        turn = np.asarray(rotation, np.float32)
        return replace(
            self,
            vertices=self.vertices @ turn.T + np.asarray(translation, np.float32),
            normals=None if self.normals is None else self.normals @ turn.T,
        )


class Mesh(NamedTuple):
    """All surfaces of one image joined for the kernels (N vertices, M faces, I surfaces)."""

    vertices: Floats  # (N, 3)
    normals: Floats  # (N, 3)
    faces: Indices  # (M, 3)
    instances: Bytes  # (M,) surface index + 1
    albedo: Floats  # (N, 3)
    gloss: Floats  # (N,)
    rest: Floats  # (N, 3)
    materials: Floats  # (I + 1, 10), row 0 unused


def join(surfaces: Sequence[Surface]) -> tuple[Mesh, Bytes]:
    """Join surfaces into one mesh.

    Returns:
        The mesh, with `normals` filled for the surfaces that bring theirs, and (N,) 1 where the
        normal has still to be averaged from the faces.

    Raises:
        ValueError: No surface, or more than an instance map can number.
    """
    if not 0 < len(surfaces) <= MAX_SURFACES:
        raise ValueError(f"{len(surfaces)} surfaces: an image takes 1 to {MAX_SURFACES}")
    counts = [len(surface.vertices) for surface in surfaces]
    offsets = np.cumsum([0, *counts[:-1]])
    faces = [s.faces + np.int32(offset) for s, offset in zip(surfaces, offsets, strict=True)]
    instances = np.repeat(
        np.arange(1, len(surfaces) + 1, dtype=np.uint8), [len(s.faces) for s in surfaces]
    )
    normals = [np.zeros_like(s.vertices) if s.normals is None else s.normals for s in surfaces]
    missing = np.repeat(np.array([s.normals is None for s in surfaces], np.uint8), counts)
    rows = [Material().row(), *(surface.material.row() for surface in surfaces)]
    mesh = Mesh(
        vertices=_joined([s.vertices for s in surfaces]),
        normals=_joined(normals),
        faces=np.concatenate(faces, dtype=np.int32),
        instances=instances,
        albedo=_joined([s.albedo for s in surfaces]),
        gloss=_joined([s.gloss for s in surfaces]),
        rest=_joined([s.rest for s in surfaces]),
        materials=np.stack(rows),
    )
    return mesh, missing


def _joined(arrays: Sequence[Floats]) -> Floats:
    return np.concatenate(arrays, dtype=np.float32, casting="same_kind")
