"""ARCTIC: hands in a world, static cameras and one that moves and distorts, images cut and scaled.

Left hands are those of the released model; labels start a few frames after the images.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import roma
import torch

from fourdhands.cli.main import main
from fourdhands.skeleton import JOINTS_FROM_MANO, Side
from tests.helpers.official import (
    Floats,
    FrameName,
    TrueHand,
    assert_converted,
    assert_dots,
    camera,
    convert,
    converted,
    picture,
    seen_from,
    stored,
    true_hand,
)

LENGTH, OFFSET = 24, 3
IMAGES = (9, 10, 12, 13, 14)  # 11 is missing; 9 and 14 are of the ten frames at the ends
USED, BROKEN = (10, 12, 13), 12
BEHIND = 13
"""Here both hands are behind the egocentric camera."""
SIZES = {0: (560, 400), 1: (480, 360), 2: (420, 400)}
LENS = np.array([-0.4, 0.1, 0.02, -0.015, 0.03, 0.1, 0.02, 0.01])
# the second moves the wrist at rest, which parameters turn about
BETAS = {Side.RIGHT: 0.8 * np.ones(10), Side.LEFT: np.array([-0.9, 4.0, *[-0.9] * 8])}
Truth = dict[FrameName, list[TrueHand]]


def turned(*vector: float) -> Floats:
    return np.asarray(roma.rotvec_to_rotmat(torch.tensor(vector)).double().numpy())


def about(turn: Floats, away: float) -> Floats:
    """(4, 4) of a camera that looks at the hands' place from elsewhere."""
    centre, move = np.array([0.0, 0.0, 0.6]), np.eye(4)
    move[:3, :3], move[:3, 3] = turn, centre - turn @ centre + (0, 0, away)
    return move


def through_lens(hand: TrueHand, K: Floats) -> Floats:
    found, _ = cv2.projectPoints(hand.joints, np.zeros(3), np.zeros(3), K, LENS)
    return np.asarray(found[:, 0], np.float64)


