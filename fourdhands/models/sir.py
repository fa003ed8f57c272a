"""Spatio-temporal interaction reasoning (SIR), 4DHands section 1.2.

Masks reach attention: what is absent or padded is never looked at by anything that is seen.
"""

import math
from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from fourdhands.models.attention import QueryDecoder
from fourdhands.skeleton import NUM_SIDES


@dataclass(frozen=True)
class SpatialConfig:
    """Adaptive spatial fusion.

    Attributes:
        dim: width of the feature of a hand.
        encoder_depth: self-attention blocks over the tokens of both hands.
        encoder_heads: their heads.
        decoder_depth: layers of each hand's one-query decoder.
        decoder_heads: its heads, of head_dim each.
        head_dim: width of a decoder head.
        mlp_dim: width of the decoder's MLP.
        final_norm: whether the decoder ends in a norm; learning from scratch needs it.
        cross_hand: whether a hand's tokens see the other hand's (4DHands table 5: Cross).
    """

    dim: int = 256
    encoder_depth: int = 2
    encoder_heads: int = 4
    decoder_depth: int = 2
    decoder_heads: int = 4
    head_dim: int = 64
    mlp_dim: int = 512
    final_norm: bool = True
    cross_hand: bool = True


@dataclass(frozen=True)
class TemporalConfig:
    """Temporal fusion.

    Attributes:
        depth: layers of the temporal decoder.
        num_heads: its heads, of head_dim each.
        head_dim: width of a head.
        mlp_dim: width of its MLP.
        final_norm: whether it ends in a norm; learning from scratch needs it.
        window: None, each frame reads all frames, by their times; a number, it reads as many frames
            about it, by their places alone (see `WindowFusion`: the released code).
    """

    depth: int = 1
    num_heads: int = 4
    head_dim: int = 64
    mlp_dim: int = 512
    final_norm: bool = True
    window: int | None = None

    def __post_init__(self) -> None:
        """Check the range."""
        if self.window is not None and self.window < 1:
            raise ValueError(f"temporal.window is {self.window}, it has to be at least 1")


class SpatialFusion(nn.Module):
    """Tokens of both hands to one feature per hand and frame."""

    def __init__(self, config: SpatialConfig, token_dim: int) -> None:
        super().__init__()
        self.cross_hand = config.cross_hand
        self.encoder = nn.ModuleList(
            Block(token_dim, config.encoder_heads, mlp_ratio=1.0, norm_layer=nn.LayerNorm)
            for _ in range(config.encoder_depth)
        )
        self.query = nn.Parameter(torch.randn(1, 1, config.dim) * 0.02)
        self.decoder = QueryDecoder(
            dim=config.dim,
            context_dim=token_dim,
            depth=config.decoder_depth,
            num_heads=config.decoder_heads,
            head_dim=config.head_dim,
            mlp_dim=config.mlp_dim,
            final_norm=config.final_norm,
        )

    def forward(self, tokens: Tensor, hand_visible: Tensor) -> Tensor:
        """(B, T, S, N, C) and (B, T, S) bool to (B, T, S, D); zeros where no hand is visible."""
        clips, frames, _, count, _ = tokens.shape
        mixed = rearrange(tokens, "b t s n c -> (b t) (s n) c")
        mask = self._mask(hand_visible.flatten(0, 1), count)
        for block in self.encoder:
            mixed = block(mixed, attn_mask=mask)
        context = rearrange(mixed, "f (s n) c -> (f s) n c", n=count)
        feature = self.decoder(self.query.expand(context.shape[0], 1, -1), context)
        feature = rearrange(feature, "(b t s) 1 d -> b t s d", b=clips, t=frames)
        return torch.where(hand_visible[..., None], feature, 0.0)

    def _mask(self, hand_visible: Tensor, count: int) -> Tensor:
        """(F, S) to (F, 1, S N, S N): a token sees its own hand and, if present, the other one."""
        own = torch.eye(NUM_SIDES, dtype=torch.bool, device=hand_visible.device)[None]
        sees = own | (hand_visible[:, None, :] & self.cross_hand)
        return repeat(sees, "f q k -> f 1 (q n) (k m)", n=count, m=count)


