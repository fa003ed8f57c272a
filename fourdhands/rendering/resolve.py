"""Compiled last pass of the rasteriser: samples to pixels."""

from fourdhands.rendering.kernels import inlined, kernel
from fourdhands.rendering.lighting_model import SRGB_STEPS, Lights, Samples, Tables, View
from fourdhands.rendering.shading import shade
from fourdhands.rendering.surface import Bytes, Floats, Mesh

SHEET = 0.004  # metres
STEEPEST = 4.0  # depth over width of a pixel's piece of surface


@inlined
def _same_sheet(
    face: int, near: float, other: int, other_near: float, instances: Bytes, width: float
) -> bool:
    """Whether two samples of a pixel show one sheet: one surface, next to each other in depth.

    `width` is that of the pixel at a depth of 1.
    """
    gap = abs(near - other_near)  # of 1/z: the gap in z is gap / (near * other_near)
    return instances[face] == instances[other] and gap < near * max(
        SHEET * other_near, STEEPEST * width
    )


@inlined
def _sheet(
    row: int, column: int, top: int, left: int, mesh: Mesh, samples: Samples, view: View
) -> tuple[int, float]:
    """A covered sample of the pixel whose samples start at (top, left), seen as a sheet's first.

    Returns:
        How many samples show its sheet, and the mean of their 1/z: at the centre of the samples it
        is exact on planes, where 1/z is affine. (0, 0) if an earlier sample shows the sheet.
    """
    near, face = samples.nearness[row, column], samples.ids[row, column]
    width = view.supersampling / view.fx
    count, total = 0, 0.0
    for r in range(top, top + view.supersampling):
        for c in range(left, left + view.supersampling):
            other = samples.nearness[r, c]
            if other > 0.0 and _same_sheet(
                face, near, samples.ids[r, c], other, mesh.instances, width
            ):
                if r < row or (r == row and c < column):
                    return 0, 0.0
                count += 1
                total += other
    return count, total / count


@kernel
def resolve(
    left: int, top: int, right: int, bottom: int,
    mesh: Mesh, samples: Samples, view: View, lights: Lights, tables: Tables,
    rgb: Bytes, depth: Floats, instance: Bytes, coverage: Floats,
) -> None:  # fmt: skip
    """Fill the pixels [left, right) x [top, bottom) of the image, in place.

    Each sheet of surface that a pixel shows is shaded once and weighted with its samples. `rgb`
    holds the background, over which partly covered pixels are composited in linear light. A pixel
    at least half covered carries the label and the depth of its largest sheet (of equals, the
    nearest).
    """
    size = view.supersampling
    samples_per_pixel = size * size
    for y in range(top, bottom):
        for x in range(left, right):
            red = green = blue = 0.0
            covered, shaded, largest, largest_near, label = 0, 0, 0, 0.0, 0
            for row in range(y * size, (y + 1) * size):
                for column in range(x * size, (x + 1) * size):
                    if samples.nearness[row, column] <= 0.0:
                        continue
                    covered += 1
                    if shaded == samples_per_pixel:
                        continue
                    count, near = _sheet(row, column, y * size, x * size, mesh, samples, view)
                    if count == 0:
                        continue
                    r, g, b = shade(column, row, mesh, samples, view, lights, tables)
                    red, green, blue = red + count * r, green + count * g, blue + count * b
                    shaded += count
                    if count > largest or (count == largest and near > largest_near):
                        largest, largest_near = count, near
                        label = mesh.instances[samples.ids[row, column]]
            if covered == 0:
                continue
            share = covered / samples_per_pixel
            coverage[y, x] = share
            if share >= 0.5:
                instance[y, x] = label
                depth[y, x] = 1.0 / largest_near
            weight, rest = share / shaded, 1.0 - share
            red = red * weight + rest * tables.linear[rgb[y, x, 0]]
            green = green * weight + rest * tables.linear[rgb[y, x, 1]]
            blue = blue * weight + rest * tables.linear[rgb[y, x, 2]]
            rgb[y, x, 0] = int(tables.srgb[int(red * (SRGB_STEPS - 1) + 0.5)] + 0.5)
            rgb[y, x, 1] = int(tables.srgb[int(green * (SRGB_STEPS - 1) + 0.5)] + 0.5)
            rgb[y, x, 2] = int(tables.srgb[int(blue * (SRGB_STEPS - 1) + 0.5)] + 0.5)
