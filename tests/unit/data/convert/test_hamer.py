"""HaMeR's tars: several hands an image, pickles that must not run, tars that are damaged."""

import io
import json
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fourdhands.data.collate import Collate, CropConfig
from fourdhands.data.manifest import find_shards
from fourdhands.data.stream import EvalStream
from fourdhands.skeleton import Side
from tests.helpers.official import (
    TrueHand,
    assert_converted,
    camera,
    convert,
    converted,
    picture,
    true_hand,
)

SIZE = (320, 240)
PLACES = {Side.RIGHT: (-0.1, 0.0, 0.6), Side.LEFT: (0.1, 0.0, 0.65)}
FrameName = tuple[str, str, int]


def labels_of(hand: TrueHand, **changes: Any) -> dict[str, Any]:
    """One entry of a pickle, as HaMeR's own reader takes it."""
    joints = (hand.joints - hand.joints[0]).astype(np.float32)
    low, high = hand.joints_2d.min(0), hand.joints_2d.max(0)
    labels = {
        "keypoints_2d": np.concatenate((hand.joints_2d, np.ones((21, 1))), 1).astype(np.float32),
        "keypoints_3d": np.concatenate((joints, np.ones((21, 1), np.float32)), 1),
        "center": ((low + high) / 2).astype(np.float32),
        "scale": ((high - low) * 1.2 / 200).astype(np.float32),
        "hand_pose": hand.pose48.astype(np.float32),
        "betas": hand.betas.astype(np.float32),
        "has_hand_pose": np.float32(1),
        "has_betas": np.float32(1),
        "right": np.float32(hand.side is Side.RIGHT),
        "extra_info": {"fitting_loss": np.array({"reprojection_loss": np.float32(12.0)})},
    }
    return labels | changes


class Sample:
    """Members of one key."""

    def __init__(self, hands: list[TrueHand], **changes: Any):
        encoded = cv2.imencode(".jpg", picture(SIZE, hands), [cv2.IMWRITE_JPEG_QUALITY, 98])[1]
        self.hands, self.jpg = hands, encoded.tobytes()
        self.pyd = pickle.dumps([labels_of(hand, **changes) for hand in hands])


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def add_sample(tar: tarfile.TarFile, key: str, sample: Sample) -> None:
    add(tar, f"{key}.data.pyd", sample.pyd)
    add(tar, f"{key}.jpg", sample.jpg)


