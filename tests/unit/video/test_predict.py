"""From a photograph to hands: crops, sides and cameras must agree."""

import io
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from fourdhands.data.collate import CropConfig
from fourdhands.geometry.camera import (
    default_intrinsics,
    project,
    weak_perspective_from_transl,
)
from fourdhands.geometry.crop import apply_affine, crop_from_image
from fourdhands.geometry.rotation import mirror_rotation, sixd_from_matrix
from fourdhands.hands.mano import HandModel
from fourdhands.models.crop_frame import hands_in_camera_frame
from fourdhands.models.heads import HandParameters
from fourdhands.skeleton import Side
from fourdhands.structures import HandState, Predictions
from fourdhands.video.detect import Detection, bbox_from_joints
from fourdhands.video.pairing import pair_hands
from fourdhands.video.predict import PhotoHands, make_batch, predict_photo, read_photo
from tests.helpers.batches import random_hands

SIZE = (640, 480)
CROP = CropConfig(size=(64, 48), bbox_scale=1.2, box="separate")
LEFT = torch.tensor([False, True])


class Oracle:
    """Knows the hands, and answers as a network must: each as a right hand of its crop."""

    crop = CROP
    confidence_threshold = 0.5

    def confidence(self, predictions, geometry, batch) -> torch.Tensor:
        return batch.hand_present * torch.tensor([0.9, 0.4])

    def __init__(self, hands: HandState, hand_model: HandModel):
        self.hands, self.hand_model = hands, hand_model

    def __call__(self, batch) -> Predictions:
        rotations = torch.cat((self.hands.global_orient[..., None, :, :], self.hands.hand_pose), -3)
        rotations = torch.where(LEFT[:, None, None, None], mirror_rotation(rotations), rotations)
        intrinsics = batch.camera.intrinsics[..., None, :, :].expand(1, 1, 2, 3, 3)
        camera = weak_perspective_from_transl(self.hands.transl, batch.bbox, intrinsics)
        mirrored = camera * torch.tensor((1.0, -1.0, 1.0))
        camera = torch.where(LEFT[:, None], mirrored, camera)
        answer = HandParameters(rotations, sixd_from_matrix(rotations), self.hands.betas, camera)
        return Predictions(
            hands=hands_in_camera_frame(answer, batch.bbox, batch.camera),
            crop_camera=camera,
            rotations_6d=answer.rotations_6d,
            upsilon=torch.ones(1, 1, 3),
        )


@pytest.fixture(scope="module")
def hand_model():
    return HandModel()


@pytest.fixture(scope="module")
def scene(hand_model):
    """Two hands, where their joints appear, and an image with a dot of its own colour on each."""
    hands = random_hands(1, 1, generator=torch.Generator().manual_seed(3))
    joints = hand_model(hands).joints[0, 0]
    joints_2d = project(joints, default_intrinsics(torch.tensor(SIZE, dtype=torch.float32)))
    image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    for side in Side:
        for k, (x, y) in enumerate(joints_2d[side].round().int().tolist()):
            image[y - 3 : y + 4, x - 3 : x + 4] = (80 * (side + 1), 10 * k + 20, 255 - 10 * k)
    return hands, joints_2d.numpy(), image


def detect(joints_2d) -> list[Detection]:
    return [Detection(side, bbox_from_joints(joints_2d[side], SIZE), 0.9) for side in Side]


def test_hands_come_out_where_they_are(scene, hand_model):
    hands, joints_2d, image = scene
    found = detect(joints_2d)
    photo = predict_photo(image, lambda _: found, Oracle(hands, hand_model))
    assert photo is not None
    np.testing.assert_allclose(photo.transl, hands.transl[0], atol=1e-5)
    np.testing.assert_allclose(photo.global_orient, hands.global_orient[0], atol=1e-6)
    np.testing.assert_allclose(photo.joints_2d[0], joints_2d, atol=0.05)
    for side in Side:
        assert (photo.detected_bbox[0, side] == found[side].bbox).all()
        assert (photo.bbox[0, side, 2:] >= photo.detected_bbox[0, side, 2:] * 1.19).all()


