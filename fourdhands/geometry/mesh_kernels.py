"""Compiled loops of `meshes`, one mesh or pair of meshes a call; each releases the lock.

A face is passed by a line along z as seen from above. Lines that pass through an edge or a corner
pass exactly one of the faces there, so that what is counted along a line always closes.
"""

from math import ceil, floor, sqrt
from typing import Any, Final

import numba
import numpy as np

_MOST_LINES: Final = 512  # along an axis: meshes larger than hands get fewer lines, not more memory
_CELLS: Final = 32  # along an axis of the grid that finds points under a face


def _compiled(**options: Any) -> Any:
    return numba.njit(cache=True, nogil=True, error_model="numpy", **options)


@_compiled(inline="always")
def squared_distance_to_triangle(ax, ay, az, bx, by, bz, cx, cy, cz):  # type: ignore[no-untyped-def]
    """From the origin to a triangle (Ericson, Real-Time Collision Detection, 5.1.5)."""
    ux, uy, uz = bx - ax, by - ay, bz - az
    vx, vy, vz = cx - ax, cy - ay, cz - az
    d1, d2 = -(ux * ax + uy * ay + uz * az), -(vx * ax + vy * ay + vz * az)
    d3, d4 = -(ux * bx + uy * by + uz * bz), -(vx * bx + vy * by + vz * bz)
    d5, d6 = -(ux * cx + uy * cy + uz * cz), -(vx * cx + vy * cy + vz * cz)
    va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    if d1 <= 0 and d2 <= 0:
        s, t = 0.0, 0.0
    elif d3 >= 0 and d4 <= d3:
        s, t = 1.0, 0.0
    elif d6 >= 0 and d5 <= d6:
        s, t = 0.0, 1.0
    elif vc <= 0 and d1 >= 0 and d3 <= 0:
        s, t = d1 / (d1 - d3), 0.0
    elif vb <= 0 and d2 >= 0 and d6 <= 0:
        s, t = 0.0, d2 / (d2 - d6)
    elif va <= 0 and d4 - d3 >= 0 and d5 - d6 >= 0:
        t = (d4 - d3) / ((d4 - d3) + (d5 - d6))
        s = 1.0 - t
    else:
        total = va + vb + vc
        s, t = vb / total, vc / total
    x, y, z = ax + s * ux + t * vx, ay + s * uy + t * vy, az + s * uz + t * vz
    return x * x + y * y + z * z


@_compiled()
def _turn(ax, ay, bx, by, x, y):  # type: ignore[no-untyped-def]
    """Twice the signed area of a, b and the point: the same number, negated, for b and a."""
    if (ax, ay) <= (bx, by):
        return (bx - ax) * (y - ay) - (by - ay) * (x - ax)
    return -((ax - bx) * (y - by) - (ay - by) * (x - bx))


@_compiled()
def _left_of(ax, ay, bx, by, turn):  # type: ignore[no-untyped-def]
    """Whether the point is left of the edge from a to b; on the edge as if a little right of it.

    A point on an edge is shifted by an infinitesimal step along x and a smaller one along y, so
    that exactly one of the two faces at the edge has it.
    """
    if turn != 0.0:
        return turn > 0.0
    return by < ay or (by == ay and bx > ax)


@_compiled()
def _crossing(vertices, face, x, y):  # type: ignore[no-untyped-def]
    """Where the line at x, y along z passes a face: sign (1 up and out, -1 in, 0 not) and z."""
    a, b, c = face
    ax, ay = vertices[a, 0], vertices[a, 1]
    bx, by = vertices[b, 0], vertices[b, 1]
    cx, cy = vertices[c, 0], vertices[c, 1]
    at_c = _turn(ax, ay, bx, by, x, y)
    left = _left_of(ax, ay, bx, by, at_c)
    at_a = _turn(bx, by, cx, cy, x, y)
    if _left_of(bx, by, cx, cy, at_a) != left:
        return 0, 0.0
    at_b = _turn(cx, cy, ax, ay, x, y)
    if _left_of(cx, cy, ax, ay, at_b) != left:
        return 0, 0.0
    total = at_a + at_b + at_c
    if total == 0.0:  # seen from its edge
        return (1 if left else -1), vertices[a, 2]
    z = (at_a * vertices[a, 2] + at_b * vertices[b, 2] + at_c * vertices[c, 2]) / total
    return (1 if left else -1), z


