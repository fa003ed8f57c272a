"""FSDP: each device keeps a part of every weight, its gradient and its optimizer state.

Torch's `fully_shard` (FSDP2) does the work. Outside of a step everything looks as without it:
checkpoints hold whole tensors in the order that one device would write them in, so that a run can
be evaluated or resumed on any number of devices by any strategy.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

import torch
import torch.distributed as dist
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import DDPStrategy
from timm.models import vision_transformer
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.export import register_dataclass
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from fourdhands.models.attention import DecoderLayer
from fourdhands.structures import AxisLogits, CellLogits, HandState, Predictions

BLOCKS: Final = (
    vision_transformer.Block,
    vision_transformer.ResPostBlock,
    vision_transformer.ParallelScalingBlock,
    vision_transformer.ParallelThingsBlock,
    DecoderLayer,
)
"""What is gathered for its own forward and backward pass only; the rest stays for a whole step."""


def shard(network: nn.Module, mesh: DeviceMesh) -> None:
    """Leave each device of a mesh its part of a network's parameters, which become `DTensor`s."""
    _let_torch_see_into_predictions()
    # nothing else can be cut
    nn.utils.convert_conv2d_weight_memory_format(network, torch.contiguous_format)
    for block in [part for part in network.modules() if isinstance(part, BLOCKS)]:
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
    fully_shard(network, mesh=mesh, reshard_after_forward=False)


@cache
def _let_torch_see_into_predictions() -> None:
    """The tensors of a network's output tell `fully_shard` when the backward pass begins."""
    for kind in (Predictions, HandState, AxisLogits, CellLogits):
        register_dataclass(kind)


def whole(tensor: Tensor) -> Tensor:
    """All parts of a tensor, gathered on every device; all devices have to ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_part(tensor: Tensor) -> Tensor:
    """This device's part of a tensor, sharing its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def cut_like(tensor: Tensor, pattern: Tensor) -> Tensor:
    """A whole tensor cut as another one is, on its device; all devices have to ask."""
    tensor = tensor.to(pattern.device)
    if not isinstance(pattern, DTensor):
        return tensor
    return distribute_tensor(tensor, pattern.device_mesh, pattern.placements)


@torch.no_grad()
def clip_gradients(parameters: Iterable[Tensor], largest: float) -> None:
    """Scale gradients down to a largest common norm, those that are cut and those that are not."""
    kinds: dict[bool, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            kinds.setdefault(isinstance(parameter, DTensor), []).append(parameter)
    norms = [
        whole(get_total_norm([p.grad for p in kind if p.grad is not None]))
        for kind in kinds.values()
    ]
    norm = norms[0] if len(norms) == 1 else torch.stack(norms).norm()
    for kind in kinds.values():
        clip_grads_with_norm_(kind, largest, norm)


class ShardedStrategy(DDPStrategy):
    """Cuts the network of a `Reconstruction`; processes and devices are DDP's.

    For validation every device gathers the whole network once: devices may have different numbers
    of validation batches, and those that wait for others' weights would wait for ever.
    """

    def configure_ddp(self) -> None:
        """Shard, instead of wrapping."""
        assert self.lightning_module is not None
        mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        shard(self._network, mesh)

    def on_validation_start(self) -> None:
        """Gather the network."""
        for part in self._sharded():
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()

    def on_validation_end(self) -> None:
        """Go back to parts."""
        for part in self._sharded():
            part.reshard()
            part.set_reshard_after_forward(isinstance(part, BLOCKS), recurse=False)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average the gradients of parameters that are not cut."""
        for parameter in parameters:
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= self.world_size

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The whole module, on the first process alone."""
        assert self.lightning_module is not None
        return self._gathered(self.lightning_module.state_dict())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The whole state in the usual order, on the first process alone."""
        if isinstance(optimizer, LightningOptimizer):
            optimizer = optimizer._optimizer
        state = optimizer.state_dict()
        gathered = {key: self._gathered(values) for key, values in state["state"].items()}
        return state | {"state": gathered} if self.is_global_zero else {}

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Keep this device's part of a whole state."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            cut = {
                key: {
                    name: cut_like(value, parameters[key])
                    if value.shape == parameters[key].shape
                    else value
                    for name, value in values.items()
                }
                for key, values in state["state"].items()
            }
            optimizer.load_state_dict(state | {"state": cut})

    @property
    def _network(self) -> nn.Module:
        assert self.lightning_module is not None
        network = self.lightning_module.network
        assert isinstance(network, nn.Module)
        return network

    def _sharded(self) -> list[FSDPModule]:
        return [part for part in self._network.modules() if isinstance(part, FSDPModule)]

    def _gathered(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """One tensor after the other, so that no device ever holds two whole ones."""
        gathered = {}
        for name, tensor in tensors.items():
            full = whole(tensor)
            if self.is_global_zero:
                gathered[name] = full.cpu()
        return gathered
