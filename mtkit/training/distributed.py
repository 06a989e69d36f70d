"""The processes that train together: the only place that knows torch.distributed."""

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from mtkit.errors import UsageError
from mtkit.models.dropout import LayerDropout
from mtkit.training.heartbeat import Heartbeat
from mtkit.training.sharding import hold_gradients, shard

# The others wait while the leader prepares a large corpus, validates or translates a test set.
_PATIENCE = timedelta(hours=24)


@dataclass(frozen=True)
class World:
    """All processes of a run (`size`), and which of them this one is (`rank`)."""

    size: int
    rank: int
    device: torch.device
    heartbeat: Heartbeat | None = None

    @classmethod
    def from_environment(cls, device: str = "auto") -> Self:
        """Join the processes that `torchrun` has started, or be alone without it.

        `device` is auto, cpu, cuda or cuda:N; under `torchrun` each process of a machine takes the
        CUDA device of its own number. Raises UsageError for a device that is not there.
        """
        size = int(os.environ.get("WORLD_SIZE", "1"))
        rank = int(os.environ.get("RANK", "0"))
        chosen = choose_device(device)
        if chosen.type == "cuda":
            index = int(os.environ.get("LOCAL_RANK", chosen.index or 0))
            if index >= torch.cuda.device_count():
                raise UsageError(
                    f"there is no CUDA device {index} here: there are {torch.cuda.device_count()}",
                    "start no more processes than that, or use --device cpu",
                )
            chosen = torch.device("cuda", index)
            torch.cuda.set_device(chosen)
        if size == 1 or dist.is_initialized():
            return cls(size, rank, chosen)
        backend = "nccl" if chosen.type == "cuda" else "gloo"
        store: Any = _meeting_place()  # torch does not tell mypy of its `clone`
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE)
        return cls(size, rank, chosen, Heartbeat(store.clone(), rank, size))

    @property
    def leads(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    def wrap(self, model: nn.Module, parts: Iterable[nn.Module] | None = None) -> nn.Module:
        """The module whose forward and backward are those of the whole world.

        With `parts` its weights are spread over the processes, those of each part by themselves.
        """
        if self.size == 1:
            return model
        if parts is not None:
            shard(model, parts, self.size, self.device)
            return model
        # A layer that a pass leaves out has no gradient to wait for.
        partial = any(
            isinstance(part, LayerDropout) and part.probability > 0 for part in model.modules()
        )
        return DistributedDataParallel(model, find_unused_parameters=partial)

    def holding(self, model: nn.Module, last: bool) -> AbstractContextManager[object]:
        """Keep gradients to this process until the last batch of an update."""
        if self.size > 1 and not isinstance(model, DistributedDataParallel):
            hold_gradients(model, not last)
        elif self.size > 1 and not last:
            return cast(
                "AbstractContextManager[object]", cast("DistributedDataParallel", model).no_sync()
            )
        return nullcontext()

    def sum(self, values: Tensor) -> Tensor:
        """Add up a tensor over the world, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def total(self, count: int) -> int:
        """Add up a number over the world; no device is waited for where there is one process."""
        if self.size == 1:
            return count
        return int(self.sum(torch.tensor(count, device=self.device)).item())

    def most(self, count: int) -> int:
        """The largest of a number over the world."""
        if self.size == 1:
            return count
        said = torch.tensor([count], device=self.device)
        dist.all_reduce(said, op=dist.ReduceOp.MAX)
        return int(said.item())

    def agree(self, value: bool) -> bool:
        """True everywhere as soon as it is true anywhere."""
        return bool(self.most(int(value)))

    def share(self, value: float) -> float:
        """The leader's number, everywhere."""
        if self.size == 1:
            return value
        said = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.broadcast(said, 0)
        return float(said.item())

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.size > 1:
            dist.barrier()

    def lost_another(self, error: RuntimeError) -> bool:
        """Whether this error says that another process has gone."""
        gone = isinstance(error, dist.DistError) or "gloo" in str(error)
        return self.size > 1 and gone

    def leave(self) -> None:
        """Part from the other processes."""
        if self.heartbeat is not None:
            self.heartbeat.stop()
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()


def _meeting_place() -> Store:
    """Where the processes of a run tell one another their addresses.

    Every restart by `torchrun` has a place of its own: else a process might call at the address of
    one that has died.
    """
    store, _, _ = next(rendezvous("env://", timeout=_PATIENCE))
    return PrefixStore(f"restart-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def choose_device(name: str) -> torch.device:
    """The device for auto, cpu, cuda or cuda:N. Raises UsageError for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {name}: no such kind of device", "--device cpu")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--device {name}: torch finds no CUDA device here", "use --device cpu")
    return device
