"""H2O-3D: HO3D's conventions for two hands of one shape, the left one of the released model."""

import json
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fourdhands.data.convert.conventions import OPENCV_FROM_OPENGL
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

SIZE = (320, 240)
K = camera(SIZE)
HO3D_FROM_COMMON = [0, 5, 6, 7, 9, 10, 11, 17, 18, 19, 13, 14, 15, 1, 2, 3, 4, 8, 12, 16, 20]
Truth = dict[FrameName, list[TrueHand]]


def two_hands(rng: np.random.Generator) -> list[TrueHand]:
    betas = rng.normal(0, 1.0, 10)
    return [
        true_hand(rng, Side.RIGHT, K, centre=(0.06, 0, 0.6), betas=betas),
        true_hand(rng, Side.LEFT, K, centre=(-0.06, 0, 0.6), betas=betas, released=True),
    ]


def labels(hands: list[TrueHand]) -> dict[str, Any]:
    """Of a training image."""
    meta: dict[str, Any] = {"camMat": K, "handBeta": hands[0].betas, "objName": "037_scissors"}
    for hand in hands:
        name = hand.side.name.lower()
        orient, transl = hand.parameters_in(OPENCV_FROM_OPENGL, np.zeros(3))
        pose = np.concatenate((cv2.Rodrigues(orient)[0][:, 0], hand.finger_pose))
        meta |= {
            f"{name}HandPose": pose,
            f"{name}HandTrans": transl,
            f"{name}HandJoints3D": (hand.joints * (1, -1, -1))[HO3D_FROM_COMMON],
            f"jointValid{name.capitalize()}": np.ones(21),
            f"poseValid{name.capitalize()}": np.ones(48),
        }
    return meta


def write_frame(root: Path, name: str, meta: dict[str, Any], hands: list[TrueHand]) -> None:
    """Append to the list of the folder that the name begins with."""
    folder, sequence, stem = name.split("/")
    write_picture(root / folder / sequence / "rgb" / f"{stem}.jpg", SIZE, hands)
    path = root / folder / sequence / "meta" / f"{stem}.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(meta))
    with (root / f"{folder}.txt").open("a") as file:
        file.write(f"{sequence}/{stem}\n")


def write_train(root: Path) -> Truth:
    rng = np.random.default_rng(5)
    truth: Truth = {}
    for sequence, camera_, number in (("SMJ1", "0", 3), ("SMJ1", "0", 4), ("SMJ1", "2", 3)):
        hands = two_hands(rng)
        write_frame(root, f"train/{sequence}{camera_}/{number:04d}", labels(hands), hands)
        truth[sequence, camera_, number] = hands
    return truth


def test_conversion_keeps_both_hands(tmp_path: Path) -> None:
    truth = write_train(tmp_path / "raw")
    out = tmp_path / "out"
    convert("H2O-3D", tmp_path / "raw", out)
    assert_converted(out, "train", truth, meshes=False)
    clips = stored_clips(out, "train")
    assert [(c.sequence, c.camera, c.frame_ids) for c in clips] == [
        ("SMJ1", "0", (3, 4)),
        ("SMJ1", "2", (3,)),
    ]
    for clip in clips:
        for k, number in enumerate(clip.frame_ids):
            right, left = truth[clip.sequence, clip.camera, number]
            assert np.abs(clip.betas[k, Side.RIGHT] - right.betas).max() < 1e-5
            assert np.abs(clip.transl[k, Side.RIGHT] - right.transl).max() < 1e-5
            assert clip.betas_valid[k].tolist() == [True, False]  # the left's are refitted
            assert clip.vertices is not None
            assert clip.vertices_valid[k].tolist() == [False, True]
            assert np.abs(clip.vertices[k, Side.LEFT] - left.vertices).max() < 1e-4
    report = json.loads((out / "train-report.json").read_text())
    assert max(report["residuals"].values()) < 0.1
    (note,) = report["notes"]
    assert "0.0 % with the released" in note and note.endswith(", as expected")


def test_what_is_not_valid_is_not_used(tmp_path: Path) -> None:
    root, out = tmp_path / "raw", tmp_path / "out"
    rng = np.random.default_rng(6)
    hands = two_hands(rng)
    pose_valid = np.ones(48)
    pose_valid[7] = 0
    joint_valid = np.ones(21)
    joint_valid[7] = 0  # little1, the 17th of the common order
    changes: list[dict[str, Any]] = [
        {"jointValidLeft": np.zeros(21), "poseValidLeft": np.zeros(48)},
        {"rightHandPose": None, "rightHandTrans": None, "rightHandJoints3D": None},
        {"jointValidRight": joint_valid, "poseValidRight": pose_valid},
        {"rightHandJoints3D": None, "leftHandJoints3D": None, "handBeta": None},
        {"camMat": None},
    ]
    for number, change in enumerate(changes):
        write_frame(root, f"train/A/{number:04d}", labels(hands) | change, hands)
    convert("h2o3d", root, out)
    (clip,) = stored_clips(out, "train")
    assert clip.frame_ids == (0, 1, 2)
    assert clip.hands_valid.tolist() == [[True, False], [False, True], [False, True]]
    assert (clip.bbox[..., 2] > 0).tolist() == [[True, False], [False, True], [True, True]]
    assert clip.joints_valid[2].sum(-1).tolist() == [20, 21] and not clip.joints_valid[2, 0, 17]
    assert skipped(out, "train") == {"no hand is labelled": 1, "the camera is not labelled": 1}


def test_hidden_hands_have_their_wrists_and_boxes(tmp_path: Path) -> None:
    root, out = tmp_path / "raw", tmp_path / "out"
    hands = two_hands(np.random.default_rng(7))
    meta: dict[str, Any] = {"camMat": K, "objName": "037_scissors"}
    for hand, box in zip(hands, ((200, 60, 260, 150), (20, 30, 100, 90)), strict=True):
        name = hand.side.name.lower()
        meta[f"{name}HandJoints3D"] = hand.joints[0] * (1, -1, -1)
        meta[f"{name}HandBoundingBox"] = box
    write_frame(root, "evaluation/B/0000", meta, hands)
    convert("h2o3d", root, out)
    (clip,) = stored_clips(out, "test")
    assert clip.bbox[0].tolist() == [[230, 105, 60, 90], [60, 60, 80, 60]]
    assert clip.joints_valid[0].sum(-1).tolist() == [1, 1]
    for hand in hands:
        assert np.abs(clip.joints_2d[0, hand.side, 0] - hand.joints_2d[0]).max() < 0.5
