"""How hands look in a clip: skin, forearms, sleeves, and objects in front of them."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fourdhands.hands.mano import HandModel
from fourdhands.rendering.skin import Complexion, Skin, SkinModel
from fourdhands.rendering.sleeve import Sleeve
from fourdhands.rendering.surface import Surface
from fourdhands.skeleton import NUM_SIDES, Side

OTHER_LABEL: Final = 3  # in masks: forearms, sleeves and occluders


@dataclass(frozen=True)
class AppearanceConfig:
    """Skin, clothes and objects.

    Attributes:
        sleeve_share: Share of clips with sleeves over the forearms.
        occluder_share: Share of clips with an object in front of the hands.
    """

    sleeve_share: float = 0.55
    occluder_share: float = 0.2


@dataclass(frozen=True)
class Look:
    """The looks of one clip.

    Attributes:
        skins: Of the right and the left arm of one person.
        sleeve: Of both arms, or None for bare ones.
    """

    skins: tuple[Skin, Skin]
    sleeve: Sleeve | None


class Wardrobe:
    """Dresses hands.

    Args:
        model: The hands.
        config: What they wear.
        subdivisions: Rounds of Loop subdivision.
    """

    def __init__(self, model: HandModel, config: AppearanceConfig, subdivisions: int) -> None:
        self.config = config
        self._skins = [SkinModel(assets, subdivisions) for assets in model.assets]

    def choose(self, rng: np.random.Generator) -> Look:
        """Draw the looks of a clip."""
        person = Complexion.sample(rng)
        right, left = (skin.sample(rng, person) for skin in self._skins)
        dressed = rng.random() < self.config.sleeve_share
        return Look((right, left), Sleeve.sample(rng) if dressed else None)

    def dress(
        self,
        look: Look,
        vertices: NDArray[np.float32],
        elbows: NDArray[np.floating],
        present: NDArray[np.bool_],
    ) -> tuple[list[Surface], list[int]]:
        """Surfaces of one frame, and the label of each in the mask.

        Args:
            look: Of the clip.
            vertices: (S, 778, 3) camera frame.
            elbows: (S, 3) direction from each wrist to its elbow.
            present: (S,).
        """
        surfaces: list[Surface] = []
        labels: list[int] = []
        for side in (Side(k) for k in range(NUM_SIDES) if present[k]):
            model = self._skins[side]
            hand, forearm = model.surfaces(vertices[side], look.skins[side], elbows[side])
            surfaces += [hand, forearm]
            labels += [side + 1, OTHER_LABEL]
            if look.sleeve is not None:
                surfaces.append(
                    look.sleeve.surface(vertices[side], model.arm.ring, elbows[side])
                )
                labels.append(OTHER_LABEL)
        return surfaces, labels
