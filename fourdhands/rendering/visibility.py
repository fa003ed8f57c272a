"""Which joints and vertices an image really shows, read from its depth and instance maps.

Works with the frames of every renderer of the package.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourdhands.rendering.raster import RenderedFrame
from fourdhands.skeleton import FINGERS

SURFACE_TOLERANCE: Final = 0.003  # metres between a vertex and the depth map that shows it
# Metres of flesh between a joint and the skin in front of it: wrist, then each finger from its
# base to its tip (a vertex of the skin, which may be seen from the nail's side).
_FINGER_FLESH: Final = (0.022, 0.016, 0.014, 0.013)
_THUMB_FLESH: Final = (0.026, 0.020, 0.016, 0.014)
JOINT_FLESH: Final = np.array((0.036, *_THUMB_FLESH, *(len(FINGERS) - 1) * _FINGER_FLESH))


def visible_points(
    points: ArrayLike,
    frame: RenderedFrame,
    intrinsics: ArrayLike,
    instances: Sequence[int],
    tolerance: ArrayLike = SURFACE_TOLERANCE,
) -> NDArray[np.bool_]:
    """Whether the image shows points of a body.

    A point is visible if one of the 3 x 3 pixels about its projection shows the body it belongs
    to, no farther in front of the point than the tolerance.

    Args:
        points: (n, 3) metres, camera frame.
        frame: Rendered with these intrinsics.
        intrinsics: (3, 3) without skew.
        instances: Labels of the body's surfaces in `frame.instance`.
        tolerance: Metres, one value or (n,).

    Returns:
        (n,); False outside the image and behind the camera.
    """
    position = np.asarray(points, np.float64)
    K = np.asarray(intrinsics, np.float64)
    height, width = frame.depth.shape
    z = position[:, 2]
    ahead = z > 0.0
    uv = (position @ K[:2].T) / np.where(ahead, z, 1.0)[:, None]
    inside = ahead & (np.abs(uv) < 1e6).all(axis=1)
    pixel = np.round(np.where(inside[:, None], uv, -9.0)).astype(int)
    inside &= (pixel >= 0).all(axis=1) & (pixel < (width, height)).all(axis=1)

    around = pixel[:, None] + np.array(tuple(np.ndindex(3, 3))) - 1  # (n, 9, 2)
    x = np.clip(around[..., 0], 0, width - 1)
    y = np.clip(around[..., 1], 0, height - 1)
    own = np.isin(frame.instance[y, x], instances)
    near = np.abs(z[:, None] - frame.depth[y, x]) <= np.reshape(tolerance, (-1, 1))
    return inside & (own & near).any(axis=1)


def visible_joints(
    joints: ArrayLike, frame: RenderedFrame, intrinsics: ArrayLike, instances: Sequence[int]
) -> NDArray[np.bool_]:
    """Whether the image shows the joints (21, 3) of one hand: the skin over them is in view.

    Args:
        joints: (21, 3) metres, camera frame, common order.
        frame: As in `visible_points`.
        intrinsics: As in `visible_points`.
        instances: Labels of this hand (and of its forearm, for the wrist).
    """
    return visible_points(joints, frame, intrinsics, instances, JOINT_FLESH)
