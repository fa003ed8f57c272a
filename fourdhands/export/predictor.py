"""A trained checkpoint as a function from clips to hands."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from fourdhands import config
from fourdhands.data.collate import CropConfig
from fourdhands.export.checkpoint import KEY, load_network_weights, read_checkpoint
from fourdhands.hands.assets import load_assets
from fourdhands.hands.mano import HandModel
from fourdhands.models.network import NetworkConfig, TwoHandNetwork
from fourdhands.structures import ClipBatch, Predictions

_CROP_KEYS: Final = ("bbox_scale", "box")


@dataclass(frozen=True)
class Predictor:
    """A network ready to predict, with the hand model and the crops it was trained on.

    Attributes:
        network: in evaluation mode.
        hand_model: makes joints and vertices of the predicted parameters.
        crop: how hands have to be cropped for it.
    """

    network: TwoHandNetwork
    hand_model: HandModel
    crop: CropConfig

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self.network.parameters()).device

    @torch.inference_mode()
    def __call__(self, batch: ClipBatch) -> Predictions:
        """Predict the hands of a batch, which may lie on any device."""
        predictions: Predictions = self.network(batch.to(self.device))
        return predictions.map(Tensor.float)


def load_predictor(path: Path, device: torch.device | str = "cpu") -> Predictor:
    """Build the network of a checkpoint again, from the checkpoint alone.

    Args:
        path: checkpoint of `train.py reconstruction`.
        device: where to compute.

    Raises:
        FileNotFoundError: there is no such file, or the MANO folder of its run is gone.
        ValueError: the file is broken, not one of ours, or its configuration or weights do not fit.
    """
    checkpoint = read_checkpoint(path)
    run: Mapping[str, Any] = checkpoint[KEY]["run"]
    network_config = config.from_dict(
        NetworkConfig, checkpoint[KEY]["network"], source=f"{path}: network"
    )
    # its weights come from the checkpoint, not from the internet
    backbone = replace(network_config.backbone, pretrained=False)
    data = run.get("data", {})
    crop = {"size": network_config.crop_size} | {k: data[k] for k in _CROP_KEYS if k in data}
    mano = run.get("mano")
    hand_model = HandModel(load_assets(None if mano is None else Path(mano)))
    network = TwoHandNetwork(replace(network_config, backbone=backbone), hand_model.mean_pose)
    load_network_weights(network, checkpoint, path)
    return Predictor(
        network=network.to(device).eval(),
        hand_model=hand_model.to(device).eval(),
        crop=config.from_dict(CropConfig, crop, source=f"{path}: data"),
    )
