"""From loose detections to hands that belong together: duplicates merged, right and left paired."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from scipy.optimize import linear_sum_assignment

from fourdhands.skeleton import NUM_SIDES, Side
from fourdhands.video.detect import Detection, corners

SAME_HAND_IOU: Final = 0.5
PART_OF_HAND: Final = 0.6
"""A box that lies by this fraction in another one may show a part of that hand."""
SAME_PALM: Final = 0.15
"""Two palms nearer than this fraction of the hand's size are one palm."""

_PALM: Final = (0, 9)  # wrist and base of the middle finger: the same whichever side is believed

MAX_STRANGENESS: Final = 9.0
"""Arms of one person span about nine hands; see `strangeness`."""

HandPair = tuple[Detection | None, Detection | None]
"""Hands that are predicted together: the right one and the left one, None where there is none."""


def same_hand(first: Detection, second: Detection) -> bool:
    """Whether two detections show one hand.

    Boxes alone do not tell: where hands interlace one's box may lie inside the other's, but then
    their sides differ and their palms do not fall on one place.
    """
    overlap, smaller, union = _overlap(first, second)
    if overlap > SAME_HAND_IOU * union:
        return True
    if first.side is second.side and overlap > PART_OF_HAND * smaller:
        return True
    if first.joints_2d is None or second.joints_2d is None:
        return False
    between = (first.joints_2d - second.joints_2d)[list(_PALM)].mean(0)
    size = max(first.bbox[2:].max(), second.bbox[2:].max())
    return bool(np.linalg.norm(between) < SAME_PALM * size)


def _overlap(first: Detection, second: Detection) -> tuple[float, float, float]:
    """Areas of the boxes' intersection, of the smaller one, and of their union."""
    (low_a, high_a), (low_b, high_b) = corners(first.bbox), corners(second.bbox)
    overlap = np.clip(np.minimum(high_a, high_b) - np.maximum(low_a, low_b), 0, None).prod()
    areas = first.bbox[2:].prod(), second.bbox[2:].prod()
    return float(overlap), float(min(areas)), float(sum(areas) - overlap)


def merge_duplicates(
    detections: Sequence[Detection], *, min_lone_score: float = 0.0
) -> list[Detection]:
    """Keep every hand once, whatever number of looks at one image showed it.

    Detections of one hand vote on its side with their scores; the first one of the winning side
    stays, with its share of the vote as its score. A hand inside another one that was detected far
    more often is taken for a part of it: curled fingers alone look like a hand.

    Args:
        detections: the most trusted first.
        min_lone_score: hands that were detected once only and with a lower score are dropped.
    """
    clusters: list[list[Detection]] = []
    for detection in detections:
        for cluster in clusters:
            if same_hand(cluster[0], detection):
                cluster.append(detection)
                break
        else:
            clusters.append([detection])
    clusters = [c for c in clusters if len(c) > 1 or c[0].score >= min_lone_score]
    clusters.sort(key=len, reverse=True)
    kept: list[tuple[Detection, int]] = []
    for cluster in clusters:
        hand, count = _elect(cluster), len(cluster)
        if not any(
            same_hand(hand, other) or (often >= 2 * count and _is_inside(hand, other))
            for other, often in kept
        ):
            kept.append((hand, count))
    return [hand for hand, _ in kept]


def _is_inside(hand: Detection, other: Detection) -> bool:
    overlap, _, _ = _overlap(hand, other)
    return bool(overlap > PART_OF_HAND * hand.bbox[2:].prod())


def _elect(cluster: Sequence[Detection]) -> Detection:
    """The first detection of the side with the most votes."""
    votes = np.zeros(NUM_SIDES)
    for detection in cluster:
        votes[detection.side] += detection.score
    winner = max(cluster, key=lambda detection: votes[detection.side])
    share = votes[winner.side] / votes.sum() if votes.any() else 1.0
    return replace(winner, score=float(winner.score * share))


def pair_hands(detections: Sequence[Detection]) -> list[HandPair]:
    """Pair each right hand with the left hand that is most plausibly the same person's.

    The assignment with the least total strangeness wins; pairs stranger than any person are not
    made, and hands left over stay alone.

    Returns:
        Every hand in exactly one pair, in the order of `detections`.
    """
    rights, lefts = ([hand for hand in detections if hand.side is side] for side in Side)
    cost = np.array([[strangeness(right, left) for left in lefts] for right in rights])
    cost = np.minimum(cost.reshape(len(rights), len(lefts)), MAX_STRANGENESS)
    mates = dict(zip(*linear_sum_assignment(cost), strict=True))
    mates = {row: column for row, column in mates.items() if cost[row, column] < MAX_STRANGENESS}
    pairs: list[HandPair] = [
        (right, lefts[mates[row]] if row in mates else None) for row, right in enumerate(rights)
    ]
    pairs += [(None, left) for row, left in enumerate(lefts) if row not in mates.values()]
    order = {id(hand): rank for rank, hand in enumerate(detections)}
    return sorted(pairs, key=lambda pair: min(order[id(hand)] for hand in pair if hand))


def strangeness(first: Detection, second: Detection) -> float:
    """Distance in hand sizes + (2 log2 of the ratio of sizes)^2: 4 for twice the size."""
    sizes = first.bbox[2:].max(), second.bbox[2:].max()
    distance = np.linalg.norm(first.bbox[:2] - second.bbox[:2]) / np.mean(sizes)
    return float(distance + (2 * np.log2(sizes[0] / sizes[1])) ** 2)
