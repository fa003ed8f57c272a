"""Tasks shared out among processes that count what they have done.

For whatever writes shards: the processes are single-threaded, one a core, and end with their
parent however it ends.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized
from typing import Any, Final, TypeVar

import cv2
import torch
from tqdm import tqdm

THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
POLL_SECONDS: Final = 0.2
R = TypeVar("R")

_done: "Synchronized[int] | None" = None
_bar: "tqdm[Any] | None" = None


def run_tasks(
    function: Callable[..., R],
    tasks: Sequence[tuple[Any, ...]],
    workers: int,
    bar: "tqdm[Any]",
    *,
    here: bool = False,
) -> list[R]:
    """Call a function once for each task, in no order.

    Args:
        function: of a module; it may call `count_done`.
        tasks: its arguments, all of which can be pickled.
        workers: processes.
        bar: moves as the function counts.
        here: whether one worker may be this process, which spares the seconds that another takes to
            start. Torch and OpenCV have one thread in either, so that results are the same; numpy's
            own threads are beyond reach here, so work with large arrays of numpy had better not.

    Returns:
        What the function returned, in the order of the tasks.

    Raises:
        OSError: a process died.
        Exception: whatever the function raises.
    """
    workers = min(workers, len(tasks))
    if workers > 1 or not here:
        return _run_in_processes(function, tasks, workers, bar)
    global _bar
    threads = torch.get_num_threads(), cv2.getNumThreads()
    _bar = bar
    try:
        _one_thread()
        return [function(*task) for task in tasks]
    finally:
        _bar = None
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])


def count_done(amount: int) -> None:
    """Say, from within a task, that so much more is done."""
    if _bar is not None:
        _bar.update(amount)
    if _done is not None:
        with _done.get_lock():
            _done.value += amount


def _run_in_processes(
    function: Callable[..., R], tasks: Sequence[tuple[Any, ...]], workers: int, bar: "tqdm[Any]"
) -> list[R]:
    context = multiprocessing.get_context("spawn")
    done_by_all = context.Value("q", 0)
    before = bar.n
    with (
        _single_threaded(),
        ProcessPoolExecutor(workers, context, _start_worker, (done_by_all,)) as pool,
    ):
        futures = [pool.submit(function, *task) for task in tasks]
        pending = set(futures)
        try:
            while pending:
                done, pending = wait(pending, POLL_SECONDS, FIRST_COMPLETED)
                for future in done:
                    future.result()
                bar.update(before + done_by_all.value - bar.n)
            return [future.result() for future in futures]
        except BrokenProcessPool:
            raise OSError(
                "a worker process died, perhaps for want of memory; what is finished is kept: "
                "run the same command again, or with fewer workers"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Let the processes started meanwhile use one thread each: they are one per core already."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _start_worker(done: "Synchronized[int]") -> None:
    global _done
    _done = done
    _one_thread()
    threading.Thread(target=_follow_parent, daemon=True).start()


def _one_thread() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def _follow_parent() -> None:
    """End with the parent, even if it was killed: nobody else would ever end this process."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
