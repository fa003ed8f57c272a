"""Pictures for people: hands over a photograph, from the side, as skeletons, and sheets of them.

Validation pictures, evaluation reports and `fourdhands predict` all draw with these functions.
Colours tell the sides apart: right is coral, left is blue.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourdhands.hands.assets import load_assets
from fourdhands.hands.mano import WRIST_CAP
from fourdhands.rendering.kernels import NEAR
from fourdhands.rendering.lighting import Lighting
from fourdhands.rendering.raster import Rasterizer
from fourdhands.rendering.subdivision import LoopSubdivision
from fourdhands.rendering.surface import Bytes, Floats, Material, Surface
from fourdhands.skeleton import BONES, NUM_JOINTS, NUM_SIDES, NUM_VERTICES, Side

SIDE_COLOURS: Final = {Side.RIGHT: (222, 116, 88), Side.LEFT: (84, 138, 218)}  # sRGB
CLAY: Final = Material(wrap=(0.12, 0.1, 0.1), roughness=0.5, reflectance=0.04)
PAPER: Final = 248  # grey of sheets and side views
INK: Final = (40, 44, 52)
SUPERSAMPLING: Final = 3
MOST_SAMPLES: Final = 9_000_000  # of one picture: a whole large photograph gets fewer a pixel
# A camera to the right of the scene: its x axis is the depth of the first camera.
SIDE_FROM_CAMERA: Final = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])


def draw_hands(
    image: Bytes,
    vertices: ArrayLike,
    present: ArrayLike,
    intrinsics: ArrayLike,
    opacity: float = 0.85,
    faces: ArrayLike | None = None,
) -> Bytes:
    """Draw hand meshes over an image, nearer surfaces before farther ones.

    Args:
        image: (H, W, 3) uint8 RGB, any size; it is not changed.
        vertices: (S, 778, 3) metres, camera frame.
        present: (S,) which hands to draw.
        intrinsics: (3, 3) of this image.
        opacity: 1 hides what is behind the hands.
        faces: (S, 1538, 3) of the hand model; None for the open hand's.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: A shape does not fit, or a present hand has vertices that are not finite.
    """
    surfaces = _clay_hands(vertices, present, faces)
    K = np.array(intrinsics, np.float64)
    drawn = image.copy()
    region = _region([surface.vertices for surface in surfaces], K, image.shape)
    if region is None:
        return drawn
    left, top, right, bottom = region
    K[:2, 2] -= (left, top)
    patch = drawn[top:bottom, left:right]
    affordable = int(np.sqrt(MOST_SAMPLES / patch[..., 0].size))
    rasterizer = Rasterizer(bottom - top, right - left, min(max(affordable, 1), SUPERSAMPLING))
    rendered = rasterizer.render(surfaces, K, Lighting.studio(), patch).rgb
    cv2.addWeighted(rendered, opacity, patch, 1.0 - opacity, 0.0, dst=rendered)
    patch[:] = rendered
    return drawn


def side_view(
    vertices: ArrayLike,
    present: ArrayLike,
    size: int,
    faces: ArrayLike | None = None,
    extent: float | None = None,
) -> Bytes:
    """The same hands seen from the right side on white paper; depth grows from left to right.

    Args:
        vertices: (S, 778, 3) metres, camera frame (y down, z forward).
        present: (S,) which hands to draw.
        size: Side of the square picture in pixels.
        faces: As in `draw_hands`.
        extent: Metres that fill the picture, for views of one scale; as much as these hands need
            if None (see `side_extent`).
    """
    extent = side_extent(vertices, present) if extent is None else extent
    return _on_paper(vertices, present, size, faces, extent, SIDE_FROM_CAMERA)


def front_view(
    vertices: ArrayLike, present: ArrayLike, size: int, faces: ArrayLike | None, extent: float
) -> Bytes:
    """The same hands as the camera sees them, on white paper; arguments as those of `side_view`."""
    return _on_paper(vertices, present, size, faces, extent, np.eye(3))


def _on_paper(
    vertices: ArrayLike,
    present: ArrayLike,
    size: int,
    faces: ArrayLike | None,
    extent: float,
    turn: NDArray[np.float64],
) -> Bytes:
    paper = np.full((size, size, 3), PAPER, np.uint8)
    hands = _checked("vertices", vertices, (NUM_SIDES, NUM_VERTICES, 3)) @ turn.T
    shown = hands[np.asarray(present, bool)]
    if not len(shown):
        return paper
    low, high = shown.min(axis=(0, 1)), shown.max(axis=(0, 1))
    lens = 6.0  # distance over extent: long, so that sizes hardly depend on depth
    distance = lens * extent + float((high - low)[2]) / 2
    centred = hands - (low + high) / 2 + (0.0, 0.0, distance)
    focal, centre = 0.86 * size * lens, (size - 1) / 2
    K = np.array([[focal, 0.0, centre], [0.0, focal, centre], [0.0, 0.0, 1.0]])
    return draw_hands(paper, centred, present, K, opacity=1.0, faces=faces)


def side_extent(vertices: ArrayLike, present: ArrayLike) -> float:
    """Metres that a side view of hands has to show; arguments as those of `side_view`."""
    hands = _checked("vertices", vertices, (NUM_SIDES, NUM_VERTICES, 3))
    shown = hands[np.asarray(present, bool)].reshape(-1, 3)
    return max(float(np.ptp(shown[:, 1:], axis=0).max()) if len(shown) else 0.0, 1e-3)


def draw_skeleton(
    image: Bytes,
    joints_2d: ArrayLike,
    present: ArrayLike,
    colours: Mapping[Side, tuple[int, int, int]] = SIDE_COLOURS,
) -> Bytes:
    """Draw the joints and bones of hands over an image.

    Args:
        image: (H, W, 3) uint8 RGB; it is not changed.
        joints_2d: (S, 21, 2) pixels.
        present: (S,) which hands, or (S, 21) which joints to draw.
        colours: of the hands, sRGB.
    """
    points = _checked("joints_2d", joints_2d, (NUM_SIDES, NUM_JOINTS, 2))
    shown = np.asarray(present, bool)
    shown = np.broadcast_to(shown.reshape(NUM_SIDES, -1), (NUM_SIDES, NUM_JOINTS))
    drawn = image.copy()
    bits = 4  # cv2 takes fixed-point coordinates: 1/16 pixel
    for side in Side:
        visible = shown[side] & (np.abs(points[side]) < 1e5).all(axis=1)
        if not visible.any():
            continue
        fixed = np.round(points[side] * (1 << bits)).astype(int)
        extent = np.ptp(points[side][visible], axis=0).max()
        width = int(np.clip(round(extent / 60), 1, 12))
        colour = np.array(colours[side])
        for pen, ink in ((width + 2, (255, 255, 255)), (width, colour.tolist())):
            for parent, joint in BONES:
                if visible[parent] and visible[joint]:
                    cv2.line(drawn, fixed[parent], fixed[joint], ink, pen, cv2.LINE_AA, bits)
        for joint in np.flatnonzero(visible):
            radius = round((0.8 * width + 1) * (1 << bits))
            cv2.circle(drawn, fixed[joint], radius, (255, 255, 255), -1, cv2.LINE_AA, bits)
            dark = (0.7 * colour).tolist()
            cv2.circle(drawn, fixed[joint], radius * 3 // 4, dark, -1, cv2.LINE_AA, bits)
    return drawn


def grid(
    images: Sequence[Bytes],
    columns: int,
    captions: Sequence[str] | None = None,
    titles: Sequence[str] | None = None,
) -> Bytes:
    """Lay pictures out on white paper, row by row, with a caption above each.

    Args:
        images: (H_i, W_i, 3) uint8 RGB; cells are as wide as the widest, rows as high as needed.
        columns: Pictures in a row.
        captions: One ASCII line a picture; too long ones are drawn smaller.
        titles: One ASCII line a row, above its captions.
    """
    rows = -(-len(images) // max(columns, 1))
    for name, lines, count in (("captions", captions, len(images)), ("titles", titles, rows)):
        if not images or columns < 1 or (lines is not None and len(lines) != count):
            raise ValueError(
                f"cannot lay out {len(images)} images in {columns} columns with "
                f"{'no' if lines is None else len(lines)} {name}"
            )
    width = max(image.shape[1] for image in images)
    gap = max(2, width // 64)
    line = int(np.clip(width // 11, 14, 40))
    strip = 0 if captions is None else line
    head = 0 if titles is None else line + line // 3
    across = min(columns, len(images)) * (width + gap) + gap
    sheet = [np.full((gap, across, 3), PAPER, np.uint8)]
    for row in range(rows):
        cells = range(row * columns, min((row + 1) * columns, len(images)))
        height = head + strip + max(images[cell].shape[0] for cell in cells)
        band = np.full((height + gap, across, 3), PAPER, np.uint8)
        if titles is not None:
            _write(band[head - line : head, gap:], titles[row])
        for column, cell in enumerate(cells):
            left, image = gap + column * (width + gap), images[cell]
            if captions is not None:
                _write(band[head : head + strip, left : left + width], captions[cell])
            down = head + strip
            band[down : down + image.shape[0], left : left + image.shape[1]] = image
        sheet.append(band)
    return np.concatenate(sheet)


def _write(box: Bytes, text: str) -> None:
    """Write one line into a strip of a sheet, as large as fits."""
    height, width = box.shape[:2]
    font = cv2.FONT_HERSHEY_SIMPLEX
    scale = 0.62 * height / 22
    wide = cv2.getTextSize(text, font, scale, 1)[0][0]
    scale *= min(1.0, (width - height // 2) / max(wide, 1))  # clear of the next cell's
    thickness = 1 if height < 28 else 2
    canvas = np.ascontiguousarray(box)
    cv2.putText(canvas, text, (1, round(0.72 * height)), font, scale, INK, thickness, cv2.LINE_AA)
    box[:] = canvas


def _clay_hands(vertices: ArrayLike, present: ArrayLike, faces: ArrayLike | None) -> list[Surface]:
    meshes = _checked("vertices", vertices, (NUM_SIDES, NUM_VERTICES, 3))
    shown = _checked("present", present, (NUM_SIDES,)).astype(bool)
    surfaces = []
    for side in Side:
        if not shown[side]:
            continue
        if not np.isfinite(meshes[side]).all():
            raise ValueError(f"the {side.name.lower()} hand has vertices that are not finite")
        key = None if faces is None else np.asarray(faces, np.int64)[side].tobytes()
        refine = _refinement(key, side)
        colour = (np.array(SIDE_COLOURS[side]) / 255.0) ** 2.2
        surfaces.append(Surface.plain(refine(meshes[side]), refine.faces, colour, CLAY))
    return surfaces


@lru_cache(maxsize=8)
def _refinement(faces: bytes | None, side: Side) -> LoopSubdivision:
    """Subdivision of a hand with its wrist closed; `faces` as bytes of int64, as a cache key."""
    if faces is None:
        table = load_assets()[side].faces
    else:
        table = np.frombuffer(faces, np.int64).reshape(-1, 3)
    cap = WRIST_CAP if side == Side.RIGHT else WRIST_CAP[:, ::-1]
    return LoopSubdivision(np.concatenate([table, cap]), NUM_VERTICES)


def _region(
    meshes: Sequence[Floats], intrinsics: NDArray[np.float64], shape: tuple[int, ...]
) -> tuple[int, int, int, int] | None:
    """Pixels [left, right) x [top, bottom) that meshes cover, or None."""
    points = [mesh[mesh[:, 2] > NEAR] for mesh in meshes]
    points = [p @ intrinsics[:2].T / p[:, 2:] for p in points if len(p)]
    if not points:
        return None
    low = np.min([p.min(axis=0) for p in points], axis=0)
    high = np.max([p.max(axis=0) for p in points], axis=0)
    limit = np.array((shape[1], shape[0]))
    left, top = np.clip(np.floor(low) - 2, 0, limit).astype(int)
    right, bottom = np.clip(np.ceil(high) + 3, 0, limit).astype(int)
    return None if left >= right or top >= bottom else (left, top, right, bottom)


def _checked(name: str, values: ArrayLike, shape: tuple[int, ...]) -> NDArray[Any]:
    array = np.asarray(values)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    return array
