"""Recorded motion: small files in the official layouts, and what becomes of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fourdhands.cli.main import main
from fourdhands.data.motion.clips import MotionClip, read_motion
from fourdhands.geometry.rotation import matrix_from_axis_angle
from fourdhands.hands.assets import load_assets
from fourdhands.skeleton import Side
from tests.helpers.clips import random_clip, write_set

RNG = np.random.default_rng(0)


def write_amass(path: Path, width: int, rate: dict[str, Any], frames: int = 40) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    poses = RNG.normal(0, 0.3, (frames, width))
    body = {"trans": np.zeros((frames, 3)), "betas": np.zeros(16), "gender": np.array("neutral")}
    np.savez(path, poses=poses, **body, **rate)
    return poses.astype(np.float32)


def clips_of(folder: Path, split: str) -> dict[str, MotionClip]:
    shards = sorted(folder.glob(f"{split}-*.tar"))
    return {clip.sequence: clip for shard in shards for clip in read_motion(shard)}


def test_amass_smplx_and_smplh(tmp_path: Path) -> None:
    root, out = tmp_path / "GRAB", tmp_path / "out"
    x = write_amass(root / "s1" / "cup_lift_stageii.npz", 165, {"mocap_frame_rate": 120.0})
    h = write_amass(root / "s2" / "bowl_pass_poses.npz", 156, {"mocap_framerate": 60.0})
    write_amass(root / "s1" / "neutral_stagei.npz", 165, {"mocap_frame_rate": 120.0})
    np.savez(root / "s1" / "shape.npz", betas=np.zeros(16))
    write_amass(root / "s1" / "broken_stageii.npz", 63, {"mocap_frame_rate": 120.0})
    assert main(["motion", "amass", "--root", str(root), "--out", str(out)]) == 0
    found = clips_of(out, "train")
    assert sorted(found) == ["s1/cup_lift_stageii", "s2/bowl_pass_poses"]
    for name, poses, left, right, fps in (
        ("s1/cup_lift_stageii", x, 75, 120, 120.0),
        ("s2/bowl_pass_poses", h, 66, 111, 60.0),
    ):
        clip = found[name]
        assert clip.fps == fps and clip.valid.all()
        np.testing.assert_array_equal(
            clip.hand_pose[:, Side.LEFT], poses[:, left : left + 45].reshape(-1, 15, 3)
        )
        np.testing.assert_array_equal(
            clip.hand_pose[:, Side.RIGHT], poses[:, right : right + 45].reshape(-1, 15, 3)
        )
    told = json.loads((out / "train.skipped.json").read_text())
    assert list(told) == ["s1/broken_stageii"] and "165" in told["s1/broken_stageii"]


def test_amass_with_objects_inside_is_not_executed(tmp_path: Path) -> None:
    root = tmp_path / "SAMP"
    root.mkdir()

    class Evil:
        def __reduce__(self) -> Any:
            return (Path(tmp_path / "harm").touch, ())

    objects = np.array([Evil()], dtype=object)
    np.savez(root / "a.npz", poses=objects, mocap_frame_rate=30.0)
    out = str(tmp_path / "out")
    assert main(["motion", "amass", "--root", str(root), "--subset", "SAMP", "--out", out]) == 1
    assert not (tmp_path / "harm").exists()


def test_an_unknown_subset_needs_its_split(tmp_path: Path, capsys: Any) -> None:
    write_amass(tmp_path / "X" / "a.npz", 165, {"mocap_frame_rate": 30})
    args = ["motion", "amass", "--root", str(tmp_path / "X"), "--subset", "X"]
    assert main([*args, "--out", str(tmp_path / "o")]) == 1
    assert "--split" in capsys.readouterr().err
    assert main([*args, "--split", "val", "--out", str(tmp_path / "o")]) == 0


def test_arctic_adds_the_mean(tmp_path: Path) -> None:
    root, out = tmp_path / "arctic", tmp_path / "out"
    truth = {}
    for sequence in ("s01/box_grab_01", "s05/ketchup_use_02"):
        labels = {
            side: {
                "rot": RNG.normal(0, 1, (20, 3)),
                "pose": RNG.normal(0, 0.3, (20, 45)),
                "trans": np.zeros((20, 3)),
                "shape": np.zeros(10),
            }
            for side in ("right", "left")
        }
        path = root / "raw_seqs" / f"{sequence}.mano.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, labels, allow_pickle=True)
        truth[sequence] = labels
    assert main(["motion", "arctic", "--root", str(root), "--out", str(out)]) == 0
    assert list(clips_of(out, "train")) == ["s01/box_grab_01"]
    clip = clips_of(out, "val")["s05/ketchup_use_02"]
    assert clip.fps == 30
    for side, name in ((Side.RIGHT, "right"), (Side.LEFT, "left")):
        wanted = truth[clip.sequence][name]["pose"] + load_assets()[side].hands_mean
        np.testing.assert_allclose(clip.hand_pose[:, side].reshape(20, 45), wanted, atol=1e-6)


def test_clips_are_strung_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    first = random_clip(rng, key="a", num_frames=4)
    second = random_clip(rng, key="b", num_frames=3)
    from dataclasses import replace

    step = int(np.diff(first.frame_ids).min())
    start = first.frame_ids[-1] + 3 * step
    second = replace(
        second,
        sequence=first.sequence,
        camera=first.camera,
        dataset=first.dataset,
        fps=first.fps,
        frame_ids=tuple(start + step * k for k in range(3)),
    )
    other_view = replace(first, key="c", camera="another")
    write_set(tmp_path / "clips", [[first, second, other_view]])
    args = ["motion", "clips", "--source", str(tmp_path / "clips"), "--out", str(tmp_path / "out")]
    assert main(args) == 0
    (clip,) = clips_of(tmp_path / "out", "train").values()
    number = (clip.hand_pose.shape[0] - 1) * step
    assert first.frame_ids[0] + number == second.frame_ids[-1] or step > 1
    where = {n: k for k, n in enumerate(range(first.frame_ids[0], second.frame_ids[-1] + 1, step))}
    for part in (first, second):
        for k, n in enumerate(part.frame_ids):
            np.testing.assert_array_equal(clip.valid[where[n]], part.hands_valid[k])
            made = matrix_from_axis_angle(torch.from_numpy(clip.hand_pose[where[n]]))
            known = part.hands_valid[k]
            np.testing.assert_allclose(made[known], part.hand_pose[k][known], atol=1e-5)
    gap = [where[n] for n in where if n not in (*first.frame_ids, *second.frame_ids)]
    assert not clip.valid[gap].any()


@pytest.mark.parametrize("name", ["amass", "arctic"])
def test_a_missing_download_is_told(name: str, tmp_path: Path, capsys: Any) -> None:
    args = ["motion", name, "--root", str(tmp_path / "no"), "--out", str(tmp_path / "out")]
    assert main(args) == 1
    assert "no" in capsys.readouterr().err
