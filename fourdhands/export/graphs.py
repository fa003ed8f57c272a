"""The network as graphs for other runtimes: one for each frame, one for a window of frames.

A stream computes the frame graph once for every frame, keeps its features, and gives windows of
them to the window graph. `export.graph_files` writes them; docs/export.md says what goes in and
what comes out.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from fourdhands.data.copies import is_beside
from fourdhands.export.predictor import Predictor, in_one_scene
from fourdhands.export.skinning import GraphHandModel
from fourdhands.geometry.camera import default_intrinsics
from fourdhands.models.backbone import Backbone
from fourdhands.models.network import TwoHandNetwork
from fourdhands.skeleton import NUM_SIDES
from fourdhands.structures import Camera, ClipBatch, FrameFeatures

Precision = Literal["fp32", "fp16", "bf16", "int8"]
FRAME, WINDOW = "frame", "window"
FRAME_INPUTS: Final = ("crops", "bbox", "hand_visible", "intrinsics", "image_size")
WINDOW_INPUTS: Final = (*("features", "times", "hand_visible", "bbox", "intrinsics", "image_size"),)
HANDS: Final = ("global_orient", "hand_pose", "betas", "transl", "upsilon")
DTYPES: Final = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_FRAME_PARTS: Final = ("backbone", "direction", "relation", "spatial", "joints_2d")
_WINDOW_PARTS: Final = ("temporal", "mano_head", "upsilon_head")
_HALF_PARTS: Final = (*_FRAME_PARTS, "temporal")
"""What computes in half precision: heads and geometry would be off by millimetres."""

Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Graph:
    """A part of the network as a function of tensors, which exporters take.

    Attributes:
        module: what is exported.
        inputs: names, in order, with an example.
        outputs: names, in order.
        dynamic: the dimensions of each input that may change.
    """

    module: nn.Module
    inputs: Inputs
    outputs: tuple[str, ...]
    dynamic: dict[str, dict[int, Any]]

    @cached_property
    def program(self) -> ExportedProgram:
        """The graph of `torch.export`, with the dynamic dimensions; made once for all files."""
        with torch.no_grad():
            return torch.export.export(
                self.module,
                tuple(self.inputs.values()),
                dynamic_shapes=tuple(self.dynamic.values()),
                strict=False,
            )


class FrameModule(nn.Module):
    """Crops of both hands of B frames to what a window is made of.

    Inputs: crops uint8 (B, S, 3, h, w), bbox (B, S, 4), hand_visible bool (B, S), intrinsics
    (B, 3, 3), image_size (B, 2). Outputs: features (B, S, D) and, if the network has a 2D branch,
    joints_2d (B, S, J, 2) in fractions of the (mirrored) crop from its middle.
    """

    def __init__(self, network: TwoHandNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        crops: Tensor,
        bbox: Tensor,
        hand_visible: Tensor,
        intrinsics: Tensor,
        image_size: Tensor,
    ) -> tuple[Tensor, ...]:
        """See the class."""
        batch = _batch(
            crops[:, None],
            bbox[:, None],
            hand_visible[:, None],
            intrinsics[:, None],
            image_size[:, None],
            torch.zeros_like(image_size[:, :1]),
        )
        found = self.network.encode(
            batch.crops, batch.visible_bbox, batch.hand_visible, batch.camera
        )
        features = found.hands[:, 0].float()
        if found.joint_logits is None:
            return (features,)
        return features, found.joint_logits.joints()[:, 0].float()


class WindowModule(nn.Module):
    """Features of B windows of T frames to both hands in every frame, as `Predictor` gives them.

    Inputs: features (B, T, S, D), times (B, T) seconds, hand_visible bool (B, T, S), bbox
    (B, T, S, 4), intrinsics (B, T, 3, 3), image_size (B, T, 2). Outputs: global_orient
    (B, T, S, 3, 3), hand_pose (B, T, S, 15, 3, 3), betas (B, T, S, 10), transl (B, T, S, 3),
    upsilon (B, T, 3); with a mesh also joints (B, T, S, 21, 3) and vertices (B, T, S, 778, 3).
    """

    def __init__(self, predictor: Predictor, network: TwoHandNetwork, mesh: bool) -> None:
        super().__init__()
        self.network, self.mesh = network, mesh
        self.hand_model = GraphHandModel(predictor.hand_model) if is_free(predictor) else None

    def forward(
        self,
        features: Tensor,
        times: Tensor,
        hand_visible: Tensor,
        bbox: Tensor,
        intrinsics: Tensor,
        image_size: Tensor,
    ) -> tuple[Tensor, ...]:
        """See the class."""
        batch = _batch(features, bbox, hand_visible, intrinsics, image_size, times)
        dtype = next(self.network.temporal.parameters(), features).dtype
        found = self.network.decode(
            FrameFeatures(features.to(dtype), None),
            times,
            batch.hand_visible,
            batch.visible_bbox,
            batch.camera,
        )
        if self.hand_model is not None:
            in_scene = batch.hand_visible & ~is_beside(batch.bbox, batch.camera.image_size)
            found = in_one_scene(found, in_scene, self.network.config.head, self.hand_model)
        hands = found.map(Tensor.float).hands
        out = (hands.global_orient, hands.hand_pose, hands.betas, hands.transl, found.upsilon)
        if not self.mesh:
            return out
        assert self.hand_model is not None
        geometry = self.hand_model(hands)
        return *out, geometry.joints, geometry.vertices


class _EveryCrop(nn.Module):
    """The backbone on every crop: a graph cannot leave out those that show nothing."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, crops: Tensor, visible: Tensor) -> Tensor:
        """As `Backbone.forward`."""
        tokens = self.backbone.tokens(crops.flatten(0, -4)).unflatten(0, visible.shape)
        return torch.where(visible[..., None, None], tokens, 0.0)


