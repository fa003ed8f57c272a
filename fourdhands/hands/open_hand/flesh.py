"""Clothe the skeleton: the cones of bones, pads, knuckles, webs, thenar and wrist.

Without pads and webs the result looks like a glove form. Numbers are millimetres or shares of the
radii, found by looking at pictures of the result.
"""

from typing import Any

import numpy as np

from fourdhands.hands.open_hand.field import GROUPS, PALM, Flesh
from fourdhands.hands.open_hand.measurements import (
    DORSAL,
    FOUR_FINGERS,
    Floats,
    HandMeasurements,
    Skeleton,
    point,
)
from fourdhands.skeleton import MANO_FINGERS

_Cone = tuple[Floats, Floats, float, float, Floats, float]


class _Builder:
    """Collects cones group by group."""

    def __init__(self) -> None:
        self.cones: list[_Cone] = []
        self.groups: list[int] = []

    def add(
        self,
        group: int,
        ends: tuple[Floats, Floats],
        radii: tuple[float, float],
        up: Floats = DORSAL,
        flatness: float = 1.0,
    ) -> None:
        self.cones.append((*ends, *radii, up, flatness))
        self.groups.append(group)

    def flesh(self) -> Flesh:
        def stack(*fields: int) -> Any:
            return np.array([[cone[k] for k in fields] for cone in self.cones])

        return Flesh(
            ends=stack(0, 1),
            radii=stack(2, 3),
            up=stack(4)[:, 0],
            flatness=stack(5)[:, 0],
            group=np.array(self.groups),
        )


def flesh_of(hand: HandMeasurements, skeleton: Skeleton) -> Flesh:
    """All cones of a hand at rest."""
    builder = _Builder()
    for finger in MANO_FINGERS:
        (_thumb if finger == "thumb" else _finger)(builder, hand, skeleton, finger)
    _metacarpals(builder, hand, skeleton)
    _webs(builder, hand, skeleton)
    _heel_and_wrist(builder, hand, skeleton)
    _thumb_web(builder, hand, skeleton)
    return builder.flesh()


def _finger(builder: _Builder, hand: HandMeasurements, bones: Skeleton, finger: str) -> None:
    group = GROUPS.index(finger)
    r = hand.radii[finger]
    base, middle, end, tip = bones.chain(finger)
    first, second, third = bones.bones[group]
    nail = bones.nails[group, 0]
    ball = tip - third * r[3]  # centre of the tip
    builder.add(group, (base, middle), (r[0], r[1]), nail, 0.96)
    builder.add(group, (middle, end), (r[1], r[2]), nail, 0.94)
    builder.add(group, (end, ball), (r[2], r[3]), nail, 0.86)
    for near, far, along, radius in (
        (base, middle, first, (r[0] + r[1]) / 2),
        (middle, end, second, (r[1] + r[2]) / 2),
    ):  # pads of the palm side, between the creases
        pad = 0.42 * near + 0.58 * far - 2.2 * nail
        half = 0.16 * np.linalg.norm(far - near) * along
        builder.add(group, (pad - half, pad + half), (radius * 0.84, radius * 0.82))
    pulp = 0.42 * end + 0.58 * ball
    builder.add(
        group,
        (pulp - 1.6 * nail - third, pulp - 1.2 * nail + 3.5 * third),
        (r[2] * 0.82, r[3] * 0.88),
    )
    knuckle = middle + 1.3 * nail
    builder.add(group, (knuckle - 2 * first, knuckle + 1.5 * second), (r[1] * 0.90, r[1] * 0.88))


def _thumb(builder: _Builder, hand: HandMeasurements, bones: Skeleton, finger: str) -> None:
    group = GROUPS.index(finger)
    r = hand.radii[finger]
    base, middle, end, tip = bones.chain(finger)
    _, second, third = bones.bones[group]
    nail = bones.nails[group, 1]
    ball = tip - third * r[3]
    builder.add(group, (base, middle), (r[0] * 0.95, r[1]), nail, 0.95)
    builder.add(group, (middle, end), (r[1], r[2]), nail, 0.92)
    builder.add(group, (end, ball), (r[2], r[3]), nail, 0.84)
    knuckle = middle - 2 * nail
    builder.add(group, (knuckle, knuckle + 3 * second), (r[1] * 0.96, r[1] * 0.96))
    pulp = 0.45 * end + 0.55 * ball - 2 * nail
    builder.add(group, (pulp, pulp + 3 * third), (r[2] * 0.80, r[2] * 0.74))
    pad = 0.45 * middle + 0.55 * end - 2 * nail
    builder.add(group, (pad, pad + 6 * second), (r[2] * 0.86, r[2] * 0.84))