class TemporalFusion(nn.Module):
    """One query per frame reads the features of all frames of its hand.

    Time enters as the rotary phase of queries and keys, in seconds, never in the values: only
    relative time matters, any frame rate will do, and equal frames give what one frame gives.
    """

    angular_frequency: Tensor

    def __init__(self, config: TemporalConfig, dim: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(dim) * 0.02)
        self.decoder = QueryDecoder(
            dim=dim,
            context_dim=dim,
            depth=config.depth,
            num_heads=config.num_heads,
            head_dim=config.head_dim,
            mlp_dim=config.mlp_dim,
            final_norm=config.final_norm,
        )
        periods = torch.logspace(math.log10(0.1), math.log10(20.0), config.head_dim // 2)
        self.register_buffer("angular_frequency", 2 * math.pi / periods, persistent=False)

    def forward(self, features: Tensor, times: Tensor, hand_visible: Tensor) -> Tensor:
        """Fuse over time.

        Args:
            features: (B, T, S, D).
            times: (B, T) seconds.
            hand_visible: (B, T, S) bool; a frame that is False here is seen by itself alone.

        Returns:
            (B, T, S, D).
        """
        sides = features.shape[2]
        context = rearrange(features, "b t s d -> (b s) t d")
        visible = rearrange(hand_visible, "b t s -> (b s) 1 t")
        mask = visible | torch.eye(features.shape[1], dtype=torch.bool, device=features.device)
        phase = repeat(times[..., None] * self.angular_frequency, "b t d -> (b s) t d", s=sides)
        fused = self.decoder(context + self.query, context, mask, mask, (phase, phase))
        return rearrange(fused, "(b s) t d -> b t s d", s=sides)


class WindowFusion(nn.Module):
    """Temporal fusion of the released code: a learned query reads the frames about each frame.

    A frame is known by its place in the window alone, a fixed sine embedding that is added to its
    feature. Windows that reach beyond the clip repeat its first or last frame, as the released demo
    does; what it takes in with every step, `window` frames a `gap` apart, is up to the caller.
    """

    position: Tensor

    def __init__(self, config: TemporalConfig, dim: int) -> None:
        super().__init__()
        assert config.window is not None
        self.window = config.window
        self.query = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.decoder = QueryDecoder(
            dim=dim,
            context_dim=dim,
            depth=config.depth,
            num_heads=config.num_heads,
            head_dim=config.head_dim,
            mlp_dim=config.mlp_dim,
            final_norm=config.final_norm,
        )
        self.register_buffer("position", place_embedding(config.window, dim), persistent=False)

    def forward(self, features: Tensor, times: Tensor, hand_visible: Tensor) -> Tensor:
        """As `TemporalFusion`; the times are not looked at."""
        clips, frames, sides, _ = features.shape
        own = torch.arange(frames, device=features.device)[:, None]
        about = torch.arange(self.window, device=features.device) - self.window // 2
        index = (own + about).clamp(min=0).minimum(own[-1])  # any number of frames, in graphs too
        context = features[:, index] + self.position[:, None]
        visible = hand_visible[:, index] | (index == own)[..., None]
        context = rearrange(context, "b t w s d -> (b t s) w d")
        mask = rearrange(visible, "b t w s -> (b t s) 1 w")
        query = self.query.expand(context.shape[0], 1, -1)
        fused = self.decoder(query, context, context_mask=mask)
        return rearrange(fused, "(b t s) 1 d -> b t s d", b=clips, t=frames, s=sides)


def place_embedding(window: int, dim: int) -> Tensor:
    """Sines and cosines, alternating, of the places 2 pi p / window, p = 1 ...: (window, dim)."""
    place = 2 * math.pi * torch.arange(1, window + 1) / (window + 1e-6)
    channel = torch.arange(dim)
    angle = place[:, None] / 10_000 ** (2 * (channel // 2) / dim)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos())


class SingleFrame(nn.Module):
    """No temporal fusion: every frame for itself."""

    def forward(self, features: Tensor, times: Tensor, hand_visible: Tensor) -> Tensor:
        """Return the features as they are."""
        return features
