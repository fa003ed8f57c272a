"""The energy of a motion: what is known of B clips, and the sum of a stage's terms.

`Problem.view` poses the hands and looks at them; `Problem.energies` reads like the papers' sums.
`refinement.curvature` holds the matching second derivatives for Gauss-Newton.
"""

from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from fourdhands.hands.posing import HandSkeleton, PosedSkeleton
from fourdhands.refinement import biomechanics, terms
from fourdhands.refinement.biomechanics import Anatomy
from fourdhands.refinement.motion import Motion
from fourdhands.refinement.penetration import Contacts, penetration
from fourdhands.refinement.priors import RefinementPrior
from fourdhands.refinement.stages import Stage
from fourdhands.structures import TensorStruct

NEAR: Final = 0.02  # metres between boxes of joints within which skins may touch
GUESSED_CONTACT: Final = 0.1  # of penetration where one of the hands was only filled in
BELIEFS: Final = frozenset(
    {
        "velocity", "acceleration", "turning_speed", "shape", "shape_symmetry", "latent",
        "pose_likelihood", "completion", "camera_smoothness", "joint_angles", "bone_lengths",
        "palm_shape", "penetration",
    }
)  # fmt: skip
"""Terms that look at no data: the less noisy the data, the less they weigh."""


@dataclass(frozen=True)
class Evidence(TensorStruct):
    """What is known of B clips; rotations and places of the estimate in the camera frame.

    Attributes:
        observed: (B, T, S) bool.
        confidence: (B, T, S) 0 where not observed.
        present: (B, S) bool.
        orientation: (B, T, S, 3, 3).
        wrist: (B, T, S, 3).
        pose: (B, T, S, 15, 3, 3).
        betas: (B, S, 10).
        joints_2d: (B, T, S, J, 2).
        joints_2d_confidence: (B, T, S, J).
        size: (B, T, S) pixels of a hand's length.
        intrinsics: (B, 3, 3).
        fps: (B,).
        camera_rotation: (B, T, 3, 3) of the trajectory.
        camera_translation: (B, T, 3) of the trajectory, in its own unit.
        scale_start: (B,) logarithm.
        scale_deviation: (B,) of the logarithm.
        scale_bounds: (B, 2) logarithms.
        completion: (B, T, S, 15, 3, 3) what the prior says of the fingers.
        completion_precision: (B, T, S, 15) 1 / radians^2.
        noise: (B,) variance of the network's noise beside a typical one's: weighs beliefs.
        free: (B, T, S) bool, hands that may change; others were solved by the window before.
    """

    observed: Tensor
    confidence: Tensor
    present: Tensor
    orientation: Tensor
    wrist: Tensor
    pose: Tensor
    betas: Tensor
    joints_2d: Tensor
    joints_2d_confidence: Tensor
    size: Tensor
    intrinsics: Tensor
    fps: Tensor
    camera_rotation: Tensor
    camera_translation: Tensor
    scale_start: Tensor
    scale_deviation: Tensor
    scale_bounds: Tensor
    completion: Tensor
    completion_precision: Tensor
    noise: Tensor
    free: Tensor

    @property
    def share(self) -> Tensor:
        """(B, 1, S) of each present hand in each frame; sums to one over frames and hands."""
        hands = self.present.to(self.wrist)
        frames = self.observed.shape[1]
        return (hands / hands.sum(-1, keepdim=True).clamp_min(1) / frames)[:, None]

    @property
    def data_share(self) -> Tensor:
        """(B, T, S) the same, weighted by confidence; 0 where a hand was not observed."""
        return self.share * self.confidence * self.observed

    def filled(self, pose: Tensor) -> Tensor:
        """Fingers (B, T, S, 15, 3, 3), those of gaps by the completion."""
        gaps = ~self.observed & self.present[:, None]
        return torch.where(gaps[..., None, None, None], self.completion, pose)

    def frames(self, start: int, stop: int) -> "Evidence":
        """Some of the frames."""
        shared = {
            "present", "betas", "intrinsics", "fps", "scale_start", "scale_deviation",
            "scale_bounds", "noise",
        }  # fmt: skip
        return Evidence(
            **{
                name: value if name in shared else value[:, start:stop]
                for name, value in vars(self).items()
            }
        )


