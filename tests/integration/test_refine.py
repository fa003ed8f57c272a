"""The command and the evaluation: files in, refined files and better figures out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fourdhands.cli.main import main
from fourdhands.evaluation.benchmark import find_protocol, score
from fourdhands.evaluation.predictions_file import load_samples, match, save_samples
from fourdhands.evaluation.samples import HandSamples
from fourdhands.structures import HandState
from tests.helpers.refinement import clip, hand_model

T = 32


def _samples(hands: HandState, joints: torch.Tensor, cam_from_world: np.ndarray) -> HandSamples:
    valid = torch.ones(T, 2, 21, dtype=torch.bool)
    return HandSamples(
        joints=joints.float(),
        joints_valid=valid,
        vertices=torch.zeros(T, 2, 0, 3),
        vertices_valid=torch.zeros(T, 2, dtype=torch.bool),
        joints_2d=torch.zeros(T, 2, 21, 2),
        joints_2d_valid=valid & False,
        handedness=torch.ones(T, 2),
        sequence=torch.zeros(T, dtype=torch.int64),
        frame=torch.arange(T),
        fps=torch.full((T,), 30.0),
        cam_from_world=torch.from_numpy(cam_from_world).float(),
        area=torch.zeros(T),
        names=tuple(f"one/0/{k}" for k in range(T)),
        hands=hands.map(lambda values: values.float().contiguous()),
    )


def test_refine_makes_files_better(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = clip(0, T, "smooth")
    observed = one.observed
    with torch.no_grad():
        joints = hand_model()(observed.hands[0].map(torch.Tensor.float)).joints
    given = replace(
        _samples(observed.hands[0], joints, np.tile(np.eye(4), (T, 1, 1))),
        joints_2d=observed.joints_2d[0].float(),
        joints_2d_valid=torch.ones(T, 2, 21, dtype=torch.bool),
        intrinsics=observed.intrinsics.float().repeat(T, 1, 1),
        confidence=observed.confidence[0].float(),
        joints_2d_confidence=observed.joints_2d_confidence[0].float(),
    )
    truth = _samples(one.true_hands[0], one.true_joints[0], one.true_cam_from_world)
    save_samples(given, tmp_path / "given.npz")
    np.savez(tmp_path / "camera.npz", w2c=one.camera.cam_from_world)
    words = ["refine", str(tmp_path / "given.npz"), "--camera", str(tmp_path / "camera.npz")]
    out = tmp_path / "out"
    assert main([*words, "--out", str(out), "--confidence", "0.5"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["refined.npz", "refinement.json"]
    found = load_samples(out / "refined.npz")
    assert found.completed is not None and found.completed.any()
    protocol = find_protocol("h2o_world")
    before, after = (
        score(protocol, match(samples, truth, "test"), any_count=True) for samples in (given, found)
    )
    for key in before:
        if "mpjpe" in key:
            assert after[key] < 0.6 * before[key], key
    save_samples(replace(given, hands=None), tmp_path / "bare.npz")
    capsys.readouterr()
    assert main(["refine", str(tmp_path / "bare.npz"), "--out", str(out)]) == 1
    assert "no MANO parameters" in capsys.readouterr().err
