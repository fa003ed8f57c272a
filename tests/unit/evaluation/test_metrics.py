"""Metrics against closed forms, invariances and a slow twin written from the definitions."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fourdhands.evaluation.errors import Comparison, FrameErrors, acceleration_errors
from fourdhands.evaluation.metrics import METRICS, ReconstructionMetrics
from fourdhands.geometry.crop import places_in_crops
from fourdhands.geometry.rotation import matrix_from_axis_angle
from fourdhands.hands.mano import HandModel
from fourdhands.structures import (
    AxisLogits,
    ClipBatch,
    ClipMeta,
    HandGeometry,
    Predictions,
    left_from_right_root,
)
from tests.helpers.batches import random_batch, random_hands

FPS = 20.0
CLIPS, FRAMES = 3, 5


@pytest.fixture(scope="module")
def hand_model() -> HandModel:
    return HandModel.open()


def peaks(places: Tensor) -> AxisLogits:
    """Distributions about places of the crops, a tenth of a percent wide."""
    bins = (torch.arange(2000) + 0.5) / 2000 - 0.5
    logits = -((bins - places[..., None]) / 1e-3).square() / 2
    return AxisLogits(x=logits[..., 0, :], y=logits[..., 1, :])


class Case:
    """A batch, what a predictor said of it, and both geometries."""

    def __init__(self, hand_model: HandModel, seed: int = 0) -> None:
        batch = random_batch(hand_model, clips=CLIPS, frames=FRAMES, crop_size=(8, 6), seed=seed)
        meta = tuple(
            ClipMeta("test", f"clip{k}", "sequence", "camera", FPS, tuple(range(FRAMES)))
            for k in range(CLIPS)
        )
        times = 40 + torch.arange(FRAMES).expand(CLIPS, FRAMES) / FPS
        self.batch = replace(batch, times=times, meta=meta)
        generator = torch.Generator().manual_seed(seed + 1)
        hands = random_hands(CLIPS, FRAMES, generator=generator)
        self.true = hand_model(self.labels.hands)
        self.geometry = hand_model(hands)
        self.predictions = Predictions(
            hands=hands,
            crop_camera=torch.ones(CLIPS, FRAMES, 2, 3),
            rotations_6d=torch.zeros(CLIPS, FRAMES, 2, 16, 6),
            upsilon=torch.randn(CLIPS, FRAMES, 3, generator=generator) * 0.1,
            joint_logits=peaks(torch.rand(CLIPS, FRAMES, 2, 21, 2, generator=generator) - 0.5),
        )

    @property
    def labels(self):
        assert self.batch.labels is not None
        return self.batch.labels

    def mask(self, **masks: Tensor) -> None:
        """Replace masks of the batch or of its labels."""
        for name, mask in masks.items():
            if hasattr(self.batch, name):
                self.batch = replace(self.batch, **{name: mask})
            else:
                self.batch = replace(self.batch, labels=replace(self.labels, **{name: mask}))

    def predict(self, joints: Tensor) -> None:
        """Let the predicted joints be these, and the vertices the true ones."""
        self.geometry = HandGeometry(joints, self.true.vertices)
        self.predictions = replace(self.predictions, upsilon=left_from_right_root(joints))

    def compute(self) -> dict[str, float]:
        metrics = ReconstructionMetrics()
        metrics.update(self.predictions, self.geometry, self.batch, self.true)
        return as_floats(metrics.compute())


def as_floats(figures: dict[str, Tensor]) -> dict[str, float]:
    return {key: float(value) for key, value in figures.items()}


def randomly_masked(case: Case) -> Case:
    generator = torch.Generator().manual_seed(7)

    def mask(*shape: int, keep: float) -> Tensor:
        return torch.rand(shape, generator=generator) < keep

    case.mask(
        joints_valid=mask(CLIPS, FRAMES, 2, 21, keep=0.9),
        joints_2d_valid=mask(CLIPS, FRAMES, 2, 21, keep=0.7),
        hands_valid=mask(CLIPS, FRAMES, 2, keep=0.7),
        hand_present=mask(CLIPS, FRAMES, 2, keep=0.9),
        frame_valid=mask(CLIPS, FRAMES, keep=0.95),
    )
    return case


# ---- closed forms --------------------------------------------------------------------------------


def test_the_truth_scores_zero(hand_model: HandModel) -> None:
    case = Case(hand_model)
    case.predict(case.labels.joints)
    case.predictions = replace(
        case.predictions,
        hands=case.labels.hands,
        joint_logits=peaks(places_in_crops(case.labels.joints_2d, case.batch.bbox)),
    )
    figures = case.compute()
    assert figures.pop("orientation_error_deg") < 0.05  # of what single precision leaves
    assert figures.pop("epe_2d_direct_px") < 1e-2
    assert figures == pytest.approx(dict.fromkeys(figures, 0.0), abs=1e-4)


def test_a_shifted_joint_counts_by_its_distance(hand_model: HandModel) -> None:
    case = Case(hand_model)
    joints = case.labels.joints.clone()
    joints[..., 5, :] += torch.tensor([0.003, 0.0, 0.004])
    case.predict(joints)
    figures = case.compute()
    assert figures["mpjpe_mm"] == pytest.approx(5 / 21, rel=1e-4)
    assert figures["mrrpe_mm"] == pytest.approx(0, abs=1e-4)


def test_mrrpe_is_the_error_of_upsilon_where_both_wrists_are_known(hand_model: HandModel) -> None:
    case = Case(hand_model)
    case.predict(case.labels.joints)
    upsilon = case.predictions.upsilon.clone()
    upsilon[0] += torch.tensor([0.0, -0.012, 0.0])
    case.predictions = replace(case.predictions, upsilon=upsilon)
    assert case.compute()["mrrpe_mm"] == pytest.approx(12 / CLIPS, rel=1e-4)
    present = torch.ones(CLIPS, FRAMES, 2, dtype=torch.bool)
    present[1:, :, 0] = False
    case.mask(hand_present=present)
    assert case.compute()["mrrpe_mm"] == pytest.approx(12, rel=1e-4)


def test_constant_acceleration_gives_that_acceleration(hand_model: HandModel) -> None:
    case = Case(hand_model)
    seconds = torch.arange(FRAMES) / FPS
    motion = torch.zeros(FRAMES, 2, 21, 3)
    motion[:, :, 1:, 1] = (0.5 * 3.0 * seconds**2)[:, None, None]  # fingers at 3 m/s^2, wrist still
    case.predict(case.labels.joints + motion)
    figures = case.compute()
    assert figures["acceleration_error_m_per_s2"] == pytest.approx(3.0 * 20 / 21, rel=1e-3)
    per_frame = 3.0e3 / FPS**2 * 20 / 21
    assert figures["acceleration_error_mm_per_frame2"] == pytest.approx(per_frame, rel=1e-3)


@pytest.mark.parametrize("frames", [1, 2])
def test_acceleration_needs_three_frames(hand_model: HandModel, frames: int) -> None:
    case = Case(hand_model)
    window = (slice(None), slice(0, frames))
    metrics = ReconstructionMetrics()
    metrics.update(
        case.predictions[window], case.geometry[window], case.batch[window], case.true[window]
    )
    figures = metrics.compute()
    assert figures["acceleration_error_m_per_s2"].isnan()
    assert figures["mpjpe_mm"].isfinite()


def test_only_consecutive_frames_make_an_acceleration(hand_model: HandModel) -> None:
    case = Case(hand_model)

    def num_triples() -> int:
        comparison = Comparison.of(case.predictions, case.geometry, case.batch, case.true)
        frames = FrameErrors.of(comparison).in_order()
        return int(acceleration_errors(frames).mask[:, 0, 5].sum())

    assert num_triples() == CLIPS * (FRAMES - 2)
    times = case.batch.times.clone()
    times[:, 4:] += 1 / FPS
    case.batch = replace(case.batch, times=times)
    assert num_triples() == CLIPS * (FRAMES - 3)
    frame_valid = torch.ones(CLIPS, FRAMES, dtype=torch.bool)
    frame_valid[:, 0] = False
    case.mask(frame_valid=frame_valid)
    assert num_triples() == CLIPS * (FRAMES - 4)
    case.batch = replace(case.batch, times=case.batch.times * 5)  # frames are left out
    assert num_triples() == 0


def test_accelerations_reach_across_windows(hand_model: HandModel) -> None:
    case = Case(hand_model)
    whole = case.compute()
    metrics = ReconstructionMetrics()
    for phase in (1, 0):  # windows that skip every second frame, in any order
        frames = (slice(None), slice(phase, None, 2))
        metrics.update(
            case.predictions[frames], case.geometry[frames], case.batch[frames], case.true[frames]
        )
    assert as_floats(metrics.compute()) == pytest.approx(whole, rel=1e-12)


def test_a_frame_may_come_once_only(hand_model: HandModel) -> None:
    case = Case(hand_model)
    metrics = ReconstructionMetrics()
    for _ in range(2):
        metrics.update(case.predictions, case.geometry, case.batch, case.true)
    with pytest.raises(ValueError, match="came twice"):
        metrics.compute()
    metrics.reset()
    metrics.update(case.predictions, case.geometry, case.batch, case.true)
    assert as_floats(metrics.compute()) == case.compute()


# ---- invariances ---------------------------------------------------------------------------------


def moved(points: Tensor, scale: float = 1.0) -> Tensor:
    rotation = matrix_from_axis_angle(torch.tensor([0.4, -1.0, 2.0]))
    return scale * points @ rotation.mT + torch.tensor([0.1, -0.2, 0.3])


RELATIVE = ("mpjpe_mm", "acceleration_error_mm_per_frame2", "acceleration_error_m_per_s2")


@pytest.mark.parametrize(
    ("move", "unchanged"),
    [
        (lambda points: points + torch.tensor([0.3, 0.1, 0.2]), {"pa_mpjpe_mm", *RELATIVE}),
        (moved, {"pa_mpjpe_mm"}),
        (lambda points: moved(points, scale=1.7), {"pa_mpjpe_mm"}),
    ],
    ids=["translation", "rigid", "similarity"],
)
def test_motions_of_the_prediction_that_leave_a_metric(
    hand_model: HandModel, move: Callable[[Tensor], Tensor], unchanged: set[str]
) -> None:
    case = Case(hand_model)
    case.predict(case.geometry.joints)
    before = case.compute()
    case.geometry = HandGeometry(move(case.geometry.joints), case.geometry.vertices)
    after = case.compute()
    same = {key for key in METRICS if after[key] == pytest.approx(before[key], rel=1e-3)}
    # neither upsilon nor rotations nor the 2D branch was moved
    assert same == {*unchanged, "mrrpe_mm", "orientation_error_deg", "epe_2d_direct_px"}


def test_a_mirrored_hand_is_not_aligned_away(hand_model: HandModel) -> None:
    case = Case(hand_model)
    case.predict(case.labels.joints * torch.tensor([-1.0, 1.0, 1.0]))
    assert case.compute()["pa_mpjpe_mm"] > 5


def test_what_is_masked_does_not_count(hand_model: HandModel) -> None:
    case = randomly_masked(Case(hand_model))
    before = case.compute()
    visible = case.batch.hand_visible
    joints_valid = (case.labels.joints_valid & visible[..., None])[..., None]
    meshes_valid = (case.labels.hands_valid & visible)[..., None, None]
    nan = torch.tensor(float("nan"))
    labels = replace(case.labels, joints=case.labels.joints.where(joints_valid, 1e3))
    case.batch = replace(case.batch, labels=labels)
    case.geometry = HandGeometry(
        joints=case.geometry.joints.where(visible[..., None, None], nan),
        vertices=case.geometry.vertices.where(meshes_valid, nan),
    )
    upsilon = case.predictions.upsilon.where(visible.all(-1, keepdim=True), nan)
    case.predictions = replace(case.predictions, upsilon=upsilon)
    assert case.compute() == before


def update_with_clip(metrics: ReconstructionMetrics, case: Case, k: int) -> None:
    part = slice(k, k + 1)
    batch = replace(case.batch[part], meta=case.batch.meta[part])
    metrics.update(case.predictions[part], case.geometry[part], batch, case.true[part])


def test_any_cut_into_batches_gives_the_same_figures(hand_model: HandModel) -> None:
    case = randomly_masked(Case(hand_model))
    metrics = ReconstructionMetrics()
    for k in reversed(range(CLIPS)):
        update_with_clip(metrics, case, k)
    assert as_floats(metrics.compute()) == pytest.approx(case.compute(), rel=1e-12)


def test_processes_add_up(hand_model: HandModel) -> None:
    case = randomly_masked(Case(hand_model))
    processes = [ReconstructionMetrics() for _ in range(3)]  # the last one gets no data
    for k in range(CLIPS):
        update_with_clip(processes[k % 2], case, k)
    for name, metric in processes[0].items(keep_base=True):
        for other in processes[1:]:  # by the reduction that synchronises processes
            metric.merge_state(other[name])
    assert as_floats(processes[0].compute()) == pytest.approx(case.compute(), rel=1e-12)


# ---- the slow twin -------------------------------------------------------------------------------


def umeyama(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    source_mean, target_mean = source.mean(0), target.mean(0)
    u, s, vt = np.linalg.svd((target - target_mean).T @ (source - source_mean))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    scale = (s * sign).sum() / ((source - source_mean) ** 2).sum()
    return scale * (source - source_mean) @ (u * sign @ vt).T + target_mean


def slow_metrics(case: Case) -> dict[str, float]:
    """The definitions of docs/metrics.md, one number after the other."""
    lists: dict[str, list[float]] = {key: [] for key in METRICS}

    def numpy(tensor: Tensor) -> np.ndarray:
        return tensor.double().numpy() if tensor.is_floating_point() else tensor.numpy()

    predicted, true = numpy(case.geometry.joints), numpy(case.labels.joints)
    predicted_mesh, true_mesh = numpy(case.geometry.vertices), numpy(case.true.vertices)
    true_root = numpy(case.true.joints)[..., 0, :]
    joints_2d, intrinsics = numpy(case.labels.joints_2d), numpy(case.batch.camera.intrinsics)
    upsilon, present = numpy(case.predictions.upsilon), numpy(case.batch.hand_present)
    present = present & numpy(case.batch.frame_valid)[..., None]
    valid = numpy(case.labels.joints_valid) & present[..., None]
    valid_2d = numpy(case.labels.joints_2d_valid) & present[..., None]
    mesh_valid = numpy(case.labels.hands_valid) & present
    places, bbox = case.predictions.joint_logits.joints().double().numpy(), case.batch.bbox
    turned, upright = (
        numpy(hands.global_orient) for hands in (case.predictions.hands, case.labels.hands)
    )

    def relative_error(b: int, t: int, s: int, j: int) -> np.ndarray:
        return (predicted[b, t, s, j] - predicted[b, t, s, 0]) - (
            true[b, t, s, j] - true[b, t, s, 0]
        )

    for b, t in np.ndindex(CLIPS, FRAMES):
        if valid[b, t, 0, 0] and valid[b, t, 1, 0]:
            error = upsilon[b, t] - (true[b, t, 1, 0] - true[b, t, 0, 0])
            lists["mrrpe_mm"].append(1000 * np.linalg.norm(error))
        for s in range(2):
            seen = np.flatnonzero(valid[b, t, s])
            if len(seen) >= 3:
                aligned = umeyama(predicted[b, t, s, seen], true[b, t, s, seen])
                distances = np.linalg.norm(aligned - true[b, t, s, seen], axis=1)
                lists["pa_mpjpe_mm"] += list(1000 * distances)
            if mesh_valid[b, t, s]:
                chord = np.linalg.norm(turned[b, t, s] - upright[b, t, s])
                lists["orientation_error_deg"].append(np.degrees(2 * np.arcsin(chord / np.sqrt(8))))
                for v in range(778):
                    ours = predicted_mesh[b, t, s, v] - predicted[b, t, s, 0]
                    theirs = true_mesh[b, t, s, v] - true_root[b, t, s]
                    lists["mpvpe_mm"].append(1000 * np.linalg.norm(ours - theirs))
            for j in range(21):
                if valid[b, t, s, j] and valid[b, t, s, 0]:
                    error = relative_error(b, t, s, j)
                    lists["mpjpe_mm"].append(1000 * np.linalg.norm(error))
                if valid_2d[b, t, s, j]:
                    x, y, z = intrinsics[b, t] @ predicted[b, t, s, j]
                    error = np.array([x / z, y / z]) - joints_2d[b, t, s, j]
                    lists["epe_2d_px"].append(np.linalg.norm(error))
                    cx, cy, width, height = bbox[b, t, s].tolist()
                    x, y = places[b, t, s, j] * (-1 if s else 1, 1) * (width, height)
                    error = np.array([cx + x, cy + y]) - joints_2d[b, t, s, j]
                    lists["epe_2d_direct_px"].append(np.linalg.norm(error))
                triple = range(t, t + 3)
                if t + 2 < FRAMES and all(valid[b, k, s, j] & valid[b, k, s, 0] for k in triple):
                    first, middle, last = (relative_error(b, k, s, j) for k in triple)
                    norm = np.linalg.norm(first - 2 * middle + last)
                    lists["acceleration_error_mm_per_frame2"].append(1000 * norm)
                    lists["acceleration_error_m_per_s2"].append(norm * FPS**2)
    return {key: float(np.mean(values)) for key, values in lists.items()}


def test_the_slow_twin_agrees(hand_model: HandModel) -> None:
    case = randomly_masked(Case(hand_model))
    ours, slow = case.compute(), slow_metrics(case)
    for key in ("orientation_error_deg", "epe_2d_direct_px"):  # in part single precision
        assert ours.pop(key) == pytest.approx(slow.pop(key), rel=1e-5)
    assert ours == pytest.approx(slow, rel=1e-9)


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"), [({"labels": None}, "no labels"), ({"meta": ()}, "0 ClipMeta")]
)
def test_a_batch_that_cannot_be_scored(
    hand_model: HandModel, change: dict[str, object], message: str
) -> None:
    case = Case(hand_model)
    batch: ClipBatch = replace(case.batch, **change)
    with pytest.raises(ValueError, match=message):
        ReconstructionMetrics().update(case.predictions, case.geometry, batch, case.true)


def test_nothing_to_count_is_not_a_number(hand_model: HandModel) -> None:
    case = Case(hand_model)
    case.mask(hand_present=torch.zeros(CLIPS, FRAMES, 2, dtype=torch.bool))
    assert np.isnan(list(case.compute().values())).all()
