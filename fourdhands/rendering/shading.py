"""Compiled shading passes: from what each sample shows to the colour, depth and label of pixels.

Shading is deferred: it runs once inside a surface and per sample only on pixels that an edge
crosses. The lighting model is diffuse light wrapped around the terminator per colour channel
(a cheap stand-in for light scattered under skin), a GGX sheen, a shadow map for the key light,
polynomial ambient light and contact darkening from the depth of nearby samples.
"""

from functools import lru_cache
from math import floor, sqrt
from typing import NamedTuple

import numpy as np

from fourdhands.rendering.kernels import inlined
from fourdhands.rendering.surface import Floats, Indices, Mesh

GRAIN_CELLS = 32  # a power of two: the grain volume repeats after this many cells
GRAIN_CELL = 0.0012  # metres
OCCLUSION_RADIUS = 0.012  # metres
SHADOW_OFFSET = 0.001  # metres
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
def _grain(volume: Floats, x: float, y: float, z: float) -> tuple[float, float, float, float]:
    """Trilinear value of the grain at a rest position, and its gradient per cell."""
    x, y, z = x / GRAIN_CELL + 1024.0, y / GRAIN_CELL + 1024.0, z / GRAIN_CELL + 1024.0
    i, j, k = int(x), int(y), int(z)
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
    return low + (high - low) * u, high - low, dy, near * (1.0 - u) + far * u