@_compiled()
def _span(vertices, face, axis):  # type: ignore[no-untyped-def]
    p, q, r = vertices[face[0], axis], vertices[face[1], axis], vertices[face[2], axis]
    return min(p, q, r), max(p, q, r)


@_compiled()
def mark_inside(points, vertices, faces, found):  # type: ignore[no-untyped-def]
    """Winding numbers by the faces above: a face that looks up adds 1, one that looks down -1."""
    lower, upper = np.empty(3), np.empty(3)
    for axis in range(3):
        lower[axis], upper[axis] = vertices[:, axis].min(), vertices[:, axis].max()
    size_x, size_y = (upper[0] - lower[0]) / _CELLS, (upper[1] - lower[1]) / _CELLS
    if size_x <= 0 or size_y <= 0 or upper[2] <= lower[2]:
        return  # a flat mesh holds nothing
    cells = np.full(len(points), -1, np.int64)  # points outside the box have none
    starts = np.zeros(_CELLS * _CELLS + 1, np.int64)
    for p in range(len(points)):
        x, y, z = points[p]
        if lower[0] <= x <= upper[0] and lower[1] <= y <= upper[1] and lower[2] <= z <= upper[2]:
            column = min(int((x - lower[0]) / size_x), _CELLS - 1)
            cells[p] = column * _CELLS + min(int((y - lower[1]) / size_y), _CELLS - 1)
            starts[cells[p] + 1] += 1
    starts = np.cumsum(starts)
    if starts[-1] == 0:
        return
    members, filled = np.empty(starts[-1], np.int64), starts[:-1].copy()
    for p in range(len(points)):
        if cells[p] >= 0:
            members[filled[cells[p]]] = p
            filled[cells[p]] += 1
    turns = np.zeros(len(points), np.int64)
    for f in range(len(faces)):
        x_low, x_high = _span(vertices, faces[f], 0)
        y_low, y_high = _span(vertices, faces[f], 1)
        first = min(int((y_low - lower[1]) / size_y), _CELLS - 1)
        last = min(int((y_high - lower[1]) / size_y), _CELLS - 1)
        for column in range(
            min(int((x_low - lower[0]) / size_x), _CELLS - 1),
            min(int((x_high - lower[0]) / size_x), _CELLS - 1) + 1,
        ):
            # cells of one column that follow each other hold points that follow each other
            for k in range(starts[column * _CELLS + first], starts[column * _CELLS + last + 1]):
                p = members[k]
                sign, z = _crossing(vertices, faces[f], points[p, 0], points[p, 1])
                if sign != 0 and z > points[p, 2]:
                    turns[p] += sign
    for p in range(len(points)):
        found[p] = turns[p] >= 1


@_compiled()
def measure_depth(points, within, vertices, faces, found):  # type: ignore[no-untyped-def]
    """Distances of the points within to the faces; a ball around each face says which are far."""
    if not within.any():
        return
    balls = np.empty((len(faces), 4))
    for f in range(len(faces)):
        a, b, c = faces[f]
        reach = 0.0
        for axis in range(3):
            balls[f, axis] = (vertices[a, axis] + vertices[b, axis] + vertices[c, axis]) / 3
        for corner in faces[f]:
            gap = 0.0
            for axis in range(3):
                gap += (vertices[corner, axis] - balls[f, axis]) ** 2
            reach = max(reach, gap)
        balls[f, 3] = sqrt(reach)
    for p in range(len(points)):
        if not within[p]:
            continue
        x, y, z = points[p]
        nearest, squared = np.inf, np.inf
        for f in range(len(faces)):
            away = (balls[f, 0] - x) ** 2 + (balls[f, 1] - y) ** 2 + (balls[f, 2] - z) ** 2
            if away > (nearest + balls[f, 3]) ** 2:
                continue
            a, b, c = faces[f]
            gap = squared_distance_to_triangle(
                vertices[a, 0] - x, vertices[a, 1] - y, vertices[a, 2] - z,
                vertices[b, 0] - x, vertices[b, 1] - y, vertices[b, 2] - z,
                vertices[c, 0] - x, vertices[c, 1] - y, vertices[c, 2] - z,
            )  # fmt: skip
            if gap < squared:
                squared, nearest = gap, sqrt(gap)
        found[p] = nearest


