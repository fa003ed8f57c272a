"""Generated motion, its shards, windows and masks."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from fourdhands.cli.main import main
from fourdhands.data.motion.clips import MotionClip, MotionShardWriter, read_motion
from fourdhands.data.motion.generate import GeneratorConfig, generate_angles
from fourdhands.data.motion.synthesize import MotionSetConfig, MotionSplits, generate_clip
from fourdhands.data.motion.windows import MotionData, WindowConfig, resample, sample_masks
from fourdhands.data.schema import BadSampleError
from fourdhands.geometry.rotation import (
    geodesic_distance,
    matrix_from_axis_angle,
    mirror_rotation,
)
from fourdhands.hands.anatomy import POSE_LIMITS
from fourdhands.skeleton import Side
from tests.helpers.motion import SMALL_SET

CONFIG = GeneratorConfig(seconds=8.0)


def angles(fps: float, index: int = 0) -> np.ndarray:
    times = np.arange(int(CONFIG.seconds * fps)) / fps
    return generate_angles(CONFIG, (0, index), times)


def test_motion_is_the_same_at_any_rate() -> None:
    for index in range(4):
        np.testing.assert_allclose(angles(60, index)[::2], angles(30, index), atol=1e-12)
        np.testing.assert_allclose(angles(30, index)[::2], angles(15, index), atol=1e-12)


def test_clips_differ_and_come_again() -> None:
    np.testing.assert_array_equal(angles(30, 1), angles(30, 1))
    assert np.abs(angles(30, 1) - angles(30, 2)).max() > 0.2


def test_joints_stay_within_their_limits_and_move_smoothly() -> None:
    found = np.stack([angles(60, k) for k in range(12)])
    assert (found >= POSE_LIMITS[..., 0]).all() and (found <= POSE_LIMITS[..., 1]).all()
    speed = np.abs(np.diff(found, axis=1)) * 60
    assert np.degrees(speed).max() < 1800
    assert np.degrees(found[..., 0].std((0, 1, 2))).min() > 5  # every joint bends
    # and no joint does only what its neighbour does
    flat = found[..., 0].reshape(-1, 15)
    correlation = np.corrcoef(flat.T) - np.eye(15)
    assert correlation.max() < 0.985


def test_shards_come_back_and_are_the_same_bytes(tmp_path: Path) -> None:
    args = ["--splits.train", "4", "--splits.val", "2", "--splits.test", "0", "--seed", "3"]
    args += ["--motion.seconds", "2", "--shard_clips", "2", "--workers", "1"]
    for name in ("a", "b"):
        assert main(["synthesize", "--motion", "--out", str(tmp_path / name), *args]) == 0
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == [
        *("train-000000.tar", "train-000001.tar", "train.json", "val-000000.tar", "val.json")
    ]
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    summary = json.loads((tmp_path / "a" / "train.json").read_text())
    assert [s["clips"] for s in summary["shards"]] == [2, 2]
    assert [s["frames"] for s in summary["shards"]] == [120, 120]
    config = MotionSetConfig(
        replace(GeneratorConfig(), seconds=2.0), MotionSplits(4, 2, 0), shard_clips=2, seed=3
    )
    stored = [c for k in (0, 1) for c in read_motion(tmp_path / "a" / f"train-{k:06d}.tar")]
    for index, clip in enumerate(stored):
        made = generate_clip(config, "train", index)
        np.testing.assert_array_equal(clip.hand_pose, made.hand_pose)
    # another configuration in the same folder is refused
    assert main(["synthesize", "--motion", "--out", str(tmp_path / "a"), *args, "--fps", "60"]) == 1


def test_a_wrong_sample_is_named(tmp_path: Path) -> None:
    clip = generate_clip(SMALL_SET, "val", 0)
    with pytest.raises(ValueError, match="hand_pose is float64"):
        replace(clip, hand_pose=clip.hand_pose.astype(float)).check()  # type: ignore[arg-type]
    writer = MotionShardWriter(tmp_path, "set", num_shards=1, recipe={})
    writer.start()
    with pytest.raises(BadSampleError, match="appears twice"):
        writer.write(0, [clip, clip])
    writer.write(0, [clip])
    data = bytearray(writer.path(0).read_bytes())
    data[data.index(b"float") if b"float" in data else data.index(b"<f4") + 1] = ord("z")
    writer.path(0).write_bytes(data)
    with pytest.raises(BadSampleError, match="finger motion"):
        list(read_motion(writer.path(0)))


def recorded(valid: np.ndarray, pose: np.ndarray, fps: float = 30.0) -> MotionClip:
    return MotionClip("k", "d", "s", fps, pose.astype(np.float32), valid)


def test_left_hands_become_right_ones_in_the_mirror() -> None:
    clip = generate_clip(SMALL_SET, "train", 0)
    left = MotionData(
        [replace(clip, valid=np.stack([~clip.valid[:, 0], clip.valid[:, 1]], 1))],
        frames=64,
        fps=30.0,
        config=WindowConfig(min_variance=0.0),
    )
    window = left.draw(1, torch.Generator().manual_seed(0)).rotations[0, :, 0]
    true = mirror_rotation(matrix_from_axis_angle(torch.from_numpy(clip.hand_pose[:, Side.LEFT])))
    away = geodesic_distance(window[0], true).amax(-1)
    start = int(away.argmin())
    torch.testing.assert_close(window, true[start : start + 64], atol=1e-5, rtol=0)


def test_another_rate_is_slerp() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(0, 0.6, (9, 15, 3))
    found = resample(matrix_from_axis_angle(torch.from_numpy(vectors)), 120.0, 30.0)
    wanted = Rotation.from_rotvec(vectors[::4].reshape(-1, 3)).as_matrix().reshape(3, 15, 3, 3)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-9)
    found = resample(matrix_from_axis_angle(torch.from_numpy(vectors)), 25.0, 30.0)
    assert len(found) == 10
    middle = Rotation.from_rotvec(vectors[0]).inv() * Rotation.from_rotvec(vectors[1])
    turn = Rotation.from_rotvec(middle.as_rotvec() * (25 / 30))
    wanted = (Rotation.from_rotvec(vectors[0]) * turn).as_matrix()
    np.testing.assert_allclose(found[1].numpy(), wanted, atol=1e-7)


def test_what_is_short_or_still_is_left_out() -> None:
    clip = generate_clip(SMALL_SET, "train", 0)
    still = np.zeros_like(clip.hand_pose)
    still[:, Side.RIGHT] = clip.hand_pose[:, Side.RIGHT]
    valid = np.ones_like(clip.valid)
    valid[:20, Side.RIGHT] = True
    valid[20, Side.RIGHT] = False
    data = MotionData(
        [recorded(valid, still)], frames=64, fps=30.0, config=WindowConfig(min_variance=1e-4)
    )
    assert data.skipped == {"too short": 1, "hardly moves": 1}
    assert data.hands == 1 and data.seconds == pytest.approx((clip.num_frames - 21) / 30)
    with pytest.raises(ValueError, match="no motion to learn from"):
        MotionData([recorded(valid, 0 * still)], frames=64, fps=30.0, config=WindowConfig())


def test_short_stretches_are_padded() -> None:
    clip = generate_clip(SMALL_SET, "train", 0)
    short = recorded(clip.valid[:45], clip.hand_pose[:45])
    data = MotionData([short], frames=64, fps=30.0, config=WindowConfig(min_variance=0.0))
    windows = data.draw(3, torch.Generator().manual_seed(0))
    assert windows.valid[..., 0].sum(1).tolist() == [45] * 3
    assert (windows.rotations[:, 45:] == torch.eye(3)).all()


def test_masks_hide_everything_there_is_to_hide() -> None:
    masks = sample_masks(4000, 128, torch.Generator().manual_seed(0))
    share = masks.float().mean(1)
    assert (share == 0).any() and (share == 1).any()
    assert 0.4 < share.mean() < 0.85
    assert (~masks).float().mean(0).min() > 0.1  # anywhere
    single = masks[:, 1:-1] & ~masks[:, :-2] & ~masks[:, 2:]
    assert (single.sum(1) > 20).any()  # low rates
    again = sample_masks(4000, 128, torch.Generator().manual_seed(0))
    assert torch.equal(masks, again)
