"""Joints regressed from meshes, InterWild's rules, our own figures, against slow programs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fourdhands.evaluation.benchmark import score
from fourdhands.evaluation.predictions_file import match
from fourdhands.evaluation.protocols import PROTOCOLS
from fourdhands.evaluation.samples import Pair
from fourdhands.hands.assets import load_assets
from fourdhands.hands.mano import joints_of_mesh
from tests.helpers.official import MANO
from tests.helpers.samples import random_pair, random_truth, without

Floats = NDArray[np.float64]
ASSETS = load_assets()
TIPS = (745, 317, 444, 556, 673)


def figures(name: str, pair: Pair, *, tips: tuple[int, ...] | None = None) -> dict[str, float]:
    protocol = replace(PROTOCOLS[name], images=None, other_images={})
    regressor = None if tips is None else joints_of_mesh(ASSETS, tips)
    return score(protocol, pair, any_count=False, joints_of_mesh=regressor)


def joints_of(mesh: Floats, side: int) -> Floats:
    """MANO's sixteen, then the tips; fingers from thumb to little finger."""
    joints = ASSETS[side].J_regressor.astype(np.float64) @ mesh
    chains = ((13, 14, 15), (1, 2, 3), (4, 5, 6), (10, 11, 12), (7, 8, 9))
    fingers = [[*joints[list(c)], mesh[t]] for c, t in zip(chains, TIPS, strict=True)]
    return np.stack([joints[0], *(joint for finger in fingers for joint in finger)])


def error(first: Floats, second: Floats) -> Floats:
    return np.linalg.norm(first - second, axis=-1)


def test_joints_of_meshes_are_manos() -> None:
    mesh = np.random.default_rng(0).normal(0, 0.05, (2, 778, 3))
    found = joints_of_mesh(ASSETS, TIPS) @ torch.from_numpy(mesh)
    smplx = joints_of_mesh(ASSETS, (744, 320, 443, 554, 671)) @ torch.from_numpy(mesh)
    for side in MANO.assets:
        k = side.side
        np.testing.assert_allclose(found[k], joints_of(mesh[k], k), atol=1e-12)
        np.testing.assert_allclose(smplx[k], MANO.joints_of_mesh(k, mesh[k]), atol=1e-9)


def test_intaghand_looks_at_meshes_alone() -> None:
    pair = without(random_pair(0), seed=1)
    joints, meshes = [], []
    for n in range(len(pair)):
        for s in range(2):
            if not pair.true.vertices_valid[n, s]:
                continue
            v, w = (part.vertices[n, s].numpy() for part in (pair.predicted, pair.true))
            p, t = joints_of(v, s), joints_of(w, s)
            scale = error(t[9], t[0]) / error(p[9], p[0])
            joints += list(error((p - p[9]) * scale, t - t[9]))
            meshes += list(error((v - p[9]) * scale, w - t[9]))
    found = figures("interhand26m_intaghand", pair, tips=TIPS)
    assert found["mpjpe_mm"] == pytest.approx(1000 * np.mean(joints), rel=1e-9)
    assert found["mpvpe_mm"] == pytest.approx(1000 * np.mean(meshes), rel=1e-9)
    given = figures("interhand26m_intaghand", pair)
    assert given["mpjpe_mm"] != pytest.approx(found["mpjpe_mm"], rel=1e-3)


def interwild(seed: int) -> Pair:
    """Some images show one hand, some both; one that is shown may lack its mesh, or its labels."""
    pair = without(random_pair(seed, 30), seed=seed)
    kinds = torch.arange(30) % 3  # right, left, both
    shown = torch.stack((kinds != 1, kinds != 0), 1)
    true = replace(
        pair.true,
        joints_valid=pair.true.joints_valid & shown[..., None],
        vertices_valid=pair.true.vertices_valid & shown,
        handedness=shown.double(),
    )
    absent = ~true.vertices_valid[..., None, None]
    true = replace(true, vertices=true.vertices.masked_fill(absent, 0.0))
    return Pair(pair.predicted, true)