class Arctic:
    """A fixture: one sequence of subject s01, one of s05, one of s03 without labels."""

    def __init__(self, root: Path):
        self.root = root
        self.Ks = {view: camera(size, 0.8) for view, size in SIZES.items()}
        self.views = {1: about(turned(0.1, 0.2, -0.1), 0.0), 2: about(turned(0.0, -0.6, 0.3), 0.1)}
        self.truth: dict[str, Truth] = {"train": {}, "val": {}}
        rng = np.random.default_rng(11)
        world = [self._hands(rng, 0.05 * k) for k in range(LENGTH)]
        ego = [about(turned(0.02 * k, -0.3, 0.05), -0.2) for k in range(LENGTH)]
        # where the homogeneous pixels of one of the hands are on all sides of zero
        x, y, z = world[BEHIND - OFFSET][0].vertices.mean(0)
        (fx, _, cx), (_, fy, cy) = self.Ks[0][:2]
        ego[BEHIND - OFFSET] = away = np.diag((-1.0, 1.0, -1.0, 1.0))
        away[:2, 3] = cx * z / fx + x, cy * z / fy - y
        misc = {
            "world2cam": [self.views.get(v, np.eye(4)).tolist() for v in range(1, 9)],
            "intris_mat": [self.Ks.get(v, np.eye(3)).tolist() for v in range(1, 9)],
            "image_size": [SIZES.get(v, (1, 1)) for v in range(9)],
            "ioi_offset": OFFSET,
        }
        (root / "meta").mkdir(parents=True)
        (root / "meta" / "misc.json").write_text(json.dumps(dict.fromkeys(("s01", "s05"), misc)))
        for subject, split in (("s01", "train"), ("s05", "val")):
            sequence = f"{subject}/box_grab_01"
            self._write_labels(sequence, world, ego)
            for number in IMAGES:
                for view, size in SIZES.items():
                    index = number - OFFSET
                    pose = ego[index] if view == 0 else self.views[view]
                    hands = [
                        seen_from(hand, pose[:3, :3], pose[:3, 3], self.Ks[view])
                        for hand in world[index]
                    ]
                    self._write_image(sequence, view, number, size, hands)
                    used = number in USED and (view, number) not in ((1, BROKEN), (0, BEHIND))
                    if used:
                        self.truth[split][sequence, str(view), number] = hands
        hidden = root / "images/s03/box_grab_01/1"
        hidden.mkdir(parents=True)
        (hidden / "00012.jpg").write_bytes(b"")

    def _hands(self, rng: np.random.Generator, more: float) -> list[TrueHand]:
        return [
            true_hand(
                rng,
                side,
                self.Ks[0],
                centre=(x, 0.0, 0.6),
                betas=BETAS[side] + (more if side is Side.LEFT else 0.0),
                released=side is Side.LEFT,
            )
            for side, x in ((Side.RIGHT, -0.1), (Side.LEFT, 0.1))
        ]

    def _write_labels(self, sequence: str, world: list[list[TrueHand]], ego: list[Floats]) -> None:
        labels: dict[str, Any] = {}
        for s, side in enumerate(("right", "left")):
            hands = [pair[s] for pair in world]
            # the loader repeats one shape, the document says one per frame
            shape = hands[0].betas if s == 0 else np.stack([hand.betas for hand in hands])
            labels[side] = {
                "rot": np.stack([hand.global_orient for hand in hands]).astype(np.float32),
                "pose": np.stack([hand.finger_pose - hand.mean for hand in hands]),
                "trans": np.stack([hand.transl for hand in hands]),
                "shape": shape,
                "fitting_err": [0.0] * len(hands),
            }
        camera_of_head = {
            "R_k_cam_np": np.stack([pose[:3, :3] for pose in ego]),
            "T_k_cam_np": np.stack([pose[:3, 3:] for pose in ego]),
            "intrinsics": self.Ks[0],
            "dist8": LENS,
        }
        base = self.root / "raw_seqs" / sequence
        base.parent.mkdir(parents=True, exist_ok=True)
        np.save(f"{base}.mano.npy", np.array(labels, dtype=object), allow_pickle=True)
        np.save(f"{base}.egocam.dist.npy", np.array(camera_of_head, object), allow_pickle=True)

    def _write_image(
        self, sequence: str, view: int, number: int, size: tuple[int, int], hands: list[TrueHand]
    ) -> None:
        if view == 0:
            hands = [replace(hand, joints_2d=through_lens(hand, self.Ks[0])) for hand in hands]
        if number == BEHIND and view == 0:
            hands = []
        path = self.root / "images" / sequence / str(view) / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture(size, hands), [cv2.IMWRITE_JPEG_QUALITY, 98])
        if (view, number) == (1, BROKEN):
            path.write_bytes(path.read_bytes()[:2000])

    def crop(self) -> dict[str, Truth]:
        """Make `cropped_images` of `images`; boxes stand in the files of splits."""
        truth: dict[str, Truth] = {"train": {}, "val": {}}
        for split, expected in self.truth.items():
            sequence = next(iter(expected))[0]
            boxes = np.full((LENGTH, 9, 3), np.nan)
            for path in sorted((self.root / "images" / sequence).rglob("*.jpg")):
                view, number = int(path.parent.name), int(path.stem)
                image = cv2.imread(str(path))
                width, height = SIZES[view]
                to = self.root / "cropped_images" / sequence / str(view) / path.name
                to.parent.mkdir(parents=True, exist_ok=True)
                if (view, number) == (1, BROKEN):
                    to.write_bytes(path.read_bytes())
                    continue
                assert image is not None
                if view == 0:
                    first, size, made = np.zeros(2), np.array([width, height]), (168, 120)
                else:
                    box = np.array([width / 2 + number + 0.3, height / 2 - view - 0.1, 1.3])
                    boxes[number - OFFSET, view] = box
                    low, high = box[:2] - 1.3 * 150, box[:2] + 1.3 * 150
                    first, size = np.round(low), np.round(high) - np.round(low)
                    made = (1000, 1000)
                    padded = cv2.copyMakeBorder(image, 99, 99, 99, 99, cv2.BORDER_CONSTANT)
                    (x, y), (w, h) = first.astype(int) + 99, size.astype(int)
                    image = padded[y : y + h, x : x + w]
                scaled = cv2.resize(image, made, interpolation=cv2.INTER_AREA if view == 0 else 1)
                cv2.imwrite(str(to), scaled, [cv2.IMWRITE_JPEG_QUALITY, 98])
                name = (sequence, str(view), number)
                if name in expected:
                    factor = np.array(made) / size
                    truth[split][name] = [
                        replace(h, joints_2d=(h.joints_2d + 0.5 - first) * factor - 0.5)
                        for h in expected[name]
                    ]
            content = {"data_dict": {sequence: {"bbox": boxes}}, "imgnames": ["a.jpg"]}
            (self.root / "splits").mkdir(exist_ok=True)
            path = self.root / "splits" / f"p1_{split}.npy"
            np.save(path, np.array(content, object), allow_pickle=True)
        return truth


