"""D(t, z): a pose at every time, each time for itself, so that any frame rate is one forward pass.

`splines`: z gives coefficients of smooth bumps along time; what they sum to at t is a pose to which
a small MLP adds. `sinusoids`: HMP's, a deep MLP of [sines of t, z], as in NeMF.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import torch
from torch import Tensor, nn

from fourdhands.models.motion_prior.time_base import b_splines

FieldKind = Literal["splines", "sinusoids"]
OCTAVES: Final = 7  # of HMP's encoding: sines of 2^k t, k = 0 .. 6, with t in [-1, 1]


@dataclass(frozen=True)
class FieldConfig:
    """The decoder.

    Attributes:
        kind: how time enters.
        spacing: seconds between two bumps of `splines`; twice that is the shortest period.
        features: numbers that z gives at a time, besides the pose, to the MLP of `splines`.
        width: of the MLP.
        depth: hidden layers of the MLP.
    """

    kind: FieldKind = "splines"
    spacing: float = 0.1
    features: int = 64
    width: int = 128
    depth: int = 2


def build_field(config: FieldConfig, seconds: float, latent: int, size: int) -> nn.Module:
    """The decoder of a configuration; `seconds` is the window's length."""
    if config.kind == "splines":
        return SplineField(config, seconds, latent, size)
    return SinusoidField(config, seconds, latent, size)


class SplineField(nn.Module):
    """D(t, z) = G(z) b(t) + MLP([G(z) b(t), H(z) b(t)]), with uniform cubic B-splines b(t).

    G and H are linear in z. Only the few bumps near t are not zero, and all have two continuous
    derivatives: so has the motion.

    Args:
        config: sizes.
        seconds: length of the window.
        latent: Z.
        size: C.
    """

    def __init__(self, config: FieldConfig, seconds: float, latent: int, size: int) -> None:
        super().__init__()
        self.spacing = config.spacing
        self.knots = int(-(-(seconds + 1e-6) // config.spacing)) + 3
        self.pose = nn.Linear(latent, self.knots * size)
        self.features = nn.Linear(latent, self.knots * config.features)
        widths = [size + config.features, *[config.width] * config.depth]
        layers: list[nn.Module] = []
        for wide, narrow in pairwise(widths):
            layers += [nn.Linear(wide, narrow), nn.GELU()]
        last = nn.Linear(widths[-1], size)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.mlp = nn.Sequential(*layers, last)

    def forward(self, z: Tensor, times: Tensor) -> Tensor:
        """Decode.

        Args:
            z: (N, Z).
            times: (N, T) or (T,) seconds from the window's start.

        Returns:
            (N, T, C) centred coordinates.
        """
        bumps = b_splines(times, self.spacing, self.knots)
        pose = bumps @ self.pose(z).unflatten(-1, (self.knots, -1))
        features = bumps @ self.features(z).unflatten(-1, (self.knots, -1))
        residual: Tensor = self.mlp(torch.cat([pose, features], dim=-1))
        return pose + residual


class SinusoidField(nn.Module):
    """NeMF's decoder as HMP uses it: an MLP that gets [e(t), z] again at every layer.

    Layers are linear, layer norm, ReLU; e(t) are sines and cosines of 2^k t.

    Args:
        config: sizes.
        seconds: length of the window.
        latent: Z.
        size: C.
    """

    def __init__(self, config: FieldConfig, seconds: float, latent: int, size: int) -> None:
        super().__init__()
        self.seconds = seconds
        given = 2 * OCTAVES + latent
        self.layers = nn.ModuleList()
        for k in range(config.depth):
            wide = given + (config.width if k else 0)
            self.layers.append(
                nn.Sequential(nn.Linear(wide, config.width), nn.LayerNorm(config.width), nn.ReLU())
            )
        self.out = nn.Linear(config.width, size)

    def forward(self, z: Tensor, times: Tensor) -> Tensor:
        """Decode; as `SplineField.forward`."""
        t = (2 * times / self.seconds - 1)[..., None]
        angles = t * 2.0 ** torch.arange(OCTAVES, device=times.device)
        encoded = torch.cat([angles.sin(), angles.cos()], dim=-1).expand(len(z), -1, -1)
        given = torch.cat([encoded, z[:, None].expand(-1, encoded.shape[1], -1)], dim=-1)
        hidden = self.layers[0](given)
        for layer in self.layers[1:]:
            hidden = layer(torch.cat([hidden, given], dim=-1))
        pose: Tensor = self.out(hidden)
        return pose
