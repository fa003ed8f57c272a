"""Procedural textures of rooms: plaster, wood, cloth, tiles, shelves, clutter, leaves, pictures.

Colours follow everyday surroundings: mostly greys, browns and muted tones, strong colours seldom
and on small things. `background` pastes the textures onto rooms.
"""

import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

TEXTURE_SIZE = 256
MIP_LEVELS = 3
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")

Image = NDArray[np.float32]  # (H, W, 3) sRGB, 0 to 1
Maker = Callable[[np.random.Generator], Image]


def texture_bank(rng: np.random.Generator, count: int) -> NDArray[np.uint8]:
    """Draw `count` textures, each kind about equally often: (count, size, size, 3) uint8 sRGB."""
    bank = np.empty((count, TEXTURE_SIZE, TEXTURE_SIZE, 3), np.uint8)
    for i in range(count):
        bank[i] = 255 * np.clip(MAKERS[i % len(MAKERS)](rng), 0, 1) + 0.5
    return bank


def image_paths(folder: Path) -> list[Path]:
    """The images of a folder, in order.

    Raises:
        ValueError: The folder does not exist or holds no image.
    """
    paths = sorted(p for p in folder.glob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise ValueError(
            f"background folder '{folder}' holds no image ({', '.join(IMAGE_SUFFIXES)}): "
            "give a folder with images, or null for procedural rooms"
        )
    return paths


def image_bank(folder: Path) -> NDArray[np.uint8]:
    """Read the user's images as textures, cut to squares: (count, size, size, 3) uint8 sRGB.

    Raises:
        ValueError: The folder does not exist, holds no image, or one that cannot be read.
    """
    squares = []
    for path in image_paths(folder):
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError(f"background image '{path}' cannot be read: repair or remove it")
        side = min(image.shape[:2])
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        square = cv2.cvtColor(image[top : top + side, left : left + side], cv2.COLOR_BGR2RGB)
        squares.append(
            cv2.resize(square, (TEXTURE_SIZE, TEXTURE_SIZE), interpolation=cv2.INTER_AREA)
        )
    return np.stack(squares).astype(np.uint8)


def mip_maps(bank: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
    """The bank at full, half and quarter size, for surfaces far away."""
    levels = [bank]
    for level in range(1, MIP_LEVELS):
        size = TEXTURE_SIZE >> level
        levels.append(
            np.stack([cv2.resize(t, (size, size), interpolation=cv2.INTER_AREA) for t in bank])
        )
    return tuple(levels)


def natural_colours(rng: np.random.Generator, count: int, vivid: float = 0.12) -> Image:
    """(count, 3) sRGB colours as things around us have them.

    Hues gather at orange-brown, fewer at blue and green; saturation is low but for a `vivid` share.
    """
    centre = rng.choice([28.0, 45.0, 100.0, 212.0, 0.0], count, p=[0.44, 0.2, 0.12, 0.17, 0.07])
    hue = (centre + rng.normal(0, 12, count)) % 360
    saturation = rng.beta(1.4, 5.0, count)
    bold = rng.random(count) < vivid
    saturation[bold] = rng.uniform(0.45, 0.9, bold.sum())
    value = rng.beta(2.0, 1.8, count) * 0.9 + 0.06
    hsv = np.stack((hue, saturation, value), -1)[None].astype(np.float32)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0]


def cloud(rng: np.random.Generator, persistence: float = 0.5, start: int = 1) -> Image:
    """Fractal noise (size, size, 1) of mean 0 and deviation 1, which repeats without a seam."""
    size, margin = TEXTURE_SIZE, 2
    total = np.zeros((size, size), np.float32)
    for octave in range(start, int(math.log2(size))):
        cells = 2**octave
        grid = np.pad(rng.standard_normal((cells, cells), np.float32), margin, mode="wrap")
        full = cv2.resize(
            grid, None, fx=size / cells, fy=size / cells, interpolation=cv2.INTER_CUBIC
        )
        border = margin * size // cells
        total += persistence**octave * full[border : border + size, border : border + size]
    return ((total - total.mean()) / total.std())[..., None]


def plaster(rng: np.random.Generator) -> Image:
    """A painted wall: one light colour with faint stains and grain."""
    colour = natural_colours(rng, 1, vivid=0.05)[0] * 0.5 + rng.uniform(0.2, 0.48)
    return colour * (1 + 0.05 * cloud(rng, 0.6) + 0.02 * cloud(rng, 0.95, start=4))


def wood(rng: np.random.Generator) -> Image:
    """Planks with grain along x."""
    size = TEXTURE_SIZE
    dark, light = np.array([0.28, 0.17, 0.10]), np.array([0.80, 0.64, 0.44])
    tone = rng.uniform(0.05, 0.95)
    base = dark * (1 - tone) + light * tone
    planks = int(rng.integers(1, 6))
    warped = cloud(rng, 0.55)[..., 0]
    rows = np.linspace(0, 1, size, dtype=np.float32)[:, None]
    narrow = warped[:, : size // 24]
    there_and_back = np.concatenate((narrow, narrow[:, ::-1]), axis=1)
    stretched = cv2.resize(there_and_back, (size, size), interpolation=cv2.INTER_CUBIC)
    grain = np.sin((rows * rng.uniform(20, 60) + stretched * rng.uniform(0.6, 2.0)) * 2 * np.pi)
    plank = np.minimum((rows * planks).astype(int), planks - 1)
    shade = rng.normal(1, 0.08, planks)[plank]
    seams = 1 - 0.45 * (np.abs(rows * planks % 1.0) < 0.02 * planks)
    image = shade * seams * (1 + 0.06 * grain + 0.05 * stretched)
    return (base * image[..., None] * (1 + 0.02 * cloud(rng, 0.95, start=4))).astype(np.float32)


def cloth(rng: np.random.Generator) -> Image:
    """Woven cloth: plain, striped or checked, with folds."""
    size = TEXTURE_SIZE
    first, second = natural_colours(rng, 2, vivid=0.25)
    x = np.arange(size, dtype=np.float32)
    period = size / rng.integers(3, 12)
    stripe_x = (x / period % 1 < rng.uniform(0.2, 0.8)).astype(np.float32)
    stripe_y = stripe_x * (rng.random() < 0.4)
    mix = (stripe_x[None] + stripe_y[:, None]) / 2 * (rng.random() < 0.6)
    weave = 1 + 0.06 * np.sin(x * np.pi * 0.9)[None] * np.sin(x * np.pi * 0.9)[:, None]
    image = first + mix[..., None] * (second - first)
    folds = 1 + 0.14 * cloud(rng, 0.35)
    return (image * weave[..., None] * folds).astype(np.float32)


def tiles(rng: np.random.Generator) -> Image:
    """Tiles or bricks with joints."""
    size = TEXTURE_SIZE
    rows, columns = int(rng.integers(3, 14)), int(rng.integers(2, 9))
    base, joint = natural_colours(rng, 2, vivid=0.05)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    row = np.minimum((y * rows).astype(int), rows - 1)
    shifted = x * columns + 0.5 * (row % 2) * (rng.random() < 0.6)
    column = shifted.astype(int) % columns
    tone = rng.normal(1, rng.uniform(0.02, 0.12), (rows, columns))[row, column][..., None]
    edge = np.minimum(np.minimum(y * rows % 1, 1 - y * rows % 1) / rows,
                      np.minimum(shifted % 1, 1 - shifted % 1) / columns)  # fmt: skip
    between = (edge < rng.uniform(0.003, 0.01))[..., None]
    image = np.where(between, joint, base * tone) * (1 + 0.04 * cloud(rng, 0.7))
    return image.astype(np.float32)


def shelf(rng: np.random.Generator) -> Image:
    """Shelves with books and boxes."""
    size = TEXTURE_SIZE
    board = natural_colours(rng, 1, vivid=0.0)[0] * rng.uniform(0.5, 1.0)
    image = np.empty((size, size, 3), np.float32)
    image[:] = board * 0.35
    rows = int(rng.integers(2, 5))
    height = size // rows
    for row in range(rows):
        floor, x = (row + 1) * height - 5, 4
        while x < size - 6:
            width = int(rng.integers(4, 20))
            if rng.random() < 0.85:
                top = floor - int(height * rng.uniform(0.35, 0.85))
                colour = natural_colours(rng, 1, vivid=0.3)[0]
                across = 0.75 + 0.25 * np.sin(np.linspace(0.3, 2.8, width))
                book = image[top:floor, x : x + width]
                book[:] = colour * across[: book.shape[1], None]
                if rng.random() < 0.5 and book.shape[0] > 12:
                    band = int(rng.integers(2, book.shape[0] - 8))
                    book[band : band + int(rng.integers(2, 7))] *= rng.uniform(0.4, 1.5)
            x += width + int(rng.random() < 0.3) * 2
        image[floor : floor + 5] = board
    return image * (1 + 0.03 * cloud(rng, 0.9, start=3))


def dead_leaves(
    rng: np.random.Generator, palette: Image, count: int, sizes: tuple[float, float]
) -> Image:
    """Opaque shapes thrown on top of each other, with sizes that follow a power law.

    This model has the edges and the power spectrum of natural images (Lee, Mumford, Huang 2001).
    """
    size = TEXTURE_SIZE
    image = np.empty((size, size, 3), np.float32)
    image[:] = palette[0]
    low, high = sizes
    radii = (low**-2 + rng.random(count) * (high**-2 - low**-2)) ** -0.5
    centres = rng.uniform(0, size, (count, 2))
    stretch, angles = rng.uniform(0.3, 1.0, count), rng.uniform(0, 360, count)
    colours = palette[rng.integers(len(palette), size=count)] * rng.normal(1, 0.1, (count, 1))
    boxy = rng.random(count) < 0.4
    for i in np.argsort(-radii * rng.uniform(0.6, 1.6, count)):
        colour = [float(c) for c in np.clip(colours[i], 0.01, 1)]
        for shift in _wrapped(centres[i], float(radii[i]) * 1.5):
            ellipse = (
                tuple(centres[i] + shift),
                (2 * radii[i], 2 * radii[i] * stretch[i]),
                angles[i],
            )
            if boxy[i]:
                corners = cv2.boxPoints(ellipse)
                shadow = np.add(corners, (1.5, 2.5)).astype(np.int32)
                cv2.fillConvexPoly(image, shadow, [0.35 * c for c in colour], cv2.LINE_AA)
                cv2.fillConvexPoly(image, corners.astype(np.int32), colour, cv2.LINE_AA)
            else:
                cv2.ellipse(image, ellipse, colour, -1, cv2.LINE_AA)
    return image


def _wrapped(centre: NDArray[np.float64], reach: float) -> list[tuple[int, int]]:
    """Shifts at which a shape shows in the texture, if the texture repeats."""
    shifts = [
        [0] + [TEXTURE_SIZE] * bool(c < reach) + [-TEXTURE_SIZE] * bool(c > TEXTURE_SIZE - reach)
        for c in centre
    ]
    return [(x, y) for x in shifts[0] for y in shifts[1]]


def clutter(rng: np.random.Generator) -> Image:
    """Things lying about."""
    image = dead_leaves(rng, natural_colours(rng, 24, vivid=0.15), 220, (5, 70))
    return image * (1 + 0.10 * cloud(rng, 0.6) + 0.02 * cloud(rng, 0.95, start=4))


def foliage(rng: np.random.Generator) -> Image:
    """Leaves and undergrowth with deep shadows."""
    greens = natural_colours(rng, 16, vivid=0.0)
    greens = greens * np.array([0.75, 0.95, 0.5], np.float32) * rng.uniform(0.5, 1.1)
    image = dead_leaves(rng, greens.astype(np.float32), 700, (2.5, 26))
    return image * np.clip(0.85 + 0.3 * cloud(rng, 0.65), 0.15, 1.6)


def pictures(rng: np.random.Generator) -> Image:
    """A wall with framed pictures, notes and switches."""
    image = plaster(rng)
    for _ in range(int(rng.integers(1, 5))):
        width, height = (int(v) for v in rng.integers(24, 120, 2))
        x, y = (int(v) for v in rng.integers(4, TEXTURE_SIZE - 30, 2))
        inside = [clutter, cloth, wood, plaster][int(rng.integers(4))](rng)
        frame = natural_colours(rng, 1)[0] * 0.6
        border = int(rng.integers(1, 6))
        patch = image[y : y + height, x : x + width]
        patch[:] = frame
        hole = patch[border:-border, border:-border]
        hole[:] = inside[: hole.shape[0], : hole.shape[1]]
    return image


def gradient(rng: np.random.Generator) -> Image:
    """A backdrop that passes smoothly from one colour to another."""
    first, second = natural_colours(rng, 2, vivid=0.1)
    angle = rng.integers(4) * np.pi / 2
    y, x = np.mgrid[0:TEXTURE_SIZE, 0:TEXTURE_SIZE].astype(np.float32) / TEXTURE_SIZE - 0.5
    t = np.clip(
        0.5 + x * math.cos(angle) + y * math.sin(angle) + 0.08 * cloud(rng, 0.4)[..., 0], 0, 1
    )
    return (first + t[..., None] * (second - first)).astype(np.float32)


MAKERS: tuple[Maker, ...] = (
    plaster, wood, cloth, tiles, shelf, clutter, foliage, pictures, gradient, plaster,
)  # fmt: skip
