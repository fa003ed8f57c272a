"""RenderIH: PCA coefficients without the mean in a world frame, IntagHand's shapes of arrays."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from fourdhands.data.convert.conventions import rotation
from fourdhands.skeleton import Side
from tests.helpers.official import (
    Floats,
    TrueHand,
    assert_converted,
    camera,
    convert,
    stored,
    true_hand,
    write_picture,
)

SIZE = (256, 256)
FIRST = 366358


def in_world(hand: TrueHand, R: Floats, t: Floats) -> dict[str, Any]:
    orient, transl = hand.parameters_in(R.T, -R.T @ t)
    values = {"R": orient, "pose": hand.pca, "shape": hand.betas, "trans": transl}
    return {name: value[None].astype(np.float32) for name, value in values.items()}


def write_renderih(root: Path) -> dict[tuple[str, str, int], list[TrueHand]]:
    rng = np.random.default_rng(0)
    K = camera(SIZE)
    truth = {}
    for number in (*range(FIRST, FIRST + 5), 1_000_000):
        hands = [true_hand(rng, side, K) for side in Side]
        R, t = rotation(rng.normal(0, 1.0, 3)), rng.normal(0, 0.5, 3)
        labels: dict[str, Any] = {
            "inter_idx": number,
            "camera": {"R": R.astype(np.float32), "t": t.astype(np.float32), "camera": K},
            "mano_params": {hand.side.name.lower(): in_world(hand, R, t) for hand in hands},
        }
        image = root / "train" / "color_img" / f"{number}.jpg"
        write_picture(image, SIZE, hands)
        if number == FIRST + 1:
            del labels["camera"]["t"]
        elif number == FIRST + 2:
            image.write_bytes(image.read_bytes()[:500])
        elif number == FIRST + 3:
            labels["mano_params"]["left"], hands = None, hands[:1]
        path = root / "train" / "color_annot" / f"{number}.pkl"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(pickle.dumps(labels))
        if number not in (FIRST + 1, FIRST + 2):
            truth[str(number), "0", number] = hands
    (root / "train" / "color_img" / "overview.jpg").write_bytes(b"")
    return truth


def test_conversion_keeps_the_hands(tmp_path: Path) -> None:
    truth = write_renderih(tmp_path / "raw")
    convert("renderih", tmp_path / "raw", tmp_path / "out")
    assert_converted(tmp_path / "out", "train", truth)
    report = json.loads((tmp_path / "out" / "train-report.json").read_text())
    assert {reason: entry["frames"] for reason, entry in report["skipped"].items()} == {
        "the field 't' is missing": 1,
        "the image is broken": 1,
    }
    clip, k = stored(tmp_path / "out", "train")[str(FIRST), "0", FIRST]
    labels = pickle.loads((tmp_path / f"raw/train/color_annot/{FIRST}.pkl").read_bytes())
    np.testing.assert_allclose(clip.cam_from_world[k][:3, :3], labels["camera"]["R"], atol=1e-6)
    np.testing.assert_allclose(clip.cam_from_world[k][:3, 3], labels["camera"]["t"], atol=1e-6)
