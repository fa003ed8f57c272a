"""Two-hand 3D reconstruction over time, from ordinary video."""

from fourdhands.torchvision_ops import ensure_torchvision_importable

__version__ = "0.1.0"

ensure_torchvision_importable()
