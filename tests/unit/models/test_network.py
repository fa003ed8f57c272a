"""Building the network: presets, sizes, and what cannot be built."""

import pytest
import torch

from fourdhands.models.backbone import Backbone, BackboneConfig
from fourdhands.models.network import NetworkConfig, TwoHandNetwork
from fourdhands.models.rat import RelationConfig
from fourdhands.models.sir import SpatialConfig, TemporalConfig

VIT_H = NetworkConfig(
    crop_size=(256, 192),
    backbone=BackboneConfig("vit_huge_patch14_224", options={"patch_size": 16}),
    relation=RelationConfig(),
    spatial=SpatialConfig(
        dim=1024,
        encoder_depth=4,
        encoder_heads=16,
        decoder_depth=6,
        decoder_heads=8,
        head_dim=64,
        mlp_dim=1024,
        final_norm=False,
    ),
    temporal=TemporalConfig(depth=6, num_heads=16, head_dim=64, mlp_dim=1024, final_norm=False),
)


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_vit_h_has_the_published_sizes() -> None:
    """The parts whose sizes are known from the released model, parameter for parameter."""
    with torch.device("meta"):
        network = TwoHandNetwork(VIT_H)
    assert network.backbone.grid == (16, 12) and network.backbone.dim == 1280
    # 630,912,000 with a class-token slot in the position embedding, which this one has not
    assert count(network.backbone) == 630_912_000 - 1280
    assert count(network.spatial.encoder) == 39_357_440
    # the released decoders also hold an embedding of a constant zero and the query's position;
    # our learned query stands for both
    assert count(network.spatial.decoder) == 39_386_112 - 3 * 1024
    assert count(network.temporal.decoder) == 62_979_072 - 3 * 1024
    assert count(network) == 779_810_160


@pytest.mark.parametrize("name", ["resnet10t", "resnet50", "hrnet_w64", "mobilenetv4_conv_small"])
def test_any_stride_16_model_makes_tokens(name: str) -> None:
    backbone = Backbone(BackboneConfig(name, dim=64), (128, 96))
    crops = torch.randint(0, 256, (2, 3, 3, 128, 96), dtype=torch.uint8)
    visible = torch.tensor([[True, False, True], [True, True, False]])
    tokens = backbone(crops, visible)
    assert tokens.shape == (2, 3, 48, 64)
    assert (tokens.abs().amax((-2, -1)) > 0).equal(visible)


@pytest.mark.parametrize("name", ["convnext_atto", "efficientnet_b0", "hiera_tiny_224"])
def test_blocks_are_known_though_names_differ(name: str) -> None:
    backbone = Backbone(BackboneConfig(name, dim=32), (224, 224))
    layers = backbone.layers()
    count = sum(len(layer) for layer in layers)
    assert count == len(list(backbone.model.parameters()))
    assert len(layers) > 6


def test_what_cannot_be_built_is_explained() -> None:
    with pytest.raises(ValueError, match=r"backbone.name 'resnet1000'.*resnet"):
        Backbone(BackboneConfig("resnet1000"), (64, 48))
    with pytest.raises(ValueError, match="multiples of 16"):
        Backbone(BackboneConfig(), (60, 48))
    with torch.device("meta"), pytest.raises(ValueError, match="patch_size"):
        Backbone(BackboneConfig("vit_tiny_patch16_224", options={"patch_size": 8}), (64, 48))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet10t", {"drop_path": 0.1}, r"backbone.options \{'drop_path': 0.1\} \(.*drop_path"),
        ("resnet10t", {"act_layer": "wings"}, r"'resnet10t': .* backbone.options .*wings"),
        ("resnet10t", {"cardinality": 0}, r"backbone.options \{'cardinality': 0\}"),
        ("vit_tiny_patch16_224", {"num_heads": 5}, r"backbone.options \{'num_heads': 5\}"),
        ("vit_tiny_patch16_224", {"patch_size": "16"}, r"backbone.options \{'patch_size': '16'\}"),
    ],
)
def test_options_that_timm_cannot_use_are_named(name: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Backbone(BackboneConfig(name, options=options), (64, 48))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["checkpoint_path", "pretrained_cfg", "pretrained", "out_indices"])
def test_options_open_no_files(name: str) -> None:
    with pytest.raises(ValueError, match=f"backbone.options may not hold {name}: "):
        BackboneConfig(options={name: "weights.pth"})


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet10t", {"drop_path_rate": 0.5}),
        ("vit_tiny_patch16_224", {"depth": 3, "drop_path_rate": 0.5}),
    ],
)
def test_activations_computed_anew_change_nothing(name: str, options: dict) -> None:
    crops = torch.randint(0, 256, (4, 3, 64, 48), dtype=torch.uint8)
    visible = torch.ones(4, dtype=torch.bool)

    def learn(checkpointing: bool) -> tuple[int, dict, dict]:
        """Bytes kept for the backward pass, gradients, and the state after two steps."""
        torch.manual_seed(0)
        config = BackboneConfig(name, dim=32, options=options, checkpointing=checkpointing)
        backbone = Backbone(config, (64, 48))
        kept = 0

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += tensor.nbytes
            return tensor

        for _ in range(2):
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                tokens = backbone(crops, visible)
            tokens.square().mean().backward()
        gradients = {n: p.grad for n, p in backbone.named_parameters() if p.grad is not None}
        state = {n: x for n, x in backbone.state_dict().items() if "num_batches" not in n}
        return kept, gradients, state

    (kept, *expected), (kept_less, *found) = learn(False), learn(True)
    assert kept_less < 0.9 * kept
    for one, other in zip(expected, found, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_activations_are_computed_anew_in_training_only() -> None:
    backbone = Backbone(BackboneConfig(checkpointing=True), (64, 48))
    assert backbone.model.grad_checkpointing
    assert not backbone.eval().model.grad_checkpointing
    assert backbone.train().model.grad_checkpointing
    with pytest.raises(ValueError, match=r"backbone.checkpointing: timm's 'hrnet_w18' cannot"):
        Backbone(BackboneConfig("hrnet_w18", checkpointing=True), (64, 64))
