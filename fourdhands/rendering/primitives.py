"""Everyday objects as surfaces, to hold before hands or to put into them."""

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourdhands.rendering.surface import Material, Surface


def box(size: ArrayLike, colour: ArrayLike, material: Material | None = None) -> Surface:
    """A box of the given sides (3,) in metres about the origin, with sharp edges."""
    half = np.asarray(size, np.float64) / 2
    square = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    vertices: list[NDArray[np.float64]] = []
    faces: list[NDArray[np.int64]] = []
    for axis in range(3):
        for sign in (-1, 1):
            corners = np.empty((4, 3))
            corners[:, axis] = sign
            # the other two axes in cyclic order wind anticlockwise seen from the positive side
            corners[:, [(axis + 1) % 3, (axis + 2) % 3]] = square
            first = 4 * len(vertices)
            quad = np.array([(0, 1, 2), (0, 2, 3)])[:, ::sign]
            vertices.append(corners * half)
            faces.append(first + quad)
    return Surface.plain(np.concatenate(vertices), np.concatenate(faces), colour, material)


def revolved(
    profile: ArrayLike, colour: ArrayLike, material: Material | None = None, around: int = 28
) -> Surface:
    """A solid of revolution about the y axis.

    Args:
        profile: (k, 2) radius and height y of its outline in metres, heights not decreasing,
            first and last radius 0. A point given twice makes a sharp edge.
        colour: Linear RGB (3,).
        material: Of the whole solid.
        around: Vertices of each ring.
    """
    radius, height = np.asarray(profile, np.float64).T
    angle = 2 * np.pi * np.arange(around) / around
    rings = np.empty((len(radius), around, 3))
    rings[..., 0] = radius[:, None] * np.sin(angle)
    rings[..., 1] = height[:, None]
    rings[..., 2] = radius[:, None] * np.cos(angle)
    table = np.arange(rings[..., 0].size).reshape(len(radius), around)
    parts = []
    for low, high in pairwise(table):
        low_next, high_next = np.roll(low, -1), np.roll(high, -1)
        parts += [np.stack([low, low_next, high], 1), np.stack([low_next, high_next, high], 1)]
    return Surface.plain(rings.reshape(-1, 3), np.concatenate(parts), colour, material)


def sphere(radius: float, colour: ArrayLike, material: Material | None = None) -> Surface:
    """A ball about the origin."""
    angle = np.linspace(0.0, np.pi, 15)
    profile = radius * np.stack([np.sin(angle), -np.cos(angle)], axis=1)
    profile[[0, -1], 0] = 0.0
    return revolved(profile, colour, material)


def cylinder(
    radius: float, length: float, colour: ArrayLike, material: Material | None = None
) -> Surface:
    """A cylinder about the y axis with sharp edges."""
    end, rim = length / 2, (radius, length / 2)
    low = (radius, -end)
    profile = [(0.0, -end), low, low, rim, rim, (0.0, end)]
    return revolved(profile, colour, material)


def sample_object(rng: np.random.Generator) -> Surface:
    """Draw an object of 2 to 30 cm about the origin: a box, ball, tube, bottle or cup."""
    colour = np.clip(rng.uniform(0.03, 0.8) * rng.dirichlet((1.5, 1.5, 1.5)) * 3.0, 0.01, 0.85)
    material = Material(
        roughness=float(rng.uniform(0.2, 0.9)),
        reflectance=float(rng.uniform(0.03, 0.08)),
        bump=float(rng.choice((0.0, 0.1))),
    )
    kind = rng.integers(5)
    if kind == 0:
        return box(np.exp(rng.uniform(np.log(0.015), np.log(0.2), 3)), colour, material)
    if kind == 1:
        return sphere(float(rng.uniform(0.02, 0.06)), colour, material)
    if kind == 2:  # from a pen to a tin
        radius = float(np.exp(rng.uniform(np.log(0.004), np.log(0.04))))
        return cylinder(radius, float(rng.uniform(0.08, 0.28)), colour, material)
    radius, height = float(rng.uniform(0.022, 0.042)), float(rng.uniform(0.14, 0.25))
    if kind == 3:  # a bottle with its neck
        shares = [(0, 0), (1, 0), (1, 0), (1, 0.55), (0.85, 0.68), (0.4, 0.8), (0.36, 1), (0.36, 1)]
    else:  # a cup with its foot and rim
        height *= 0.55
        shares = [(0, 0), (0.75, 0), (0.75, 0), (0.9, 0.3), (1, 0.7), (1.05, 1), (1.05, 1)]
    profile = np.array([*shares, (0, 1)]) * (radius, height) - (0.0, height / 2)
    return revolved(profile, colour, material)