def _metacarpals(builder: _Builder, hand: HandMeasurements, bones: Skeleton) -> None:
    thick = hand.palm_thickness
    for finger in FOUR_FINGERS:
        r = hand.radii[finger][0]
        start, knuckle = bones.carpus[finger], bones.chain(finger)[0]
        builder.add(
            PALM,
            (start + point(0, -1, 0), knuckle + point(-3, -1.5, 0)),
            (13.5, r),
            DORSAL,
            0.88 * thick,
        )
        builder.add(
            PALM,
            (knuckle + point(-2, 2.2 * thick, 0), knuckle + point(1.5, 2.2 * thick, 0)),
            (r * 0.86, r * 0.86),
        )
        builder.add(  # pad in the palm under the knuckle
            PALM,
            (knuckle + point(-4, -6 * thick, 0), knuckle + point(6, -4.5 * thick, 0)),
            (r * 0.80, r * 0.72),
        )


def _webs(builder: _Builder, hand: HandMeasurements, bones: Skeleton) -> None:
    for one, other, here, there in (
        ("index", "middle", 0.36, 0.36),
        ("middle", "ring", 0.36, 0.36),
        ("ring", "little", 0.40, 0.48),
    ):
        near, far = (
            chain[0] + share * (chain[1] - chain[0])
            for chain, share in ((bones.chain(one), here), (bones.chain(other), there))
        )
        skin, body = point(0, -2, 0), point(-9, -0.5, 0)
        builder.add(PALM, (near + skin, far + skin), (5.2, 5.0))
        builder.add(PALM, (near + body, far + body), (6.6, 6.2))


def _heel_and_wrist(builder: _Builder, hand: HandMeasurements, bones: Skeleton) -> None:
    thick, at = hand.palm_thickness, hand.palm_point
    base, middle = bones.chain("thumb")[:2]
    builder.add(  # thenar, the thumb's ball
        PALM,
        (base + point(2, -3 * thick, -4), 0.82 * middle + 0.18 * base + point(0, -2 * thick, -3)),
        (14.5, 11.5),
    )
    builder.add(
        PALM,
        (
            base + point(12, -3 * thick, -9),
            0.4 * base + 0.6 * middle + point(3, -3 * thick, -10),
        ),
        (12.0, 9.0),
    )
    builder.add(PALM, (at(14, -8 * thick, -15), at(58, -7 * thick, -29)), (12.5, 9.5))  # hypothenar
    builder.add(PALM, (at(40, -3, -24), at(66, -2, -32)), (9.5, 9.0))
    builder.add(PALM, (at(6, -3, -13), at(6, -3, 12)), (17.0, 17.0), DORSAL, 0.90 * thick)
    for side in (-1, 1):  # ulna and radius
        builder.add(
            PALM,
            (
                point(-60, -1, 11 * side * hand.palm_breadth),
                point(4, -1, 11 * side * hand.palm_breadth),
            ),
            (16.5, 16.0),
            DORSAL,
            0.98 * thick,
        )


def _thumb_web(builder: _Builder, hand: HandMeasurements, bones: Skeleton) -> None:
    base, middle = bones.chain("thumb")[:2]
    start, knuckle = bones.carpus["index"], bones.chain("index")[0]
    builder.add(
        PALM,
        (
            0.35 * base + 0.65 * middle + point(2, -1, -5),
            0.32 * start + 0.68 * knuckle + point(0, -3, 2),
        ),
        (8.5, 8.0),
    )
    builder.add(
        PALM,
        (
            0.12 * base + 0.88 * middle + point(0, 0, -6),
            0.18 * start + 0.82 * knuckle + point(0, -3, 3),
        ),
        (5.0, 6.0),
    )
