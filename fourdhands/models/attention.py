"""Attention with masks, and the query decoder that both stages of SIR use."""

import torch
from einops import rearrange
from timm.layers import Mlp
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class Attention(nn.Module):
    """Multi-head attention of queries over a context, fused, without query-key-value biases."""

    def __init__(self, dim: int, context_dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_q = nn.Linear(dim, num_heads * head_dim, bias=False)
        self.to_kv = nn.Linear(context_dim, 2 * num_heads * head_dim, bias=False)
        self.to_out = nn.Linear(num_heads * head_dim, dim)

    def forward(
        self,
        query: Tensor,
        context: Tensor,
        mask: Tensor | None = None,
        phase: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            query: (N, Q, dim).
            context: (N, K, context_dim).
            mask: bool, broadcastable to (N, Q, K); True where a query may look. No row is empty.
            phase: rotary angles of queries (N, Q, head_dim / 2) and keys (N, K, head_dim / 2);
                values are not rotated, so only relative phases matter.

        Returns:
            (N, Q, dim).
        """
        q = rearrange(self.to_q(query), "n q (h d) -> n h q d", h=self.num_heads)
        k, v = rearrange(
            self.to_kv(context), "n k (two h d) -> two n h k d", two=2, h=self.num_heads
        )
        if phase is not None:
            q, k = _rotate(q, phase[0]), _rotate(k, phase[1])
        attn_mask = None if mask is None else mask.unsqueeze(1)
        out = scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        return self.to_out(rearrange(out, "n h q d -> n q (h d)"))


def _rotate(x: Tensor, phase: Tensor) -> Tensor:
    """Rotary embedding: rotate the pairs (i, i + d/2) of x (N, h, L, d) by phase (N, L, d/2)."""
    cos, sin = phase.cos().unsqueeze(1).to(x.dtype), phase.sin().unsqueeze(1).to(x.dtype)
    first, second = x.chunk(2, -1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), -1)


class DecoderLayer(nn.Module):
    """Pre-norm self-attention, cross-attention and MLP, each residual."""

    def __init__(
        self, dim: int, context_dim: int, num_heads: int, head_dim: int, mlp_dim: int
    ) -> None:
        super().__init__()
        self.norm_self = nn.LayerNorm(dim)
        self.self_attention = Attention(dim, dim, num_heads, head_dim)
        self.norm_cross = nn.LayerNorm(dim)
        self.cross_attention = Attention(dim, context_dim, num_heads, head_dim)
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, mlp_dim)

    def forward(
        self,
        query: Tensor,
        context: Tensor,
        self_mask: Tensor | None,
        context_mask: Tensor | None,
        phase: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        """(N, Q, dim) queries and (N, K, context_dim) context to (N, Q, dim)."""
        own_phase = None if phase is None else (phase[0], phase[0])
        normed = self.norm_self(query)
        query = query + self.self_attention(normed, normed, self_mask, own_phase)
        query = query + self.cross_attention(self.norm_cross(query), context, context_mask, phase)
        return query + self.mlp(self.norm_mlp(query))


class QueryDecoder(nn.Module):
    """A transformer decoder: queries read a context."""

    def __init__(
        self,
        *,
        dim: int,
        context_dim: int,
        depth: int,
        num_heads: int,
        head_dim: int,
        mlp_dim: int,
        final_norm: bool,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(dim, context_dim, num_heads, head_dim, mlp_dim) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim) if final_norm else nn.Identity()

    def forward(
        self,
        query: Tensor,
        context: Tensor,
        self_mask: Tensor | None = None,
        context_mask: Tensor | None = None,
        phase: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """(N, Q, dim) and (N, K, context_dim) to (N, Q, dim); masks and phase as in `Attention`."""
        for layer in self.layers:
            query = layer(query, context, self_mask, context_mask, phase)
        return self.norm(query)
