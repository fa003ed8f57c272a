"""How hands look in a clip: skin, arms, sleeves, and objects in front of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fourdhands.data.synthetic.rotation import random_rotation, rotation_between, unit
from fourdhands.data.synthetic.scene import Scene
from fourdhands.hands.mano import HandModel
from fourdhands.rendering.primitives import revolved, sample_object
from fourdhands.rendering.skin import Complexion, Skin, SkinModel
from fourdhands.rendering.sleeve import Sleeve
from fourdhands.rendering.surface import Material, Surface
from fourdhands.skeleton import Side

Array = NDArray[np.float64]

OTHER_LABEL: Final = 3  # in masks: forearms, sleeves and occluders
FOREARM: Final = 0.26  # metres
UPPER_ARM: Final = 0.30
UNDER_CUFF: Final = 0.03  # metres of forearm that are drawn inside a sleeve
ELBOW_INSET: Final = 0.032  # metres from the end of the forearm's mesh to the middle of the elbow
SLEEVE_CLOTH: Final = Material(wrap=(0.05, 0.05, 0.05), roughness=0.85, reflectance=0.03, bump=0.22)
NEAREST_OCCLUDER: Final = 0.12  # metres from the camera


@dataclass(frozen=True)
class AppearanceConfig:
    """Skin, clothes and objects.

    Attributes:
        people: Different people in stock, each with a skin of its own.
        sleeve_share: Share of clips with sleeves over the arms.
        occluder_share: Share of clips with an object in front of the hands.
    """

    people: int = 100
    sleeve_share: float = 0.55
    occluder_share: float = 0.2

    def __post_init__(self) -> None:
        """Refuse scenes without anybody in them."""
        if self.people < 1:
            raise ValueError(f"people is {self.people}: at least 1 is needed")


@dataclass(frozen=True)
class Owner:
    """Whom a surface belongs to.

    Attributes:
        label: Its value in masks.
        side: Of the arm, or None for objects.
        bare: Whether it is skin.
    """

    label: int
    side: Side | None = None
    bare: bool = False


@dataclass(frozen=True)
class Occluder:
    """An object in front of the hands.

    Attributes:
        surface: About its own origin, turned as it will be seen.
        start: (3,) metres, camera frame, in the first frame.
        velocity: (3,) metres a second.
    """

    surface: Surface
    start: Array
    velocity: Array

    def at(self, time: float) -> Surface:
        """The object at a time of the clip."""
        place = (self.start + time * self.velocity).astype(np.float32)
        return replace(self.surface, vertices=self.surface.vertices + place)


@dataclass(frozen=True)
class Arm:
    """What is behind a wrist, in the hand's frame with the wrist at the origin.

    Attributes:
        forearm: (k, 3) control points.
        sleeve: Over it, or None for a bare arm.
    """

    forearm: Array
    sleeve: Surface | None


@dataclass(frozen=True)
class Look:
    """The looks of one clip.

    Attributes:
        skins: Of the right and the left arm of one person.
        arms: Of the present hands.
        bare: Faces of both forearms that no sleeve hides.
        upper_arm: Of both sides, from the origin along +y.
        shoulders: (S, 3) metres, camera frame: where the upper arms lead.
        occluder: An object before the hands, or None.
    """

    skins: tuple[Skin, Skin]
    arms: Mapping[Side, Arm]
    bare: Sequence[NDArray[np.int32]]
    upper_arm: Surface
    shoulders: Array
    occluder: Occluder | None


class Wardrobe:
    """Dresses hands.

    Args:
        model: The hands.
        config: What they wear.
        subdivisions: Rounds of Loop subdivision.
        rng: For the people in stock; equal generators make equal people.
    """

    def __init__(
        self,
        model: HandModel,
        config: AppearanceConfig,
        subdivisions: int,
        rng: np.random.Generator,
    ) -> None:
        self.config = config
        self._models = [SkinModel(assets, subdivisions) for assets in model.assets]
        self._people = [Complexion.sample(rng) for _ in range(config.people)]
        self._painted: dict[int, tuple[Skin, Skin]] = {}

    def choose(self, rng: np.random.Generator, scene: Scene) -> Look:
        """Draw the looks of a clip."""
        number = int(rng.integers(len(self._people)))
        person, skins = self._people[number], self._paint(number)
        sleeve = Sleeve.sample(rng) if rng.random() < self.config.sleeve_share else None
        occluded = rng.random() < self.config.occluder_share
        return Look(
            skins=skins,
            arms=self._fit(sleeve, scene),
            bare=self._bare(sleeve),
            upper_arm=_upper_arm(skins[0], person, sleeve),
            shoulders=_draw_shoulders(
                rng, scene.wrists[0] + FOREARM * scene.elbows[0], scene.elbows[0]
            ),
            occluder=_draw_occluder(rng, scene.vertices[:, scene.present]) if occluded else None,
        )

    def dress(self, look: Look, scene: Scene, frame: int) -> tuple[list[Surface], list[Owner]]:
        """Surfaces of one frame, and the owner of each."""
        surfaces: list[Surface] = []
        owners: list[Owner] = []
        for side in scene.sides:
            model, arm = self._models[side], look.arms[side]
            orientation, wrist = scene.orientation[frame, side], scene.wrists[frame, side]
            behind = _move(arm.forearm, orientation, wrist)
            drawn = model.arm.refine(np.concatenate((scene.vertices[frame, side], behind)))
            hand, forearm = model.paint(drawn, look.skins[side])
            surfaces += [hand, replace(forearm, faces=look.bare[side])]
            owners += [Owner(side + 1, side, bare=True), Owner(OTHER_LABEL, side, bare=True)]
            if arm.sleeve is not None:
                worn = _move(arm.sleeve.vertices, orientation, wrist)
                surfaces.append(replace(arm.sleeve, vertices=worn))
                owners.append(Owner(OTHER_LABEL, side))
            elbow = behind[-1] - ELBOW_INSET * scene.elbows[frame, side]
            turn = rotation_between(np.array((0.0, 1.0, 0.0)), unit(look.shoulders[side] - elbow))
            limb = _move(look.upper_arm.vertices, turn, elbow)
            surfaces.append(replace(look.upper_arm, vertices=limb))
            owners.append(Owner(OTHER_LABEL, side))
        if look.occluder is not None:
            surfaces.append(look.occluder.at(scene.times[frame]))
            owners.append(Owner(OTHER_LABEL))
        return surfaces, owners

    def _paint(self, number: int) -> tuple[Skin, Skin]:
        """The skin of a person's arms, painted when it is first seen."""
        if number not in self._painted:
            rng = np.random.default_rng(0)  # not used: the person decides all
            right, left = (model.sample(rng, self._people[number]) for model in self._models)
            self._painted[number] = right, left
        return self._painted[number]

    def _bare(self, sleeve: Sleeve | None) -> list[NDArray[np.int32]]:
        """Forearm faces of both sides up to a little under the cuff."""
        faces = []
        for arm in (model.arm for model in self._models):
            behind = np.abs(arm.rest[:, 0]) - np.abs(arm.rest[arm.ring, 0]).max()
            limit = np.inf if sleeve is None else sleeve.cuff + UNDER_CUFF
            faces.append(arm.forearm_faces[behind[arm.forearm_faces].min(axis=1) < limit])
        return faces

    def _fit(self, sleeve: Sleeve | None, scene: Scene) -> dict[Side, Arm]:
        """What is behind the wrists of a clip; it follows them rigidly from frame to frame."""
        arms = {}
        for side in scene.sides:
            arm, vertices = self._models[side].arm, scene.vertices[0, side]
            elbow, wrist = scene.elbows[0, side], scene.wrists[0, side]
            orientation = scene.orientation[0, side]
            worn = None
            if sleeve is not None:
                worn = sleeve.surface(vertices, arm.ring, elbow)
                worn = replace(worn, vertices=(worn.vertices - wrist) @ orientation)
            arms[side] = Arm((arm.forearm(vertices, elbow) - wrist) @ orientation, worn)
        return arms


