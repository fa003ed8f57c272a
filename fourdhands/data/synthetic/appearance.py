"""How hands look in a clip: skin, forearms or sleeves, and objects in front."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fourdhands.hands.mano import HandModel
from fourdhands.rendering.subdivision import LoopSubdivision
from fourdhands.rendering.surface import Material, Surface
from fourdhands.skeleton import NUM_VERTICES, WRIST_RING, Side

SKIN = Material(wrap=(0.42, 0.16, 0.10), roughness=0.45, reflectance=0.028, bump=0.05)


@dataclass(frozen=True)
class AppearanceConfig:
    """Skin, clothes and objects.

    Attributes:
        occluder_share: Share of clips with an object in front of the hands.
    """

    occluder_share: float = 0.2


@dataclass(frozen=True)
class Outfit:
    """Looks of one clip."""

    wardrobe: "Wardrobe"
    colour: tuple[float, float, float]

    def surfaces(
        self, vertices: NDArray[np.float32], orient: NDArray[np.float32], present: NDArray[np.bool_]
    ) -> tuple[list[Surface], list[int]]:
        """Surfaces of one frame and their labels in the mask."""
        out, labels = [], []
        for side in Side:
            if present[side]:
                arm = orient[side] @ np.array((1.0 if side == 0 else -1.0, 0, 0), np.float32)
                ring = vertices[side, list(WRIST_RING)] + 0.2 * arm
                points = np.concatenate((vertices[side], ring)).astype(np.float32)
                sub = self.wardrobe.refine[side]
                out.append(Surface.plain(sub(points), sub.faces, self.colour, SKIN))
                labels.append(side + 1)
        return out, labels


class Wardrobe:
    """Everything that hands can wear."""

    def __init__(self, model: HandModel, config: AppearanceConfig, subdivisions: int) -> None:
        from fourdhands.data.synthetic.placement import _with_forearm

        self.config = config
        self.refine = []
        for faces in model.closed_faces.numpy().astype(np.int32):
            both = np.concatenate((faces[:1538], _with_forearm(faces)[len(faces) :]))
            self.refine.append(LoopSubdivision(both, NUM_VERTICES + 16, subdivisions))

    def choose(self, rng: np.random.Generator) -> Outfit:
        """Draw the looks of a clip."""
        t = rng.uniform()
        colour = np.array([0.80, 0.55, 0.44]) ** (1 - t) * np.array([0.16, 0.075, 0.045]) ** t
        return Outfit(self, tuple(colour.tolist()))
