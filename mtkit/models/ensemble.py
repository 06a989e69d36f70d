"""Several models as one: at every step the mean of their log-probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtkit.errors import ModelError
from mtkit.models.seq2seq import Memory, Seq2Seq, State


@dataclass(frozen=True)
class EnsembleMemory(Memory):
    """What each model computed of the sources."""

    parts: tuple[Memory, ...] = ()

    def select(self, sentences: Tensor) -> "EnsembleMemory":
        parts = tuple(part.select(sentences) for part in self.parts)
        return EnsembleMemory(self.padding.index_select(0, sentences), (), (), (), parts)


class EnsembleState:
    """What each model keeps of the hypotheses."""

    def __init__(self, parts: Sequence[State]) -> None:
        self.parts = parts

    def select(self, sentences: Tensor) -> None:
        for part in self.parts:
            part.select(sentences)

    def follow(self, parents: Tensor) -> None:
        for part in self.parts:
            part.follow(parents)


class Ensemble(Seq2Seq):
    """Models of any kinds that read the same source ids and write the same target ids.

    Its logits are the logarithm of the mean of their probabilities.
    """

    def __init__(self, models: Sequence[Seq2Seq]) -> None:
        """Raises ModelError for no models at all."""
        super().__init__()
        if not models:
            raise ModelError("an ensemble of no models translates nothing")
        self.models = nn.ModuleList(models)
        self.kernels = models[0].kernels

    def encode(self, source: Tensor) -> EnsembleMemory:
        parts = tuple(model.encode(source) for model in self._models)
        # The source's own padding, which a context vector's memory no longer shows.
        padding = max((part.padding for part in parts), key=lambda padding: padding.size(1))
        return EnsembleMemory(padding, (), (), (), parts)

    def features(self, inputs: Tensor, memory: Memory) -> Tensor:
        """inputs [B, T] -> mean log-probabilities [B, T, V]: no layer follows that they share."""
        return _mean(
            [
                model.decode(inputs, part)
                for model, part in zip(self._models, _parts(memory), strict=True)
            ]
        )

    def project(self, features: Tensor) -> Tensor:
        return features

    def output_layer(self) -> tuple[Tensor, Tensor | None]:
        raise ModelError(
            "an ensemble has no output layer of its own", "train its models one by one"
        )

    def alignment(self, inputs: Tensor, memory: Memory, layer: int = 0) -> Tensor:
        """The mean of the weights [B, T, S] of the models that attend to source tokens."""
        found = [
            model.alignment(inputs, part, layer)
            for model, part in zip(self._models, _parts(memory), strict=True)
        ]
        longest = max(weights.size(2) for weights in found)
        return torch.stack([w for w in found if w.size(2) == longest]).mean(0)

    def start(self, memory: Memory, beam: int, capacity: int) -> EnsembleState:
        pairs = zip(self._models, _parts(memory), strict=True)
        return EnsembleState([model.start(part, beam, capacity) for model, part in pairs])

    def step(self, tokens: Tensor, memory: Memory, state: State) -> Tensor:
        assert isinstance(state, EnsembleState)
        triples = zip(self._models, _parts(memory), state.parts, strict=True)
        return _mean([model.step(tokens, part, own) for model, part, own in triples])

    @property
    def _models(self) -> list[Seq2Seq]:
        return [model for model in self.models if isinstance(model, Seq2Seq)]


def _parts(memory: Memory) -> tuple[Memory, ...]:
    assert isinstance(memory, EnsembleMemory)
    return memory.parts


def _mean(logits: Sequence[Tensor]) -> Tensor:
    """The log of the mean of the probabilities that these logits [..., V] stand for."""
    precise = [torch.promote_types(part.dtype, torch.float32) for part in logits]
    logs = [part.log_softmax(-1, dtype=dtype) for part, dtype in zip(logits, precise, strict=True)]
    return torch.stack(logs).logsumexp(0) - torch.tensor(float(len(logs))).log().to(logs[0])
