"""What every translation model is: encode a source once, then step hypotheses through it.

Legend, for every file of this package:
**B** sentences · **S** source length · **T** target length · **K** hypotheses a sentence (beam) ·
**D** width · **H** heads · **Dh** head width · **L** layers · **V** target vocabulary ·
**N** rows (target positions that count).
Ids are int64, masks bool; `padding` is True where there is nothing. Batch first, always.
"""

import ctypes
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtkit.errors import ModelError


@dataclass(frozen=True)
class Memory:
    """All that is computed once per source sentence. A context vector is a memory of length one.

    The memory is never copied per hypothesis: hypotheses lie along the query axis.
    """

    padding: Tensor  # [B, S]
    keys: tuple[Tensor, ...]  # Transformer: L x [B, H, S, Dh]; recurrent: 1 x [B, S, D]
    values: tuple[Tensor, ...]  # likewise
    initial: tuple[Tensor, ...] = ()  # recurrent start states, each [B, L, D]

    def select(self, sentences: Tensor) -> "Memory":
        """The memory of these sentences [B'], as a new record."""

        def pick(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return tuple(tensor.index_select(0, sentences) for tensor in tensors)

        return Memory(
            self.padding.index_select(0, sentences),
            pick(self.keys),
            pick(self.values),
            pick(self.initial),
        )


class State(Protocol):
    """All that is kept per hypothesis, with axes [B, K, ...]; changed in place."""

    def select(self, sentences: Tensor) -> None:
        """Keep these sentences [B'] (rare: when others have finished)."""

    def follow(self, parents: Tensor) -> None:
        """Let hypothesis k of sentence b go on from hypothesis parents[b, k] (every step)."""


class Seq2Seq(nn.Module, ABC):
    """A translation model as search, training and evaluation see it.

    `step` after `start` gives, position by position, what `decode` gives at once; the tests under
    tests/laws hold every model to that in float64.
    """

    kernels: ctypes.CDLL | None = None  # compiled functions that the search may use as well

    @abstractmethod
    def encode(self, source: Tensor) -> Memory:
        """Read source ids [B, S] (EOS at the end, PAD behind it)."""

    @abstractmethod
    def features(self, inputs: Tensor, memory: Memory) -> Tensor:
        """Teacher forcing: inputs [B, T] (BOS first) -> what the output layer sees [B, T, D]."""

    @abstractmethod
    def output_layer(self) -> tuple[Tensor, Tensor | None]:
        """The matrix [V, D] and the bias [V] that make logits of features."""

    @abstractmethod
    def start(self, memory: Memory, beam: int, capacity: int) -> State:
        """The state of `beam` equal hypotheses a sentence, with room for `capacity` steps."""

    @abstractmethod
    def step(self, tokens: Tensor, memory: Memory, state: State) -> Tensor:
        """Feed one token to each hypothesis: tokens [B, K] -> logits [B, K, V]; moves the state.

        The logits are fresh every time: the caller may overwrite them.
        """

    def parts(self) -> list[nn.Module]:
        """Modules that nothing enters but by a call: weights may be at hand for that time alone."""
        return []

    def project(self, features: Tensor) -> Tensor:
        """The output layer: features [..., D] -> logits [..., V]."""
        return F.linear(features, *self.output_layer())

    def alignment(self, inputs: Tensor, memory: Memory, layer: int = 0) -> Tensor:
        """Attention weights under teacher forcing: inputs [B, T] -> [B, T, S].

        Row t is where the model looks when it writes what follows inputs[t]. `layer`, from 1, is
        that of a decoder which attends in several; 0 leaves the choice to the model.
        """
        raise ModelError(
            "a model of this kind tells no alignment",
            "leave --search alignment=true, replace_unknown and coverage_penalty out",
        )

    def decode(self, inputs: Tensor, memory: Memory) -> Tensor:
        """Teacher forcing: inputs [B, T] -> logits [B, T, V]."""
        return self.project(self.features(inputs, memory))

    def forward(self, source: Tensor, inputs: Tensor) -> Tensor:
        """Teacher forcing from ids: source [B, S], inputs [B, T] -> logits [B, T, V]."""
        return self.decode(inputs, self.encode(source))


def reorder(tensor: Tensor, parents: Tensor) -> Tensor:
    """Gather along K: tensor [B, K, ...], parents [B, K'] -> [B, K', ...]."""
    sentences = torch.arange(tensor.size(0), device=tensor.device).unsqueeze(1)
    return tensor[sentences, parents]