def build_graphs(
    predictor: Predictor, *, precision: Precision = "fp32", mesh: bool = False
) -> dict[str, Graph]:
    """Both graphs of a predictor on the CPU, and examples of their inputs.

    Args:
        predictor: stays as it is.
        precision: of the weights; int8 is made of the ONNX files of fp32 (`graph_files`).
        mesh: whether the window graph has the hand model and gives joints and vertices.

    Raises:
        ValueError: the hand model is MANO, and the graph would need its arrays.
    """
    network = predictor.network
    refuse_mano(predictor, mesh=mesh)
    if not is_free(predictor):
        network = _with_mean_in_bias(network)
    network = _for_graphs(network, DTYPES.get(precision, torch.float32))
    frame = example_frame(predictor, frames=5)
    frames: Graph = Graph(
        FrameModule(_with_parts(network, _FRAME_PARTS)).eval(),
        frame,
        ("features", "joints_2d") if predictor.network.config.joints_2d else ("features",),
        {name: {0: Dim("batch", min=1, max=4096)} for name in FRAME_INPUTS},
    )
    dims = {0: Dim("batch", min=1, max=4096), 1: Dim("frames", min=1, max=4096)}
    window = Graph(
        WindowModule(predictor, _with_parts(network, _WINDOW_PARTS), mesh).eval(),
        example_window(predictor, clips=2, frames=3),
        (*HANDS, *(("joints", "vertices") if mesh else ())),
        dict.fromkeys(WINDOW_INPUTS, dims),
    )
    return {FRAME: frames, WINDOW: window}


def example_frame(predictor: Predictor, frames: int) -> Inputs:
    """Inputs of the frame graph: noise in the crops, hands beside each other."""
    generator = torch.Generator().manual_seed(0)
    shape = (frames, NUM_SIDES, 3, *predictor.crop.size)
    crops = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return {"crops": crops} | _places(predictor, (frames,))


def frame_inputs(batches: Sequence[ClipBatch]) -> Inputs:
    """Every frame of batches, one after the other, as inputs of the frame graph."""

    def all_of(values: Sequence[Tensor]) -> Tensor:
        return torch.cat([value.flatten(0, 1) for value in values])

    return {
        "crops": all_of([batch.crops for batch in batches]),
        "bbox": all_of([batch.bbox for batch in batches]),
        "hand_visible": all_of([batch.hand_visible for batch in batches]),
        "intrinsics": all_of([batch.camera.intrinsics for batch in batches]),
        "image_size": all_of([batch.camera.image_size for batch in batches]),
    }


def example_window(predictor: Predictor, clips: int, frames: int) -> Inputs:
    """Inputs of the window graph."""
    generator = torch.Generator().manual_seed(1)
    width = predictor.network.config.spatial.dim
    places = _places(predictor, (clips, frames))
    return {
        "features": torch.randn(clips, frames, NUM_SIDES, width, generator=generator),
        "times": torch.arange(frames).expand(clips, frames) / 6.0,
        "hand_visible": places["hand_visible"],
        "bbox": places["bbox"],
        "intrinsics": places["intrinsics"],
        "image_size": places["image_size"],
    }


