"""The solver: second derivatives, windows, resuming, divergence, and bad input."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from fourdhands.refinement import windows
from fourdhands.refinement.camera_motion import CameraMotion
from fourdhands.refinement.clip import ObservedClip
from fourdhands.refinement.initial import merge_sources
from fourdhands.refinement.refine import refine
from fourdhands.refinement.simulated import Errors
from fourdhands.refinement.stages import RefinementConfig, Stage, Weights
from tests.helpers.refinement import clip, hand_model

CONFIG = RefinementConfig(confidence=0.5)
SEEN = Errors(gaps=(0, 0), wrong_confidence=0)  # every hand in every frame


def _refine(one: ObservedClip, config: RefinementConfig = CONFIG, **more: object):  # type: ignore[no-untyped-def]
    return refine(one, config=config, assets=hand_model().assets, **more)  # type: ignore[arg-type]


def test_better_than_the_input_on_a_short_clip() -> None:
    one = clip(0, 48, "smooth")
    found = _refine(one.observed, camera=one.camera)
    seen = one.observed.observed & (one.observed.confidence >= 0.5)
    with torch.no_grad():
        given = hand_model()(one.observed.hands.map(torch.Tensor.float)).joints.double()

    def error(joints: torch.Tensor) -> float:
        relative = joints - joints[:, :, :, :1]
        true = one.true_joints - one.true_joints[:, :, :, :1]
        return float((relative - true).norm(dim=-1)[seen].mean())

    assert error(found.joints) < 0.5 * error(given)
    assert found.energies[-1][0] == "physics" and not found.diverged.any()
    assert torch.equal(found.completed, ~seen)


def test_windows_agree_with_the_whole() -> None:
    one = clip(1, 96, "static")
    whole = _refine(one.observed)
    config = replace(CONFIG, window=48, overlap=24)
    pieces = _refine(one.observed, config)
    seen = one.observed.observed & (one.observed.confidence >= 0.5)
    # shape is found on windows, so hands may be a little larger or smaller, and farther or nearer
    relative = [found.joints - found.joints[..., :1, :] for found in (whole, pieces)]
    apart = (relative[0] - relative[1]).norm(dim=-1)[seen]
    assert float(apart.median()) < 4e-3
    starts = windows.window_starts(seen, 48, 24)
    assert len(starts) > 2
    followed = (seen[:, 2:] & seen[:, 1:-1] & seen[:, :-2])[..., None]
    jumps = pieces.joints.diff(n=2, dim=1).norm(dim=-1) * followed
    jumps = jumps.amax((0, 2, 3))
    seams = [k for start in starts[1:] for k in (start - 1, start, start + 1)]
    assert jumps[seams].max() < 3 * jumps.median().clamp_min(2e-3)


def test_windows_are_cut_where_hands_are_seen() -> None:
    observed = torch.ones(1, 1000, 2, dtype=torch.bool)
    observed[:, 100:170, 0] = False
    observed[:, 400:460, 1] = False
    starts = windows.window_starts(observed, 160, 16)
    lengths = np.diff([*starts, 1000])
    assert starts[0] == 0 and lengths.max() <= 160 and lengths[:-1].min() >= 160 // 2 - 16
    assert all(observed[:, start : start + 16].all() for start in starts)
    assert windows.window_starts(observed[:, :160], 160, 16) == [0]
    hidden = torch.zeros_like(observed)  # nothing is better than anything: as long as may be
    assert windows.window_starts(hidden, 160, 16)[:3] == [0, 144, 288]


def test_windows_agree_on_one_scale() -> None:
    one = clip(2, 96, "smooth", SEEN)
    config = replace(CONFIG, window=40, overlap=8)
    whole, pieces = (_refine(one.observed, each, camera=one.camera) for each in (CONFIG, config))
    off = [float((found.world_scale / one.true_scale).log()) for found in (whole, pieces)]
    assert abs(off[0]) < 0.1 and abs(off[1] - off[0]) < 0.02, off
    deviations = [float(found.world_scale_deviation) for found in (whole, pieces)]
    assert 0.5 < deviations[1] / deviations[0] < 2, deviations


def test_a_scale_that_hands_do_not_tell_is_guessed_by_the_scene() -> None:
    """Hands carried along with the camera: any scale would do."""
    one = clip(2, 32, "static", SEEN)
    poses = np.tile(np.eye(4), (32, 1, 1))
    poses[:, 0, 3] = np.linspace(0, 3, 32)
    poses[:, :3, :3] = Rotation.from_rotvec(
        np.outer(np.linspace(0, 0.2, 32), (0, 1, 0))
    ).as_matrix()
    depth = float(one.true_joints[..., 2].median())
    camera = CameraMotion(poses, scene_depth=10.0, source="solver")
    found = _refine(one.observed, CONFIG, camera=camera)
    assert float(found.world_scale) == pytest.approx(2.5 * depth / 10, rel=0.1)
    assert torch.isinf(found.world_scale_deviation).all()
    assert "guessed by how far away the scene is" in found.notes[0]


def test_what_windows_know_adds_up() -> None:
    # two quadratics (x - v)' L (x - v); the third unknown is known to nobody
    values = torch.tensor(((1.0, 0.0, 5.0), (3.0, 4.0, 7.0))).double()[:, None]
    known = torch.stack(
        (torch.diag(torch.tensor((3.0, 0, 0))), torch.diag(torch.tensor((1.0, 2, 0))))
    )
    found = windows.fused(values, known[:, None].double())
    expected = torch.tensor(((1.5, 4.0, 6.0),)).double()
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_several_clips_at_once_are_those_of_each() -> None:
    ones = [clip(seed, 32, "static") for seed in (0, 1)]
    both = _refine(ObservedClip.cat([one.observed for one in ones]))
    for k, one in enumerate(ones):
        torch.testing.assert_close(
            both.joints[k], _refine(one.observed).joints[0], atol=1e-4, rtol=0
        )


def test_stopped_and_resumed_comes_to_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = clip(1, 96, "static")
    quick = tuple(replace(stage, iterations=3) for stage in CONFIG.stages)
    config = replace(CONFIG, window=48, overlap=24, stages=quick)
    wanted = _refine(one.observed, config)
    state = tmp_path / "state"
    solve, count = windows.solve, 0

    def stops(*arguments: object, **more: object) -> object:
        nonlocal count
        count += 1
        if count == 9:
            raise KeyboardInterrupt
        return solve(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(windows, "solve", stops)
    with pytest.raises(KeyboardInterrupt):
        _refine(one.observed, config, state=state)
    assert state.exists()
    monkeypatch.setattr(windows, "solve", solve)
    with pytest.raises(ValueError, match="saved for other hands"):
        _refine(clip(0, 96, "static").observed, config, state=state)
    found = _refine(one.observed, config, state=state)
    assert torch.equal(found.joints, wanted.joints)
    assert not state.exists()


def test_adam_and_lbfgs_lower_the_same_energy() -> None:
    one = clip(0, 16, "static")
    weights = Weights(reprojection=300.0, translation=1.0, velocity=0.005, shape=1.0)
    totals = {}
    for optimizer, steps in (("gauss_newton", 20), ("adam", 60), ("lbfgs", 5)):
        stage = Stage(
            "all",
            ("orientation", "wrist", "pose", "betas"),
            weights,
            optimizer=optimizer,  # type: ignore[arg-type]
            iterations=steps,
            learning_rate=0.02 if optimizer == "adam" else 1.0,
        )
        first = Stage("start", ("focal",), weights, iterations=1)
        found = _refine(one.observed, replace(CONFIG, stages=(first, stage)))
        energies = dict(found.energies)
        start, end = (sum(v[0] for v in energies[name].values()) for name in ("start", "all"))
        assert end < start
        totals[optimizer] = end
    assert totals["gauss_newton"] <= 1.01 * min(totals.values())


def test_divergence_returns_the_best_and_says_so() -> None:
    one = clip(0, 16, "static")
    wild = Stage(
        "wild",
        ("orientation", "wrist"),
        Weights(reprojection=1e3, translation=1.0),
        optimizer="adam",
        iterations=5,
        learning_rate=1e200,
    )
    found = _refine(one.observed, replace(CONFIG, stages=(wild,)))
    assert found.diverged.all() and found.joints.isfinite().all()
    assert "diverged" in found.notes[-1]


def test_gaps_at_the_ends_are_completed() -> None:
    one = clip(0, 32, "static", SEEN).observed
    observed = torch.ones_like(one.observed)
    observed[:, :6, 0] = False
    observed[:, -6:, 1] = False
    part = replace(one, observed=observed, confidence=torch.ones_like(one.confidence))
    found = _refine(part)
    assert torch.equal(found.completed, ~observed)
    steps = found.joints[0, :, :, 0].diff(dim=0).norm(dim=-1)
    assert steps.max() < 0.05


def test_one_visible_frame_is_held() -> None:
    one = clip(0, 16, "static", SEEN).observed
    observed = torch.zeros_like(one.observed)
    observed[:, 5] = True
    found = _refine(replace(one, observed=observed, confidence=torch.ones_like(one.confidence)))
    assert found.joints.isfinite().all()
    assert (found.joints - found.joints[:, 5:6]).norm(dim=-1).max() < 0.02


def test_one_hand_and_one_frame() -> None:
    one = clip(0, 16, "static", SEEN).observed
    observed = torch.ones_like(one.observed)
    observed[..., 1] = False
    sure = torch.ones_like(one.confidence)
    found = _refine(replace(one, observed=observed, confidence=sure))
    assert found.present.tolist() == [[True, False]] and not found.completed.any()
    single = replace(one, observed=observed, confidence=sure).frames(0, 1)
    assert _refine(single).joints.isfinite().all()


def _broken(kind: str) -> tuple[ObservedClip, CameraMotion | None]:
    one = clip(0, 16, "static", SEEN).observed
    one = replace(one, observed=torch.ones_like(one.observed), confidence=one.confidence * 0 + 1)
    if kind == "no visible frame":
        return replace(one, observed=one.observed & False), None
    if kind == "NaN poses":
        pose = one.hands.hand_pose.clone()
        pose[0, 3, 1, 4] = torch.nan
        return replace(one, hands=replace(one.hands, hand_pose=pose)), None
    if kind == "focal 0":
        return replace(one, intrinsics=one.intrinsics * torch.tensor((0.0, 1, 1))), None
    if kind == "short camera":
        return one, CameraMotion(np.tile(np.eye(4), (7, 1, 1)))
    if kind == "both right":
        hands = one.hands[:, :, :1].map(
            lambda values: values.repeat(1, 1, 2, *[1] * (values.dim() - 3))
        )
        hands = replace(hands, transl=one.hands.transl[:, :, :1].repeat(1, 1, 2, 1))
        pixels = one.joints_2d[:, :, :1].repeat(1, 1, 2, 1, 1)
        sure = torch.ones_like(one.joints_2d_confidence)
        return replace(one, hands=hands, joints_2d=pixels, joints_2d_confidence=sure), None
    return replace(one, fps=one.fps * 0), None


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("no visible frame", "shows no hand"),
        ("NaN poses", "hand_pose of the left hand in frame 3"),
        ("focal 0", "focal length is 0"),
        ("short camera", "7 poses, the clip 16 frames"),
        ("both right", "same hand"),
        ("fps 0", "fps is 0"),
    ],
)
def test_bad_input_is_named(kind: str, words: str) -> None:
    one, camera = _broken(kind)
    with pytest.raises(ValueError, match=words):
        _refine(one, camera=camera)


def test_sources_are_merged_in_order_of_trust() -> None:
    one = clip(0, 16, "static").observed
    first = replace(one, observed=one.observed & (torch.arange(16) % 2 == 0)[:, None])
    other = replace(
        one,
        observed=torch.ones_like(one.observed),
        hands=replace(one.hands, transl=one.hands.transl + 1),
        confidence=torch.ones_like(one.confidence),
    )
    merged = merge_sources([first, other])
    expected = torch.where(first.observed[..., None], one.hands.transl, one.hands.transl + 1)
    assert merged.observed.all() and torch.equal(merged.hands.transl, expected)
