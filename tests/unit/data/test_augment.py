import math
from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from fourdhands.data.augment import (
    Annotations,
    AugmentConfig,
    Augmenter,
    ClipChange,
    is_box,
    mirror_clips,
)
from fourdhands.data.collate import Collate, CropConfig, StoredClip, Window
from fourdhands.data.degrade import PixelChange
from fourdhands.data.schema import encode_clip
from fourdhands.geometry.camera import project
from fourdhands.geometry.crop import apply_affine, bbox_around, crop_from_image
from fourdhands.hands.mano import HandModel
from fourdhands.structures import ClipBatch
from tests.helpers.clips import random_clip

CROP = CropConfig(size=(96, 72), bbox_scale=1.3, box="separate")
EVERYTHING = AugmentConfig(mirror=0.5, rotation=40, scale=0.2, shift=0.1, brightness=0.2, tint=0.1)


@pytest.fixture(scope="module")
def hand_model() -> HandModel:
    return HandModel.open()


@pytest.fixture(scope="module")
def augmenter(hand_model: HandModel) -> Augmenter:
    return Augmenter(hand_model.assets)


def annotations_of(hand_model: HandModel, clips: int = 4) -> Annotations:
    """Annotations whose joints are those of the MANO parameters, seen by the true camera."""
    rng = np.random.default_rng(0)
    windows = [
        Window(StoredClip(encode_clip(random_clip(rng, num_frames=2))), (0, 1))
        for _ in range(clips)
    ]
    found, _, _ = Collate(2, CROP)._annotate(windows)
    joints = hand_model(found.labels.hands).joints
    joints_2d = project(joints, found.camera.intrinsics[:, :, None])
    return replace(
        found,
        labels=replace(found.labels, joints=joints, joints_2d=joints_2d),
        bbox=bbox_around(joints_2d, found.labels.joints_2d_valid),
    )


def change_of(
    clips: int, *, mirrored: bool = False, angle: float = 0.0, scale: float = 1.0
) -> ClipChange:
    return ClipChange(
        mirrored=torch.full((clips,), mirrored),
        angle=torch.full((clips,), angle),
        box_scale=torch.full((clips, 2), scale),
        box_shift=torch.zeros(clips, 2, 2),
        gain=torch.ones(clips, 3),
        cut=torch.zeros(clips, 2, 4),
        pixels=PixelChange.draw(
            [np.random.default_rng()] * clips, occlusion=0, blur=0, low_resolution=0, jpeg=0
        ),
    )


def close(first: Tensor, second: Tensor, atol: float) -> None:
    torch.testing.assert_close(first, second, atol=atol, rtol=0)


def test_labels_stay_true(hand_model: HandModel, augmenter: Augmenter) -> None:
    before = annotations_of(hand_model)
    rngs = [np.random.default_rng(k) for k in range(4)]
    change = ClipChange.draw(EVERYTHING, rngs)
    assert change.mirrored.any() and not change.mirrored.all()
    after = augmenter(change, before)
    geometry = hand_model(after.labels.hands)
    close(geometry.joints, after.labels.joints, 1e-6)
    close(
        project(geometry.joints, after.camera.intrinsics[:, :, None]), after.labels.joints_2d, 1e-3
    )
    # the same pixels, whichever way they are reached
    for b, mirrored in enumerate(change.mirrored.tolist()):
        old = before.labels.joints_2d[b].flip(1) if mirrored else before.labels.joints_2d[b]
        close(
            apply_affine(after.image_from_stored[b, :, None], old),
            after.labels.joints_2d[b],
            1e-3,
        )
    # and the same world, up to the mirror
    camera_from = before.camera.cam_from_world
    for b, mirrored in enumerate(change.mirrored.tolist()):
        sign = torch.tensor((-1.0 if mirrored else 1.0, 1.0, 1.0))
        old_joints = before.labels.joints[b].flip(1) if mirrored else before.labels.joints[b]
        world = in_world(camera_from[b], old_joints) * sign
        close(in_world(after.camera.cam_from_world[b], after.labels.joints[b]), world, 1e-5)


def in_world(cam_from_world: Tensor, points: Tensor) -> Tensor:
    rotation, offset = cam_from_world[:, None, :3, :3], cam_from_world[:, None, None, :3, 3]
    return (points - offset) @ rotation


def test_mirror_twice_and_turn_back_change_nothing(
    hand_model: HandModel, augmenter: Augmenter
) -> None:
    before = annotations_of(hand_model)
    angle = torch.linspace(-3, 3, 4)
    for after in (
        mirror_clips(mirror_clips(before)),
        augmenter.turn(-angle, augmenter.turn(angle, before)),
    ):
        close(after.labels.joints, before.labels.joints, 1e-6)
        close(after.labels.hands.transl, before.labels.hands.transl, 1e-6)
        close(after.labels.hands.hand_pose, before.labels.hands.hand_pose, 1e-6)
        close(after.labels.joints_2d, before.labels.joints_2d, 2e-3)
        close(after.image_from_stored, before.image_from_stored, 2e-3)
        close(after.bbox[..., :2], before.bbox[..., :2], 2e-3)
        close(after.camera.intrinsics, before.camera.intrinsics, 1e-4)
        close(after.camera.cam_from_world, before.camera.cam_from_world, 1e-6)


