"""CMU's HandDB: a json file for each hand, left ones in the same order, and its two other sets."""

import json
from pathlib import Path

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
MANUAL = "hand_labels/manual"


def write_hand(path: Path, hand: TrueHand, valid: np.ndarray) -> None:
    points = np.column_stack((np.where(valid[:, None], hand.joints_2d, 0.0), valid))
    write_picture(path.with_suffix(".jpg"), SIZE, [hand])
    content = {"hand_pts": points.tolist(), "is_left": float(hand.side is Side.LEFT)}
    path.write_text(json.dumps(content))


def write_mpii_nzsl(root: Path) -> dict[str, dict[tuple[str, str, int], dict[Side, Points]]]:
    rng = np.random.default_rng(0)
    K = camera(SIZE)
    left, right = true_hand(rng, Side.LEFT, K), true_hand(rng, Side.RIGHT, K)
    everything, some = np.ones(21, bool), np.arange(21) % 4 > 0
    write_hand(root / f"{MANUAL}_train" / "015774_01_l.json", left, some)
    write_hand(root / f"{MANUAL}_train" / "015774_01_r.json", right, everything)
    write_hand(root / f"{MANUAL}_test" / "Berry_roof_story.flv_000053_r.json", right, some)
    for folder, hand in (("synth1", left), ("synth4", right)):
        write_hand(root / "hand_labels_synth" / folder / "0001.json", hand, everything)
    broken = root / f"{MANUAL}_train" / "015775_01_l.json"
    broken.write_text('{"hand_pts": [')
    (root / f"{MANUAL}_train" / "015776_01_l.json").write_text('{"hand_pts": []}')
    panoptic = root / "hand143_panopticdb"
    write_picture(panoptic / "imgs" / "00000001.jpg", SIZE, [right])
    entries = [
        {"img_paths": "../00000000.jpg", "joint_self": []},
        {
            "img_paths": "imgs/00000001.jpg",
            "joint_self": np.column_stack((right.joints_2d, np.ones(21))).tolist(),
        },
        "no entry",
    ]
    (panoptic / "hands_v143_14817.json").write_text(json.dumps({"root": entries}))
    return {
        "train": {
            ("015774_01_l", "0", 0): {Side.LEFT: (left.joints_2d, some)},
            ("015774_01_r", "0", 0): {Side.RIGHT: (right.joints_2d, everything)},
        },
        "test": {("Berry_roof_story.flv_000053_r", "0", 0): {Side.RIGHT: (right.joints_2d, some)}},
        "synth": {
            ("synth1-0001", "0", 0): {Side.LEFT: (left.joints_2d, everything)},
            ("synth4-0001", "0", 0): {Side.RIGHT: (right.joints_2d, everything)},
        },
        "panoptic": {("panoptic-00001", "0", 1): {Side.RIGHT: (right.joints_2d, everything)}},
    }


def test_conversion_keeps_the_labels(tmp_path: Path) -> None:
    truth = write_mpii_nzsl(tmp_path / "raw")
    convert("mpii_nzsl", tmp_path / "raw", tmp_path / "out")
    for split in truth:
        assert_labelled_2d(tmp_path / "out", split, truth[split])
    reports = {
        split: json.loads((tmp_path / "out" / f"{split}-report.json").read_text())["skipped"]
        for split in truth
    }
    assert reports["train"].keys() == {
        "the labels cannot be read",
        "the field 'is_left' is missing",
    }
    assert reports["panoptic"].keys() == {
        "a file name leads out of the data set's folder",
        "the field 'joint_self' is missing",
    }
