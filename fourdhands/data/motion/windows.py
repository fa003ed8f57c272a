"""From motion clips to windows of right-hand motion on one time base, and the masks that hide them.

Left hands are mirrored; clips are resampled by slerp; hands that never move are left out. All
windows of a set lie in one array in memory, 360 bytes a frame.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fourdhands.data.motion.clips import MotionClip
from fourdhands.geometry.rotation import matrix_from_axis_angle, mirror_rotation, slerp
from fourdhands.skeleton import NUM_SIDES, Side
from fourdhands.structures import TensorStruct


@dataclass(frozen=True)
class WindowConfig:
    """Which recorded motion is used.

    Attributes:
        min_seconds: shorter stretches of a hand are left out.
        min_variance: hands whose axis-angle values vary less over a stretch, in square radians
            averaged over the 45, are left out: they were not tracked, or held still.
        trim: share of every stretch that is cut off at either end, where recordings start and end.
    """

    min_seconds: float = 1.0
    min_variance: float = 5e-3
    trim: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.min_seconds <= 0 or self.min_variance < 0 or not 0 <= self.trim < 0.5:
            raise ValueError(
                f"min_seconds is {self.min_seconds}, min_variance {self.min_variance}, trim "
                f"{self.trim}: they have to be positive, at least 0, and in [0, 0.5)"
            )


@dataclass(frozen=True)
class MotionWindows(TensorStruct):
    """Windows on the time grid, as right hands.

    Attributes:
        rotations: (N, T, S, 15, 3, 3); identities where not valid. Of windows of single hands S is
            1, and 2 of both hands: right, and left mirrored.
        valid: (N, T, S) bool.
    """

    rotations: Tensor
    valid: Tensor


class MotionData:
    """All stretches of a set, to cut windows from.

    Args:
        clips: of the set.
        frames: of a window.
        fps: of the time base.
        config: what is used.

    Raises:
        ValueError: nothing is left.

    Attributes:
        hands: stretches of single hands that are used.
        seconds: of motion that is used, all hands together.
        skipped: stretches that were left out, by reason.
    """

    def __init__(
        self, clips: Iterable[MotionClip], *, frames: int, fps: float, config: WindowConfig
    ) -> None:
        self.frames, self.fps = frames, fps
        self.skipped = {"too short": 0, "hardly moves": 0}
        chunks: list[Tensor] = []
        spans: list[tuple[int, int]] = []  # first frame and length of each stretch
        pairs: list[tuple[int, int, int]] = []  # right's and left's first frame, common length
        used = 0
        for clip in clips:
            firsts: dict[Side, int] = {}
            for side in Side:
                for start, end in _runs(clip.valid[:, side]):
                    poses = self._stretch(clip, side, start, end, config)
                    if poses is None:
                        continue
                    chunks.append(poses)
                    spans.append((used, len(poses)))
                    if end - start == clip.num_frames:
                        firsts[side] = used
                    used += len(poses)
            if len(firsts) == NUM_SIDES:
                pairs.append((firsts[Side.RIGHT], firsts[Side.LEFT], spans[-1][1]))
        if not chunks:
            raise ValueError(
                f"no motion to learn from: {self.skipped['too short']} stretches are shorter than "
                f"{config.min_seconds} s, {self.skipped['hardly moves']} hardly move"
            )
        self._poses = torch.cat(chunks)
        self._spans, self._pairs = torch.tensor(spans), torch.tensor(pairs)
        self.hands, self.seconds = len(spans), used / fps

    def draw(self, count: int, generator: torch.Generator) -> MotionWindows:
        """Windows of single hands, S = 1; every second of motion is as likely."""
        weights = self._spans[:, 1].double()
        chosen = self._spans[torch.multinomial(weights, count, True, generator=generator)]
        return self._cut(chosen[:, :1], chosen[:, 1], generator)

    def draw_pairs(self, count: int, generator: torch.Generator) -> MotionWindows | None:
        """Windows of both hands at once, S = 2; None if the set has no such clips."""
        if not len(self._pairs):
            return None
        weights = self._pairs[:, 2].double()
        chosen = self._pairs[torch.multinomial(weights, count, True, generator=generator)]
        return self._cut(chosen[:, :2], chosen[:, 2], generator)

    def _cut(self, firsts: Tensor, lengths: Tensor, generator: torch.Generator) -> MotionWindows:
        """Windows at random places of stretches (N, S); shorter ones are padded."""
        spare = (lengths - self.frames).clamp_min(0)
        starts = (torch.rand(len(firsts), generator=generator) * (spare + 1)).long()
        within = starts[:, None] + torch.arange(self.frames)
        valid = within < lengths[:, None]
        index = firsts[:, None] + torch.where(valid, within, 0)[..., None]
        columns = self._poses[index].unflatten(-1, (15, 2, 3))
        first, second = columns.unbind(-2)
        third = torch.linalg.cross(first, second)
        rotations = torch.stack([first, second, third], dim=-1)
        rotations = torch.where(valid[..., None, None, None, None], rotations, torch.eye(3))
        return MotionWindows(rotations, valid[..., None].expand(index.shape))

    def _stretch(
        self, clip: MotionClip, side: Side, start: int, end: int, config: WindowConfig
    ) -> Tensor | None:
        """Frames start .. end of one hand as (F, 90) 6D on the time base, or None."""
        cut = int(config.trim * (end - start))
        vectors = clip.hand_pose[start + cut : end - cut, side]
        if len(vectors) < max(2, config.min_seconds * clip.fps):
            self.skipped["too short"] += 1
            return None
        if np.var(vectors, axis=0).mean() < config.min_variance:
            self.skipped["hardly moves"] += 1
            return None
        rotations = matrix_from_axis_angle(torch.from_numpy(vectors))
        if side is Side.LEFT:
            rotations = mirror_rotation(rotations)
        rotations = resample(rotations, clip.fps, self.fps)
        return rotations[..., :2].mT.flatten(-3)


def resample(rotations: Tensor, fps: float, wanted: float) -> Tensor:
    """Bring a sequence to another rate by slerp between neighbours, with its first frame kept.

    Args:
        rotations: (F, ..., 3, 3).
        fps: frames a second.
        wanted: frames a second of the result.
    """
    if fps == wanted:
        return rotations
    count = int((len(rotations) - 1) * wanted / fps + 1e-6) + 1
    place = torch.arange(count) * (fps / wanted)
    before = place.long().clamp_max(len(rotations) - 2)
    share = (place - before).reshape(-1, *(1,) * (rotations.ndim - 3))
    return slerp(rotations[before], rotations[before + 1], share.to(rotations.dtype))


def sample_masks(count: int, frames: int, generator: torch.Generator) -> Tensor:
    """Which frames a hand is seen in: (count, frames) bool, as hands are lost in videos and worse.

    Gaps of all lengths anywhere, one or several; nothing before or after some time; scattered
    frames; low frame rates; now and then everything or nothing.
    """

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator)

    index = torch.arange(frames)
    kind = uniform()
    seen = torch.ones(count, frames, dtype=torch.bool)
    for share in (0.85, 0.3, 0.1):  # of the gaps, the first, second and third
        length = 4 * (frames / 4) ** uniform(1)
        start = (frames + length) * uniform(1) - length
        gap = (index >= start) & (index < start + length)
        seen &= ~(gap & (uniform(1) < share) & (kind[:, None] < 0.75))
    end = (frames * uniform(1)).clamp_min(4)
    seen &= ((index < end) | (kind[:, None] < 0.75) | (kind[:, None] >= 0.82)) & (
        (index >= frames - end) | (kind[:, None] < 0.82) | (kind[:, None] >= 0.9)
    )
    scattered = uniform(frames) < uniform(1)
    seen &= scattered | (kind[:, None] < 0.9) | (kind[:, None] >= 0.97)
    step = torch.randint(2, 6, (count, 1), generator=generator)
    first = (step * uniform(1)).long()
    slow = uniform(1) < 0.12
    seen &= ((index - first) % step == 0) | ~slow
    return seen & (kind[:, None] < 0.995)


def _runs(valid: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Starts and ends of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], valid, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]
