"""Which hand is whose over time: detections of a shot's frames to pairs of tracks.

Detections that certainly show one hand are chained to pieces first (`pieces`). Then the pieces are
given to people and their right and left hands all at once, by the best of all assignments over the
whole shot: labels vote, jumps cost, one hand is in one place, and hands of one person are nearer to
each other than to others' (`people`). So swapped labels, duplicates and crossings are decided by
what comes before and after them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourdhands.skeleton import Side
from fourdhands.video.detect import Detection, corners
from fourdhands.video.pairing import pair_hands
from fourdhands.video.people import assign, count_people
from fourdhands.video.pieces import LONGEST_HOLE, Piece, make_pieces


@dataclass(frozen=True)
class Ending:
    """Why a hand is not seen any more.

    Attributes:
        side: which hand.
        frame: the last one that shows it.
        reason: `end of the shot`, `left the image`, `hidden by the other hand` or `lost`.
    """

    side: Side
    frame: int
    reason: str


@dataclass(frozen=True)
class PairTrack:
    """The right and the left hand of one person over a shot of T frames.

    Attributes:
        hands: for each side its detections by frame.
        endings: in order of time.
    """

    hands: tuple[dict[int, Detection], dict[int, Detection]]
    endings: tuple[Ending, ...] = ()

    def __len__(self) -> int:
        """Detections of both hands."""
        return sum(len(side) for side in self.hands)

    def lasts(self, frames: int) -> bool:
        """Whether so many frames, one soon after the other, show a hand of it."""
        seen = np.array(sorted(self.hands[0].keys() | self.hands[1].keys()))
        last = seen[frames - 1 :]
        return bool((last - seen[: len(last)] < 1.5 * frames).any())


def follow(
    frames: Sequence[Sequence[Detection]],
    fps: float,
    image_size: tuple[int, int],
    *,
    most_pairs: int = 1,
) -> list[PairTrack]:
    """Find the pairs of hands of a shot, the most persistent one first.

    Args:
        frames: detections of each frame.
        fps: frames a second.
        image_size: width, height.
        most_pairs: how many pairs to find.
    """
    if len(frames) == 1:  # nothing to follow: who belongs together is told by the image
        found = pair_hands(frames[0])[:most_pairs]
        return [
            PairTrack(({0: right} if right else {}, {0: left} if left else {}))
            for right, left in found
        ]
    pieces = make_pieces(frames, fps)
    people = min(count_people(pieces, fps), most_pairs)
    pairs: list[PairTrack] = []
    # the crowd first, all at once; then what is left over, as of somebody who came later
    while pieces and len(pairs) < most_pairs:
        chosen = assign(pieces, fps, len(frames), people)
        used = {id(pieces[k]) for sides in chosen for side in sides for k in side}
        if not used:
            break
        for sides in chosen:
            right, left = (_joined([pieces[k] for k in side]) for side in sides)
            pair = (right, left)
            if right or left:
                pairs.append(PairTrack(pair, _endings(pair, len(frames), fps, image_size)))
        pieces = [piece for piece in pieces if id(piece) not in used]
        people = 1
    return sorted(pairs, key=len, reverse=True)[:most_pairs]


def _joined(pieces: Sequence[Piece]) -> dict[int, Detection]:
    return {frame: hand for piece in pieces for frame, hand in piece.hands.items()}


def _endings(
    hands: tuple[dict[int, Detection], dict[int, Detection]],
    frames: int,
    fps: float,
    image_size: tuple[int, int],
) -> tuple[Ending, ...]:
    """Where each hand is lost for longer than a blink, and why."""
    hole = max(1, round(LONGEST_HOLE * fps))
    found = []
    for side in Side:
        own, other = hands[side], hands[1 - side]
        times = list(own)
        for k, frame in enumerate(times):
            following = times[k + 1] if k + 1 < len(times) else frames
            if following - frame <= hole and following < frames:
                continue
            if following >= frames and frame >= frames - hole:
                reason = "end of the shot"
            elif _at_border(own[frame], image_size):
                reason = "left the image"
            elif _is_covered(own[frame], [other.get(t) for t in range(frame, frame + hole + 1)]):
                reason = "hidden by the other hand"
            else:
                reason = "lost"
            found.append(Ending(side, frame, reason))
    return tuple(sorted(found, key=lambda ending: ending.frame))


def _at_border(hand: Detection, image_size: tuple[int, int]) -> bool:
    low, high = corners(hand.bbox)
    margin = 0.02 * max(image_size)
    return bool((low < margin).any() or (high > np.array(image_size) - 1 - margin).any())


def _is_covered(hand: Detection, others: Sequence[Detection | None]) -> bool:
    low, high = corners(hand.bbox)
    for other in others:
        if other is not None:
            start, end = corners(other.bbox)
            if (np.minimum(high, end) > np.maximum(low, start)).all():
                return True
    return False


def smooth_boxes(
    boxes: NDArray[Any], seen: NDArray[np.bool_], fps: float, *, longest_gap: float = 0.5
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Boxes without trembling and without lag, short gaps filled.

    Centres and logarithms of sizes are averaged over time with weights that are symmetrical about
    each frame, so that a steady motion is left as it is.

    Args:
        boxes: (T, 4) of one hand.
        seen: (T,) where there is one.
        fps: frames a second.
        longest_gap: seconds that are bridged.

    Returns:
        (T, 4) boxes, and (T,) where there is one now.
    """
    frames = np.flatnonzero(seen)
    filled = np.zeros(len(seen), bool)
    result = np.zeros((len(seen), 4), np.float32)
    if not len(frames):
        return result, filled
    breaks = np.flatnonzero(np.diff(frames) > longest_gap * fps + 1)
    sigma = 0.04 * fps  # seconds to frames
    reach = int(np.ceil(2.5 * sigma))
    for run in np.split(frames, breaks + 1):
        span = np.arange(run[0], run[-1] + 1)
        values = np.concatenate((boxes[run, :2], np.log(boxes[run, 2:])), 1)
        even = np.stack([np.interp(span, run, column) for column in values.T], 1)
        # reflected through the ends, a steady motion goes on steadily there, too
        padded = np.pad(even, ((reach, reach), (0, 0)), mode="reflect", reflect_type="odd")
        weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-6)) ** 2)
        weights /= weights.sum()
        smooth = np.stack([np.convolve(column, weights, "valid") for column in padded.T], 1)
        if len(span) <= reach:
            smooth = even
        result[span] = np.concatenate((smooth[:, :2], np.exp(smooth[:, 2:])), 1)
        filled[span] = True
    return result, filled