@dataclass(frozen=True)
class View:
    """A motion posed and seen.

    Attributes:
        pose: (B, T, S, 15, 3, 3), the motion's or the latent's.
        skeleton: in the world.
        rotation: (B, T, 3, 3) camera from world.
        translation: (B, T, 3) camera from world, metres.
        joints: (B, T, S, J, 3) camera frame.
        wrist: (B, T, S, 3) camera frame.
        intrinsics: (B, 3, 3).
        projected: (B, T, S, J, 2) pixels.
    """

    pose: Tensor
    skeleton: PosedSkeleton
    rotation: Tensor
    translation: Tensor
    joints: Tensor
    wrist: Tensor
    intrinsics: Tensor
    projected: Tensor


@dataclass(frozen=True)
class Near:
    """Pairs of hands that may touch, and where they do.

    Attributes:
        clip: (N,).
        frame: (N,).
        contacts: of the N pairs.
    """

    clip: Tensor
    frame: Tensor
    contacts: Contacts


@dataclass(frozen=True)
class Body:
    """What hands are like, whatever they do.

    Attributes:
        skeleton: poses them.
        anatomy: their limits.
        closed_faces: (S, F, 3).
        areas: (S, V) shares of vertices.
        pose_mean: (S, 15, 3, 3) of clean poses.
        pose_whitening: (S, 45, 45).
        decoder: of latents; None without a prior.
    """

    skeleton: HandSkeleton
    anatomy: Anatomy
    closed_faces: Tensor
    areas: Tensor
    pose_mean: Tensor
    pose_whitening: Tensor
    decoder: RefinementPrior | None = None


