"""Two-hand 3D reconstruction over time, from ordinary video."""

__version__ = "0.1.0"
