"""Pieces of tracks: detections that certainly show one hand, chained from frame to frame.

The second step after finding hands; `track` gives the pieces to people and sides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import linear_sum_assignment

from fourdhands.skeleton import Side
from fourdhands.video.detect import Detection, Floats

REACH: Final = 0.5
"""Hand sizes that a hand may be off its predicted place, from frame to frame at 30 fps."""
DOUBT: Final = 0.2
"""Hand sizes: where two links are nearer alike, neither is made."""
OTHER_LABEL: Final = 0.15
"""Hand sizes that a changed label counts as."""
OTHER_SIZE: Final = 0.4
"""Hand sizes that twice the size counts as: a detector may take some fingers for a hand."""
LONGEST_HOLE: Final = 0.1
"""Seconds that a piece may go without a detection."""
PERSISTENT: Final = 0.17
"""Seconds for which a label has to stay changed to part a piece there."""

LABEL_WEIGHT: Final = 0.25
MOST_LOG_ODDS: Final = 3.0
_PALM: Final = [0, 5, 9, 13, 17]


@dataclass(frozen=True)
class Piece:
    """Detections of one hand, by frame, in order of time."""

    hands: dict[int, Detection]

    @property
    def first(self) -> int:
        """Its first frame."""
        return next(iter(self.hands))

    @property
    def last(self) -> int:
        """Its last frame."""
        return next(reversed(self.hands))

    def right_cost(self) -> float:
        """Cost of taking it for a right hand; negated, for a left one."""
        return LABEL_WEIGHT * float(sum(-_log_odds(hand) for hand in self.hands.values()))


def make_pieces(frames: Sequence[Sequence[Detection]], fps: float) -> list[Piece]:
    """Chain detections that certainly show one hand; every detection is in one piece.

    Args:
        frames: detections of each frame.
        fps: frames a second.
    """
    hole = max(1, round(LONGEST_HOLE * fps))
    slow = max(1.0, 30 / fps)
    growing: list[dict[int, Detection]] = []
    done: list[Piece] = []
    for frame, detections in enumerate(frames):
        done += [Piece(hands) for hands in growing if _end(hands) < frame - hole]
        growing = [hands for hands in growing if _end(hands) >= frame - hole]
        cost = np.array(
            [[_link_cost(hands, hand, frame) / slow for hand in detections] for hands in growing]
        ).reshape(len(growing), len(detections))
        rows, columns = linear_sum_assignment(np.minimum(cost, REACH))
        linked = dict(zip(columns.tolist(), rows.tolist(), strict=True))
        unsure: set[int] = set()
        for column, hand in enumerate(detections):
            row = linked.get(column)
            if row is not None and cost[row, column] < REACH and _is_certain(cost, row, column):
                growing[row][frame] = hand
            else:
                growing.append({frame: hand})
                unsure |= set(np.flatnonzero(cost[:, column] < REACH).tolist())
        # those that may go on in a new one end there, or they would make all that follows unsure
        ended = {row for row in unsure if _end(growing[row]) < frame}
        done += [Piece(growing[row]) for row in sorted(ended)]
        growing = [hands for row, hands in enumerate(growing) if row not in ended]
    done += [Piece(hands) for hands in growing]
    return [part for piece in done for part in _split(piece, fps)]


def _end(hands: dict[int, Detection]) -> int:
    return next(reversed(hands))


def _is_certain(cost: Floats, row: int, column: int) -> bool:
    others = np.concatenate((np.delete(cost[row], column), np.delete(cost[:, column], row)))
    return bool((others > cost[row, column] + DOUBT).all())


def _link_cost(hands: dict[int, Detection], hand: Detection, frame: int) -> float:
    """Hand sizes between where a hand should be by now and where this one is."""
    times = list(hands)[-2:]
    end = hands[times[-1]]
    size = max(end.bbox[2:].max(), hand.bbox[2:].max())
    points = palm_points(end)
    if len(times) == 2 and times[1] - times[0] <= 2:
        speed = (palm_points(end) - palm_points(hands[times[0]])).mean(0) / (times[1] - times[0])
        points = points + np.clip(speed * (frame - times[-1]), -size / 2, size / 2)
    now = palm_points(hand)
    if len(now) != len(points):
        now, points = now.mean(0, keepdims=True), points.mean(0, keepdims=True)
    distance = np.linalg.norm(now - points, axis=-1).mean() / size
    growth = abs(np.log2(hand.bbox[2:].max() / end.bbox[2:].max()))
    return float(distance + OTHER_LABEL * (hand.side is not end.side) + OTHER_SIZE * growth)


def palm_points(hand: Detection) -> Floats:
    """The palm's joints (5, 2), or the middle of the box (1, 2); pixels."""
    return hand.bbox[None, :2] if hand.joints_2d is None else hand.joints_2d[_PALM]


def _log_odds(hand: Detection) -> float:
    """Of being a right hand; bounded, as detectors are too sure of themselves."""
    score = float(np.clip(hand.score, 0.5, 0.999))
    odds = min(float(np.log(score / (1 - score))), MOST_LOG_ODDS)
    return odds if hand.side is Side.RIGHT else -odds


def _split(piece: Piece, fps: float) -> list[Piece]:
    """Part a piece where its label changes and stays changed: the hand may be another one."""
    frames = list(piece.hands)
    reach = max(2, round(PERSISTENT * fps))
    votes = np.array([np.sign(_log_odds(hand)) for hand in piece.hands.values()])
    parts, start = [], 0
    for k in range(reach, len(frames) - reach + 1):
        before, after = votes[max(start, k - reach) : k], votes[k : k + reach]
        if k - start >= reach and (before == -votes[k]).all() and (after == votes[k]).all():
            parts.append(frames[start:k])
            start = k
    parts.append(frames[start:])
    return [Piece({frame: piece.hands[frame] for frame in part}) for part in parts]
