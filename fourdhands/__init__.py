"""Two-hand 3D reconstruction over time, from ordinary video."""

import importlib
from typing import Any

from fourdhands.torchvision_ops import ensure_torchvision_importable

__version__ = "0.1.0"
__all__ = ["__version__", "load_motion_prior", "load_predictor"]
_LOADERS = {
    "load_motion_prior": "fourdhands.export.motion_prior",
    "load_predictor": "fourdhands.export.predictor",
}

ensure_torchvision_importable()


def __getattr__(name: str) -> Any:
    """`load_predictor` and `load_motion_prior`, whose modules are imported when asked for."""
    if name in _LOADERS:
        return getattr(importlib.import_module(_LOADERS[name]), name)
    raise AttributeError(f"module 'fourdhands' has no attribute {name!r}")
