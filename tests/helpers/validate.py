"""Validation shared by processes: python -m tests.helpers.validate PROCESSES RESULT FOLDER...

A program of its own, as Lightning starts its further processes by running the same program again.
"""

import json
import sys
from pathlib import Path

import torch

from fourdhands.data.datamodule import ClipDataModule, DataConfig
from fourdhands.hands.mano import HandModel
from fourdhands.models.network import TwoHandNetwork
from fourdhands.training.losses import LossConfig, ReconstructionLoss
from fourdhands.training.optimizer import OptimizerConfig
from fourdhands.training.reconstruction import Reconstruction
from tests.helpers.runs import tiny_network


def validate(processes: int, *folders: Path) -> list[dict[str, float]]:
    """Metrics of a network that has learned nothing, on the shards in each folder."""
    # after fourdhands, which makes it importable beside any torchvision
    import pytorch_lightning as pl
    from pytorch_lightning.strategies import DDPStrategy

    torch.manual_seed(0)
    hand_model = HandModel.open()
    module = Reconstruction(
        TwoHandNetwork(tiny_network(), hand_model.mean_pose),
        ReconstructionLoss(LossConfig(), hand_model),
        OptimizerConfig(),
        max_steps=1,
        seed=0,
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="auto" if processes == 1 else DDPStrategy(broadcast_buffers=False),
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    metrics = []
    for folder in folders:
        config = DataConfig(val=(folder,), num_frames=2, gap=2, batch_size=1, num_workers=1)
        trainer.validate(module, datamodule=ClipDataModule(config, (64, 48)), verbose=False)
        metrics.append({name: float(value) for name, value in trainer.callback_metrics.items()})
    return metrics


if __name__ == "__main__":
    metrics = validate(int(sys.argv[1]), *map(Path, sys.argv[3:]))
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        Path(sys.argv[2]).write_text(json.dumps(metrics))
