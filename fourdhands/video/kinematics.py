"""Hands posed after a detector's joints: inverse kinematics with the hand model.

The source of hands beside the network. It starts in closed form (palm, then finger by finger),
or from the network's pose where that is trusted; a few damped Gauss-Newton steps then bring joints
onto their pixels and keep bones near the detector's directions. The hand's known size makes its
place metric.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import roma
import torch
from torch import Tensor

from fourdhands.hands.anatomy import (
    POSE_LIMITS,
    JointAxes,
    angles_from_rotations,
    rotations_from_angles,
)
from fourdhands.hands.posing import NUM_MOTIONS, HandSkeleton, PosedSkeleton
from fourdhands.refinement.clip import HAND_LENGTH
from fourdhands.refinement.initial import shift_to_picture
from fourdhands.refinement.motion import turn, turning
from fourdhands.refinement.terms import robust_weight
from fourdhands.skeleton import MANO_FINGERS, NUM_SIDES
from fourdhands.structures import HandState

PALM: Final = (0, 5, 9, 13, 17)
SIGMA_2D: Final = 0.02  # of the hand's size in the picture
KERNEL_2D: Final = 0.1
SIGMA_3D: Final = 0.12  # of the hand's length
SIGMA_POSE: Final = 0.35  # radians, about the starting pose
SIGMA_TRUSTED: Final = 0.12  # radians, about a pose that is trusted wholly
SIGMA_ROOT: Final = 0.5  # radians
ROUNDS: Final = 4  # of moving back into the joints' ranges
STEPS: Final = 4  # of Gauss-Newton in each
SLACK: Final = 0.05  # radians that joints may leave their ranges
SHAPE_EVIDENCE: Final = 8.0
"""Hands that all hands of a video count as, about its shape."""
MOST_BETA: Final = 2.5
FIRST_DEPTH: Final = 0.5  # metres
_DAMPING: Final = 1e-3

# Joints of the common order along each finger, in MANO's order of fingers, from its base to its tip
_CHAINS: Final = {"index": 5, "middle": 9, "little": 17, "ring": 13, "thumb": 1}


@dataclass(frozen=True)
class SeenJoints:
    """What a detector says of N frames; nothing is looked at where scores are 0.

    Attributes:
        joints_2d: (N, S, 21, 2) pixels.
        scores: (N, S, 21) 0 to 1.
        joints_3d: (N, S, 21, 3) metres, about anywhere, axes of a camera that looks at the hand.
        has_3d: (N, S) bool.
    """

    joints_2d: Tensor
    scores: Tensor
    joints_3d: Tensor
    has_3d: Tensor


def fit_hands(
    seen: SeenJoints,
    intrinsics: Tensor,
    betas: Tensor,
    skeleton: HandSkeleton,
    *,
    start: HandState | None = None,
    trust: Tensor | None = None,
) -> tuple[HandState, Tensor]:
    """Pose hands after what a detector sees.

    Args:
        seen: of N frames.
        intrinsics: (3, 3).
        betas: (S, 10) shape of the hands.
        skeleton: of the hands, in double precision.
        start: another source's hands (N, S), camera frame; None for none.
        trust: (N, S) of that source's pose, 0 to 1; where it is 0, the closed form starts.

    Returns:
        (N, S) hands in the camera frame, and (N, S) the mean distance of joints that is left in the
        picture, in parts of the hand's size, infinite where too little is seen.
    """
    N = len(seen.scores)
    shape = betas.double().expand(N, NUM_SIDES, -1)
    rays = _looking_at(seen, intrinsics)
    target = torch.where(
        seen.has_3d[..., None, None], seen.joints_3d.double() @ rays.mT, torch.nan
    ).nan_to_num(0.0)
    orientation, pose = closed_form(target, betas.double(), skeleton)
    if start is not None and trust is not None:
        trusted = (trust > 0) | ~seen.has_3d
        orientation = torch.where(
            trusted[..., None, None], start.global_orient.double(), orientation
        )
        pose = torch.where(trusted[..., None, None, None], start.hand_pose.double(), pose)
    trust = torch.zeros_like(seen.scores[..., 0]) if trust is None else trust
    fit = _Fit(seen, target, intrinsics.double(), shape, skeleton, trust.double())
    return fit.solve(orientation, pose)


def fit_shape(
    seen: SeenJoints, hands: HandState, intrinsics: Tensor, skeleton: HandSkeleton
) -> Tensor:
    """A better shape for hands that `fit_hands` posed: one Gauss-Newton step, poses eliminated.

    Sizes and distances look alike in pictures, so the overall size stays near the mean hand's.

    Args:
        seen: of N frames.
        hands: (N, S) posed, one shape.
        intrinsics: (3, 3).
        skeleton: of the hands.

    Returns:
        (10,) betas, one person's.
    """
    shape = hands.betas.double()
    nothing = torch.zeros_like(seen.scores[..., 0])
    fit = _Fit(seen, seen.joints_3d.double(), intrinsics.double(), shape, skeleton, nothing)
    wrist = hands.transl + skeleton.rest_joints(shape)[..., 0, :]
    posed = skeleton(hands.global_orient, wrist, hands.hand_pose, shape)
    jacobian = torch.cat((skeleton.motion_jacobian(posed), skeleton.shape_jacobian(posed)), -1)
    seen_flat = replace(seen, has_3d=torch.zeros_like(seen.has_3d))
    normal, right = replace(fit, seen=seen_flat)._picture(posed, jacobian)
    held = torch.zeros(NUM_MOTIONS).to(normal)
    held[:3], held[6:] = 1 / SIGMA_ROOT**2, 1 / SIGMA_POSE**2
    held = held + 1e-6
    motion = normal[..., :NUM_MOTIONS, :NUM_MOTIONS] + torch.diag(held)
    mixed = normal[..., :NUM_MOTIONS, NUM_MOTIONS:]
    eliminated = torch.linalg.solve(motion, torch.cat(
        (mixed, right[..., :NUM_MOTIONS, None]), -1))  # fmt: skip
    reduced = normal[..., NUM_MOTIONS:, NUM_MOTIONS:] - mixed.mT @ eliminated[..., :-1]
    pull = right[..., NUM_MOTIONS:] - (mixed.mT @ eliminated[..., -1:])[..., 0]
    # frames of one video err alike: many of them are worth a few
    count = (seen.scores > 0).any(-1).sum().clamp_min(1)
    share = SHAPE_EVIDENCE / count
    betas = shape.mean((0, 1))
    identity = torch.eye(len(betas)).to(normal)
    matrix = share * reduced.sum((0, 1)) + identity
    step = torch.linalg.solve(matrix, -(share * pull.sum((0, 1)) + betas))
    return (betas + step).clamp(-MOST_BETA, MOST_BETA)


def closed_form(target: Tensor, betas: Tensor, skeleton: HandSkeleton) -> tuple[Tensor, Tensor]:
    """Orientation by the palm, fingers bone by bone with the least turn; inside their ranges.

    Args:
        target: (N, S, 21, 3) joints, about anywhere, camera axes.
        betas: (S, 10).
        skeleton: of the hands.

    Returns:
        (N, S, 3, 3) and (N, S, 15, 3, 3).
    """
    N = len(target)
    identity = torch.eye(3).to(target)
    rest = skeleton(
        identity.expand(1, NUM_SIDES, 3, 3),
        target.new_zeros(1, NUM_SIDES, 3),
        identity.expand(1, NUM_SIDES, 15, 3, 3),
        betas[None],
    ).joints
    palm = list(PALM)
    at_rest = rest[..., palm, :] - rest[..., :1, :]
    palm_seen = target[..., palm, :] - target[..., :1, :]
    # all palms alike in size: the turn alone is asked for
    covariance = palm_seen.mT @ at_rest.expand_as(palm_seen)
    covariance = covariance + 1e-9 * identity
    orientation = roma.special_procrustes(covariance)
    turns = []
    for finger in MANO_FINGERS:
        base = _CHAINS[finger]
        frame = orientation
        for joint in range(base, base + 3):
            bone = (rest[..., joint + 1, :] - rest[..., joint, :]).expand(N, -1, -1)
            wanted = target[..., joint + 1, :] - target[..., joint, :]
            wanted = (frame.mT @ wanted[..., None])[..., 0]
            local = _least_turn(bone, wanted)
            turns.append(local)
            frame = frame @ local
    return orientation, in_range(torch.stack(turns, 2), skeleton)


def in_range(pose: Tensor, skeleton: HandSkeleton, slack: float = 0.0) -> Tensor:
    """The pose (N, S, 15, 3, 3) with every joint angle moved into its range of motion."""
    limits = POSE_LIMITS
    moved = []
    for side, assets in enumerate(skeleton.assets):
        axes = JointAxes.from_assets(assets)
        angles = angles_from_rotations(pose[:, side].cpu().numpy(), axes)
        angles = np.clip(angles, limits[..., 0] - slack, limits[..., 1] + slack)
        moved.append(torch.from_numpy(rotations_from_angles(angles, axes)))
    return torch.stack(moved, 1).to(pose)


def _least_turn(start: Tensor, end: Tensor) -> Tensor:
    """The least rotations (..., 3, 3) that take directions (..., 3) to others."""
    start = torch.nn.functional.normalize(start, dim=-1)
    end = torch.nn.functional.normalize(end, dim=-1)
    axis = torch.linalg.cross(start, end)
    sine, cosine = axis.norm(dim=-1, keepdim=True), (start * end).sum(-1, keepdim=True)
    return turn(axis / sine.clamp_min(1e-9) * torch.atan2(sine, cosine))


def _looking_at(seen: SeenJoints, intrinsics: Tensor) -> Tensor:
    """Rotations (N, S, 3, 3) from a camera that looks at the hand to the real one."""
    weight = (seen.scores > 0).double()[..., None]
    middle = (seen.joints_2d.double() * weight).sum(-2) / weight.sum(-2).clamp_min(1)
    ray = torch.cat((middle, torch.ones_like(middle[..., :1])), -1)
    ray = ray @ torch.linalg.inv(intrinsics.double()).mT
    return _least_turn(ray.new_tensor((0.0, 0.0, 1.0)).expand_as(ray), ray)


@dataclass(frozen=True)
class _Fit:
    """The least-squares problem of N frames, each by itself."""

    seen: SeenJoints
    target: Tensor
    intrinsics: Tensor
    betas: Tensor
    skeleton: HandSkeleton
    trust: Tensor

    def solve(self, orientation: Tensor, pose: Tensor) -> tuple[HandState, Tensor]:
        wrist = torch.zeros_like(orientation[..., 0])
        wrist[..., 2] = FIRST_DEPTH
        wrist = self.placed(orientation, pose, wrist)
        root = orientation
        for _ in range(ROUNDS):
            anchor = in_range(pose, self.skeleton)
            for _ in range(STEPS):
                orientation, wrist, pose = self.step(orientation, wrist, pose, root, anchor)
        pose = in_range(pose, self.skeleton, SLACK)
        posed = self.skeleton(orientation, wrist, pose, self.betas)
        distance, _ = self.off(posed)
        weight = (self.seen.scores > 0).double()
        left = (distance * weight).sum(-1) / weight.sum(-1).clamp_min(1)
        left = torch.where(weight.sum(-1) > 0, left, torch.inf)
        transl = wrist - self.skeleton.rest_joints(self.betas)[..., 0, :]
        return HandState(orientation, pose, self.betas, transl), left

    def placed(self, orientation: Tensor, pose: Tensor, wrist: Tensor) -> Tensor:
        """Where the hand's size in the picture puts it, (N, S, 3); a few rounds for its depth."""
        joints = self.skeleton(orientation, torch.zeros_like(wrist), pose, self.betas).joints
        # how large the hand is along the picture, beside what it is in space
        span = self.seen.joints_2d.double()
        extent = (span - span.mean(-2, keepdim=True)).square().sum((-2, -1)).sqrt()
        flat = joints[..., :2]
        real = (flat - flat.mean(-2, keepdim=True)).square().sum((-2, -1)).sqrt()
        focal = self.intrinsics[(0, 1), (0, 1)].mean()
        depth = (focal * real / extent.clamp_min(1.0)).clamp(0.05, 20.0)
        middle = span.mean(-2) - self.intrinsics[:2, 2]
        place = torch.cat((middle / focal * depth[..., None], depth[..., None]), -1)
        place = place - joints.mean(-2)
        size = focal * HAND_LENGTH / depth
        placed, _ = shift_to_picture(
            joints[None], place[None], self.seen.joints_2d[None].double(),
            self.seen.scores[None].double(), self.intrinsics[None], size[None],
        )  # fmt: skip
        return placed[0]

    def off(self, posed: PosedSkeleton) -> tuple[Tensor, Tensor]:
        """Distances (N, S, 21) from the pixels, and of them x and y, in parts of the size."""
        homogeneous = posed.joints @ self.intrinsics.mT
        depth = homogeneous[..., 2:].clamp_min(0.02)
        residual = (homogeneous[..., :2] / depth - self.seen.joints_2d.double()) / self.size(posed)
        return residual.norm(dim=-1), residual

    def size(self, posed: PosedSkeleton) -> Tensor:
        """Pixels of a hand's length, (N, S, 1, 1)."""
        focal = self.intrinsics[(0, 1), (0, 1)].mean()
        return (focal * HAND_LENGTH / posed.joints[..., :1, 2:].clamp_min(0.05)).detach()

    def step(
        self, orientation: Tensor, wrist: Tensor, pose: Tensor, root: Tensor, anchor: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One damped Gauss-Newton step."""
        posed = self.skeleton(orientation, wrist, pose, self.betas)
        jacobian = self.skeleton.motion_jacobian(posed)  # (N, S, 21, 3, 51)
        normal, right = self._picture(posed, jacobian)
        normal_3d, right_3d = self._space(posed, jacobian)
        normal, right = normal + normal_3d, right + right_3d
        diagonal, pull = self._beliefs(orientation, pose, root, anchor)
        damping = _DAMPING * normal.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True)
        normal = normal + torch.diag_embed(diagonal + damping + 1e-6)
        delta = torch.linalg.solve(normal, -(right + pull)[..., None])[..., 0]
        longest = delta[..., 6:].abs().amax(-1, keepdim=True).clamp_min(0.6) / 0.6
        delta = delta / longest
        shift = delta[..., 3:6].clamp(-0.1, 0.1)
        fingers = delta[..., 6:].unflatten(-1, (15, 3))
        return orientation @ turn(delta[..., :3]), wrist + shift, pose @ turn(fingers)

    def _picture(self, posed: PosedSkeleton, jacobian: Tensor) -> tuple[Tensor, Tensor]:
        distance, residual = self.off(posed)
        scale = self.size(posed)[..., None] * posed.joints[..., 2, None, None].clamp_min(0.02)
        focal = self.intrinsics[(0, 1), (0, 1)]
        rays = posed.joints[..., :2] / posed.joints[..., 2:].clamp_min(0.02)
        across = jacobian[..., :2, :] - rays[..., None] * jacobian[..., 2:, :]
        rows = across * focal[:, None] / scale
        weight = self.seen.scores.double() * robust_weight(distance.square(), KERNEL_2D)
        weight = weight[..., None] / SIGMA_2D**2
        return _normal_equations(rows, residual, weight)

    def _space(self, posed: PosedSkeleton, jacobian: Tensor) -> tuple[Tensor, Tensor]:
        """Joints relative to the wrist, the detector's hand made as large as ours."""
        ours = posed.joints - posed.joints[..., :1, :]
        theirs = self.target - self.target[..., :1, :]
        ratio = ours.square().sum((-2, -1)) / theirs.square().sum((-2, -1)).clamp_min(1e-9)
        residual = (ours - theirs * ratio.sqrt()[..., None, None]) / HAND_LENGTH
        rows = (jacobian - jacobian[..., :1, :, :]) / HAND_LENGTH
        there = self.seen.has_3d.double() * (1 - 0.8 * self.trust) / SIGMA_3D**2
        return _normal_equations(rows, residual, there[..., None, None].expand(*residual.shape))

    def _beliefs(
        self, orientation: Tensor, pose: Tensor, root: Tensor, anchor: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Near the pose that it started from, inside the joints' ranges: diagonal and gradient."""
        fingers = turning(anchor, pose).flatten(-2)
        whole = turning(root, orientation)
        ease = 1 / SIGMA_POSE**2 + self.trust / SIGMA_TRUSTED**2
        diagonal = pose.new_zeros(*pose.shape[:2], NUM_MOTIONS)
        pull = torch.zeros_like(diagonal)
        diagonal[..., :3] = 1 / SIGMA_ROOT**2
        diagonal[..., 6:] = ease[..., None]
        pull[..., :3] = whole / SIGMA_ROOT**2
        pull[..., 6:] = fingers * ease[..., None]
        return diagonal, pull


def _normal_equations(rows: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """J^T W J (..., 51, 51) and J^T W r of rows (..., 21, K, 51)."""
    rows, residual = rows.flatten(-3, -2), residual.flatten(-2)
    weight = weight.expand(*weight.shape[:-1], residual.shape[-1] // weight.shape[-2]).flatten(-2)
    weighted = rows * weight[..., None]
    return weighted.mT @ rows, (weighted.mT @ residual[..., None])[..., 0]
