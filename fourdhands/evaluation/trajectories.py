"""How benchmarks compare motion in the world: alignments that need many frames of a sequence.

Like those of `alignments`, each is a function from a `Pair` to what is compared, but the pair holds
whole sequences, in order. Prediction and truth have a camera trajectory each; where both worlds
lie is a convention, so something has to be aligned before anything can be measured.
"""

from dataclasses import dataclass
from typing import Final

import roma
import torch
from torch import Tensor

from fourdhands.evaluation.alignments import Compared, Points, absolute
from fourdhands.evaluation.samples import HandSamples, Pair
from fourdhands.geometry.alignment import MIN_SPREAD
from fourdhands.skeleton import NUM_SIDES, WRIST

CHUNK_FRAMES: Final = 128
"""Frames that are aligned together."""
FIRST_FRAMES: Final = 2
"""Frames that G-MPJPE is aligned by."""
MIN_PATH: Final = 1e-3
"""Metres; a wrist whose path is shorter stands still, and has no error relative to its path."""


def in_world(pair: Pair, points: Points) -> Compared:
    """As predicted, in two worlds: `x_world = R^T (x_cam - t)`, R and t of `cam_from_world`."""
    found = absolute(pair, points)
    return Compared(
        _to_world(found.predicted, pair.predicted.cam_from_world),
        _to_world(found.true, pair.true.cam_from_world),
        found.valid,
    )


def aligned_in_world(
    pair: Pair,
    points: Points,
    *,
    frames: int | None = FIRST_FRAMES,
    length: int = CHUNK_FRAMES,
    scaled: bool = True,
    together: bool = True,
) -> Compared:
    """The predicted world moved onto the true one, chunk by chunk (G-MPJPE, GA-MPJPE).

    Each run of frames that follow each other is cut into chunks of `length`, the last one as long
    as what is left. The best proper rotation, shift and scale of a chunk (Umeyama), fitted to the
    points of some of its frames, move all of it. Chunks with fewer than 3 such points do not count.

    Args:
        pair: whole sequences, in order.
        points: joints or vertices.
        frames: how many frames the motion is fitted to: the first ones with a labelled point; None
            for all frames of the chunk.
        length: frames of a chunk.
        scaled: whether scale is fitted, too.
        together: whether both hands are moved as one.
    """
    found = in_world(pair, points)
    chunk = _chunks(pair.true, length)
    labelled = found.valid.any(-1)
    if together:
        labelled = labelled.any(-1, keepdim=True).expand(-1, NUM_SIDES)
    fitted = found.valid
    if frames is not None:
        count = labelled.cumsum(0)  # of labelled frames, this one included
        first = torch.searchsorted(chunk, chunk)  # of the chunk
        before = count[first] - labelled[first].long()
        fitted = fitted & (count - before <= frames)[..., None]
    group = chunk[:, None].expand(-1, NUM_SIDES)
    if not together:
        group = group * NUM_SIDES + torch.arange(NUM_SIDES)
    motion = _Motions.fit(found.predicted, found.true, fitted, group, scaled=scaled)
    enough = motion.fitted[group] >= 3
    return Compared(
        motion.move(found.predicted, group), found.true, found.valid & enough[..., None]
    )


