"""Who starts the processes of a run: the run itself, torchrun, or SLURM's srun."""

import os
from collections.abc import Mapping
from typing import Final

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

_STARTED_BY_HAND: Final = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
"""What the processes of several nodes have to be told if nobody else does so."""


def find_launcher(
    devices: int, num_nodes: int, environ: Mapping[str, str] = os.environ
) -> ClusterEnvironment:
    """Whoever has started this process, and as many others as the run wants.

    Lightning would take any shell inside a SLURM allocation for a task of srun and wait for tasks
    that nobody started. Here a task is one of srun's only if its step has as many as the run wants.

    Args:
        devices: processes on each node.
        num_nodes: nodes.
        environ: environment variables.

    Raises:
        ValueError: other processes are running than the run wants.
    """
    wanted = devices * num_nodes
    torchrun = "TORCHELASTIC_RUN_ID" in environ
    srun_tasks = int(environ.get("SLURM_STEP_NUM_TASKS", 1))
    if torchrun or srun_tasks > 1:
        running = int(environ["WORLD_SIZE"]) if torchrun else srun_tasks
        if running != wanted:
            raise ValueError(
                f"trainer: {'torchrun' if torchrun else 'srun'} has started {running} processes, "
                f"but trainer.devices ({devices}) x trainer.num_nodes ({num_nodes}) is {wanted}"
            )
        if torchrun:
            return TorchElasticEnvironment()
        if "SLURM_NTASKS_PER_NODE" not in environ:
            raise ValueError("trainer: give srun --ntasks-per-node, the number of devices")
        return SLURMEnvironment(auto_requeue=False)
    if num_nodes > 1 and not all(name in environ for name in _STARTED_BY_HAND):
        raise ValueError(
            f"trainer.num_nodes is {num_nodes}: start the run on every node, by "
            "scripts/train_torchrun.sh or scripts/train_slurm.sh (docs/training.md)"
        )
    return LightningEnvironment()
