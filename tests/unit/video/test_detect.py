"""Boxes: given by hand, and estimated from joints."""

import numpy as np
import pytest
import torch

from fourdhands.geometry.crop import bbox_around
from fourdhands.hands.mano import HandModel
from fourdhands.skeleton import Side
from fourdhands.video.detect import BoxDetector, bbox_from_joints, parse_box
from tests.helpers.batches import random_hands


def test_box_covers_the_pixels_it_names():
    hand = parse_box("10, 20,4,1, Left")
    assert hand.side is Side.LEFT
    assert hand.bbox.tolist() == [11.5, 20.0, 4.0, 1.0]  # columns 10..13, row 20


@pytest.mark.parametrize(
    "text",
    ["", "1,2,3,4", "1,2,3,right", "1,2,3,4,both", "a,2,3,4,right", "1,2,3,4,5,left"],
)
def test_texts_that_are_no_boxes_are_named(text):
    with pytest.raises(ValueError, match=f"box '{text}' is not x,y,w,h,side"):
        parse_box(text)


@pytest.mark.parametrize(
    "text", ["1,2,0,4,right", "1,2,3,-4,right", "nan,2,3,4,right", "1,2,inf,4,right"]
)
def test_impossible_boxes_are_named(text):
    with pytest.raises(ValueError, match=f"box '{text}' needs finite numbers"):
        parse_box(text)


def test_box_outside_the_image_is_refused():
    image = np.zeros((50, 100, 3), np.uint8)
    inside = parse_box("-10,40,30,30,right")
    assert BoxDetector((inside,))(image) == [inside]
    for outside in ("100,0,10,10,right", "-10,0,10,10,right", "0,50,5,5,left"):
        with pytest.raises(ValueError, match="outside the image of 100 x 50 pixels"):
            BoxDetector((parse_box(outside),))(image)


def test_box_of_joints_is_about_the_box_of_the_mesh():
    hands = random_hands(200, generator=torch.Generator().manual_seed(0))
    geometry = HandModel()(hands)
    joints_2d, vertices_2d = (
        1000 * points[:, 0, :, :2] / points[:, 0, :, 2:] + 2000
        for points in (geometry.joints, geometry.vertices)
    )
    true = bbox_around(vertices_2d, torch.ones(vertices_2d.shape[:-1], dtype=torch.bool)).numpy()
    found = np.array([bbox_from_joints(joints, (4000, 4000)) for joints in joints_2d.numpy()])
    error = np.abs(found - true) / true[:, 2:].max(1, keepdims=True)
    assert error.mean() < 0.06
    assert np.quantile(error, 0.95) < 0.15


def test_box_of_joints_stays_inside_the_image():
    joints_2d = np.linspace((-30, 10), (50, 200), 21)
    x, y, width, height = bbox_from_joints(joints_2d, (40, 100))
    assert (x - width / 2, x + width / 2, y + height / 2) == (-0.5, 39.5, 99.5)
    assert (bbox_from_joints(joints_2d + 500, (40, 100))[2:] == 0).all()
