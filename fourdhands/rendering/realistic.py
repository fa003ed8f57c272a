"""The realistic renderer: path tracing by mitsuba 3, an optional extra.

It takes what `raster.Rasterizer` takes and gives what it gives. Depth, labels and coverage are the
rasteriser's own, so that both modes label an image alike; only the colours are traced.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourdhands.rendering.kernels import NEAR, average_normals
from fourdhands.rendering.lighting import Lighting
from fourdhands.rendering.lighting_model import SRGB_STEPS, tables
from fourdhands.rendering.raster import Rasterizer, RenderedFrame
from fourdhands.rendering.surface import Bytes, Floats, Surface, join

Variant = Literal["scalar_rgb", "llvm_ad_rgb"]
ENVIRONMENT: Final = (128, 256)  # latitudes, longitudes
BLOCKER_DISTANCE: Final = 0.04  # metres from a shadow to what throws it, typical of hands
# Radiance whose cosine-weighted mean is the polynomial `Lighting.ambient`, order by order.
AMBIENT_GAIN: Final = np.array((1.0, *(3 * (1.5,)), *(5 * (4.0,))))


class RealisticRenderer:
    """Path-traces images of one size with soft shadows and light bounced between surfaces.

    Args:
        height: Image height in pixels.
        width: Image width in pixels.
        samples: Light paths a pixel; the grain is gone from about 64 on.
        variant: mitsuba's back end. `llvm_ad_rgb` is two to three times as fast, but it loads
            whatever LLVM library the system has, and versions 15 and 16 are known to end the whole
            process: point DRJIT_LIBLLVM_PATH at a good one (19) before asking for it.
        seed: Of the light paths; the same seed draws the same image.

    Raises:
        ValueError: mitsuba, or the variant's LLVM library, is not installed.
    """

    def __init__(
        self,
        height: int,
        width: int,
        samples: int = 64,
        variant: Variant = "scalar_rgb",
        seed: int = 0,
    ) -> None:
        self._labels = Rasterizer(height, width)
        self._mitsuba = import_mitsuba(variant)
        self.height = height
        self.width = width
        self.samples = samples
        self.seed = seed

    def render(
        self,
        surfaces: Sequence[Surface],
        intrinsics: ArrayLike,
        lighting: Lighting,
        background: Bytes,
    ) -> RenderedFrame:
        """Render surfaces over a background; see `Rasterizer.render`.

        Raises:
            ValueError: As there, and for pixels that are not square.
        """
        frame = self._labels.render(surfaces, intrinsics, lighting, background)
        if not frame.coverage.any():
            return frame
        mitsuba = self._mitsuba
        scene = {
            "type": "scene",
            "integrator": {"type": "path", "max_depth": 5, "hide_emitters": True},
            "sensor": self._sensor(np.asarray(intrinsics, np.float64)),
            "light": {"type": "envmap", "bitmap": mitsuba.Bitmap(environment_map(lighting))},
        }
        normals = _vertex_normals(surfaces)
        for index, (surface, normal) in enumerate(zip(surfaces, normals, strict=True)):
            scene[f"surface{index}"] = self._mesh(f"surface{index}", surface, normal)
        loaded = mitsuba.load_dict(scene)
        traced = np.array(mitsuba.render(loaded, spp=self.samples, seed=self.seed), np.float32)
        return RenderedFrame(
            rgb=_composite(traced, background),
            depth=frame.depth,
            instance=frame.instance,
            coverage=frame.coverage,
        )

    def _sensor(self, intrinsics: NDArray[np.float64]) -> dict[str, Any]:
        fx, fy, cx, cy = intrinsics[[0, 1, 0, 1], [0, 1, 2, 2]]
        if abs(fx / fy - 1.0) > 1e-3:
            raise ValueError(
                f"the realistic renderer needs square pixels, got focal lengths {fx} and {fy}"
            )
        transform = self._mitsuba.ScalarTransform4f
        return {
            "type": "perspective",
            "to_world": transform().look_at(origin=[0, 0, 0], target=[0, 0, 1], up=[0, -1, 0]),
            "fov": float(np.degrees(2 * np.arctan(self.width / (2 * fx)))),
            "fov_axis": "x",
            "near_clip": NEAR,
            "far_clip": 100.0,
            # mitsuba's image spans [0, width], ours [-0.5, width - 0.5]
            "principal_point_offset_x": float(0.5 - (cx + 0.5) / self.width),
            "principal_point_offset_y": float(0.5 - (cy + 0.5) / self.height),
            "film": {
                "type": "hdrfilm",
                "width": self.width,
                "height": self.height,
                "pixel_format": "rgba",
                "rfilter": {"type": "box"},
            },
            "sampler": {"type": "independent", "sample_count": self.samples},
        }

    def _mesh(self, name: str, surface: Surface, normals: Floats) -> Any:
        mitsuba, material = self._mitsuba, surface.material
        gloss = np.clip(surface.gloss, 0.0, 1.0)[:, None]
        colour = surface.albedo + gloss * (
            np.array(material.gloss_albedo, np.float32) - surface.albedo
        )
        rough = material.roughness + gloss * (material.gloss_roughness - material.roughness)
        properties = mitsuba.Properties()
        properties["bsdf"] = mitsuba.load_dict(
            {
                "type": "twosided",
                "bsdf": {
                    "type": "principled",
                    "base_color": {"type": "mesh_attribute", "name": "vertex_colour"},
                    "roughness": {"type": "mesh_attribute", "name": "vertex_rough"},
                    "specular": min(material.reflectance / 0.08, 1.0),
                    "flatness": min(1.5 * max(material.wrap), 1.0),  # light scattered inside
                },
            }
        )
        mesh = mitsuba.Mesh(
            name,
            len(surface.vertices),
            len(surface.faces),
            has_vertex_normals=True,
            props=properties,
        )
        mesh.add_attribute("vertex_colour", 3, np.float32(colour).ravel())
        mesh.add_attribute("vertex_rough", 1, np.float32(rough).ravel())
        parameters = mitsuba.traverse(mesh)
        parameters["vertex_positions"] = surface.vertices.ravel()
        parameters["faces"] = surface.faces.astype(np.uint32).ravel()
        parameters["vertex_normals"] = np.ascontiguousarray(normals).ravel()
        parameters.update()
        return mesh


def environment_map(lighting: Lighting) -> Floats:
    """The light from every direction of the camera frame, as mitsuba's environment map.

    Ambient light is unfolded to radiance; each directional light becomes a disc, the first as
    large as its penumbra tells, and of the same irradiance.

    Returns:
        (latitudes, longitudes, 3) linear RGB.
    """
    rows, columns = ENVIRONMENT
    polar = (np.arange(rows)[:, None] + 0.5) * np.pi / rows
    turn = (np.arange(columns) + 0.5) * 2 * np.pi / columns
    x, y, z = np.broadcast_arrays(
        np.sin(polar) * np.sin(turn), np.cos(polar), -np.sin(polar) * np.cos(turn)
    )
    one = np.ones_like(x)
    terms = np.stack([one, y, z, x, x * y, y * z, 3 * z**2 - 1, x * z, x**2 - y**2], axis=-1)
    ambient = terms @ (lighting.ambient * AMBIENT_GAIN[:, None])
    light = np.maximum(ambient, 0.1 * lighting.ambient[0])
    directions = np.stack([x, y, z], axis=-1)
    solid_angle = np.sin(polar) * (np.pi / rows) * (2 * np.pi / columns)
    for index, (towards, radiance) in enumerate(
        zip(lighting.directions, lighting.radiance, strict=True)
    ):
        spread = np.arctan(0.5 * lighting.penumbra / BLOCKER_DISTANCE) if index == 0 else 0.35
        cosine = directions @ towards
        disc = cosine > np.cos(max(spread, 0.06))
        irradiance = (disc * cosine * solid_angle).sum()
        light = light + disc[..., None] * radiance * np.pi / irradiance
    return light.astype(np.float32)


def import_mitsuba(variant: Variant) -> ModuleType:
    """Load the extra `realistic`.

    Raises:
        ValueError: mitsuba is not installed, or its variant does not run here.
    """
    try:
        import mitsuba
    except ImportError as error:
        raise ValueError(
            "the realistic renderer needs mitsuba, which is not installed: "
            "pip install -c constraints.txt -e '.[realistic]', or render in the fast mode"
        ) from error
    try:
        mitsuba.set_variant(variant)
    except ImportError as error:
        raise ValueError(
            f"mitsuba cannot run as '{variant}' here ({error}); use variant 'scalar_rgb'"
        ) from error
    return mitsuba


def _vertex_normals(surfaces: Sequence[Surface]) -> list[Floats]:
    mesh, wanted = join(surfaces)
    average_normals(mesh.vertices, mesh.faces, wanted, mesh.normals)
    return np.split(mesh.normals, np.cumsum([len(s.vertices) for s in surfaces])[:-1])


def _composite(traced: Floats, background: Bytes) -> Bytes:
    """Lay traced colours (H, W, 4), premultiplied linear RGB and alpha, over sRGB."""
    alpha = np.clip(traced[..., 3:], 0.0, 1.0)
    linear = np.clip(traced[..., :3], 0.0, 1.0) + (1.0 - alpha) * tables().linear[background]
    steps = np.round(np.clip(linear, 0.0, 1.0) * (SRGB_STEPS - 1)).astype(int)
    return np.round(tables().srgb[steps]).astype(np.uint8)
