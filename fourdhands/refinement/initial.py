"""Stage I: from the network's frames to a first motion (Dyn-HaMR I).

Sources are merged in order of trust, hands that their own 2D joints contradict are dropped, hands
are placed where their size in the picture says, the camera's scale is found, gaps are filled.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from numpy.typing import NDArray
from torch import Tensor

from fourdhands.hands.posing import HandSkeleton
from fourdhands.refinement.clip import ObservedClip, hand_size_in_picture
from fourdhands.refinement.motion import Motion, turn, turning
from fourdhands.refinement.terms import robust_weight
from fourdhands.refinement.world_scale import WorldScale, find_world_scale
from fourdhands.structures import HandState

ENOUGH_JOINTS: Final = 6  # seen joints that place a hand
SHIFT_ROUNDS: Final = 6
SHIFT_SIGMA: Final = 0.1  # in parts of the hand's size
TYPICAL_DISAGREEMENT: Final = 0.085  # of the hand's size
TYPICAL_TREMBLE: Final = 0.0075  # metres
LEAST_NOISE: Final = 1e-6
MOST_NOISE: Final = 4.0
PULL: Final = 0.05  # of the network's own place, against one joint's
FITS: Final = 0.1  # of the hand's size; median distance of 2D joints from a fitting hand's
MOST_MISFIT: Final = 100.0


@dataclass(frozen=True)
class Estimate:
    """What the network says, made consistent; camera frame.

    Attributes:
        clip: with what is not believed marked as not observed.
        wrist: (B, T, S, 3) the network's.
        placed: (B, T, S, 3) where the hand's size in the picture puts it.
        middle: (B, T, S, 3) mean of the joints of the hand that is placed so.
        betas: (B, S, 10) means over time.
        size: (B, T, S) pixels of a hand's length.
    """

    clip: ObservedClip
    wrist: Tensor
    placed: Tensor
    middle: Tensor
    betas: Tensor
    size: Tensor


def merge_sources(sources: Sequence[ObservedClip], confidence: float = 0.0) -> ObservedClip:
    """Merge several methods' hands, in order of trust: each hand of each frame from the first.

    2D joints come from the first source that sees them, joint by joint. Cameras and frame rates
    are the first source's.

    Args:
        sources: of the same frames.
        confidence: a source is passed over where it is less sure than this.

    Raises:
        ValueError: there is none, or they differ in length.
    """
    if not sources:
        raise ValueError("there is no source of hands")
    merged = sources[0]
    merged = replace(merged, observed=merged.observed & (merged.confidence >= confidence))
    for number, other in enumerate(sources[1:], 2):
        if other.observed.shape != merged.observed.shape:
            raise ValueError(
                f"source {number} has {tuple(other.observed.shape)} clips, frames and hands, the "
                f"first {tuple(merged.observed.shape)}"
            )
        better = ~merged.observed & other.observed & (other.confidence >= confidence)
        seen = merged.joints_2d_confidence > 0
        merged = replace(
            merged,
            hands=HandState(
                **{
                    name: _where(better, getattr(other.hands, name), value)
                    for name, value in vars(merged.hands).items()
                }
            ),
            observed=merged.observed | better,
            confidence=_where(better, other.confidence, merged.confidence),
            joints_2d=_where(seen, merged.joints_2d, other.joints_2d),
            joints_2d_confidence=_where(
                seen, merged.joints_2d_confidence, other.joints_2d_confidence
            ),
        )
    return merged


def estimate(clip: ObservedClip, skeleton: HandSkeleton, disagreement: float) -> Estimate:
    """Make the network's hands consistent: one shape, places by size, nothing contradictory.

    Args:
        clip: checked.
        skeleton: of the hands.
        disagreement: see `RefinementConfig`.
    """
    hands, observed = clip.hands, clip.observed
    weight = clip.confidence * observed
    total = weight.sum(1).clamp_min(1e-9)
    betas = (hands.betas * weight[..., None]).sum(1) / total[..., None]
    wrist = hands.transl + skeleton.rest_joints(hands.betas)[..., 0, :]
    posed = skeleton(hands.global_orient, torch.zeros_like(wrist), hands.hand_pose, betas[:, None])
    size = hand_size_in_picture(clip.intrinsics, wrist[..., 2])
    placed, off = shift_to_picture(
        posed.joints, wrist, clip.joints_2d, clip.joints_2d_confidence, clip.intrinsics, size
    )
    believed = observed & ~(off > disagreement)
    # a clip whose every hand is contradicted has other troubles: then 2D and 3D do not belong
    # together, which is for `camera_motion` and the user to see
    believed = torch.where(believed.any(1, keepdim=True), believed, observed)
    size = hand_size_in_picture(clip.intrinsics, placed[..., 2])
    middle = placed + posed.joints.mean(-2)
    return Estimate(replace(clip, observed=believed), wrist, placed, middle, betas, size)


def shift_to_picture(
    joints: Tensor,
    wrist: Tensor,
    seen: Tensor,
    confidence: Tensor,
    intrinsics: Tensor,
    size: Tensor,
) -> tuple[Tensor, Tensor]:
    """Place posed hands where their 2D joints are: closed form, robust by a few rounds.

    With pixels as directions u, (X + t)_xy = u (X + t)_z is linear in t; the hand's own size makes
    t metric.

    Args:
        joints: (B, T, S, J, 3) relative to the wrist, camera axes.
        wrist: (B, T, S, 3) where to start.
        seen: (B, T, S, J, 2) pixels.
        confidence: (B, T, S, J).
        intrinsics: (B, 3, 3).
        size: (B, T, S) pixels of a hand's length.

    Returns:
        (B, T, S, 3), the start where too little is seen; and (B, T, S) the median distance in
        pictures that is left, in parts of the size, 0 where too little is seen.
    """
    homogeneous = torch.cat((seen, torch.ones_like(seen[..., :1])), -1)
    rays = homogeneous @ torch.linalg.inv(intrinsics).mT[:, None, None]
    focal = intrinsics[:, (0, 1), (0, 1)].mean(-1)[:, None, None, None]
    zero, one = torch.zeros_like(rays[..., 0]), torch.ones_like(rays[..., 0])
    rows = torch.stack(
        (
            torch.stack((one, zero, -rays[..., 0]), -1),
            torch.stack((zero, one, -rays[..., 1]), -1),
        ),
        -2,
    )  # (B, T, S, J, 2, 3)
    wanted = rays[..., :2] * joints[..., 2:] - joints[..., :2]
    place = wrist
    usable = confidence > 0
    squared = torch.zeros_like(confidence)
    for _ in range(SHIFT_ROUNDS):
        depth = (joints[..., 2] + place[..., None, 2]).clamp_min(1e-2)
        off = (rows @ place[..., None, :, None])[..., 0] - wanted
        squared = (off.norm(dim=-1) * focal / depth / size[..., None]).square()
        weight = confidence * robust_weight(squared, SHIFT_SIGMA)
        normal = (rows.mT @ (rows * weight[..., None, None])).sum(-3)
        right = (rows.mT @ (wanted * weight[..., None])[..., None]).sum(-3)[..., 0]
        # across the line of sight one joint is enough; along it the network's word is a weak tie,
        # a strong one where pose and picture do not fit: then size says little
        misfit = (_median(squared, usable) / FITS**2).clamp(1, MOST_MISFIT)
        tie = PULL * misfit[..., None, None] * weight.sum(-1).clamp_min(1e-6)[..., None, None] / 21
        tie = tie * torch.eye(3).to(normal)
        place = torch.linalg.solve(normal + tie, right + (tie @ wrist[..., None])[..., 0])
    enough = (usable.sum(-1) >= ENOUGH_JOINTS) & (place[..., 2] > 0.05)
    distance = _median(squared, usable).sqrt()
    return _where(enough, place, wrist), torch.where(enough, distance, 0.0)


def noise_level(estimated: Estimate, skeleton: HandSkeleton, rotation: Tensor) -> Tensor:
    """How noisy the network is, as a variance beside that of a typical one: (B,).

    The larger of two: how far its hands lie from their own 2D joints, and how much its hands
    tremble, by fourth differences, which true motion hardly has. A network that is never wrong
    leaves nothing to smooth.

    Args:
        estimated: of the clips.
        skeleton: of the hands.
        rotation: (B, T, 3, 3) camera from world: a camera's trembling is none of the hands.
    """
    clip = estimated.clip
    hands = clip.hands
    joints = skeleton(
        hands.global_orient, estimated.wrist, hands.hand_pose, estimated.betas[:, None]
    ).joints
    homogeneous = joints @ clip.intrinsics.mT[:, None, None]
    projected = homogeneous[..., :2] / homogeneous[..., 2:].clamp_min(1e-3)
    off = (projected - clip.joints_2d).norm(dim=-1) / estimated.size[..., None]
    seen = (clip.joints_2d_confidence > 0) & clip.observed[..., None]
    disagreement = _median(off.flatten(1), seen.flatten(1)) / TYPICAL_DISAGREEMENT
    still = (joints - joints[..., :1, :]) @ rotation[:, :, None]  # R^T x, as rows
    if clip.num_frames < 5:
        tremble = torch.ones_like(disagreement)
    else:
        differences = still.diff(n=4, dim=1).norm(dim=-1) / 70**0.5
        runs = clip.observed.unfold(1, 5, 1).all(-1)[..., None].expand_as(differences)
        moving, runs = differences[..., 1:].flatten(1), runs[..., 1:].flatten(1)
        tremble = torch.where(runs.any(1), _median(moving, runs) / TYPICAL_TREMBLE, 1.0)
    level = torch.maximum(disagreement, tremble).square()
    return level.clamp(LEAST_NOISE, MOST_NOISE)


def _median(values: Tensor, where: Tensor) -> Tensor:
    """Along the last dimension; 0 where there is nothing."""
    medians = torch.where(where, values, torch.nan).nanmedian(-1).values
    return torch.where(where.any(-1), medians, 0.0)


def first_scale(estimated: Estimate, rotation: Tensor, translation: Tensor) -> list[WorldScale]:
    """Closed-form scale of each clip; see `world_scale`.

    Hands' middles are better known than their wrists, which a wrong orientation puts nearer or
    farther.
    """
    clip = estimated.clip

    def array(values: Tensor) -> NDArray[Any]:
        return values.detach().cpu().numpy()

    return [
        find_world_scale(
            array(estimated.middle[k]),
            array(clip.observed[k]),
            array(rotation[k]),
            array(translation[k]),
            float(clip.fps[k]),
        )
        for k in range(len(clip.fps))
    ]


def first_motion(
    estimated: Estimate, rotation: Tensor, translation: Tensor, log_scale: Tensor
) -> Motion:
    """Hands in the world, gaps filled by spherical interpolation, ends held.

    Args:
        estimated: of the clips.
        rotation: (B, T, 3, 3) camera from world.
        translation: (B, T, 3) units of the trajectory.
        log_scale: (B,).
    """
    clip = estimated.clip
    scale = log_scale.exp()[:, None, None]
    back = rotation.mT[:, :, None]
    orientation = back @ clip.hands.global_orient
    wrist = (back @ (estimated.placed - (scale * translation)[:, :, None])[..., None])[..., 0]
    gaps = Gaps.of(clip.observed)
    B, T = clip.observed.shape[:2]
    like = wrist
    return Motion(
        orientation=gaps.fill_rotations(orientation),
        wrist=gaps.fill(wrist),
        pose=gaps.fill_rotations(clip.hands.hand_pose),
        betas=estimated.betas,
        log_scale=log_scale,
        camera_turn=torch.eye(3).to(like).expand(B, T, 3, 3),
        camera_shift=like.new_zeros(B, T, 3),
        log_focal=like.new_zeros(B),
        latent=like.new_zeros(B, wrist.shape[2], 0),
    )


@dataclass(frozen=True)
class Gaps:
    """Between which observed frames each frame lies.

    Attributes:
        before: (B, T, S) the last observed frame that is not later; the first one before that.
        after: (B, T, S) the next observed frame that is not earlier; the last one after that.
        progress: (B, T, S) 0 at the one before, 1 at the one after.
    """

    before: Tensor
    after: Tensor
    progress: Tensor

    @classmethod
    def of(cls, observed: Tensor) -> "Gaps":
        """Hands that are never observed stay as they are."""
        T = observed.shape[1]
        own = torch.arange(T, device=observed.device)[:, None].expand_as(observed)
        before = torch.where(observed, own, -1).cummax(1).values
        after = torch.where(observed, own, T).flip(1).cummin(1).values.flip(1)
        never = ~observed.any(1, keepdim=True)
        low, high = torch.where(before < 0, after, before), torch.where(after >= T, before, after)
        low, high = torch.where(never, own, low), torch.where(never, own, high)
        length = (high - low).clamp_min(1)
        return cls(low, high, ((own - low) / length).clamp(0, 1).double())

    def fill(self, values: Tensor) -> Tensor:
        """Linear interpolation of (B, T, S, ...)."""
        start, end = self._take(values, self.before), self._take(values, self.after)
        return start + self._wide(self.progress, values) * (end - start)

    def fill_rotations(self, values: Tensor) -> Tensor:
        """Spherical interpolation of (B, T, S, ..., 3, 3)."""
        start, end = self._take(values, self.before), self._take(values, self.after)
        step = turning(start, end)
        return start @ turn(step * self._wide(self.progress, step))

    def total(self, values: Tensor) -> Tensor:
        """Sums of (B, T, S) over each gap, at all its frames."""
        sums = torch.zeros_like(values).scatter_add(1, self.before, values)
        return sums.gather(1, self.before)

    @staticmethod
    def _take(values: Tensor, index: Tensor) -> Tensor:
        wide = Gaps._wide(index, values).expand(*index.shape, *values.shape[3:])
        return values.gather(1, wide)

    @staticmethod
    def _wide(values: Tensor, like: Tensor) -> Tensor:
        return values[(...,) + (None,) * (like.dim() - values.dim())]


def _where(mask: Tensor, values: Tensor, other: Tensor) -> Tensor:
    return torch.where(mask[(...,) + (None,) * (values.dim() - mask.dim())], values, other)
