"""Relation-aware two-hand tokenization (RAT), 4DHands equations 1-4.

Everything is computed in the frame of the hand's own crop. The left crop is mirrored, so the left
hand's boxes are mirrored too, and one function with one set of weights serves both sides.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from fourdhands.geometry.crop import patch_centres, side_mirrored
from fourdhands.skeleton import Side


@dataclass(frozen=True)
class RelationConfig:
    """Relation-aware tokenization. The second word of each choice is the released code's.

    Attributes:
        tau: sharpness of the distance map's sigmoid (eq. 2).
        hidden_dim: width of the MLP of eq. 4.
        patch_point: where a patch is (eq. 1): its true centre, or the corner 2i - W names.
        box_scale: what distances are divided by (eq. 2): both sides of the box, or its width.
        overlap_with: whose box the overlap map tests (eq. 3); a hand's own is a constant.
        features: 'paper', the maps of eq. 2 and 3 (5 numbers); 'released', the 11 of the released
            code, which needs the second word of the three choices above (see `released_map`).
        fusion: relations are concatenated with the tokens and projected, or added to them.
    """

    tau: float = 1.0
    hidden_dim: int = 128
    patch_point: Literal["centre", "corner"] = "centre"
    box_scale: Literal["sides", "width"] = "sides"
    overlap_with: Literal["other", "own"] = "other"
    features: Literal["paper", "released"] = "paper"
    fusion: Literal["concatenate", "add"] = "concatenate"

    def __post_init__(self) -> None:
        """Check what concerns several choices."""
        choices = (self.patch_point, self.box_scale, self.overlap_with)
        if self.features == "released" and choices != ("corner", "width", "own"):
            raise ValueError(
                "relation.features released: set patch_point: corner, box_scale: width and "
                "overlap_with: own, as the released code has them"
            )


def relation_map(
    own: Tensor, other: Tensor, grid: tuple[int, int], config: RelationConfig
) -> Tensor:
    """Distance and overlap maps of one hand towards the other (eq. 2 and 3).

    Args:
        own: (..., 4) box of the hand whose tokens are described.
        other: (..., 4) box of the other hand, in the same frame.
        grid: rows and columns of patches.
        config: tau and the choices.

    Returns:
        (..., rows * columns, 5): own to other (2), other to own (2), overlap (+1 / -1).
    """
    own_patch, other_patch = (_patches(box, grid, config.patch_point) for box in (own, other))
    difference = config.tau * (own_patch - other_patch)
    own_size, other_size = own[..., None, 2:], other[..., None, 2:]
    tested = other if config.overlap_with == "other" else own
    distance = (own_patch - tested[..., None, :2]).abs()
    inside = (distance <= tested[..., None, 2:] / 2).all(-1, keepdim=True)
    if config.box_scale == "width":
        own_size, other_size = own_size[..., :1], other_size[..., :1]
    own_to_other = torch.sigmoid(difference / own_size)
    other_to_own = torch.sigmoid(-difference / other_size)
    return torch.cat((own_to_other, other_to_own, inside.to(own) * 2 - 1), -1)


def released_map(
    own: Tensor, other: Tensor, is_left: Tensor, grid: tuple[int, int], tau: float
) -> Tensor:
    """The eleven relation features of the released code.

    With P_s the corners of the patches, c_s the box centres and w_s the sides of the square that
    the crop was cut from: sigmoids of tau (P_r - P_l) / w_r, tau (P_l - P_r) / w_l,
    tau (P_r - c_l) / w_r and tau (P_l - c_r) / w_l, in this order for either hand (the left one's
    in its mirrored frame); twice 0.01, where the overlap was meant; 0.01 on the right and -0.01 on
    the left.

    Args:
        own: (..., 4) box of the hand whose tokens are described.
        other: (..., 4) box of the other hand, in the same frame.
        is_left: bool, broadcastable to (...), whose tokens they are.
        grid: rows and columns of patches.
        tau: sharpness.

    Returns:
        (..., rows * columns, 11).
    """
    right = torch.where(is_left[..., None], other, own)
    left = torch.where(is_left[..., None], own, other)
    (p_r, p_l) = (_patches(box, grid, "corner") for box in (right, left))
    w_r, w_l = (box[..., None, 2:].amax(-1, keepdim=True) for box in (right, left))
    c_r, c_l = right[..., None, :2], left[..., None, :2]
    distances = ((p_r - p_l) / w_r, (p_l - p_r) / w_l, (p_r - c_l) / w_r, (p_l - c_r) / w_l)
    constant = torch.full_like(p_r, 0.01)
    side = torch.where(is_left[..., None, None], -constant[..., :1], constant[..., :1])
    return torch.cat((torch.sigmoid(tau * torch.cat(distances, -1)), constant, side), -1)


def _patches(bbox: Tensor, grid: tuple[int, int], point: Literal["centre", "corner"]) -> Tensor:
    """(..., rows * columns, 2)."""
    centres = patch_centres(bbox, grid)
    if point == "centre":
        return centres
    return centres - bbox[..., None, 2:] / (2 * bbox.new_tensor((grid[1], grid[0])))


def own_and_other_bbox(bbox: Tensor) -> tuple[Tensor, Tensor]:
    """Each hand's own and other box in its own crop's frame: (..., S, 4) to twice (..., S, 4).

    Mirroring is about x = 0; relations only depend on differences, so any axis would do.
    """
    mirrored = torch.cat((-bbox[..., :1], bbox[..., 1:]), -1)
    is_left = side_mirrored(bbox)[:, None]
    swapped = [Side.LEFT, Side.RIGHT]
    own = torch.where(is_left, mirrored, bbox)
    other = torch.where(is_left, mirrored[..., swapped, :], bbox[..., swapped, :])
    return own, other


class RelationAwareTokens(nn.Module):
    """F+ = project(F ⊕ R), R the MLP of the relation maps (eq. 4); R = 0 beside an absent hand."""

    def __init__(self, config: RelationConfig, dim: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.config, self.grid = config, grid
        self.mlp = nn.Sequential(
            nn.Linear(5 if config.features == "paper" else 11, config.hidden_dim),
            nn.LayerNorm(config.hidden_dim),
            nn.GELU(),
            nn.Linear(config.hidden_dim, dim),
        )
        self.fusion = _ConcatenateAndProject(dim) if config.fusion == "concatenate" else _Add()

    def forward(self, tokens: Tensor, bbox: Tensor, hand_visible: Tensor) -> Tensor:
        """Add each token's relation to the other hand.

        Args:
            tokens: (B, T, S, N, C).
            bbox: (B, T, S, 4).
            hand_visible: (B, T, S) bool.

        Returns:
            (B, T, S, N, C).
        """
        relation = self.mlp(self._map(bbox).to(next(self.mlp.parameters()).dtype))
        both = hand_visible.all(-1)[..., None, None, None]
        fused: Tensor = self.fusion(tokens, torch.where(both, relation, 0.0).to(tokens))
        return fused

    def _map(self, bbox: Tensor) -> Tensor:
        own, other = own_and_other_bbox(bbox)
        if self.config.features == "paper":
            return relation_map(own, other, self.grid, self.config)
        return released_map(own, other, side_mirrored(bbox), self.grid, self.config.tau)


class _ConcatenateAndProject(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.projection = nn.Linear(2 * dim, dim)
        with torch.no_grad():  # start from the backbone's tokens as they are
            self.projection.weight[:, :dim] = torch.eye(dim)
            self.projection.bias.zero_()

    def forward(self, tokens: Tensor, relation: Tensor) -> Tensor:
        projected: Tensor = self.projection(torch.cat((tokens, relation), -1))
        return projected


class _Add(nn.Module):
    def forward(self, tokens: Tensor, relation: Tensor) -> Tensor:
        return tokens + relation


class PlainTokens(nn.Module):
    """Tokens without relations ("w/o RAT")."""

    def forward(self, tokens: Tensor, bbox: Tensor, hand_visible: Tensor) -> Tensor:
        """Return the tokens as they are."""
        return tokens
