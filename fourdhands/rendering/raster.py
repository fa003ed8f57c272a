"""The fast renderer: a z-buffer rasteriser on the CPU with colour, depth and labels.

Surfaces are joined to one mesh (`surface`), projected and z-buffered (`kernels`) from the camera
and from the key light, and shaded (`shading`, `resolve`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourdhands.rendering.kernels import average_normals, bounds, draw_faces, project
from fourdhands.rendering.lighting import Lighting
from fourdhands.rendering.lighting_model import Lights, Samples, View, tables
from fourdhands.rendering.resolve import resolve
from fourdhands.rendering.surface import Bytes, Floats, Mesh, Surface, join

MAX_SHADOW_SIZE = 512  # texels a side
FAR_FROM_LIGHT = -1e3  # metres


@dataclass(frozen=True)
class RenderedFrame:
    """One rendered image and its labels.

    Attributes:
        rgb: (H, W, 3) uint8 sRGB.
        depth: (H, W) float32 metres along z; 0 where the background shows.
        instance: (H, W) uint8, i + 1 where surface i shows, 0 for the background.
        coverage: (H, W) float32, share of the pixel that surfaces cover.
    """

    rgb: Bytes
    depth: Floats
    instance: Bytes
    coverage: Floats


class Rasterizer:
    """Renders images of one size. Holds the work buffers: use one per thread.

    Args:
        height: Image height in pixels.
        width: Image width in pixels.
        supersampling: Samples per pixel along each axis; colour is anti-aliased by this.
    """

    def __init__(self, height: int, width: int, supersampling: int = 2) -> None:
        if min(height, width, supersampling) < 1:
            raise ValueError(
                f"a {width} x {height} image with supersampling {supersampling} cannot be drawn: "
                "all three must be at least 1"
            )
        self.height = height
        self.width = width
        self.supersampling = supersampling
        shape = (height * supersampling, width * supersampling)
        self._nearness = np.zeros(shape, np.float32)
        self._ids = np.zeros(shape, np.int32)

    def render(
        self,
        surfaces: Sequence[Surface],
        intrinsics: ArrayLike,
        lighting: Lighting,
        background: NDArray[np.uint8],
    ) -> RenderedFrame:
        """Render surfaces over a background.

        Args:
            surfaces: Closed meshes in the camera frame.
            intrinsics: (3, 3) pinhole matrix without skew, pixel centres at integers.
            lighting: Light in the camera frame.
            background: (H, W, 3) uint8 sRGB.

        Raises:
            ValueError: The background's or the intrinsics' shape does not fit, or a vertex is not
                finite.
        """
        view = self._view(np.asarray(intrinsics, np.float64))
        if background.shape != (self.height, self.width, 3) or background.dtype != np.uint8:
            raise ValueError(
                f"background is {background.dtype} {background.shape}; this rasteriser needs "
                f"uint8 {(self.height, self.width, 3)}"
            )
        frame = RenderedFrame(
            rgb=background.copy(),
            depth=np.zeros((self.height, self.width), np.float32),
            instance=np.zeros((self.height, self.width), np.uint8),
            coverage=np.zeros((self.height, self.width), np.float32),
        )
        if not surfaces:
            return frame
        mesh, wanted = join(surfaces)
        if not np.isfinite(mesh.vertices).all():
            raise ValueError("a surface has vertices that are not finite")
        average_normals(mesh.vertices, mesh.faces, wanted, mesh.normals)

        points = np.empty((len(mesh.vertices), 2), np.float32)
        nearness = np.empty(len(mesh.vertices), np.float32)
        project(mesh.vertices, view.fx, view.fy, view.cx, view.cy, points, nearness)
        left, top, right, bottom = self._extent(points, nearness)
        if left >= right or top >= bottom:
            return frame

        self._nearness.fill(0.0)  # all of it: shading looks beside the drawn region, too
        draw_faces(points, nearness, mesh.faces, 0.0, self._nearness, self._ids)
        samples = Samples(points, self._nearness, self._ids)
        lights = _lights(lighting, mesh, self._shown(points, nearness))
        resolve(
            left, top, right, bottom, mesh, samples, view, lights, tables(),
            frame.rgb, frame.depth, frame.instance, frame.coverage,
        )  # fmt: skip
        return frame

    def _view(self, intrinsics: NDArray[np.float64]) -> View:
        if intrinsics.shape != (3, 3) or intrinsics[0, 1] != 0.0:
            raise ValueError(
                f"intrinsics must be a (3, 3) pinhole matrix without skew, got {intrinsics}"
            )
        # pixel u holds the samples u * s .. u * s + s - 1, all centres at integers
        size = self.supersampling
        shift = 0.5 * (size - 1)
        return View(
            fx=float(intrinsics[0, 0]) * size,
            fy=float(intrinsics[1, 1]) * size,
            cx=float(intrinsics[0, 2]) * size + shift,
            cy=float(intrinsics[1, 2]) * size + shift,
            supersampling=size,
        )

    def _extent(self, points: Floats, nearness: Floats) -> tuple[int, int, int, int]:
        """The pixels [left, right) x [top, bottom) that surfaces may touch."""
        low, high = _box(points, (nearness > 0.0).view(np.uint8))
        size = self.supersampling
        return (
            int(np.clip(low[0] // size, 0, self.width)),
            int(np.clip(low[1] // size, 0, self.height)),
            int(np.clip(high[0] // size + 1, 0, self.width)),
            int(np.clip(high[1] // size + 1, 0, self.height)),
        )

    def _shown(self, points: Floats, nearness: Floats) -> NDArray[np.uint8]:
        """(N,) 1 for vertices inside the image; if there are none, for those before the camera."""
        height, width = self._nearness.shape
        x, y, ahead = points[:, 0], points[:, 1], nearness > 0.0
        inside = ahead & (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
        return (inside if inside.any() else ahead).view(np.uint8)


def _box(points: Floats, chosen: NDArray[np.uint8]) -> tuple[Floats, Floats]:
    low, high = np.empty(points.shape[1], np.float32), np.empty(points.shape[1], np.float32)
    bounds(points, chosen, low, high)
    return low, high


def _lights(lighting: Lighting, mesh: Mesh, shown: NDArray[np.uint8]) -> Lights:
    """Draw the shadow map, fitted to the vertices that the image shows."""
    towards = lighting.directions[0].astype(np.float64)
    up = np.array([0.0, 1.0, 0.0]) if abs(towards[1]) < 0.9 else np.array([1.0, 0.0, 0.0])
    across = np.cross(up, towards)
    across /= np.linalg.norm(across)
    # the second axis points so that faces towards the light wind as front faces do on the image
    rotation = np.stack([across, -np.cross(towards, across), towards]).astype(np.float32)
    in_light = mesh.vertices @ rotation.T
    low, high = _box(in_light[:, :2], shown)
    margin = np.float32(lighting.penumbra + 0.002)
    low, high = low - margin, high + margin
    # the filter is three texels wide: coarser texels make softer shadows
    size = int(np.clip(3.0 * (high - low).max() / lighting.penumbra, 32, MAX_SHADOW_SIZE))
    scale = ((size - 1) / (high - low)).astype(np.float32)
    shadow = np.full((size, size), FAR_FROM_LIGHT, np.float32)
    draw_faces(
        np.ascontiguousarray((in_light[:, :2] - low) * scale),
        np.ascontiguousarray(in_light[:, 2]),
        mesh.faces,
        FAR_FROM_LIGHT,
        shadow,
        np.empty((size, size), np.int32),
    )
    return Lights(
        directions=lighting.directions,
        radiance=lighting.radiance,
        ambient=lighting.ambient,
        shadow=shadow,
        rotation=rotation,
        low=low,
        scale=scale,
        softness=0.0015 + 0.2 * lighting.penumbra,
    )
