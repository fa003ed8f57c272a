"""Visibility on scenes whose answer is known."""

import cv2
import numpy as np

from fourdhands.hands.assets import load_assets
from fourdhands.rendering.lighting import Lighting
from fourdhands.rendering.primitives import box, sphere
from fourdhands.rendering.raster import Rasterizer, RenderedFrame
from fourdhands.rendering.skin import SkinModel
from fourdhands.rendering.surface import Surface
from fourdhands.rendering.visibility import visible_joints, visible_points
from fourdhands.skeleton import FINGERTIP_VERTICES, JOINTS_FROM_MANO

GREY = (0.5, 0.5, 0.5)
SIZE = 96
K = np.array([[96.0, 0.0, 47.5], [0.0, 96.0, 47.5], [0.0, 0.0, 1.0]])


def draw(surfaces: list[Surface]) -> RenderedFrame:
    paper = np.zeros((SIZE, SIZE, 3), np.uint8)
    return Rasterizer(SIZE, SIZE).render(surfaces, K, Lighting.studio(), paper)


def test_two_planes() -> None:
    near = box((0.2, 0.6, 0.01), GREY).moved(np.eye(3), (-0.1, 0.0, 0.505))  # x from -0.2 to 0
    far = box((2.0, 2.0, 0.01), GREY).moved(np.eye(3), (0.0, 0.0, 1.005))
    frame = draw([near, far])
    points = np.array(
        [
            (0.2, 0.0, 1.0),  # on the far plane, free
            (-0.2, 0.0, 1.0),  # on the far plane, behind the near one
            (-0.1, 0.0, 0.5),  # on the near plane
            (-0.1, 0.0, 0.53),  # buried in the near plane
            (0.8, 0.0, 1.0),  # outside the image
            (0.0, 0.0, -1.0),  # behind the camera
        ]
    )
    assert visible_points(points, frame, K, [2]).tolist() == [True, *(5 * [False])]
    assert visible_points(points, frame, K, [1]).tolist() == [False, False, True, *(3 * [False])]
    deep = visible_points(points, frame, K, [1], tolerance=0.04)
    assert deep.tolist() == [False, False, True, True, False, False]


def test_the_near_half_of_a_ball_is_visible() -> None:
    ball = sphere(0.1, GREY).moved(np.eye(3), (0.0, 0.0, 0.5))
    seen = visible_points(ball.vertices, draw([ball]), K, [1])
    outward = ball.vertices - (0.0, 0.0, 0.5)
    facing = -(outward * ball.vertices).sum(axis=1) / np.linalg.norm(ball.vertices, axis=1) / 0.1
    assert seen[facing > 0.4].all()  # nearer the rim, a pixel spans more depth than the tolerance
    assert not seen[facing < -0.1].any()


def test_joints_of_an_open_hand_are_visible_unless_something_covers_them() -> None:
    assets = load_assets()[0]
    turn = np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # back of the hand
    shift = np.array([0.0, 0.0, 0.35])
    vertices = assets.v_template @ turn.T + shift
    joints = np.concatenate([assets.joints, assets.v_template[list(FINGERTIP_VERTICES)]])
    joints = joints[list(JOINTS_FROM_MANO)] @ turn.T + shift
    model = SkinModel(assets)
    surfaces = list(model.surfaces(vertices, model.sample(np.random.default_rng(0))))
    assert visible_joints(joints, draw(surfaces), K, [1, 2]).all()
    # a bar over the fingers, above the knuckles
    bar = box((0.3, 0.05, 0.01), GREY).moved(np.eye(3), (0.0, joints[10, 1] * 0.8, 0.28))
    frame = draw([*surfaces, bar])
    hidden = (frame.instance == 3).astype(np.uint8)
    u, v = np.round((joints @ K.T)[:, :2] / joints[:, 2:]).astype(int).T
    wholly, partly = cv2.erode(hidden, np.ones((3, 3))), cv2.dilate(hidden, np.ones((3, 3)))
    seen = visible_joints(joints, frame, K, [1, 2])
    assert 3 <= wholly[v, u].sum() <= 12
    assert not seen[wholly[v, u] == 1].any()
    assert seen[partly[v, u] == 0].all()
