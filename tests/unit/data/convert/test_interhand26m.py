"""InterHand2.6M: tips first, right block first, a world in millimetres, and who counts as valid."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fourdhands.cli.main import main
from fourdhands.data.convert.interhand26m import InterHand26M
from fourdhands.skeleton import WRIST, Side
from tests.helpers.many_cameras import assert_dots, camera_around, clips_of
from tests.helpers.official import (
    MANO,
    FrameName,
    TrueHand,
    assert_converted,
    camera,
    convert,
    true_hand,
    write_picture,
)

SIZE = (334, 512)
K = camera(SIZE)
CAMERAS = {
    "400262": camera_around((0.2, -0.5, 0.3), K),
    "400268": camera_around((-0.4, 0.6, 2.5), K),
}
SEQUENCE = "ROM01_No_Interaction"
FRAMES = (3, 6, 9, 15, 18)
"""Every third, as the set numbers them, and one is missing."""
# The layout that the authors publish: of every finger tip first, the wrist last.
ORDER = [joint for finger in range(5) for joint in range(4 * finger + 4, 4 * finger, -1)] + [0]


@dataclass
class Raw:
    """Contents of the label files of one split."""

    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    cameras: dict[str, Any] = field(default_factory=dict)
    joints: dict[str, Any] = field(default_factory=lambda: {"7": {}})
    mano: dict[str, Any] = field(default_factory=lambda: {"7": {}})

    def add_frame(
        self, frame: int, hands: Mapping[Side, TrueHand], hand_type: str = "interacting"
    ) -> None:
        """Hands in the world, metres."""
        world = np.ones((42, 3))
        valid = np.zeros((42, 1), int)
        self.mano["7"][str(frame)] = {"right": None, "left": None}
        for side, hand in hands.items():
            world[21 * side : 21 * side + 21] = 1000 * hand.joints[ORDER]
            valid[21 * side : 21 * side + 21] = 1
            self.mano["7"][str(frame)][side.name.lower()] = {
                "pose": hand.pose48_offsets.tolist(),
                "shape": hand.betas.tolist(),
                "trans": hand.transl.tolist(),
            }
        self.joints["7"][str(frame)] = {
            "world_coord": world.tolist(),
            "joint_valid": valid.tolist(),
            "hand_type": hand_type,
            "hand_type_valid": True,
        }
        for name in CAMERAS:
            image = len(self.images)
            self.images.append(
                {
                    "id": image,
                    "file_name": f"Capture7/{SEQUENCE}/cam{name}/image{frame}.jpg",
                    "width": SIZE[0],
                    "height": SIZE[1],
                    "capture": 7,
                    "subject": 1,
                    "seq_name": SEQUENCE,
                    "camera": name,
                    "frame_idx": frame,
                }
            )
            self.annotations.append(
                {
                    "id": 1000 + image,
                    "image_id": image,
                    "bbox": [1.0, 2.0, 30.0, 40.0],
                    "joint_valid": valid.tolist(),
                    "hand_type": hand_type,
                    "hand_type_valid": 1,
                }
            )

    def write(self, root: Path, folder: str = "train", split: str = "train") -> None:
        """As the four files."""
        cameras = {
            "campos": {n: (1000 * c.centre).tolist() for n, c in CAMERAS.items()},
            "camrot": {n: c.R.tolist() for n, c in CAMERAS.items()},
            "focal": {n: [c.intrinsics[0, 0], c.intrinsics[1, 1]] for n, c in CAMERAS.items()},
            "princpt": {n: c.intrinsics[:2, 2].tolist() for n, c in CAMERAS.items()},
        }
        files = {
            "data": {"images": self.images, "annotations": self.annotations},
            "camera": {"7": cameras},
            "joint_3d": self.joints,
            "MANO_NeuralAnnot": self.mano,
        }
        place = root / "annotations" / folder
        place.mkdir(parents=True, exist_ok=True)
        for name, contents in files.items():
            (place / f"InterHand2.6M_{split}_{name}.json").write_text(json.dumps(contents))

    def annotation(self, camera: str, frame: int) -> dict[str, Any]:
        """Of one image."""
        image = next(i for i in self.images if (i["camera"], i["frame_idx"]) == (camera, frame))
        return self.annotations[image["id"]]


def hands_in_world(rng: np.random.Generator) -> dict[Side, TrueHand]:
    places = {Side.RIGHT: (-0.07, 0.0, 0.95), Side.LEFT: (0.07, 0.02, 0.9)}
    return {side: true_hand(rng, side, K, centre=place) for side, place in places.items()}


def write_interhand(root: Path) -> tuple[Raw, dict[FrameName, list[TrueHand]]]:
    """Images of all frames from both cameras; the labels are yet to be written."""
    rng = np.random.default_rng(1)
    raw = Raw()
    truth = {}
    for frame in FRAMES:
        hands = hands_in_world(rng)
        raw.add_frame(frame, hands)
        for name, view in CAMERAS.items():
            seen = [view.seen(hand) for hand in hands.values()]
            path = root / "images" / "train" / f"Capture7/{SEQUENCE}/cam{name}/image{frame}.jpg"
            write_picture(path, SIZE, seen)
            truth[f"Capture7/{SEQUENCE}", name, frame] = seen
    return raw, truth


def skipped(out: Path) -> dict[str, int]:
    report = json.loads((out / "train-report.json").read_text())
    return {reason: entry["frames"] for reason, entry in report["skipped"].items()}


def test_conversion_keeps_the_hands(tmp_path: Path) -> None:
    raw, truth = write_interhand(tmp_path / "raw")
    raw.write(tmp_path / "raw")
    out = tmp_path / "out"
    convert("InterHand26M", tmp_path / "raw", out, "--release", "30fps")
    assert_converted(out, "train", truth)
    assert_dots(out, "train", truth)
    assert not skipped(out)
    clips = clips_of(out, "train")
    assert {clip.fps for clip in clips} == {30.0}
    assert [clip.frame_ids for clip in clips] == [(3, 6, 9), (15, 18)] * 2
    # both cameras look at one world
    placed = [
        (clip.joints[0, 0] - clip.cam_from_world[0, :3, 3]) @ clip.cam_from_world[0, :3, :3]
        for clip in (clips[0], clips[2])
    ]
    np.testing.assert_allclose(placed[0], placed[1], atol=1e-5)


def test_bad_entries_cost_no_good_frame(tmp_path: Path) -> None:
    root, out = tmp_path / "raw", tmp_path / "out"
    raw, truth = write_interhand(root)
    first, second = CAMERAS
    images = root / "images" / "train" / f"Capture7/{SEQUENCE}"
    (images / f"cam{first}" / "image6.jpg").write_bytes(b"no image")
    (images / f"cam{second}" / "image18.jpg").unlink()
    raw.annotation(second, 3)["joint_valid"] = "what?"
    del raw.joints["7"]["15"]
    raw.annotations.append({"image_id": 10**6})
    raw.annotations.append(dict(raw.annotation(first, 3), id=5))
    bad = {(first, 6), (second, 18), (second, 3), (first, 15), (second, 15)}
    raw.write(root)
    convert("interhand26m", root, out)
    assert_converted(out, "train", {n: h for n, h in truth.items() if n[1:] not in bad})
    assert skipped(out) == {
        "a label is incomplete, or its image is not listed": 2,
        "the frame has no 3D joints": 2,
        "the image is broken": 1,
        "the image is missing": 1,
    }


def test_joints_count_as_the_evaluators_count_them(tmp_path: Path) -> None:
    root, out = tmp_path / "raw", tmp_path / "out"
    raw, _ = write_interhand(root)
    first, second = CAMERAS
    raw.annotation(first, 3)["joint_valid"][8] = [0]  # tip of the right middle finger
    raw.annotation(second, 3)["joint_valid"][41] = [0]  # wrist of the left hand
    raw.joints["7"]["6"]["joint_valid"][21 + 16] = [0]  # tip of the left little finger
    raw.mano["7"]["9"]["left"] = None
    del raw.mano["7"]["15"]
    for name in CAMERAS:
        raw.annotation(name, 18)["hand_type"] = "right"
        raw.annotation(name, 18)["joint_valid"][21:] = [[0]] * 21
    raw.write(root)
    convert("interhand26m", root, out)
    frames = {
        (clip.camera, number): (clip, k)
        for clip in clips_of(out, "train")
        for k, number in enumerate(clip.frame_ids)
    }
    clip, k = frames[first, 3]
    for mask in (clip.joints_valid, clip.joints_2d_valid):
        assert not mask[k, Side.RIGHT, 12] and mask[k].sum() == 41
    clip, k = frames[second, 3]  # no wrist, no joints, but the mesh
    assert not clip.joints_valid[k, Side.LEFT].any() and clip.joints_valid[k, Side.RIGHT].all()
    assert not clip.joints_2d_valid[k, Side.LEFT].any()
    assert clip.betas_valid[k].all() and (clip.bbox[k, :, 2] > 0).all()
    clip, k = frames[first, 6]
    assert not clip.joints_valid[k, Side.LEFT, 20] and clip.joints_valid[k].sum() == 41
    clip, k = frames[first, 9]
    assert clip.hands_valid[k].tolist() == [True, False]
    assert clip.joints_valid[k, Side.LEFT, WRIST] and clip.bbox[k, Side.LEFT, 2] > 0
    clip, k = frames[first, 15]
    assert not clip.hands_valid[k].any() and clip.joints_valid[k].all()
    clip, k = frames[first, 18]
    assert clip.hands_valid[k].tolist() == [True, False]
    assert (clip.bbox[k, :, 2] > 0).tolist() == [True, False]
    assert not any(clip.all_hands_labelled for clip in clips_of(out, "train"))


def listed(dataset: InterHand26M) -> list[tuple[str, int]]:
    return [
        (recording.camera, frame)
        for recording in dataset.recordings("train")
        for frame, _ in recording.frames
    ]


def test_subsets(tmp_path: Path) -> None:
    raw, _ = write_interhand(tmp_path)
    first, second = CAMERAS
    dark = tmp_path / "images" / "train" / f"Capture7/{SEQUENCE}/cam{first}/image18.jpg"
    cv2.imwrite(str(dark), np.full((SIZE[1], SIZE[0], 3), 9, np.uint8))
    for name in CAMERAS:
        raw.annotation(name, 6)["hand_type"] = "left"
    raw.annotation(first, 9)["hand_type_valid"] = 0
    raw.mano["7"]["15"]["right"] = None
    raw.write(tmp_path)
    of_first = [(first, k) for k in FRAMES]
    assert listed(InterHand26M(tmp_path)) == of_first + [(second, k) for k in FRAMES]
    assert listed(InterHand26M(tmp_path, hands="single")) == [(first, 6), (second, 6)]
    assert (first, 6) not in listed(InterHand26M(tmp_path, hands="interacting"))
    assert listed(InterHand26M(tmp_path, hands="intaghand")) == [
        *((first, k) for k in (3, 18)),
        *((second, k) for k in (3, 9, 18)),
    ]
    # what an option leaves out does not change the step
    steps = {r.step for r in InterHand26M(tmp_path, hands="intaghand").recordings("train")}
    assert steps == {3}
    convert("interhand26m", tmp_path, tmp_path / "out", "--hands", "intaghand")
    assert skipped(tmp_path / "out") == {"the image is darker than IntagHand takes them": 1}


def test_whose_labels(tmp_path: Path) -> None:
    raw, _ = write_interhand(tmp_path)
    raw.write(tmp_path)
    human = InterHand26M(tmp_path, annotations="human")
    with pytest.raises(FileNotFoundError, match="aid_human_annot_train"):
        human.splits()
    with pytest.raises(FileNotFoundError, match="machine_annot"):
        InterHand26M(tmp_path, annotations="machine").splits()
    chosen = raw.annotations[4]["id"]
    (tmp_path / "annotations" / "aid_human_annot_train.txt").write_text(f"{chosen}\n77\n")
    assert human.splits() == ["train"]
    assert listed(human) == [(raw.images[4]["camera"], raw.images[4]["frame_idx"])]


def test_older_trees_and_unpacked_folders(tmp_path: Path) -> None:
    raw, _ = write_interhand(tmp_path)
    (tmp_path / "InterHand2.6M_5fps_batch1").mkdir()
    (tmp_path / "images").rename(tmp_path / "InterHand2.6M_5fps_batch1" / "images")
    raw.write(tmp_path, "all")
    raw.annotations = raw.annotations[:2]
    raw.write(tmp_path, "human_annot")
    (
        tmp_path / "annotations" / "human_annot" / "InterHand2.6M_train_MANO_NeuralAnnot.json"
    ).unlink()
    assert InterHand26M(tmp_path).splits() == ["train"]
    assert len(listed(InterHand26M(tmp_path))) == 10
    human = InterHand26M(tmp_path, annotations="human")
    assert len(listed(human)) == 2
    (recording, *_) = human.recordings("train")
    record = human.read(recording, recording.frames[0][1], MANO)
    assert record.hands[Side.LEFT].betas is not None
    with pytest.raises(FileNotFoundError):
        InterHand26M(tmp_path, release="30fps").splits()
    with pytest.raises(ValueError, match="release"):
        InterHand26M(tmp_path / "InterHand2.6M_5fps_batch1", release="30fps").splits()


def test_missing_label_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, _ = write_interhand(tmp_path)
    raw.write(tmp_path)
    name = "InterHand2.6M_train_MANO_NeuralAnnot.json"
    (tmp_path / "annotations" / "train" / name).unlink()
    command = ["convert", "interhand26m", "--root", str(tmp_path), "--workers", "1"]
    flags = ["--hands", "intaghand", "--out", str(tmp_path / "intaghand")]
    assert main([*command, *flags]) != 0
    assert f"{name} does not exist" in capsys.readouterr().err.splitlines()[-1]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    labelled = capsys.readouterr().out.splitlines()[1]
    assert "0 MANO poses" in labelled and not labelled.startswith("  labelled: 0 ")
