"""Shared by all tests."""

import os

# one thread for each process that runs tests side by side: more would wait for each other
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import fourdhands  # noqa: F401  (prepares torchvision before a test module imports Lightning)
