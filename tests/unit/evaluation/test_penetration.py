"""Penetration of predicted hands against the slow measurement, and which images count."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fourdhands.data.synthetic.contact import measure_separation
from fourdhands.evaluation.benchmark import ProtocolMetrics
from fourdhands.evaluation.protocols import PROTOCOLS
from fourdhands.evaluation.samples import HandSamples, Pair
from fourdhands.hands.mano import HandModel
from tests.helpers.samples import random_truth
from tests.unit.data.test_synthetic_contact import posed_hands

MODEL = HandModel.open()


def hands(seed: int, count: int = 6) -> HandSamples:
    """Pairs of hands: in each other, but for the last, which are apart."""
    rng = np.random.default_rng(seed)
    vertices = posed_hands(MODEL, count, seed)
    vertices = vertices - vertices.mean(2, keepdims=True)
    vertices[:, 1] += rng.normal(0, 0.02, (count, 1, 3))
    vertices[-1, 1] += 0.5
    return replace(random_truth(rng, count), vertices=torch.from_numpy(vertices))


def figures(pair: Pair, chunk: int = 4) -> dict[str, float]:
    metrics = ProtocolMetrics(PROTOCOLS["interaction"])
    for piece, repeated in pair.chunks(chunk, 2):
        metrics.update(piece, repeated)
    return metrics.compute()


def pair_of(predicted: HandSamples, true: HandSamples | None = None) -> Pair:
    return Pair(predicted, true or predicted, MODEL.closed_faces)


def test_depth_by_the_slow_measurement() -> None:
    predicted = hands(0)
    faces = [side.numpy().astype(np.int32) for side in MODEL.closed_faces]
    depths = [
        measure_separation(right, faces[0], left, faces[1]).penetration
        for right, left in predicted.vertices.numpy()
    ]
    found = figures(pair_of(predicted))
    assert found["penetration_depth_mm"] == pytest.approx(1000 * np.mean(depths), rel=1e-9)
    assert found["penetration_depth_largest_mm"] == pytest.approx(1000 * max(depths), rel=1e-9)
    assert depths[-1] == 0 and min(depths[:-1]) > 0
    again = figures(pair_of(predicted), chunk=1)
    assert again == pytest.approx(found, rel=1e-12)


def test_volume_of_a_hand_in_itself_is_the_hands() -> None:
    predicted = hands(1, 2).take(torch.tensor([0]))
    vertices = predicted.vertices.clone()
    vertices[:, 1] = vertices[:, 0]
    same = Pair(*[replace(predicted, vertices=vertices)] * 2, MODEL.closed_faces[[0, 0]])
    a, b, c = (vertices[0, 0, MODEL.closed_faces[0, :, k]] for k in range(3))
    volume = float((a * b.cross(c, dim=-1)).sum() / 6) * 1e6
    found = figures(same)
    assert found["penetration_volume_cm3"] == pytest.approx(volume, rel=0.01)
    assert found["penetration_depth_mm"] < 1e-9  # no vertex lies inside: they lie on each other


def test_images_of_one_hand_do_not_count() -> None:
    predicted = hands(2)
    shown = predicted.handedness.clone()
    shown[:3, 1] = 0
    absent = replace(predicted, handedness=shown)
    expected = figures(pair_of(predicted.take(torch.arange(3, 6))))
    assert figures(pair_of(predicted, absent)) == pytest.approx(expected, rel=1e-12)
    nobody = replace(predicted, handedness=torch.zeros_like(shown))
    assert all(np.isnan(value) for value in figures(pair_of(predicted, nobody)).values())


def test_the_truth_needs_no_meshes_but_the_prediction_does() -> None:
    predicted = hands(3)
    bare = replace(predicted, vertices=predicted.vertices[:, :, :0])
    assert figures(pair_of(predicted, bare)) == figures(pair_of(predicted))
    with pytest.raises(ValueError, match="shows both hands, and not both have a predicted"):
        figures(pair_of(bare))
    there = predicted.vertices_valid.clone()
    there[4, 0] = False
    with pytest.raises(ValueError, match="'sequence/0/4' shows both"):
        figures(pair_of(replace(predicted, vertices_valid=there)))


def test_vertices_of_another_hand_model_are_refused() -> None:
    predicted = hands(4)
    mixed = torch.randperm(778, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=r"torn.*--mano"):
        figures(pair_of(replace(predicted, vertices=predicted.vertices[:, :, mixed])))
