"""Where each token looks: direction maps (DaHyF equations 1-5), fused into the tokens."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from fourdhands.geometry.crop import patch_centres, side_mirrored
from fourdhands.structures import Camera


@dataclass(frozen=True)
class DirectionConfig:
    """Direction map.

    Attributes:
        kind: 'global', viewing directions in the camera of the full image (GDM); 'local', rows and
            columns of the crop alone (LDM, the alternative of DaHyF's ablation).
    """

    kind: Literal["global", "local"] = "global"


def global_direction_map(bbox: Tensor, camera: Camera, grid: tuple[int, int]) -> Tensor:
    """Viewing directions of the tokens' centres (eq. 1-5), (P - O) / f.

    Each axis has its own scale and focal length, and O is the true principal point. What a left
    crop shows is mirrored about it, so a mirrored scene gives the other hand's map.

    Args:
        bbox: (..., S, 4) regions of the crops in the full image.
        camera: of the full image, dimensions (...).
        grid: rows and columns of tokens.

    Returns:
        (..., S, rows * columns, 2): tangents of the angles to the optical axis, x and y.
    """
    intrinsics = camera.intrinsics[..., None, :, :]
    focal = torch.stack((intrinsics[..., 0, 0], intrinsics[..., 1, 1]), -1)
    x, y = ((bbox[..., :2] - intrinsics[..., :2, 2]) / focal).unbind(-1)
    x = torch.where(side_mirrored(bbox), -x, x)
    return patch_centres(torch.cat((torch.stack((x, y), -1), bbox[..., 2:] / focal), -1), grid)


def local_direction_map(bbox: Tensor, grid: tuple[int, int]) -> Tensor:
    """Places of the tokens in their own crop, which spans -1 to 1: (..., S, rows * columns, 2)."""
    return patch_centres(bbox.new_tensor((0.0, 0.0, 2.0, 2.0)).expand_as(bbox), grid)


class DirectionAwareTokens(nn.Module):
    """F_m: the tokens and the map, its x and y repeated to as many channels, projected to C."""

    def __init__(self, config: DirectionConfig, dim: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.kind, self.grid = config.kind, grid
        self.projection = nn.Linear(2 * dim, dim)
        with torch.no_grad():  # start from the tokens as they are
            self.projection.weight[:, :dim] = torch.eye(dim)
            self.projection.bias.zero_()

    def forward(self, tokens: Tensor, bbox: Tensor, camera: Camera) -> Tensor:
        """Fuse.

        Args:
            tokens: (B, T, S, N, C).
            bbox: (B, T, S, 4).
            camera: of the full image, dimensions (B, T).

        Returns:
            (B, T, S, N, C).
        """
        directions = (
            global_direction_map(bbox, camera, self.grid)
            if self.kind == "global"
            else local_direction_map(bbox, self.grid)
        )
        repeated = directions.repeat_interleave(tokens.shape[-1] // 2, -1).to(tokens)
        return self.projection(torch.cat((tokens, repeated), -1))


class DirectionlessTokens(nn.Module):
    """Tokens without a direction map."""

    def forward(self, tokens: Tensor, bbox: Tensor, camera: Camera) -> Tensor:
        """Return the tokens as they are."""
        return tokens