def test_conversion_keeps_the_hands(tmp_path: Path) -> None:
    official = Arctic(tmp_path / "raw")
    convert("arctic", official.root, tmp_path / "out")
    assert not (tmp_path / "out" / "test.json").exists()
    for split, truth in official.truth.items():
        # both hands are behind the camera there, so that nothing of them is seen
        name = (next(iter(truth))[0], "0", BEHIND)
        assert_converted(tmp_path / "out", split, {**truth, name: []})
        for ego in (True, False):
            seen = {name: hands for name, hands in truth.items() if (name[1] == "0") == ego}
            assert_dots(tmp_path / "out", split, seen)
    frames = stored(tmp_path / "out", "train")
    assert {clip.frame_ids for clip, _ in frames.values()} == {(10,), (12, 13), (13,)}
    report = json.loads((tmp_path / "out" / "train-report.json").read_text())
    assert {reason: entry["frames"] for reason, entry in report["skipped"].items()} == {
        "the image is broken": 1
    }


def test_views_share_a_world(tmp_path: Path) -> None:
    official = Arctic(tmp_path / "raw")
    convert("arctic", official.root, tmp_path / "out", "--splits", "val")
    found, worlds = converted(tmp_path / "out", "val"), []
    for view in ("0", "1", "2"):
        batch, _ = found["s05/box_grab_01", view, 10]
        assert batch.labels is not None and batch.meta[0].fps == 30
        M = batch.camera.cam_from_world[0, 0]
        worlds.append((batch.labels.joints[0, 0, 0] - M[:3, 3]) @ M[:3, :3])
    assert (worlds[0] - worlds[1]).abs().max() < 1e-4
    assert (worlds[0] - worlds[2]).abs().max() < 1e-4


def test_cropped_images_have_intrinsics_of_their_own(tmp_path: Path) -> None:
    official = Arctic(tmp_path / "raw")
    truth = official.crop()
    out = tmp_path / "out"
    convert("arctic", official.root, out, "--images", "cropped_images", "--splits", "train")
    name = ("s01/box_grab_01", "0", BEHIND)
    assert_converted(out, "train", {**truth["train"], name: []})
    static = {name: hands for name, hands in truth["train"].items() if name[1] != "0"}
    assert len(static) == 5
    assert_dots(out, "train", static, radius=12)
    assert {clip.image_size for clip, _ in stored(out, "train").values()} == {
        (1000, 1000),
        (168, 120),
    }


def test_crops_without_their_boxes_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    official = Arctic(tmp_path / "raw")
    official.crop()
    (official.root / "splits" / "p1_train.npy").unlink()
    args = ["--root", str(official.root), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main(["convert", "arctic", *args, "--images", "cropped_images"]) == 1
    assert "where cropped_images were cut" in capsys.readouterr().err


def test_protocols_choose_views_and_splits(tmp_path: Path) -> None:
    official = Arctic(tmp_path / "raw")
    lists = {"train": ["s05/box_grab_01"], "val": [], "test": ["s01/box_grab_01"]}
    (official.root / "splits_json").mkdir()
    (official.root / "splits_json" / "protocol_p1.json").write_text(json.dumps(lists))
    convert("arctic", official.root, tmp_path / "p1", "--protocol", "p1")
    found = stored(tmp_path / "p1", "train")
    assert {name[:2] for name in found} == {("s05/box_grab_01", "1"), ("s05/box_grab_01", "2")}
    assert {name[0] for name in stored(tmp_path / "p1", "test")} == {"s01/box_grab_01"}
    convert("arctic", official.root, tmp_path / "p2", "--protocol", "p2", "--splits", "val")
    assert {name[:2] for name in stored(tmp_path / "p2", "val")} == {("s05/box_grab_01", "0")}


def test_joints_of_processed_sequences_are_the_data_sets_own(tmp_path: Path) -> None:
    official = Arctic(tmp_path / "raw")
    for split, truth in official.truth.items():
        sequence = next(iter(truth))[0]
        own = {f"joints.{side}": np.zeros((LENGTH, 10, 21, 3)) for side in ("right", "left")}
        for (_, view, number), hands in truth.items():
            for hand in hands:
                raw = np.empty((21, 3))
                raw[list(JOINTS_FROM_MANO)] = hand.joints
                own[f"joints.{hand.side.name.lower()}"][number - OFFSET, int(view)] = raw
        content = {"cam_coord": own, "bbox": np.zeros((LENGTH, 9, 3))}
        path = official.root / "processed_seqs" / f"{sequence}.npy"
        path.parent.mkdir(parents=True)
        np.save(path, np.array(content, object), allow_pickle=True)
        assert split in ("train", "val")
    convert("arctic", official.root, tmp_path / "out", "--splits", "train", "--protocol", "p1")
    truth = {name: h for name, h in official.truth["train"].items() if name[1] != "0"}
    assert_converted(tmp_path / "out", "train", truth)
    report = json.loads((tmp_path / "out" / "train-report.json").read_text())
    assert "as expected" in report["notes"][0]
