"""From a checkpoint to a bundle. Read `export_bundle` first."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

from torch import Tensor

from fourdhands import config
from fourdhands.export.bundle import OPEN_HAND, Bundle, check_free, hash_of, write_bundle
from fourdhands.export.card import write_card
from fourdhands.export.checkpoint import (
    CURRENT_KEY,
    KEY,
    MEAN_ROTATIONS,
    NETWORK_PREFIX,
    read_checkpoint,
    weights_file,
)
from fourdhands.export.predictor import KIND, Predictor, predictor_of
from fourdhands.hands.assets import load_assets, save_assets
from fourdhands.skeleton import JOINT_NAMES

Weights = Literal["saved", "average", "trained"]
LOCAL: Final = ("out", "resume", "initial_weights", "mano")
"""What a run's configuration says of the machine that it ran on."""


def export_bundle(
    checkpoint: Path,
    out: Path,
    *,
    weights: Weights = "saved",
    open_hand: bool = False,
    metrics: Path | None = None,
    name: str | None = None,
    mano: Path | None = None,
    check: Callable[[Predictor], object] | None = None,
) -> Predictor:
    """Write a checkpoint of training, or a bundle anew, as a bundle.

    Args:
        checkpoint: file or bundle.
        out: the bundle's folder.
        weights: 'average' the moving average, 'trained' the weights that training goes on with,
            'saved' what the checkpoint gives (the average, if the run had one).
        open_hand: put the open hand's files into the bundle.
        metrics: `metrics.json` of `eval.py`; that in `eval` beside the checkpoint, if None.
        name: of the model; that of the checkpoint's folder if None.
        mano: folder of converted MANO files; the run's, if None.
        check: may refuse the predictor before anything is written.

    Returns:
        A predictor with the weights that were written.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the checkpoint cannot be used, has no such weights, or the folder is taken.
    """
    check_free(out)
    content = with_weights(read_checkpoint(checkpoint), weights, checkpoint)
    predictor = predictor_of(content, checkpoint, mano=mano)
    if check is not None:
        check(predictor)
    own = dict(content[KEY])
    run, step = dict(own["run"]), content.get("global_step", own.get("step"))
    state = dict(predictor.network.state_dict())
    network = config.to_dict(predictor.network.config)
    uses_mano = run.get("mano") is not None or own.get("hand_model") == "mano"
    if uses_mano:  # MANO's mean pose is MANO's: whoever loads the bundle brings it along
        state.pop(MEAN_ROTATIONS, None)
    beside = checkpoint.parent / "eval" / "metrics.json"
    card = write_card(
        name or checkpoint.resolve().parent.name,
        run | {"network": network, "mano": "MANO" if uses_mano else None},
        parameters=sum(p.numel() for p in predictor.network.parameters()),
        step=step,
        weights=weights_in_words(weights, content),
        metrics=metrics or (beside if beside.is_file() else None),
        sha256=hash_of(weights_file(checkpoint)),
    )
    own |= {
        "kind": KIND,
        "network": network,
        "run": {key: value for key, value in run.items() if key not in LOCAL},
        "step": step,
        "hand_model": "mano" if uses_mano else "open",
        "preprocessing": preprocessing(predictor),
    }
    with tempfile.TemporaryDirectory() as folder:
        extra = Path(folder)
        if open_hand:
            save_assets(load_assets(), extra / OPEN_HAND)
        write_bundle(out, Bundle(own, state), card, extra)
    return predictor


def preprocessing(predictor: Predictor) -> dict[str, Any]:
    """How to feed the network, in words and numbers, for whoever reads config.json alone."""
    backbone, crop = predictor.network.backbone, predictor.crop
    threshold = predictor.confidence_threshold
    return {
        "crop": config.to_dict(crop),
        "pixel_mean": [round(float(x), 6) for x in backbone.pixel_mean.flatten()],
        "pixel_std": [round(float(x), 6) for x in backbone.pixel_std.flatten()],
        "colour": "RGB, 0 to 255, channels first; the network normalises",
        "box": "centre x, y and size x, y in pixels of the full image, pixel centres at integers; "
        "the tight box, one side grown to the crop's aspect, both times bbox_scale",
        "left_hand": "its crop is mirrored in x; what comes out is not",
        "sides": ["right", "left"],
        "joints": list(JOINT_NAMES),
        "units": "metres, camera frame: x right, y down, z forward; rotations as matrices",
        "intrinsics": "3 x 3, pixels of the full image; f = sqrt(w^2 + h^2) if not known",
        "confidence_threshold": None if threshold != threshold else threshold,  # NaN: not known
    }


def with_weights(checkpoint: dict[str, Any], weights: Weights, path: Path) -> dict[str, Any]:
    """A checkpoint's content with the weights that are asked for as its own.

    Raises:
        ValueError: it has no average.
    """
    current: dict[str, Tensor] | None = checkpoint.get(CURRENT_KEY)
    if weights == "average" and current is None:
        raise ValueError(
            f"{path}: has no average of its weights (trainer.ema_decay); export --weights saved"
        )
    if weights != "trained" or current is None:
        return checkpoint
    names = [name for name in current if name.startswith(NETWORK_PREFIX)]
    return checkpoint | {"state_dict": {name: current[name] for name in names}}


def weights_in_words(weights: Weights, checkpoint: dict[str, Any]) -> str:
    """Which weights these are, for the card."""
    if CURRENT_KEY in checkpoint and weights != "trained":
        return "the moving average over the run (EMA)"
    return "as trained"
