from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fourdhands.cli.main import main
from fourdhands.hands.anatomy import JointAxes, named_poses, rotations_from_angles
from fourdhands.hands.assets import load_assets
from fourdhands.hands.mano import HandModel
from fourdhands.hands.open_hand.build import mirrored
from fourdhands.hands.open_hand.correctives import enclosed_volume
from fourdhands.hands.open_hand.field import PALM, Flesh, distance, normals, project
from fourdhands.hands.open_hand.measurements import (
    WRIST_IN_MANO,
    HandMeasurements,
    skeleton_of,
)
from fourdhands.hands.open_hand.remesh import boundary_loop, polish_mesh, reduce_mesh
from fourdhands.hands.open_hand.shapes import SHAPE_FACTORS, joint_directions
from fourdhands.skeleton import FINGERS, FINGERTIP_VERTICES, MANO_FINGERS
from fourdhands.structures import HandState


def one_ball(radius: float) -> Flesh:
    """A ball in each group, all the same, so that blending only rescales it."""
    return Flesh(
        ends=np.zeros((6, 2, 3)),
        radii=np.full((6, 2), radius),
        up=np.tile((0.0, 1.0, 0.0), (6, 1)),
        flatness=np.ones(6),
        group=np.arange(PALM + 1),
    )


def test_distance_and_projection_of_a_ball() -> None:
    points = np.random.default_rng(0).normal((12, 0, 0), 1, size=(50, 3))
    far = np.linalg.norm(points, axis=1)
    swollen = 2.2 * np.log(6)  # six equal surfaces blend to one that lies further out
    np.testing.assert_allclose(distance(points, one_ball(10)), far - 10 - swollen, atol=1e-4)
    np.testing.assert_allclose(normals(points, one_ball(10)), points / far[:, None], atol=2e-3)
    on_surface = project(points, one_ball(10), steps=6)
    np.testing.assert_allclose(np.linalg.norm(on_surface, axis=1), 10 + swollen, atol=1e-3)


def test_remeshing_hits_the_counts() -> None:
    side = 21
    x, y = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side), indexing="ij")
    vertices = np.stack([x, y, 0 * x], axis=-1).reshape(-1, 3)
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).reshape(-1, 1)
    two = np.array([[0, side, 1], [1, side, side + 1]])
    faces = np.concatenate([corner + face for face in two])

    def surface(points: np.ndarray) -> np.ndarray:
        return points * (1, 1, 0)

    def length(points: np.ndarray) -> np.ndarray:
        return np.ones(len(points))

    vertices, faces = reduce_mesh(vertices, faces, length, surface, 60, num_boundary=14)
    rim = boundary_loop(faces)
    assert (len(vertices), len(faces), len(rim)) == (60, 2 * 60 - 14 - 2, 14)
    before = vertices[rim].copy()
    vertices, faces = polish_mesh(vertices, faces, length, surface, fixed=rim)
    assert len(faces) == 104
    np.testing.assert_array_equal(vertices[rim], before)
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    assert (np.cross(b - a, c - a)[:, 2] > 0).all()  # nothing folded over


def test_bones_have_the_published_lengths() -> None:
    model = HandModel.open()
    hand = model.assets[0]
    np.testing.assert_allclose(
        hand.joints * 1e3, skeleton_of(HandMeasurements()).joints + WRIST_IN_MANO, atol=0.1
    )
    for finger, lengths in HandMeasurements().phalanges.items():
        tip = hand.v_template[FINGERTIP_VERTICES[FINGERS.index(finger)]]
        first = 3 * MANO_FINGERS.index(finger) + 1
        line = np.vstack([hand.joints[first : first + 3], tip]) * 1e3
        np.testing.assert_allclose(np.linalg.norm(np.diff(line, axis=0), axis=1), lengths, atol=0.5)


def test_shape_directions_are_the_named_factors() -> None:
    hand = load_assets()[0]
    moves = np.einsum("jv,vck->kjc", hand.J_regressor, hand.shapedirs) * 1e3
    np.testing.assert_allclose(moves, joint_directions(HandMeasurements()), atol=0.25)
    size = [factor.name for factor in SHAPE_FACTORS].index("size")
    scaled = 0.055 * (hand.v_template - WRIST_IN_MANO / 1e3)
    np.testing.assert_allclose(hand.shapedirs[..., size], scaled, atol=1e-6)
    directions = hand.shapedirs.reshape(-1, len(SHAPE_FACTORS))
    assert np.linalg.cond(directions / np.linalg.norm(directions, axis=0)) < 5


def test_poses_keep_the_volume() -> None:
    model = HandModel.open()
    axes = JointAxes.from_assets(model.assets[0])
    angles = np.stack([np.zeros((15, 3)), *named_poses().values()])
    pose = torch.from_numpy(rotations_from_angles(angles, axes)).float()[:, None]
    nothing = torch.zeros(len(angles), 2, 10)
    identity = torch.eye(3).expand(len(angles), 2, 3, 3)
    state = HandState(identity, pose.expand(-1, 2, -1, -1, -1), nothing, nothing[..., :3])
    vertices = model(state).vertices[:, 0].double().numpy()
    faces = model.closed_faces[0].numpy()
    volumes = np.array([enclosed_volume(v, faces) for v in vertices])
    np.testing.assert_allclose(volumes, volumes[0], rtol=0.03)


def test_mirroring_twice_is_nothing() -> None:
    right, left = load_assets()
    for hand, other in ((right, left), (left, right)):
        for name, array in vars(mirrored(hand)).items():
            np.testing.assert_array_equal(array, getattr(other, name), name)


def test_sheet_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sheets" / "hands.png"
    assert main(["hands", "show", "--out", str(out)]) == 0
    sheet = cv2.imread(str(out))
    assert sheet is not None and min(sheet.shape[:2]) > 1000 and sheet.std() > 10
    assert [path.name for path in out.parent.iterdir()] == ["hands.png"]
    assert main(["hands", "show", "--out", str(tmp_path / "hands.jpeg")]) == 1
    assert main(["hands", "show", "--mano", str(tmp_path / "mano")]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert ".png" in errors[0] and "does not exist" in errors[1] and len(errors) == 2


def test_figures_need_their_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "hand.md"
    page.write_text("# The hand\n")
    assert main(["hands", "report", "--into", str(page)]) == 1
    assert "hand.md" in capsys.readouterr().err
    assert page.read_text() == "# The hand\n"
