"""Hands in the crop's and the camera's frame: a round trip, and left as mirrored right."""

import torch

from fourdhands.hands.mano import HandModel
from fourdhands.models.crop_frame import hands_in_camera_frame, hands_in_crop_frame
from tests.helpers.batches import mirrored_swapped, random_batch, swap_sides


def test_there_and_back() -> None:
    batch = random_batch(HandModel())
    assert batch.labels is not None
    shown = hands_in_crop_frame(batch.labels.hands, batch.bbox, batch.camera)
    back = hands_in_camera_frame(shown, batch.bbox, batch.camera)
    for name, value in vars(batch.labels.hands).items():
        torch.testing.assert_close(vars(back)[name], value, rtol=1e-4, atol=1e-5)


def test_the_mirrored_scene_looks_the_same_to_the_other_side() -> None:
    batch = random_batch(HandModel())
    assert batch.labels is not None
    shown = hands_in_crop_frame(batch.labels.hands, batch.bbox, batch.camera)
    mirror = mirrored_swapped(batch)
    other = hands_in_crop_frame(swap_sides(batch.labels.hands), mirror.bbox, mirror.camera)
    for first, second in zip(shown, other, strict=True):
        torch.testing.assert_close(first, second[:, :, [1, 0]], rtol=1e-4, atol=1e-5)
