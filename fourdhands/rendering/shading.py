"""Compiled deferred shading: the colour of one sample from the face that it shows.

The lighting model is diffuse light wrapped around the terminator per colour channel (a cheap
stand-in for light scattered under skin), a GGX sheen, a shadow map for the key light, polynomial
ambient light, and contact darkening from the depth of nearby samples.
"""

from math import sqrt

from fourdhands.rendering.kernels import inlined
from fourdhands.rendering.lighting_model import (
    GRAIN_CELL,
    Lights,
    Samples,
    Tables,
    Vector,
    View,
    along,
    ambient,
    contact,
    dot,
    grain,
    lit,
    sheen,
    unit,
)
from fourdhands.rendering.surface import Floats, Mesh

CONTACT_RADIUS = 0.012  # metres
CONTACT_DARKNESS = 0.75
SHADOW_OFFSET = 0.001  # metres


@inlined
def _blend(table: Floats, corners: tuple[int, int, int], weights: Vector) -> Vector:
    """Rows of a table (N, 3) at a face's corners, weighted."""
    (a, b, c), (wa, wb, wc) = corners, weights
    return (
        wa * table[a, 0] + wb * table[b, 0] + wc * table[c, 0],
        wa * table[a, 1] + wb * table[b, 1] + wc * table[c, 1],
        wa * table[a, 2] + wb * table[b, 2] + wc * table[c, 2],
    )


@inlined
def _weights(x: int, y: int, z: float, corners: tuple[int, int, int], mesh: Mesh,
             points: Floats) -> Vector:  # fmt: skip
    """Perspective-correct barycentrics of a sample at depth z."""
    a, b, c = corners
    ax, ay = points[a, 0] - x, points[a, 1] - y
    bx, by = points[b, 0] - x, points[b, 1] - y
    cx, cy = points[c, 0] - x, points[c, 1] - y
    pa, pb, pc = bx * cy - cx * by, cx * ay - ax * cy, ax * by - bx * ay
    scale = z / (pa + pb + pc)
    wa, wb = pa * scale / mesh.vertices[a, 2], pb * scale / mesh.vertices[b, 2]
    return wa, wb, 1.0 - wa - wb


@inlined
def _contact_light(
    x: int, y: int, p: Vector, n: Vector, samples: Samples, view: View, taps: Floats
) -> float:
    """Share of the ambient light that reaches a point between its near surroundings."""
    z = p[2]
    # on the tangent plane n . q = d with q = z (u, v, 1), so 1/z = n . (u, v, 1) / d is affine
    d = min(dot(n, p), -0.05 * z)
    radius = CONTACT_RADIUS * view.fx / z
    slope_x, slope_y = n[0] / (view.fx * d), n[1] / (view.fy * d)
    return 1.0 - CONTACT_DARKNESS * contact(x, y, z, radius, slope_x, slope_y, samples, taps)


@inlined
def _light(
    p: Vector, n: Vector, to_camera: Vector, nv: float, gloss: float, dim: float,
    material: Floats, lights: Lights,
) -> tuple[Vector, Vector]:  # fmt: skip
    """Light that a point scatters (to be multiplied by its albedo) and light that it mirrors.

    `dim` is the share of ambient light that reaches the point; `material` is a `Material.row`.
    """
    red, green, blue = ambient(n, lights.ambient)
    red, green, blue = red * dim, green * dim, blue * dim
    mirrored_red = mirrored_green = mirrored_blue = 0.0
    roughness = material[3] + (material[9] - material[3]) * gloss
    for index in range(lights.directions.shape[0]):
        to_light = (
            lights.directions[index, 0], lights.directions[index, 1], lights.directions[index, 2],
        )  # fmt: skip
        nl = dot(n, to_light)
        if nl < -0.5:
            continue
        share = 1.0
        if index == 0:
            # step off the surface by what the filter's texels rise on it, lest it shades itself
            slope = sqrt(max(1.0 - nl * nl, 0.0))
            texels = 1.5 / min(lights.scale[0], lights.scale[1])
            share = lit(along(p, SHADOW_OFFSET + slope * texels, n), lights)
        power = lights.radiance[index]
        leak = 0.2 * material[0] * (1.0 - share)  # some red wanders through flesh into shadows
        red += power[0] * max((nl + material[0]) / (1.0 + material[0]), 0.0) * (share + leak)
        green += power[1] * max((nl + material[1]) / (1.0 + material[1]), 0.0) * share
        blue += power[2] * max((nl + material[2]) / (1.0 + material[2]), 0.0) * share
        if nl > 0.0 and share > 0.0:
            mirrored = share * sheen(n, to_light, to_camera, nl, nv, roughness, material[4])
            mirrored_red += power[0] * mirrored
            mirrored_green += power[1] * mirrored
            mirrored_blue += power[2] * mirrored
    return (red, green, blue), (mirrored_red, mirrored_green, mirrored_blue)


@inlined
def shade(
    x: int, y: int, mesh: Mesh, samples: Samples, view: View, lights: Lights, tables: Tables
) -> Vector:
    """Linear RGB of a covered sample, clipped to 1."""
    face = samples.ids[y, x]
    corners = mesh.faces[face, 0], mesh.faces[face, 1], mesh.faces[face, 2]
    material = mesh.materials[mesh.instances[face]]
    z = 1.0 / samples.nearness[y, x]
    weights = _weights(x, y, z, corners, mesh, samples.points)
    p = ((x - view.cx) / view.fx * z, (y - view.cy) / view.fy * z, z)
    n = unit(_blend(mesh.normals, corners, weights))
    dim = _contact_light(x, y, p, n, samples, view, tables.taps)

    a, b, c = corners
    corner_gloss = (mesh.gloss[a], mesh.gloss[b], mesh.gloss[c])
    gloss = min(max(dot(weights, corner_gloss), 0.0), 1.0)
    base = 1.0 - gloss
    # grain finer than the pixels would only be noise
    bump = material[5] * base * min(1.0, GRAIN_CELL * view.fx / (view.supersampling * z))
    if bump > 0.0:
        value, gradient = grain(tables.grain, _blend(mesh.rest, corners, weights))
        base *= 1.0 + bump * value
        n = unit(along(n, bump, gradient))

    to_camera = unit((-p[0], -p[1], -p[2]))
    nv = max(dot(n, to_camera), 0.02)
    scattered, mirrored = _light(p, n, to_camera, nv, gloss, dim, material, lights)
    graze = (1.0 - nv) ** 2
    rim = 0.3 * (material[4] + 0.5 * graze * graze * (1.0 - nv))  # the surroundings, mirrored
    albedo = _blend(mesh.albedo, corners, weights)
    return (
        min((base * albedo[0] + gloss * material[6] + rim) * scattered[0] + mirrored[0], 1.0),
        min((base * albedo[1] + gloss * material[7] + rim) * scattered[1] + mirrored[1], 1.0),
        min((base * albedo[2] + gloss * material[8] + rim) * scattered[2] + mirrored[2], 1.0),
    )
