"""Two cameras and `upsilon` made consistent: both hands in one camera frame.

Each crop's weak-perspective camera places its hand by itself: well across the image, badly along
the line of sight, where a hand's size and its distance look alike. `upsilon` is the network's view
of both hands together. A hand's projection is what the image shows, so each root keeps its line of
sight; along it, both roots move to where their difference agrees with `upsilon` best.
"""

import torch
from torch import Tensor

from fourdhands.skeleton import Side

CAMERA_WEIGHT = 0.5
"""How much a metre of deviation from a camera's own depth weighs against one from `upsilon`."""


def reconciled_roots(roots: Tensor, upsilon: Tensor) -> Tensor:
    """Move two roots along their lines of sight until their difference agrees with `upsilon`.

    With r_s the roots and u = `upsilon`, r_s becomes a_s r_s with the least

        |a_l r_l - a_r r_r - u|^2 + w^2 (|(a_r - 1) r_r|^2 + |(a_l - 1) r_l|^2),    w = 0.5,

    two linear equations in the two factors. Roots that agree already stay.

    Args:
        roots: (..., S, 3) as the crops' cameras place them, metres, camera frame.
        upsilon: (..., 3) left minus right root.

    Returns:
        (..., S, 3).
    """
    right, left = roots[..., Side.RIGHT, :], roots[..., Side.LEFT, :]
    weight = CAMERA_WEIGHT**2
    right_square, left_square = right.square().sum(-1), left.square().sum(-1)
    mixed = (right * left).sum(-1)
    matrix = torch.stack(
        (
            torch.stack(((1 + weight) * right_square, -mixed), -1),
            torch.stack((-mixed, (1 + weight) * left_square), -1),
        ),
        -2,
    )
    goal = torch.stack(
        (
            weight * right_square - (right * upsilon).sum(-1),
            weight * left_square + (left * upsilon).sum(-1),
        ),
        -1,
    )
    factors = torch.linalg.solve(matrix, goal).clamp_min(0.1)  # never behind the camera
    return roots * factors[..., None]
