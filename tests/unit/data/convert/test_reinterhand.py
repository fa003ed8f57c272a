"""Re:InterHand: 24 points of which 21 count, cameras with a shift, and a fisheye on the head."""

import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from fourdhands.data.convert.reinterhand import ReInterHand
from fourdhands.skeleton import Side
from tests.helpers.many_cameras import Camera, assert_dots, camera_around, clips_of
from tests.helpers.official import (
    Floats,
    FrameName,
    TrueHand,
    assert_converted,
    camera,
    convert,
    pixels,
    true_hand,
)

SIZE = (334, 512)
K = camera(SIZE)
CAMERAS = {
    "400262": camera_around((0.2, -0.5, 0.3), K),
    "400268": camera_around((-0.4, 0.6, 2.5), K),
}
TRAIN = "m--20221007--1215--HIR112--pilot--ProjectGoliathScript--Hands--two-hands"
TEST = "m--20230317--1130--QZX685--pilot--ProjectGoliath--Hands--two-hands"
EGO_SIZE = (480, 400)
EGO_K = camera(EGO_SIZE, focal=0.7)
DISTORTION = np.array((-0.1, 0.02, -0.01, 0.003))


def fisheye(points: Floats) -> Floats:
    """Normalised pinhole coordinates (N, 2) to those on the distorted image."""
    r = np.linalg.norm(points, axis=-1, keepdims=True)
    theta = np.arctan(r)
    bent = theta * (1 + sum(d * theta ** (2 * k + 2) for k, d in enumerate(DISTORTION)))
    return np.asarray(points * bent / r)


def write_labels(capture: Path, frame: int, hands: Mapping[Side, TrueHand]) -> None:
    """Of hands in the world."""
    for side, hand in hands.items():
        name = side.name.lower()
        junk = np.full((1, 3), 5.0)  # carpal points and the forearm
        thumb, fingers, little = hand.joints[:1], hand.joints[1:17], hand.joints[17:]
        points = np.concatenate((thumb, junk, fingers, junk, little, junk))
        path = capture / "orig_fits" / name / "Keypoints" / f"keypoint-{frame:06d}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps((1000 * points).tolist()))
        path = capture / "mano_fits" / "params" / f"{frame}_{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps(
                {
                    "pose": hand.pose48_offsets.tolist(),
                    "shape": hand.betas.tolist(),
                    "trans": hand.transl.tolist(),
                }
            )
        )


def as_json(view: Camera) -> dict[str, list[float]]:
    return {
        "R": view.R.tolist(),
        "t": (1000 * view.t).tolist(),
        "focal": [view.intrinsics[0, 0], view.intrinsics[1, 1]],
        "princpt": view.intrinsics[:2, 2].tolist(),
    }


def hands_in_world(
    rng: np.random.Generator, distance: float = 0.9, apart: float = 0.07
) -> dict[Side, TrueHand]:
    places = {Side.RIGHT: (-apart, 0.0, distance + 0.05), Side.LEFT: (apart, 0.02, distance)}
    return {side: true_hand(rng, side, K, centre=place) for side, place in places.items()}


def write_dots(path: Path, size: tuple[int, int], hands: Mapping[Side, Floats]) -> None:
    """As `write_picture`, with dots (21, 2) anywhere."""
    image = np.full((size[1], size[0], 3), 60.0)
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    for side, points in hands.items():
        channel = image[..., 1 if side is Side.RIGHT else 2]
        for point in points:
            dot = np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / (2 * 1.5**2))
            np.maximum(channel, 60 + 180 * dot, out=channel)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image.round().astype(np.uint8))


def write_mugsy(
    root: Path, name: str, frames: tuple[int, ...], envmap: str = "per_frame"
) -> dict[FrameName, list[TrueHand]]:
    rng = np.random.default_rng(len(name))
    capture, truth = root / name, {}
    for frame in frames:
        hands = hands_in_world(rng)
        write_labels(capture, frame, hands)
        for camera_name, view in CAMERAS.items():
            seen = {side: view.seen(hand) for side, hand in hands.items()}
            folder = capture / "Mugsy_cameras" / f"envmap_{envmap}" / "images" / camera_name
            dots = {side: hand.joints_2d for side, hand in seen.items()}
            write_dots(folder / f"{frame:06d}.png", SIZE, dots)
            truth[name, camera_name, frame] = list(seen.values())
    cameras = {camera_name: as_json(view) for camera_name, view in CAMERAS.items()}
    (capture / "Mugsy_cameras" / "cam_params.json").write_text(json.dumps(cameras))
    lines = "".join(f"seg00 {frame:06d}\n" for frame in frames)
    (capture / "frame_list.txt").write_text(lines)
    return truth


