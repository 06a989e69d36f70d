"""Weights, gradients and optimizer states that are spread over the processes (FSDP2).

A sharded tensor is a DTensor; this file alone knows it. What is asked of the functions here holds
for plain tensors too, so that who calls them need not know which kind there is.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from mtkit.errors import RecipeError
from mtkit.models.dropout import LayerDropout
from mtkit.recipe import TrainingSection

__all__ = ["check_shardable", "fill", "hold_gradients", "local", "shard", "shard_like", "whole"]


def check_shardable(section: TrainingSection, model: nn.Module) -> None:
    """Raise RecipeError where a training cannot be sharded."""
    if section.optimizer.kind == "muon":
        raise RecipeError(
            "training.shard = true does not go with muon, whose updates need whole matrices",
            "--set training.optimizer.kind=adamw",
        )
    if any(isinstance(part, LayerDropout) and part.probability for part in model.modules()):
        raise RecipeError(
            "training.shard = true does not go with model.layer_dropout: processes that skip other "
            "layers would wait for one another for ever",
            "--set model.layer_dropout=0",
        )


def shard(module: nn.Module, parts: Iterable[nn.Module], size: int, device: torch.device) -> None:
    """Leave each of `size` processes its share of every weight (Rajbhandari et al. 2020, stage 3).

    The weights of each of `parts` are gathered when it is called and left again after it; all
    others while the whole `module` is at work.
    """
    mesh = init_device_mesh(device.type, (size,))
    for part in parts:
        fully_shard(part, mesh=mesh)
    fully_shard(module, mesh=mesh)


def hold_gradients(module: nn.Module, hold: bool) -> None:
    """Let the next backward pass keep its gradients to this process, or add up those of all."""
    assert isinstance(module, FSDPModule)
    module.set_requires_gradient_sync(not hold)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor; of a sharded one every process must ask at the same time."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """This process' share of a tensor, in the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def shard_like(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, sharded as another of its shape is; no process asks another."""
    if not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    value = value.to(like.device)
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


@torch.no_grad()
def fill(tensor: Tensor, value: Tensor) -> None:
    """Copy a whole tensor into one that may be sharded."""
    local(tensor).copy_(local(shard_like(value, tensor)))