@_compiled()
def shared_volume(first, first_faces, second, second_faces, spacing):  # type: ignore[no-untyped-def]
    """Volume in both meshes, by lines at most a spacing apart."""
    lower, upper = np.empty(3), np.empty(3)
    for axis in range(3):
        lower[axis] = max(first[:, axis].min(), second[:, axis].min())
        upper[axis] = min(first[:, axis].max(), second[:, axis].max())
        if lower[axis] >= upper[axis]:
            return 0.0
    rows = min(max(ceil((upper[0] - lower[0]) / spacing), 1), _MOST_LINES)
    columns = min(max(ceil((upper[1] - lower[1]) / spacing), 1), _MOST_LINES)
    step_x, step_y = (upper[0] - lower[0]) / rows, (upper[1] - lower[1]) / columns
    grid = (lower[0], lower[1], step_x, step_y, rows, columns)
    wanted = np.ones(rows * columns, np.bool_)
    one, one_z, one_turn = _crossings(first, first_faces, grid, upper[2], wanted)
    wanted[:] = False
    wanted[one] = True
    two, two_z, two_turn = _crossings(second, second_faces, grid, upper[2], wanted)
    lines = np.concatenate((one, two))
    heights = np.concatenate((one_z, two_z))
    turns = np.concatenate((one_turn, 2 * two_turn))
    # sort by line, counting; the few of each line are sorted by height later
    starts = np.zeros(rows * columns + 1, np.int64)
    for line in lines:
        starts[line + 1] += 1
    starts = np.cumsum(starts)
    filled, order = starts[:-1].copy(), np.empty(len(lines), np.int64)
    for k in range(len(lines)):
        order[filled[lines[k]]] = k
        filled[lines[k]] += 1
    heights, turns = heights[order], turns[order]
    length = 0.0
    for line in range(rows * columns):
        here = slice(starts[line], starts[line + 1])
        length += _shared_length(heights[here], turns[here])
    return length * step_x * step_y


@_compiled()
def _crossings(vertices, faces, grid, highest, wanted):  # type: ignore[no-untyped-def]
    """Where the wanted lines pass a mesh below a height: lines, heights, 1 inwards or -1 outwards.

    Upwards; lines stand in the middle of the grid's cells.
    """
    low_x, low_y, step_x, step_y, rows, columns = grid
    lines = np.empty(4096, np.int64)
    heights, turns, count = np.empty(4096), np.empty(4096, np.int64), 0
    for f in range(len(faces)):
        if _span(vertices, faces[f], 2)[0] > highest:
            continue
        x_low, x_high = _span(vertices, faces[f], 0)
        y_low, y_high = _span(vertices, faces[f], 1)
        # a little wider than the face, as division rounds
        i_low = max(ceil((x_low - low_x) / step_x - 0.5 - 1e-6), 0.0)
        i_high = min(floor((x_high - low_x) / step_x - 0.5 + 1e-6), rows - 1.0)
        j_low = max(ceil((y_low - low_y) / step_y - 0.5 - 1e-6), 0.0)
        j_high = min(floor((y_high - low_y) / step_y - 0.5 + 1e-6), columns - 1.0)
        if i_low > i_high or j_low > j_high:
            continue
        for i in range(int(i_low), int(i_high) + 1):
            for j in range(int(j_low), int(j_high) + 1):
                if not wanted[i * columns + j]:
                    continue
                sign, z = _crossing(
                    vertices, faces[f], low_x + (i + 0.5) * step_x, low_y + (j + 0.5) * step_y
                )
                if sign == 0:
                    continue
                if count == len(lines):
                    lines = np.concatenate((lines, np.empty_like(lines)))
                    heights = np.concatenate((heights, np.empty_like(heights)))
                    turns = np.concatenate((turns, np.empty_like(turns)))
                lines[count], heights[count], turns[count] = i * columns + j, z, -sign
                count += 1
    return lines[:count], heights[:count], turns[:count]


@_compiled()
def _shared_length(heights, turns):  # type: ignore[no-untyped-def]
    """Of one line inside both meshes; sorts the crossings in place."""
    for k in range(1, len(heights)):  # few crossings a line: insertion
        z, turn, place = heights[k], turns[k], k
        while place > 0 and heights[place - 1] > z:
            heights[place], turns[place] = heights[place - 1], turns[place - 1]
            place -= 1
        heights[place], turns[place] = z, turn
    shared, first, second = 0.0, 0, 0
    for k in range(len(heights)):
        if first >= 1 and second >= 1:
            shared += heights[k] - heights[k - 1]
        if abs(turns[k]) == 1:
            first += turns[k]
        else:
            second += turns[k] // 2
    return shared
