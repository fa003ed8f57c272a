"""Weights, images and boxes that are the same everywhere: made of names."""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor


def uniform(name: str, shape: Sequence[int]) -> Tensor:
    """Numbers from -1 to 1; a bit generator's raw output never changes between versions."""
    raw = np.random.Philox(key=zlib.crc32(name.encode())).random_raw(int(np.prod(shape)))
    numbers = (raw >> np.uint64(40)).astype(np.float32) / np.float32(2**23) - np.float32(1)
    return torch.from_numpy(numbers.astype(np.float32)).reshape(*shape)


def weights_for(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """A state dict that no wrong mapping gets past: norms and biases are far from 1 and 0."""
    return {name: _weight(name, shape) for name, shape in shapes.items()}


def _weight(name: str, shape: Sequence[int]) -> Tensor:
    numbers = uniform(name, shape)
    if "norm" in name and name.endswith("weight"):
        return 1 + 0.2 * numbers
    if name.endswith("init_cam"):  # hands stand about half a metre away
        return torch.tensor([[9.0, 0.0, 0.0]]) + 0.05 * numbers
    if len(shape) >= 2 and "pos_embed" not in name and "init" not in name:
        fan_in = int(np.prod(shape[1:]))
        return numbers * (3 / fan_in) ** 0.5
    return 0.1 * numbers


def images(name: str, count: int) -> Tensor:
    """uint8 (count, 3, 256, 256): noise in coarse cells, as photographs have it."""
    cells = uniform(name, (count, 3, 32, 32)).repeat_interleave(8, -1).repeat_interleave(8, -2)
    fine = uniform(f"{name} fine", (count, 3, 256, 256))
    return ((0.4 * cells + 0.1 * fine + 0.5) * 255).round().clamp(0, 255).to(torch.uint8)


def boxes(name: str, count: int) -> Tensor:
    """Squares (count, 2, 4) of right and left hands: top left corner and sides, pixels."""
    numbers = uniform(name, (count, 2, 3))
    side = 150 + 50 * numbers[..., 2:]
    corner = torch.tensor([[300.0, 200.0], [380.0, 220.0]]) + 60 * numbers[..., :2]
    return torch.cat((corner, side, side), -1)