def write_ego(root: Path, ratios: Mapping[int, float]) -> dict[FrameName, list[TrueHand]]:
    """A camera that moves; the images are a fisheye's, the truth is a pinhole's."""
    rng = np.random.default_rng(5)
    capture, truth = root / TRAIN, {}
    folder = capture / "Ego_cameras" / "envmap_per_segment"
    (folder / "cam_params").mkdir(parents=True)
    for frame in ratios:
        hands = hands_in_world(rng, distance=0.5, apart=0.15)
        write_labels(capture, frame, hands)
        view = camera_around((0.1 * frame - 0.3, 0.2, -0.05 * frame), EGO_K, distance=0.5)
        seen = {side: view.seen(hand) for side, hand in hands.items()}
        bent = {}
        for side, hand in seen.items():
            flat = fisheye(hand.joints[:, :2] / hand.joints[:, 2:])
            bent[side] = pixels(np.concatenate((flat, np.ones((21, 1))), 1), EGO_K)
        write_dots(folder / "images" / f"{frame:06d}.png", EGO_SIZE, bent)
        lens = as_json(view) | {"D": DISTORTION.tolist()}
        (folder / "cam_params" / f"{frame:06d}.json").write_text(json.dumps(lens))
        truth[TRAIN, "ego", frame] = list(seen.values())
    named = {f"{frame:06d}": ratio for frame, ratio in ratios.items()}
    (folder / "truncation_ratio.json").write_text(json.dumps(named))
    lines = "".join(f"seg00 {frame:06d}\n" for frame in ratios)
    (capture / "frame_list.txt").write_text(lines)
    return truth


def skipped(out: Path) -> dict[str, int]:
    report = json.loads((out / "train-report.json").read_text())
    return {reason: entry["frames"] for reason, entry in report["skipped"].items()}


def test_cameras_from_around(tmp_path: Path) -> None:
    root, out = tmp_path / "raw", tmp_path / "out"
    truth = write_mugsy(root, TRAIN, (6, 12, 18, 30))
    test_truth = write_mugsy(root, TEST, (60,))
    # what is there at 30 fps only must not be taken for images of the 5 fps set
    (root / TRAIN / "frame_list.txt").write_text("seg00 000001\n")
    convert("ReInterHand", root, out)
    assert_converted(out, "train", truth)
    assert_converted(out, "test", test_truth)
    assert_dots(out, "train", truth)
    clips = clips_of(out, "train")
    assert {clip.fps for clip in clips} == {5.0} and all(c.all_hands_labelled for c in clips)
    assert [clip.frame_ids for clip in clips] == [(6, 12, 18), (30,)] * 2


def test_camera_on_the_head(tmp_path: Path) -> None:
    root, out = tmp_path / "raw", tmp_path / "out"
    truth = write_ego(root, {1: 0.9, 2: 0.2, 3: 0.19, 4: 1.0})
    corner = np.array(((0.3, 0.2),))
    assert EGO_K[0, 0] * np.abs(fisheye(corner) - corner).max() > 5, "the fisheye has to matter"
    flags = ("--cameras", "ego", "--envmap", "per_segment")
    convert("reinterhand", root, out, *flags)
    del truth[TRAIN, "ego", 3]
    assert_converted(out, "train", truth)
    assert_dots(out, "train", truth)
    assert skipped(out) == {"too little of the hands is in sight (truncation_ratio)": 1}
    clips = clips_of(out, "train")
    assert [clip.frame_ids for clip in clips] == [(1, 2), (4,)] and clips[0].fps == 30
    assert not np.allclose(clips[0].cam_from_world[0], clips[0].cam_from_world[1])


def test_bad_frames_cost_no_good_one(tmp_path: Path) -> None:
    root, out = tmp_path / "raw", tmp_path / "out"
    truth = write_mugsy(root, TRAIN, (0, 1, 2, 3, 4, 5), "per_segment")
    capture = root / TRAIN
    first, second = CAMERAS
    images = capture / "Mugsy_cameras" / "envmap_per_segment" / "images"
    (images / first / "000001.png").write_bytes(b"no image")
    (images / second / "000002.png").unlink()
    joints = capture / "orig_fits" / "left" / "Keypoints"
    (joints / "keypoint-000003.json").write_text("[[1, 2, 3]]")
    (joints / "keypoint-000004.json").unlink()
    (capture / "mano_fits" / "params" / "5_left.json").write_text('{"pose": [1]}')
    convert("reinterhand", root, out, "--envmap", "per_segment")
    bad = {(first, 1), (second, 2), *((name, k) for name in CAMERAS for k in (3, 4, 5))}
    assert_converted(out, "train", {n: h for n, h in truth.items() if n[1:] not in bad})
    assert skipped(out) == {
        "the labels cannot be read": 4,
        "a file is missing": 2,
        "the image is broken": 1,
        "the image is missing": 1,
    }


def test_parameters_in_one_file(tmp_path: Path) -> None:
    root, out = tmp_path / "raw", tmp_path / "out"
    truth = write_mugsy(root, TRAIN, (6, 12))
    fits = root / TRAIN / "mano_fits"
    files = sorted((fits / "params").iterdir())
    joined = {path.stem: json.loads(path.read_text()) for path in files}
    for path in files:
        path.unlink()
    (fits / "params").rmdir()
    with pytest.raises(FileNotFoundError, match=r"all\.json"):
        list(ReInterHand(root).recordings("train"))
    joined["12_left"] = None
    (fits / "all.json").write_text(json.dumps(joined))
    convert("reinterhand", root, out)
    assert_converted(out, "train", truth, meshes=False)
    for clip in clips_of(out, "train"):
        assert clip.betas_valid.tolist() == [[True, True], [True, False]]
        for k, number in enumerate(clip.frame_ids):
            for hand in truth[clip.sequence, clip.camera, number]:
                if clip.betas_valid[k, hand.side]:
                    np.testing.assert_allclose(clip.transl[k, hand.side], hand.transl, atol=1e-4)


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Ego_cameras/envmap_per_frame"):
        ReInterHand(tmp_path, cameras="ego").splits()
