"""Whose hand is whose: crossings, swapped labels, duplicates, gaps; boxes without lag."""

import numpy as np
import pytest

from fourdhands.skeleton import Side
from fourdhands.video.detect import Detection
from fourdhands.video.people import count_people
from fourdhands.video.pieces import make_pieces
from fourdhands.video.track import PairTrack, follow, smooth_boxes

R, L = Side.RIGHT, Side.LEFT
SIZE = (1280, 720)


def hand(side, x, y=300.0, size=100.0, score=0.95):
    return Detection(side, np.array((x, y, size, size), np.float32), score)


def places(track, side):
    return {frame: float(found.bbox[0]) for frame, found in track.hands[side].items()}


def test_swapped_labels_of_some_frames_do_not_swap_hands():
    frames = []
    for t in range(40):
        swapped = 10 <= t < 14 or t == 30
        sides = (L, R) if swapped else (R, L)
        frames.append([hand(sides[0], 300 + t), hand(sides[1], 900 - t)])
    (track,) = follow(frames, 30.0, SIZE)
    assert places(track, R) == {t: 300 + t for t in range(40)}
    assert places(track, L) == {t: 900 - t for t in range(40)}


def test_one_label_for_both_hands_for_a_while_is_set_right():
    frames = [[hand(R, 300), hand(R if 10 <= t < 20 else L, 900)] for t in range(40)]
    (track,) = follow(frames, 30.0, SIZE)
    assert set(places(track, L).values()) == {900.0}
    assert len(track.hands[L]) == 40


def test_hands_that_cross_keep_their_sides():
    # both on one spot at frame 20, where the detector sees one hand only
    frames = []
    for t in range(41):
        right, left = hand(R, 300 + 15 * t), hand(L, 900 - 15 * t)
        frames.append([right, left] if abs(t - 20) > 2 else [right])
    (track,) = follow(frames, 30.0, SIZE)
    assert places(track, R)[40] == 900
    assert places(track, L)[40] == 300


def test_a_passing_ghost_is_left_out():
    frames = [[hand(R, 300), hand(L, 900)] for _ in range(30)]
    for t in (12, 13):
        frames[t].append(hand(L, 600, score=0.6))
    (track,) = follow(frames, 30.0, SIZE)
    assert set(places(track, L).values()) == {900.0}


def test_two_people_are_two_pairs_the_more_persistent_one_first():
    frames = [[hand(R, 200), hand(L, 400)] for _ in range(30)]
    for t in range(10):
        frames[t] += [hand(R, 900), hand(L, 1100)]
    tracks = follow(frames, 30.0, SIZE, most_pairs=4)
    assert [len(track) for track in tracks] == [60, 20]
    assert set(places(tracks[1], R).values()) == {900.0}


@pytest.mark.parametrize(
    ("seen", "long"), [((0, 1), False), (range(10), True), (range(0, 28, 2), False)]
)
def test_a_person_who_shows_for_a_while(seen, long):
    track = PairTrack(({t: hand(R, 300) for t in seen}, {0: hand(L, 500)}))
    assert track.lasts(10) is long


def test_endings_say_why():
    frames = []
    for t in range(60):
        hands = [hand(R, 400)]
        if t < 20:
            hands.append(hand(L, 1230 - 30 * (19 - t) + 0.0))
        elif 40 <= t < 50:
            hands.append(hand(L, 800))
        frames.append(hands)
    (track,) = follow(frames, 30.0, SIZE)
    reasons = [(e.side, e.frame, e.reason) for e in track.endings]
    assert reasons == [(L, 19, "left the image"), (L, 49, "lost"), (R, 59, "end of the shot")]


def test_boxes_of_a_steady_motion_stay_and_trembling_goes():
    t = np.arange(60)
    steady = np.stack((100 + 8 * t, 300 - 2 * t, 80 * 1.01**t, 90 * 1.01**t), 1)
    seen = np.ones(60, bool)
    seen[20:26] = False
    smooth, filled = smooth_boxes(steady * seen[:, None], seen, 30.0)
    assert filled.all()
    assert smooth == pytest.approx(steady, rel=2e-3)
    noise = np.random.default_rng(0).normal(0, 3, (60, 2))
    noisy = np.concatenate((steady[:, :2] + noise, steady[:, 2:]), 1)
    smooth, _ = smooth_boxes(noisy, np.ones(60, bool), 30.0)
    off = (smooth - steady)[5:-5, :2]
    assert off.std() < 0.65 * noise.std()
    assert abs(off.mean()) < 1


def test_long_gaps_are_not_bridged():
    seen = np.zeros(60, bool)
    seen[:10] = seen[40:] = True
    _, filled = smooth_boxes(np.tile(np.float32((9, 9, 5, 5)), (60, 1)), seen, 30.0)
    assert filled.tolist() == seen.tolist()


def test_each_of_two_people_keeps_their_own_hands():
    # hands that are seen as often, and as sure: only where they are tells whose they are
    xs = {(R, 0): 200, (L, 0): 400, (R, 1): 900, (L, 1): 1100}
    frames = []
    for t in range(90):
        hidden = {(L, 0): t >= 40, (R, 1): t < 45}  # one goes, then another one comes
        frames.append([hand(side, x) for (side, k), x in xs.items() if not hidden.get((side, k))])
    tracks = follow(frames, 30.0, SIZE, most_pairs=4)
    assert len(tracks) == 2
    for track in tracks:
        person = 0 if places(track, R)[50] == 200 else 1
        assert set(places(track, R).values()) == {xs[R, person]}
        assert set(places(track, L).values()) == {xs[L, person]}


def test_ghosts_and_labels_make_no_people():
    frames = [[hand(R, 300), hand(R if t < 40 else L, 900)] for t in range(90)]
    for t in (12, 13, 14, 60, 61):
        frames[t].append(hand(L, 600, score=0.6))
    assert count_people(make_pieces(frames, 30.0), 30.0) == 1
    frames = [[*hands, hand(R, 600)] for hands in frames]
    assert count_people(make_pieces(frames, 30.0), 30.0) >= 2
