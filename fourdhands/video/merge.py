"""One clip of hands from all that is known of them: the detector's joints and the network.

Each source vouches for the other. The detector's joints are independent evidence of where a hand
is; a network that is confident and lies on them is trusted with the pose, and where it is not, the
joints are followed by inverse kinematics.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import torch
from torch import Tensor

from fourdhands.geometry.camera import project
from fourdhands.hands.posing import HandSkeleton
from fourdhands.refinement.clip import HAND_LENGTH
from fourdhands.skeleton import NUM_BETAS, NUM_JOINTS, NUM_SIDES, Side
from fourdhands.structures import HandState
from fourdhands.video.kinematics import SeenJoints, fit_hands, fit_shape
from fourdhands.video.network_pass import NetworkHands
from fourdhands.video.track import PairTrack, smooth_boxes

AGREE: Final = 0.12
"""Hand sizes between the network's joints and the detector's at which trust is down to 1 / e."""
FIT: Final = 0.1
"""Hand sizes between the posed hand and its joints at which confidence is down to 1 / e."""
BRIDGED: Final = 0.3
"""Confidence of hands that the network sees and the detector does not, at most."""
SHAPE_FRAMES: Final = 20.0
"""Frames of a trusted network that count as much as the mean shape does."""
SHAPE_SAMPLES: Final = 96
SHAPE_ROUNDS: Final = 2
LEAST_TRUST: Final = 0.05
AT_ONCE: Final = 256  # frames that are solved together


class Source(IntEnum):
    """Where a hand's pose comes from."""

    NOTHING = 0
    DETECTOR = 1
    NETWORK = 2
    BOTH = 3


@dataclass(frozen=True)
class TrackArrays:
    """A pair's detections over the T frames of a shot.

    Attributes:
        detected: (T, S) where the detector saw the hand.
        boxes: (T, S, 4) smooth boxes, short gaps bridged.
        boxed: (T, S) where there is one.
        seen: the detector's joints.
        scores: (T, S) of the detections.
        detected_boxes: (T, S, 4) as detected.
    """

    detected: Tensor
    boxes: Tensor
    boxed: Tensor
    seen: SeenJoints
    scores: Tensor
    detected_boxes: Tensor


@dataclass(frozen=True)
class MergedHands:
    """Hands of a pair over T frames, each frame by itself.

    Attributes:
        hands: (T, S), camera frame, double precision.
        observed: (T, S) where there is one.
        confidence: (T, S) 0 to 1.
        joints_2d: (T, S, 21, 2) the evidence in pixels.
        joint_confidence: (T, S, 21) 0 to 1.
        source: (T, S) of `Source`.
    """

    hands: HandState
    observed: Tensor
    confidence: Tensor
    joints_2d: Tensor
    joint_confidence: Tensor
    source: Tensor


def track_arrays(pair: PairTrack, frames: int, fps: float) -> TrackArrays:
    """The detections of a pair as arrays."""
    J = NUM_JOINTS
    detected = np.zeros((frames, NUM_SIDES), bool)
    has_3d = np.zeros((frames, NUM_SIDES), bool)
    bbox = np.zeros((frames, NUM_SIDES, 4), np.float32)
    score = np.zeros((frames, NUM_SIDES), np.float32)
    joints_2d = np.zeros((frames, NUM_SIDES, J, 2))
    joint_scores = np.zeros((frames, NUM_SIDES, J))
    joints_3d = np.zeros((frames, NUM_SIDES, J, 3))
    for side in Side:
        for frame, hand in pair.hands[side].items():
            at = frame, side
            detected[at], bbox[at], score[at] = True, hand.bbox, hand.score
            if hand.joints_2d is not None and hand.joint_scores is not None:
                joints_2d[at], joint_scores[at] = hand.joints_2d, hand.joint_scores
            if hand.joints_3d is not None:
                joints_3d[at], has_3d[at] = hand.joints_3d, True
    smooth = [smooth_boxes(bbox[:, side], detected[:, side], fps) for side in Side]
    tensor = torch.from_numpy
    return TrackArrays(
        detected=tensor(detected),
        boxes=tensor(np.stack([boxes for boxes, _ in smooth], 1)),
        boxed=tensor(np.stack([boxed for _, boxed in smooth], 1)),
        seen=SeenJoints(tensor(joints_2d), tensor(joint_scores), tensor(joints_3d), tensor(has_3d)),
        scores=tensor(score),
        detected_boxes=tensor(bbox),
    )


def merge(
    track: TrackArrays,
    network: NetworkHands | None,
    threshold: float,
    intrinsics: Tensor,
    skeleton: HandSkeleton,
) -> MergedHands:
    """Merge the sources of one pair.

    Args:
        track: the detector's.
        network: of this pair alone, dimensions (T, S); None without a checkpoint.
        threshold: confidence above which the network is confident; NaN if nobody knows.
        intrinsics: (3, 3).
        skeleton: of the hands, in double precision.
    """
    seen, K = track.seen, intrinsics.double()
    if network is None:
        trust = torch.zeros_like(track.scores).double()
        start = None
        betas = torch.zeros(NUM_SIDES, NUM_BETAS).double()
    else:
        trust = _trust(track, network, threshold, K, skeleton)
        start = network.hands.map(Tensor.double)
        weight = trust[..., None]
        total = (start.betas * weight).sum((0, 1)) / (weight.sum((0, 1)) + SHAPE_FRAMES)
        betas = total.expand(NUM_SIDES, -1)
        seen = _with_direct_joints(seen, network, trust)
    betas = _shape(seen, K, betas, skeleton, start, trust)
    hands, left = _fit_in_pieces(seen, K, betas, skeleton, start, trust)
    looked = (seen.scores > 0).any(-1)
    usable = (seen.has_3d | (trust > LEAST_TRUST)) & looked
    finite = (hands.transl.isfinite().all(-1)) & (hands.transl[..., 2] > 0.03)
    observed = usable & finite & left.isfinite()
    fits = torch.exp(-(left / FIT).square()).nan_to_num(0.0)
    belief = torch.where(track.detected, track.scores.double(), BRIDGED * trust)
    confidence = torch.where(observed, (belief * fits).clamp(0.02, 1.0), 0.0)
    source = torch.where(observed & seen.has_3d, Source.DETECTOR, 0)
    source = source + torch.where(observed & (trust > LEAST_TRUST), Source.NETWORK, 0)
    return MergedHands(
        hands=hands,
        observed=observed,
        confidence=confidence,
        joints_2d=seen.joints_2d,
        joint_confidence=seen.scores * observed[..., None],
        source=source.to(torch.int8),
    )


