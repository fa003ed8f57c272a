"""A motion prior as a file for others: written as a bundle, loaded from wherever it is kept."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fourdhands import config
from fourdhands.export.bundle import Bundle, check_free, hash_of, write_bundle
from fourdhands.export.card import write_prior_card
from fourdhands.export.checkpoint import (
    KEY,
    MOTION_PRIOR,
    build_checked,
    own_kind,
    read_checkpoint,
    weights_file,
)
from fourdhands.export.hub import find_source
from fourdhands.export.publish import LOCAL, Weights, weights_in_words, with_weights
from fourdhands.models.motion_prior.prior import MotionPrior
from fourdhands.models.motion_prior.vae import MotionPriorConfig
from fourdhands.skeleton import MANO_JOINT_NAMES

USE: Final = {
    "poses": "(B, T, S, 15, 3, 3) rotations of MANO's finger joints in its order, each in its "
    "parent, the mean pose included (flat_hand_mean=True); no wrist, place or shape",
    "left_hand": "true left hands go in and come out; inside, they are mirrored",
    "sides": ["right", "left"],
    "mask": "(B, T, S), true where a hand was seen",
    "times": "(T,) seconds, ascending; any rate",
    "latent": "N(0, I) a priori, one z for each hand and window",
}
"""How to feed it, for whoever reads config.json alone."""


def load_motion_prior(source: Path | str, *, revision: str | None = None) -> MotionPrior:
    """A trained prior, ready for use.

    Args:
        source: a file that `train.py motion-prior` has written, the folder of a bundle, or the name
            of one on the Hugging Face hub, `owner/name`, which is fetched once.
        revision: of a bundle on the hub.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is broken, or not of a motion prior.
        OSError: the hub cannot be reached.
    """
    path = find_source(source, revision)
    return prior_of(read_checkpoint(path), path)


def prior_of(checkpoint: Mapping[str, Any], path: Path) -> MotionPrior:
    """The prior of a checkpoint that has been read; see `load_motion_prior`."""
    own: Mapping[str, Any] = checkpoint[KEY]
    if own_kind(own) != MOTION_PRIOR:
        raise ValueError(f"{path}: the checkpoint is of another network, not of a motion prior")
    wanted = config.from_dict(MotionPriorConfig, own["network"], source=f"{path}: network")
    prior = build_checked(lambda: MotionPrior(wanted), checkpoint, path)
    prior.requires_grad_(False)
    return prior.eval()


def export_motion_prior(
    checkpoint: Path,
    out: Path,
    *,
    weights: Weights = "saved",
    metrics: Path | None = None,
    name: str | None = None,
) -> MotionPrior:
    """Write a prior's checkpoint, or its bundle anew, as a bundle; see `publish.export_bundle`.

    Args:
        checkpoint: file or bundle.
        out: the bundle's folder.
        weights: which of the checkpoint's.
        metrics: `metrics.json` of `fourdhands motion evaluate`; that in `eval` beside the
            checkpoint, if None.
        name: of the model; that of the checkpoint's folder if None.

    Returns:
        The prior with the weights that were written.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the checkpoint cannot be used, has no such weights, or the folder is taken.
    """
    check_free(out)
    content = with_weights(read_checkpoint(checkpoint), weights, checkpoint)
    prior = prior_of(content, checkpoint)
    own = dict(content[KEY])
    told = own.get("run")
    run: Mapping[str, Any] = told if isinstance(told, Mapping) else {}
    step = content.get("global_step", own.get("step"))
    beside = checkpoint.parent / "eval" / "metrics.json"
    card = write_prior_card(
        name or checkpoint.resolve().parent.name,
        prior.config,
        run,
        parameters=sum(p.numel() for p in prior.parameters()),
        step=step,
        weights=weights_in_words(weights, content),
        metrics=metrics or (beside if beside.is_file() else None),
        sha256=hash_of(weights_file(checkpoint)),
    )
    own |= {
        "kind": MOTION_PRIOR,
        "network": config.to_dict(prior.config),
        "run": {key: value for key, value in run.items() if key not in LOCAL},
        "step": step,
        "preprocessing": USE | {"joints": list(MANO_JOINT_NAMES[1:])},
    }
    write_bundle(out, Bundle(own, dict(prior.state_dict())), card)
    return prior
