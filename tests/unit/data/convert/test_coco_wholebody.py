"""COCO-WholeBody: persons of one image apart, fractions of visibility, hands that are not valid."""

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
    stored,
    true_hand,
    write_picture,
)

SIZE = (320, 240)
BOX = (40, 50, 60, 80)


def annotation(person: int, image: int, hands: list[TrueHand], seen: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"id": person, "image_id": image, "iscrowd": 0, "num_keypoints": 9}
    found["area"] = 4000.0
    for side in Side:
        word = f"{side.name.lower()}hand"
        found |= {f"{word}_valid": False, f"{word}_kpts": [0] * 63, f"{word}_box": [0.0] * 4}
        for hand in (hand for hand in hands if hand.side is side):
            points = np.where(seen[:, None] > 0, hand.joints_2d, 0.0)
            found[f"{word}_kpts"] = np.column_stack((points, seen)).ravel().tolist()
            found |= {f"{word}_valid": True, f"{word}_box": list(BOX)}
    return found


def write_coco_wholebody(root: Path) -> dict[tuple[str, str, int], dict[Side, Points]]:
    rng = np.random.default_rng(0)
    K = camera(SIZE)
    all_seen, some_seen = np.full(21, 2), np.ones(21)
    some_seen[[0, 4, 9]], some_seen[[5, 6]] = 0, 0.3
    first = [true_hand(rng, side, K, centre=(-0.1, 0, 0.7)) for side in Side]
    second = [true_hand(rng, side, K, centre=(0.1, 0, 0.7)) for side in Side]
    missing = annotation(15, 139, first, all_seen)
    del missing["righthand_valid"]
    garbage = annotation(16, 139, first, all_seen) | {"righthand_valid": False}
    boxed = annotation(17, 285, second, np.zeros(21)) | {"righthand_valid": False}
    annotations = [
        annotation(11, 139, first, all_seen),
        annotation(12, 139, second, some_seen),
        annotation(13, 139, first, all_seen) | {"iscrowd": 1},
        annotation(14, 139, first, all_seen) | {"num_keypoints": 0},
        missing,
        garbage,
        boxed,
        annotation(18, 285, [], all_seen),
        annotation(19, 404, first, all_seen),
        annotation(20, 632, first, all_seen),
        annotation(21, 724, first, all_seen),
        "no annotation",
    ]
    names = {number: f"{number:012d}.jpg" for number in (139, 285, 632, 724)}
    images = [
        {"id": number, "file_name": name, "width": SIZE[0], "height": SIZE[1]}
        for number, name in names.items()
    ]
    for number in (139, 285, 632):
        # the last one turned by ninety degrees
        size = SIZE[::-1] if number == 632 else SIZE
        write_picture(root / "val2017" / names[number], size, [*first, *second])
    (root / "annotations").mkdir()
    (root / "annotations" / "coco_wholebody_val_v1.0.json").write_text(
        json.dumps({"images": images, "annotations": annotations})
    )
    everything, nothing = np.ones(21, bool), np.zeros(21, bool)
    place = "000000000139"
    return {
        (f"{place}-11", "0", 139): {hand.side: (hand.joints_2d, everything) for hand in first},
        (f"{place}-12", "0", 139): {hand.side: (hand.joints_2d, some_seen > 0) for hand in second},
        (f"{place}-16", "0", 139): {Side.LEFT: (first[Side.LEFT].joints_2d, everything)},
        ("000000000285-17", "0", 285): {Side.LEFT: (second[Side.LEFT].joints_2d, nothing)},
    }


def test_conversion_keeps_the_labels(tmp_path: Path) -> None:
    truth = write_coco_wholebody(tmp_path / "raw")
    convert("coco_wholebody", tmp_path / "raw", tmp_path / "out")
    assert_labelled_2d(tmp_path / "out", "val", truth)
    report = json.loads((tmp_path / "out" / "val-report.json").read_text())
    assert {reason: entry["frames"] for reason, entry in report["skipped"].items()} == {
        "the field 'righthand_valid' is missing": 1,
        "the field 'file_name' is missing": 1,  # of an image that is not listed
        "the image is not of the size that the labels are for": 1,
        "the image is missing": 1,
        "the field 'iscrowd' is missing": 1,
    }
    clips = stored(tmp_path / "out", "val")
    assert not any(clip.intrinsics_known for clip, _ in clips.values())
    assert all(clip.person_area == 4000 for clip, _ in clips.values())
    clip, _ = clips["000000000285-17", "0", 285]
    # COCO's 40 to 100 and 50 to 130, where 0 is the image's corner and not the first pixel's middle
    np.testing.assert_allclose(clip.bbox[0, Side.LEFT], (69.5, 89.5, 60, 80))
