"""Short simulated clips for tests of refinement."""

from functools import cache

import numpy as np
import torch

from fourdhands.geometry.rotation import mirror_points, mirror_rotation
from fourdhands.hands.mano import HandModel
from fourdhands.refinement.clip import ObservedClip
from fourdhands.refinement.refine import refine
from fourdhands.refinement.simulated import CameraKind, Errors, SimulatedClip, simulate
from fourdhands.structures import HandState


@cache
def hand_model() -> HandModel:
    return HandModel.open()


@cache
def clip(seed: int, frames: int, camera: CameraKind, errors: Errors | None = None) -> SimulatedClip:
    return simulate(seed, frames, camera, model=hand_model(), errors=errors)


def mirrored(observed: ObservedClip, width: float = 1280.0) -> ObservedClip:
    """The scene in a mirror: x turns round, right hands become left ones."""
    hands = observed.hands
    pixels = observed.joints_2d.flip(2).clone()
    pixels[..., 0] = width - 1 - pixels[..., 0]
    intrinsics = observed.intrinsics.clone()
    intrinsics[:, 0, 2] = width - 1 - intrinsics[:, 0, 2]
    return ObservedClip(
        hands=HandState(
            global_orient=mirror_rotation(hands.global_orient).flip(2),
            hand_pose=mirror_rotation(hands.hand_pose).flip(2),
            betas=hands.betas.flip(2),
            transl=mirror_points(hands.transl).flip(2),
        ),
        observed=observed.observed.flip(2),
        confidence=observed.confidence.flip(2),
        joints_2d=pixels,
        joints_2d_confidence=observed.joints_2d_confidence.flip(2),
        intrinsics=intrinsics,
        fps=observed.fps,
    )


def joint_errors(found: torch.Tensor, wanted: torch.Tensor) -> np.ndarray:
    """Distances in metres."""
    return (found - wanted).norm(dim=-1).numpy()


__all__ = ["clip", "hand_model", "joint_errors", "mirrored", "refine"]
