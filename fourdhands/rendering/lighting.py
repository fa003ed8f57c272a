"""Light of a rendered image: a shadow-casting key light, fill lights, and ambient light.

Directions and ambient light are in the camera frame (y down, so light from above has y < 0).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fourdhands.rendering.surface import Floats

AMBIENT_TERMS = 9
TINT = 0.15  # a light's channels stay within this of its mean: more turns skin green or violet


@dataclass(frozen=True)
class Lighting:
    """Directional lights over an ambient environment.

    Attributes:
        directions: (L, 3) unit vectors towards the lights; the first one casts shadows.
        radiance: (L, 3) linear RGB, L >= 1.
        ambient: (9, 3) irradiance / pi by direction, as coefficients of the polynomials
            1, y, z, x, xy, yz, 3z^2 - 1, xz, x^2 - y^2 of the unit normal.
        penumbra: Width of the shadows' soft rim in metres.
    """

    directions: Floats
    radiance: Floats
    ambient: Floats
    penumbra: float

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Lighting":
        """Draw a plausible light: mostly from above and from the viewer's side, nearly white.

        Dim evening to bright noon, hard sun to an overcast sky.
        """
        towards = rng.normal(size=(2, 3)) * (1.0, 0.8, 1.0)
        towards[:, 1] -= 0.6
        towards[:, 2] = -np.abs(towards[:, 2]) - rng.uniform(-0.5, 0.3)
        towards /= np.linalg.norm(towards, axis=1, keepdims=True)

        exposure = np.exp(rng.normal(0.0, 0.18))
        hardness = rng.uniform()  # 0 overcast, 1 a lamp in a dark room
        key = exposure * (0.45 + 0.55 * hardness)
        fill = exposure * rng.uniform(0.05, 0.3)
        radiance = np.array([[key], [fill]]) * _tint(rng, 2)

        ambient = np.zeros((AMBIENT_TERMS, 3))
        level = exposure * (0.42 - 0.22 * hardness) * rng.uniform(0.75, 1.2)
        ambient[0] = level * _tint(rng, 1)[0]
        ambient[1:] = level * rng.normal(0.0, 0.14, (AMBIENT_TERMS - 1, 1)) * _tint(rng, 8)
        ambient[1] -= level * rng.uniform(0.1, 0.35)  # the sky is brighter than the floor
        penumbra = float(0.003 + 0.013 * (1.0 - hardness) * rng.uniform())
        return cls(
            towards.astype(np.float32),
            radiance.astype(np.float32),
            ambient.astype(np.float32),
            penumbra,
        )

    @classmethod
    def studio(cls) -> "Lighting":
        """The fixed light of overlays and contact sheets: soft, from above left, with a fill."""
        towards = np.array([[-0.6, -0.8, -0.5], [0.8, 0.1, -0.45]])
        ambient = np.zeros((AMBIENT_TERMS, 3))
        ambient[0] = (0.28, 0.28, 0.30)
        ambient[1] = -0.1
        return cls(
            (towards / np.linalg.norm(towards, axis=1, keepdims=True)).astype(np.float32),
            np.array([[0.80, 0.78, 0.74], [0.20, 0.21, 0.24]], np.float32),
            ambient.astype(np.float32),
            0.006,
        )


def _tint(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """(count, 3) light colours of mean 1, warm to cool with a little green to magenta."""
    warmth = rng.uniform(-0.11, 0.11, (count, 1)) * (1.0, 0.1, -1.0)
    green = rng.uniform(-0.03, 0.03, (count, 1)) * (-0.5, 1.0, -0.5)
    tint = 1.0 + warmth + green
    return np.clip(tint / tint.mean(axis=1, keepdims=True), 1.0 - TINT, 1.0 + TINT)