def along_path(pair: Pair, points: Points = "joints") -> Compared:
    """Wrists in the world, as a share of the length of the true wrist's path (RTE, HaWoR).

    Over a whole sequence each hand's predicted track is laid upon the true one by a rotation and a
    shift. Its path is the polyline through the true wrists of all frames that are labelled; hands
    that move by less than a millimetre in all do not count.

    Args:
        pair: whole sequences, in order.
        points: are not asked for.

    Returns:
        (N, S, 1, 3) without unit.
    """
    found = in_world(pair, "joints")
    wrists = slice(WRIST, WRIST + 1)
    valid, true = found.valid[..., wrists], found.true[:, :, wrists]
    sequence = _numbered(pair.true.sequence.diff() != 0)
    group = sequence[:, None] * NUM_SIDES + torch.arange(NUM_SIDES)
    motion = _Motions.fit(found.predicted[:, :, wrists], true, valid, group, scaled=False)
    moved = motion.move(found.predicted[:, :, wrists], group)
    path = torch.zeros(len(motion.fitted), dtype=true.dtype)
    for side in range(NUM_SIDES):
        there = valid[:, side, 0]
        steps = true[there, side, 0].diff(dim=0).norm(dim=-1)
        track = group[there, side]
        same = track[1:] == track[:-1]
        path.index_add_(0, track[1:][same], steps[same])
    length = path[group][..., None]
    valid = valid & (length >= MIN_PATH)
    length = length.clamp_min(MIN_PATH)[..., None]
    return Compared(moved / length, true / length, valid)


@dataclass(frozen=True)
class _Motions:
    """Similarities of G groups of points, from the predicted world to the true one.

    Attributes:
        fitted: (G,) number of points that each was fitted to.
        turn: (G, 3, 3) rotation times scale.
        start: (G, 3) centre of the predicted points.
        end: (G, 3) centre of the true ones.
    """

    fitted: Tensor
    turn: Tensor
    start: Tensor
    end: Tensor

    @classmethod
    def fit(
        cls, source: Tensor, target: Tensor, valid: Tensor, group: Tensor, *, scaled: bool
    ) -> "_Motions":
        """Least squares over the valid points of each group.

        Args:
            source: (N, S, K, 3).
            target: (N, S, K, 3).
            valid: (N, S, K) which points take part.
            group: (N, S) number of the group, from 0.
            scaled: whether scale is fitted, too.
        """
        weight = valid.to(source)
        groups = int(group.max()) + 1 if len(group) else 0

        def gathered(values: Tensor) -> Tensor:
            empty = values.new_zeros(groups, *values.shape[2:])
            return empty.index_add(0, group.flatten(), values.flatten(0, 1))

        def mean(values: Tensor) -> Tensor:
            total = gathered(values)
            return total / number.clamp_min(1).reshape(-1, *[1] * (total.ndim - 1))

        number = gathered(weight.sum(-1))
        start = mean((weight[..., None] * source).sum(2))
        end = mean((weight[..., None] * target).sum(2))
        source = (source - start[group][:, :, None]) * weight[..., None]
        target = target - end[group][:, :, None]
        covariance = mean(target.mT @ source)
        turn = roma.special_procrustes(covariance)
        if scaled:
            spread = mean(source.square().sum((-2, -1))).clamp_min(MIN_SPREAD)
            turn = turn * ((turn * covariance).sum((-2, -1)) / spread)[:, None, None]
        return cls(number, turn, start, end)

    def move(self, points: Tensor, group: Tensor) -> Tensor:
        """Apply each group's motion: (N, S, K, 3), (N, S)."""
        moved = (points - self.start[group][:, :, None]) @ self.turn[group].mT
        return moved + self.end[group][:, :, None]


def _to_world(points: Tensor, cam_from_world: Tensor) -> Tensor:
    turn, shift = cam_from_world[:, None, :3, :3], cam_from_world[:, None, None, :3, 3]
    return (points - shift) @ turn


def _chunks(samples: HandSamples, length: int) -> Tensor:
    """Number of each image's chunk, from 0 upwards: (N,)."""
    breaks = (samples.sequence.diff() != 0) | (samples.frame.diff() != 1)
    run = _numbered(breaks)
    place = torch.arange(len(samples)) - torch.searchsorted(run, run)  # in the run
    return _numbered((run.diff() != 0) | (place[1:] % length == 0))


def _numbered(breaks: Tensor) -> Tensor:
    """Number the pieces of a row that is cut where (N - 1,) says, before the next: (N,)."""
    start = torch.zeros(1, dtype=torch.int64)
    return torch.cat((start, breaks.cumsum(0)))
