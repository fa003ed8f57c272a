"""What refinement is given, and what it gives back."""

from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

from fourdhands.skeleton import NUM_SIDES, Side
from fourdhands.structures import HandState, TensorStruct

MIN_DEPTH: Final = 0.02  # metres; no camera sees a wrist that is nearer
SAME_PLACE: Final = 0.03  # of the hand's size in the picture
TWINS: Final = 0.5  # share of frames


@dataclass(frozen=True)
class ObservedClip(TensorStruct):
    """The network's word on B clips of T frames, S = 2 hands; camera frame, metres, pixels.

    Numbers of hands that are not observed are never looked at.

    Attributes:
        hands: dimensions (B, T, S).
        observed: (B, T, S) bool, whether the frame shows the hand and the network found it.
        confidence: (B, T, S) 0 to 1, the weight of what the network says of the hand.
        joints_2d: (B, T, S, J, 2) where the 2D branch or a detector sees the joints.
        joints_2d_confidence: (B, T, S, J) 0 to 1; 0 where there is none.
        intrinsics: (B, 3, 3).
        fps: (B,) frames a second.
    """

    hands: HandState
    observed: Tensor
    confidence: Tensor
    joints_2d: Tensor
    joints_2d_confidence: Tensor
    intrinsics: Tensor
    fps: Tensor

    @property
    def num_frames(self) -> int:
        """T."""
        return self.observed.shape[1]

    @property
    def present(self) -> Tensor:
        """(B, S) bool: hands that are seen in some frame; others are left alone."""
        return self.observed.any(1)

    def frames(self, start: int, stop: int) -> "ObservedClip":
        """Some of the frames."""
        cut = slice(start, stop)
        return ObservedClip(
            hands=self.hands[:, cut],
            observed=self.observed[:, cut],
            confidence=self.confidence[:, cut],
            joints_2d=self.joints_2d[:, cut],
            joints_2d_confidence=self.joints_2d_confidence[:, cut],
            intrinsics=self.intrinsics,
            fps=self.fps,
        )


@dataclass(frozen=True)
class RefinedClip(TensorStruct):
    """Hands over time, in the world and as the camera sees them.

    Attributes:
        hands: camera frame, dimensions (B, T, S).
        hands_in_world: the same in the frame of the camera trajectory, at metric scale.
        joints: (B, T, S, J, 3) camera frame.
        cam_from_world: (B, T, 4, 4) metres.
        intrinsics: (B, 3, 3), refined if a stage says so.
        completed: (B, T, S) bool, frames of a hand that were not observed.
        present: (B, S) bool, hands that were refined.
        world_scale: (B,) metres a unit of the trajectory.
        world_scale_deviation: (B,) standard deviation of its logarithm; infinite where nothing
            tells it, 0 where it was given.
        static: (B,) bool, whether the camera was taken to stand still.
        diverged: (B,) bool, whether a stage failed and its best state was kept.
        energies: of each stage, by term: (B,) weighted, in the order of the stages.
        notes: what the user should know, a line each.
    """

    hands: HandState
    hands_in_world: HandState
    joints: Tensor
    cam_from_world: Tensor
    intrinsics: Tensor
    completed: Tensor
    present: Tensor
    world_scale: Tensor
    world_scale_deviation: Tensor
    static: Tensor
    diverged: Tensor
    energies: tuple[tuple[str, dict[str, list[float]]], ...] = ()
    notes: tuple[str, ...] = field(default=())


def checked(clip: ObservedClip, joints: Tensor) -> ObservedClip:
    """Refuse clips that cannot be refined; clear what must not be looked at.

    Args:
        clip: as the user gave it.
        joints: (B, T, S, J, 3) of `clip.hands`, camera frame.

    Returns:
        The same in double precision, neutral numbers in place of hands that are not observed.

    Raises:
        ValueError: shapes differ, an observed hand holds numbers that are not finite or lies behind
            the camera, no hand is observed, a focal length or a frame rate is not positive, or both
            hands are the same one.
    """
    _check_shapes(clip)
    observed = clip.observed
    if not observed.flatten(1).any(1).all():
        raise ValueError(
            "the clip shows no hand: in no frame is one observed with enough confidence (the gate "
            "is config.confidence)"
        )
    for name, values in (*vars(clip.hands).items(), ("joints_2d", clip.joints_2d)):
        used = clip.joints_2d_confidence > 0 if name == "joints_2d" else observed
        used = used & observed[..., None] if name == "joints_2d" else used
        broken = ~values.flatten(used.dim()).isfinite().all(-1) & used
        if broken.any():
            frame, side = broken.nonzero()[0, 1:3].tolist()
            hand = Side(side).name.lower()
            raise ValueError(
                f"{name} of the {hand} hand in frame {frame} are not finite; mark the hand as not "
                "observed there"
            )
    for name, values in (("confidence", clip.confidence[observed]), ("fps", clip.fps)):
        if not values.isfinite().all() or (values < 0).any():
            raise ValueError(f"{name} holds numbers that are negative or not finite")
    if not (clip.fps > 0).all():
        raise ValueError(f"fps is {clip.fps.min():g}, it has to be positive")
    focal = clip.intrinsics[:, (0, 1), (0, 1)]
    if not (clip.intrinsics.isfinite().all() and (focal > 0).all()):
        raise ValueError(
            f"the focal length is {focal.min():g} pixels, it has to be positive; without "
            "intrinsics one is assumed"
        )
    behind = (joints[..., 2].mean(-1) < MIN_DEPTH) & observed
    if behind.any():
        frame, side = behind.nonzero()[0, 1:].tolist()
        raise ValueError(
            f"the {Side(side).name.lower()} hand of frame {frame} is behind the camera (z forward)"
        )
    _check_twins(clip, joints)
    return _cleared(clip)