def hands(seed: int, *sides: Side) -> list[TrueHand]:
    rng = np.random.default_rng(seed)
    K = camera(SIZE)
    made = []
    for k, side in enumerate(sides):
        x, y, z = PLACES[side]
        hand = true_hand(rng, side, K, centre=(x, y + 0.05 * (k // 2), z))
        while np.abs(hand.betas).max() > 2.9:  # HaMeR trusts no others
            hand = true_hand(rng, side, K, centre=(x, y, z))
        made.append(hand)
    return made


def report(out: Path, split: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / f"{split}-report.json").read_text())
    return found


def skipped(out: Path, split: str) -> dict[str, int]:
    return {reason: entry["frames"] for reason, entry in report(out, split)["skipped"].items()}


def test_conversion_keeps_the_hands(tmp_path: Path) -> None:
    truth: dict[FrameName, list[TrueHand]] = {}
    folder = tmp_path / "raw" / "mtc-train"
    folder.mkdir(parents=True)
    for number in range(2):
        with tarfile.open(folder / f"{number:06d}.tar", "w") as tar:
            for k, sides in enumerate(((Side.RIGHT,), (Side.LEFT,), (Side.RIGHT, Side.LEFT))):
                key = f"mtc-train/a.b/00_{k}"
                sample = Sample(hands(10 * number + k, *sides))
                add_sample(tar, key, sample)
                truth[key, f"{number:06d}", 0] = sample.hands
            # three people in one image
            sample = Sample(hands(10 * number + 7, Side.LEFT, Side.RIGHT, Side.LEFT))
            add_sample(tar, "mtc-train/crowd", sample)
            truth["mtc-train/crowd", f"{number:06d}", 0] = sample.hands[:2]
            truth["mtc-train/crowd", f"{number:06d}", 1] = sample.hands[2:]
    convert("HaMeR", tmp_path / "raw", tmp_path / "out")
    assert_converted(tmp_path / "out", "mtc-train", truth, absolute=False)
    assert not skipped(tmp_path / "out", "mtc-train")
    residuals = report(tmp_path / "out", "mtc-train")["residuals"]
    assert residuals["left hand: the mesh misses the 3D joints"] < 0.1
    for batch, _ in converted(tmp_path / "out", "mtc-train").values():
        assert batch.labels is not None and not batch.labels.roots_valid.any()


def test_left_hands_stored_as_right_ones_are_refused(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    mirror = np.tile([1.0, -1.0, -1.0], 16).astype(np.float32)
    with tarfile.open(tmp_path / "raw" / "0.tar", "w") as tar:
        for k in range(3):
            sample = Sample(hands(k, Side.LEFT))
            (labels,) = pickle.loads(sample.pyd)
            labels["hand_pose"] = labels["hand_pose"] * mirror
            sample.pyd = pickle.dumps([labels])
            add_sample(tar, str(k), sample)
    with pytest.raises(AssertionError):
        convert("hamer", tmp_path / "raw", tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.tar"))


def test_filters_are_those_of_the_training(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    points = [labels_of(*hands(k, Side.RIGHT))["keypoints_2d"] for k in range(6)]
    points[1][4:, 2] = 0.29
    points[2][5:, 2] = 0.29
    badly = {"fitting_loss": np.array({"reprojection_loss": 31000.0})}
    far = np.array([0, 0, 3.1, *[0] * 7], np.float32)
    changes: list[dict[str, Any]] = [
        {},
        {"keypoints_2d": points[1]},
        {"keypoints_2d": points[2]},
        {"extra_info": badly},
        {"has_betas": False, "betas": np.zeros(10, np.float32)},
        {"betas": far, "keypoints_3d": np.zeros((21, 4), np.float32)},
    ]
    with tarfile.open(tmp_path / "raw" / "0.tar", "w") as tar:
        for k, change in enumerate(changes):
            add_sample(tar, str(k), Sample(hands(k, Side.RIGHT), **change))
    valid: dict[str, dict[str, tuple[int, bool, bool]]] = {}
    for flag in ("true", "false"):
        convert("hamer", tmp_path / "raw", tmp_path / flag, "--filtered", flag)
        valid[flag] = {}
        for (key, _, _), (batch, _) in converted(tmp_path / flag, "train").items():
            labels = batch.labels
            assert labels is not None
            valid[flag][key] = (
                int(labels.joints_2d_valid.sum()),
                bool(labels.hands_valid.any()),
                bool(labels.betas_valid.any()),
            )
    assert valid["true"] == {
        "0": (21, True, True),
        "2": (5, True, True),
        "4": (21, False, False),
        "5": (21, False, False),
    }
    assert valid["false"] == {str(k): (21, True, k != 4) for k in range(6)}
    assert sum(skipped(tmp_path / "true", "train").values()) == 2


class Marker:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_hostile_and_broken_samples_are_skipped_and_counted(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    marker, outside = tmp_path / "marker", tmp_path / "outside.jpg"
    truth: dict[FrameName, list[TrueHand]] = {}
    good = [Sample(hands(k, Side.RIGHT, Side.LEFT)) for k in range(4)]
    bad = Sample(hands(9, Side.RIGHT))
    with tarfile.open(tmp_path / "raw" / "0.tar", "w") as tar:
        add_sample(tar, "first", good[0])
        hostile = pickle.dumps([labels_of(bad.hands[0], extra_info=Marker(marker))])
        assert b"system" in hostile
        for key, pyd, jpg in (
            ("hostile", hostile, bad.jpg),
            ("garbage", b"\x80\x04garbage", bad.jpg),
            ("no-list", pickle.dumps({"right": 1}), bad.jpg),
            ("nobody", pickle.dumps([]), bad.jpg),
            ("legion", pickle.dumps([{}] * 1000), bad.jpg),
            ("side", pickle.dumps([labels_of(bad.hands[0], right=0.5)]), bad.jpg),
            ("field", pickle.dumps([{"right": 1}]), bad.jpg),
            ("image", bad.pyd, bad.jpg[: len(bad.jpg) // 2]),
        ):
            add(tar, f"{key}.jpg", jpg)
            add(tar, f"{key}.data.pyd", pyd)
        add(tar, "alone.jpg", bad.jpg)
        add_sample(tar, "twice", bad)
        add(tar, "twice.data.pyd", good[1].pyd)
        for kind, name in ((tarfile.SYMTYPE, "link"), (tarfile.LNKTYPE, "hard")):
            info = tarfile.TarInfo(f"{name}.jpg")
            info.type, info.linkname = kind, str(outside)
            tar.addfile(info)
            add(tar, f"{name}.data.pyd", bad.pyd)
        device = tarfile.TarInfo("device.jpg")
        device.type = tarfile.FIFOTYPE
        tar.addfile(device)
        add_sample(tar, "../../outside", good[1])  # a name is only a name
        add_sample(tar, str(tmp_path / "absolute"), good[2])
        add_sample(tar, "last\udcff", good[3])  # a byte that is no text
    for key, sample in zip(
        ("first", "../../outside", str(tmp_path / "absolute"), "last\\udcff"), good, strict=True
    ):
        truth[key, "0", 0] = sample.hands
    convert("hamer", tmp_path / "raw", tmp_path / "out")
    assert not marker.exists() and not outside.exists()
    assert not (tmp_path / "absolute.jpg").exists()
    assert_converted(tmp_path / "out", "train", truth, absolute=False)
    assert skipped(tmp_path / "out", "train") == {
        "the image is missing": 2,
        "a hand is neither right nor left": 1,
        "no hand is labelled": 1,
        "the field 'keypoints_2d' is missing": 1,
        "the image is broken": 1,
        "the labels are missing": 1,
        "the labels are no list of hands": 1,
        "the labels are of more hands than an image shows": 1,
        "the pickle of the labels asks for something to be run": 1,
        "the pickle of the labels is damaged": 1,
        "the tar holds data.pyd of a key more than once": 1,
    }


def test_damaged_tars_lose_only_what_is_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "raw" / "rhd-train"
    folder.mkdir(parents=True)
    samples = [Sample(hands(k, Side.RIGHT)) for k in range(2)]
    for name in ("cut", "header", "whole"):
        with tarfile.open(folder / f"{name}.tar", "w") as tar:
            add_sample(tar, "a", samples[0])
            start = tar.fileobj.tell()  # type: ignore[union-attr]
            add_sample(tar, "b", samples[1])
            end = tar.fileobj.tell()  # type: ignore[union-attr]
        data = bytearray((folder / f"{name}.tar").read_bytes())
        if name == "cut":
            del data[end - 1000 :]
        if name == "header":
            data[start : start + 512] = b"\xff" * 512
        (folder / f"{name}.tar").write_bytes(data)
    (folder / "empty.tar").write_bytes(b"")
    (folder / "noise.tar").write_bytes(os.urandom(3000))
    convert("hamer", tmp_path / "raw", tmp_path / "out")
    truth: dict[FrameName, list[TrueHand]] = {
        (key, tar, 0): samples[key == "b"].hands
        for key, tar in (("a", "cut"), ("a", "header"), ("a", "whole"), ("b", "whole"))
    }
    assert_converted(tmp_path / "out", "rhd-train", truth, absolute=False)
    assert skipped(tmp_path / "out", "rhd-train") == {
        "a tar is cut off or damaged": 4,
        "a member of a tar is cut off": 1,
    }


def test_header_that_leads_back_ends_the_listing(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    sample = Sample(hands(0, Side.RIGHT))
    path = tmp_path / "raw" / "0.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        add_sample(tar, "a", sample)
        start = tar.fileobj.tell()  # type: ignore[union-attr]
        add(tar, "b.jpg", sample.jpg)
    data = bytearray(path.read_bytes())
    header = data[start : start + 512]
    header[124:136] = b"\xff" + (-1536).to_bytes(11, "big", signed=True)  # a negative size
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    data[start : start + 512] = header
    path.write_bytes(data)
    convert("hamer", tmp_path / "raw", tmp_path / "out")
    assert list(converted(tmp_path / "out", "train")) == [("a", "0", 0)]
    collate = Collate(1, CropConfig(size=(64, 64), bbox_scale=1.2, box="separate"))
    stream = EvalStream([find_shards(tmp_path / "out", tmp_path)], collate, gap=1, batch_size=1)
    assert len(list(stream)) == 1
