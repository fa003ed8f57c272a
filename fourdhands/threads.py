"""One thread for a process that is one of many: the processes are the parallelism.

numpy's linear algebra keeps threads that spin for a while after each call; a worker that inverts
one small matrix a crop would keep a second core busy with nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import torch
from threadpoolctl import threadpool_limits


def use_one_thread() -> None:
    """From now on in this process: torch, OpenCV, and the libraries below numpy and scipy."""
    threadpool_limits(1)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """The same for a while."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    with threadpool_limits():  # notes what there was, and brings it back
        use_one_thread()
        try:
            yield
        finally:
            torch.set_num_threads(before[0])
            cv2.setNumThreads(before[1])
