"""A trained checkpoint as a function from clips to hands."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from fourdhands import config
from fourdhands.data.collate import CropConfig
from fourdhands.data.copies import is_beside
from fourdhands.export.checkpoint import (
    KEY,
    RECONSTRUCTION,
    build_checked,
    own_kind,
    read_checkpoint,
)
from fourdhands.export.hub import find_source
from fourdhands.hands.assets import load_assets
from fourdhands.hands.mano import HandModel
from fourdhands.models.confidence import hand_confidence, hold_confident
from fourdhands.models.heads import HeadConfig
from fourdhands.models.network import NetworkConfig, TwoHandNetwork
from fourdhands.models.two_hands import PosesHands, between_wrists, reconciled_roots
from fourdhands.skeleton import Side
from fourdhands.structures import Camera, ClipBatch, FrameFeatures, HandGeometry, Predictions

KIND: Final = RECONSTRUCTION
"""What a bundle of a two-hand network says it is; those of other networks say otherwise."""
USUAL_FPS: Final = 30.0
"""Of training data, where `data.gap_fps` does not say."""
_CROP_KEYS: Final = ("bbox_scale", "box")
_TIMING: Final[Mapping[str, float]] = {"num_frames": 1, "gap": 0.0, "gap_fps": USUAL_FPS}
"""Of windows, where `data` does not say."""


@dataclass(frozen=True)
class Predictor:
    """A network ready to predict, with the hand model and the crops it was trained on.

    Attributes:
        network: in evaluation mode.
        hand_model: makes joints and vertices of the predicted parameters.
        crop: how hands have to be cropped for it.
        window: frames that it was trained to fuse over time.
        gap: seconds between them; 0 for single frames.
    """

    network: TwoHandNetwork
    hand_model: HandModel
    crop: CropConfig
    window: int = 1
    gap: float = 0.0

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self.network.parameters()).device

    @property
    def confidence_threshold(self) -> float:
        """Hands above it are confident; NaN if the training never saw crops without a hand."""
        return float(self.network.confidence_threshold.value)

    @torch.inference_mode()
    def __call__(self, batch: ClipBatch) -> Predictions:
        """Predict the hands of a batch, which may lie on any device, in one camera frame.

        Where both hands are visible, `models.two_hands` makes cameras and `upsilon` consistent; a
        mirrored copy is no hand of the scene.
        """
        batch = batch.to(self.device)
        in_scene = batch.hand_visible & ~is_beside(batch.bbox, batch.camera.image_size)
        return self._together(self.network(batch), in_scene)

    @torch.inference_mode()
    def encode(
        self, crops: Tensor, bbox: Tensor, hand_visible: Tensor, camera: Camera
    ) -> FrameFeatures:
        """What each frame says by itself (see `TwoHandNetwork.encode`), for windows to share."""
        device = self.device
        return self.network.encode(
            crops.to(device), bbox.to(device), hand_visible.to(device), camera.to(device)
        )

    @torch.inference_mode()
    def decode(
        self,
        features: FrameFeatures,
        times: Tensor,
        hand_visible: Tensor,
        bbox: Tensor,
        camera: Camera,
    ) -> Predictions:
        """The hands of windows of encoded frames (see `TwoHandNetwork.decode`), consistent."""
        device = self.device
        visible = hand_visible.to(device)
        says = self.network.decode(
            features.to(device), times.to(device), visible, bbox.to(device), camera.to(device)
        )
        return self._together(says, visible)

    def _together(self, network_says: Predictions, in_scene: Tensor) -> Predictions:
        return in_one_scene(network_says, in_scene, self.network.config.head, self.hand_model)

    @torch.inference_mode()
    def confidence(
        self, predictions: Predictions, geometry: HandGeometry, batch: ClipBatch
    ) -> Tensor | None:
        """How far predictions can be trusted (B, T, S), -1 to 1; None without a 2D branch.

        Args:
            predictions: of the batch.
            geometry: the hand model's, of `predictions.hands`.
            batch: on any device.
        """
        if predictions.joint_logits is None:
            return None
        batch = batch.to(self.device)
        return hand_confidence(
            predictions.joint_logits, geometry.joints, batch.visible_bbox, batch.camera
        )


def in_one_scene(
    network_says: Predictions, in_scene: Tensor, head: HeadConfig, hand_model: PosesHands
) -> Predictions:
    """What a network says, its hands in one camera frame (see `Predictor`).

    Args:
        network_says: of windows.
        in_scene: (B, T, S) hands that are visible, and no copies of others.
        head: of the network.
        hand_model: of its hands.
    """
    predictions = network_says.map(Tensor.float)
    hands = predictions.hands
    upsilon = between_wrists(predictions.upsilon, head, hands, hand_model)
    roots = hand_model.roots(hands)
    moved = reconciled_roots(roots, upsilon) - roots
    both = in_scene.all(-1)[..., None, None]
    transl = hands.transl + torch.where(both, moved, 0.0)
    return replace(predictions, hands=replace(hands, transl=transl), upsilon=upsilon)


@dataclass(frozen=True)
class HoldingPredictor:
    """A predictor that holds hands: one that is not confident stays what it last was (DaHyF).

    Attributes:
        predictor: of single windows; nothing is held beyond them.

    Raises:
        ValueError: the predictor has no confidence, or no threshold for it.
    """

    predictor: Predictor

    def __post_init__(self) -> None:
        """Make sure that confidence means something."""
        if self.predictor.network.config.joints_2d is None:
            raise ValueError("hands cannot be held: the checkpoint has no 2D branch")
        if math.isnan(self.predictor.confidence_threshold):
            raise ValueError(
                "hands cannot be held: the checkpoint has no confidence threshold, its training "
                "saw no crops without a hand (data.negatives.share)"
            )

    @property
    def hand_model(self) -> HandModel:
        """Of the predictor."""
        return self.predictor.hand_model

    @torch.inference_mode()
    def __call__(self, batch: ClipBatch) -> Predictions:
        """Predict, and hold; 2D joints and cameras of crops stay those of their own frame."""
        predictions = self.predictor(batch)
        hand_model = self.predictor.hand_model
        confidence = self.predictor.confidence(predictions, hand_model(predictions.hands), batch)
        assert confidence is not None
        confident = confidence > self.predictor.confidence_threshold
        hands = hold_confident(
            predictions.hands, confident & batch.hand_visible.to(confident.device)
        )
        roots = hand_model.roots(hands)
        upsilon = roots[..., Side.LEFT, :] - roots[..., Side.RIGHT, :]
        return replace(predictions, hands=hands, upsilon=upsilon)


def load_predictor(
    source: Path | str,
    device: torch.device | str = "cpu",
    *,
    mano: Path | None = None,
    revision: str | None = None,
) -> Predictor:
    """Build the network of a checkpoint again, from the checkpoint alone.

    Args:
        source: checkpoint of `train.py reconstruction`, folder of a bundle, or the name of one on
            the Hugging Face hub, `owner/name`, which is fetched once.
        device: where to compute.
        mano: folder of converted MANO files to use in place of the run's; the run's, or the open
            hand, if None.
        revision: of a bundle on the hub.

    Raises:
        FileNotFoundError: there is no such file, or the MANO folder of its run is gone.
        ValueError: the file is broken, not one of ours, or its configuration or weights do not fit.
        OSError: the hub cannot be reached.
    """
    path = find_source(source, revision)
    return predictor_of(read_checkpoint(path), path, device, mano=mano)


def predictor_of(
    checkpoint: Mapping[str, Any],
    path: Path,
    device: torch.device | str = "cpu",
    *,
    mano: Path | None = None,
) -> Predictor:
    """The predictor of a checkpoint that has been read; see `load_predictor`."""
    own: Mapping[str, Any] = checkpoint[KEY]
    if own_kind(own) != KIND or "run" not in own:
        raise ValueError(f"{path}: not a checkpoint of a network that reconstructs hands")
    run, data = own["run"], own["run"].get("data", {}) if isinstance(own["run"], Mapping) else None
    if not isinstance(data, Mapping):
        raise ValueError(f"{path}: its configuration of the run is none")
    network_config = config.from_dict(NetworkConfig, own["network"], source=f"{path}: network")
    # its weights come from the checkpoint, not from the internet
    backbone = replace(network_config.backbone, pretrained=False)
    crop = {"size": network_config.crop_size} | {k: data[k] for k in _CROP_KEYS if k in data}
    stored = run.get("mano")
    if mano is None and own.get("hand_model") == "mano":
        raise ValueError(
            f"{path}: was trained with MANO, which a bundle may not hold: give the folder that "
            "`fourdhands hands import` wrote (mano)"
        )
    hand_model = HandModel(load_assets(mano or (None if stored is None else Path(str(stored)))))
    timing = {name: data.get(name) or usual for name, usual in _TIMING.items()}
    if not all(isinstance(value, int | float) for value in timing.values()):
        raise ValueError(f"{path}: data: {', '.join(_TIMING)} have to be numbers")
    own_config = replace(network_config, backbone=backbone)
    network = build_checked(
        lambda: TwoHandNetwork(own_config, hand_model.mean_pose),
        checkpoint,
        path,
        outline=lambda: TwoHandNetwork(own_config),
    )
    return Predictor(
        network=network.to(device).eval(),
        hand_model=hand_model.to(device).eval(),
        crop=config.from_dict(CropConfig, crop, source=f"{path}: data"),
        window=int(timing["num_frames"]),
        gap=timing["gap"] / timing["gap_fps"],
    )
