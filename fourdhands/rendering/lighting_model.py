"""Compiled terms of the lighting model: grain, contact, shadow, sheen, ambient light.

Vectors are tuples (x, y, z), which the compiler keeps in registers.
"""

from functools import lru_cache
from math import floor, sqrt
from typing import NamedTuple

import numpy as np

from fourdhands.rendering.kernels import inlined
from fourdhands.rendering.surface import Floats, Indices

Vector = tuple[float, float, float]

GRAIN_CELLS = 32  # a power of two: the grain volume repeats after this many cells
GRAIN_CELL = 0.0012  # metres
SRGB_STEPS = 4096


class View(NamedTuple):
    """Pinhole camera in samples: `supersampling` squared samples a pixel."""

    fx: float
    fy: float
    cx: float
    cy: float
    supersampling: int


class Samples(NamedTuple):
    """Visibility buffer of the image: what each sample (h, w) shows."""

    points: Floats  # (N, 2) projected vertices in samples
    nearness: Floats  # (h, w) 1/z, 0 where nothing is
    ids: Indices  # (h, w) face


class Lights(NamedTuple):
    """`Lighting` with the shadow map of its first light.

    A point p lies at `rotation @ p` in the light's frame (third axis towards the light);
    texel = (xy - low) * scale.
    """

    directions: Floats
    radiance: Floats
    ambient: Floats
    shadow: Floats  # (R, R) coordinate towards the light of what it sees
    rotation: Floats  # (3, 3)
    low: Floats  # (2,)
    scale: Floats  # (2,) texels a metre
    softness: float  # metres along the light over which a shadow sets in


class Tables(NamedTuple):
    """Constants of the shader."""

    grain: Floats  # (C, C, C) periodic noise
    taps: Floats  # (16, 8, 2) points of the unit disc, 16 rotations
    srgb: Floats  # (SRGB_STEPS,) linear 0..1 -> 0..255
    linear: Floats  # (256,) the inverse


@lru_cache(maxsize=1)
def tables() -> Tables:
    """Build the shader's constants once a process."""
    rng = np.random.default_rng(11)
    grain = rng.normal(0.0, 0.6, (GRAIN_CELLS,) * 3).clip(-1.5, 1.5)
    angle = rng.uniform(0.0, 2 * np.pi, 16)[:, None] + 2.399963 * np.arange(8)
    radius = np.sqrt((np.arange(8) + 0.5) / 8)
    taps = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    x = np.linspace(0.0, 1.0, SRGB_STEPS)
    y = np.arange(256) / 255.0
    srgb = 255.0 * np.where(x < 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)
    linear = np.where(y < 0.04045, y / 12.92, ((y + 0.055) / 1.055) ** 2.4)
    return Tables(*(array.astype(np.float32) for array in (grain, taps, srgb, linear)))


@inlined
def dot(u: Vector, v: Vector) -> float:
    """Scalar product."""
    return u[0] * v[0] + u[1] * v[1] + u[2] * v[2]


@inlined
def along(p: Vector, distance: float, v: Vector) -> Vector:
    """The point at a distance from p in the direction of v (in units of its length)."""
    return p[0] + distance * v[0], p[1] + distance * v[1], p[2] + distance * v[2]


@inlined
def unit(v: Vector) -> Vector:
    """The vector at length 1."""
    scale = 1.0 / sqrt(dot(v, v) + 1e-20)
    return v[0] * scale, v[1] * scale, v[2] * scale


@inlined
def grain(volume: Floats, rest: Vector) -> tuple[float, Vector]:
    """Trilinear value of the grain at a rest position in metres, and its gradient per cell."""
    x, y, z = rest[0] / GRAIN_CELL, rest[1] / GRAIN_CELL, rest[2] / GRAIN_CELL
    i, j, k = floor(x), floor(y), floor(z)
    u, v, w = x - i, y - j, z - k
    mask = GRAIN_CELLS - 1
    i, j, k = i & mask, j & mask, k & mask
    i1, j1, k1 = (i + 1) & mask, (j + 1) & mask, (k + 1) & mask
    c000, c001, c010, c011 = volume[i, j, k], volume[i, j, k1], volume[i, j1, k], volume[i, j1, k1]
    c100, c101 = volume[i1, j, k], volume[i1, j, k1]
    c110, c111 = volume[i1, j1, k], volume[i1, j1, k1]
    low0, low1 = c000 + (c001 - c000) * w, c010 + (c011 - c010) * w
    high0, high1 = c100 + (c101 - c100) * w, c110 + (c111 - c110) * w
    low, high = low0 + (low1 - low0) * v, high0 + (high1 - high0) * v
    dy = (low1 - low0) * (1.0 - u) + (high1 - high0) * u
    near = (c001 - c000) * (1.0 - v) + (c011 - c010) * v
    far = (c101 - c100) * (1.0 - v) + (c111 - c110) * v
    return low + (high - low) * u, (high - low, dy, near * (1.0 - u) + far * u)


