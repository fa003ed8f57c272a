"""AP of hands in photographs against a slow program after COCO's, closed forms, and laws."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fourdhands.evaluation.alignments import detections
from fourdhands.evaluation.benchmark import score
from fourdhands.evaluation.keypoint_precision import HAND_SIGMAS, KeypointPrecision
from fourdhands.evaluation.protocols import PROTOCOLS
from fourdhands.evaluation.samples import Pair
from fourdhands.skeleton import Side
from tests.helpers.samples import random_pair

PROTOCOL = PROTOCOLS["coco_wholebody"]


def crowded(seed: int, count: int = 40, images: int = 8) -> Pair:
    """Persons whose hands lie so close together in a photograph that they are confused."""
    rng = np.random.default_rng(seed)
    pair = random_pair(seed, count)
    hand = torch.from_numpy(rng.uniform(0, 30, (1, 2, 21, 2)))
    centre = torch.from_numpy(rng.uniform(0, 60, (count, 1, 1, 2)))
    labels = torch.from_numpy(rng.random((count, 2, 21)) > 0.3)
    labels &= torch.from_numpy(rng.random((count, 2, 1)) > 0.2)
    noise = rng.normal(0, 6, (count, 2, 1, 2)) + rng.normal(0, 1, (count, 2, 21, 2))
    found = torch.from_numpy(rng.random((count, 2, 1)) > 0.1)
    true = replace(
        pair.true,
        joints_2d=hand + centre,
        joints_2d_valid=labels,
        frame=torch.from_numpy(rng.integers(0, images, count)),
        area=torch.from_numpy(rng.uniform(1e3, 2e4, count)),
    )
    predicted = replace(
        true,
        joints_2d=true.joints_2d + torch.from_numpy(noise),
        joints_2d_valid=found.expand(count, 2, 21),
        handedness=torch.from_numpy(rng.random((count, 2))),
    )
    return Pair(predicted, true)


def figures(pair: Pair) -> dict[str, float]:
    return score(PROTOCOL, pair, any_count=False)


# ---- a slow program ------------------------------------------------------------------------------


def similarity(pair: Pair, one: int, other: int, sides: list[int]) -> float:
    """OKS of the prediction for one person to another's labels."""
    terms = []
    found, labels = pair.predicted.joints_2d[one].numpy(), pair.true.joints_2d[other].numpy()
    for s in sides:
        for j in np.flatnonzero(pair.true.joints_2d_valid[other, s].numpy()):
            apart = np.sum((found[s, j] - labels[s, j]) ** 2)
            spread = (2 * HAND_SIGMAS[j]) ** 2 * 2 * float(pair.true.area[other])
            terms.append(np.exp(-apart / spread))
    return float(np.mean(terms))


def precision_and_recall(
    pair: Pair, sides: list[int], least: float, known: dict[tuple[int, int], float]
) -> tuple[float, float]:
    people = [n for n in range(len(pair)) if pair.true.joints_2d_valid[n, sides].any()]
    sure = {n: float(pair.predicted.handedness[n, sides].max()) for n in people}
    hits: list[tuple[float, bool]] = []
    for image in sorted({int(pair.true.frame[n]) for n in people}):
        here = [n for n in people if pair.true.frame[n] == image]
        found = [n for n in here if pair.predicted.joints_2d_valid[n, sides].any()]
        left = set(here)
        for n in sorted(found, key=lambda n: -sure[n])[:20]:
            for m in here:
                if (n, m) not in known:
                    known[n, m] = similarity(pair, n, m, sides)
            near = {m: known[n, m] for m in left}
            best = max(near, key=lambda m: near[m], default=None)
            hit = best is not None and near[best] >= least
            if hit:
                left.remove(best)
            hits.append((sure[n], hit))
    hits.sort(key=lambda one: -one[0])
    curve = []
    for k in range(1, len(hits) + 1):
        right = sum(hit for _, hit in hits[:k])
        curve.append((right / len(people), right / k))
    best_after = [
        max([precision for recall, precision in curve if recall >= wanted], default=0.0)
        for wanted in np.linspace(0, 1, 101)
    ]
    return float(np.mean(best_after)), curve[-1][0]


