"""Figures of several processes with uneven shares are those of one."""

import numpy as np
import pytest
import torch
import torch.distributed as dist

from fourdhands.evaluation.benchmark import score
from fourdhands.evaluation.protocols import PROTOCOLS
from fourdhands.evaluation.samples import Pair
from tests.helpers.processes import together
from tests.helpers.samples import random_pair, without

COUNT = 23


def pair_of(name: str) -> Pair:
    pair = random_pair(3, COUNT)
    return pair if PROTOCOLS[name].complete == "images" else without(pair, seed=4)


def shares(pair: Pair, count: int) -> list[torch.Tensor]:
    """Whole sequences to each; of three processes the last has nothing."""
    owner = pair.true.sequence.clamp_max(1) % count
    return [(owner == rank).nonzero()[:, 0] for rank in range(count)]


def score_shares() -> dict[str, dict[str, float]]:
    dist.init_process_group("gloo")
    try:
        figures = {}
        for name in PROTOCOLS:
            pair = pair_of(name)
            index = shares(pair, dist.get_world_size())[dist.get_rank()]
            figures[name] = score(PROTOCOLS[name], pair.take(index), any_count=True)
        return figures
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("count", [2, 3])
def test_processes_agree(count: int) -> None:
    sizes = [len(share) for share in shares(random_pair(3, COUNT), count)]
    assert len(set(sizes)) == count and (count == 2 or not sizes[2])
    alone = {name: score(PROTOCOLS[name], pair_of(name), any_count=True) for name in PROTOCOLS}
    for answer in together(count, score_shares):
        assert isinstance(answer, dict), answer
        for name, figures in answer.items():
            assert figures == pytest.approx(alone[name], rel=1e-9, abs=1e-12, nan_ok=True), name
    assert sum(np.isfinite(v) for one in alone.values() for v in one.values()) > 50


def nothing() -> str:
    dist.init_process_group("gloo")
    try:
        score(PROTOCOLS["h2o"], random_pair(3, 2).take(torch.arange(0)), any_count=True)
    except ValueError as error:
        return str(error)
    finally:
        dist.destroy_process_group()
    return ""


def test_processes_without_any_image_say_so() -> None:
    assert all("empty" in answer for answer in together(2, nothing))
