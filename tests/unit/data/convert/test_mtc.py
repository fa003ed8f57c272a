"""MTC: centimetres in a world frame, lenses that distort, and views that the authors leave out."""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fourdhands.data.convert.conventions import rotation
from fourdhands.skeleton import Side
from tests.helpers.official import (
    Floats,
    TrueHand,
    assert_converted,
    camera,
    convert,
    pixels,
    stored,
    true_hand,
    write_picture,
)

SIZE = (640, 360)
SEQUENCE = "171026_pose1"
LENS = np.array((-0.9, 0.5, 0.02, -0.01, 0.1))  # far from the middle it moves points by 10 pixels
CAMERAS = (3, 11)


def lens_pixels(joints: Floats, K: Floats) -> Floats:
    return cv2.projectPoints(joints, np.zeros(3), np.zeros(3), K, LENS)[0].reshape(-1, 2)


def poses() -> dict[int, tuple[Floats, Floats]]:
    """World to camera in metres; both cameras see the world's origin near a corner."""
    return {
        3: (rotation((0.3, -0.2, 0.1)), np.array((0.18, 0.05, 1.1))),
        11: (rotation((0.1, 2.5, -0.4)), np.array((-0.2, -0.06, 1.2))),
    }


def seen_by(hand: TrueHand, R: Floats, t: Floats, K: Floats) -> TrueHand:
    """A hand that is given in the world."""
    joints = hand.joints @ R.T + t
    return replace(hand, joints=joints, joints_2d=pixels(joints, K))


def entry(frame: str, hands: list[TrueHand]) -> dict[str, Any]:
    found: dict[str, Any] = {"seqName": SEQUENCE, "frame_str": frame, "id": 0, "body": {}}
    for hand in hands:
        found[f"{hand.side.name.lower()}_hand"] = {
            "landmarks": (100 * hand.joints).ravel().tolist(),
            "2D": {
                c: {"insideImg": [True] * 21, "occluded": [False] * 21, "overlap": False}
                for c in CAMERAS
            },
        }
    return found


def write_mtc(root: Path) -> dict[tuple[str, str, int], list[TrueHand]]:
    rng = np.random.default_rng(0)
    K = camera(SIZE)
    truth = {}
    people, reviews = [], []
    for number in (100, 101, 105, 106):
        # made in front of a camera, kept about the world's origin
        hands = [
            replace(hand, joints=hand.joints - (0, 0, 0.6))
            for hand in (true_hand(rng, side, K) for side in Side)
        ]
        person = entry(f"{number:08d}", hands)
        people.append(person)
        shown = {c: list(Side) for c in CAMERAS}
        correct = {Side.RIGHT: True, Side.LEFT: True}
        right, left = person["right_hand"]["2D"], person["left_hand"]["2D"]
        if number == 101:
            right[3]["overlap"] = True
            left[11]["occluded"][7] = True
            shown = {3: [Side.LEFT], 11: [Side.RIGHT]}
        elif number == 105:
            correct[Side.RIGHT] = False
            left[11]["insideImg"][20] = False
            shown = {3: [Side.LEFT], 11: []}
        elif number == 106:
            del left[11]["overlap"]
            shown[11] = []
        reviews += [
            f"{SEQUENCE} {number:08d} {'righ' if side is Side.RIGHT else 'left'} {good}"
            for side, good in correct.items()
        ]
        for c, (R, t) in poses().items():
            visible = [seen_by(hand, R, t, K) for hand in hands if hand.side in shown[c]]
            path = root / "hdImgs" / SEQUENCE / f"{number:08d}" / f"00_{c:02d}_{number:08d}.jpg"
            drawn = [replace(hand, joints_2d=lens_pixels(hand.joints, K)) for hand in visible]
            write_picture(path, SIZE, drawn)
            if number == 106 and c == 3:
                path.write_bytes(b"")
            elif visible:
                truth[f"{SEQUENCE}-0", str(c), number] = visible
    people.append({name: value for name, value in people[0].items() if name != "frame_str"})
    far_off = entry("00000107", [replace(hands[0], joints=hands[0].joints + 5.0)])
    people.append(far_off)
    reviews.append(f"{SEQUENCE} 00000107 righ True")
    for c in CAMERAS:
        path = root / "hdImgs" / SEQUENCE / "00000107" / f"00_{c:02d}_00000107.jpg"
        write_picture(path, SIZE, [])
    calibration = {
        c: {"K": K, "R": R, "t": 100 * t[:, None], "distCoef": LENS}
        for c, (R, t) in poses().items()
    }
    for name, content in {
        "annotation": {"training_data": people, "testing_data": []},
        "camera_data": {SEQUENCE: calibration},
    }.items():
        (root / f"{name}.pkl").write_bytes(pickle.dumps(content, 2))
    (root / "a4_hands_annotated.txt").write_text("\n".join(reviews) + "\n")
    return truth


def test_conversion_keeps_the_hands(tmp_path: Path) -> None:
    truth = write_mtc(tmp_path / "raw")
    convert("MTC", tmp_path / "raw", tmp_path / "out", "--splits", "train")
    assert_converted(tmp_path / "out", "train", truth, meshes=False)
    report = json.loads((tmp_path / "out" / "train-report.json").read_text())
    assert {reason: entry["frames"] for reason, entry in report["skipped"].items()} == {
        "labels of a person are not in the layout that this version knows": 2,
        "joints that are said to be inside the image are not": 2,
        "the image is broken": 1,
    }
    clips = stored(tmp_path / "out", "train")
    assert clips[f"{SEQUENCE}-0", "3", 101][0].frame_ids == (100, 101)  # a gap follows
    straight, bent = 0, 0
    for name, hands in truth.items():
        clip, k = clips[name]
        R, t = poses()[int(name[1])]
        np.testing.assert_allclose(clip.cam_from_world[k][:3], np.column_stack((R, t)), atol=1e-6)
        image = cv2.imdecode(np.frombuffer(clip.frames[k], np.uint8), cv2.IMREAD_COLOR)
        for hand in hands:
            channel = 1 if hand.side is Side.RIGHT else 2
            straight += brightness(image[..., channel], hand.joints_2d)
            bent += brightness(
                image[..., channel], lens_pixels(hand.joints, clip.intrinsics[k].astype(float))
            )
    assert straight > 1.3 * bent


def brightness(channel: Any, points: Floats) -> float:
    """Mean of an image at points: dots lie where the labels say, or they do not."""
    columns, rows = points.astype(np.float32).T[..., None]
    return float(cv2.remap(channel, columns, rows, cv2.INTER_LINEAR).mean())
