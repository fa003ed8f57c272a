"""Every file under configs/ is read and built; ablations change what they say."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fourdhands import config
from fourdhands.data.synthetic.synthesize import SynthesizeConfig
from fourdhands.evaluation.runs import EvaluationConfig
from fourdhands.hands.mano import HandModel
from fourdhands.models.network import NetworkConfig, TwoHandNetwork
from fourdhands.training.losses import ReconstructionLoss
from fourdhands.training.optimizer import build_optimizer, build_schedule
from fourdhands.training.runs import ReconstructionRun
from tests.helpers.batches import random_batch
from tests.helpers.runs import tiny_network

CONFIGS = Path(__file__).parents[2] / "configs"
ABLATIONS = CONFIGS / "reconstruction" / "ablation"
TYPES: dict[str, type] = {
    "quickstart.yaml": ReconstructionRun,
    "model": NetworkConfig,
    "reconstruction": ReconstructionRun,
    "evaluation": EvaluationConfig,
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


def parts(run: ReconstructionRun) -> dict[str, Any]:
    return {
        "relation": run.network.relation is not None,
        "cross": run.network.spatial.cross_hand,
        "box": run.data.box,
        "temporal": run.network.temporal is not None,
        "sequence": run.data.num_frames > 1,
    }


@pytest.mark.parametrize("base", ["base", "4dhands"])
def test_ablations_are_the_rows_of_table_5(base: str) -> None:
    recipe = CONFIGS / "reconstruction" / f"{base}.yaml"

    def row(name: str) -> tuple[Any, ...]:
        run = config.load(ReconstructionRun, recipe, ABLATIONS / f"{name}.yaml")
        return tuple(parts(run).values())

    assert {path.stem for path in ABLATIONS.glob("*.yaml")} == {
        *("baseline", "cross_h", "cross_s", "without_rat", "seq")
    }
    assert row("baseline") == (False, False, "separate", False, False)
    assert row("cross_h") == (False, True, "holistic", False, False)
    assert row("cross_s") == (True, True, "separate", False, False)
    assert row("without_rat") == (False, True, "separate", False, False)
    assert row("seq") == (True, True, "separate", True, True)
    full = config.load(ReconstructionRun, recipe, ABLATIONS / "seq.yaml")
    assert full == config.load(ReconstructionRun, recipe)


@pytest.mark.parametrize("name", names(ABLATIONS))
def test_every_ablation_takes_a_step(name: str, tmp_path: Path) -> None:
    tiny = tmp_path / "tiny.yaml"
    config.save(ReconstructionRun(network=tiny_network()), tiny)
    run = config.load(ReconstructionRun, tiny, ABLATIONS / name)
    torch.manual_seed(0)
    hand_model = HandModel.open()
    network = TwoHandNetwork(run.network, hand_model.mean_pose)
    frames = min(2, run.data.num_frames)
    batch = random_batch(hand_model, frames=frames, crop_size=run.network.crop_size)
    losses = ReconstructionLoss(run.loss, hand_model)(network(batch), batch)
    losses.total.backward()
    unused = [n for n, p in network.named_parameters() if p.grad is None]
    assert not unused
    assert ("relation." in " ".join(network.state_dict())) == (run.network.relation is not None)
    assert ("temporal." in " ".join(network.state_dict())) == (run.network.temporal is not None)
