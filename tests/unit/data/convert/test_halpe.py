"""Halpe: two hands out of 136 keypoints, scores, persons without any."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from fourdhands.skeleton import Side
from tests.helpers.official import (
    Points,
    TrueHand,
    assert_labelled_2d,
    camera,
    convert,
    true_hand,
    write_picture,
)

SIZE = (320, 240)
FIRST = {Side.LEFT: 94, Side.RIGHT: 115}


def annotation(person: int, image: int, hands: list[TrueHand], scores: Any) -> dict[str, Any]:
    points = np.full((136, 3), 5.0)  # elsewhere on the body
    points[94:, 2] = 0.1
    for hand in hands:
        block = slice(FIRST[hand.side], FIRST[hand.side] + 21)
        points[block] = np.column_stack((hand.joints_2d, scores))
    return {"id": person, "image_id": image, "iscrowd": 0, "keypoints": points.ravel().tolist()}


def write_halpe(root: Path) -> dict[str, dict[tuple[str, str, int], dict[Side, Points]]]:
    rng = np.random.default_rng(0)
    K = camera(SIZE)
    truth = {}
    scores = np.full(21, 0.9)
    scores[[2, 3]], scores[10] = 0.55, 0.65
    for split, folder, stem in (
        ("train", "hico_20160224_det/images/train2015", "HICO_train2015_00000007"),
        ("val", "val2017", "000000000007"),
    ):
        both = [true_hand(rng, side, K) for side in Side]
        annotations = [
            annotation(1, 7, both, scores),
            annotation(2, 7, both[:1], scores),
            annotation(3, 7, both, scores) | {"keypoints": 0},
            annotation(4, 7, both, scores) | {"keypoints": []},
            annotation(5, 7, [], scores),
            annotation(6, 7, both, scores) | {"keypoints": [1.0] * 78},
            {"id": 8, "image_id": 7},
            annotation(9, 7, both, 0.5 * scores),
        ]
        image = {"id": 7, "file_name": f"{stem}.jpg", "width": SIZE[0], "height": SIZE[1]}
        write_picture(root / folder / f"{stem}.jpg", SIZE, both)
        (root / f"halpe_{split}_v1.json").write_text(
            json.dumps({"images": [image], "annotations": annotations})
        )
        truth[split] = {
            (f"{stem}-1", "0", 7): {hand.side: (hand.joints_2d, scores > 0.6) for hand in both},
            (f"{stem}-2", "0", 7): {Side.RIGHT: (both[0].joints_2d, scores > 0.6)},
        }
    return truth


def test_conversion_keeps_the_labels(tmp_path: Path) -> None:
    truth = write_halpe(tmp_path / "raw")
    convert("halpe", tmp_path / "raw", tmp_path / "out")
    for split in truth:
        assert_labelled_2d(tmp_path / "out", split, truth[split])
        report = json.loads((tmp_path / "out" / f"{split}-report.json").read_text())
        assert report["skipped"]["the labels cannot be read"]["frames"] == 1


def test_lower_scores_can_be_asked_for(tmp_path: Path) -> None:
    write_halpe(tmp_path / "raw")
    convert("halpe", tmp_path / "raw", tmp_path / "out", "--splits", "val", "--least_score", "0.4")
    report = json.loads((tmp_path / "out" / "val-report.json").read_text())
    assert report["frames"] == 3
