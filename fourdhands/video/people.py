"""Pieces of tracks to people and their hands: the best assignment over a whole shot.

`track` asks how many people there are (`count_people`), then who shows which piece (`assign`).
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fourdhands.skeleton import NUM_SIDES, Side
from fourdhands.video.pairing import strangeness
from fourdhands.video.pieces import PERSISTENT, Piece, palm_points

LEFT_OUT: Final = 1.0
"""Cost of leaving out a detection; one with a sure contrary label costs 0.75."""
FIRST_A_FRAME: Final = 0.15
"""Cost, for each frame of the shot, of showing a hand at all, up to that of one that appears."""
APPEARS: Final = 4.0
"""Cost of a hand that appears somewhere else, or after having been away."""
SPEED: Final = 6.0
"""Hand sizes a second that a hidden hand may move at no cost."""
STRANGE: Final = 0.05
"""Cost of a frame's two hands for each hand size between them, where there are several people."""
MOST_STRANGE: Final = 12.0
CROWD: Final = 0.5
"""Seconds for which more than two hands have to be seen for there to be more than one person."""
MOST_STATES: Final = 400

_NOBODY: Final = -1
_Slots = tuple[int, ...]
"""The last piece of each hand: of the first person's right, left, the second one's right, ..."""
Sides = tuple[list[int], list[int]]
"""Indices of the pieces of a person's right and left hand, in order of time."""


def count_people(pieces: Sequence[Piece], fps: float) -> int:
    """How many people it takes to show as many hands, or as many of one side, at once.

    Args:
        pieces: of a shot.
        fps: frames a second.
    """
    end = 1 + max((piece.last for piece in pieces), default=0)
    seen = np.zeros((NUM_SIDES, end), np.int64)
    for piece in pieces:
        if len(piece.hands) >= PERSISTENT * fps:
            seen[int(piece.right_cost() > 0), list(piece.hands)] += 1
    frames = max(1, round(min(CROWD * fps, end / 2)))

    def lasting(counts: NDArray[np.int64]) -> int:
        """The greatest count that so many frames reach."""
        return int(np.sort(counts)[-frames])

    hands = lasting(seen.sum(0))
    if hands <= NUM_SIDES:  # labels alone make nobody
        return 1
    return max((hands + 1) // NUM_SIDES, *(lasting(side) for side in seen))


class _State(NamedTuple):
    """Best way so far to some last pieces."""

    cost: float
    choice: int  # slot the newest piece was given to; -1 for left out
    before: _Slots | None


def assign(pieces: Sequence[Piece], fps: float, frames: int, people: int) -> list[Sides]:
    """Give pieces to the hands of some people, or to nobody, at the least cost.

    Dynamic programming over the pieces in order of time; the state is the last piece of each hand.

    Args:
        pieces: in any order.
        fps: frames a second.
        frames: of the shot.
        people: how many.

    Returns:
        The pieces of each person, who may have none.
    """
    order = sorted(range(len(pieces)), key=lambda k: (pieces[k].first, pieces[k].last))
    start = (_NOBODY,) * (NUM_SIDES * people)
    layers: list[dict[_Slots, _State]] = [{start: _State(0.0, _NOBODY, None)}]
    cost = _costs(pieces, fps, min(APPEARS, FIRST_A_FRAME * frames), crowd=people > 1)
    for k in order:
        layer: dict[_Slots, _State] = {}
        for slots, best in layers[-1].items():
            out = best.cost + LEFT_OUT * len(pieces[k].hands)
            _offer(layer, slots, _State(out, _NOBODY, slots))
            for slot in range(_open(slots)):
                if slots[slot] != _NOBODY and pieces[slots[slot]].last >= pieces[k].first:
                    continue
                total = best.cost + cost(k, slot % NUM_SIDES, slots[slot], slots[slot ^ 1])
                after = (*slots[:slot], k, *slots[slot + 1 :])
                _offer(layer, after, _State(total, slot, slots))
        layers.append(dict(sorted(layer.items(), key=lambda item: item[1].cost)[:MOST_STATES]))
    return _traced(layers, order, people)


def _offer(layer: dict[_Slots, _State], slots: _Slots, found: _State) -> None:
    if slots not in layer or found.cost < layer[slots].cost:
        layer[slots] = found


def _open(slots: _Slots) -> int:
    """Slots of the people so far and of the next one: empty ones are all alike."""
    used = max((k for k, last in enumerate(slots) if last != _NOBODY), default=-1)
    return min(len(slots), NUM_SIDES * (used // NUM_SIDES + 2))


def _costs(
    pieces: Sequence[Piece], fps: float, first: float, *, crowd: bool
) -> Callable[[int, int, int, int], float]:
    """Cost of a piece for a hand of a side, by that hand's and the other hand's last pieces."""
    votes = [piece.right_cost() for piece in pieces]

    @cache
    def jump(last: int, k: int) -> float:
        return first if last == _NOBODY else _jump_cost(pieces[last], pieces[k], fps)

    @cache
    def apart(other: int, k: int) -> float:
        return _apart_cost(pieces[other], pieces[k]) if crowd and other != _NOBODY else 0.0

    def cost(k: int, side: int, last: int, other: int) -> float:
        against = votes[k] if side == Side.RIGHT else -votes[k]
        return jump(last, k) + against + apart(other, k)

    return cost


def _traced(layers: list[dict[_Slots, _State]], order: list[int], people: int) -> list[Sides]:
    chosen: list[Sides] = [([], []) for _ in range(people)]
    slots = min(layers[-1], key=lambda key: layers[-1][key].cost)
    for step in range(len(order), 0, -1):
        found = layers[step][slots]
        if found.choice != _NOBODY:
            person, side = divmod(found.choice, NUM_SIDES)
            chosen[person][side].insert(0, order[step - 1])
        assert found.before is not None
        slots = found.before
    return chosen


def _jump_cost(before: Piece, after: Piece, fps: float) -> float:
    """What it costs that one hand shows first in one piece and then in the other."""
    end, start = before.hands[before.last], after.hands[after.first]
    size = max(end.bbox[2:].max(), start.bbox[2:].max())
    seconds = (after.first - before.last) / fps
    jump = float(np.linalg.norm(palm_points(end).mean(0) - palm_points(start).mean(0)) / size)
    return float(np.clip(3 * (jump - SPEED * seconds - 0.2), 0, APPEARS))


def _apart_cost(one: Piece, other: Piece) -> float:
    """What it costs that two pieces show both hands of one person."""
    both = one.hands.keys() & other.hands.keys()
    return STRANGE * sum(
        min(strangeness(one.hands[frame], other.hands[frame]), MOST_STRANGE) for frame in both
    )
