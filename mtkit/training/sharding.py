"""Weights, gradients and optimizer states that are spread over the processes (FSDP2).

A sharded tensor is a DTensor; this file alone knows it. What is asked of the functions here holds
for plain tensors too, so that who calls them need not know which kind there is. FSDP2 is imported
where it is used: that takes seconds, which runs without it need not spend.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeGuard, cast

import torch
from torch import Tensor, nn

from mtkit.errors import RecipeError
from mtkit.models.dropout import LayerDropout

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor

__all__ = ["check_shardable", "fill", "hold_gradients", "local", "shard", "shard_like", "whole"]


def check_shardable(model: nn.Module) -> None:
    """Raise RecipeError where a model cannot be sharded."""
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
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (size,))
    for part in parts:
        fully_shard(part, mesh=mesh)
    fully_shard(module, mesh=mesh)


def hold_gradients(module: nn.Module, hold: bool) -> None:
    """Let the next backward pass keep its gradients to this process, or add up those of all."""
    cast("FSDPModule", module).set_requires_gradient_sync(not hold)


def is_sharded(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Whether this process has but a share of the tensor."""
    return hasattr(tensor, "device_mesh")


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor; of a sharded one every process must ask at the same time."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """This process' share of a tensor, in the same memory."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def shard_like(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, sharded as another of its shape is; no process asks another."""
    if not is_sharded(like) or value.shape != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    value = value.to(like.device)
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


@torch.no_grad()
def fill(tensor: Tensor, value: Tensor) -> None:
    """Copy a whole tensor into one that may be sharded."""
    local(tensor).copy_(local(shard_like(value, tensor)))
