"""Arms: hand and forearm in one mesh, its skin, and its sleeve."""

import numpy as np
import pytest
import trimesh
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from fourdhands.hands.assets import ManoAssets, load_assets
from fourdhands.rendering.forearm import MAX_BEND, ArmMesh, Centreline, wrist_axis
from fourdhands.rendering.skin import Complexion, SkinModel
from fourdhands.rendering.sleeve import Sleeve
from fourdhands.skeleton import FINGERTIP_VERTICES, WRIST_RING, Side

MIRROR = np.array([-1.0, 1.0, 1.0])


@pytest.fixture(scope="module", params=list(Side), ids=["right", "left"])
def assets(request: pytest.FixtureRequest) -> ManoAssets:
    return load_assets()[request.param]


def bent(assets: ManoAssets, angle: float) -> np.ndarray:
    """An elbow direction that bends the wrist by an angle in radians towards the palm."""
    axis = wrist_axis(assets.v_template, np.array(WRIST_RING))
    return np.cos(angle) * axis + np.sin(angle) * np.array([0.0, -1.0, 0.0])


@pytest.mark.parametrize("angle", [0.0, 0.6, -1.2])
def test_hand_and_forearm_are_one_closed_surface(assets: ManoAssets, angle: float) -> None:
    arm = ArmMesh(assets)
    assert set(arm.ring) == set(WRIST_RING)
    faces = np.concatenate([arm.hand_faces, arm.forearm_faces])
    mesh = trimesh.Trimesh(arm.pose(assets.v_template, bent(assets, angle)), faces, process=False)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert 0.0007 < mesh.volume < 0.0018  # a hand of 0.35 l and a forearm of about 0.8 l


def test_an_arm_moves_with_its_hand(assets: ManoAssets) -> None:
    arm = ArmMesh(assets)
    turn = Rotation.from_rotvec([0.3, -1.1, 0.5]).as_matrix()
    shift = np.array([0.1, 0.2, 0.7])
    elbow = bent(assets, 0.5)
    here = arm.pose(assets.v_template, elbow)
    there = arm.pose(assets.v_template @ turn.T + shift, turn @ elbow)
    np.testing.assert_allclose(there, here @ turn.T + shift, atol=2e-6)


def test_left_arms_mirror_right_arms() -> None:
    right, left = load_assets()
    elbow = bent(right, 0.7)
    mirrored = ArmMesh(right).pose(right.v_template, elbow) * MIRROR
    drawn = ArmMesh(left).pose(left.v_template, elbow * MIRROR)
    np.testing.assert_allclose(KDTree(mirrored).query(drawn)[0], 0.0, atol=1e-6)


def test_the_forearm_points_to_the_elbow_but_never_folds(assets: ManoAssets) -> None:
    ring = np.array(WRIST_RING)
    for angle in (0.0, 0.4, 1.0):
        elbow = bent(assets, angle)
        line = Centreline.of(assets.v_template, ring, elbow)
        np.testing.assert_allclose(line.elbow_direction, elbow, atol=1e-6)
        centres, _ = line.sections([0.1, 0.2])
        np.testing.assert_allclose((centres[1] - centres[0]) / 0.1, elbow, atol=1e-6)
    folded = Centreline.of(assets.v_template, ring, bent(assets, 2.5))
    assert np.arccos(folded.elbow_direction @ folded.axis) == pytest.approx(MAX_BEND)
    centres, skin = folded.sections([0.0])
    np.testing.assert_allclose(centres + skin[0], assets.v_template[ring], atol=1e-6)


def test_nails_lie_on_the_back_of_every_fingertip(assets: ManoAssets) -> None:
    model = SkinModel(assets, levels=2)
    points, nail = model.arm.rest, model.masks.nail > 0.5
    tips = assets.v_template[list(FINGERTIP_VERTICES)]
    nearest = np.linalg.norm(points[nail, None] - tips, axis=-1)
    assert (np.bincount(nearest.argmin(axis=1), minlength=5) > 8).all()
    assert nearest.min(axis=1).max() < 0.022
    assert not (model.masks.palm[nail] > 0.5).any()
    # of the four fingers they look up, out of the back of the hand
    fingers = points[nail][nearest.argmin(axis=1) > 0]
    near = nearest.argmin(axis=1)[nearest.argmin(axis=1) > 0]
    assert (fingers[:, 1] > tips[near, 1]).mean() > 0.9


def test_one_person_has_one_skin_on_both_hands() -> None:
    right, left = (SkinModel(assets) for assets in load_assets())
    person = Complexion.sample(np.random.default_rng(2))
    rng = np.random.default_rng(0)
    a, b = right.sample(rng, person), left.sample(rng, person)
    assert a.material == b.material
    # the mottling differs as it does between hands, the colour does not
    np.testing.assert_allclose(a.albedo.mean(axis=0), b.albedo.mean(axis=0), rtol=0.05)
    again = right.sample(np.random.default_rng(7), person)
    np.testing.assert_array_equal(a.albedo, again.albedo)


def test_complexions_span_light_to_dark() -> None:
    rng = np.random.default_rng(0)
    people = [Complexion.sample(rng) for _ in range(200)]
    brightness = np.array([person.albedo.mean() for person in people])
    assert brightness.max() > 0.5
    assert brightness.min() < 0.09
    for person in people:  # skin reflects red most and blue least
        assert person.albedo[0] > person.albedo[1] > 0.9 * person.albedo[2]


@pytest.mark.parametrize("seed", range(4))
def test_a_sleeve_encloses_the_arm_behind_its_cuff(assets: ManoAssets, seed: int) -> None:
    sleeve = Sleeve.sample(np.random.default_rng(seed))
    ring, elbow = np.array(WRIST_RING), bent(assets, 0.5)
    cloth = sleeve.surface(assets.v_template, ArmMesh(assets).ring, elbow)
    shell = trimesh.Trimesh(cloth.vertices, cloth.faces, process=False)
    assert shell.is_winding_consistent
    assert len(shell.edges[trimesh.grouping.group_rows(shell.edges_sorted, 1)]) == 32  # the lining
    line = Centreline.of(assets.v_template, ring, elbow)
    stations = np.linspace(max(sleeve.cuff, 0.0) + 0.03, 0.24, 9)
    centres, skin = line.sections(stations)
    outer = line.sections(stations)[1] * 2.0 + centres[:, None]
    inner = centres[:, None] + skin * 0.999
    # from the skin outwards every ray crosses the cloth once, coming from inside
    for start, end in zip(inner.reshape(-1, 3), outer.reshape(-1, 3), strict=True):
        assert _signed_crossings(shell, start, end) == 1


def _signed_crossings(mesh: trimesh.Trimesh, start: np.ndarray, end: np.ndarray) -> int:
    a, b, c = mesh.triangles.transpose(1, 0, 2)
    u, v, w, d = b - a, c - a, start - a, end - start
    cross = np.cross(d, v)
    det = (u * cross).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = (w * cross).sum(-1) / det
        q = np.cross(w, u) @ d / det
        t = (v * np.cross(w, u)).sum(-1) / det
    hit = (p >= 0) & (q >= 0) & (p + q <= 1) & (t >= 0) & (t <= 1)
    return int(np.sign(-det[hit]).sum())