def _upper_arm(skin: Skin, person: Complexion, sleeve: Sleeve | None) -> Surface:
    """A limb from the origin along +y, as bare or as dressed as the forearm."""
    angle = np.linspace(0, np.pi / 2, 6)
    cap = np.stack((np.sin(angle), -np.cos(angle)), axis=1)
    cap[0, 0] = 0.0
    profile = np.concatenate((0.040 * cap, [(0.047, 0.5 * UPPER_ARM), (0.05, UPPER_ARM)]))
    profile = np.concatenate((profile, [(0.0, UPPER_ARM + 0.03)]))
    if sleeve is None:
        return revolved(profile, person.albedo, skin.material)
    return revolved(profile * (1.08 + sleeve.ease / 0.04, 1.0), sleeve.colour, SLEEVE_CLOTH)


def _draw_shoulders(rng: np.random.Generator, ends: Array, elbows: Array) -> Array:
    """(S, 3) points that the upper arms lead to: out of the picture, on the arm's own side."""
    outwards = ends * (1, 1, 0) + (0, 0.1, 0) + rng.normal(0, 0.05, ends.shape)
    across = outwards - (outwards * elbows).sum(axis=1, keepdims=True) * elbows
    across = unit(across)
    bend = rng.uniform(np.radians(10), np.radians(80), (len(ends), 1))
    return ends + UPPER_ARM * (np.cos(bend) * elbows + np.sin(bend) * across)


def _draw_occluder(rng: np.random.Generator, hands: NDArray[np.float32]) -> Occluder | None:
    """An object that hides part of the hands (F, N, 778, 3), or None where there is no room."""
    thing = sample_object(rng)
    turned = thing.vertices @ random_rotation(rng).T
    nearest = float(hands[..., 2].min())
    target = hands[len(hands) // 2, int(rng.integers(hands.shape[1])), int(rng.integers(778))]
    depth = nearest * rng.uniform(0.6, 0.95)
    # hide no more than a good part of a hand
    turned *= min(1.0, rng.uniform(0.03, 0.07) * depth / nearest / np.ptp(turned, axis=0)[:2].min())
    depth = min(depth, nearest - 0.005 - float(turned[:, 2].max()))
    if depth + turned[:, 2].min() < NEAREST_OCCLUDER:
        return None
    return Occluder(
        surface=replace(thing, vertices=turned.astype(np.float32)),
        start=target / target[2] * depth,
        velocity=rng.normal(0, 0.03, 3) * (1, 1, 0),
    )


def _move(
    points: NDArray[np.floating[Any]], rotation: NDArray[np.floating[Any]], origin: Array
) -> NDArray[np.float32]:
    """Points (n, 3) turned about the origin of their frame, which is then moved."""
    return np.asarray(points @ rotation.T + origin, np.float32)
