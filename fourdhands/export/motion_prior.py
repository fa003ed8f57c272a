"""A trained motion prior from its checkpoint: `load_motion_prior(path)`."""

from pathlib import Path

from fourdhands import config
from fourdhands.export.checkpoint import KEY, load_network_weights, read_checkpoint
from fourdhands.models.motion_prior.prior import MotionPrior
from fourdhands.models.motion_prior.vae import MotionPriorConfig


def load_motion_prior(path: Path) -> MotionPrior:
    """The prior of a checkpoint, ready for use.

    Args:
        path: a file that `train.py motion-prior` has written.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a checkpoint of a motion prior.
    """
    checkpoint = read_checkpoint(path)
    network = checkpoint[KEY]["network"]
    if "latent" not in network:
        raise ValueError(f"{path}: the checkpoint is of another network, not of a motion prior")
    prior = MotionPrior(config.from_dict(MotionPriorConfig, network, source=str(path)))
    load_network_weights(prior, checkpoint, path)
    prior.requires_grad_(False)
    return prior.eval()
