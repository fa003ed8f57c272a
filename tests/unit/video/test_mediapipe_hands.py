"""MediaPipe behind our terms; only the last tests need MediaPipe itself."""

import gc
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from fourdhands.skeleton import Side
from fourdhands.video.mediapipe_hands import (
    ALL_LOOKS,
    LOOK_ROUND,
    FollowingDetector,
    Look,
    MediaPipeDetector,
    make_detection,
    model_joints,
    quiet_native_logs,
    unturn,
)
from tests.helpers.open_palm import draw_open_palm


def test_labels_of_the_mirrored_interface_are_swapped():
    joints_2d = np.random.default_rng(0).uniform(10, 90, (21, 2))
    assert make_detection("Left", 0.9, joints_2d, (100, 100)).side is Side.RIGHT
    assert make_detection("Right", 0.9, joints_2d, (100, 100)).side is Side.LEFT


def test_joints_outside_the_image_have_no_score():
    joints_2d = np.full((21, 2), 50.0)
    joints_2d[3] = (120, 50)
    scores = make_detection("Left", 0.5, joints_2d, (100, 100)).joint_scores
    assert scores is not None
    assert scores[3] == 0
    assert (np.delete(scores, 3) == 0.5).all()


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_unturn_finds_the_pixel_again(turns):
    image = np.arange(5 * 7).reshape(5, 7)
    turned = np.rot90(image, turns)
    for y, x in np.ndindex(*turned.shape):
        ((column, row),) = unturn(np.array([(x, y)]), turned.shape, turns)
        assert image[row, column] == turned[y, x]


def test_looks_cover_the_image_and_stay_inside():
    for look in ALL_LOOKS:
        left, top, width, height = look.tile
        assert min(left, top) >= 0
        assert max(left + width, top + height) <= 1 + 1e-9


def test_chatter_is_dropped_and_errors_pass(capfd):
    with quiet_native_logs():
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n")
        os.write(2, b"W0000 00:00:17 7 feedback.cc:114] Feedback manager\nE0000 real trouble\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "E0000 real trouble\nafter\n"


def test_without_mediapipe_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(ValueError, match=r"pip install .*'\.\[video\]'"):
        MediaPipeDetector()


@pytest.fixture(scope="module")
def open_palm():
    return draw_open_palm()


@pytest.mark.parametrize("looks", [ALL_LOOKS, ALL_LOOKS[:1], (Look(model=1, turns=1),)])
def test_a_drawn_hand_is_found_once_in_place_and_on_its_side(open_palm, looks):
    pytest.importorskip("mediapipe")
    image, pixels, _ = open_palm
    detector = MediaPipeDetector(looks)
    low, high = pixels.min(0), pixels.max(0)
    (right,) = detector(image)
    assert right.side is Side.RIGHT
    assert np.abs(right.bbox[:2] - (low + high) / 2).max() < 0.1 * (high - low).max()
    assert np.abs(right.bbox[2:] - (high - low)).max() < 0.2 * (high - low).max()
    (left,) = detector(np.ascontiguousarray(image[:, ::-1]))
    assert left.side is Side.LEFT
    assert abs(left.bbox[0] - (639 - right.bbox[0])) < 10


@pytest.mark.parametrize("shape", [(300, 400), (1, 1), (1, 200)])
def test_nothing_is_found_where_nothing_is(shape):
    pytest.importorskip("mediapipe")
    assert MediaPipeDetector()(np.full((*shape, 3), 127, np.uint8)) == []


def test_points_move_to_the_models_joints_however_the_hand_lies():
    """Wrist and tips go outwards, the thumb's base inwards; a turned hand's joints turn with it."""
    points = np.random.default_rng(1).uniform(20, 80, (21, 2))
    moved = model_joints(points) - points
    for joint, other in ((0, 9), (4, 3), (8, 7), (12, 11), (16, 15), (20, 19)):
        assert moved[joint] @ (points[joint] - points[other]) > 0
    assert moved[1] @ (points[1] - points[0]) < 0
    turn, shift = np.array([[0.6, -0.8], [0.8, 0.6]]), np.array([3.0, -2.0])
    np.testing.assert_allclose(
        model_joints(points @ turn.T + shift), model_joints(points) @ turn.T + shift
    )


def test_joints_of_a_drawn_hand_are_the_models(open_palm):
    pytest.importorskip("mediapipe")
    image, _, joints = open_palm
    (right,) = MediaPipeDetector(ALL_LOOKS[:1])(image)
    size = np.linalg.norm(joints[12] - joints[0])
    assert np.linalg.norm(right.joints_2d - joints, axis=-1).mean() < 0.03 * size
    assert np.linalg.norm(right.joints_2d[12] - right.joints_2d[0]) == pytest.approx(size, rel=0.03)


def test_a_detector_leaves_nothing_behind(monkeypatch):
    """MediaPipe's graphs keep their memory until they are closed; cuts start no new ones."""
    made, closed = [], []

    class Hands:
        def __init__(self, **settings):
            made.append(self)

        def process(self, image):
            return SimpleNamespace()

        def reset(self):
            pass

        def close(self):
            closed.append(self)

    solution = SimpleNamespace(Hands=Hands)
    monkeypatch.setattr("fourdhands.video.mediapipe_hands._import_solution", lambda: solution)
    detector = FollowingDetector()
    for _ in range(3):
        detector.restart()
    assert len(made) == 5 and not closed
    del detector
    gc.collect()
    assert len(closed) == 5


def test_a_crowd_is_looked_at_again_where_hands_are_missed(monkeypatch):
    pytest.importorskip("mediapipe")
    joints = np.linspace((0, 0), (9, 9), 21)
    hands = [
        make_detection("Left", 0.9, joints, (99, 99)),
        make_detection("Right", 0.9, 60 + joints, (99, 99)),
        make_detection("Right", 0.9, np.array((60, 0)) + joints, (99, 99)),
    ]
    seen, looks = 2, 0  # by the plain looks; how often it was looked in all ways

    class Looks:
        def __init__(self, ways):
            self.all = len(ways) > 2

        def all_of(self, image):
            nonlocal looks
            looks += self.all
            return hands if self.all else hands[:seen]

    monkeypatch.setattr("fourdhands.video.mediapipe_hands.MediaPipeDetector", Looks)
    image = np.full((48, 64, 3), 127, np.uint8)
    one, crowd = FollowingDetector(), FollowingDetector(crowd=True)
    assert len(one(image)) == 2 and looks == 0
    assert len(crowd(image)) == 3 and looks == 1  # the first time
    assert len(crowd(image)) == 3 and looks == 2  # where one is missed
    seen = 3
    for _ in range(LOOK_ROUND + 1):
        assert len(crowd(image)) == 3
    assert looks == 3  # once a round