def test_crops_show_each_hand_under_its_affine(scene):
    _, joints_2d, image = scene
    crop = CropConfig(size=(256, 192), bbox_scale=1.2, box="separate")
    batch = make_batch(image, pair_hands(detect(joints_2d)), crop)
    points = apply_affine(crop_from_image(batch.bbox, crop.size), torch.from_numpy(joints_2d))
    for side in Side:
        x, y = joints_2d[side].round().astype(int).T
        columns, rows = points[0, 0, side].round().long().T.numpy()
        seen = batch.crops[0, 0, side].permute(1, 2, 0).numpy()[rows, columns]
        off = np.abs(seen.astype(int) - image[y, x]).max(-1)
        assert (off < 8).mean() > 0.9  # where dots meet, their borders blend


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.tuples(*[st.integers(4, 400)] * 4), min_size=2, max_size=2),
    st.sampled_from(["separate", "holistic"]),
)
def test_the_mirrored_photograph_gives_the_same_bits_on_swapped_sides(seed, boxes, kind):
    image = np.random.default_rng(seed).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    crop = CropConfig(size=(32, 24), bbox_scale=1.25, box=kind)
    bbox = [np.array(box, np.float32) / 4 for box in boxes]
    mirrored = [box * (-1, 1, 1, 1) + (129, 0, 0, 0) for box in bbox]
    right, left = (Detection(side, bbox[side], 1.0) for side in Side)
    was_left, was_right = (
        Detection(side, mirrored[1 - side].astype(np.float32), 1.0) for side in Side
    )
    batch = make_batch(image, [(right, left)], crop)
    twin = make_batch(np.ascontiguousarray(image[:, ::-1]), [(was_left, was_right)], crop)
    assert torch.equal(batch.crops, twin.crops.flip(2))
    assert torch.equal(batch.bbox[..., 0], 129 - twin.bbox.flip(2)[..., 0])
    assert torch.equal(batch.bbox[..., 1:], twin.bbox.flip(2)[..., 1:])
    assert torch.equal(batch.camera.intrinsics, twin.camera.intrinsics)


def test_one_hand_leaves_the_other_place_empty(scene, hand_model):
    hands, joints_2d, image = scene
    photo = predict_photo(image, lambda _: detect(joints_2d)[1:], Oracle(hands, hand_model))
    assert photo is not None
    assert photo.present.tolist() == [[False, True]]
    for name in ("bbox", "transl", "vertices", "joints_2d", "score", "crop_camera"):
        array = getattr(photo, name)
        assert (array[0, Side.RIGHT] == 0).all()
        assert (array[0, Side.LEFT] != 0).any()
    assert (photo.upsilon == 0).all()  # it takes two
    assert predict_photo(image, lambda _: [], Oracle(hands, hand_model)) is None


def test_npz_holds_what_the_docstring_says(scene, hand_model):
    hands, joints_2d, image = scene
    photo = predict_photo(image, lambda _: detect(joints_2d), Oracle(hands, hand_model), 500.0)
    assert photo is not None
    with np.load(io.BytesIO(photo.to_bytes()), allow_pickle=False) as file:
        stored = dict(file)
    assert set(stored) == {field.name for field in fields(PhotoHands)}
    assert stored["intrinsics"].tolist() == [[500, 0, 319.5], [0, 500, 239.5], [0, 0, 1]]
    assert stored["present"].dtype == bool
    shapes = {name: array.shape for name, array in stored.items()}
    assert shapes["hand_pose"] == (1, 2, 15, 3, 3)
    assert shapes["vertices"] == (1, 2, 778, 3)
    assert shapes["upsilon"] == (1, 3)
    assert shapes["faces"] == (2, 1538, 3)


def test_photographs_are_read_upright(tmp_path):
    stored = np.zeros((40, 60, 3), np.uint8)
    stored[:20] = (200, 30, 30)  # red above, as the sensor saw it
    exif = PillowImage.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    PillowImage.fromarray(stored).save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = read_photo(tmp_path / "a.jpg")
    assert image.shape == (60, 40, 3)
    assert image[30, 35, 0] > 150  # red now on the right
    assert image[30, 5, 0] < 50
    PillowImage.fromarray(stored[..., 0]).save(tmp_path / "grey.png")
    assert read_photo(tmp_path / "grey.png").shape == (40, 60, 3)


def test_unreadable_photographs_are_named(tmp_path):
    whole = tmp_path / "whole.jpg"
    PillowImage.fromarray(np.zeros((200, 200, 3), np.uint8)).save(whole)
    (tmp_path / "half.jpg").write_bytes(whole.read_bytes()[:700])
    (tmp_path / "text.jpg").write_text("hello")
    for name, message in (("half.jpg", "broken image"), ("text.jpg", "not an image")):
        with pytest.raises(ValueError, match=f"{name}: {message}"):
            read_photo(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no such photograph"):
        read_photo(tmp_path / "none.jpg")
