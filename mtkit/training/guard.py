"""What keeps a run from losing its model: updates that are no numbers, batches that do not fit."""

import math

import torch
from torch import Tensor

from mtkit.data.batches import Batch
from mtkit.models.seq2seq import Seq2Seq
from mtkit.training.sharding import is_sharded, local

IN_A_ROW = 3  # skipped updates after which the run goes back
MOST_CUTS = 5  # of the rate, one each time that it goes back; then it gives up
_EXPLODED = 10.0  # times ln V, the loss of guessing


class LossLostError(Exception):
    """Too many updates in a row were skipped: the weights they start from are of no use."""


class Guard:
    """Makes the optimizer's updates, but for those whose gradient is not a number.

    A loss that has exploded makes it one that is not. The whole world has one gradient, so all
    processes skip the same updates. On a GPU the verdict stays on the device, and no update waits
    for it.
    """

    def __init__(self, model: Seq2Seq, optimizer: torch.optim.Optimizer) -> None:
        self.model = model
        self.optimizer = optimizer
        matrix, _ = model.output_layer()
        self.device = matrix.device
        self.sharded = is_sharded(matrix)
        self.limit = _EXPLODED * math.log(max(matrix.size(0), 2))  # of the loss per token
        self.begin()

    def begin(self) -> None:
        """Forget what was skipped."""
        self.row = torch.zeros((), device=self.device)  # updates skipped one after the other
        self.longest_row = self.row  # since the beginning: a GPU is asked now and then only

    def share(self, loss: Tensor, batch: Batch, weight: float) -> Tensor:
        """What the loss of a batch is multiplied by: `weight`, or NaN when it has exploded."""
        exploded = loss.detach() > self.limit * max(batch.tokens, 1)
        return torch.where(exploded, math.nan, weight)

    def step(self, norm: Tensor) -> Tensor:
        """Make the update unless the norm of its gradient is no number; 1 when it was, or 0."""
        good = norm.isfinite()
        told = type(self.optimizer) in (torch.optim.Adam, torch.optim.AdamW) and not self.sharded
        if self.device.type == "cuda" and told:
            # As torch's own scaler of gradients does: the kernel itself leaves the weights alone
            # where it finds these attributes, which the optimizers' types do not declare.
            self.optimizer.grad_scale = None  # type: ignore[attr-defined]
            self.optimizer.found_inf = (~good).float()  # type: ignore[attr-defined]
            self.optimizer.step()
        elif good:
            self.optimizer.step()
        self.row = torch.where(good, 0.0, self.row + 1)
        self.longest_row = torch.maximum(self.longest_row, self.row)
        return good

    def last_was_made(self) -> bool:
        """Whether the last update was not skipped."""
        return not self.row

    def check(self) -> None:
        """Raise LossLostError when too many updates in a row were skipped."""
        if self.longest_row >= IN_A_ROW:
            raise LossLostError

    @torch.no_grad()
    def sound(self) -> bool:
        """Whether the weights here may be kept: finite, and the last update was not skipped."""
        finite = torch.stack([local(p).isfinite().all() for p in self.model.parameters()]).all()
        return bool(finite & (self.row == 0))


def out_of_memory(error: BaseException) -> bool:
    """Whether memory was what was lacking."""
    said = str(error)
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        "can't allocate memory" in said or "out of memory" in said
    )


def halves(batch: Batch) -> list[Batch]:
    """The batch in two parts with the same labels in all; one sentence stays as it is."""
    count, width = batch.inputs.shape
    if count == 1:
        return [batch]
    half = count // 2
    first = batch.rows < half * width
    return [
        Batch(batch.source[:half], batch.inputs[:half], batch.rows[first], batch.labels[first]),
        Batch(
            batch.source[half:],
            batch.inputs[half:],
            batch.rows[~first] - half * width,
            batch.labels[~first],
        ),
    ]


def described(batches: list[Batch]) -> str:
    """The batches in words: how many sentences, and how long."""
    sentences = sum(len(batch.source) for batch in batches)
    source = max(batch.source.size(1) for batch in batches)
    target = max(batch.inputs.size(1) for batch in batches)
    return f"{sentences} sentences of up to {source} source and {target} target tokens"
