"""The network: crops of both hands over time to two hands in the camera frame. Read this first.

    crops -> backbone -> direction map (F_m) -> relations (RAT) -> spatial fusion (G)
                                 `-> 2D joints -> hybrid feature <-' -> temporal fusion -> heads
    `------------------ encode: per frame, reusable ------------'   `--- decode: window ---'

Left crops are mirrored, so every part sees right hands only and shares its weights between sides;
the mirror is undone once, at the end. A part that is switched off is a null object: no branches.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fourdhands.models.backbone import Backbone, BackboneConfig
from fourdhands.models.confidence import ConfidenceThreshold
from fourdhands.models.crop_frame import hands_in_camera_frame
from fourdhands.models.direction_map import (
    DirectionAwareTokens,
    DirectionConfig,
    DirectionlessTokens,
)
from fourdhands.models.heads import HeadConfig, ManoHead, build_upsilon_head
from fourdhands.models.joints_2d import Joints2dBranch, Joints2dConfig, WithoutJoints2d
from fourdhands.models.rat import PlainTokens, RelationAwareTokens, RelationConfig
from fourdhands.models.sir import (
    SingleFrame,
    SpatialConfig,
    SpatialFusion,
    TemporalConfig,
    TemporalFusion,
    WindowFusion,
)
from fourdhands.structures import Camera, ClipBatch, FrameFeatures, Predictions


@dataclass(frozen=True)
class NetworkConfig:
    """The network's parts; a part that is None is left out.

    Attributes:
        crop_size: height and width of a hand's crop in pixels.
        backbone: crops to tokens.
        direction: direction map of the tokens (DaHyF).
        relation: relation-aware tokenization (RAT).
        spatial: adaptive spatial fusion of both hands' tokens.
        joints_2d: 2D joints and the hybrid feature (DaHyF).
        temporal: fusion over frames.
        head: from features to parameters.
    """

    crop_size: tuple[int, int] = (128, 96)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    direction: DirectionConfig | None = None
    relation: RelationConfig | None = field(default_factory=RelationConfig)
    spatial: SpatialConfig = field(default_factory=SpatialConfig)
    joints_2d: Joints2dConfig | None = None
    temporal: TemporalConfig | None = field(default_factory=TemporalConfig)
    head: HeadConfig = field(default_factory=HeadConfig)


class TwoHandNetwork(nn.Module):
    """4DHands: one network for one hand or two, one frame or many.

    Args:
        config: its parts.
        mean_pose: (15, 3, 3) finger rotations of MANO's mean pose, the pose head's origin; stored
            with the weights. Identity if None.
    """

    def __init__(self, config: NetworkConfig, mean_pose: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config.backbone, config.crop_size)
        dim, grid = self.backbone.dim, self.backbone.grid
        self.direction = (
            DirectionAwareTokens(config.direction, dim, grid)
            if config.direction
            else DirectionlessTokens()
        )
        self.relation = (
            RelationAwareTokens(config.relation, dim, grid) if config.relation else PlainTokens()
        )
        self.spatial = SpatialFusion(config.spatial, dim)
        width = config.spatial.dim
        self.joints_2d = (
            Joints2dBranch(config.joints_2d, dim, width, grid, config.crop_size)
            if config.joints_2d
            else WithoutJoints2d()
        )
        self.temporal = _temporal(config.temporal, width)
        self.mano_head = ManoHead(
            config.head, width, torch.eye(3).expand(15, 3, 3) if mean_pose is None else mean_pose
        )
        self.upsilon_head = build_upsilon_head(config.head, width)
        self.confidence_threshold = ConfidenceThreshold()

    def forward(self, batch: ClipBatch) -> Predictions:
        """Predict every frame of every clip."""
        visible, bbox = batch.hand_visible, batch.visible_bbox
        features = self.encode(batch.crops, bbox, visible, batch.camera)
        return self.decode(features, batch.times, visible, bbox, batch.camera)

    def encode(
        self, crops: Tensor, bbox: Tensor, hand_visible: Tensor, camera: Camera
    ) -> FrameFeatures:
        """What each frame says by itself; a stream computes it once per frame and keeps it.

        Args:
            crops: uint8 (B, T, S, 3, h, w), left crops mirrored.
            bbox: (B, T, S, 4) region of each crop.
            hand_visible: (B, T, S) bool.
            camera: of the full image.
        """
        tokens = self.direction(self.backbone(crops, hand_visible), bbox, camera)
        fused = self.spatial(self.relation(tokens, bbox, hand_visible), hand_visible)
        return FrameFeatures(*self.joints_2d(fused, tokens, hand_visible, bbox, camera))

    def decode(
        self,
        features: FrameFeatures,
        times: Tensor,
        hand_visible: Tensor,
        bbox: Tensor,
        camera: Camera,
    ) -> Predictions:
        """Fuse a window of per-frame features over time and regress both hands.

        Args:
            features: of `encode`.
            times: (B, T) seconds.
            hand_visible: (B, T, S) bool.
            bbox: (B, T, S, 4).
            camera: of the full image.
        """
        fused = self.temporal(features.hands, times, hand_visible)
        with torch.autocast(fused.device.type, enabled=False):  # bf16 would round to millimetres
            feature = fused.float()
            hidden = self.mano_head.trunk(feature)
            parameters = self.mano_head(feature, hidden)
            upsilon = self.upsilon_head(feature, hidden)
        return Predictions(
            hands=hands_in_camera_frame(parameters, bbox, camera),
            crop_camera=parameters.crop_camera,
            rotations_6d=parameters.rotations_6d,
            upsilon=upsilon,
            joint_logits=features.joint_logits,
        )


def _temporal(config: TemporalConfig | None, width: int) -> nn.Module:
    if config is None:
        return SingleFrame()
    return TemporalFusion(config, width) if config.window is None else WindowFusion(config, width)
