"""The hand's discrete facts: sides, joints, order, parents, fingertip vertices.

Everything that indexes joints or sides takes its numbers from here; nothing else defines an order.
"""

from enum import IntEnum
from typing import Final


class Side(IntEnum):
    """Index of a hand along every `S` dimension."""

    RIGHT = 0
    LEFT = 1


NUM_SIDES: Final = 2
NUM_JOINTS: Final = 21
NUM_VERTICES: Final = 778
NUM_FACES: Final = 1538
NUM_MANO_JOINTS: Final = 16
NUM_BETAS: Final = 10
WRIST: Final = 0

FINGERS: Final = ("thumb", "index", "middle", "ring", "little")

# The one joint order of the project: wrist, then each finger from its base (1) to its tip (4).
JOINT_NAMES: Final = ("wrist", *(f"{finger}{k}" for finger in FINGERS for k in (1, 2, 3, 4)))
JOINT_PARENTS: Final = (
    -1,
    *(0 if k == 1 else 4 * f + k - 1 for f in range(5) for k in (1, 2, 3, 4)),
)
BONES: Final = tuple((parent, joint) for joint, parent in enumerate(JOINT_PARENTS) if parent >= 0)
FINGERTIPS: Final = (4, 8, 12, 16, 20)

# MANO's own 16 joints; its chains run index, middle, little, ring, thumb.
MANO_FINGERS: Final = ("index", "middle", "little", "ring", "thumb")
MANO_JOINT_NAMES: Final = ("wrist", *(f"{finger}{k}" for finger in MANO_FINGERS for k in (1, 2, 3)))
MANO_PARENTS: Final = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14)

# Fingertips are vertices of the MANO mesh (smplx's table), in the order of FINGERS.
FINGERTIP_VERTICES: Final = (744, 320, 443, 554, 671)

# Joint k is entry JOINTS_FROM_MANO[k] of MANO's 16 joints followed by the five fingertips.
JOINTS_FROM_MANO: Final = (0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20)

# The 16 vertices around the open wrist, in order; public MANO tools close the mesh over this ring.
WRIST_RING: Final = (92, 38, 122, 118, 117, 119, 120, 108, 79, 78, 121, 214, 215, 279, 239, 234)
