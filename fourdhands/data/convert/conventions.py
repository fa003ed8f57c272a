"""How data sets write hands down, and how it is said here.

Joint orders are tables T with `common[k] = source[T[k]]`. Poses become rotation matrices that
include MANO's mean pose, frames the camera's with OpenCV's axes, lengths metres.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import roma
import torch
from numpy.typing import ArrayLike, NDArray

from fourdhands.hands.assets import ManoAssets, load_assets
from fourdhands.hands.mano import HandModel
from fourdhands.skeleton import FINGERTIP_VERTICES, JOINTS_FROM_MANO, WRIST, Side
from fourdhands.structures import HandGeometry, HandState

Floats = NDArray[np.float64]

COMMON: Final = tuple(range(21))
FROM_HO3D: Final = JOINTS_FROM_MANO
"""HO3D, H2O-3D, ARCTIC: MANO's sixteen joints, then the five tips from thumb to little finger."""
FROM_INTERHAND: Final = (20, 3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12, 19, 18, 17, 16)
"""InterHand2.6M, one hand: every finger from its tip, the wrist last."""
FROM_RHD: Final = (0, 4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13, 20, 19, 18, 17)
"""RHD, one hand: the wrist, every finger from its tip."""
FROM_REINTERHAND: Final = (
    *(0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 19, 20, 21, 22),
)
"""Re:InterHand, 24 points of a hand: without two carpal points and the forearm."""
FROM_HIC: Final = (17, 18, 19, 13, 14, 15, 9, 10, 11, 5, 6, 7, 2, 3)
"""HIC, 14 points of a hand; here the other way round: point i is common joint FROM_HIC[i]."""

OPENCV_FROM_OPENGL: Final = np.diag((1.0, -1.0, -1.0))
"""Cameras that look along -z with y up."""


@dataclass(frozen=True)
class MeshParameters:
    """MANO parameters of one hand, ready for a `HandRecord`; see there."""

    global_orient: Floats
    hand_pose: Floats
    betas: Floats
    transl: Floats


