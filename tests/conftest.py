"""Shared by all tests."""

import fourdhands  # noqa: F401  (prepares torchvision before a test module imports Lightning)
