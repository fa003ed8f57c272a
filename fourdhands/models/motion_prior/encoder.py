"""E: what was seen of a hand's motion, frames missing or not, to a Gaussian over its latent."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from fourdhands.models.motion_prior.guesses import CLUES, OFFERS, guess

LOG_VARIANCE: Final = (-8.0, 1.0)
"""Between these the encoder's log variances stay."""
FIRST_TRUST: Final = (0.6, 0.2)
"""Of the smooth curve and of the echo, before anything is learnt."""
JUDGE: Final = 96
"""Width of the network that judges guesses."""
SEEN_FREEDOM: Final = 0.3
"""How readily observed frames are corrected, beside unobserved ones."""
CAUTION: Final = 0.1
"""How fast log variances move: their layer sums over the whole window."""
_LONGEST: Final = 4 * 64.0  # tokens, of the slowest rotary frequency


@dataclass(frozen=True)
class EncoderConfig:
    """The encoder's size.

    Attributes:
        dim: width of its tokens.
        depth: transformer blocks.
        heads: of attention.
        patch: frames of the time grid that make a token.
    """

    dim: int = 160
    depth: int = 4
    heads: int = 4
    patch: int = 4

    def __post_init__(self) -> None:
        """Check that the parts fit."""
        if self.dim % (2 * self.heads):
            raise ValueError(f"dim is {self.dim}, not a multiple of twice heads ({self.heads})")


class MotionEncoder(nn.Module):
    """q(z | observed frames), on a regular grid of times.

    Gaps are filled by straight lines, by smooth curves and by the motion's echo (`guesses`). A
    small network judges by clues how much to trust each; a transformer over patches of frames says
    what to add; a linear layer takes the motion so completed to the latent's mean.
    Positions enter attention as differences only, so that the correction moves along with what was
    observed. Frames that are not observed have no influence. Where none is observed, the answer is
    the prior itself.

    Args:
        config: sizes.
        frames: of the grid, T.
        size: of a frame's coordinates, C.
        latent: of z, Z.

    Attributes:
        in_bfloat16: whether the transformer computes so, for training. Geometry never does.
    """

    in_bfloat16: bool = False

    def __init__(self, config: EncoderConfig, frames: int, size: int, latent: int) -> None:
        super().__init__()
        if frames % config.patch:
            raise ValueError(f"frames is {frames}, not a multiple of patch ({config.patch})")
        self.patch = config.patch
        tokens = frames // config.patch
        self.linear = nn.Linear(frames * size, latent)
        verdict = nn.Linear(JUDGE, OFFERS)
        self.judge = nn.Sequential(
            *(nn.Linear(CLUES, JUDGE), nn.GELU(), nn.Linear(JUDGE, JUDGE), nn.GELU()), verdict
        )
        self.embed = nn.Linear(config.patch * ((1 + OFFERS) * size + CLUES), config.dim)
        self.blocks = nn.ModuleList(Block(config.dim, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.dim)
        self.correction = nn.Linear(config.dim, config.patch * size)
        self.doubt = nn.Linear(config.dim, 16)
        self.log_variance = nn.Linear(tokens * 16, latent)
        self.start = nn.Parameter(torch.zeros(latent))
        for head in (self.correction, self.log_variance, verdict):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
        with torch.no_grad():
            verdict.bias.copy_(torch.tensor(FIRST_TRUST))

    def forward(self, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode.

        Args:
            values: (N, T, C) centred coordinates; what stands in unobserved frames does not matter.
            mask: (N, T) observed frames.

        Returns:
            Mean and log variance of z, each (N, Z).
        """
        _, mean, log_variance = self.explain(values, mask)
        return mean, log_variance

    def explain(self, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `forward`, with the completed motion (N, T, C) that the mean is computed from."""
        motion, tokens = self.complete(values, mask)
        mean = self.linear(motion.flatten(1))
        low, high = LOG_VARIANCE
        # how sure to be is learnt from what is known, but does not decide what that is
        log_variance = self.log_variance(self.doubt(tokens.detach()).flatten(1))
        log_variance = low + (high - low) * (CAUTION * log_variance + self.start).sigmoid()
        seen = mask.any(1)[:, None]
        return motion, torch.where(seen, mean, 0.0), torch.where(seen, log_variance, 0.0)

    def complete(self, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The most likely motion (N, T, C), before it is put in terms of z, and what is known."""
        guesses = guess(values, mask)
        parts = (guesses.line, guesses.offers.flatten(2), guesses.clues)
        patches = torch.cat(parts, dim=-1).unflatten(1, (-1, self.patch)).flatten(2)
        with torch.autocast(values.device.type, torch.bfloat16, enabled=self.in_bfloat16):
            tokens = self.embed(patches)
            for block in self.blocks:
                tokens = block(tokens)
        tokens = self.norm(tokens.float())
        trust = self.judge(guesses.clues)
        motion = guesses.line + (guesses.offers * trust[:, :, None]).sum(-1)
        freedom = torch.where(mask[..., None], SEEN_FREEDOM, 1.0)
        motion = motion + freedom * self.correction(tokens).reshape_as(values)
        return motion, tokens


class Block(nn.Module):
    """A transformer block, norms first, with rotary positions."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, L, D) to the same."""
        q, k, v = self.qkv(self.norms[0](tokens)).unflatten(-1, (3, self.heads, -1)).unbind(2)
        q, k, v = (x.transpose(1, 2) for x in (rotary(q), rotary(k), v))
        # torch's fused attention takes six times as long here: short sequences, bfloat16, CPU
        mixed = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1).to(v.dtype) @ v
        tokens = tokens + self.out(mixed.transpose(1, 2).flatten(2))
        return tokens + self.mlp(self.norms[1](tokens))


def rotary(x: Tensor) -> Tensor:
    """Turn pairs of features by angles in proportion to the position: (N, L, H, D) to the same.

    Products of two such vectors depend on the difference of their positions (Su et al. 2021).
    """
    half = x.shape[-1] // 2
    rates = torch.pi * _LONGEST ** -torch.linspace(0, 1, half, device=x.device)
    angles = torch.arange(x.shape[1], device=x.device)[:, None, None] * rates
    sine, cosine = angles.sin().to(x.dtype), angles.cos().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)
