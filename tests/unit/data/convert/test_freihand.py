"""FreiHAND: versions of one image share labels; the pose lacks its mean."""

import json
from pathlib import Path

import numpy as np

from tests.helpers.official import (
    TrueHand,
    assert_converted,
    camera,
    convert,
    true_hand,
    write_picture,
)

from fourdhands.skeleton import Side

SIZE = (224, 224)
VERSIONS = 2


def write_freihand(root: Path, count: int = 3) -> dict[tuple[str, str, int], list[TrueHand]]:
    rng = np.random.default_rng(0)
    K = camera(SIZE)
    hands = [true_hand(rng, Side.RIGHT, K) for _ in range(count)]
    lists = {
        "K": [K.tolist()] * count,
        "xyz": [hand.joints.tolist() for hand in hands],
        "verts": [hand.vertices.tolist() for hand in hands],
        "mano": [[[*hand.pose48_offsets, *hand.betas, 0.0, 0.0, 1.0]] for hand in hands],
    }
    root.mkdir(parents=True)
    for name, entries in lists.items():
        (root / f"training_{name}.json").write_text(json.dumps(entries))
    truth = {}
    for image in range(VERSIONS * count):
        hand = hands[image % count]
        write_picture(root / "training" / "rgb" / f"{image:08d}.jpg", SIZE, [hand])
        truth[f"{image:08d}", "0", image] = [hand]
    return truth


def test_conversion_keeps_the_hands(tmp_path: Path) -> None:
    truth = write_freihand(tmp_path / "raw")
    convert("FreiHAND", tmp_path / "raw", tmp_path / "out")
    assert_converted(tmp_path / "out", "train", truth)
    report = json.loads((tmp_path / "out" / "train-report.json").read_text())
    assert report["frames"] == len(truth) and not report["skipped"]
