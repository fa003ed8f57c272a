"""One pass, its scores, and what is written from them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fourdhands.evaluation.baselines import MeanPosePredictor, estimate_mean_hand
from fourdhands.evaluation.metrics import METRICS, ReconstructionMetrics
from fourdhands.evaluation.pictures import choose, draw_choices
from fourdhands.evaluation.provenance import Provenance
from fourdhands.evaluation.report import EvalReport
from fourdhands.evaluation.runner import Scores, evaluate
from fourdhands.hands.mano import HandModel
from fourdhands.structures import ClipBatch, ClipMeta, Predictions, left_from_right_root
from tests.helpers.batches import random_batch

FRAMES = 3


@pytest.fixture(scope="module")
def hand_model() -> HandModel:
    return HandModel.open()


def batches(hand_model: HandModel) -> list[ClipBatch]:
    """Three batches of two clips; each batch is a sequence of its own."""
    made = []
    for k in range(3):
        batch = random_batch(hand_model, clips=2, frames=FRAMES, crop_size=(32, 24), seed=k)
        meta = tuple(
            ClipMeta("test", f"clip{k}{c}", f"sequence{k}", "camera", 6.0, tuple(range(FRAMES)))
            for c in range(2)
        )
        made.append(replace(batch, meta=meta))
    return made


def nearly_right(batch: ClipBatch) -> Predictions:
    """The truth, but for a turn of the wrists that grows with the clip's number."""
    assert batch.labels is not None
    number = float(batch.meta[0].key[-2])
    turn = torch.eye(3)
    turn[:2, :2] = torch.tensor(
        [
            [np.cos(0.1 * number), -np.sin(0.1 * number)],
            [np.sin(0.1 * number), np.cos(0.1 * number)],
        ]
    )
    hands = batch.labels.hands
    return Predictions(
        hands=replace(hands, global_orient=turn @ hands.global_orient),
        crop_camera=torch.ones(*batch.hand_present.shape, 3),
        rotations_6d=torch.zeros(*batch.hand_present.shape, 16, 6),
        upsilon=left_from_right_root(batch.labels.joints),
    )


@pytest.fixture(scope="module")
def scores(hand_model: HandModel) -> dict[str, Scores]:
    data = batches(hand_model)
    mean_pose = MeanPosePredictor(estimate_mean_hand(data, hand_model))
    return evaluate({"model": nearly_right, "mean_pose": mean_pose}, data, hand_model)


@pytest.fixture(scope="module")
def report(scores: dict[str, Scores]) -> EvalReport:
    provenance = Provenance(
        checkpoint="last.ckpt",
        checkpoint_sha256="c" * 64,
        config_sha256="0" * 64,
        data="test",
        data_sha256="d" * 64,
        mean_pose="its own labels",
        settings={"root": "wrist"},
        version="1.0",
    )
    return EvalReport(scores["model"], scores["mean_pose"], provenance)


def test_scores_are_the_metrics(hand_model: HandModel, scores: dict[str, Scores]) -> None:
    metrics = ReconstructionMetrics()
    for batch in batches(hand_model):
        assert batch.labels is not None
        predictions = nearly_right(batch)
        metrics.update(
            predictions, hand_model(predictions.hands), batch, hand_model(batch.labels.hands)
        )
    expected = {key: pytest.approx(float(value)) for key, value in metrics.compute().items()}
    assert expected.pop("epe_2d_direct_px") == pytest.approx(torch.nan, nan_ok=True)
    expected["epe_2d_direct_px"] = None  # no 2D branch, nothing to count
    assert {key: figure.value for key, figure in scores["model"].figures.items()} == expected


