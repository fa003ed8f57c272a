"""Benchmarks' figures against slow programs written after the official ones, and their laws."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.linalg import orthogonal_procrustes

from fourdhands.evaluation.benchmark import ProtocolMetrics, score
from fourdhands.evaluation.protocols import PROTOCOLS, Protocol
from fourdhands.evaluation.samples import HandSamples, Pair
from fourdhands.geometry.alignment import procrustes_align
from tests.helpers.clips import random_rotations
from tests.helpers.samples import random_pair, random_truth, without

Floats = NDArray[np.float64]


def figures(name: str, pair: Pair, chunk: int = 5) -> dict[str, float]:
    metrics = ProtocolMetrics(PROTOCOLS[name])
    for piece, repeated in pair.chunks(chunk, 2):
        metrics.update(piece, repeated)
    for sequences in pair.trajectories(chunk):
        metrics.update_trajectories(sequences)
    return metrics.compute()


# ---- slow programs -------------------------------------------------------------------------------


def procrustes(true: Floats, predicted: Floats) -> Floats:
    """Centred, divided by the norm, turned or mirrored, scaled by the sum of singular values."""
    centre, other = true.mean(0), predicted.mean(0)
    a, b = true - centre, predicted - other
    size_a, size_b = np.linalg.norm(a) + 1e-8, np.linalg.norm(b) + 1e-8
    turn, scale = orthogonal_procrustes(a / size_a, b / size_b)
    return (b / size_b) @ turn.T * scale * size_a + centre


def accumulated(errors: Floats) -> tuple[float, float]:
    """Mean over keypoints of mean over samples, and area under the PCK curve: (samples, points)."""
    thresholds = np.linspace(0, 0.05, 100)
    areas = []
    for column in errors.T:
        curve = [(column <= t).mean() for t in thresholds]
        areas.append(float(torch.trapezoid(torch.tensor(curve)) / 99))
    return float(np.mean([column.mean() for column in errors.T])), float(np.mean(areas))


def f_score(true: Floats, predicted: Floats, distance: float) -> float:
    gaps = np.linalg.norm(true[:, None] - predicted[None], axis=-1)
    recall, precision = (gaps.min(1) < distance).mean(), (gaps.min(0) < distance).mean()
    return 2 * recall * precision / (recall + precision) if recall + precision else 0.0


def distances(first: Floats, second: Floats) -> Floats:
    return np.linalg.norm(first - second, axis=-1)


def test_the_programs_of_single_hands() -> None:
    pair = random_pair(0, sides=1)
    p, t = (part.joints[:, 0].numpy() for part in (pair.predicted, pair.true))
    v, w = (part.vertices[:, 0].numpy() for part in (pair.predicted, pair.true))
    aligned = np.stack([procrustes(a, b) for a, b in zip(t, p, strict=True)])
    mesh = np.stack([procrustes(a, b) for a, b in zip(w, v, strict=True)])
    length = distances(t[:, 9], t[:, 0]) / distances(p[:, 9], p[:, 0])
    scaled = (p - p[:, :1]) * length[:, None, None] + t[:, :1]
    found = figures("ho3d_v2", pair)
    for key, errors in (
        ("xyz", distances(p, t)),
        ("xyz_procrustes", distances(aligned, t)),
        ("xyz_scale_translation", distances(scaled, t)),
        ("mesh", distances(v, w)),
        ("mesh_aligned", distances(mesh, w)),
    ):
        mean, area = accumulated(errors)
        assert found[f"{key}_mean_cm"] == pytest.approx(100 * mean, rel=1e-9)
        assert found[f"{key}_auc"] == pytest.approx(area, abs=1e-9)
    for key, points in (("mesh", v), ("mesh_aligned", mesh)):
        for name, limit in (("f5", 0.005), ("f15", 0.015)):
            expected = np.mean([f_score(a, b, limit) for a, b in zip(w, points, strict=True)])
            assert found[f"{key}_{name}"] == pytest.approx(expected, abs=1e-9)
    relative = distances(p - p[:, :1], t - t[:, :1])
    assert figures("dexycb", pair)["root_relative_mean_mm"] == pytest.approx(
        1000 * accumulated(relative)[0], rel=1e-9
    )
    freihand = figures("freihand", pair)
    assert freihand == {key: found[key] for key in freihand}


def test_internets_program() -> None:
    pair = without(random_pair(1, 24), seed=2)
    kinds = torch.arange(24) % 3  # right, left, both
    shown = torch.stack((kinds != 1, kinds != 0), 1)
    valid = pair.true.joints_valid & shown[..., None]
    told = torch.where(torch.arange(24)[:, None] % 5 == 0, 0.4, 0.8) * shown
    pair = Pair(
        replace(pair.predicted, joints_valid=valid, handedness=told),
        replace(pair.true, joints_valid=valid, handedness=shown.double()),
    )
    p, t = (part.joints.numpy() for part in (pair.predicted, pair.true))
    errors: dict[str, list[list[float]]] = {k: [[] for _ in range(42)] for k in ("single", "both")}
    between = []
    for n in range(24):
        kind = "both" if kinds[n] == 2 else "single"
        for s in range(2):
            depth = p[n, s, :, 2] - p[n, s, 0, 2] + t[n, s, 0, 2]
            moved = np.column_stack((p[n, s, :, :2] / p[n, s, :, 2:] * depth[:, None], depth))
            error = distances(moved - moved[0], t[n, s] - t[n, s, 0])
            for j in range(21):
                if valid[n, s, j] and valid[n, s, 0]:
                    errors[kind][21 * s + j].append(error[j])
        if kind == "both" and valid[n, :, 0].all():
            z = t[n, 0, 0, 2]
            right, left = p[n, 0, 0], p[n, 1, 0]
            deeper = z + left[2] - right[2]
            vector = np.append(left[:2] / left[2] * deeper, deeper) - np.append(
                right[:2] / right[2] * z, z
            )
            between.append(np.linalg.norm(vector - (t[n, 1, 0] - t[n, 0, 0])))
    together = [a + b for a, b in zip(errors["single"], errors["both"], strict=True)]
    found = figures("interhand26m", pair)
    for key, lists in (
        ("mpjpe_mm", together),
        ("mpjpe_single_mm", errors["single"]),
        ("mpjpe_interacting_mm", errors["both"]),
    ):
        expected = 1000 * np.mean([np.mean(one) for one in lists])
        assert found[key] == pytest.approx(expected, rel=1e-9)
    assert found["mrrpe_mm"] == pytest.approx(1000 * np.mean(between), rel=1e-9)
    right = [(told[n] > 0.5).tolist() == shown[n].tolist() for n in range(24)]
    assert found["handedness"] == pytest.approx(np.mean(right))


def test_intaghands_scale_and_arctics_images() -> None:
    pair = without(random_pair(3), seed=4)
    p, t, valid = pair.predicted.joints.numpy(), pair.true.joints.numpy(), pair.true.joints_valid
    scaled, images = [], []
    for n in range(len(pair)):
        hands = []
        for s in range(2):
            ratio = distances(t[n, s, 9], t[n, s, 0]) / distances(p[n, s, 9], p[n, s, 0])
            error = distances((p[n, s] - p[n, s, 9]) * ratio, t[n, s] - t[n, s, 9])
            if valid[n, s, 9] and valid[n, s, 0]:
                scaled += [error[j] for j in range(21) if valid[n, s, j]]
            relative = distances(p[n, s] - p[n, s, 0], t[n, s] - t[n, s, 0])
            if valid[n, s].any():  # a hand counts whole
                hands.append(np.mean(relative))
        images += [np.mean(hands)] if hands else []
    found = figures("interhand26m_intaghand", pair)["mpjpe_mm"]
    assert found == pytest.approx(1000 * np.mean(scaled), rel=1e-9)
    found = figures("arctic", pair)["mpjpe_ra_mm"]
    assert found == pytest.approx(1000 * np.mean(images), rel=1e-9)


def test_accelerations_need_three_frames_of_one_sequence_and_count_by_image() -> None:
    pair = random_pair(5, 31)
    there = torch.rand(31, 2, generator=torch.Generator().manual_seed(0)) > 0.2
    valid = {"joints_valid": there[..., None].expand(-1, -1, 21), "vertices_valid": there}
    pair = Pair(replace(pair.predicted, **valid), replace(pair.true, **valid))
    p, t = (part.vertices - part.joints[:, :, :1] for part in (pair.predicted, pair.true))
    sequence, errors = pair.true.sequence.tolist(), []
    for n in range(1, len(pair) - 1):
        bend = (p[n - 1] - 2 * p[n] + p[n + 1]) - (t[n - 1] - 2 * t[n] + t[n + 1])
        hands = [
            float(bend[s].norm(dim=-1).mean()) * 900
            for s in range(2)
            if there[n - 1 : n + 2, s].all() and sequence[n - 1] == sequence[n + 1]
        ]
        errors += [np.mean(hands)] if hands else []
    assert 5 < len(errors) < 29
    for chunk in (1, 4, 100):
        found = figures("arctic", pair, chunk)["acceleration_error_m_per_s2"]
        assert found == pytest.approx(np.mean(errors), rel=1e-9)
    alone = Pair(pair.predicted.take(torch.tensor([0])), pair.true.take(torch.tensor([0])))
    assert np.isnan(figures("arctic", alone)["acceleration_error_m_per_s2"])


# ---- laws ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROTOCOLS)
def test_neither_the_cut_nor_the_order_matters(name: str) -> None:
    pair = random_pair(6)
    if PROTOCOLS[name].complete != "images":
        pair = without(pair, seed=7)
    whole = figures(name, pair, 100)
    assert figures(name, pair, 1) == pytest.approx(whole, rel=1e-9, nan_ok=True)
    mixed = torch.randperm(len(pair), generator=torch.Generator().manual_seed(0))
    again = Pair(pair.predicted.take(mixed), pair.true.take(mixed))
    found = score(replace(PROTOCOLS[name], images=None, other_images={}), again, any_count=False)
    assert found == pytest.approx(whole, rel=1e-9, nan_ok=True)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_truth_itself_has_no_error(name: str) -> None:
    true = random_truth(np.random.default_rng(8), 9)
    for key, value in figures(name, Pair(true, true)).items():
        shares = ("_f5", "_f15", "handedness", "auc", "_ap", "_ap50", "_ap75", "_ar")
        perfect = float(key.endswith(shares))
        # the first of the hundred thresholds is 0, and alignment rounds
        assert value == pytest.approx(perfect, abs=6e-3) or np.isnan(value), key


def moved(samples: HandSamples, *, turn: torch.Tensor, scale: float, shift: float) -> HandSamples:
    return replace(
        samples,
        joints=scale * samples.joints @ turn.mT + shift,
        vertices=scale * samples.vertices @ turn.mT + shift,
    )


def test_what_alignment_takes_away_does_not_count() -> None:
    pair = random_pair(9)
    turn = torch.from_numpy(random_rotations(np.random.default_rng(0), 1)[0]).double()
    turn = turn / turn.det()
    other = Pair(moved(pair.predicted, turn=turn, scale=1.3, shift=0.2), pair.true)
    before, after = figures("freihand", pair), figures("freihand", other)
    for key in before:
        if "procrustes" in key or "aligned" in key:
            assert after[key] == pytest.approx(before[key], rel=1e-4), key
        else:
            assert after[key] != pytest.approx(before[key], rel=1e-2), key
    scaled = Pair(
        moved(pair.predicted, turn=torch.eye(3).double(), scale=1.3, shift=0.0), pair.true
    )
    key = "mpjpe_mm"
    assert figures("interhand26m_intaghand", scaled)[key] == pytest.approx(
        figures("interhand26m_intaghand", pair)[key], rel=1e-9
    )


def test_a_mirrored_hand_is_right_by_their_alignment_and_wrong_by_ours() -> None:
    true = random_truth(np.random.default_rng(10), 4, sides=1)
    mirror = torch.tensor((-1.0, 1.0, 1.0)).double()
    mirrored = replace(true, joints=true.joints * mirror, vertices=true.vertices * mirror)
    assert figures("freihand", Pair(mirrored, true))["xyz_procrustes_mean_cm"] < 1e-4
    # what fits exactly misses the threshold 0 by 1e-8 of its size, as in the official program
    for points in ("xyz_procrustes", "mesh_aligned"):
        for predicted in (true, mirrored):
            found = figures("freihand", Pair(predicted, true))[f"{points}_auc"]
            assert found == pytest.approx(1 - 0.5 / 99, rel=1e-12)
    ours = procrustes_align(mirrored.joints[:, 0], true.joints[:, 0])
    assert (ours - true.joints[:, 0]).norm(dim=-1).mean() > 0.01


def test_sides_swap() -> None:
    pair = random_pair(11)
    swapped = pair.map(lambda tensor: tensor.flip(1) if tensor.ndim > 1 else tensor)
    before, after = figures("h2o", pair), figures("h2o", swapped)
    assert after["mepe_right_mm"] == pytest.approx(before["mepe_left_mm"], rel=1e-12)
    assert after["mepe_left_mm"] == pytest.approx(before["mepe_right_mm"], rel=1e-12)


def test_a_hand_that_is_a_point_has_figures() -> None:
    pair = random_pair(12, sides=1)
    zeros = replace(
        pair.predicted,
        joints=torch.zeros_like(pair.predicted.joints),
        vertices=torch.zeros_like(pair.predicted.vertices),
    )
    for value in figures("ho3d_v2", Pair(zeros, pair.true)).values():
        assert np.isfinite(value)


def test_the_number_of_images_has_to_be_the_official_one() -> None:
    pair = random_pair(13)
    protocol: Protocol = replace(PROTOCOLS["ho3d_v2"], images=14)
    with pytest.raises(ValueError, match="has 14 images, here are 13"):
        score(protocol, pair, any_count=False)
    assert score(protocol, pair, any_count=True)
    with pytest.raises(ValueError, match="empty"):
        score(
            protocol,
            Pair(*(part.take(torch.arange(0)) for part in (pair.predicted, pair.true))),
            any_count=True,
        )
