"""What a real camera adds to a picture: motion blur, missed focus, exposure, noise, compression."""

from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from fourdhands.rendering.kernels import kernel

Bytes = NDArray[np.uint8]
NOISE_SIZE = 512
SHORTEST_STREAK = 1.5  # pixels; less motion blur does not show
LONGEST_STREAK = 48.0  # pixels


@dataclass(frozen=True)
class EffectsConfig:
    """Camera effects; each clip draws its own strength up to these.

    Attributes:
        shutter: Longest exposure time in seconds: how far hands smear while they move.
        defocus_share: Share of clips whose hands are out of focus.
        defocus: Greatest standard deviation of that blur, share of the image width.
        noise: Greatest standard deviation of the sensor noise at mid grey, grey levels.
        jpeg_quality: Lowest and highest JPEG quality.
    """

    shutter: float = 1 / 40
    defocus_share: float = 0.15
    defocus: float = 0.004
    noise: float = 7.0
    jpeg_quality: tuple[int, int] = (70, 95)

    def __post_init__(self) -> None:
        """Refuse values that no camera has."""
        if not 1 <= self.jpeg_quality[0] <= self.jpeg_quality[1] <= 100:
            raise ValueError(f"jpeg_quality is {self.jpeg_quality}: give lowest, highest in 1..100")


@dataclass(frozen=True)
class CameraEffects:
    """Effects of one clip.

    Attributes:
        shutter: Seconds.
        defocus: Standard deviation in pixels.
        tone: (256, 3) uint8 look-up of exposure, contrast and white balance.
        noise: Standard deviation at mid grey, grey levels.
        jpeg_quality: 1 to 100.
    """

    shutter: float
    defocus: float
    tone: Bytes
    noise: float
    jpeg_quality: int

    @classmethod
    def sample(
        cls, rng: np.random.Generator, config: EffectsConfig, image_width: int
    ) -> "CameraEffects":
        """Draw the effects of a clip."""
        blurred = rng.random() < config.defocus_share
        level = np.arange(256)[:, None] / 255
        gain = np.exp(rng.normal(0, 0.12)) * np.exp(rng.normal(0, 0.03, 3))
        contrast = rng.uniform(0.85, 1.2)
        toned = 0.5 + contrast * ((level * gain) ** rng.uniform(0.88, 1.12) - 0.5)
        return cls(
            shutter=config.shutter * rng.uniform(0.05, 1.0),
            defocus=float(blurred * rng.uniform(0.3, 1.0) * config.defocus * image_width),
            tone=(255 * np.clip(toned, 0, 1) + 0.5).astype(np.uint8),
            noise=config.noise * rng.uniform() ** 2,
            jpeg_quality=int(rng.integers(config.jpeg_quality[0], config.jpeg_quality[1] + 1)),
        )


class EffectsRack:
    """Applies camera effects; holds the noise that all images draw from.

    Args:
        rng: For the noise; equal generators make equal noise.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._noise = rng.standard_normal((NOISE_SIZE, NOISE_SIZE, 3), np.float32)

    def apply(
        self,
        rng: np.random.Generator,
        effects: CameraEffects,
        image: Bytes,
        velocity: NDArray[np.floating[Any]],
        moving: NDArray[np.float32],
    ) -> Bytes:
        """Turn a clean rendering into a photograph.

        Args:
            rng: Picks the noise.
            effects: Of the clip.
            image: (H, W, 3) uint8.
            velocity: (2,) pixels a second of what moves.
            moving: (H, W) in [0, 1], where it moves.

        Returns:
            (H, W, 3) uint8.
        """
        streak = velocity * effects.shutter
        if np.linalg.norm(streak) > SHORTEST_STREAK:
            image = _smear(image, streak, moving)
        if effects.defocus > 0:
            image = cast(Bytes, cv2.GaussianBlur(image, (0, 0), effects.defocus))
        shifts = rng.integers(NOISE_SIZE, size=2)
        out = np.empty_like(image)
        # shot noise grows with the root of the signal, read-out noise does not
        deviation = effects.noise * (0.35 + 0.65 * np.sqrt(np.arange(256) / 128))
        _expose(
            image, effects.tone, self._noise, shifts[0], shifts[1],
            deviation.astype(np.float32), out,
        )  # fmt: skip
        return out

    @staticmethod
    def encode(effects: CameraEffects, image: Bytes) -> bytes:
        """JPEG bytes of an RGB image."""
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        quality = [cv2.IMWRITE_JPEG_QUALITY, effects.jpeg_quality]
        return cv2.imencode(".jpg", bgr, quality)[1].tobytes()


def _smear(image: Bytes, streak: NDArray[np.floating[Any]], moving: NDArray[np.float32]) -> Bytes:
    """Blur along a streak (pixels) where things move, and as far as they smear."""
    half = streak / 2 * min(1.0, LONGEST_STREAK / float(np.linalg.norm(streak)))
    reach = int(np.ceil(np.abs(half).max()))
    line = np.zeros((2 * reach + 1,) * 2, np.float32)
    ends = [np.round((reach + sign * half) * 256).astype(int).tolist() for sign in (-1, 1)]
    cv2.line(line, ends[0], ends[1], (1.0,), 1, cv2.LINE_AA, shift=8)
    line /= line.sum()
    rows, columns = np.flatnonzero(moving.any(axis=1)), np.flatnonzero(moving.any(axis=0))
    if len(rows) == 0:
        return image
    window = (
        slice(max(rows[0] - 2 * reach, 0), rows[-1] + 2 * reach + 1),
        slice(max(columns[0] - 2 * reach, 0), columns[-1] + 2 * reach + 1),
    )
    sharp = image[window]
    smeared = cv2.filter2D(sharp, -1, line, borderType=cv2.BORDER_REPLICATE)
    # what stands still beside the hand stays sharp
    share = cv2.filter2D(moving[window], -1, line, borderType=cv2.BORDER_REPLICATE)
    weight = np.minimum(3 * share, 1)
    out = image.copy()
    out[window] = cv2.blendLinear(smeared, sharp, weight, 1 - weight)
    return out


@kernel
def _expose(image, tone, noise, top, left, deviation, out):  # type: ignore[no-untyped-def]
    """Tone curve (256, 3), then noise of the level's `deviation` (256,), then rounding."""
    size = noise.shape[0] - 1  # a power of two, less one
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            for k in range(3):
                level = tone[image[y, x, k], k]
                value = level + deviation[level] * noise[(y + top) & size, (x + left) & size, k]
                out[y, x, k] = int(min(max(value + 0.5, 0.0), 255.0))