@inlined
def contact(
    x: int, y: int, z: float, radius: float, slope_x: float, slope_y: float,
    samples: Samples, taps: Floats,
) -> float:  # fmt: skip
    """How much of the near surroundings rises above the tangent plane of a sample, 0 to 1.

    Args:
        x: Column of the sample.
        y: Its row.
        z: Its depth.
        radius: Of the surroundings, in samples.
        slope_x: Change of 1/z on the tangent plane per sample to the right.
        slope_y: The same downwards.
        samples: The visibility buffer.
        taps: Where to look.
    """
    height, width = samples.nearness.shape
    turn = (x * 7 + y * 13) & 15
    hidden = 0.0
    for tap in range(taps.shape[1]):
        dx, dy = int(radius * taps[turn, tap, 0]), int(radius * taps[turn, tap, 1])
        u, v = x + dx, y + dy
        if 0 <= u < width and 0 <= v < height:
            near = samples.nearness[v, u]
            if near > 0.0:
                rise = ((near - slope_x * dx - slope_y * dy) * z - 1.0) * z
                # ramps in over 1 to 4 mm, and out again from 20 to 40 mm: a finger far in front
                # does not touch
                hidden += min(max((rise - 0.001) * 333.0, 0.0), 1.0) * min(
                    max((0.04 - rise) * 50.0, 0.0), 1.0
                )
    return hidden / taps.shape[1]


@inlined
def lit(point: Vector, lights: Lights) -> float:
    """Share of the key light that reaches a point: 3x3 texels, filtered to be continuous."""
    r = lights.rotation
    u = (dot((r[0, 0], r[0, 1], r[0, 2]), point) - lights.low[0]) * lights.scale[0]
    v = (dot((r[1, 0], r[1, 1], r[1, 2]), point) - lights.low[1]) * lights.scale[1]
    towards = dot((r[2, 0], r[2, 1], r[2, 2]), point)
    size = lights.shadow.shape[0]
    i, j = floor(v), floor(u)
    if i < 1 or j < 1 or i > size - 3 or j > size - 3:
        return 1.0
    fv, fu = v - i, u - j
    hardness = 1.0 / lights.softness
    total = 0.0
    for p in range(-1, 3):
        weight_v = 1.0 - fv if p == -1 else (fv if p == 2 else 1.0)
        for q in range(-1, 3):
            weight_u = 1.0 - fu if q == -1 else (fu if q == 2 else 1.0)
            blocked = (lights.shadow[i + p, j + q] - towards - lights.softness) * hardness
            total += weight_v * weight_u * (1.0 - min(max(blocked, 0.0), 1.0))
    return total / 9.0


@inlined
def sheen(
    n: Vector, light: Vector, view: Vector, nl: float, nv: float, roughness: float, mirror: float
) -> float:
    """GGX specular reflection of a directional light, cosine included.

    Args:
        n: Unit normal.
        light: Unit vector to the light.
        view: Unit vector to the camera.
        nl: n . light, above 0.
        nv: n . view, above 0.
        roughness: 0 to 1.
        mirror: Reflectance at normal incidence.
    """
    half = unit(along(light, 1.0, view))
    nh, vh = dot(n, half), dot(view, half)
    alpha = roughness * roughness
    alpha2 = alpha * alpha
    peak = nh * nh * (alpha2 - 1.0) + 1.0
    graze = (1.0 - vh) ** 2
    # rough surfaces do not turn into mirrors at grazing angles
    fresnel = mirror + (1.0 - roughness) * graze * graze * (1.0 - vh)
    k = alpha * 0.5
    masking = (nl * (1.0 - k) + k) * (nv * (1.0 - k) + k)
    # towards the silhouette, where averaged normals tip over, it fades instead of flickering
    return alpha2 / (peak * peak) * fresnel * nl / (4.0 * masking) * min(1.0, 5.0 * nv)


@inlined
def ambient(n: Vector, terms: Floats) -> Vector:
    """Ambient light that reaches a surface of this normal, by channel; see `Lighting.ambient`."""
    x, y, z = n
    red = green = blue = 0.0
    basis = (1.0, y, z, x, x * y, y * z, 3.0 * z * z - 1.0, x * z, x * x - y * y)
    for term in range(9):
        red += basis[term] * terms[term, 0]
        green += basis[term] * terms[term, 1]
        blue += basis[term] * terms[term, 2]
    least = 0.25
    return (
        max(red, least * terms[0, 0]),
        max(green, least * terms[0, 1]),
        max(blue, least * terms[0, 2]),
    )
