"""The ten shape directions of the open hand: named anthropometric factors.

Each factor changes the measurements by a standard deviation, is run through skeleton and distance
field both ways, and half the difference is its direction: one unit of betas is one standard
deviation. Named factors in place of principal components keep each number readable.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fourdhands.hands.open_hand.field import project
from fourdhands.hands.open_hand.flesh import flesh_of
from fourdhands.hands.open_hand.measurements import (
    FOUR_FINGERS,
    Floats,
    HandMeasurements,
    skeleton_of,
)
from fourdhands.skeleton import MANO_FINGERS

Change = Callable[[HandMeasurements, float], HandMeasurements]

_SIZE: Final = 0.055
_SMOOTHING: Final = 0.6


@dataclass(frozen=True)
class ShapeFactor:
    """One shape direction: what a unit of it does, and how."""

    name: str
    meaning: str
    change: Change


def _lengths(changes: Mapping[str, float]) -> Change:
    """Lengthen fingers by a share of their length a standard deviation."""

    def change(hand: HandMeasurements, amount: float) -> HandMeasurements:
        return replace(
            hand,
            phalanges={
                finger: tuple(x * (1 + changes.get(finger, 0) * amount) for x in lengths)
                for finger, lengths in hand.phalanges.items()
            },
        )

    return change


def _radii(fingers: tuple[str, ...], changes: tuple[float, float, float, float]) -> Change:
    """Thicken fingers at base, middle joint, end joint and tip."""

    def change(hand: HandMeasurements, amount: float) -> HandMeasurements:
        radii = {
            finger: tuple(
                r * (1 + share * amount) for r, share in zip(values, changes, strict=True)
            )
            if finger in fingers
            else values
            for finger, values in hand.radii.items()
        }
        return replace(hand, radii=radii)

    return change


def _thickness(hand: HandMeasurements, amount: float) -> HandMeasurements:
    thicker = _radii(MANO_FINGERS, (0.05, 0.05, 0.05, 0.05))(hand, amount)
    return replace(thicker, palm_thickness=hand.palm_thickness * (1 + 0.07 * amount))


def _palm_breadth(hand: HandMeasurements, amount: float) -> HandMeasurements:
    return replace(hand, palm_breadth=hand.palm_breadth * (1 + 0.05 * amount))


def _fingers_against_palm(hand: HandMeasurements, amount: float) -> HandMeasurements:
    longer = _lengths(dict.fromkeys(MANO_FINGERS, 0.045))(hand, amount)
    return replace(longer, palm_length=hand.palm_length * (1 - 0.035 * amount))


def _unchanged(hand: HandMeasurements, amount: float) -> HandMeasurements:
    return hand


SHAPE_FACTORS: Final = (
    ShapeFactor("size", "everything 5.5 % larger", _unchanged),
    ShapeFactor(
        "fingers against palm", "fingers 4.5 % longer, palm 3.5 % shorter", _fingers_against_palm
    ),
    ShapeFactor("thumb length", "thumb 5 % longer", _lengths({"thumb": 0.05})),
    ShapeFactor("palm breadth", "palm 5 % broader", _palm_breadth),
    ShapeFactor("thickness", "fingers 5 % and palm 7 % thicker", _thickness),
    ShapeFactor(
        "index against ring",
        "index finger 3 % longer, ring finger 3 % shorter",
        _lengths({"index": 0.03, "ring": -0.03}),
    ),
    ShapeFactor("little finger", "little finger 5 % longer", _lengths({"little": 0.05})),
    ShapeFactor(
        "thumb thickness", "thumb 6 % thicker", _radii(("thumb",), (0.06, 0.06, 0.06, 0.06))
    ),
    ShapeFactor(
        "taper",
        "fingers 5 % thicker at the base, 8 % thinner at the tip",
        _radii(MANO_FINGERS, (0.05, 0, -0.05, -0.08)),
    ),
    ShapeFactor(
        "knuckles",
        "middle joints 6 % thicker, the rest of the fingers 2-3 % thinner",
        _radii(FOUR_FINGERS, (-0.03, 0.06, -0.02, -0.02)),
    ),
)


def shape_directions(
    vertices: Floats,
    weights: Floats,
    hand: HandMeasurements,
    averaging: sparse.csr_matrix,
    rim: NDArray[np.bool_],
) -> tuple[Floats, Floats]:
    """Displacements of vertices and joints for one standard deviation of every factor.

    Args:
        vertices: (V, 3) at rest, millimetres.
        weights: (V, 16) skinning.
        hand: Measurements of the mean hand.
        averaging: Neighbour average of the mesh, which smooths the directions.
        rim: (V,) vertices that stay in the plane of the wrist's cut.

    Returns:
        (10, V, 3) and (10, 16, 3) millimetres.
    """
    of_vertices = []
    for factor in SHAPE_FACTORS:
        if factor.name == "size":  # exactly a scaling about the wrist joint
            of_vertices.append(_SIZE * vertices)
            continue
        more, less = (
            _reshape(vertices, weights, hand, factor.change(hand, amount), rim)
            for amount in (1.0, -1.0)
        )
        move = (more - less) / 2
        of_vertices.append((1 - _SMOOTHING) * move + _SMOOTHING * (averaging @ move))
    return np.array(of_vertices), joint_directions(hand)


def joint_directions(hand: HandMeasurements) -> Floats:
    """Displacements of the joints for one standard deviation of every factor, (10, 16, 3) mm."""
    return np.array(
        [
            _SIZE * skeleton_of(hand).joints
            if factor.name == "size"
            else (
                skeleton_of(factor.change(hand, 1.0)).joints
                - skeleton_of(factor.change(hand, -1.0)).joints
            )
            / 2
            for factor in SHAPE_FACTORS
        ]
    )


def _reshape(
    vertices: Floats,
    weights: Floats,
    old: HandMeasurements,
    new: HandMeasurements,
    rim: NDArray[Any],
) -> Floats:
    """Carry the skin from one hand to another: along with the bones, then onto the new surface."""
    old_bones, new_bones = skeleton_of(old), skeleton_of(new)
    moved = np.zeros_like(vertices)
    palm = np.diag(
        [
            new.palm_length / old.palm_length,
            new.palm_thickness / old.palm_thickness,
            new.palm_breadth / old.palm_breadth,
        ]
    )
    moved += weights[:, :1] * (vertices @ palm)
    for chain, finger in enumerate(MANO_FINGERS):
        for bone in range(3):
            joint = 3 * chain + bone + 1
            along = old_bones.bones[chain, bone]
            longer = new.phalanges[finger][bone] / old.phalanges[finger][bone]
            thicker = new.radii[finger][bone + 1] / old.radii[finger][bone + 1]
            stretch = thicker * np.eye(3) + (longer - thicker) * np.outer(along, along)
            placed = new_bones.joints[joint] + (vertices - old_bones.joints[joint]) @ stretch
            moved += weights[:, [joint]] * placed
    return project(moved, flesh_of(new, new_bones), steps=2, in_plane=rim)