def _check_shapes(clip: ObservedClip) -> None:
    shape = clip.observed.shape
    if len(shape) != 3 or shape[2] != NUM_SIDES or shape[1] < 1:
        raise ValueError(f"observed is {tuple(shape)}, it has to be (clips, frames, 2 hands)")
    clips = shape[0]
    wanted = {
        "confidence": shape,
        "joints_2d": (*shape, 21, 2),
        "joints_2d_confidence": (*shape, 21),
        "intrinsics": (clips, 3, 3),
        "fps": (clips,),
    }
    found = {name: getattr(clip, name).shape for name in wanted}
    wanted |= {
        "global_orient": (*shape, 3, 3),
        "hand_pose": (*shape, 15, 3, 3),
        "betas": (*shape, 10),
        "transl": (*shape, 3),
    }
    found |= {name: value.shape for name, value in vars(clip.hands).items()}
    for name, size in wanted.items():
        if tuple(found[name]) != tuple(size):
            raise ValueError(f"{name} is {tuple(found[name])}, it has to be {tuple(size)}")


def _check_twins(clip: ObservedClip, joints: Tensor) -> None:
    """Both hands on the same pixels in most frames: one of them has the wrong side."""
    both = clip.observed.all(-1)
    size = hand_size_in_picture(clip.intrinsics, joints[..., 0, 2])[..., 0]
    seen = clip.joints_2d_confidence.amin(-2) > 0  # of both
    apart = (clip.joints_2d[:, :, 0] - clip.joints_2d[:, :, 1]).norm(dim=-1)
    apart = torch.where(seen, apart, 0.0).sum(-1) / seen.sum(-1).clamp_min(1)
    twins = both & seen.any(-1) & (apart < SAME_PLACE * size)
    share = twins.sum(1) / both.sum(1).clamp_min(1)
    if (share > TWINS).any():
        raise ValueError(
            f"in {int(twins.sum())} frames both hands are on the same pixels, joint by joint: the "
            "right and the left one are the same hand; leave out the wrong one"
        )


def hand_size_in_picture(intrinsics: Tensor, depth: Tensor) -> Tensor:
    """Pixels that a hand's length takes up at a depth: (B, 3, 3), (B, T, S) to (B, T, S)."""
    focal = intrinsics[:, (0, 1), (0, 1)].mean(-1)
    return focal[:, None, None] * HAND_LENGTH / depth.clamp_min(MIN_DEPTH)


HAND_LENGTH: Final = 0.18
"""Metres from the wrist to the tip of the middle finger: the unit of residuals in pictures."""


def _cleared(clip: ObservedClip) -> ObservedClip:
    observed = clip.observed
    identity = torch.eye(3, dtype=torch.float64, device=observed.device)

    def where(values: Tensor, other: Tensor | float) -> Tensor:
        mask = observed[(...,) + (None,) * (values.dim() - observed.dim())]
        other = torch.as_tensor(other, dtype=torch.float64, device=observed.device)
        return torch.where(mask, values.double(), other)

    hands = HandState(
        global_orient=where(clip.hands.global_orient, identity),
        hand_pose=where(clip.hands.hand_pose, identity),
        betas=where(clip.hands.betas, 0.0),
        transl=where(clip.hands.transl, 0.0),
    )
    seen = observed[..., None] & (clip.joints_2d_confidence > 0)
    nothing = torch.zeros((), dtype=torch.float64, device=observed.device)
    return ObservedClip(
        hands=hands,
        observed=observed,
        confidence=where(clip.confidence, 0.0),
        joints_2d=torch.where(seen[..., None], clip.joints_2d.double(), nothing),
        joints_2d_confidence=torch.where(seen, clip.joints_2d_confidence.double(), nothing),
        intrinsics=clip.intrinsics.double(),
        fps=clip.fps.double(),
    )
