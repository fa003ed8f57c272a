"""What holds for the figures of every benchmark, whatever it counts."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from fourdhands.evaluation import alignments, benchmark
from fourdhands.evaluation.benchmark import score
from fourdhands.evaluation.protocols import PROTOCOLS, Column
from fourdhands.evaluation.samples import HandSamples, Pair
from tests.helpers.clips import random_rotations
from tests.helpers.samples import perturbed, random_truth, without

Figures = dict[str, float]
COUNT = 26
RELATIVE = 1e-9

RIGHT_HANDED = {"rrve_mm"}
"""Relative to the right wrist."""
FROM_ORIGIN = {"hic": {"mrrpe_mm"}}
"""A hand without labels counts as if it were where the camera is."""

every_protocol = pytest.mark.parametrize("name", PROTOCOLS)


def pair_for(name: str, *, noise: float = 1.0) -> Pair:
    """Hands of one or both sides in sequences; what a benchmark's labels may lack is lacking.

    Args:
        name: of the protocol.
        noise: of the prediction, against the usual 4 mm and what else is wrong.
    """
    rng = np.random.default_rng(1)
    kinds = np.arange(COUNT) % 4  # right, left, both, both
    there = torch.from_numpy(np.stack((kinds != 1, kinds != 0), 1))
    true = random_truth(rng, COUNT)
    pixels = torch.from_numpy(rng.uniform(100, 300, (COUNT, 2, 21, 2)))
    true = replace(
        true,
        joints=true.joints * there[..., None, None],
        joints_valid=true.joints_valid & there[..., None],
        vertices=true.vertices * there[..., None, None],
        vertices_valid=there,
        joints_2d=pixels,
        joints_2d_valid=there[..., None].expand(-1, -1, 21),
        handedness=there.double(),
        frame=torch.arange(COUNT),
        area=torch.full((COUNT,), 4e4).double(),
    )
    found = perturbed(rng, true)
    wrong = torch.from_numpy(rng.normal(0, 4, pixels.shape))
    predicted = replace(
        found,
        joints=true.joints + noise * (found.joints - true.joints),
        vertices=true.vertices + noise * (found.vertices - true.vertices),
        joints_2d=pixels + noise * wrong,
        handedness=torch.where(there, 0.9, 0.1).double(),
    )
    pair = Pair(predicted, true)
    return pair if PROTOCOLS[name].complete == "images" else without(pair, seed=2)


def figures(name: str, pair: Pair) -> Figures:
    return score(PROTOCOLS[name], pair, any_count=True)


def mapped(samples: HandSamples, points: Callable[[Tensor], Tensor]) -> HandSamples:
    return replace(samples, joints=points(samples.joints), vertices=points(samples.vertices))


def columns(name: str, *ways: Callable[..., object]) -> set[str]:
    """Keys of the columns that lay predictions over the truth in one of some ways."""
    return {
        column.key
        for column in PROTOCOLS[name].columns
        if getattr(column.alignment, "func", column.alignment) in ways
    }


def is_error(column: Column) -> bool:
    """Whether small is good: what has a unit."""
    return column.name.endswith(")")


def turn() -> Tensor:
    matrix = torch.from_numpy(random_rotations(np.random.default_rng(7), 1)[0]).double()
    return torch.linalg.qr(matrix)[0] * torch.linalg.qr(matrix)[0].det()


def same(found: Figures, expected: Figures, keys: set[str], relative: float = RELATIVE) -> None:
    for key in keys:
        assert found[key] == pytest.approx(expected[key], rel=relative, abs=1e-9, nan_ok=True), key


@every_protocol
def test_what_an_alignment_takes_away_does_not_count(name: str) -> None:
    pair, centre = pair_for(name), torch.tensor((0.1, -0.2, 0.6)).double()
    before = figures(name, pair)
    similar = columns(name, alignments.similarity)
    scaled = similar | columns(name, alignments.scale_translation, alignments.bone_scaled)
    relative = scaled | columns(
        name, alignments.root_relative, alignments.accelerations, alignments.between_wrists
    )
    rotation = turn()
    for change, kept in (
        (lambda points: points @ rotation.mT, similar),
        (lambda points: 1.3 * (points - centre), scaled),
        (lambda points: points + centre, relative),
    ):
        after = figures(name, Pair(mapped(pair.predicted, change), pair.true))
        same(after, before, kept, 1e-7)
        moved = {key for key in columns(name, alignments.absolute) if before[key] > 0.05}
        for key in moved:
            assert after[key] != pytest.approx(before[key], rel=1e-3), key


@every_protocol
def test_the_world_may_be_turned_moved_and_mirrored(name: str) -> None:
    pair, rotation = pair_for(name), turn()
    before = figures(name, pair)
    sees = columns(name, alignments.back_projected, alignments.between_back_projected_wrists)
    sees |= FROM_ORIGIN.get(name, set())
    shift = torch.tensor((0.05, 0.02, -0.1)).double()
    mirror = torch.tensor((-1.0, 1.0, 1.0)).double()
    for change, kept in (
        (lambda points: points @ rotation.mT + shift, before.keys() - sees),
        (lambda points: points * mirror, before.keys()),
    ):
        after = figures(name, pair_of(pair, partial(mapped, points=change)))
        same(after, before, set(kept), 1e-7)


def pair_of(pair: Pair, change: Callable[[HandSamples], HandSamples]) -> Pair:
    return Pair(change(pair.predicted), change(pair.true))


def swapped(samples: HandSamples) -> HandSamples:
    sided = ("joints", "vertices", "joints_2d")
    names = (*sided, *(f"{one}_valid" for one in sided), "handedness")
    return replace(samples, **{one: getattr(samples, one).flip(1) for one in names})


@every_protocol
def test_hands_that_change_sides_change_figures(name: str) -> None:
    pair = pair_for(name)
    before, after = figures(name, pair), figures(name, pair_of(pair, swapped))
    uneven = columns(name, alignments.between_back_projected_wrists)  # takes the right hand's depth
    for key in before.keys() - uneven - RIGHT_HANDED:
        words = {"right": "left", "left": "right"}
        other = "_".join(words.get(word, word) for word in key.split("_"))
        assert after[other] == pytest.approx(before[key], rel=RELATIVE, nan_ok=True), key


@every_protocol
def test_neither_order_nor_names_nor_chunks_matter(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = pair_for(name)
    before = figures(name, pair)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(COUNT, generator=generator)

    def renamed(samples: HandSamples) -> HandSamples:
        mixed = samples.take(order)
        names = tuple(f"{one} again" for one in mixed.names)
        return replace(mixed, sequence=-5 * mixed.sequence, frame=mixed.frame + 100, names=names)

    same(figures(name, pair_of(pair, renamed)), before, set(before))
    for size in (1, 7):
        monkeypatch.setattr(benchmark, "CHUNK", size)
        same(figures(name, pair), before, set(before))


@every_protocol
def test_the_truth_has_no_error_and_noise_makes_it_worse(name: str) -> None:
    levels = [figures(name, pair_for(name, noise=noise)) for noise in (0.0, 0.5, 1.0, 2.0)]
    for column in PROTOCOLS[name].columns:
        values = [level[column.key] for level in levels]
        if column.alone or column.key in FROM_ORIGIN.get(name, ()) or np.isnan(values).all():
            continue
        if is_error(column):
            assert values[0] == pytest.approx(0, abs=1e-4), column.key
            assert values == sorted(values) and values[3] > values[1], column.key
        else:  # the first of the hundred thresholds of a curve is 0, and alignment rounds
            assert 0.994 < values[0] <= 1 + RELATIVE, column.key
            # handedness was told rightly all the time
            assert values == sorted(values, reverse=True), column.key


@every_protocol
def test_an_image_without_labels_does_not_count(name: str) -> None:
    pair = pair_for(name)
    one = pair_of(pair, partial(HandSamples.take, index=torch.tensor([4])))

    def nothing(samples: HandSamples) -> HandSamples:
        return replace(
            samples,
            sequence=samples.sequence + 99,
            joints_valid=torch.zeros_like(samples.joints_valid),
            vertices_valid=torch.zeros_like(samples.vertices_valid),
            joints_2d_valid=torch.zeros_like(samples.joints_2d_valid),
            handedness=torch.zeros_like(samples.handedness),
            names=("nothing",),
        )

    def longer(some: HandSamples, more: HandSamples) -> HandSamples:
        return replace(HandSamples.cat((some, nothing(more))), names=(*some.names, "nothing"))

    whole = Pair(longer(pair.predicted, one.predicted), longer(pair.true, one.true))
    if PROTOCOLS[name].complete == "images":
        with pytest.raises(ValueError, match="a hand in every image; 'nothing' has no labels"):
            figures(name, whole)
        return
    before, after = figures(name, pair), figures(name, whole)
    same(after, before, set(before) - {"handedness"})
