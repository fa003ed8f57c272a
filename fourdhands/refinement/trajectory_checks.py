"""Is a camera trajectory what it says it is? Rotations, handedness, and the direction of poses.

Files do not tell whether they hold the world in the camera or the camera in the world, or which way
their axes point; pictures of hands do: in the world, hands move smoothly whatever the camera does.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fourdhands.refinement.world_scale import path_unrest

Array = NDArray[np.float64]

ROTATION_TOLERANCE: Final = 1e-2
CLEARLY: Final = 0.6  # of the unrest as read: another reading with less is the right one
FLIP: Final = np.diag((1.0, -1.0, -1.0))  # OpenGL's axes: y up, z backward
MIRROR: Final = np.diag((1.0, 1.0, -1.0))


def check_rotations(rotation: Array, source: str) -> None:
    """Refuse matrices (T, 3, 3) that do not turn.

    Raises:
        ValueError: they scale, shear, or mirror (a left-handed frame).
    """
    square = rotation @ rotation.swapaxes(-1, -2)
    off = np.abs(square - np.eye(3)).max((1, 2))
    if off.max() > ROTATION_TOLERANCE:
        raise ValueError(
            f"{source}: the matrix of frame {int(off.argmax())} is no rotation (R R^T differs from "
            f"the identity by {off.max():.2g})"
        )
    if (np.linalg.det(rotation) < 0).any():
        frame = int(np.linalg.det(rotation).argmin())
        raise ValueError(
            f"{source}: the matrix of frame {frame} mirrors (determinant -1): the file's axes are "
            "left-handed; turn one of them round before writing it"
        )


def suspect(
    wrists: Array, observed: NDArray[np.bool_], cam_from_world: Array, fps: float
) -> str | None:
    """Name the mistake that a trajectory was probably read with.

    Each reading puts the hands elsewhere in the world; the right one makes them least restless.

    Args:
        wrists: (T, S, 3) camera frame, metres, placed by the picture.
        observed: (T, S).
        cam_from_world: (T, 4, 4) as it was read.
        fps: frames a second.

    Returns:
        None if the trajectory is best as it is, or tells nothing.
    """
    rotation, shift = cam_from_world[:, :3, :3], cam_from_world[:, :3, 3]
    turned = rotation.swapaxes(-1, -2)
    back = -np.einsum("tij,tj->ti", turned, shift)
    readings = {
        "": (rotation, shift),
        "it holds the camera in the world where the world in the camera was expected, or the other "
        "way round (invert the poses)": (turned, back),
        "its axes are OpenGL's (y up, z backward), not OpenCV's (y down, z forward)": (
            FLIP @ rotation,
            shift @ FLIP,
        ),
        "its axes are left-handed": (MIRROR @ rotation @ MIRROR, shift @ MIRROR),
    }
    unrest = {
        name: path_unrest(wrists, observed, *reading, fps) for name, reading in readings.items()
    }
    best = min(unrest, key=lambda name: unrest[name])
    if best and unrest[best] < CLEARLY * unrest[""]:
        return best
    return None
