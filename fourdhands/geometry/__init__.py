"""Rotations, cameras, crops and alignment: pure functions on tensors with leading batch dimensions."""
