"""Errors taken apart, against loops, in any cut and on several processes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fourdhands.evaluation.alignments import absolute, root_relative, similarity
from fourdhands.evaluation.benchmark import ProtocolMetrics
from fourdhands.evaluation.breakdown import Breakdown, HandErrors
from fourdhands.evaluation.protocols import PROTOCOLS
from fourdhands.evaluation.samples import Pair
from fourdhands.evaluation.wording import label_of, meaning_of
from tests.helpers.processes import together
from tests.helpers.samples import random_pair, without


def breakdowns(name: str, pair: Pair, chunk: int = 5) -> dict[str, Breakdown]:
    metrics = ProtocolMetrics(PROTOCOLS[name])
    for piece, repeated in pair.chunks(chunk, 2):
        metrics.update(piece, repeated)
    return {one.label: one for one in metrics.breakdowns.compute()}


def test_errors_by_joint_hand_image_and_sequence() -> None:
    pair = without(random_pair(0), seed=1)
    found = breakdowns("scenes", pair)["root relative joints"]
    p, t, valid = pair.predicted.joints.numpy(), pair.true.joints.numpy(), pair.true.joints_valid
    error = np.linalg.norm((p - p[:, :, :1]) - (t - t[:, :, :1]), axis=-1)
    error[~(valid & valid[..., :1]).numpy()] = np.nan
    sequence = pair.true.sequence.numpy()
    assert found.keypoints == pytest.approx(np.nanmean(error, 0), rel=1e-9)
    assert found.pooled == pytest.approx(np.nanmean(error, (0, 1)), rel=1e-9)
    with pytest.warns(RuntimeWarning, match="empty slice"):  # hands without a labelled wrist
        assert found.hands == pytest.approx(np.nanmean(error, -1), rel=1e-9, nan_ok=True)
    assert found.images[3] == pytest.approx(np.nanmean(error[3]), rel=1e-9)
    for number, mean in found.by_sequence(sequence).items():
        assert mean == pytest.approx(np.nanmean(error[sequence == number]), rel=1e-9)
    assert found.curve is not None
    share = [
        np.nanmean(np.where(np.isnan(error), np.nan, error <= x), (0, 1)) for x in (0.01, 0.05)
    ]
    assert found.curve.share[-1] == pytest.approx(share[1].mean(), rel=1e-9)
    nearly = int(np.searchsorted(found.curve.thresholds, 0.01))
    assert found.curve.share[nearly - 1] <= share[0].mean() <= found.curve.share[nearly]


def test_curves_are_those_of_the_columns() -> None:
    pair = random_pair(2, sides=1)
    metrics = ProtocolMetrics(PROTOCOLS["ho3d_v2"])
    metrics.update(pair.double())
    found = {one.label: one.curve for one in metrics.breakdowns.compute()}
    figures = metrics.compute()
    for label, key in (
        ("scale translation joints", "xyz_scale_translation_auc"),
        ("similarity (reflections) vertices", "mesh_aligned_auc"),
    ):
        curve = found[label]
        assert curve is not None and curve.area == figures[key]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_cut_does_not_matter(name: str) -> None:
    pair = without(random_pair(3), seed=4)
    whole, cut = breakdowns(name, pair, 100), breakdowns(name, pair, 1)
    assert whole.keys() == cut.keys()
    for label, one in whole.items():
        assert one.hands == pytest.approx(cut[label].hands, rel=1e-9, nan_ok=True)
        assert one.keypoints == pytest.approx(cut[label].keypoints, rel=1e-9, nan_ok=True)


def test_nothing_labelled_leaves_nothing() -> None:
    pair = random_pair(5)
    nothing = replace(
        pair.true,
        joints_valid=torch.zeros_like(pair.true.joints_valid),
        vertices_valid=torch.zeros_like(pair.true.vertices_valid),
    )
    assert not breakdowns("interhand26m_interwild", Pair(pair.predicted, nothing))


def share_of_a_process(count: int) -> list[np.ndarray]:
    """Process r of `count` gets every count-th image from r on; the last one gets none."""
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    errors, pair = HandErrors(21), random_pair(6)
    if rank < count - 1:
        index = torch.arange(rank, len(pair), count - 1)
        errors.update(
            root_relative(Pair(pair.predicted.take(index), pair.true.take(index)), "joints")
        )
    found = [x.numpy() for x in errors.compute()]
    torch.distributed.destroy_process_group()
    return found


def test_processes_agree() -> None:
    alone = HandErrors(21)
    alone.update(root_relative(random_pair(6), "joints"))
    totals, counts, hand_totals, _ = (x.numpy() for x in alone.compute())
    for answer in together(3, share_of_a_process, 3):
        assert not isinstance(answer, str), answer
        assert answer[0] == pytest.approx(totals, rel=1e-12)
        assert (answer[1] == counts).all()
        assert np.sort(answer[2], 0) == pytest.approx(np.sort(hand_totals, 0), rel=1e-12)


def test_words_come_from_the_parts() -> None:
    procrustes = PROTOCOLS["freihand"].columns[2].alignment
    assert label_of(procrustes) == "similarity (reflections)"
    assert label_of(absolute) == "absolute"
    assert meaning_of(procrustes) == meaning_of(similarity)
    assert meaning_of(absolute) == "As predicted, in the camera's frame."
