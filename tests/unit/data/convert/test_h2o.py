"""H2O: the left hand first and of the released model, cameras to the world, lists with holes."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fourdhands.data.convert.conventions import Floats, rigid, rotation
from fourdhands.data.convert.h2o import H2O
from fourdhands.skeleton import Side
from tests.helpers.official import (
    FrameName,
    TrueHand,
    assert_converted,
    camera,
    convert,
    skipped,
    stored_clips,
    true_hand,
    write_picture,
)

SIZE, SMALL = (320, 180), (114, 64)
K = camera(SIZE)
Truth = dict[FrameName, list[TrueHand]]


def two_hands(rng: np.random.Generator) -> list[TrueHand]:
    return [
        true_hand(rng, Side.RIGHT, K, centre=(0.06, 0, 0.6)),
        true_hand(rng, Side.LEFT, K, centre=(-0.06, 0, 0.6), released=True),
    ]


def cam_from_world(name: str, number: int) -> Floats:
    """One that moves, for the head's camera; fixed ones otherwise."""
    turn = 0.1 * number if name == "cam4" else float(name[-1])
    return rigid(rotation((0.3, turn, -0.2)), (0.1, 0.2 + turn, 0.4))


def write_text(path: Path, numbers: Iterable[float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(" ".join(f"{value:.9f}" for value in numbers) + "\n")


def write_frame(
    folder: Path,
    number: int,
    hands: list[TrueHand],
    *,
    mano: str = "hand_pose_MANO",
    ending: str = "png",
) -> None:
    """All that H2O has of one image, in the folder of its camera."""
    stem = f"{number:06d}"
    write_picture(folder / "rgb" / f"{stem}.{ending}", SIZE, hands)
    write_text(folder / "cam_intrinsics.txt", (K[0, 0], K[1, 1], K[0, 2], K[1, 2], *SIZE))
    world_from_cam = np.linalg.inv(cam_from_world(folder.name, number))
    write_text(folder / "cam_pose" / f"{stem}.txt", world_from_cam.ravel())
    joints, parameters = [], []
    for side in (Side.LEFT, Side.RIGHT):
        found = [hand for hand in hands if hand.side is side]
        joints += [1.0, *found[0].joints.ravel()] if found else [0.0] * 64
        parameters += (
            [1.0, *found[0].transl, *found[0].pose48, *found[0].betas] if found else [0.0] * 62
        )
    write_text(folder / "hand_pose" / f"{stem}.txt", joints)
    if mano:
        write_text(folder / mano / f"{stem}.txt", parameters)


def write_list(root: Path, split: str, *names: str) -> None:
    (root / "label_split").mkdir(parents=True, exist_ok=True)
    lines = [f"{take}/cam4/rgb/{number}.png" for take, number in (n.split(":") for n in names)]
    (root / "label_split" / f"pose_{split}.txt").write_text("\n".join(lines) + "\n")


def write_h2o(root: Path) -> dict[str, Truth]:
    """Takes of three splits, of subject 3 two; with another spelling, ending and without MANO."""
    rng = np.random.default_rng(11)
    truth: dict[str, Truth] = {"train": {}, "val": {}, "test": {}}
    for split, take, folder, options in (
        ("train", "subject1/h1/0", "subject1_ego/h1/0", {}),
        ("train", "subject3/k1/2", "subject3/k1/2", {"mano": "hand_pose_mano", "ending": "jpg"}),
        ("val", "subject3/k2/0", "subject3/k2/0", {}),
        ("test", "subject4/o1/1", "subject4/o1/1", {"mano": ""}),
    ):
        for number in (0, 1, 2, 3, 5):
            hands = two_hands(rng)
            hands = hands[1:] if number == 1 else hands  # the right one is not labelled
            write_frame(root / folder / "cam4", number, hands, **options)
            if number != 2:  # not in the list
                truth[split][take, "cam4", number] = hands
    for split, frames in truth.items():
        write_list(root, split, *(f"{take}:{number:06d}" for take, _, number in frames))
    for name in ("cam0", "cam3"):
        hands = two_hands(rng)
        write_frame(root / "subject3/k1/2" / name, 7, hands, ending="jpg")
        truth["train"]["subject3/k1/2", name, 7] = hands
    return truth


def test_conversion_keeps_both_hands(tmp_path: Path) -> None:
    root, out = tmp_path / "raw", tmp_path / "out"
    truth = write_h2o(root)
    convert("h2o", root, out, "--cameras", "all")
    for split, frames in truth.items():
        assert_converted(out, split, frames, meshes=False)
        for clip in stored_clips(out, split):
            assert clip.fps == 30
            for k, number in enumerate(clip.frame_ids):
                expected = cam_from_world(clip.camera, number)
                assert np.abs(clip.cam_from_world[k] - expected).max() < 1e-5
                for hand in frames[clip.sequence, clip.camera, number]:
                    is_left = hand.side is Side.LEFT
                    has_mano = split != "test"
                    assert clip.hands_valid[k, hand.side] == has_mano
                    assert clip.vertices_valid[k, hand.side] == (is_left and has_mano)
                    if is_left and has_mano:
                        assert clip.vertices is not None
                        assert np.abs(clip.vertices[k, Side.LEFT] - hand.vertices).max() < 1e-4
                    elif has_mano:
                        assert np.abs(clip.betas[k, Side.RIGHT] - hand.betas).max() < 1e-5
                        assert np.abs(clip.transl[k, Side.RIGHT] - hand.transl).max() < 1e-5
    report = json.loads((out / "train-report.json").read_text())
    assert not report["skipped"] and max(report["residuals"].values()) < 0.1
    (note,) = report["notes"]
    assert "0.0 % with the released" in note and note.endswith(", as expected")


def test_lists_of_the_head_s_camera_end_clips_at_their_holes(tmp_path: Path) -> None:
    write_h2o(tmp_path)
    found = list(H2O(tmp_path).recordings("train"))
    assert [(r.sequence, r.camera, [n for n, _ in r.frames]) for r in found] == [
        ("subject1/h1/0", "cam4", [0, 1, 3, 5]),
        ("subject3/k1/2", "cam4", [0, 1, 3, 5]),
    ]
    assert {recording.step for recording in found} == {1}
    (tmp_path / "label_split" / "pose_val.txt").write_text(
        (tmp_path / "label_split" / "pose_train.txt").read_text()
    )
    with pytest.raises(ValueError, match=r"pose_val.txt: lists images of the split 'train'"):
        list(H2O(tmp_path).recordings("val"))


def test_small_images_have_their_own_intrinsics(tmp_path: Path) -> None:
    root, out = tmp_path / "raw", tmp_path / "out"
    hands = two_hands(np.random.default_rng(12))
    folder = root / "subject1" / "h1" / "0" / "cam4"
    write_frame(folder, 0, hands)
    scale = np.array(SMALL) / SIZE
    small = [replace(hand, joints_2d=(hand.joints_2d + 0.5) * scale - 0.5) for hand in hands]
    write_picture(folder / "rgb256" / "000000.jpg", SMALL, small)
    write_list(root, "train", "subject1/h1/0:000000")
    convert("h2o", root, out, "--images", "rgb256")
    assert_converted(out, "train", {("subject1/h1/0", "cam4", 0): small}, meshes=False)


def test_bad_frames_leave_the_others_alone(tmp_path: Path) -> None:
    root, out = tmp_path / "raw", tmp_path / "out"
    hands = two_hands(np.random.default_rng(13))
    folder = root / "subject1" / "h1" / "0" / "cam4"
    for number in range(7):
        write_frame(folder, number, hands if number != 6 else [])
    (folder / "rgb" / "000001.png").write_bytes(b"no image")
    (folder / "hand_pose" / "000002.txt").write_text("1 2 3")
    (folder / "hand_pose" / "000003.txt").unlink()
    (folder / "hand_pose_MANO" / "000003.txt").unlink()
    (folder / "cam_pose" / "000004.txt").unlink()
    write_list(root, "train", *(f"subject1/h1/0:{number:06d}" for number in range(7)))
    with (root / "label_split" / "pose_train.txt").open("a") as file:
        file.write("../subject1/h1/0/cam4/rgb/000000.png\n")
    convert("h2o", root, out)
    names = [("subject1/h1/0", "cam4", number) for number in (0, 5)]
    assert_converted(out, "train", dict.fromkeys(names, hands), meshes=False)
    assert skipped(out, "train") == {
        "a file is missing": 1,
        "a line of the list names no image of the head's camera": 1,
        "no hand is labelled": 1,
        "the image is broken": 1,
        "the labels cannot be read": 1,
        "the labels of the hands are not in the download": 1,
    }


def test_a_split_without_labels_is_not_there(tmp_path: Path) -> None:
    write_h2o(tmp_path)
    for path in sorted((tmp_path / "subject4").rglob("*.txt")):
        path.unlink()
    (tmp_path / "subject4/o1/1/cam4/hand_pose").rmdir()
    assert H2O(tmp_path).splits() == ["train", "val"]