def _trust(
    track: TrackArrays,
    network: NetworkHands,
    threshold: float,
    intrinsics: Tensor,
    skeleton: HandSkeleton,
) -> Tensor:
    """How far the network's pose is believed, (T, S) 0 to 1."""
    hands = network.hands.map(Tensor.double)
    wrist = hands.transl + skeleton.rest_joints(hands.betas)[..., 0, :]
    joints = skeleton(hands.global_orient, wrist, hands.hand_pose, hands.betas).joints
    confidence = network.confidence.double()
    floor = 0.8 if np.isnan(threshold) else threshold
    sure = ((confidence - floor) / (1 - floor)).nan_to_num(0.0).clamp(0, 1)
    projected = project(joints, intrinsics)
    size = intrinsics[0, 0] * HAND_LENGTH / joints[..., 0, 2].clamp_min(0.05)
    # the place is the crop's affair: the pose is judged by its shape in the picture
    ours = projected - projected.mean(-2, keepdim=True)
    theirs = track.seen.joints_2d - track.seen.joints_2d.mean(-2, keepdim=True)
    off = (ours - theirs).norm(dim=-1).mean(-1) / size
    with_joints = (track.seen.scores > 0).any(-1)
    agrees = torch.where(with_joints, torch.exp(-(off / AGREE).square()), 1.0)
    # a network without a 2D branch has no confidence: the detector alone vouches for it
    alone = network.confidence.isnan() & with_joints
    return torch.where(alone, agrees, sure * agrees) * track.boxed


def _with_direct_joints(seen: SeenJoints, network: NetworkHands, trust: Tensor) -> SeenJoints:
    """Where the detector gives no joints, those of the network's 2D branch, as far as trusted."""
    missing = (seen.scores == 0).all(-1) & (trust > LEAST_TRUST)
    direct = network.joints_2d.double()
    missing = missing & direct.isfinite().flatten(-2).all(-1)
    wide = missing[..., None]
    return SeenJoints(
        joints_2d=torch.where(wide[..., None], direct, seen.joints_2d),
        scores=torch.where(wide, 0.5 * trust[..., None], seen.scores),
        joints_3d=seen.joints_3d,
        has_3d=seen.has_3d,
    )


def _shape(
    seen: SeenJoints,
    intrinsics: Tensor,
    betas: Tensor,
    skeleton: HandSkeleton,
    start: HandState | None,
    trust: Tensor,
) -> Tensor:
    """The person's shape (S, 10) from frames spread over the shot; the given one without joints."""
    frames = seen.has_3d.any(-1).nonzero()[:, 0]
    if not len(frames):
        return betas
    frames = frames[torch.linspace(0, len(frames) - 1, min(SHAPE_SAMPLES, len(frames))).long()]
    some = SeenJoints(*(value[frames] for value in vars(seen).values()))
    for _ in range(SHAPE_ROUNDS):
        state, _ = fit_hands(
            some, intrinsics, betas, skeleton,
            start=None if start is None else start[frames], trust=trust[frames],
        )  # fmt: skip
        betas = fit_shape(some, state, intrinsics, skeleton).expand(NUM_SIDES, -1)
    return betas


def _fit_in_pieces(
    seen: SeenJoints,
    intrinsics: Tensor,
    betas: Tensor,
    skeleton: HandSkeleton,
    start: HandState | None,
    trust: Tensor,
) -> tuple[HandState, Tensor]:
    states, distances = [], []
    for first in range(0, len(trust), AT_ONCE):
        cut = slice(first, first + AT_ONCE)
        piece = SeenJoints(*(value[cut] for value in vars(seen).values()))
        state, left = fit_hands(
            piece, intrinsics, betas, skeleton,
            start=None if start is None else start[cut], trust=trust[cut],
        )  # fmt: skip
        states.append(state)
        distances.append(left)
    return HandState.cat(states), torch.cat(distances)


def filled(
    observed: Tensor, endings: Sequence[tuple[int, int]], fps: float, longest: float
) -> Tensor:
    """Frames in which a hand is shown: seen, or between two sights that are near enough.

    Args:
        observed: (T, S) bool.
        endings: (frame, side) after which the hand left the image.
        fps: frames a second.
        longest: seconds that a gap may be; a tenth of it where the hand left the image.
    """
    shown = observed.clone()
    left = set(endings)
    for side in range(observed.shape[1]):
        frames = observed[:, side].nonzero()[:, 0].tolist()
        for before, after in itertools.pairwise(frames):
            allowed = longest / 10 if (before, side) in left else longest
            if after - before <= allowed * fps + 1:
                shown[before:after, side] = True
    return shown