def test_boxes_follow(hand_model: HandModel, augmenter: Augmenter) -> None:
    before = annotations_of(hand_model)
    K = before.camera.intrinsics[..., None, :, :]
    quarter = augmenter(change_of(4, angle=math.pi / 2), before).bbox
    swapped = before.bbox[..., [3, 2]] * torch.stack(
        (K[..., 0, 0] / K[..., 1, 1], K[..., 1, 1] / K[..., 0, 0]), -1
    )
    torch.testing.assert_close(quarter[..., 2:], swapped)
    doubled = augmenter(change_of(4, scale=2.0), before).bbox
    torch.testing.assert_close(doubled[..., 2:], before.bbox[..., 2:] * 2)
    gone = replace(before, bbox=torch.zeros_like(before.bbox))
    assert not is_box(augmenter(change_of(4, angle=1.0, mirrored=True), gone).bbox).any()


def test_parts_are_drawn_apart() -> None:
    one = ClipChange.draw(AugmentConfig(rotation=30), [np.random.default_rng(7)])
    two = ClipChange.draw(EVERYTHING, [np.random.default_rng(7)])
    close(one.angle / 30, two.angle / 40, 1e-6)
    assert (one.box_scale == 1).all() and (one.gain == 1).all() and not one.mirrored.any()


def test_truncation_cuts_one_border_or_two_that_meet(
    hand_model: HandModel, augmenter: Augmenter
) -> None:
    before = annotations_of(hand_model, clips=24)
    rngs = [np.random.default_rng(k) for k in range(24)]
    after = augmenter(ClipChange.draw(AugmentConfig(truncation=0.7), rngs), before)
    moved = []
    for sign in (-1, 1):  # left and top, right and bottom, in box sizes
        old, new = (box[..., :2] + sign * box[..., 2:] / 2 for box in (before.bbox, after.bbox))
        moved.append(-sign * (new - old) / before.bbox[..., 2:])
    cut = torch.cat(moved, -1)
    assert cut.min() > -1e-4 and cut.max() < 0.46
    close(cut[:, 0], cut[:, 1], 1e-4)  # alike in all frames
    borders = cut[:, 0] > 0.05
    assert set(borders.sum(-1).flatten().tolist()) == {0, 1, 2}
    assert not (borders[..., :2] & borders[..., 2:]).any()
    assert 0.5 < borders.any(-1).float().mean() < 0.9


@pytest.mark.parametrize("field", [option.name for option in fields(AugmentConfig)])
def test_ranges(field: str) -> None:
    with pytest.raises(ValueError, match=rf"augment\.{field} is -1"):
        AugmentConfig(**{field: -1})


def spot_window(
    rng: np.random.Generator, size: tuple[int, int] = (640, 480)
) -> tuple[Window, Tensor]:
    """A clip with a white disc at one joint of each hand on black, and the joints' pixels."""
    clip = random_clip(rng, num_frames=1, image_size=size)
    centres = np.array([[200.0, 150.0], [430.0, 300.0]], np.float32)
    joints_2d = clip.joints_2d.copy()
    joints_2d[0, :, 0] = centres
    image = np.zeros((size[1], size[0], 3), np.uint8)
    for x, y in centres:
        cv2.circle(image, (int(x), int(y)), 9, (255, 255, 255), -1, cv2.LINE_AA)
    jpg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    shifted = centres + np.array([[8, -5], [-11, 4]])
    bbox = np.concatenate((shifted, [[90, 110], [130, 80]]), -1)
    clip = replace(clip, joints_2d=joints_2d, bbox=bbox[None].astype(np.float32), frames=(jpg,))
    return Window(StoredClip(encode_clip(clip)), (0,)), torch.from_numpy(centres)


@pytest.mark.parametrize("seed", range(6))
def test_pixels_follow(augmenter: Augmenter, seed: int) -> None:
    """The disc lies in the crop where the joint, projected and moved by the crop's affine, lies."""
    window, _ = spot_window(np.random.default_rng(0))
    config = replace(EVERYTHING, tint=0, brightness=0, mirror=seed % 2, rotation=60)
    change = ClipChange.draw(config, [np.random.default_rng(seed)])
    batch = Collate(1, CROP, augmenter)([window], change)
    joint = batch.labels.joints_2d[0, 0, :, :1]
    expected = apply_affine(crop_from_image(batch.bbox, CROP.size)[0, 0], joint)[:, 0]
    rows, columns = torch.meshgrid(torch.arange(96.0), torch.arange(72.0), indexing="ij")
    for side in range(2):
        light = batch.crops[0, 0, side].float().mean(0)
        found = torch.stack(((light * columns).sum(), (light * rows).sum())) / light.sum()
        close(found, expected[side], 0.3)


def test_mirrored_frame_gives_the_same_crops_to_the_other_side(augmenter: Augmenter) -> None:
    window, _ = spot_window(np.random.default_rng(0))
    collate = Collate(1, CROP, augmenter)
    plain = collate([window], change_of(1))
    mirrored = collate([window], change_of(1, mirrored=True))
    difference = plain.crops.int() - mirrored.crops.flip(2).int()
    assert difference.abs().max() <= 1
    close(mirrored.labels.joints, mirror(plain).labels.joints, 1e-6)


def mirror(batch: ClipBatch) -> ClipBatch:
    sign = torch.tensor((-1.0, 1.0, 1.0))
    return replace(batch, labels=replace(batch.labels, joints=batch.labels.joints.flip(2) * sign))


def test_colours(augmenter: Augmenter) -> None:
    window, _ = spot_window(np.random.default_rng(0))
    change = replace(change_of(1), gain=torch.tensor([[0.5, 0.25, 2.0]]))
    crops = Collate(1, CROP, augmenter)([window], change).crops[0, 0, 0]
    assert crops.amax((1, 2)).tolist() == [128, 64, 255]  # red, green, blue
