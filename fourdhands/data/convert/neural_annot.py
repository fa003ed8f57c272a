"""MANO parameters as InterHand2.6M and Re:InterHand write them (NeuralAnnot), in the world."""

from typing import Any, Final

import numpy as np

from fourdhands.data.convert.conventions import Floats, Mano, MeshParameters, numbers, rotation
from fourdhands.data.convert.records import HandRecord
from fourdhands.skeleton import Side

_VALUES: Final = 61
"""Pose, shape, translation of a hand."""


def add_mano(hand: HandRecord, mano: Mano, side: Side, values: Any, cam_from_world: Floats) -> None:
    """Complete a hand by its parameters.

    Args:
        hand: gets them in the camera's frame.
        mano: hand models.
        side: whose.
        values: (61,) pose (48) without its mean, shape (10), translation (3) in metres; world.
        cam_from_world: (4, 4), metres.
    """
    parameters = numbers(values, _VALUES)
    world = MeshParameters(
        rotation(parameters[:3]),
        mano.hand_pose(side, parameters[3:48], mean_included=False),
        parameters[48:58],
        parameters[58:],
    )
    seen = mano.moved(side, world, cam_from_world[:3, :3], cam_from_world[:3, 3])
    hand.global_orient, hand.hand_pose = seen.global_orient, seen.hand_pose
    hand.betas, hand.transl = seen.betas, seen.transl


def compact_mano(entry: dict[str, Any]) -> Any:
    """MANO's parameters as one array (61,); anything else, and what is no such thing, as it is."""
    if "pose" in entry and "trans" in entry:
        try:
            parts = (entry["pose"], entry["shape"], entry["trans"])
            flat = np.concatenate([np.asarray(part, np.float32).ravel() for part in parts])
        except (KeyError, TypeError, ValueError):
            return entry
        return flat if flat.shape == (_VALUES,) else entry
    return entry
