"""What is left out at random in training: values, tokens, layers."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtkit.recipe import RecurrentSection, TransformerSection


class Dropout(nn.Module):
    """Srivastava et al. 2014: zero a share of the values in training and scale up the rest.

    `torch.nn.Dropout` draws one Bernoulli variable a value on a CPU, which took 14 to 23 % of the
    training time of a small Transformer. Here one 64-bit draw decides four values, each by its own
    16 bits, so that the probability is exact to 2^-17; and a mask is a pattern of bits, since the
    bitwise "and" costs a tenth of a product with truth values. Elsewhere torch's own kernel is
    used.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or self.probability == 0:
            return values
        if values.device.type != "cpu":
            return F.dropout(values, self.probability)
        dropped: Tensor = _Dropped.apply(values, self.probability)  # type: ignore[no-untyped-call]
        return dropped

    def added(self, base: Tensor, values: Tensor) -> Tensor:
        """base + forward(values), in one pass; both of one shape and type."""
        if not self.training or self.probability == 0 or values.device.type != "cpu":
            dropped: Tensor = self(values)
            return base + dropped
        total: Tensor = _DroppedSum.apply(base, values, self.probability)  # type: ignore[no-untyped-call]
        return total

    def extra_repr(self) -> str:
        return f"{self.probability}"


def embedding_dropout(section: RecurrentSection | TransformerSection) -> Dropout:
    """The dropout that falls on a model's embeddings."""
    share = section.embedding_dropout
    return Dropout(share if isinstance(share, float) else section.dropout)


class TokenDropout(nn.Module):
    """Whole tokens hidden in training: their vectors are zero, the others stay as they are.

    "Word dropout" of Gal and Ghahramani 2016 and Sennrich et al. 2016, drawn for each position.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, vectors: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        if not self.training or self.probability == 0:
            return vectors
        drawn = torch.rand(vectors.shape[:-1], device=vectors.device)
        return vectors * (drawn >= self.probability).unsqueeze(-1)

    def extra_repr(self) -> str:
        return f"{self.probability}"


class LayerDropout(nn.Module):
    """LayerDrop (Fan et al. 2020): a pass in training leaves out whole layers, each at random."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, layers: Iterable[nn.Module]) -> list[tuple[int, nn.Module]]:
        """The layers that this pass goes through, with their numbers; all of them, when judged."""
        numbered = list(enumerate(layers))
        if not self.training or self.probability == 0:
            return numbered
        drawn = torch.rand(
            len(numbered)
        ).tolist()  # by the CPU's generator: no device is waited for
        return [layer for layer, u in zip(numbered, drawn, strict=True) if u >= self.probability]

    def extra_repr(self) -> str:
        return f"{self.probability}"


@contextmanager
def all_layers(model: nn.Module) -> Iterator[None]:
    """Let passes in training leave out no layer within."""
    parts = [part for part in model.modules() if isinstance(part, LayerDropout)]
    before = [part.probability for part in parts]
    for part in parts:
        part.probability = 0.0
    try:
        yield
    finally:
        for part, probability in zip(parts, before, strict=True):
            part.probability = probability


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(context, values: Tensor, probability: float) -> Tensor:  # type: ignore[no-untyped-def]
        keep = keep_bits(values.shape, probability)
        context.save_for_backward(keep)
        context.scale = 1 / (1 - probability)
        return masked(values, keep).mul_(context.scale)

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        (keep,) = context.saved_tensors
        return masked(gradient, keep).mul_(context.scale), None


class _DroppedSum(torch.autograd.Function):
    @staticmethod
    def forward(context, base: Tensor, values: Tensor, probability: float) -> Tensor:  # type: ignore[no-untyped-def]
        keep = keep_bits(values.shape, probability)
        context.save_for_backward(keep)
        context.scale = 1 / (1 - probability)
        return torch.add(base, masked(values, keep), alpha=context.scale)

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[no-untyped-def]
        (keep,) = context.saved_tensors
        return gradient, masked(gradient, keep).mul_(context.scale), None


def keep_bits(shape: torch.Size, probability: float) -> Tensor:
    """Masks int16: 0 with the given probability, else -1 (all bits), by torch's CPU generator."""
    count = shape.numel()
    bits = torch.empty((count + 3) // 4, dtype=torch.int64)
    # From the lowest int64 to no upper end: all 64 bits are drawn.
    bits.random_(-(2**63), None)
    # The greatest int16 is always kept: one more would not be an int16.
    threshold = min(round(probability * 65536), 65535) - 32768
    drawn = bits.view(torch.int16)[:count]
    return torch.ge(drawn, threshold, out=drawn).neg_().view(shape)


def masked(values: Tensor, keep: Tensor) -> Tensor:
    """New values with zeros where `keep` [same shape] of `keep_bits` is 0."""
    pattern = _PATTERNS[values.element_size()]
    # A narrow -1 is widened to a wide one.
    return values.contiguous().view(pattern).bitwise_and(keep.to(pattern)).view(values.dtype)


_PATTERNS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
