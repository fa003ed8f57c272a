"""Sleeves: tubes of cloth around the forearm behind a posed hand."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourdhands.rendering.forearm import LENGTH, Centreline, Points, tube_faces
from fourdhands.rendering.subdivision import LoopSubdivision
from fourdhands.rendering.surface import Material, Surface

ROWS: Final = 22  # of the outside, cuff to elbow
# Rows of the inside, in metres behind the cuff's edge: what one sees when looking up the sleeve.
LINING: Final = (0.02, 0.006, -0.0006)
CLOTH_THICKNESS: Final = 0.0015  # metres
FOLDS: Final = 6  # waves that make up the folds


@dataclass(frozen=True)
class Sleeve:
    """One sleeve; the same garment is drawn on every frame of a clip.

    Attributes:
        cuff: Metres from the wrist ring to the cuff's edge; negative reaches over the wrist.
        ease: Metres of air between skin and cloth.
        colour: (3,) linear RGB.
        stripe_colour: (3,) linear RGB of rings around the sleeve.
        stripe_period: Metres between them; 0 for plain cloth.
        fold_height: (FOLDS,) metres.
        fold_waves: (FOLDS, 3) cycles a metre along the arm, cycles around it, phase.
    """

    cuff: float
    ease: float
    colour: Points
    stripe_colour: Points
    stripe_period: float
    fold_height: Points
    fold_waves: Points

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Sleeve":
        """Draw a garment: long or rolled up, tight to loose, plain or striped."""
        long = rng.random() < 0.7
        height = rng.uniform(0.0003, 0.0022) * rng.uniform(0.3, 1.0, FOLDS)
        along = rng.uniform(8.0, 38.0, FOLDS)
        around = rng.integers(-2, 3, FOLDS)
        phase = rng.uniform(0.0, 2 * np.pi, FOLDS)
        return cls(
            cuff=float(rng.uniform(-0.004, 0.02) if long else rng.uniform(0.02, 0.13)),
            ease=float(rng.uniform(0.0025, 0.010)),
            colour=_cloth_colour(rng),
            stripe_colour=_cloth_colour(rng),
            stripe_period=float(rng.uniform(0.02, 0.06)) if rng.random() < 0.3 else 0.0,
            fold_height=height,
            fold_waves=np.stack([along, around, phase], axis=1),
        )

    def surface(
        self,
        vertices: ArrayLike,
        ring: NDArray[np.int64],
        elbow_direction: ArrayLike | None = None,
    ) -> Surface:
        """The sleeve on the arm of a posed hand.

        Args:
            vertices: (778, 3) metres.
            ring: (16,) `wrist_ring` of the hand.
            elbow_direction: As in `ArmMesh.pose`.
        """
        outside = self.cuff + (LENGTH + 0.02 - self.cuff) * np.linspace(0.0, 1.0, ROWS) ** 1.2
        stations = np.concatenate([self.cuff + np.array(LINING), outside])
        line = Centreline.of(vertices, ring, elbow_direction)
        centres, offsets = line.sections(stations)
        radius = np.linalg.norm(offsets, axis=-1)
        air = self.ease + self._folds(stations, len(ring))
        air[len(LINING) :] += CLOTH_THICKNESS
        air[0] = 0.0005  # the lining ends on the skin
        offsets *= (1.0 + np.maximum(air, 0.0005) / radius)[..., None]
        rows = (centres[:, None] + offsets).reshape(-1, 3)
        end = centres[-1] + 0.01 * line.elbow_direction
        refine = _refinement(len(stations), len(ring))
        drawn = refine(np.concatenate([rows, end[None]]))

        angle = np.tile(2 * np.pi * np.arange(len(ring)) / len(ring), len(stations))
        along = np.repeat(stations, len(ring))
        unrolled = np.stack([along, 0.04 * np.cos(angle), 0.04 * np.sin(angle)], axis=1)
        rest = refine(np.concatenate([unrolled, [[LENGTH, 0.0, 0.0]]]))
        return Surface(
            vertices=drawn,
            faces=refine.faces,
            albedo=np.tile(self.colour.astype(np.float32), (len(drawn), 1)),
            gloss=self._stripes(rest[:, 0]),
            rest=rest,
            material=Material(
                wrap=(0.05, 0.05, 0.05),
                roughness=0.85,
                reflectance=0.03,
                bump=0.22,
                gloss_albedo=self.stripe_colour.tolist(),
                gloss_roughness=0.85,
            ),
        )

    def _folds(self, stations: Points, around: int) -> Points:
        """Height of the folds, (k, p) metres; none at the cuff, whose hem is stiff."""
        along, turns, phase = self.fold_waves.T[:, :, None, None]
        angle = 2 * np.pi * np.arange(around) / around
        waves = np.sin(2 * np.pi * along * stations[:, None] + turns * angle + phase)
        rise = np.clip((stations - self.cuff) / 0.03, 0.15, 1.0)[:, None]
        return (self.fold_height[:, None, None] * waves).sum(axis=0) * rise

    def _stripes(self, along: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n,) signed field that is above 0 on a stripe and 1 a millimetre inside it."""
        if self.stripe_period == 0.0:
            return np.zeros_like(along)
        from_middle = np.abs(along / self.stripe_period % 1.0 - 0.5) * self.stripe_period
        return ((0.15 * self.stripe_period - from_middle) / 0.001).astype(np.float32)


@lru_cache(maxsize=4)
def _refinement(rows: int, around: int) -> LoopSubdivision:
    table = np.arange(rows * around).reshape(rows, around)
    return LoopSubdivision(tube_faces(table, rows * around), rows * around + 1)


def _cloth_colour(rng: np.random.Generator) -> Points:
    """Linear RGB: greys, blacks and whites half of the time, else dyed cloth."""
    value = rng.uniform(0.02, 0.75) ** 1.4
    if rng.random() < 0.5:
        return value * rng.uniform(0.92, 1.08, 3)
    dye = rng.dirichlet((1.0, 1.0, 1.0)) * 3.0
    return np.clip(value * (0.35 + 0.65 * dye), 0.01, 0.85)
