"""What must hold of the network whatever its weights are."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fourdhands.geometry.rotation import mirror_points
from fourdhands.hands.mano import HandModel
from fourdhands.models.backbone import BackboneConfig
from fourdhands.models.direction_map import DirectionConfig
from fourdhands.models.joints_2d import Joints2dConfig
from fourdhands.models.network import NetworkConfig, TwoHandNetwork
from fourdhands.models.rat import RelationConfig
from fourdhands.models.sir import SpatialConfig, TemporalConfig
from fourdhands.structures import ClipBatch, FrameFeatures, Predictions
from tests.helpers.batches import mirrored_swapped, random_batch, swap_sides

VARIANTS = {
    "full": NetworkConfig(),
    "without_rat": NetworkConfig(relation=None),
    "global_directions_simcc": NetworkConfig(
        direction=DirectionConfig("global"), joints_2d=Joints2dConfig("simcc", channels=16)
    ),
    "local_directions_heatmap": NetworkConfig(
        direction=DirectionConfig("local"),
        joints_2d=Joints2dConfig("heatmap", channels=16, positional_encoding=False),
    ),
    "single_frame": NetworkConfig(temporal=None),
    "baseline": NetworkConfig(
        relation=None, temporal=None, spatial=SpatialConfig(cross_hand=False)
    ),
    "vit": NetworkConfig(
        backbone=BackboneConfig(
            name="vit_tiny_patch16_224", options={"depth": 2, "embed_dim": 64, "num_heads": 2}
        )
    ),
}


@pytest.fixture(scope="module")
def hand_model() -> HandModel:
    return HandModel()


@pytest.fixture(params=VARIANTS)
def network(request: pytest.FixtureRequest, hand_model: HandModel) -> TwoHandNetwork:
    """Random weights in every layer, so that nothing cancels by a zero start."""
    torch.manual_seed(1)
    config = replace(VARIANTS[request.param], crop_size=(64, 48))
    network = TwoHandNetwork(config, hand_model.mean_pose).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.03)
    return network


def tensors(predictions: Predictions) -> dict[str, Tensor]:
    hands, logits = predictions.hands, predictions.joint_logits
    return {
        "global_orient": hands.global_orient,
        "hand_pose": hands.hand_pose,
        "betas": hands.betas,
        "transl": hands.transl,
        "crop_camera": predictions.crop_camera,
        "rotations_6d": predictions.rotations_6d,
        "upsilon": predictions.upsilon,
    } | ({"joints_2d": logits.joints()} if logits else {})


def assert_same(first: Predictions, second: Predictions, tolerance: float = 1e-5) -> None:
    for name, value in tensors(first).items():
        torch.testing.assert_close(
            value,
            tensors(second)[name],
            atol=tolerance,
            rtol=tolerance,
            msg=lambda m, n=name: f"{n}: {m}",
        )


@torch.no_grad()
def test_mirroring_the_frame_and_swapping_sides_mirrors_and_swaps_everything(
    network: TwoHandNetwork, hand_model: HandModel
) -> None:
    batch = random_batch(hand_model)
    batch = replace(batch, hand_present=torch.tensor([[[1, 1], [1, 0], [1, 1]]] * 2).bool())
    straight, mirrored = network(batch), network(mirrored_swapped(batch))
    expected = Predictions(
        hands=swap_sides(straight.hands),
        crop_camera=straight.crop_camera[:, :, [1, 0]],
        rotations_6d=straight.rotations_6d[:, :, [1, 0]],
        upsilon=-mirror_points(straight.upsilon),
        joint_logits=straight.joint_logits and straight.joint_logits.map(lambda t: t[:, :, [1, 0]]),
    )
    assert_same(mirrored, expected)


@torch.no_grad()
def test_an_absent_hand_cannot_change_any_output(
    network: TwoHandNetwork, hand_model: HandModel
) -> None:
    batch = random_batch(hand_model)
    batch.hand_present[:, 1, 1] = False
    batch.hand_present[1, :, 0] = False
    other = batch.crops.clone()
    other[:, 1, 1] = 255
    other[1, :, 0] = 0
    assert_same(network(batch), network(replace(batch, crops=other)), tolerance=0)
    learning = deepcopy(network).train()  # batch normalisation mixes the crops it sees
    assert_same(learning(batch), learning(replace(batch, crops=other)), tolerance=0)


@torch.no_grad()
def test_a_padded_frame_cannot_change_the_others(
    network: TwoHandNetwork, hand_model: HandModel
) -> None:
    batch = random_batch(hand_model)
    batch.frame_valid[:, 2] = False
    crops, bbox, times = batch.crops.clone(), batch.bbox.clone(), batch.times.clone()
    crops[:, 2], times[:, 2] = 255, 9.0
    bbox[:, 2] += 40
    changed = network(replace(batch, crops=crops, bbox=bbox, times=times))
    assert_same(network(batch)[:, :2], changed[:, :2], tolerance=0)
    assert_same(network(batch)[:, :2], network(cut(batch, slice(0, 2))))


@torch.no_grad()
def test_copies_of_a_frame_give_what_the_frame_gives(
    network: TwoHandNetwork, hand_model: HandModel
) -> None:
    batch = random_batch(hand_model, frames=1)
    copies = replace(
        batch.map(lambda t: t.expand(t.shape[0], 4, *t.shape[2:])),
        times=torch.tensor([[0.0, 0.1, 0.5, 2.0]] * 2),
    )
    single = network(batch).map(lambda t: t.expand(t.shape[0], 4, *t.shape[2:]))
    assert_same(network(copies), single)


@torch.no_grad()
def test_a_batch_of_clips_gives_what_each_clip_gives(
    network: TwoHandNetwork, hand_model: HandModel
) -> None:
    batch = random_batch(hand_model, clips=3)
    for clip in range(3):
        one = slice(clip, clip + 1)
        assert_same(network(batch)[one], network(batch[one]))


@torch.no_grad()
def test_only_relative_time_counts(network: TwoHandNetwork, hand_model: HandModel) -> None:
    batch = random_batch(hand_model)
    assert_same(network(batch), network(replace(batch, times=batch.times + 3.0)), tolerance=1e-4)


@torch.no_grad()
def test_streaming_with_stored_features_gives_the_window(
    network: TwoHandNetwork, hand_model: HandModel
) -> None:
    batch = random_batch(hand_model)
    stream = [
        network.encode(frame.crops, frame.bbox, frame.hand_visible, frame.camera)
        for frame in (cut(batch, slice(t, t + 1)) for t in range(3))
    ]
    streamed = network.decode(
        FrameFeatures.cat(stream, 1), batch.times, batch.hand_visible, batch.bbox, batch.camera
    )
    assert_same(streamed, network(batch))


@torch.no_grad()
def test_other_frames_matter_with_temporal_fusion_only(hand_model: HandModel) -> None:
    batch = random_batch(hand_model)
    crops = batch.crops.clone()
    crops[:, 2] = 255 - crops[:, 2]
    for temporal in (TemporalConfig(), None):
        torch.manual_seed(0)
        config = NetworkConfig(crop_size=(64, 48), temporal=temporal, relation=RelationConfig())
        network = TwoHandNetwork(config).eval()
        first, second = (
            network(replace(batch, crops=c)).upsilon[:, 0] for c in (batch.crops, crops)
        )
        assert torch.equal(first, second) == (temporal is None)


def cut(batch: ClipBatch, frames: slice) -> ClipBatch:
    return batch[:, frames]
