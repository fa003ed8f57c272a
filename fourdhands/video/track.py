"""Which hand is whose over time: detections of a shot's frames to pairs of tracks.

Detections that certainly show one hand are chained to pieces first. Then the pieces are given to
the right and the left hand all at once, by the best of all assignments over the whole shot: labels
vote, jumps cost, one hand is in one place. So swapped labels, duplicates and crossings are decided
by what comes before and after them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from fourdhands.skeleton import NUM_SIDES, Side
from fourdhands.video.detect import Detection, Floats, corners
from fourdhands.video.pairing import pair_hands

REACH: Final = 0.5
"""Hand sizes that a hand may be off its predicted place, from frame to frame at 30 fps."""
DOUBT: Final = 0.2
"""Hand sizes: where two links are nearer alike, neither is made."""
OTHER_LABEL: Final = 0.15
"""Hand sizes that a changed label counts as."""
LONGEST_HOLE: Final = 0.1
"""Seconds that a piece may go without a detection."""
PERSISTENT: Final = 0.17
"""Seconds for which a label has to stay changed to part a piece there."""

LABEL_WEIGHT: Final = 0.25
MOST_LOG_ODDS: Final = 3.0
LEFT_OUT: Final = 1.0
"""Cost of leaving out a detection; one with a sure contrary label costs 0.75."""
FIRST_A_FRAME: Final = 0.15
"""Cost, for each frame of the shot, of showing a hand at all, up to that of one that appears."""
APPEARS: Final = 4.0
"""Cost of a hand that appears somewhere else, or after having been away."""
SPEED: Final = 6.0
"""Hand sizes a second that a hidden hand may move at no cost."""
MOST_STATES: Final = 400

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
    pieces = [part for piece in make_pieces(frames, fps) for part in _split(piece, fps)]
    pairs: list[PairTrack] = []
    while pieces and len(pairs) < most_pairs:
        chosen = assign_sides(pieces, fps, min(APPEARS, FIRST_A_FRAME * len(frames)))
        used = {id(pieces[k]) for side in chosen for k in side}
        if not used:
            break
        hands = tuple(_joined([pieces[k] for k in side]) for side in chosen)
        assert len(hands) == NUM_SIDES
        pair = (hands[0], hands[1])
        pairs.append(PairTrack(pair, _endings(pair, len(frames), fps, image_size)))
        pieces = [piece for piece in pieces if id(piece) not in used]
    return pairs


def make_pieces(frames: Sequence[Sequence[Detection]], fps: float) -> list[Piece]:
    """Chain detections that certainly show one hand; every detection is in one piece."""
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
        for column, hand in enumerate(detections):
            row = linked.get(column)
            if row is not None and cost[row, column] < REACH and _is_certain(cost, row, column):
                growing[row][frame] = hand
            else:
                growing.append({frame: hand})
    return done + [Piece(hands) for hands in growing]


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
    points = _points(end)
    if len(times) == 2 and times[1] - times[0] <= 2:
        speed = (_points(end) - _points(hands[times[0]])).mean(0) / (times[1] - times[0])
        points = points + np.clip(speed * (frame - times[-1]), -size / 2, size / 2)
    now = _points(hand)
    if len(now) != len(points):
        now, points = now.mean(0, keepdims=True), points.mean(0, keepdims=True)
    distance = np.linalg.norm(now - points, axis=-1).mean() / size
    return float(distance + OTHER_LABEL * (hand.side is not end.side))


def _points(hand: Detection) -> Floats:
    """The palm's joints, or the middle of the box."""
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


class _State(NamedTuple):
    """Best way so far to a pair of last pieces."""

    cost: float
    choice: int  # side the newest piece was given to; 2 for left out
    before: "tuple[int, int] | None"
    step: int


def assign_sides(
    pieces: Sequence[Piece], fps: float, first: float = APPEARS
) -> tuple[list[int], list[int]]:
    """Give pieces to the right and left hand of one person, or to nobody, at the least cost.

    Dynamic programming over the pieces in order of time; the state is the last piece of each hand.

    Args:
        pieces: in any order.
        fps: frames a second.
        first: cost of a hand's first piece.

    Returns:
        Indices of the right and of the left hand's pieces, in order of time.
    """
    order = sorted(range(len(pieces)), key=lambda k: (pieces[k].first, pieces[k].last))
    nobody = -1
    layers: list[dict[tuple[int, int], _State]] = [{(nobody, nobody): _State(0.0, 2, None, -1)}]
    for step, k in enumerate(order):
        piece, votes = pieces[k], pieces[k].right_cost()
        layer: dict[tuple[int, int], _State] = {}

        def offer(
            state: tuple[int, int], found: _State, layer: dict[tuple[int, int], _State] = layer
        ) -> None:
            if state not in layer or found.cost < layer[state].cost:
                layer[state] = found

        for state, best in layers[-1].items():
            out = best.cost + LEFT_OUT * len(piece.hands)
            offer(state, _State(out, NUM_SIDES, state, step))
            for side in Side:
                last = state[side]
                if last != nobody and pieces[last].last >= piece.first:
                    continue
                jump = first if last == nobody else _jump_cost(pieces[last], piece, fps)
                against = votes if side is Side.RIGHT else -votes
                after = (k, state[1]) if side is Side.RIGHT else (state[0], k)
                offer(after, _State(best.cost + jump + against, int(side), state, step))
        kept = sorted(layer.items(), key=lambda item: item[1].cost)[:MOST_STATES]
        layers.append(dict(kept))
    return _traced(layers, order)


def _traced(
    layers: list[dict[tuple[int, int], _State]], order: list[int]
) -> tuple[list[int], list[int]]:
    chosen: tuple[list[int], list[int]] = ([], [])
    state = min(layers[-1], key=lambda key: layers[-1][key].cost)
    for step in range(len(order), 0, -1):
        found = layers[step][state]
        if found.choice < NUM_SIDES:
            chosen[found.choice].append(order[step - 1])
        assert found.before is not None
        state = found.before
    return chosen[0][::-1], chosen[1][::-1]


def _jump_cost(before: Piece, after: Piece, fps: float) -> float:
    """What it costs that one hand shows first in one piece and then in the other."""
    end, start = before.hands[before.last], after.hands[after.first]
    size = max(end.bbox[2:].max(), start.bbox[2:].max())
    seconds = (after.first - before.last) / fps
    jump = float(np.linalg.norm(_points(end).mean(0) - _points(start).mean(0)) / size)
    return float(np.clip(3 * (jump - SPEED * seconds - 0.2), 0, APPEARS))


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
