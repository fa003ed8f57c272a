"""The camera's motion: what is shown to structure from motion, and what happens without it."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from fourdhands.refinement.camera_motion import CameraMotion
from fourdhands.skeleton import NUM_JOINTS, Side
from fourdhands.video.detect import Detection
from fourdhands.video.frames import Video
from fourdhands.video.search import Search
from fourdhands.video.solve_camera import (
    background,
    between,
    camera_of_file,
    scene_depth,
    solve_camera,
)
from fourdhands.video.solved_camera import SolvedCamera


def upright_hand() -> Detection:
    """Fingers up, wrist at (100, 120), palm 20 pixels."""
    joints = np.tile(np.float32((100, 90)), (NUM_JOINTS, 1))
    joints[0] = 100, 120
    joints[[5, 9, 13, 17]] = 100, 100
    return Detection(Side.RIGHT, np.float32((100, 100, 30, 50)), 0.9, joints, joints[:, 0])


def test_hands_and_their_forearms_are_masked() -> None:
    mask = background((300, 200), [upright_hand()])
    assert mask[100, 100] == 0  # the hand
    assert mask[180, 100] == 0  # the forearm is on the wrist's side
    assert mask[20, 100] == 255 and mask[270, 100] == 255
    assert mask[100, 20] == 255 and mask[180, 20] == 255


def test_two_solved_frames_are_joined_by_an_arc_and_a_line() -> None:
    world_from_cam = np.tile(np.eye(4), (2, 1, 1))
    world_from_cam[1, :3, :3] = Rotation.from_rotvec((0, 0, 1.0)).as_matrix()
    world_from_cam[1, :3, 3] = 4, 0, 2
    poses = between(np.array([2, 6]), np.linalg.inv(world_from_cam), np.arange(9))
    back = np.linalg.inv(poses)
    assert back[3, :3, 3] == pytest.approx([1, 0, 0.5])
    assert Rotation.from_matrix(back[3, :3, :3]).magnitude() == pytest.approx(0.25)
    assert back[0] == pytest.approx(world_from_cam[0]) and back[8] == pytest.approx(
        world_from_cam[1]
    )


def test_a_trembling_camera_is_found_again_from_every_second_frame() -> None:
    """Accelerations, which lines between frames would double (4 mm at 3 Hz)."""
    times = np.arange(61) / 30
    poses = np.tile(np.eye(4), (61, 1, 1))
    poses[:, 0, 3] = 0.2 * times + 0.004 * np.sin(2 * np.pi * 3 * times)
    turns = 0.01 * np.sin(2 * np.pi * 3 * times)
    poses[:, :3, :3] = Rotation.from_rotvec(np.outer(turns, (0, 1, 0))).as_matrix()
    known = np.arange(0, 61, 2)
    found = between(known, poses[known], np.arange(61))
    off = np.diff(found[:, :3, 3] - poses[:, :3, 3], 2, axis=0) * 30**2
    assert np.abs(off[4:-4]).max() < 0.1
    turned = Rotation.from_matrix(found[:, :3, :3] @ poses[:, :3, :3].swapaxes(1, 2)).magnitude()
    assert turned[4:-4].max() < 2e-4


def search(*still: bool) -> Search:
    shots = [(4 * k, 4 * k + 4) for k in range(len(still))]
    times = [k / 30 for k in range(4 * len(still))]
    return Search([[] for _ in times], shots, times, list(still))


def test_without_a_solver_the_camera_stands_still_and_a_note_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    video = Video(Path("clip.mp4"), (64, 48), 30.0, 30.0)
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    solved = solve_camera(video, search(True, False), None)
    assert solved.motion == (None, None) and "pip install" in solved.notes[0]
    # a background that stands still needs no solver
    solved = solve_camera(video, search(True, True), None)
    assert solved.motion == (None, None) and solved.notes == ()
    assert "stands still" in solved.source


def test_each_shot_takes_its_part_of_a_file(tmp_path: Path) -> None:
    rows = [f"1 0 0 {k} 0 1 0 0 0 0 1 0" for k in range(8)]
    (tmp_path / "poses.txt").write_text("\n".join(rows))
    video = Video(Path("clip.mp4"), (64, 48), 30.0, 30.0)
    solved = camera_of_file(tmp_path / "poses.txt")(video, search(False, False), None)
    second = solved.motion[1]
    assert second is not None and second.cam_from_world[:, 0, 3].tolist() == [-4, -5, -6, -7]


def test_a_solved_camera_survives_its_file() -> None:
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, 0, 3] = 1, 2, 3
    motion = CameraMotion(poses, metric=True, source="x", scene_depth=2.5)
    solved = SolvedCamera((None, motion), 500.0, "y", ("z",))
    again = SolvedCamera.from_arrays(solved.to_arrays())
    assert again.motion[0] is None and again.motion[1] is not None
    assert again.motion[1].metric and (again.motion[1].cam_from_world == poses).all()
    assert again.motion[1].scene_depth == 2.5
    assert (again.focal_length, again.source, again.notes) == (500.0, "y", ("z",))
    nothing = SolvedCamera((None,), None, "")
    assert SolvedCamera.from_arrays(nothing.to_arrays()) == nothing


def test_the_scenes_depth_is_that_of_what_images_see() -> None:
    """Two images of three have a place; the second one, a metre ahead, sees the nearer points."""
    points = {k: SimpleNamespace(xyz=np.array((0.1 * k, 0, 3.0 + k))) for k in range(5)}

    def image(forward: float | None, seen: list[int]) -> SimpleNamespace:
        pose = np.hstack((np.eye(3), [[0], [0], [-(forward or 0)]]))
        return SimpleNamespace(
            cam_from_world=None if forward is None else SimpleNamespace(matrix=lambda: pose),
            points2D=[SimpleNamespace(point3D_id=k, has_point3D=lambda: True) for k in seen]
            + [SimpleNamespace(point3D_id=-1, has_point3D=lambda: False)],
        )

    images = {0: image(0.0, [2, 3, 4]), 1: image(1.0, [0, 1, 2]), 2: image(None, [0, 4])}
    solved = SimpleNamespace(points3D=points, images=images)
    assert scene_depth(solved) == pytest.approx((6.0 + 3.0) / 2)
    assert scene_depth(SimpleNamespace(points3D={}, images={})) is None