def test_sequences_joints_and_hands_add_up_to_the_whole(scores: dict[str, Scores]) -> None:
    model = scores["model"]
    whole, parts = model.figures["mpjpe_mm"], model.figures_by_sequence
    assert list(parts) == ["sequence0", "sequence1", "sequence2"]
    assert sum(part["mpjpe_mm"].count for part in parts.values()) == whole.count == 3 * 12 * 21
    assert np.mean([part["mpjpe_mm"].value for part in parts.values()]) == pytest.approx(
        whole.value
    )
    for parts_of_it in (model.joints, model.hands, model.sample_errors):
        assert parts_of_it.mean() == pytest.approx(whole.value)


def test_the_table_puts_the_mean_pose_beside_the_model(report: EvalReport) -> None:
    lines = report.table().splitlines()
    assert lines[0] == "last.ckpt on test"
    assert (
        lines[1] == "18 frames in 6 clips; 36 hands are labelled, in 18 of the frames and 6 clips"
    )
    mpjpe = next(line for line in lines if line.startswith("MPJPE")).split()
    assert mpjpe[1] == "mm"
    assert float(mpjpe[2]) / float(mpjpe[3]) == pytest.approx(float(mpjpe[4]), abs=2e-3)
    assert [len(line) for line in lines[3:-1]] == [len(lines[3])] * (len(METRICS) + 3)


def test_json_says_what_was_measured(report: EvalReport, tmp_path: Path) -> None:
    report.save_json(tmp_path / "metrics.json")
    plain = json.loads((tmp_path / "metrics.json").read_text())
    assert plain == report.to_plain()
    assert plain["metrics"]["mpjpe_mm"]["unit"] == "mm"
    assert plain["metrics"]["mrrpe_mm"]["model"]["count"] == 18
    assert plain["provenance"]["data_sha256"] == "d" * 64
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_unmeasured_figures_are_null(report: EvalReport, hand_model: HandModel) -> None:
    sparse = [replace(batch, times=batch.times * 5) for batch in batches(hand_model)]
    scores = evaluate({"model": nearly_right}, sparse, hand_model)["model"]
    plain = replace(report, model=scores).to_plain()["metrics"]["acceleration_error_m_per_s2"]
    assert (plain["model"], plain["ratio"]) == ({"value": None, "count": 0}, None)


def test_frames_without_a_labelled_hand_are_told(report: EvalReport, hand_model: HandModel) -> None:
    data = batches(hand_model)
    hidden = data[0].hand_present.clone()
    hidden[0], hidden[1, 0] = False, False  # all of one clip, and a frame of another
    data[0] = replace(data[0], hand_present=hidden)
    scores = evaluate({"model": nearly_right}, data, hand_model)["model"]
    plain = replace(report, model=scores).to_plain()
    assert (plain["clips"], plain["frames"]) == (6, 18)
    assert plain["labelled"] == {"clips": 5, "frames": 14, "hands": 28}


def test_pictures_show_the_extremes(
    report: EvalReport, hand_model: HandModel, tmp_path: Path
) -> None:
    choices = choose(report.model, each=1)
    assert [choice.sample.clip.split("/")[1] for choice in choices] == [
        "sequence0",
        "sequence1",
        "sequence2",
    ]
    image = draw_choices(choices, nearly_right, batches(hand_model), hand_model)
    assert image.std() > 10
    report.save_plots(tmp_path / "errors.png")
    assert cv2.imread(str(tmp_path / "errors.png")).std() > 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda batch: [], "not a single batch"),
        (lambda batch: [replace(batch, labels=None)], "no labels"),
    ],
)
def test_data_that_cannot_be_evaluated(
    hand_model: HandModel, change: Callable[[ClipBatch], list[ClipBatch]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate({"model": nearly_right}, change(batches(hand_model)[0]), hand_model)


def test_a_prediction_that_is_not_finite_is_named(hand_model: HandModel) -> None:
    def broken(batch: ClipBatch) -> Predictions:
        predictions = nearly_right(batch)
        hands = predictions.hands
        return replace(predictions, hands=replace(hands, betas=hands.betas / 0))

    with pytest.raises(ValueError, match=r"clip test/.*/clip00, frame 0: .*'model'"):
        evaluate({"model": broken}, batches(hand_model), hand_model)
