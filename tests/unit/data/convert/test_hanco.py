"""HanCo: labels in the world, or a vector of each camera that places the middle finger's base."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import roma
import torch

from fourdhands.cli.main import main
from fourdhands.skeleton import Side
from tests.helpers.official import (
    FrameName,
    TrueHand,
    assert_converted,
    camera,
    convert,
    converted,
    seen_from,
    true_hand,
    write_picture,
)

SIZE = (224, 224)
FRAMES = (0, 1, 2, 4, 5)  # 3 is missing
NOT_VALID, NO_FIT, BROKEN = 1, 2, 5
CAMERAS = (0, 3)
Truth = dict[FrameName, list[TrueHand]]


def dump(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_hanco(root: Path) -> tuple[Truth, Truth]:
    """Sequence 0 to train on, with labels in the world; 1 to test with, with those of cameras."""
    rng = np.random.default_rng(3)
    Ks = [camera(SIZE, 1.2 + 0.1 * k) for k in range(8)]
    M = np.tile(np.eye(4), (8, 1, 1))
    M[:, :3, :3] = roma.random_rotmat(8).double().numpy()
    M[:, :3, 3] = rng.normal(0, 0.5, (8, 3))
    names = ("is_train", "is_valid", "has_fit")
    meta: dict[str, list[list[bool]]] = {name: [[True] * 6, [True] * 6] for name in names}
    meta["is_train"][1] = [False] * 6
    meta["is_valid"][0][NOT_VALID] = meta["has_fit"][0][NO_FIT] = False
    dump(root / "meta.json", meta)
    truths: tuple[Truth, Truth] = ({}, {})
    for sequence in (0, 1):
        for frame in FRAMES:
            label = f"{sequence:04d}/{frame:08d}.json"
            # seen by camera 0; the world is elsewhere, and turns with the frame's number
            first = true_hand(rng, Side.RIGHT, Ks[0])
            world_from_first = np.linalg.inv(M[0])
            orient, transl = first.parameters_in(world_from_first[:3, :3], world_from_first[:3, 3])
            in_world = first.joints @ world_from_first[:3, :3].T + world_from_first[:3, 3]
            M_of_frame = M.copy()
            hands = {}
            for c in CAMERAS:
                if c:  # so that the hand is in sight of it, too
                    turn = roma.rotvec_to_rotmat(torch.tensor([0.1, 0.4, -0.2])).double().numpy()
                    move = np.array([0.02, 0.01, 0.05]) + first.joints[0] - turn @ first.joints[0]
                    first_to_c = np.eye(4)
                    first_to_c[:3, :3], first_to_c[:3, 3] = turn, move
                    M_of_frame[c] = first_to_c @ M[0]
                    hands[c] = seen_from(first, turn, move, Ks[c])
                else:
                    hands[c] = first
            dump(
                root / "calib" / label,
                {"K": [k.tolist() for k in Ks], "M": M_of_frame.tolist()},
            )
            dump(root / "xyz" / label, in_world.tolist())
            offsets = first.finger_pose - first.mean
            if sequence == 0:
                rotvec = roma.rotmat_to_rotvec(torch.from_numpy(orient)).numpy()
                poses = [[*rotvec.tolist(), *offsets.tolist()]]
                values = {
                    "poses": poses,
                    "shapes": [first.betas.tolist()],
                    "global_t": [[transl.tolist()]],
                }
                dump(root / "shape" / label, values)
            for c, hand in hands.items():
                middle, K = hand.joints[9], Ks[c]
                u, v = hand.joints_2d[9]
                scale = (K[0, 0] + K[1, 1]) / 2 / middle[2]
                if sequence == 1:
                    vector = [*hand.global_orient, *offsets, *hand.betas, u, v, scale]
                    dump(root / f"shape/{sequence:04d}/cam{c}/{frame:08d}.json", vector)
                for kind in ("rgb", "rgb_merged")[: 2 - sequence]:
                    path = root / kind / f"{sequence:04d}/cam{c}/{frame:08d}.jpg"
                    write_picture(path, SIZE, [hand])
                    if frame == BROKEN and sequence == 0:
                        path.write_bytes(path.read_bytes()[:800])
                if sequence == 1 or frame not in (NOT_VALID, BROKEN):
                    truths[sequence][f"{sequence:04d}", f"cam{c}", frame] = [hand]
    return truths


def without(truth: Truth, frame: int) -> Truth:
    return {name: hands for name, hands in truth.items() if name[2] != frame}


def test_labels_of_the_world_and_of_cameras_come_out_alike(tmp_path: Path) -> None:
    train, test = write_hanco(tmp_path / "raw")
    convert("hanco", tmp_path / "raw", tmp_path / "out")
    assert_converted(tmp_path / "out", "test", test)
    assert_converted(tmp_path / "out", "train", train, meshes=False)
    found = converted(tmp_path / "out", "train")
    for (*_, frame), (batch, _) in found.items():
        assert batch.labels is not None
        assert bool(batch.labels.betas_valid[0, 0, Side.RIGHT]) == (frame != NO_FIT)
    # one world for all cameras
    worlds = []
    for c in CAMERAS:
        batch, _ = found["0000", f"cam{c}", 0]
        assert batch.labels is not None and batch.meta[0].fps == 5
        M = batch.camera.cam_from_world[0, 0]
        worlds.append((batch.labels.joints[0, 0, 0] - M[:3, 3]) @ M[:3, :3])
    assert (worlds[0] - worlds[1]).abs().max() < 1e-4
    report = json.loads((tmp_path / "out" / "train-report.json").read_text())
    reasons = {reason: entry["frames"] for reason, entry in report["skipped"].items()}
    assert reasons == {"meta.json says that the labels are not valid": 2, "the image is broken": 2}


def test_meshes_of_the_world(tmp_path: Path) -> None:
    train, _ = write_hanco(tmp_path / "raw")
    meta = json.loads((tmp_path / "raw" / "meta.json").read_text())
    meta["has_fit"][0][NO_FIT] = True
    dump(tmp_path / "raw" / "meta.json", meta)
    convert("hanco", tmp_path / "raw", tmp_path / "out", "--splits", "train")
    assert_converted(tmp_path / "out", "train", train)


def test_images_with_another_background(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    train, _ = write_hanco(root)
    green = np.zeros((*SIZE, 3), np.uint8)
    for path in (root / "rgb").rglob("*.jpg"):
        cv2.imwrite(str(path), green)
    convert("hanco", root, tmp_path / "out", "--images", "merged")
    assert not (tmp_path / "out" / "test.json").exists()
    assert set(converted(tmp_path / "out", "train")) == set(train)


def test_a_missing_list_of_frames_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_hanco(tmp_path / "raw")
    (tmp_path / "raw" / "meta.json").unlink()
    args = ["--root", str(tmp_path / "raw"), "--out", str(tmp_path / "out")]
    assert main(["convert", "hanco", *args]) == 1
    assert "meta.json does not exist" in capsys.readouterr().err
