"""Two-hand 3D reconstruction over time, from ordinary video."""

import importlib
from typing import Any

from fourdhands.torchvision_ops import ensure_torchvision_importable

__version__ = "0.1.0"
__all__ = ["__version__", "load_predictor"]

ensure_torchvision_importable()


def __getattr__(name: str) -> Any:
    """`fourdhands.load_predictor`, whose module is imported when it is first asked for."""
    if name == "load_predictor":
        return importlib.import_module("fourdhands.export.predictor").load_predictor
    raise AttributeError(f"module 'fourdhands' has no attribute {name!r}")
