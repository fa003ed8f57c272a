"""A drawn open palm, for everything that finds hands in pictures."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fourdhands.hands.mano import HandModel
from fourdhands.rendering.overlay import draw_hands
from fourdhands.structures import HandState


class OpenPalm(NamedTuple):
    """A right palm towards the camera, fingers up, thumb on the left.

    Attributes:
        image: (480, 640, 3).
        vertices: (778, 2) pixels of its mesh.
        joints: (21, 2) pixels.
    """

    image: NDArray[np.uint8]
    vertices: NDArray[np.float64]
    joints: NDArray[np.float64]


def draw_open_palm() -> OpenPalm:
    """Draw it."""
    orient = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    state = HandState(
        global_orient=orient.expand(2, 3, 3),
        hand_pose=torch.eye(3).expand(2, 15, 3, 3),
        betas=torch.zeros(2, 10),
        transl=torch.tensor((-0.1, 0.06, 0.6)).expand(2, 3),
    )
    hands = HandModel()(state)
    vertices = hands.vertices.numpy()
    intrinsics = np.array([[600, 0, 319.5], [0, 600, 239.5], [0, 0, 1]])
    image = draw_hands(
        np.full((480, 640, 3), (70, 80, 90), np.uint8), vertices, [True, False], intrinsics, 1.0
    )
    pixels = [points[0] @ intrinsics.T for points in (vertices, hands.joints.numpy())]
    return OpenPalm(image, *(places[:, :2] / places[:, 2:] for places in pixels))