@pytest.mark.parametrize("images", [8, 1])
def test_cocos_program(images: int) -> None:
    pair = crowded(0, images=images)  # in one photograph of 40 half of the persons are too many
    found = figures(pair)
    for name, sides in (("left", [1]), ("right", [0]), ("both", [0, 1])):
        known: dict[tuple[int, int], float] = {}
        limits = np.linspace(0.5, 0.95, 10)
        results = [precision_and_recall(pair, sides, limit, known) for limit in limits]
        expected = {
            "ap": np.mean([precision for precision, _ in results]),
            "ap50": results[0][0],
            "ap75": results[5][0],
            "ar": np.mean([recall for _, recall in results]),
        }
        assert expected["ap50"] > 0.02
        for key, value in expected.items():
            assert found[f"{name}_{key}"] == pytest.approx(value, rel=1e-9)


# ---- closed forms and laws -----------------------------------------------------------------------


def test_one_hand_off_by_a_known_distance() -> None:
    """Every joint is off by its own spread times d: OKS is exp(-d^2 / 2)."""
    pair = crowded(1, 1)
    true = replace(pair.true, joints_2d_valid=torch.ones(1, 2, 21, dtype=torch.bool))
    spread = 2 * torch.tensor(HAND_SIGMAS).double() * true.area.sqrt()
    for oks, expected in ((0.951, 1.0), (0.76, 0.6), (0.501, 0.1), (0.499, 0.0)):
        off = torch.stack((spread * np.sqrt(-2 * np.log(oks)), torch.zeros(21)), -1)
        moved = replace(true, joints_2d=true.joints_2d + off)
        found = figures(Pair(moved, true))
        assert found["left_ap"] == pytest.approx(expected) == found["left_ar"], oks
        assert found["both_ap50"] == float(oks > 0.5)


def test_a_sure_mistake_costs_more_than_an_unsure_one() -> None:
    pair = crowded(2, 2)
    true = replace(pair.true, joints_2d_valid=torch.ones(2, 2, 21, dtype=torch.bool))
    wrong = true.joints_2d + torch.tensor((0.0, 1e4)).view(2, 1, 1, 1)
    for surer, expected in ((0, 51 / 101), (1, 0.5 * 51 / 101)):
        sure = torch.full((2, 2), 0.5)
        sure[surer] = 0.9
        found = figures(Pair(replace(true, joints_2d=wrong, handedness=sure), true))
        assert found["right_ap"] == pytest.approx(expected) and found["right_ar"] == 0.5


def test_what_is_not_labelled_does_not_count() -> None:
    pair = crowded(3)
    alone = ~pair.true.joints_2d_valid[:, Side.LEFT].any(-1)
    assert alone.any()
    other = pair.predicted.joints_2d.clone()
    other[alone, Side.LEFT] += 1e4
    assert figures(Pair(replace(pair.predicted, joints_2d=other), pair.true)) == figures(pair)
    nothing = replace(pair.true, joints_2d_valid=torch.zeros_like(pair.true.joints_2d_valid))
    with pytest.raises(ValueError, match="no label of anything that COCO"):
        figures(Pair(pair.predicted, nothing))
    missed = replace(pair.predicted, joints_2d_valid=torch.zeros_like(nothing.joints_2d_valid))
    assert set(figures(Pair(missed, pair.true)).values()) == {0.0}


def test_neither_the_order_nor_the_cut_matters() -> None:
    pair = crowded(4)
    mixed = torch.randperm(len(pair), generator=torch.Generator().manual_seed(0))
    again = Pair(pair.predicted.take(mixed), pair.true.take(mixed))
    assert figures(again) == pytest.approx(figures(pair), rel=1e-12)
    metric = KeypointPrecision((Side.LEFT,))
    for piece, _ in again.chunks(7, 0):
        metric.update(detections(piece))
    assert float(metric.compute()[0]) == pytest.approx(figures(pair)["left_ap"], rel=1e-12)
    metric.reset()
    metric.update(detections(next(again.chunks(7, 0))[0]))
    assert metric.compute().isfinite().all()


def test_a_person_without_area_is_refused() -> None:
    pair = crowded(5)
    with pytest.raises(ValueError, match=r"no area of 'sequence/0/\d+'"):
        figures(Pair(pair.predicted, replace(pair.true, area=torch.zeros(len(pair)))))
