"""What refinement knows of hands whatever they do: skeleton, limits, skin, and a bank of poses."""

import numpy as np
import roma
import torch
from torch import Tensor

from fourdhands.hands.anatomy import JointAxes, pose_bank, rotations_from_angles
from fourdhands.hands.assets import ManoAssets
from fourdhands.hands.mano import closed_faces
from fourdhands.hands.posing import HandSkeleton
from fourdhands.refinement.biomechanics import Anatomy
from fourdhands.refinement.motion import turning
from fourdhands.refinement.penetration import vertex_areas
from fourdhands.refinement.priors import RefinementPrior
from fourdhands.refinement.problem import Body

POSE_FLOOR = 0.08
"""Radians; the bank tells no pose more exactly."""


def make_body(
    assets: tuple[ManoAssets, ManoAssets],
    decoder: RefinementPrior | None,
    device: torch.device,
) -> Body:
    """Build it.

    Args:
        assets: of the right and the left hand.
        decoder: of a motion prior's latents, or None.
        device: where to compute.
    """
    faces = closed_faces(assets)
    template = torch.stack([torch.from_numpy(side.v_template) for side in assets]).double()
    open_faces = torch.stack([torch.from_numpy(side.faces) for side in assets])
    mean, whitening = gaussian_poses(assets)
    return Body(
        skeleton=HandSkeleton(assets).to(device),
        anatomy=Anatomy.from_assets(assets).to(device),
        closed_faces=faces.to(device),
        areas=vertex_areas(template, open_faces).to(device),
        pose_mean=mean.to(device),
        pose_whitening=whitening.to(device),
        decoder=decoder,
    )


def gaussian_poses(assets: tuple[ManoAssets, ManoAssets]) -> tuple[Tensor, Tensor]:
    """A Gaussian over the bank of clean poses: (S, 15, 3, 3) mean, (S, 45, 45) whitening."""
    angles = np.array(pose_bank())
    poses = torch.stack(
        [
            torch.from_numpy(rotations_from_angles(angles, JointAxes.from_assets(side)))
            for side in assets
        ]
    )  # (S, N, 15, 3, 3)
    mean = roma.special_procrustes(poses.mean(1))
    vectors = turning(mean[:, None], poses).flatten(-2)
    covariance = vectors.mT @ vectors / vectors.shape[1]
    covariance = covariance + POSE_FLOOR**2 * torch.eye(45).to(covariance)
    whitening = torch.linalg.inv(torch.linalg.cholesky(covariance))
    return mean, whitening
