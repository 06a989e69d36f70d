"""What was seen since the last report; on the device, so that no update waits for it."""

import time
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from mtkit.training.distributed import World


@dataclass
class Sums:
    """Sums over updates; those that were skipped count as tokens and updates only."""

    loss: Tensor  # of the updates that were made, as are the next two
    norm: Tensor
    counted: Tensor  # target tokens
    made: Tensor  # updates that were not skipped
    tokens: int = 0
    updates: int = 0
    since: float = field(default_factory=time.monotonic)

    @classmethod
    def none(cls, device: torch.device) -> Self:
        """Nothing seen."""
        return cls(*torch.zeros(4, device=device))

    def add(self, loss: Tensor, norm: Tensor, tokens: int, good: Tensor) -> None:
        """One update; `good` is 1 when it was made, or 0."""
        self.loss += torch.where(good, loss, 0.0)
        self.norm += torch.where(good, norm, 0.0)
        self.counted += tokens * good
        self.made += good
        self.tokens += tokens
        self.updates += 1

    @property
    def skipped(self) -> int:
        """Updates that were not made; the device is waited for."""
        return self.updates - int(self.made)

    def over(self, world: World) -> tuple[float, float, float, float]:
        """Loss, norm, counted and all tokens, of all processes together."""
        mine = [self.loss, self.norm, self.counted, self.loss.new_tensor(self.tokens)]
        loss, norm, counted, tokens = world.sum(torch.stack(mine)).tolist()
        return loss, norm, counted, tokens
