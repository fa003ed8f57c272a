"""Every file under configs/ is read and built; ablations change what they say."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fourdhands import config
from fourdhands.data.datamodule import DataConfig
from fourdhands.data.manifest import Manifest
from fourdhands.data.negatives import NegativeConfig
from fourdhands.data.synthetic.synthesize import SynthesizeConfig
from fourdhands.evaluation.runs import EvaluationConfig
from fourdhands.hands.mano import HandModel
from fourdhands.models.direction_map import DirectionConfig
from fourdhands.models.joints_2d import Joints2dConfig
from fourdhands.models.network import NetworkConfig, TwoHandNetwork
from fourdhands.refinement.stages import RefinementConfig
from fourdhands.structures import ClipBatch
from fourdhands.training.losses import LossConfig, ReconstructionLoss
from fourdhands.training.motion_prior import MotionPriorRun
from fourdhands.training.optimizer import build_optimizer, build_schedule
from fourdhands.training.runs import ReconstructionRun
from tests.helpers.batches import random_batch
from tests.helpers.runs import tiny_network

CONFIGS = Path(__file__).parents[2] / "configs"
ABLATIONS = CONFIGS / "reconstruction" / "ablation"
TYPES: dict[str, type] = {
    "quickstart.yaml": ReconstructionRun,
    "data": DataConfig,
    "model": NetworkConfig,
    "reconstruction": ReconstructionRun,
    "evaluation": EvaluationConfig,
    "motion_prior": MotionPriorRun,
    "refinement": RefinementConfig,
    "synthetic": SynthesizeConfig,
}


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.yaml"))


def build(network: NetworkConfig) -> TwoHandNetwork:
    """The network without memory for its weights, and without fetching any."""
    with torch.device("meta"):
        return TwoHandNetwork(
            replace(network, backbone=replace(network.backbone, pretrained=False))
        )


@pytest.mark.parametrize("name", names(CONFIGS))
def test_every_file_can_be_built(name: str) -> None:
    loaded: Any = config.load(TYPES[Path(name).parts[0]], CONFIGS / name)
    assert config.from_dict(type(loaded), config.to_dict(loaded), source=name) == loaded
    if isinstance(loaded, NetworkConfig):
        build(loaded)
    if isinstance(loaded, ReconstructionRun):
        loss = ReconstructionLoss(loaded.loss, HandModel.open())
        optimizer = build_optimizer(loaded.optimizer, build(loaded.network), loss)
        build_schedule(loaded.optimizer, optimizer, loaded.trainer.max_steps)


def test_the_mix_gives_each_of_its_sets_a_weight() -> None:
    mix = config.load(DataConfig, CONFIGS / "data" / "4dhands_mix.yaml")
    manifests = {path: Manifest.load(CONFIGS.parent / path) for path in (*mix.train, *mix.val)}
    assert [manifests[path].split for path in mix.train] == ["train"] * 12
    assert {path.stem.removesuffix("_train") for path in mix.train} == set(mix.weights)


# ---- ablations -----------------------------------------------------------------------------------


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    """A recipe, tiny, that has every part switched on, and otherwise than any overlay says."""
    run = ReconstructionRun(
        network=replace(
            tiny_network(),
            direction=DirectionConfig("local"),
            joints_2d=Joints2dConfig("heatmap"),
        ),
        data=DataConfig(negatives=NegativeConfig(0.5)),
        loss=LossConfig(
            joint_bins=3, l1_direct_2d=2, confidence=2, uncertainty=("rotations", "joint_bins")
        ),
    )
    config.save(run, tmp_path / "everything.yaml")
    return tmp_path / "everything.yaml"


def parts_of_4dhands(run: ReconstructionRun) -> tuple[Any, ...]:
    return (
        run.network.relation is not None,
        run.network.spatial.cross_hand,
        run.data.box,
        run.network.temporal is not None,
        run.data.num_frames > 1,
    )


def parts_of_dahyf(run: ReconstructionRun) -> tuple[Any, ...]:
    direction, joints_2d = run.network.direction, run.network.joints_2d
    assert bool(run.loss.joint_bins) == (joints_2d is not None)
    assert bool(run.loss.confidence) == bool(run.data.negatives.share)
    return (
        direction and direction.kind,
        joints_2d and joints_2d.kind,
        joints_2d and joints_2d.positional_encoding,
        bool(run.loss.confidence),
    )


ALONE = (False, False, "separate", False, False)
TABLE_5_OF_4DHANDS = {
    "baseline": ALONE,
    "cross_h": (False, True, "holistic", False, False),
    "cross_s": (True, True, "separate", False, False),
    "without_rat": (False, True, "separate", False, False),
    "seq": (True, True, "separate", True, None),  # as many frames as the recipe says
}
TABLE_4_OF_DAHYF = {
    "baseline": (None, None, None, False),
    "gdm": ("global", None, None, False),
    "gdm_heatmap": ("global", "heatmap", False, False),
    "gdm_heatmap_confidence": ("global", "heatmap", False, True),
    "gdm_simcc_confidence": ("global", "simcc", False, True),
    "ldm_simcc_confidence": ("local", "simcc", False, True),
    "gdm_simcc_encoding_confidence": ("global", "simcc", True, True),
}


@pytest.mark.parametrize("base", ["base", "4dhands", "dahyf", "everything"])
def test_ablations_are_the_rows_of_the_papers_tables(base: str, everything: Path) -> None:
    recipe = everything if base == "everything" else CONFIGS / "reconstruction" / f"{base}.yaml"

    def rows(paper: str) -> dict[str, ReconstructionRun]:
        overlays = (ABLATIONS / paper).glob("*.yaml")
        return {path.stem: config.load(ReconstructionRun, recipe, path) for path in overlays}

    table_5, table_4 = rows("4dhands"), rows("dahyf")
    sequence = config.load(ReconstructionRun, recipe).data.num_frames > 1
    expected = TABLE_5_OF_4DHANDS | {"seq": (True, True, "separate", True, sequence)}
    assert {name: parts_of_4dhands(run) for name, run in table_5.items()} == expected
    assert {name: parts_of_dahyf(run) for name, run in table_4.items()} == TABLE_4_OF_DAHYF
    assert {parts_of_4dhands(run) for run in table_4.values()} == {ALONE}
    nothing = TABLE_4_OF_DAHYF["baseline"]
    assert {parts_of_dahyf(run) for run in table_5.values()} == {nothing}
    assert table_4["baseline"] == table_5["baseline"]
    if base == "4dhands":
        assert table_5["seq"] == config.load(ReconstructionRun, recipe)


@pytest.mark.parametrize("name", names(ABLATIONS))
def test_every_ablation_takes_a_step(name: str, everything: Path) -> None:
    run = config.load(ReconstructionRun, everything, ABLATIONS / name)
    torch.manual_seed(0)
    hand_model = HandModel.open()
    network = TwoHandNetwork(run.network, hand_model.mean_pose)
    frames = min(2, run.data.num_frames)
    batch = random_batch(hand_model, frames=frames, crop_size=run.network.crop_size)
    if run.data.negatives.share:
        batch = without_a_hand(batch)
    losses = ReconstructionLoss(run.loss, hand_model)(network(batch), batch)
    losses.total.backward()
    unused = [n for n, p in network.named_parameters() if p.grad is None]
    assert not unused
    assert not run.loss.confidence or losses.terms["confidence"] > 0
    weights = " ".join(network.state_dict())
    for part in ("direction", "relation", "joints_2d", "temporal"):
        assert (f"{part}." in weights) == (getattr(run.network, part) is not None)


def without_a_hand(batch: ClipBatch) -> ClipBatch:
    """One crop shows something else."""
    assert batch.labels is not None
    gone = torch.zeros_like(batch.hand_present)
    gone[0, 0, 0] = True
    labels = replace(
        batch.labels,
        is_hand=~gone,
        hands_valid=batch.labels.hands_valid & ~gone,
        joints_valid=batch.labels.joints_valid & ~gone[..., None],
        joints_2d_valid=batch.labels.joints_2d_valid & ~gone[..., None],
    )
    return replace(batch, labels=labels)