class Mano:
    """The hand models that labels were made with, by the ways in which labels use them.

    Left hands come in two: with MANO's released shape directions, whose x has the right hand's
    sign, and with repaired ones. Betas fit only the one that they were made with; ours is the
    repaired one.
    """

    def __init__(self, folder: Path | None = None):
        """Load what `fourdhands hands import` wrote, or the open hand if there is no folder."""
        self.assets = load_assets(folder)

    @cached_property
    def model(self) -> HandModel:
        """Repaired hands."""
        return HandModel(self.assets)

    @cached_property
    def released(self) -> HandModel:
        """Hands with the left one as released."""
        right, left = self.assets
        shapedirs = left.shapedirs.copy()
        shapedirs[:, 0] *= -1
        return HandModel((right, replace(left, shapedirs=shapedirs)))

    def hand_pose(self, side: Side, pose: ArrayLike, *, mean_included: bool) -> Floats:
        """Axis-angle finger rotations (45,) to absolute ones (15, 3, 3).

        Args:
            side: whose.
            pose: of the fifteen finger joints.
            mean_included: False if the model adds its mean pose to them.
        """
        angles = numbers(pose, 45)
        return rotation(angles if mean_included else angles + self.assets[side].hands_mean)

    def hand_pose_from_pca(self, side: Side, coefficients: ArrayLike) -> Floats:
        """Coefficients (n,) of the first n principal components to absolute rotations (15, 3, 3).

        The model adds its mean pose.
        """
        weights = np.asarray(coefficients, np.float64)
        assert weights.ndim == 1
        components = self.assets[side].hands_components[: len(weights)]
        return self.hand_pose(side, weights @ components, mean_included=False)

    def wrist_at_rest(self, side: Side, betas: ArrayLike, *, released: bool = False) -> Floats:
        """J0 (3,), which MANO turns about: the wrist of the shaped template.

        Args:
            side: whose.
            betas: (10,).
            released: as `Dataset.left_released`; alike in the methods below.
        """
        assets = self._side(side, released)
        shaped = assets.v_template + assets.shapedirs @ numbers(betas, 10)
        return np.asarray(assets.J_regressor[WRIST] @ shaped, np.float64)

    def moved(
        self,
        side: Side,
        hand: MeshParameters,
        rotation: ArrayLike,
        translation: ArrayLike,
        *,
        released: bool = False,
    ) -> MeshParameters:
        """The same hand seen from x' = R x + t (world to camera, or OpenGL to OpenCV).

        Exact, because MANO turns about the wrist at rest: T' = R (T + J0) + t - J0. R may be
        OpenGL's diag(1, -1, -1), which is a rotation.
        """
        R, t = numbers(rotation, 3, 3), numbers(translation, 3)
        wrist = self.wrist_at_rest(side, hand.betas, released=released)
        return replace(
            hand, global_orient=R @ hand.global_orient, transl=R @ (hand.transl + wrist) + t - wrist
        )

    def geometry(self, side: Side, hand: MeshParameters, *, released: bool = False) -> "Geometry":
        """Joints and mesh of one hand."""
        model = self.released if released else self.model
        both = {
            name: torch.from_numpy(np.asarray(getattr(hand, name))).float()[None]
            for name in ("global_orient", "hand_pose", "betas", "transl")
        }
        state = HandState(**both).map(lambda tensor: torch.stack((tensor, tensor), 1))
        with torch.no_grad():
            found: HandGeometry = model(state)
        return Geometry(
            found.joints[0, side].double().numpy(), found.vertices[0, side].double().numpy()
        )

    def transl_onto(
        self, side: Side, hand: MeshParameters, vertices: ArrayLike, *, released: bool = False
    ) -> MeshParameters:
        """The same hand where a mesh (778, 3) of it stands."""
        own = self.geometry(side, hand, released=released).vertices
        shift = (numbers(vertices, 778, 3) - own).mean(0)
        return replace(hand, transl=hand.transl + shift)

    def joints_of_mesh(self, side: Side, vertices: ArrayLike) -> Floats:
        """Joints (21, 3) regressed from a posed mesh (778, 3), tips as MANO's vertices.

        Inner joints differ by millimetres from those of the skeleton that posed the mesh.
        """
        mesh = numbers(vertices, 778, 3)
        joints = np.concatenate(
            (self.assets[side].J_regressor @ mesh, mesh[list(FINGERTIP_VERTICES)])
        )
        return np.asarray(joints[list(JOINTS_FROM_MANO)], np.float64)

    def _side(self, side: Side, released: bool) -> ManoAssets:
        model = self.released if released else self.model
        return model.assets[side]


@dataclass(frozen=True)
class Geometry:
    """One hand: joints (21, 3) in the common order, vertices (778, 3)."""

    joints: Floats
    vertices: Floats


def numbers(values: ArrayLike, *shape: int) -> Floats:
    """Values as an array of a shape.

    Raises:
        ValueError: there are not as many, or they are not numbers.
    """
    try:
        return np.asarray(values, np.float64).reshape(shape)
    except (TypeError, ValueError):
        raise ValueError(f"labels are not numbers of shape {shape}") from None


def rotation(axis_angle: ArrayLike) -> Floats:
    """Axis-angle (3 n,) radians to (n, 3, 3); (3,) to (3, 3)."""
    vectors = torch.from_numpy(np.array(axis_angle, np.float64).reshape(-1, 3))
    matrices = roma.rotvec_to_rotmat(vectors).numpy()
    return matrices[0] if len(matrices) == 1 else matrices


def rigid(rotation: ArrayLike, translation: ArrayLike) -> Floats:
    """(4, 4) of x' = R x + t."""
    transform = np.eye(4)
    transform[:3, :3], transform[:3, 3] = numbers(rotation, 3, 3), numbers(translation, 3)
    return transform


def intrinsics(focal: ArrayLike, principal: ArrayLike) -> Floats:
    """(3, 3) from focal lengths (one or two) and a principal point (2,), pixels."""
    K = np.eye(3)
    K[0, 0], K[1, 1] = np.broadcast_to(np.asarray(focal, np.float64), (2,))
    K[:2, 2] = numbers(principal, 2)
    return K


def transformed(transform: ArrayLike, points: ArrayLike) -> Floats:
    """Points (..., 3) after (4, 4)."""
    matrix, values = numbers(transform, 4, 4), np.asarray(points, np.float64)
    return values @ matrix[:3, :3].T + matrix[:3, 3]
