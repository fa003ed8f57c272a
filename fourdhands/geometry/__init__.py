"""Rotations, cameras, crops, alignment: pure functions over any leading dimensions."""
