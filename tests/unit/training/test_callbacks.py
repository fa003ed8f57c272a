"""The callbacks by themselves: what they refuse, when they stop."""

import os
import signal
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fourdhands.hands.mano import HandModel
from fourdhands.structures import ClipBatch, ClipMeta
from fourdhands.training.callbacks import FiniteLossGuard, Stopper, Throughput
from tests.helpers.batches import random_batch


@pytest.fixture(scope="module")
def batch() -> ClipBatch:
    meta = tuple(ClipMeta("set", key, "sequence", "camera", 30.0, (0,)) for key in ("one", "two"))
    return replace(random_batch(HandModel.open(), frames=1), meta=meta)


def trainer(**state: Any) -> Any:
    strategy = SimpleNamespace(reduce_boolean_decision=lambda decision, all: decision)
    state = {"accumulate_grad_batches": 1, "global_step": 1, "world_size": 1} | state
    return SimpleNamespace(should_stop=False, strategy=strategy, **state)


def losses(total: float, joints: float) -> dict[str, Any]:
    return {"loss": torch.tensor(total), "terms": {"joints": torch.tensor(joints)}}


def test_a_bad_loss_is_found_at_the_next_look_and_named(batch):
    guard = FiniteLossGuard(every=3)
    inf = float("inf")
    guard.on_train_batch_end(trainer(global_step=1), None, losses(1.0, 1.0), batch, 0)
    guard.on_train_batch_end(trainer(global_step=2), None, losses(inf, inf), batch, 1)
    with pytest.raises(
        ValueError, match=r"step 2 is not finite \(total = inf, joints = inf\); .*/one, .*/two"
    ):
        guard.on_train_batch_end(trainer(global_step=3), None, losses(1.0, 1.0), batch, 2)


def test_nothing_is_saved_after_a_bad_loss(batch):
    guard = FiniteLossGuard(every=100)
    guard.on_train_batch_end(trainer(), None, losses(float("nan"), 1.0), batch, 0)
    with pytest.raises(ValueError, match="total = nan"):
        guard.on_save_checkpoint(trainer(), None, {})


def test_runs_end_at_the_last_step_and_only_between_steps(batch):
    stopper = Stopper(max_steps=5, max_minutes=None)
    for step, index, accumulate, expected in [(4, 3, 1, False), (5, 4, 1, True), (5, 4, 2, False)]:
        state = trainer(global_step=step, accumulate_grad_batches=accumulate)
        stopper.on_train_batch_end(state, None, None, batch, index)
        assert state.should_stop is expected


def test_time_runs_out(batch):
    stopper = Stopper(max_steps=5, max_minutes=0.0)
    stopper.on_train_start(trainer(), None)
    state = trainer()
    stopper.on_train_batch_end(state, None, None, batch, 0)
    assert state.should_stop


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_insists(batch, number):
    stopper = Stopper(max_steps=5, max_minutes=None)
    before = signal.getsignal(number)
    with stopper.listening():
        os.kill(os.getpid(), number)
        state = trainer()
        stopper.on_train_batch_end(state, None, None, batch, 0)
        assert state.should_stop
        with pytest.raises(SystemExit, match=str(128 + number)):
            stopper.leave_if_asked()
        with pytest.raises(SystemExit, match=str(128 + number)):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_throughput_counts_clips(batch, monkeypatch):
    seconds = iter([0.0, 1.0, 3.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(seconds))
    logged: list[float] = []
    module = SimpleNamespace(log=lambda name, rate, batch_size: logged.append(rate))
    throughput = Throughput(window=10)
    for index in range(3):
        throughput.on_train_batch_end(trainer(world_size=3), module, None, batch, index)
    assert logged == [6.0, 4.0]