def test_interwilds_meshes_stand_on_their_own_wrists() -> None:
    pair = interwild(2)
    own: dict[bool, list[float]] = {False: [], True: []}
    offset, both, joints = [], [], []
    for n in range(len(pair)):
        interacting = n % 3 == 2
        hands, wrists = [], []
        there = pair.true.vertices_valid[n].tolist()
        for s in range(2):
            v, w = (part.vertices[n, s].numpy() for part in (pair.predicted, pair.true))
            wrists.append((joints_of(v, s)[0], joints_of(w, s)[0] if there[s] else np.zeros(3)))
            if there[s]:
                hands.append(np.mean(error(v - wrists[s][0], w - wrists[s][1])))
        if hands:
            own[interacting].append(float(np.mean(hands)))
        if interacting:
            (p0, t0), (p1, t1) = wrists
            joints.append(float(error(p1 - p0, t1 - t0)))
            if all(there):
                offset.append(joints[-1])
                v, w = (part.vertices[n].numpy() for part in (pair.predicted, pair.true))
                both.append(float(np.mean(error(v - p0, w - t0))))
    assert len(offset) < len(joints)
    hic, reinterhand = (figures(name, pair, tips=TIPS) for name in ("hic", "reinterhand"))
    for found in (hic, reinterhand):
        everything = own[False] + own[True]
        assert found["mpvpe_mm"] == pytest.approx(1000 * np.mean(everything), rel=1e-9)
        assert found["mpvpe_single_mm"] == pytest.approx(1000 * np.mean(own[False]), rel=1e-9)
        assert found["mpvpe_interacting_mm"] == pytest.approx(1000 * np.mean(own[True]), rel=1e-9)
        assert found["rrve_mm"] == pytest.approx(1000 * np.mean(both), rel=1e-9)
    assert reinterhand["mrrpe_mm"] == pytest.approx(1000 * np.mean(offset), rel=1e-9)
    # on HIC a hand without a mesh has its wrist at the origin
    assert hic["mrrpe_mm"] == pytest.approx(1000 * np.mean(joints), rel=1e-9)
    assert hic["mrrpe_mm"] > 3 * reinterhand["mrrpe_mm"]


def test_our_own_figures_of_a_hand_moved_by_hand() -> None:
    true = random_truth(np.random.default_rng(3), 9)
    true = replace(true, sequence=torch.zeros(9, dtype=torch.int64))
    shift = torch.zeros(9, 2, 1, 3, dtype=torch.float64)
    shift[:, 1, 0, 1] = 0.02  # the left hand is 20 mm too low
    bend = torch.zeros(9, 2, 21, 3, dtype=torch.float64)
    bend[4, 0, 8, 2] = 0.03  # one fingertip jumps in one frame
    predicted = replace(
        true,
        joints=true.joints + shift + bend,
        vertices=true.vertices + shift,
        joints_2d=true.joints_2d + torch.tensor((3.0, 4.0)),
        handedness=torch.ones(9, 2).index_put((torch.tensor([0]),), torch.tensor(0.0)),
    )
    found = figures("scenes", Pair(predicted, true))
    assert found["mpjpe_mm"] == pytest.approx(30 / (9 * 2 * 21))
    assert found["mpvpe_mm"] == pytest.approx(0, abs=1e-9) == found["pa_mpvpe_mm"]
    assert 0 < found["pa_mpjpe_mm"] < 1
    assert found["mrrpe_mm"] == pytest.approx(20)
    assert found["epe_2d_px"] == pytest.approx(5)
    per_frame = (30 + 60 + 30) / (7 * 2 * 21)
    assert found["acceleration_error_mm_per_frame2"] == pytest.approx(per_frame)
    assert found["acceleration_error_m_per_s2"] == pytest.approx(per_frame * 0.9)
    assert found["handedness"] == pytest.approx(8 / 9)
    relative = [part.joints - part.joints[:, :, :1] for part in (predicted, true)]
    errors = (relative[0] - relative[1]).norm(dim=-1)
    within = torch.stack([(errors <= t).double().mean() for t in np.linspace(0, 0.05, 100)])
    assert found["pck_auc"] == pytest.approx(float(torch.trapezoid(within)) / 99)


def test_a_mirrored_hand_is_wrong_by_proper_rotations() -> None:
    true = random_truth(np.random.default_rng(4), 4)
    mirror = torch.tensor((-1.0, 1.0, 1.0)).double()
    mirrored = replace(true, joints=true.joints * mirror, vertices=true.vertices * mirror)
    for name in ("scenes", "reinterhand", "hic", "interhand26m_intaghand"):
        found = figures(name, Pair(mirrored, true))
        assert found["pa_mpjpe_mm"] > 10 and found["pa_mpvpe_mm"] > 10


def test_joints_of_the_image_that_nobody_predicted_are_named() -> None:
    pair = random_pair(5)
    blind = replace(pair.predicted, joints_2d_valid=torch.zeros(13, 2, 21, dtype=torch.bool))
    assert np.isnan(figures("scenes", Pair(blind, pair.true))["epe_2d_px"])
    blind.joints_2d_valid[3, 1] = True
    with pytest.raises(ValueError, match="joints_2d are labelled that have no prediction, as of"):
        match(blind, pair.true, "file")
    assert match(blind, pair.true, "file", may_miss=True)


def test_any_of_the_known_numbers_of_images_will_do() -> None:
    pair = random_pair(6)
    known = replace(PROTOCOLS["interhand26m"], other_images={"these": 13, "those": 99})
    assert score(known, pair, any_count=False)
    fewer = Pair(*(part.take(torch.arange(12)) for part in (pair.predicted, pair.true)))
    with pytest.raises(ValueError, match=r"has 13 \(these\) or 99 \(those\) images, here are 12"):
        score(known, fewer, any_count=False)
