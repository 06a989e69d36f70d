"""A Transformer whose encoder, and whose step, are one call each of compiled functions.

Torch's operations cost more in being called than in computing when rows are few, above all for a
sentence alone. models/kernels does the same in C++, in float32 or int8: products of int8 are the
same integers; sums of floats are taken in another order, so results agree to rounding, and those of
a row never depend on the rows beside it, to the bit.
"""

import ctypes
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mtkit.models.compiler import NotCompiledError, addresses, kernels, numbers_and_addresses
from mtkit.models.packed import Packed, PackedLinear
from mtkit.models.precision import int8_products
from mtkit.models.seq2seq import Memory, Seq2Seq, State
from mtkit.models.transformer import Transformer
from mtkit.symbols import PAD


class _Encoding(ctypes.Structure):
    _fields_ = numbers_and_addresses("sentences longest", "tokens lengths memory")


class _Step(ctypes.Structure):
    _fields_ = numbers_and_addresses(
        "sentences beam position capacity longest cached",
        "tokens lengths sources memory places ancestry cache logits",
    )


@dataclass(frozen=True)
class CompiledMemory(Memory):
    """Keys [B, L, S, 2 x D] are keys and values of all decoder layers, and never move."""

    sources: Tensor = field(kw_only=True)  # [B'] which of them are meant

    def select(self, sentences: Tensor) -> "CompiledMemory":
        padding, sources = (
            tensor.index_select(0, sentences) for tensor in (self.padding, self.sources)
        )
        return CompiledMemory(padding, self.keys, (), sources=sources)


class CompiledState:
    """Keys and values that are written once and never moved, and who comes from whom.

    What hypothesis k of a sentence sees at position t is what hypothesis ancestry[b, k, t] wrote
    there. Sentences that have left are no longer looked at; the others keep their places.
    """

    def __init__(self, memory: Memory, beam: int, capacity: int) -> None:
        _, layers, _, pair = memory.keys[0].shape
        batch = len(memory.padding)
        self.lengths = memory.padding.logical_not().sum(1)  # [B] of the sources
        self.places = torch.arange(batch)  # [B]
        own = torch.arange(beam, dtype=torch.int32)
        self.ancestry = own.view(1, beam, 1).repeat(batch, 1, capacity)  # [B, K, capacity]
        self.cache = torch.empty(capacity, batch, beam, layers, pair)
        self.length = 0

    def select(self, sentences: Tensor) -> None:
        self.lengths = self.lengths.index_select(0, sentences)
        self.places = self.places.index_select(0, sentences)
        self.ancestry = self.ancestry.index_select(0, sentences)

    def follow(self, parents: Tensor) -> None:
        parents = parents.contiguous()
        kernels().follow(
            *map(ctypes.c_void_p, addresses((self.ancestry, parents))),
            *map(ctypes.c_int64, (*self.ancestry.shape, self.length)),
        )


class CompiledTransformer(Seq2Seq):
    """What a Transformer computes, for translation alone; it holds the Transformer."""

    def __init__(self, model: Transformer) -> None:
        """Raises NotCompiledError for a model or a machine that the functions are not made for."""
        super().__init__()
        self.plain = model
        self._packed = Packed(model)  # first: what it refuses needs no compiler
        self.kernels: ctypes.CDLL = kernels()

    def encode(self, source: Tensor) -> CompiledMemory:
        there = source != PAD
        (batch, longest), section = source.shape, self.plain.section
        memory = torch.zeros(batch, section.decoder_layers, longest, 2 * section.width)
        tokens, lengths = source[there], there.sum(1)
        words = self.plain.source_embedding.num_embeddings
        known = bool(((tokens >= 0) & (tokens < words)).all())
        assert known, f"a source id is not below {words}"  # in C++ nothing would stop it
        self._packed.make_positions(longest)
        call = _Encoding(batch, longest, *addresses((tokens, lengths, memory)))
        self.kernels.encode(ctypes.byref(self._packed.shape), ctypes.byref(call))
        padding = there.logical_not()
        return CompiledMemory(padding, (memory,), (), sources=torch.arange(batch))

    def start(self, memory: Memory, beam: int, capacity: int) -> CompiledState:
        self._packed.make_positions(capacity)
        return CompiledState(memory, beam, capacity)

    def step(self, tokens: Tensor, memory: Memory, state: State) -> Tensor:
        assert isinstance(state, CompiledState)
        assert isinstance(memory, CompiledMemory)
        batch, beam, capacity = state.ancestry.shape
        assert state.length < capacity, "the state has room for no further step"
        longest, cached = memory.keys[0].size(2), state.cache.size(1)
        tokens = tokens.contiguous()
        logits = torch.empty(batch, beam, self._packed.shape.output.outputs)
        call = _Step(
            *(batch, beam, state.length, capacity, longest, cached),
            *addresses((tokens, state.lengths, memory.sources, memory.keys[0], state.places)),
            *addresses((state.ancestry, state.cache, logits)),
        )
        self.kernels.step(ctypes.byref(self._packed.shape), ctypes.byref(call))
        state.length += 1
        return logits

    def features(self, inputs: Tensor, memory: Memory) -> Tensor:
        return self.plain.features(inputs, self._unpacked(memory))

    def alignment(self, inputs: Tensor, memory: Memory, layer: int = 0) -> Tensor:
        return self.plain.alignment(inputs, self._unpacked(memory), layer)

    def output_layer(self) -> tuple[Tensor, Tensor | None]:
        return self.plain.output_layer()

    def project(self, features: Tensor) -> Tensor:
        return self.plain.project(features)

    def _unpacked(self, memory: Memory) -> Memory:
        """The memory as the Transformer itself lays it out."""
        assert isinstance(memory, CompiledMemory)
        meant = memory.keys[0].index_select(0, memory.sources)
        pairs = meant.view(*meant.shape[:3], 2, self.plain.section.heads, -1)
        keys, values = pairs.permute(3, 1, 0, 4, 2, 5).contiguous()  # [L, B, H, S, Dh] each
        return Memory(memory.padding, keys.unbind(0), values.unbind(0))


def compiled(model: Seq2Seq) -> Seq2Seq:
    """The model by compiled functions; of other kinds than a Transformer, int8 and the search.

    Raises NotCompiledError where that cannot be.
    """
    if isinstance(model, Transformer):
        return CompiledTransformer(model)
    if any(parameter.is_cuda for parameter in model.parameters()):
        raise NotCompiledError("the model is on a GPU")
    model.kernels = kernels()
    for linear in filter(PackedLinear.fits, int8_products(model)):
        linear.compiled = PackedLinear(linear)
    return model
