"""The 2D branch of DaHyF: joints as distributions (SimCC or heatmaps) and the hybrid feature."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from fourdhands.skeleton import NUM_JOINTS
from fourdhands.structures import AxisLogits, Camera, CellLogits, JointLogits

OCTAVES = 4
"""L of the positional encoding."""


@dataclass(frozen=True)
class Joints2dConfig:
    """The branch.

    Attributes:
        kind: 'simcc', a classifier for each axis; 'heatmap', a map at a quarter of the crop.
        bins_per_pixel: s, SimCC's bins for each pixel of the crop.
        channels: of the upsampled features.
        positional_encoding: whether the joints join the hybrid feature (DaHyF table 4: PE).
    """

    kind: Literal["simcc", "heatmap"] = "simcc"
    bins_per_pixel: int = 3
    channels: int = 128
    positional_encoding: bool = True


class Joints2dBranch(nn.Module):
    """2D joints from F_m, and with them the hybrid feature.

    Two upsamplings make 21 maps at a quarter of the crop, a classifier makes distributions of them.
    What is known of the joints, and the pooled tokens, then join the hand's fused feature.
    """

    def __init__(
        self,
        config: Joints2dConfig,
        token_dim: int,
        dim: int,
        grid: tuple[int, int],
        crop_size: tuple[int, int],
    ) -> None:
        super().__init__()
        self.grid = grid
        self.maps = nn.Sequential(
            *_twice_as_large(token_dim, config.channels),
            *_twice_as_large(config.channels, config.channels),
            nn.Conv2d(config.channels, NUM_JOINTS, 1),
        )
        height, width = (side * config.bins_per_pixel for side in crop_size)
        self.classifier = (
            AxisClassifier(16 * grid[0] * grid[1], height, width)
            if config.kind == "simcc"
            else CellClassifier()
        )
        self.hybrid = HybridFeature(config.positional_encoding, token_dim, dim)

    def forward(
        self, feature: Tensor, tokens: Tensor, hand_visible: Tensor, bbox: Tensor, camera: Camera
    ) -> tuple[Tensor, JointLogits | None]:
        """Find the joints and join them.

        Args:
            feature: (B, T, S, D) of the spatial fusion.
            tokens: (B, T, S, N, C), F_m.
            hand_visible: (B, T, S) bool.
            bbox: (B, T, S, 4).
            camera: of the full image, dimensions (B, T).

        Returns:
            The hybrid feature (B, T, S, D) and the joints' distributions, dimensions (B, T, S);
            zeros where a hand is not visible.
        """
        maps = self.maps(tokens.flatten(0, 2).mT.unflatten(-1, self.grid))
        logits: JointLogits = self.classifier(maps)
        logits = logits.map(lambda value: value.float().unflatten(0, tokens.shape[:3]))
        hybrid = self.hybrid(feature, tokens, logits.joints(), bbox, camera)

        def visible(values: Tensor) -> Tensor:
            missing = (1,) * (values.dim() - hand_visible.dim())
            return torch.where(hand_visible.view(*hand_visible.shape, *missing), values, 0.0)

        return visible(hybrid), logits.map(visible)


class WithoutJoints2d(nn.Module):
    """No 2D branch."""

    def forward(
        self, feature: Tensor, tokens: Tensor, hand_visible: Tensor, bbox: Tensor, camera: Camera
    ) -> tuple[Tensor, JointLogits | None]:
        """Return the feature as it is, and no joints."""
        return feature, None


def _twice_as_large(dim: int, channels: int) -> tuple[nn.Module, ...]:
    """Not batch norm: what one crop says must not depend on others, absent ones least of all."""
    return nn.ConvTranspose2d(dim, channels, 4, 2, 1), LayerNorm2d(channels), nn.GELU()


class AxisClassifier(nn.Module):
    """SimCC: each joint's map to bins of the x and of the y axis."""

    def __init__(self, cells: int, height: int, width: int) -> None:
        super().__init__()
        self.x, self.y = nn.Linear(cells, width), nn.Linear(cells, height)

    def forward(self, maps: Tensor) -> JointLogits:
        """(N, J, h, w) to N distributions."""
        flat = maps.flatten(2)
        return AxisLogits(x=self.x(flat), y=self.y(flat))


class CellClassifier(nn.Module):
    """Heatmaps: the maps are the logits."""

    def forward(self, maps: Tensor) -> JointLogits:
        """(N, J, h, w) to N distributions."""
        return CellLogits(cells=maps)


def positional_encoding(values: Tensor) -> Tensor:
    """gamma(p) = (sin 2^1 pi p, cos 2^1 pi p, ..., sin 2^L pi p, cos 2^L pi p), L = 4.

    Args:
        values: (..., D).

    Returns:
        (..., D * 2 L), the encodings of the first value first.
    """
    octaves = torch.arange(1, OCTAVES + 1, device=values.device)
    angles = values[..., None] * (math.pi * 2.0**octaves)
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(-3)


class HybridFeature(nn.Module):
    """Joins each hand's fused feature with its pooled F_m and the encoding of its 2D joints.

    The joints enter as tangents of their angles to the middle of the crop, mu = (J_2d - middle) / f
    with f in pixels of the crop: 21 x 2 x 8 = 336 numbers.
    """

    def __init__(self, encodes: bool, token_dim: int, dim: int) -> None:
        super().__init__()
        self.encodes = encodes
        joints = NUM_JOINTS * 2 * 2 * OCTAVES if self.encodes else 0
        self.mlp = nn.Sequential(
            nn.Linear(token_dim + joints, dim), nn.LayerNorm(dim), nn.GELU(), nn.Linear(dim, dim)
        )

    def forward(
        self, feature: Tensor, tokens: Tensor, joints: Tensor, bbox: Tensor, camera: Camera
    ) -> Tensor:
        """Join.

        Args:
            feature: (B, T, S, D) of the spatial fusion.
            tokens: (B, T, S, N, C), F_m.
            joints: (B, T, S, J, 2), fractions of the crop's width and height from its middle.
            bbox: (B, T, S, 4).
            camera: of the full image, dimensions (B, T).

        Returns:
            (B, T, S, D).
        """
        parts = [tokens.mean(-2)]
        if self.encodes:
            intrinsics = camera.intrinsics[..., None, :, :]
            focal = torch.stack((intrinsics[..., 0, 0], intrinsics[..., 1, 1]), -1)
            angles = joints * (bbox[..., 2:] / focal)[..., None, :]
            parts.append(positional_encoding(angles.flatten(-2)).to(tokens))
        return feature + self.mlp(torch.cat(parts, -1))
