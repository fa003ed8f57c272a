"""What is behind the hands: a textured room with furniture, seen by the clip's own camera.

The room is fixed in the world, so a moving camera sees true parallax: a pixel of the background and
`cam_from_world` agree.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from fourdhands.data.synthetic.textures import (
    TEXTURE_SIZE,
    image_bank,
    mip_maps,
    texture_bank,
)
from fourdhands.rendering.kernels import inlined, kernel

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
FACES = 6  # of a box: -x, +x, -y, +y, -z, +z
FACE_AXES = np.repeat(((2, 1), (0, 2), (0, 1)), 2, axis=0)  # (6, 2) axes across and down each face


@dataclass(frozen=True)
class BackgroundConfig:
    """Backgrounds of the scenes.

    Attributes:
        folder: Images (jpg, png, bmp, webp) to paper the rooms with; None for procedural textures.
        textures: Procedural textures in stock; each room draws its own from them.
        furniture: Fewest and most boxes that stand about in a room.
        blur: Greatest blur of what is out of focus, as a share of the image width.
    """

    folder: Path | None = None
    textures: int = 60
    furniture: tuple[int, int] = (0, 5)
    blur: float = 0.012

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        if self.textures < 1:
            raise ValueError(f"textures is {self.textures}: at least 1 is needed")
        if not 0 <= self.furniture[0] <= self.furniture[1]:
            raise ValueError(f"furniture is {self.furniture}: give fewest, most with 0 <= fewest")


@dataclass(frozen=True)
class Room:
    """A box seen from inside and boxes seen from outside, in the world frame (y down, metres).

    Attributes:
        boxes: (N, 2, 3) lower and upper corner; box 0 is the room.
        texture: (N, 6) index into the bank for each face.
        scale: (N, 6) metres that one texture covers.
        offset: (N, 6, 2) metres.
        shade: (N, 6) brightness.
        lamp: (3,) world position around which it is brighter.
        blur: Standard deviation of the defocus, as a share of the image width.
    """

    boxes: Floats
    texture: NDArray[np.int64]
    scale: Floats
    offset: Floats
    shade: Floats
    lamp: Floats
    blur: float


class Backgrounds:
    """The stock of textures, and the painter of rooms.

    Args:
        config: What to draw.
        rng: For the stock; equal generators make equal stocks.
    """

    def __init__(self, config: BackgroundConfig, rng: np.random.Generator) -> None:
        self.config = config
        bank = (
            texture_bank(rng, config.textures)
            if config.folder is None
            else image_bank(config.folder)
        )
        self._maps = mip_maps(bank)

    def sample_room(self, rng: np.random.Generator, camera_path: NDArray[np.floating[Any]]) -> Room:
        """Draw a room around a camera path (F, 3) in the world; furniture keeps off the path."""
        low = camera_path.min(axis=0) - rng.uniform((0.8, 0.5, 0.8), (3.0, 1.6, 3.0))
        high = camera_path.max(axis=0) + rng.uniform((0.8, 0.5, 0.8), (3.0, 1.5, 3.0))
        boxes = [np.stack((low, high))]
        centre = camera_path.mean(axis=0)
        clearance = np.linalg.norm(camera_path - centre, axis=1).max() + 0.45
        for _ in range(int(rng.integers(self.config.furniture[0], self.config.furniture[1] + 1))):
            size = rng.uniform(0.12, 0.9, 3) * (1, rng.uniform(0.3, 1.2), 1)
            place = rng.uniform(low + size / 2, np.maximum(high - size / 2, low + size / 2 + 1e-3))
            if rng.random() < 0.7:
                place[1] = high[1] - size[1] / 2  # on the floor
            gap = np.abs(place - centre) - size / 2
            if gap.max() > clearance:
                boxes.append(np.stack((place - size / 2, place + size / 2)))
        shape = (len(boxes), FACES)
        key = rng.uniform(0.6, 1.1, FACES)
        offset = rng.uniform(-10, 10, (*shape, 2))
        scale = np.exp(rng.uniform(np.log(0.7), np.log(2.8), shape))
        texture = rng.integers(len(self._maps[0]), size=shape)
        if rng.random() < 0.5:  # walls mostly look alike
            texture[0, [0, 1, 4, 5]] = texture[0, 0]
        texture[1:] = texture[1:, :1]
        if self.config.folder is not None:
            scale[0] = (high - low).max()  # a photograph fills its wall
            offset[0] = -low[FACE_AXES]
        sharp = rng.random() < 0.35
        return Room(
            boxes=np.stack(boxes).astype(np.float32),
            texture=texture,
            scale=scale.astype(np.float32),
            offset=offset.astype(np.float32),
            shade=(key * rng.uniform(0.7, 1.15, (len(boxes), 1))).astype(np.float32),
            lamp=rng.uniform(low, high).astype(np.float32),
            blur=0.0 if sharp else float(self.config.blur * rng.uniform() ** 1.5),
        )

    def paint(
        self,
        room: Room,
        intrinsics: NDArray[np.floating[Any]],
        cam_from_world: NDArray[np.floating[Any]],
        image_size: tuple[int, int],
    ) -> NDArray[np.uint8]:
        """Paint the room as the camera sees it.

        Args:
            room: Around the camera.
            intrinsics: (3, 3).
            cam_from_world: (4, 4).
            image_size: width, height.

        Returns:
            (H, W, 3) uint8 sRGB.
        """
        sigma = room.blur * image_size[0]
        if sigma > 1:  # out of focus, half the resolution shows no less
            half = np.diag((0.5, 0.5, 1.0))
            half[:2, 2] = -0.25  # pixel centres lie at integers
            small = (image_size[0] // 2, image_size[1] // 2)
            image = self._paint_sharp(room, half @ intrinsics, cam_from_world, small)
            blurred = cv2.GaussianBlur(image, (0, 0), sigma / 2)
            return cast(Bytes, cv2.resize(blurred, image_size, interpolation=cv2.INTER_LINEAR))
        image = self._paint_sharp(room, intrinsics, cam_from_world, image_size)
        return cast(Bytes, cv2.GaussianBlur(image, (0, 0), sigma)) if sigma > 0.4 else image

    def _paint_sharp(
        self,
        room: Room,
        intrinsics: NDArray[np.floating[Any]],
        cam_from_world: NDArray[np.floating[Any]],
        image_size: tuple[int, int],
    ) -> NDArray[np.uint8]:
        width, height = image_size
        rays = cam_from_world[:3, :3].T @ np.linalg.inv(intrinsics)
        position = -cam_from_world[:3, :3].T @ cam_from_world[:3, 3]
        along = position[FACE_AXES]  # textures are fixed to the world, not to the camera
        full, half, quarter = self._maps
        image = np.empty((height, width, 3), np.uint8)
        _trace(
            rays.astype(np.float32), (room.boxes - position).astype(np.float32), room.texture,
            room.scale, (room.offset + along).astype(np.float32), room.shade,
            (room.lamp - position).astype(np.float32), float(1 / intrinsics[0, 0]),
            full, half, quarter, image,
        )  # fmt: skip
        return image


@kernel
def _trace(  # type: ignore[no-untyped-def]
    rays, boxes, texture, scale, offset, shade, lamp, pixel, full, half, quarter, image
):
    """Cast one ray a pixel. Boxes, offsets and lamp are relative to the camera.

    `pixel` is the width of a pixel at distance 1.
    """
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            ix = _inverse(rays[0, 0] * x + rays[0, 1] * y + rays[0, 2])
            iy = _inverse(rays[1, 0] * x + rays[1, 1] * y + rays[1, 2])
            iz = _inverse(rays[2, 0] * x + rays[2, 1] * y + rays[2, 2])
            px, py, pz = int(ix > 0), int(iy > 0), int(iz > 0)
            # the room's wall behind everything ...
            box, axis = 0, 0
            distance = boxes[0, px, 0] * ix
            far = boxes[0, py, 1] * iy
            if far < distance:
                distance, axis = far, 1
            far = boxes[0, pz, 2] * iz
            if far < distance:
                distance, axis = far, 2
            # ... and the nearest piece of furniture before it
            for b in range(1, boxes.shape[0]):
                entry, near = 0, boxes[b, 1 - px, 0] * ix
                first = boxes[b, 1 - py, 1] * iy
                if first > near:
                    entry, near = 1, first
                first = boxes[b, 1 - pz, 2] * iz
                if first > near:
                    entry, near = 2, first
                last = min(boxes[b, px, 0] * ix, min(boxes[b, py, 1] * iy, boxes[b, pz, 2] * iz))
                if 0 < near < min(last, distance):
                    box, axis, distance = b, entry, near
            hx, hy, hz = distance / ix, distance / iy, distance / iz
            # a wall of the room faces inwards, a side of furniture outwards
            if axis == 0:
                face, u, v = px if box == 0 else 1 - px, hz, hy
            elif axis == 1:
                face, u, v = 2 + (py if box == 0 else 1 - py), hx, hz
            else:
                face, u, v = 4 + (pz if box == 0 else 1 - pz), hx, hy
            # the lamp's surroundings are brighter, the room's edges darker
            away = (hx - lamp[0]) ** 2 + (hy - lamp[1]) ** 2 + (hz - lamp[2]) ** 2
            light = shade[box, face] * (0.7 + 0.9 / (1 + 0.4 * away))
            if box == 0:
                edge = _second_smallest(
                    min(hx - boxes[0, 0, 0], boxes[0, 1, 0] - hx),
                    min(hy - boxes[0, 0, 1], boxes[0, 1, 1] - hy),
                    min(hz - boxes[0, 0, 2], boxes[0, 1, 2] - hz),
                )
                light *= 1 - 0.35 / (1 + 10 * edge) ** 2
            u = (u + offset[box, face, 0]) / scale[box, face]
            v = (v + offset[box, face, 1]) / scale[box, face]
            footprint = distance * pixel * TEXTURE_SIZE / scale[box, face]
            if footprint < 1.4:
                _look_up(full[texture[box, face]], u, v, light, image[y, x])
            elif footprint < 2.8:
                _look_up(half[texture[box, face]], u, v, light, image[y, x])
            else:
                _look_up(quarter[texture[box, face]], u, v, light, image[y, x])


@inlined
def _inverse(slope):  # type: ignore[no-untyped-def]
    return 1 / slope if abs(slope) > 1e-6 else np.float32(1e6)


@inlined
def _second_smallest(a, b, c):  # type: ignore[no-untyped-def]
    return max(min(a, b), min(max(a, b), c))


@kernel
def _look_up(texture, u, v, light, pixel):  # type: ignore[no-untyped-def]
    """Bilinear look-up in a texture that repeats: `pixel` (3,) = light * texture(u, v)."""
    size = texture.shape[0]
    x, y = (u - np.floor(u)) * size, (v - np.floor(v)) * size
    x0, y0 = int(x), int(y)
    a, b = x - x0, y - y0
    x0, y0 = x0 & (size - 1), y0 & (size - 1)  # the size is a power of two
    x1, y1 = (x0 + 1) & (size - 1), (y0 + 1) & (size - 1)
    for k in range(3):
        top = texture[y0, x0, k] * (1 - a) + texture[y0, x1, k] * a
        bottom = texture[y1, x0, k] * (1 - a) + texture[y1, x1, k] * a
        pixel[k] = int(min(light * (top * (1 - b) + bottom * b), 255.0))
