"""Several processes that work together, as torchrun would start them, without importing anew."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

import torch

from fourdhands.training.runs import ReconstructionRun, train_reconstruction

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


def together(count: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """What a function of a module returns, or raises, in each of `count` processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    answers = _CONTEXT.SimpleQueue()
    processes = [
        _CONTEXT.Process(target=_answer, args=(answers, rank, count, port, function, args))
        for rank in range(count)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
    stuck = [process for process in processes if process.is_alive()]
    for process in stuck:
        process.kill()
    assert not stuck, "the processes wait for each other for ever"
    found = dict(answers.get() for _ in processes)
    return [found[rank] for rank in range(count)]


def train_together(run: ReconstructionRun, count: int) -> None:
    """Train in `count` processes."""
    for answer in together(count, train_reconstruction, run):
        assert answer is None, answer


def _answer(
    answers: Any, rank: int, count: int, port: int, function: Callable[..., Any], args: Any
) -> None:
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
    os.environ.update({name: str(value) for name, value in place.items()})
    try:
        answer = function(*args)
    except BaseException as error:
        answer = f"{type(error).__name__}: {error}"
    answers.put((rank, answer))
