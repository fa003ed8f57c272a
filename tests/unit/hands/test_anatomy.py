import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fourdhands.hands.anatomy import (
    POSE_LIMITS,
    JointAxes,
    angles_from_rotations,
    axis_angle_from_angles,
    named_poses,
    pierced_faces,
    pose_bank,
    relax_angles,
    rotations_from_angles,
    sample_hand_angles,
    sample_hand_poses,
    self_intersections,
)
from fourdhands.hands.gestures import GESTURES, PINCHES
from fourdhands.hands.mano import HandModel
from fourdhands.skeleton import FINGERS, MANO_FINGERS, Side
from fourdhands.structures import HandState


@pytest.fixture(scope="module")
def model() -> HandModel:
    return HandModel.open()


@pytest.fixture(scope="module")
def axes(model: HandModel) -> list[JointAxes]:
    return [JointAxes.from_assets(side) for side in model.assets]


def posed(
    model: HandModel, axes: list[JointAxes], angles: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Joints and vertices of both hands at rest wrists: (N, S, ...)."""
    pose = np.stack([rotations_from_angles(angles, side) for side in axes], axis=1)
    identity = torch.eye(3).expand(len(angles), 2, 3, 3)
    nothing = torch.zeros(len(angles), 2, 10)
    state = HandState(identity, torch.from_numpy(pose).float(), nothing, nothing[..., :3])
    with torch.no_grad():
        geometry = model(state)
    return geometry.joints.numpy(), geometry.vertices.numpy()


def only(finger: str, joint: int, axis: int, degrees: float) -> np.ndarray:
    angles = np.zeros((1, 15, 3))
    angles[0, 3 * MANO_FINGERS.index(finger) + joint, axis] = np.radians(degrees)
    return angles


def test_axes_are_orthonormal(axes: list[JointAxes]) -> None:
    for side in axes:
        basis = np.stack([side.flexion, side.abduction, side.twist], axis=-1)
        np.testing.assert_allclose(
            basis.swapaxes(-1, -2) @ basis, np.tile(np.eye(3), (15, 1, 1)), atol=1e-12
        )


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_angles_survive_rotations(seed: int) -> None:
    axes = JointAxes.from_assets(HandModel.open().assets[seed % 2])
    least, greatest = POSE_LIMITS[..., 0], POSE_LIMITS[..., 1]
    angles = np.random.default_rng(seed).uniform(least, greatest, (2, 15, 3))
    np.testing.assert_allclose(
        angles_from_rotations(rotations_from_angles(angles, axes), axes), angles
    )


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("finger", FINGERS)
def test_directions_of_motion(
    model: HandModel, axes: list[JointAxes], side: Side, finger: str
) -> None:
    tip = 4 * FINGERS.index(finger) + 4
    rest = posed(model, axes, np.zeros((1, 15, 3)))[0][0, side]
    away = np.array((0.0, 0.0, 1.0 if finger in ("thumb", "index", "middle") else -1.0))

    def moved(joint: int, axis: int, degrees: float) -> np.ndarray:
        joints = posed(model, axes, only(finger, joint, axis, degrees))[0]
        return joints[0, side, tip] - rest[tip]

    if finger == "thumb":
        assert moved(0, 1, 15)[1] < -0.005  # palmar abduction leaves the palm's plane
        little = rest[17] - rest[tip]
        assert moved(2, 0, 40) @ little > 0  # flexion crosses the palm
    else:
        for joint in range(3):
            assert moved(joint, 0, 40)[1] < -0.004  # the palm looks along -y
        assert moved(0, 1, 10) @ away > 0.005


def test_sampled_poses_are_within_the_limits_and_span_them(axes: list[JointAxes]) -> None:
    rng = np.random.default_rng(0)
    angles = sample_hand_angles(rng, 500)
    assert angles.shape == (500, 15, 3)
    slack = np.radians(0.25) + 1e-9  # half a step of the bank
    assert (angles >= POSE_LIMITS[..., 0] - slack).all()
    assert (angles <= POSE_LIMITS[..., 1] + slack).all()
    hinges = pose_bank()[:, [j for j in range(15) if j % 3 and j < 12], 0]
    assert (np.percentile(hinges, 97, axis=0) > np.radians(55)).all()
    assert (np.percentile(hinges, 10, axis=0) < np.radians(6)).all()
    poses = sample_hand_poses(np.random.default_rng(0), 500, axes[0])
    np.testing.assert_allclose(poses, axis_angle_from_angles(angles, axes[0]))


def test_bank_poses_do_not_pierce(model: HandModel, axes: list[JointAxes]) -> None:
    angles = np.concatenate(
        [list(named_poses().values()), sample_hand_angles(np.random.default_rng(1), 60)]
    )
    vertices = posed(model, axes, angles)[1]
    for side, hand in enumerate(model.assets):
        assert not any(self_intersections(v, hand.faces) for v in vertices[:, side])


def test_named_poses_are_recognisable() -> None:
    poses = named_poses()
    assert list(poses) == [*GESTURES, *PINCHES]
    for name, angles in GESTURES.items():
        change = np.degrees(np.abs(poses[name] - angles).max())
        assert change < 10, f"{name} was relaxed by {change:.0f} degrees"


@pytest.mark.parametrize("finger", ["index", "middle", "ring"])
def test_pinches_bring_pulps_together(model: HandModel, axes: list[JointAxes], finger: str) -> None:
    joints, vertices = posed(model, axes, named_poses()[f"pinch {finger}"][None])
    thumb, other = (
        vertices[0, 0][model.assets[0].weights[:, 3 * MANO_FINGERS.index(f) + 3] > 0.7]
        for f in ("thumb", finger)
    )
    gap = np.linalg.norm(thumb[:, None] - other[None], axis=-1).min()
    assert gap < 0.008
    assert np.linalg.norm(joints[0, 0, 4] - joints[0, 0, 4 * FINGERS.index(finger) + 4]) < 0.035


def test_piercing_agrees_with_every_edge_against_every_face(
    model: HandModel, axes: list[JointAxes]
) -> None:
    faces = model.assets[0].faces
    angles = np.concatenate([GESTURES["fist"][None] * 1.3, GESTURES["spread"][None]])
    for vertices in posed(model, axes, angles)[1][:, 0].astype(np.float64):
        np.testing.assert_array_equal(pierced_faces(vertices, faces), brute_force(vertices, faces))
    assert pierced_faces(posed(model, axes, angles)[1][0, 0], faces).any()


def brute_force(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Slow, readable twin of `pierced_faces`: every edge against every face."""
    edges = np.unique(
        np.sort(np.concatenate([faces[:, [k, (k + 1) % 3]] for k in range(3)])), axis=0
    )
    origin, first, second = (vertices[faces[:, k]] for k in range(3))
    pierced = np.zeros(len(faces), bool)
    for a, b in edges:
        direction = np.broadcast_to(vertices[a] - vertices[b], origin.shape)
        system = np.stack([first - origin, second - origin, direction], axis=-1)
        crossing = (np.abs(np.linalg.det(system)) > 1e-18) & ~np.isin(faces, (a, b)).any(1)
        offset = (vertices[a] - origin[crossing])[..., None]
        u, v, along = np.linalg.solve(system[crossing], offset)[..., 0].T
        hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (along > 1e-3) & (along < 1 - 1e-3)
        pierced[np.flatnonzero(crossing)[hit]] = True
    return pierced


def test_two_triangles() -> None:
    floor = [(0, 0, 0), (0.1, 0, 0), (0, 0.1, 0)]
    through = [(0.02, 0.02, -0.05), (0.02, 0.02, 0.05), (0.3, 0.02, 0.05)]
    above = [(x, y, z + 0.06) for x, y, z in through]
    faces = np.arange(6).reshape(2, 3)
    assert pierced_faces(np.array(floor + through), faces).tolist() == [True, True]
    assert self_intersections(np.array(floor + above), faces) == 0


def test_relaxing_stops_at_the_border() -> None:
    clean, wanted = np.zeros((15, 3)), np.ones((15, 3))
    found = relax_angles(wanted, clean, lambda angles: bool(angles.max() <= 0.3), steps=8)
    assert 0.3 - 2**-8 <= found.max() <= 0.3
    assert relax_angles(wanted, clean, lambda angles: True) is wanted
