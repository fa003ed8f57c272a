"""Named hand poses as joint angles: what people show, count and grasp with.

They seed the pose bank, and name the rows of the contact sheet.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fourdhands.hands.assets import NUM_HAND_JOINTS
from fourdhands.skeleton import FINGERS, MANO_FINGERS

# Degrees. A finger is (knuckle flexion, middle flexion, end flexion, abduction); the thumb is
# (base flexion, base abduction, base twist, knuckle flexion, end flexion).
Digit = tuple[float, ...]

_STRAIGHT: Final[Digit] = (0, 0, 0, 0)
_CURLED: Final[Digit] = (76, 90, 54, 0)
_HOOKED: Final[Digit] = (0, 92, 62, 0)
_THUMB_OUT: Final[Digit] = (-8, 0, 0, 0, 0)
_THUMB_OVER: Final[Digit] = (30, 19, 14, 24, 52)  # across the curled fingers
_THUMB_ALONG: Final[Digit] = (12, -12, 0, 8, 6)  # beside the index finger

# thumb, index, middle, ring, little
_TABLE: Final[dict[str, tuple[Digit, Digit, Digit, Digit, Digit]]] = {
    "open": ((0, 0, 0, 0, 0), *4 * (_STRAIGHT,)),
    "relaxed": (
        (8, 4, 6, 12, 14), (18, 26, 12, 0), (24, 32, 16, 0), (28, 36, 18, 0), (28, 34, 16, 2)
    ),
    "flat": (_THUMB_ALONG, (0, 0, 0, -4), (0, 0, 0, 0), (0, 0, 0, -3), (2, 2, 0, -6)),
    "spread": (
        (-12, 6, 0, -6, -8), (-6, 0, 0, 13), (-4, 0, 0, 2), (-4, 0, 0, 9), (-6, 0, 0, 15)
    ),
    "fist": (_THUMB_OVER, *4 * (_CURLED,)),
    "point": (_THUMB_OVER, (2, 4, 2, 0), *3 * (_CURLED,)),
    "gun": (_THUMB_OUT, (2, 4, 2, 0), *3 * (_CURLED,)),
    "victory": (_THUMB_OVER, (0, 2, 0, 12), (0, 2, 0, -6), *2 * (_CURLED,)),
    "three": (_THUMB_OVER, (0, 2, 0, 10), (0, 2, 0, 0), (0, 2, 0, 8), _CURLED),
    "four": ((28, 10, 24, 34, 40), (0, 2, 0, 6), (0, 2, 0, 0), (0, 2, 0, 4), (0, 2, 0, 10)),
    "horns": (_THUMB_OVER, (0, 4, 2, 4), _CURLED, _CURLED, (0, 6, 4, 8)),
    "call": (_THUMB_OUT, *3 * (_CURLED,), (-4, 4, 2, 10)),
    "thumb up": ((-12, -8, 0, -6, -10), *4 * (_CURLED,)),
    "hook": ((4, 0, 4, 10, 12), *4 * (_HOOKED,)),
    "table top": ((10, 4, 8, 10, 10), *4 * ((84, 4, 2, 0),)),
    "claw": ((-6, 10, 6, 18, 40), *4 * ((-18, 62, 44, 6),)),
    "cylinder": ((12, 16, 16, 22, 24), (44, 48, 26, 2), (46, 50, 28, 0), (50, 52, 28, 0),
                 (52, 50, 26, 2)),
    "ball": ((4, 18, 14, 20, 26), (34, 36, 22, 12), (34, 38, 22, 2), (36, 40, 22, 9),
             (38, 40, 22, 14)),
    "wave": ((4, 4, 4, 4, 6), (8, 10, 6, 4), (30, 28, 14, 0), (46, 40, 20, 0), (56, 46, 22, 4)),
    "cascade": (
        (10, 4, 8, 14, 16), (56, 52, 30, 0), (42, 42, 24, 0), (26, 28, 16, 0), (12, 16, 10, 2)
    ),
    "cup": ((14, 8, 14, 12, 14), (36, 14, 8, -3), (38, 16, 8, 0), (40, 16, 8, -2), (42, 14, 8, -4)),
}  # fmt: skip

# The thumb meets one finger. The pose bank brings the pulps together, starting here.
PINCHES: Final[dict[str, str]] = {f"pinch {finger}": finger for finger in FINGERS[1:]}


def angles_of(digits: tuple[Digit, ...]) -> NDArray[np.float64]:
    """Joint angles (15, 3) in radians from one row of degrees a digit, thumb first."""
    angles = np.zeros((NUM_HAND_JOINTS, 3))
    for finger, values in zip(FINGERS, digits, strict=True):
        base = 3 * MANO_FINGERS.index(finger)
        if finger == "thumb":
            angles[base] = values[:3]
            angles[base + 1 : base + 3, 0] = values[3:]
        else:
            angles[base : base + 3, 0] = values[:3]
            angles[base, 1] = values[3]
    return np.radians(angles)


PINCH_START: Final = angles_of(((22, 12, 14, 30, 34), *4 * ((30, 30, 16, 0),)))
GESTURES: Final = {name: angles_of(digits) for name, digits in _TABLE.items()}
