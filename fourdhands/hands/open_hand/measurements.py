"""What the open hand is measured as: bone lengths, thicknesses, and the skeleton at rest.

Millimetres. Frame of a right hand: MANO's axes with the wrist joint at the origin, so the fingers
point along -x, the back of the hand looks along +y and the thumb lies at +z.

Bone lengths are the means of 66 adults' radiographs in A. Buryanov and V. Kotiuk, Proportions of
Hand Segments, Int. J. Morphol. 28(3):755-758, 2010; the end phalanx includes their pulp thickness.
Breadths follow ordinary hand anthropometry (hand breadth about 85, wrist about 58, index finger 18
at its middle joint).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fourdhands.skeleton import MANO_FINGERS

Floats = NDArray[np.floating[Any]]

FOUR_FINGERS: Final = ("index", "middle", "ring", "little")
THUMB: Final = MANO_FINGERS.index("thumb")

DISTAL: Final = np.array((-1.0, 0.0, 0.0))
DORSAL: Final = np.array((0.0, 1.0, 0.0))
RADIAL: Final = np.array((0.0, 0.0, 1.0))

# MANO's wrist joint, millimetres in MANO's frame.
WRIST_IN_MANO: Final = np.array((95.7, 6.4, 6.2))

# Knuckle to middle joint, to end joint, to tip; the thumb's first bone is its metacarpal.
_PHALANGES: Final = {
    "index": (39.8, 22.4, 15.8 + 3.8),
    "middle": (44.6, 26.3, 17.4 + 4.0),
    "ring": (41.4, 25.7, 17.3 + 4.0),
    "little": (32.7, 18.1, 16.0 + 3.7),
    "thumb": (46.2, 31.6, 21.7 + 5.7),
}
_METACARPALS: Final = {"index": 68.1, "middle": 64.6, "ring": 58.0, "little": 53.7}
# Half breadths at the base, the two joints and in the middle of the tip.
_RADII: Final = {
    "index": (10.1, 9.2, 7.9, 6.6),
    "middle": (10.3, 9.4, 8.1, 6.8),
    "ring": (9.6, 8.8, 7.6, 6.4),
    "little": (8.6, 7.6, 6.5, 5.5),
    "thumb": (14.0, 11.5, 10.6, 7.8),
}
# Where the metacarpals start, and where they point (distal, dorsal, radial).
_CARPUS: Final = {
    "index": (24.0, 2.0, 10.0),
    "middle": (27.5, 3.0, 0.0),
    "ring": (27.5, 2.0, -9.0),
    "little": (25.0, -1.0, -16.0),
    "thumb": (20.0, -8.0, 21.0),
}
_RAYS: Final = {
    "index": (64.0, 1.0, 14.0),
    "middle": (65.0, 2.0, 2.2),
    "ring": (60.0, 1.0, -9.0),
    "little": (52.0, -0.5, -20.5),
}
_SPLAY_DEGREES: Final = {"index": 8.5, "middle": 0.5, "ring": -8.5, "little": -18.5}
_REST_BEND_DEGREES: Final = (0.0, 4.0, 9.0)  # fingers are never quite straight
_THUMB_RAYS: Final = ((0.74, -0.34, 0.58), (0.83, -0.22, 0.51), (0.86, -0.16, 0.48))
_THUMBNAIL: Final = (-0.35, 0.35, 0.87)


@dataclass(frozen=True)
class HandMeasurements:
    """One hand; the defaults are the mean adult.

    Attributes:
        phalanges: Lengths of each finger's three bones, base to tip.
        radii: Half breadths of each finger at base, middle joint, end joint and tip.
        palm_length: Factor on the palm's extent along the hand.
        palm_breadth: Factor across.
        palm_thickness: Factor from palm to back.
    """

    phalanges: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: dict(_PHALANGES))
    radii: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: dict(_RADII))
    palm_length: float = 1.0
    palm_breadth: float = 1.0
    palm_thickness: float = 1.0

    def palm_point(self, distal: float, dorsal: float, radial: float) -> Floats:
        """A point of the palm, stretched with it."""
        return point(distal * self.palm_length, dorsal, radial * self.palm_breadth)


@dataclass(frozen=True)
class Skeleton:
    """Joints and bones at rest.

    Attributes:
        joints: (16, 3) in MANO's order.
        tips: (5, 3) in the order of MANO's chains.
        bones: (5, 3, 3) unit directions of the three bones of each chain.
        nails: (5, 3, 3) unit directions out of the nail side, at right angles to the bones.
        carpus: Where each finger's metacarpal starts.
    """

    joints: Floats
    tips: Floats
    bones: Floats
    nails: Floats
    carpus: Mapping[str, Floats]

    def chain(self, finger: str) -> Floats:
        """Base, middle joint, end joint and tip of a finger, (4, 3)."""
        index = MANO_FINGERS.index(finger)
        return np.vstack([self.joints[3 * index + 1 : 3 * index + 4], self.tips[index]])


def point(distal: float, dorsal: float, radial: float) -> Floats:
    """A point or direction from its anatomical components."""
    return distal * DISTAL + dorsal * DORSAL + radial * RADIAL


def unit(vectors: Floats) -> Floats:
    """Vectors of length one."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def skeleton_of(hand: HandMeasurements) -> Skeleton:
    """Lay out the joints at rest."""
    joints, tips, bones, nails = [np.zeros(3)], [], [], []
    carpus = {finger: hand.palm_point(*start) for finger, start in _CARPUS.items()}
    for finger in MANO_FINGERS:
        if finger == "thumb":
            base, nail = carpus[finger], point(*_THUMBNAIL)
            directions = unit(np.stack([point(*ray) for ray in _THUMB_RAYS]))
        else:
            ray = np.array(_RAYS[finger]) / np.linalg.norm(_RAYS[finger]) * _METACARPALS[finger]
            base, nail = carpus[finger] + hand.palm_point(*ray), DORSAL
            splay, bend = np.radians(_SPLAY_DEGREES[finger]), np.radians(_REST_BEND_DEGREES)
            along = np.cos(splay) * DISTAL + np.sin(splay) * RADIAL
            directions = np.cos(bend)[:, None] * along - np.sin(bend)[:, None] * DORSAL
        steps = np.array(hand.phalanges[finger])[:, None] * directions
        chain = base + np.vstack([np.zeros(3), np.cumsum(steps, axis=0)])
        joints += list(chain[:3])
        tips.append(chain[3])
        bones.append(directions)
        nails.append(unit(nail - (directions @ nail)[:, None] * directions))
    return Skeleton(np.array(joints), np.array(tips), np.array(bones), np.array(nails), carpus)
