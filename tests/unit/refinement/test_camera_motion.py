"""Files of camera motion: every format says the same camera."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from fourdhands.refinement.camera_motion import (
    CameraMotion,
    read_camera,
    world_from_cam_to_cam_from_world,
)
from fourdhands.refinement.refine import refine
from fourdhands.refinement.stages import RefinementConfig
from tests.helpers.refinement import clip, hand_model

T = 12
FPS = 30.0


def _poses() -> np.ndarray:
    rng = np.random.default_rng(0)
    poses = np.tile(np.eye(4), (T, 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(np.cumsum(rng.normal(0, 0.1, (T, 3)), 0)).as_matrix()
    poses[:, :3, 3] = np.cumsum(rng.normal(0, 0.1, (T, 3)), 0)
    return poses


def _write(kind: str, folder: Path, poses: np.ndarray) -> Path:
    """The camera in the format's own convention."""
    inverse = world_from_cam_to_cam_from_world(poses)
    quaternions = Rotation.from_matrix(inverse[:, :3, :3]).as_quat()
    seven = np.concatenate((inverse[:, :3, 3], quaternions), 1)
    if kind == "tum":
        path = folder / "traj.txt"
        rows = np.concatenate((100 + np.arange(T)[:, None] / FPS, seven), 1)
        path.write_text("# timestamp tx ty tz qx qy qz qw\n")
        with path.open("ab") as file:
            np.savetxt(file, rows)
    elif kind == "kitti":
        path = folder / "poses.txt"
        np.savetxt(path, inverse[:, :3].reshape(T, 12))
    elif kind == "colmap":
        path = folder / "sparse"
        path.mkdir()
        lines = ["# Image list"]
        world = Rotation.from_matrix(poses[:, :3, :3]).as_quat()
        for k in np.random.default_rng(1).permutation(T):  # in no order, as COLMAP writes them
            x, y, z, w = world[k]
            numbers = " ".join(map(str, (w, x, y, z, *poses[k, :3, 3])))
            lines += [f"{k + 1} {numbers} 1 frame_{k:05d}.png", "1.0 2.0 -1"]
        (path / "images.txt").write_text("\n".join(lines))
        (path / "cameras.txt").write_text("1 PINHOLE 640 480 500 510 320 240\n")
    elif kind == "droid":
        path = folder / "droid.npz"
        np.savez(path, traj=seven, intrinsics=np.array((500, 510, 319.5, 239.5)))
    elif kind == "dpvo":
        path = folder / "dpvo.npz"
        np.savez(path, poses=seven, tstamps=np.arange(T, dtype=float))
    else:
        path = folder / "plain.npz"
        np.savez(path, w2c=poses[:, :3])
    return path


@pytest.mark.parametrize("kind", ["tum", "kitti", "colmap", "droid", "dpvo", "plain"])
def test_every_format_says_the_same_camera(kind: str, tmp_path: Path) -> None:
    poses = _poses()
    found = read_camera(_write(kind, tmp_path, poses), T, fps=FPS)
    np.testing.assert_allclose(found.cam_from_world, poses, atol=1e-6)
    if kind in ("colmap", "droid"):
        assert found.intrinsics is not None
        np.testing.assert_allclose(found.intrinsics[:2, 2], (319.5, 239.5))


def test_poses_between_keyframes_are_on_the_arc(tmp_path: Path) -> None:
    angles = np.linspace(0, 1.2, 5)
    half = np.stack((0 * angles, 0 * angles, np.sin(angles / 2), np.cos(angles / 2)), 1)
    places = np.stack((angles, 0 * angles, 0 * angles), 1)
    path = tmp_path / "keys.npz"
    np.savez(path, poses=np.concatenate((places, half), 1), tstamps=np.arange(5) * 3.0)
    found = world_from_cam_to_cam_from_world(read_camera(path, 13).cam_from_world)
    np.testing.assert_allclose(found[:, 0, 3], np.linspace(0, 1.2, 13), atol=1e-9)
    turned = Rotation.from_matrix(found[:, :3, :3]).as_rotvec()[:, 2]
    np.testing.assert_allclose(turned, np.linspace(0, 1.2, 13), atol=1e-9)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    poses = _poses()
    with pytest.raises(ValueError, match=r"12 poses, the clip 20 frames"):
        read_camera(_write("kitti", tmp_path, poses), 20)
    mirrored = poses.copy()
    mirrored[:, :3, :3] *= np.array((1, 1, -1))
    path = tmp_path / "mirrored.npz"
    np.savez(path, w2c=mirrored)
    with pytest.raises(ValueError, match="left-handed"):
        read_camera(path, T)
    np.savez(path, poses=poses)
    with pytest.raises(ValueError, match="cam_from_world or world_from_cam"):
        read_camera(path, T)
    np.savez(path, w2c=2 * poses)
    with pytest.raises(ValueError, match="no rotation"):
        read_camera(path, T)
    (tmp_path / "words.txt").write_text("1 2 3 4 5\n")
    with pytest.raises(ValueError, match="5 numbers"):
        read_camera(tmp_path / "words.txt", T)
    with pytest.raises(FileNotFoundError):
        read_camera(tmp_path / "nowhere.txt", T)


@pytest.mark.parametrize(
    ("mistake", "words"),
    [("inverse", "invert the poses"), ("opengl", "OpenGL"), ("mirror", "left-handed")],
)
def test_a_trajectory_that_was_read_the_wrong_way_is_named(mistake: str, words: str) -> None:
    one = clip(0, 64, "jerky")
    poses = one.camera.cam_from_world
    if mistake == "inverse":
        wrong = world_from_cam_to_cam_from_world(poses)
    elif mistake == "mirror":  # proper rotations, of a world with one axis turned round
        flip = np.diag((1.0, 1.0, -1.0, 1.0))
        wrong = flip @ poses @ flip
    else:
        wrong = np.diag((1.0, -1.0, -1.0, 1.0)) @ poses
    with pytest.raises(ValueError, match=words):
        refine(
            one.observed,
            CameraMotion(wrong),
            config=RefinementConfig(confidence=0.5),
            assets=hand_model().assets,
        )