@dataclass(frozen=True)
class Problem:
    """Clips and hands, ready to be asked for energies."""

    evidence: Evidence
    body: Body

    def view(self, motion: Motion) -> View:
        """Pose the hands and look at them."""
        pose = self.pose(motion)
        skeleton = self.body.skeleton(motion.orientation, motion.wrist, pose, motion.betas[:, None])
        rotation, translation = self.camera(motion)
        joints = skeleton.joints @ rotation[:, :, None].mT + translation[:, :, None, None]
        focal = motion.log_focal.exp()[:, None, None]
        scaling = torch.ones_like(self.evidence.intrinsics)
        scaling = torch.cat((scaling[:, :2, :2] * focal, scaling[:, :2, 2:]), -1)
        intrinsics = torch.cat(
            (self.evidence.intrinsics[:, :2] * scaling, self.evidence.intrinsics[:, 2:]), 1
        )
        projected = _project(joints, intrinsics)
        return View(
            pose, skeleton, rotation, translation, joints, joints[..., 0, :], intrinsics, projected
        )

    def pose(self, motion: Motion) -> Tensor:
        """The fingers (B, T, S, 15, 3, 3): of the latent where there is one."""
        if motion.latent.shape[-1] == 0:
            return motion.pose
        assert self.body.decoder is not None
        frames = motion.pose.shape[1]
        times = torch.arange(frames).to(motion.wrist) / self.evidence.fps[:, None]
        decoded = self.body.decoder.decode(motion.latent, times).to(motion.pose)
        there = self.evidence.present[:, None, :, None, None, None]
        return torch.where(there, decoded, motion.pose)

    def camera(self, motion: Motion) -> tuple[Tensor, Tensor]:
        """Camera from world: (B, T, 3, 3), (B, T, 3) metres."""
        evidence = self.evidence
        scale = motion.log_scale.exp()[:, None, None]
        rotation = motion.camera_turn @ evidence.camera_rotation
        return rotation, scale * evidence.camera_translation + motion.camera_shift

    def rescaled(self, motion: Motion, log_scale: Tensor) -> Motion:
        """Another scale (B,) of the world, the hands where the camera sees them."""
        rotation, _ = self.camera(motion)
        change = (motion.log_scale.exp() - log_scale.exp())[:, None, None]
        moved = change * self.evidence.camera_translation
        wrist = motion.wrist + (moved[:, :, None] @ rotation)
        return replace(motion, wrist=wrist, log_scale=log_scale)

    def near(self, motion: Motion) -> Near:
        """Look for penetration in the frames whose hands are near each other; no gradient."""
        with torch.no_grad():
            view = self.view(motion)
            joints = view.skeleton.joints
            low, high = joints.amin(-2) - NEAR, joints.amax(-2) + NEAR
            apart = ((low[:, :, 0] > high[:, :, 1]) | (low[:, :, 1] > high[:, :, 0])).any(-1)
            both = self.evidence.present.all(-1)[:, None]
            clip, frame = (~apart & both & self.evidence.free.any(-1)).nonzero(as_tuple=True)
            vertices = self.vertices(view, motion, clip, frame)
            contacts = Contacts.find(vertices, self.body.closed_faces, self.body.areas)
        # pairs without a contact need not be skinned again
        used, number = torch.unique(contacts.hand, return_inverse=True)
        return Near(clip[used], frame[used], Contacts(**(vars(contacts) | {"hand": number})))

    def vertices(self, view: View, motion: Motion, clip: Tensor, frame: Tensor) -> Tensor:
        """Meshes (N, S, V, 3) of N frames, in the world."""
        skeleton = view.skeleton
        some = PosedSkeleton(
            skeleton.joints[clip, frame],
            skeleton.rotations[clip, frame],
            skeleton.origins[clip, frame],
            skeleton.rest.expand(*skeleton.origins.shape)[clip, frame],
        )
        return self.body.skeleton.vertices(some, view.pose[clip, frame], motion.betas[clip])

    def energies(self, motion: Motion, stage: Stage, near: Near | None) -> dict[str, Tensor]:
        """A stage's terms, weighted: (B,) each.

        Args:
            motion: the unknowns.
            stage: which terms.
            near: where the hands touch; wanted by penetration.
        """
        kernels, evidence = stage.kernels, self.evidence
        view = self.view(motion)
        share, data, fps = evidence.share, evidence.data_share, evidence.fps
        turned = view.rotation[:, :, None] @ motion.orientation
        unseen = (share - evidence.share * evidence.observed).clamp_min(0)
        values = {
            "reprojection": lambda: terms.reprojection(
                view.projected,
                evidence.joints_2d,
                evidence.joints_2d_confidence,
                evidence.size,
                share * evidence.observed,
                kernels.reprojection,
            ),
            "orientation": lambda: terms.orientation_to_estimate(
                turned, evidence.orientation, data, kernels.orientation
            ),
            "translation": lambda: terms.translation_to_estimate(
                view.wrist, evidence.wrist, data, kernels.depth_weight, kernels.translation
            ),
            "pose": lambda: terms.pose_to_estimate(view.pose, evidence.pose, data, kernels.pose),
            "velocity": lambda: terms.velocity(view.skeleton.joints, fps, _over_time(share)),
            "acceleration": lambda: terms.acceleration(
                view.skeleton.joints, fps, _over_time(share)
            ),
            "turning_speed": lambda: terms.turning_speed(
                motion.orientation, fps, _over_time(share)
            ),
            "shape": lambda: terms.shape_size(motion.betas, _over_time(share)),
            "shape_estimate": lambda: terms.shape_to_estimate(
                motion.betas, evidence.betas, _over_time(share)
            ),
            "shape_symmetry": lambda: terms.shape_symmetry(motion.betas, evidence.present.all(-1)),
            "latent": lambda: terms.latent_likelihood(motion.latent, _over_time(share)),
            "pose_likelihood": lambda: terms.pose_likelihood(
                view.pose,
                self.body.pose_mean,
                self.body.pose_whitening,
                share.expand_as(evidence.confidence),
            ),
            "completion": lambda: terms.pose_to_completion(
                view.pose, evidence.completion, evidence.completion_precision, unseen
            ),
            "camera": lambda: terms.camera_to_trajectory(
                motion.camera_turn, motion.camera_shift, kernels.camera_lever
            ),
            "camera_smoothness": lambda: terms.camera_smoothness(
                motion.camera_turn, motion.camera_shift, fps, kernels.camera_lever
            ),
            "scale": lambda: terms.scale_prior(
                motion.log_scale, evidence.scale_start, evidence.scale_deviation
            ),
            "focal": lambda: terms.focal_prior(motion.log_focal, kernels.focal_deviation),
            "joint_angles": lambda: biomechanics.joint_angles(
                view.pose,
                self.body.anatomy,
                share.expand_as(evidence.confidence),
                kernels.angle_margin,
            ),
            "bone_lengths": lambda: biomechanics.bone_lengths(
                self.resting_joints(motion), _over_time(share)[:, 0]
            ),
            "palm_shape": lambda: biomechanics.palm_shape(
                self.resting_joints(motion), _over_time(share)[:, 0]
            ),
            "penetration": lambda: self._penetration(view, motion, near, stage),
        }
        return {
            name: self.weight(stage, name) * value()
            for name, value in values.items()
            if getattr(stage.weights, name) > 0
        }

    def weight(self, stage: Stage, name: str) -> Tensor:
        """A term's weight in each clip, (B,)."""
        noise = self.evidence.noise
        return getattr(stage.weights, name) * (noise if name in BELIEFS else torch.ones_like(noise))

    def gives_way(self, near: Near) -> Tensor:
        """(N, S) bool: a hand that is seen does not move out of one that was only filled in."""
        seen = self.evidence.observed[near.clip, near.frame]
        return ~seen | seen.flip(-1)

    def contact_share(self, near: Near) -> Tensor:
        """(N,) how much of its clip each pair is: less where a hand's place is only guessed."""
        evidence = self.evidence
        share = evidence.share.sum(-1)[near.clip, 0]
        seen = evidence.observed[near.clip, near.frame].all(-1)
        return torch.where(seen, share, GUESSED_CONTACT * share)

    def resting_joints(self, motion: Motion) -> Tensor:
        """Joints (B, S, 21, 3) of flat hands of the motion's shape: lengths need no pose."""
        identity = torch.eye(3).to(motion.wrist)
        hands = motion.betas.shape[:-1]
        return self.body.skeleton(
            identity.expand(*hands, 3, 3),
            motion.wrist.new_zeros(*hands, 3),
            identity.expand(*hands, 15, 3, 3),
            motion.betas,
        ).joints

    def _penetration(self, view: View, motion: Motion, near: Near | None, stage: Stage) -> Tensor:
        assert near is not None
        vertices = self.vertices(view, motion, near.clip, near.frame)
        gives_way = self.gives_way(near)[..., None, None]
        vertices = torch.where(gives_way, vertices, vertices.detach())
        return penetration(
            vertices,
            near.contacts,
            self.contact_share(near),
            near.clip,
            len(motion.wrist),
            stage.kernels.penetration_margin,
        )


def _over_time(share: Tensor) -> Tensor:
    """(B, 1, S) of each hand, whatever the number of frames; sums to one over hands."""
    return share / share.sum((1, 2), keepdim=True).clamp_min(1e-12)


def _project(joints: Tensor, intrinsics: Tensor) -> Tensor:
    """As `geometry.camera.project`, but without a kink: far behind the camera stays far away."""
    homogeneous = joints @ intrinsics[:, None, None].mT
    depth = homogeneous[..., 2:].clamp_min(1e-3)
    return homogeneous[..., :2] / depth
