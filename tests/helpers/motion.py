"""A little generated motion, and a prior that has only its linear start."""

from functools import cache

import torch

from fourdhands.data.motion.generate import GeneratorConfig
from fourdhands.data.motion.synthesize import MotionSetConfig, MotionSplits, generate_clip
from fourdhands.data.motion.windows import MotionData, WindowConfig
from fourdhands.models.motion_prior.encoder import EncoderConfig
from fourdhands.models.motion_prior.field import FieldConfig
from fourdhands.models.motion_prior.prior import MotionPrior
from fourdhands.models.motion_prior.vae import MotionPriorConfig

SMALL_SET = MotionSetConfig(
    GeneratorConfig(seconds=6.0), MotionSplits(train=12, val=3, test=3), shard_clips=5
)
TINY = MotionPriorConfig(
    latent=48, encoder=EncoderConfig(dim=16, depth=1, heads=2), field=FieldConfig(width=16)
)


@cache
def small_data() -> MotionData:
    clips = [generate_clip(SMALL_SET, "train", k) for k in range(SMALL_SET.splits.train)]
    return MotionData(clips, frames=128, fps=30.0, config=WindowConfig(min_variance=0.0))


def linear_prior(seed: int = 0) -> MotionPrior:
    """Weights that have been moved at random a little, so that every part takes effect."""
    torch.manual_seed(seed)
    prior = MotionPrior(TINY)
    windows = small_data().draw(200, torch.Generator().manual_seed(0)).rotations[:, :, 0]
    prior.vae.start_linear(windows)
    with torch.no_grad():
        for head in (
            prior.vae.encoder.correction,
            prior.vae.encoder.judge[-1],
            prior.vae.field.mlp[-1],
        ):
            head.weight.add_(0.02 * torch.randn(head.weight.shape))
    return prior.requires_grad_(False).eval()
