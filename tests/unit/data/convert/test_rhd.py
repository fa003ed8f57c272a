"""RHD: left hands first, fingers from their tips, and labels of hands that nobody sees."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from fourdhands.skeleton import Side
from tests.helpers.official import (
    Floats,
    TrueHand,
    assert_converted,
    camera,
    convert,
    true_hand,
    write_picture,
)

SIZE = (320, 320)
# wrist, then thumb to little finger, each from the tip to the base
RAW_FROM_COMMON = [0, *(4 * finger + k for finger in range(5) for k in (4, 3, 2, 1))]


def raw(hands: dict[Side, TrueHand], name: str) -> Floats:
    both = [getattr(hands[side], name)[RAW_FROM_COMMON] for side in (Side.LEFT, Side.RIGHT)]
    return np.concatenate(both)


def write_rhd(root: Path) -> dict[tuple[str, str, int], list[TrueHand]]:
    rng = np.random.default_rng(0)
    K = camera(SIZE)
    annotations: dict[int, dict[str, Any]] = {}
    truth = {}
    for image in range(6):
        hands = {side: true_hand(rng, side, K) for side in Side}
        visible = np.ones(42)
        visible[rng.permutation(42)[:8]] = 0  # hidden joints are labelled all the same
        shown = list(Side)
        if image == 1:
            visible[:21] = 0
            visible[[3, 5, 7, 9]] = 1
            shown = [Side.RIGHT]
        elif image == 2:
            visible[:] = 0
        annotations[image] = {
            "xyz": raw(hands, "joints").astype(np.float32),
            "uv_vis": np.column_stack((raw(hands, "joints_2d"), visible)),
            "K": K.astype(np.float32),
        }
        path = root / "training" / "color" / f"{image:05d}.png"
        write_picture(path, SIZE, [hands[side] for side in shown])
        if image == 3:
            del annotations[image]["K"]
        elif image == 4:
            path.unlink()
        if image not in (2, 3, 4):
            truth[f"{image:05d}", "0", image] = [hands[side] for side in shown]
    (root / "training" / "anno_training.pickle").write_bytes(pickle.dumps(annotations, 2))
    return truth


def test_conversion_keeps_the_hands(tmp_path: Path) -> None:
    truth = write_rhd(tmp_path / "raw")
    convert("RHD", tmp_path / "raw", tmp_path / "out")
    assert_converted(tmp_path / "out", "train", truth, meshes=False)
    report = json.loads((tmp_path / "out" / "train-report.json").read_text())
    assert {reason: entry["frames"] for reason, entry in report["skipped"].items()} == {
        "too little of either hand is visible": 1,
        "the field 'K' is missing": 1,
        "the image is missing": 1,
    }
