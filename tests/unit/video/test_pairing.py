"""Duplicates merged, hands of one person paired."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourdhands.skeleton import Side
from fourdhands.video.detect import Detection
from fourdhands.video.pairing import merge_duplicates, pair_hands

R, L = Side.RIGHT, Side.LEFT


def hand(side, x, y, size=100.0, score=0.9, palm=None):
    joints_2d = None
    if palm is not None:
        joints_2d = np.tile(np.float32(palm), (21, 1))
    return Detection(side, np.array((x, y, size, size), np.float32), score, joints_2d)


def test_detections_of_one_hand_vote_on_its_side():
    votes = [hand(L, 0, 0, score=0.9), hand(R, 3, 0, score=0.6), hand(R, 5, 0, score=0.6)]
    (kept,) = merge_duplicates(votes)
    assert kept.side is R
    assert kept.bbox[0] == 3  # the most trusted one of that side
    assert kept.score == pytest.approx(0.6 * 1.2 / 2.1)


def test_parts_and_turned_palms_are_duplicates_interlaced_hands_are_not():
    whole = hand(R, 0, 0, 200, palm=(0, 0))
    part = hand(R, 40, 40, 80, palm=(80, 80))
    other_side_same_palm = hand(L, 60, 60, 60, palm=(10, 10))
    interlaced = hand(L, 40, 40, 80, palm=(60, 60))
    assert merge_duplicates([whole, part]) == [whole]
    assert [kept.side for kept in merge_duplicates([whole, other_side_same_palm])] == [R]
    assert merge_duplicates([whole, interlaced]) == [whole, interlaced]


def test_fingers_taken_for_a_hand_give_way_to_the_hand_seen_more_often():
    whole, fingers = hand(R, 0, 0, 200), hand(L, 50, 50, 80)
    assert merge_duplicates([fingers, whole, whole]) == [whole]
    assert merge_duplicates([whole, fingers]) == [whole, fingers]  # interlaced, it seems


def test_hands_seen_once_need_a_higher_score():
    lone, twice = hand(R, 0, 0, score=0.6), hand(L, 500, 0, score=0.6)
    assert merge_duplicates([lone, twice, twice], min_lone_score=0.7) == [twice]


def test_two_people_are_paired_person_by_person():
    a_right, a_left = hand(R, 100, 100), hand(L, 300, 100)
    b_right, b_left = hand(R, 800, 120), hand(L, 1000, 120)
    pairs = pair_hands([b_left, a_right, b_right, a_left])
    assert pairs == [(b_right, b_left), (a_right, a_left)]


def test_hands_out_of_one_persons_reach_stay_alone():
    near, far = hand(R, 0, 0), hand(L, 1000, 0)
    assert pair_hands([near, far]) == [(near, None), (None, far)]
    background = hand(L, 150, 0, size=10)
    assert pair_hands([near, background]) == [(near, None), (None, background)]
    assert pair_hands([]) == []


hands = st.builds(
    hand, st.sampled_from(Side), st.floats(0, 2000), st.floats(0, 2000), st.floats(5, 500)
)


@given(st.lists(hands, max_size=8))
def test_every_hand_is_in_exactly_one_pair_on_its_side(detections):
    pairs = pair_hands(detections)
    paired = [found for pair in pairs for found in pair if found is not None]
    assert sorted(map(id, paired)) == sorted(map(id, detections))
    assert all(right is None or right.side is R for right, _ in pairs)
    assert all(left is None or left.side is L for _, left in pairs)