@inlined
def _contact(
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
def _lit(x: float, y: float, z: float, lights: Lights) -> float:
    """Share of the key light that reaches a point: 3x3 texels, filtered to be continuous."""
    r = lights.rotation
    u = (r[0, 0] * x + r[0, 1] * y + r[0, 2] * z - lights.low[0]) * lights.scale[0]
    v = (r[1, 0] * x + r[1, 1] * y + r[1, 2] * z - lights.low[1]) * lights.scale[1]
    towards = r[2, 0] * x + r[2, 1] * y + r[2, 2] * z
    size = lights.shadow.shape[0]
    i, j = floor(v), floor(u)
    if i < 1 or j < 1 or i > size - 3 or j > size - 3:
        return 1.0
    fv, fu = v - i, u - j
    hardness = 1.0 / lights.softness
    lit = 0.0
    for p in range(-1, 3):
        weight_v = 1.0 - fv if p == -1 else (fv if p == 2 else 1.0)
        for q in range(-1, 3):
            weight_u = 1.0 - fu if q == -1 else (fu if q == 2 else 1.0)
            blocked = (lights.shadow[i + p, j + q] - towards - lights.softness) * hardness
            lit += weight_v * weight_u * (1.0 - min(max(blocked, 0.0), 1.0))
    return lit / 9.0


@inlined
def _sheen(
    nx: float, ny: float, nz: float, nl: float, nv: float,
    lx: float, ly: float, lz: float, vx: float, vy: float, vz: float,
    roughness: float, reflectance: float,
) -> float:  # fmt: skip
    """GGX specular reflection of a directional light, cosine included."""
    hx, hy, hz = lx + vx, ly + vy, lz + vz
    scale = 1.0 / sqrt(hx * hx + hy * hy + hz * hz + 1e-20)
    nh = (nx * hx + ny * hy + nz * hz) * scale
    vh = (vx * hx + vy * hy + vz * hz) * scale
    alpha = roughness * roughness
    alpha2 = alpha * alpha
    peak = nh * nh * (alpha2 - 1.0) + 1.0
    graze = (1.0 - vh) ** 2
    # rough surfaces do not turn into mirrors at grazing angles
    fresnel = reflectance + (1.0 - roughness) * graze * graze * (1.0 - vh)
    k = alpha * 0.5
    masking = (nl * (1.0 - k) + k) * (nv * (1.0 - k) + k)
    # towards the silhouette, where averaged normals tip over, it fades instead of flickering
    return alpha2 / (peak * peak) * fresnel * nl / (4.0 * masking) * min(1.0, 5.0 * nv)


@inlined
def _ambient(nx: float, ny: float, nz: float, terms: Floats, channel: int) -> float:
    """Ambient light that reaches a surface of this normal."""
    value = (
        terms[0, channel]
        + terms[1, channel] * ny
        + terms[2, channel] * nz
        + terms[3, channel] * nx
        + terms[4, channel] * nx * ny
        + terms[5, channel] * ny * nz
        + terms[6, channel] * (3.0 * nz * nz - 1.0)
        + terms[7, channel] * nx * nz
        + terms[8, channel] * (nx * nx - ny * ny)
    )
    return max(value, 0.25 * terms[0, channel])


@inlined
def _barycentrics(x: int, y: int, a: int, b: int, c: int, points: Floats) -> tuple[float, float]:
    """Image-space barycentrics of a sample for vertices a and b."""
    ax, ay = points[a, 0] - x, points[a, 1] - y
    bx, by = points[b, 0] - x, points[b, 1] - y
    cx, cy = points[c, 0] - x, points[c, 1] - y
    pa, pb, pc = bx * cy - cx * by, cx * ay - ax * cy, ax * by - bx * ay
    scale = 1.0 / (pa + pb + pc)
    return pa * scale, pb * scale


@inlined
def shade(
    x: int, y: int, mesh: Mesh, samples: Samples, view: View, lights: Lights, tables: Tables
) -> tuple[float, float, float]:
    """Linear RGB of a covered sample, clipped to 1."""
    face = samples.ids[y, x]
    a, b, c = mesh.faces[face, 0], mesh.faces[face, 1], mesh.faces[face, 2]
    material = mesh.materials[mesh.instances[face]]
    z = 1.0 / samples.nearness[y, x]
    wa, wb = _barycentrics(x, y, a, b, c, samples.points)
    wa, wb = wa * z / mesh.vertices[a, 2], wb * z / mesh.vertices[b, 2]  # perspective
    wc = 1.0 - wa - wb

    n = mesh.normals
    nx = wa * n[a, 0] + wb * n[b, 0] + wc * n[c, 0]
    ny = wa * n[a, 1] + wb * n[b, 1] + wc * n[c, 1]
    nz = wa * n[a, 2] + wb * n[b, 2] + wc * n[c, 2]
    scale = 1.0 / sqrt(nx * nx + ny * ny + nz * nz + 1e-20)
    nx, ny, nz = nx * scale, ny * scale, nz * scale
    px, py = (x - view.cx) / view.fx * z, (y - view.cy) / view.fy * z
    # 1/z is affine on a plane: n . p = d with p = z (u, v, 1)
    distance = min(nx * px + ny * py + nz * z, -0.05 * z)
    contact = 1.0 - 0.75 * _contact(
        x, y, z, OCCLUSION_RADIUS * view.fx / z,
        nx / (view.fx * distance), ny / (view.fy * distance), samples, tables.taps,
    )  # fmt: skip

    gloss = min(max(wa * mesh.gloss[a] + wb * mesh.gloss[b] + wc * mesh.gloss[c], 0.0), 1.0)
    tone = 1.0
    # grain finer than the samples would only be noise
    bump = material[5] * (1.0 - gloss) * min(1.0, GRAIN_CELL * view.fx / (view.supersampling * z))
    if bump > 0.0:
        r = mesh.rest
        value, gx, gy, gz = _grain(
            tables.grain,
            wa * r[a, 0] + wb * r[b, 0] + wc * r[c, 0],
            wa * r[a, 1] + wb * r[b, 1] + wc * r[c, 1],
            wa * r[a, 2] + wb * r[b, 2] + wc * r[c, 2],
        )
        tone += bump * value
        nx, ny, nz = nx + bump * gx, ny + bump * gy, nz + bump * gz
        scale = 1.0 / sqrt(nx * nx + ny * ny + nz * nz + 1e-20)
        nx, ny, nz = nx * scale, ny * scale, nz * scale

    scale = 1.0 / sqrt(px * px + py * py + z * z)
    vx, vy, vz = -px * scale, -py * scale, -z * scale
    nv = max(nx * vx + ny * vy + nz * vz, 0.02)

    red = _ambient(nx, ny, nz, lights.ambient, 0) * contact
    green = _ambient(nx, ny, nz, lights.ambient, 1) * contact
    blue = _ambient(nx, ny, nz, lights.ambient, 2) * contact
    roughness = material[3] + (material[9] - material[3]) * gloss
    sheen_red = sheen_green = sheen_blue = 0.0
    for light in range(lights.directions.shape[0]):
        lx, ly, lz = (
            lights.directions[light, 0], lights.directions[light, 1], lights.directions[light, 2],
        )  # fmt: skip
        nl = nx * lx + ny * ly + nz * lz
        if nl < -0.5:
            continue
        lit = 1.0
        if light == 0:
            # step off the surface by what the filter's texels rise on it, lest it shades itself
            slope = sqrt(max(1.0 - nl * nl, 0.0))
            off = SHADOW_OFFSET + 1.5 * slope / min(lights.scale[0], lights.scale[1])
            lit = _lit(px + nx * off, py + ny * off, z + nz * off, lights)
        radiance = lights.radiance[light]
        leak = material[0] * (1.0 - lit)
        red += radiance[0] * max((nl + material[0]) / (1.0 + material[0]), 0.0) * (lit + leak * 0.2)
        green += radiance[1] * max((nl + material[1]) / (1.0 + material[1]), 0.0) * lit
        blue += radiance[2] * max((nl + material[2]) / (1.0 + material[2]), 0.0) * lit
        if nl > 0.0 and lit > 0.0:
            sheen = lit * _sheen(
                nx, ny, nz, nl, nv, lx, ly, lz, vx, vy, vz, roughness, material[4]
            )  # fmt: skip
            sheen_red += radiance[0] * sheen
            sheen_green += radiance[1] * sheen
            sheen_blue += radiance[2] * sheen
    # the environment mirrored at grazing angles
    graze = (1.0 - nv) ** 2
    rim = 0.3 * (material[4] + 0.5 * graze * graze * (1.0 - nv))
    base = (1.0 - gloss) * tone
    colour = mesh.albedo
    ar = base * (wa * colour[a, 0] + wb * colour[b, 0] + wc * colour[c, 0]) + gloss * material[6]
    ag = base * (wa * colour[a, 1] + wb * colour[b, 1] + wc * colour[c, 1]) + gloss * material[7]
    ab = base * (wa * colour[a, 2] + wb * colour[b, 2] + wc * colour[c, 2]) + gloss * material[8]
    return (
        min((ar + rim) * red + sheen_red, 1.0),
        min((ag + rim) * green + sheen_green, 1.0),
        min((ab + rim) * blue + sheen_blue, 1.0),
    )
