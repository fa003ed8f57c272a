"""DexYCB: principal components, left hands of the released model, splits by places in a list."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import roma
import torch
import yaml

from fourdhands.cli.main import main
from fourdhands.data.convert.dexycb import split_of
from fourdhands.skeleton import Side
from tests.helpers.official import (
    Floats,
    FrameName,
    TrueHand,
    assert_converted,
    assert_dots,
    camera,
    convert,
    converted,
    seen_from,
    stored,
    true_hand,
    write_picture,
)

SIZE = (640, 480)
MASTER, OTHER = "839512060362", "932122062010"
FRAMES = (0, 1, 3, 4, 5)  # 2 is missing
NO_HAND, BROKEN = 4, 5
Truth = dict[FrameName, list[TrueHand]]


def dump(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(value))


def write_dexycb(root: Path) -> dict[str, Truth]:
    """Sequence 3 of both subjects to train on; 4 of subject 1 to validate, of 3 to test with."""
    rng = np.random.default_rng(5)
    Ks = {MASTER: camera(SIZE, 1.0), OTHER: camera(SIZE, 0.9)}
    other_from_master = np.eye(4)
    turn = roma.rotvec_to_rotmat(torch.tensor([0.1, -0.7, 0.2])).double().numpy()
    centre = np.array([0.0, 0.0, 0.6])
    other_from_master[:3, :3], other_from_master[:3, 3] = turn, centre - turn @ centre + 0.02
    extrinsics = {
        MASTER: np.eye(4)[:3].ravel().tolist(),
        OTHER: np.linalg.inv(other_from_master)[:3].ravel().tolist(),
        "apriltag": np.eye(4)[:3].ravel().tolist(),
    }
    calibration = root / "calibration"
    dump(
        calibration / "extrinsics_20200702_151821" / "extrinsics.yml",
        {"extrinsics": extrinsics, "master": MASTER},
    )
    for serial, K in Ks.items():
        color = {"fx": K[0, 0], "fy": K[1, 1], "ppx": K[0, 2], "ppy": K[1, 2]}
        color = {name: float(value) for name, value in color.items()}
        dump(
            calibration / "intrinsics" / f"{serial}_640x480.yml",
            {"color": color, "depth": {**color, "fx": 1.0}},
        )
    truth: dict[str, Truth] = {"train": {}, "val": {}, "test": {}}
    for subject in (1, 3):
        folder = f"2020070{subject}-subject-{subject:02d}"
        names = [f"2020070{subject}_{14 + i // 60}{i % 60:02d}00" for i in range(100)]
        for name in reversed(names):
            (root / folder / name).mkdir(parents=True)
        for place in (3, 4):
            side = Side.LEFT if place == 4 else Side.RIGHT
            mano = f"202007-subject-{subject:02d}_{side.name.lower()}"
            betas = rng.normal(0, 1.0, 10)
            dump(calibration / f"mano_{mano}" / "mano.yml", {"betas": betas.tolist()})
            sequence = f"{folder}/{names[place]}"
            meta = {
                "serials": [MASTER, OTHER],
                "num_frames": 6,
                "extrinsics": "20200702_151821",
                "mano_calib": [mano],
                "mano_sides": [side.name.lower()],
            }
            dump(root / sequence / "meta.yml", meta)
            split = "train" if place == 3 else "val" if subject == 1 else "test"
            for frame in FRAMES:
                seen = true_hand(rng, side, Ks[MASTER], betas=betas, released=side is Side.LEFT)
                other = seen_from(
                    seen, other_from_master[:3, :3], other_from_master[:3, 3], Ks[OTHER]
                )
                for serial, hand in ((MASTER, seen), (OTHER, other)):
                    write_frame(root / sequence / serial, frame, hand)
                    if frame not in (NO_HAND, BROKEN):
                        truth[split][sequence, serial, frame] = [hand]
    return truth


def write_frame(folder: Path, frame: int, hand: TrueHand) -> None:
    image = folder / f"color_{frame:06d}.jpg"
    write_picture(image, SIZE, [hand])
    if frame == BROKEN:
        image.write_bytes(image.read_bytes()[:3000])
    pose = np.concatenate((hand.global_orient, hand.pca, hand.transl))
    missing = frame == NO_HAND
    np.savez(
        folder / f"labels_{frame:06d}.npz",
        seg=np.zeros((2, 2), np.uint8),
        pose_y=np.zeros((4, 3, 4), np.float32),
        pose_m=(np.zeros(51) if missing else pose)[None].astype(np.float32),
        joint_3d=(np.full((21, 3), -1) if missing else hand.joints)[None].astype(np.float32),
        joint_2d=(np.full((21, 2), -1) if missing else hand.joints_2d)[None].astype(np.float32),
    )


def test_conversion_keeps_the_hands(tmp_path: Path) -> None:
    truth = write_dexycb(tmp_path / "raw")
    convert("dexycb", tmp_path / "raw", tmp_path / "out")
    for split, expected in truth.items():
        assert_converted(tmp_path / "out", split, expected)
        assert_dots(tmp_path / "out", split, expected)
    report = json.loads((tmp_path / "out" / "val-report.json").read_text())
    reasons = {reason: entry["frames"] for reason, entry in report["skipped"].items()}
    assert reasons == {"no hand is labelled": 2, "the image is broken": 2}
    assert "released" in report["notes"][0] and "as expected" in report["notes"][0]
    # what is not there ends a clip
    clips = {clip.frame_ids for clip, _ in stored(tmp_path / "out", "val").values()}
    assert clips == {(0, 1), (3,)}


def test_cameras_share_a_world(tmp_path: Path) -> None:
    truth = write_dexycb(tmp_path / "raw")
    convert("dexycb", tmp_path / "raw", tmp_path / "out", "--splits", "test")
    found = converted(tmp_path / "out", "test")
    worlds: dict[str, Floats] = {}
    for sequence, serial, frame in truth["test"]:
        if frame == 0:
            batch, _ = found[sequence, serial, frame]
            assert batch.labels is not None
            M = batch.camera.cam_from_world[0, 0]
            joints = batch.labels.joints[0, 0, Side.LEFT]
            worlds[serial] = ((joints - M[:3, 3]) @ M[:3, :3]).numpy()
    assert np.abs(worlds[MASTER] - worlds[OTHER]).max() < 1e-4


def test_a_subject_without_all_its_sequences_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "raw"
    write_dexycb(root)
    next(
        path for path in (root / "20200701-subject-01").iterdir() if not list(path.iterdir())
    ).rmdir()
    args = ["--root", str(root), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main(["convert", "dexycb", *args, "--splits", "train"]) == 0
    assert "99 sequences instead of 100: train is not the official split" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("setup", "images"),
    [
        ("s0", {"train": 6400, "val": 320, "test": 1280}),
        ("s1", {"train": 5600, "val": 800, "test": 1600}),
        ("s2", {"train": 6000, "val": 1000, "test": 1000}),
        ("s3", {"train": 6000, "val": 800, "test": 1200}),
    ],
)
def test_setups_hold_back_what_they_should(setup: str, images: dict[str, int]) -> None:
    found = [
        split_of(setup, subject, view, place)
        for subject in range(1, 11)
        for view in range(8)
        for place in range(100)
    ]
    assert {split: found.count(split) for split in images} == images
    assert split_of("s0", 3, 0, 4) == "test" and split_of("s0", 2, 0, 99) == "val"
    assert split_of("s1", 10, 0, 0) == "train" and split_of("s1", 7, 0, 0) == "val"
