"""The network over a shot: every frame is encoded once, windows of time share what they need."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fourdhands.data.collate import crop_regions
from fourdhands.export.predictor import Predictor
from fourdhands.geometry.crop import points_at_places
from fourdhands.models.confidence import hand_confidence
from fourdhands.skeleton import NUM_JOINTS, NUM_SIDES, Side
from fourdhands.structures import Camera, FrameFeatures, HandState, JointLogits
from fourdhands.video.detect import Image
from fourdhands.video.phases import Arrays
from fourdhands.video.predict import cut_crop

CHUNK = 32
"""Frames that are encoded together."""


@dataclass(frozen=True)
class NetworkHands:
    """What the network says of G pairs over the T frames of a shot.

    Attributes:
        hands: (G, T, S), camera frame.
        confidence: (G, T, S) -1 to 1; NaN without a 2D branch, or without a crop.
        joints_2d: (G, T, S, 21, 2) of the 2D branch, pixels; NaN without one.
    """

    hands: HandState
    confidence: Tensor
    joints_2d: Tensor

    def to_arrays(self) -> Arrays:
        """Named arrays for a file."""
        arrays = {name: value.numpy() for name, value in vars(self.hands).items()}
        return arrays | {
            "network_confidence": self.confidence.numpy(),
            "network_joints_2d": self.joints_2d.numpy(),
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> "NetworkHands":
        """Inverse of `to_arrays`."""
        tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
        mano = ("global_orient", "hand_pose", "betas", "transl")
        return cls(
            HandState(**{name: tensors[name] for name in mano}),
            tensors["network_confidence"],
            tensors["network_joints_2d"],
        )


class NetworkPass:
    """Takes the frames of a shot one by one, then answers for all of them.

    Args:
        predictor: with its crops and window.
        boxes: (G, T, S, 4) tight boxes.
        boxed: (G, T, S) where there is one.
        intrinsics: (3, 3).
        image_size: width, height.
        fps: frames a second.
    """

    def __init__(
        self,
        predictor: Predictor,
        boxes: Tensor,
        boxed: Tensor,
        intrinsics: Tensor,
        image_size: tuple[int, int],
        fps: float,
    ) -> None:
        self._predictor, self._boxed, self._fps = predictor, boxed, fps
        size = torch.tensor(image_size, dtype=torch.float32)
        self._regions = crop_regions(boxes, boxed, size.expand(*boxed.shape[:2], 2), predictor.crop)
        self._camera = Camera(intrinsics.float(), size, torch.eye(4))
        self._crops: list[Tensor] = []
        self._features: list[Tensor] = []
        self._logits: list[JointLogits | None] = []
        self._encoded = 0
        self._says: list[tuple[HandState, Tensor, Tensor]] = []
        self._decoded = 0
        self._step = max(1, round(predictor.gap * fps))

    def __call__(self, image: Image) -> None:
        """Take the next frame (H, W, 3)."""
        frame = self._encoded + len(self._crops)
        size = self._predictor.crop.size
        crops = np.zeros((*self._boxed[:, frame].shape, *size, 3), np.uint8)
        for g, side in self._boxed[:, frame].nonzero().tolist():
            crops[g, side] = cut_crop(image, self._regions[g, frame, side], Side(side), size)
        self._crops.append(torch.from_numpy(crops).movedim(-1, -3))
        if len(self._crops) == CHUNK:
            self._encode()

    def finish(self) -> NetworkHands:
        """Answer for all frames."""
        if self._crops:
            self._encode()
        self._decode(self._encoded)
        states, confidences, joints = zip(*self._says, strict=True)
        return NetworkHands(
            HandState.cat(list(states), 1), torch.cat(confidences, 1), torch.cat(joints, 1)
        )

    def _encode(self) -> None:
        crops = torch.stack(self._crops, 1)
        frames = slice(self._encoded, self._encoded + len(self._crops))
        camera = self._cameras(crops.shape[:2])
        features = self._predictor.encode(
            crops, self._regions[:, frames], self._boxed[:, frames], camera
        )
        self._features.append(features.hands.cpu())
        self._logits.append(features.joint_logits)
        self._encoded += len(self._crops)
        self._crops = []
        reach = self._predictor.window // 2 * self._step
        # all chunks whose windows are complete
        while self._logits[1:] and self._decoded + CHUNK + reach <= self._encoded:
            self._decode(self._decoded + CHUNK)

    def _decode(self, stop: int) -> None:
        """Decode the frames up to `stop`, each in the middle of its own window."""
        while self._decoded < stop:
            end = min(self._decoded + CHUNK, stop)
            self._says.append(self._decode_chunk(self._decoded, end, self._logits.pop(0)))
            self._decoded = end

    def _decode_chunk(
        self, start: int, stop: int, logits: JointLogits | None
    ) -> tuple[HandState, Tensor, Tensor]:
        window = self._predictor.window
        middle = window // 2
        slots = (torch.arange(window) - middle) * self._step
        index = torch.arange(start, stop)[:, None] + slots
        valid = (index >= 0) & (index < self._encoded)
        index = index.clamp(0, self._encoded - 1)
        features = torch.cat(self._features, 1)
        G, n = features.shape[0], stop - start
        visible = (self._boxed[:, index] & valid[..., None]).flatten(0, 1)
        bbox = self._regions[:, index].flatten(0, 1)
        predictions = self._predictor.decode(
            FrameFeatures(features[:, index].flatten(0, 1), None),
            (index / self._fps).expand(G, n, window).flatten(0, 1),
            visible,
            bbox,
            self._cameras((G * n, window)),
        )
        hands = predictions.hands[:, middle].map(lambda tensor: tensor.unflatten(0, (G, n)))
        shape = (G, n, NUM_SIDES)
        confidence = torch.full(shape, torch.nan)
        joints_2d = torch.full((*shape, NUM_JOINTS, 2), torch.nan)
        if logits is not None:
            regions = self._regions[:, start:stop].to(hands.transl)
            joints = self._predictor.hand_model(hands).joints
            camera = self._cameras((G, n)).to(hands.transl.device)
            confidence = hand_confidence(logits, joints, regions, camera).cpu()
            joints_2d = points_at_places(logits.joints(), regions).cpu()
        return hands.to("cpu"), confidence, joints_2d

    def _cameras(self, shape: Sequence[int]) -> Camera:
        return self._camera.map(lambda tensor: tensor.expand(*shape, *tensor.shape))