def _places(predictor: Predictor, lead: tuple[int, ...]) -> Inputs:
    height, width = predictor.crop.size
    box = torch.tensor([[200.0, 240.0, width, height], [420.0, 250.0, width, height]])
    size = torch.tensor((640.0, 480.0)).expand(*lead, 2)
    return {
        "bbox": (box * torch.tensor((1.0, 1.0, 150 / height, 150 / height))).repeat(*lead, 1, 1),
        "hand_visible": torch.ones(*lead, NUM_SIDES, dtype=torch.bool),
        "intrinsics": default_intrinsics(size).contiguous(),
        "image_size": size.contiguous(),
    }


def _batch(
    crops: Tensor,
    bbox: Tensor,
    hand_visible: Tensor,
    intrinsics: Tensor,
    image_size: Tensor,
    times: Tensor,
) -> ClipBatch:
    """The inputs as the network's parts take them; `crops` may be features nobody looks at."""
    eye = torch.eye(4, dtype=intrinsics.dtype, device=intrinsics.device)
    return ClipBatch(
        crops=crops,
        bbox=bbox,
        camera=Camera(intrinsics, image_size, eye.expand(*intrinsics.shape[:2], 4, 4)),
        hand_present=hand_visible,
        frame_valid=torch.ones_like(hand_visible[..., 0]),
        times=times,
        labels=None,
    )


def _for_graphs(network: TwoHandNetwork, dtype: torch.dtype) -> TwoHandNetwork:
    """The network with parts in another precision, looking at every crop; `network` stays."""
    if dtype != torch.float32:
        network = copy.deepcopy(network)
        for name in _HALF_PARTS:
            part = getattr(network, name)
            kept = {n: b.clone() for n, b in part.named_buffers() if _is_geometry(n)}
            part.to(dtype)
            for buffer, value in kept.items():
                owner, _, leaf = buffer.rpartition(".")
                setattr(part.get_submodule(owner), leaf, value)
    made = _with_parts(network, tuple(network._modules))
    made.backbone = _EveryCrop(network.backbone)  # type: ignore[assignment]
    return made.eval()


def _with_parts(network: TwoHandNetwork, parts: Sequence[str]) -> TwoHandNetwork:
    """The network with some of its modules alone: a graph's file would carry the others along."""
    made = copy.copy(network)
    made._modules = {name: network._modules[name] for name in parts}
    return made


def is_free(predictor: Predictor) -> bool:
    """Whether graphs may carry the hand model.

    If it is MANO, they do without: hands stand where each crop's own camera puts them, and upsilon
    is what the head says.
    """
    return all(side.source == "open" for side in predictor.hand_model.assets)


def refuse_mano(predictor: Predictor, *, mesh: bool) -> None:
    """Refuse graphs that would carry arrays of MANO.

    Raises:
        ValueError: the hand model is MANO, and the graph would need its arrays.
    """
    if not is_free(predictor) and (mesh or predictor.network.config.head.pose == "axis_angle"):
        what = "a mesh" if mesh else "this network's pose (head.pose axis_angle)"
        raise ValueError(
            f"the graph would carry arrays of MANO, which may not be passed on, for {what}: "
            "leave it out, or use the open hand"
        )


def _with_mean_in_bias(network: TwoHandNetwork) -> TwoHandNetwork:
    """The same network without MANO's mean pose as an array; a copy."""
    network = copy.deepcopy(network)
    head = network.mano_head
    if head.config.pose == "offset":
        with torch.no_grad():
            head.pose.bias.add_(head.mean_rotations.flatten())
            head.mean_rotations.zero_()
    return network


def _is_geometry(buffer: str) -> bool:
    """Angles and pixels' statistics keep their precision."""
    return buffer.endswith(("angular_frequency", "pixel_mean", "pixel_std"))


Runner = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def eager(graph: Graph) -> Runner:
    """The graph's module itself, as a function by names."""

    def run(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with torch.inference_mode():
            found = graph.module(*(inputs[name] for name in graph.inputs))
        return dict(zip(graph.outputs, found, strict=True))

    return run
