"""Recurrent encoder-decoders: a context vector, or attention with or without input feeding.

`context` is Sutskever et al. 2014: the decoder starts from the encoder's last states and sees
nothing else of the source. The other memories attend to the encoder's top states as Luong et al.
2015 do: h_t -> weights -> c_t -> h~_t = tanh(W_c [c_t; h_t]), and h~_t is what the output layer
sees. Where this departs from Bahdanau et al. 2015: the query is the current state, not the one
before, so that the fused kernels can run the decoder over a whole target at once; the context
does not enter the cell; the decoder starts from all last states; and h~_t replaces their maxout.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from mtkit.errors import RecipeError
from mtkit.models.attention import Attention
from mtkit.models.cells import (
    States,
    advance,
    layers_of,
    project_inputs,
    read,
    recurrent_layer,
    run,
)
from mtkit.models.dropout import Dropout, TokenDropout, embedding_dropout
from mtkit.models.seq2seq import Memory, Seq2Seq, State, reorder
from mtkit.recipe import RecurrentSection
from mtkit.symbols import PAD


@dataclass
class RecurrentState:
    """Each layer's states, and the attentional vector to be fed; they move with the hypotheses."""

    layers: list[States]  # a layer's h, and the LSTM's c: each [B, K, D]
    fed: Tensor | None  # [B, K, D]; None without input feeding

    def select(self, sentences: Tensor) -> None:
        self.layers = [
            tuple(state.index_select(0, sentences) for state in states) for states in self.layers
        ]
        if self.fed is not None:
            self.fed = self.fed.index_select(0, sentences)

    def follow(self, parents: Tensor) -> None:
        self.layers = [tuple(reorder(state, parents) for state in states) for states in self.layers]
        if self.fed is not None:
            self.fed = reorder(self.fed, parents)


class Encoder(nn.Module):
    """Stacked layers that read one way, or both ways with half the width each way."""

    def __init__(self, section: RecurrentSection) -> None:
        super().__init__()
        widths = [section.embedding] + [section.width] * (section.encoder_layers - 1)
        width = section.width // 2 if section.bidirectional else section.width
        self.onward = nn.ModuleList(recurrent_layer(section.cell, w, width) for w in widths)
        self.turned = nn.ModuleList(
            recurrent_layer(section.cell, w, width) for w in widths if section.bidirectional
        )
        self.dropout = Dropout(section.dropout)

    def forward(self, inputs: Tensor, padding: Tensor) -> tuple[Tensor, States]:
        """inputs [B, S, E] -> top states [B, S, D], every layer's last states, each [B, L, D].

        A layer that reads both ways ends in its two directions' last states side by side.
        """
        backwards = reversal(padding.logical_not().sum(1), padding.size(1))
        turned = layers_of(self.turned)
        last = []
        for index, layer in enumerate(layers_of(self.onward)):
            if index:
                inputs = self.dropout(inputs)
            outputs, states = read(layer, inputs, padding)
            if turned:
                more, more_states = read(turned[index], take(inputs, backwards), padding)
                outputs = torch.cat([outputs, take(more, backwards)], -1)
                states = tuple(map(_side_by_side, states, more_states))
            last.append(states)
            inputs = outputs
        return inputs, tuple(torch.stack(layers, 1) for layers in zip(*last, strict=True))


class Recurrent(Seq2Seq):
    """RNN, GRU or LSTM encoder-decoder (`RecurrentSection`).

    Decoder layer l starts from the last states of encoder layer l; if there are not as many
    layers, from a learned linear map of all of them. Dropout falls on embeddings, between layers
    and on what the output layer sees, never on a recurrent connection; so the attentional vector
    is fed without it.
    """

    def __init__(self, section: RecurrentSection, source_size: int, target_size: int) -> None:
        super().__init__()
        _check(section)
        self.section = section
        width, embedding = section.width, section.embedding
        self.source_embedding = _embedding(source_size, embedding)
        self.target_embedding = _embedding(target_size, embedding)
        self.encoder = Encoder(section)
        self.bridges = nn.ModuleList()
        if section.encoder_layers != section.decoder_layers:
            self.bridges.extend(
                nn.Linear(section.encoder_layers * width, section.decoder_layers * width)
                for _ in range(2 if section.cell == "lstm" else 1)
            )
        self.layers = nn.ModuleList(
            recurrent_layer(section.cell, width if index else embedding, width)
            for index in range(section.decoder_layers)
        )
        self.dropout = Dropout(section.dropout)
        self.embedding_dropout = embedding_dropout(section)
        self.source_dropout = TokenDropout(section.source_token_dropout)
        self.target_dropout = TokenDropout(section.target_token_dropout)
        self.attention: Attention | None = None
        if section.memory != "context":
            self.attention = Attention(section.memory, width)
            self.combine = nn.Linear(2 * width, width, bias=False)
        if section.input_feeding:
            # The first layer's input is [embedding; h~]; these are its matrix's columns for h~.
            gates = layers_of(self.layers)[0].all_weights[0][0].size(0)
            self.feed = nn.Linear(width, gates, bias=False)
        if section.tied_embeddings:
            self.narrow = (
                nn.Linear(width, embedding, bias=False) if width != embedding else nn.Identity()
            )
            self.output_bias = nn.Parameter(torch.zeros(target_size))
        else:
            self.output = nn.Linear(width, target_size)

    def encode(self, source: Tensor) -> Memory:
        """Read source ids [B, S] (EOS at the end, PAD behind it).

        With `reverse_source` the words are read from last to first and EOS, the sentence's last
        token, still at the end; the memory lies in the order of the source all the same.
        """
        padding = source == PAD
        order = None
        if self.section.reverse_source:
            order = reversal(padding.logical_not().sum(1) - 1, source.size(1))
            source = source.gather(1, order)
        embedded = self.source_dropout(self.source_embedding(source))  # [B, S, E]
        top, last = self.encoder(self.embedding_dropout(embedded), padding)
        if order is not None:
            top = take(top, order)
        initial = last
        if self.bridges:
            initial = tuple(
                bridge(states.flatten(1)).unflatten(1, (self.section.decoder_layers, -1))
                for bridge, states in zip(self.bridges, last, strict=True)
            )
        if self.attention is None:
            context = last[0][:, -1:]  # [B, 1, D]
            nowhere = padding.new_zeros(padding.size(0), 1)
            return Memory(nowhere, (context,), (context,), initial)
        return Memory(padding, (self.attention.keys(top),), (top,), initial)

    def features(self, inputs: Tensor, memory: Memory) -> Tensor:
        return self._readout(self._force(inputs, memory)[0])

    def alignment(self, inputs: Tensor, memory: Memory, layer: int = 0) -> Tensor:
        """Attention weights under teacher forcing: inputs [B, T] -> [B, T, S].

        There is one attention, whatever the layer. A context vector is a memory of length one,
        so there S = 1 and every weight is 1.
        """
        return self._force(inputs, memory)[1]

    def output_layer(self) -> tuple[Tensor, Tensor | None]:
        if self.section.tied_embeddings:
            return self.target_embedding.weight, self.output_bias
        return self.output.weight, self.output.bias

    def start(self, memory: Memory, beam: int, capacity: int) -> RecurrentState:
        """The state of `beam` equal hypotheses a sentence; it does not grow with `capacity`."""
        first = memory.initial[0]  # [B, L, D]
        layers = [
            tuple(states[:, layer : layer + 1].expand(-1, beam, -1) for states in memory.initial)
            for layer in range(first.size(1))
        ]
        fed = None
        if self.section.input_feeding:
            fed = first.new_zeros(first.size(0), beam, first.size(2))
        return RecurrentState(layers, fed)

    def step(self, tokens: Tensor, memory: Memory, state: State) -> Tensor:
        assert isinstance(state, RecurrentState)
        embedded = self._embed(tokens)  # [B, K, E]
        features, _ = self._advance(
            project_inputs(layers_of(self.layers)[0], embedded), memory, state
        )
        return self.project(self._readout(features))

    def _force(self, inputs: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """inputs [B, T] -> features before dropout [B, T, D], attention weights [B, T, S]."""
        layers = layers_of(self.layers)
        below = self._embed(inputs)  # [B, T, E]
        if self.section.input_feeding:
            # What is fed is known one step at a time; all that does not depend on it is not.
            state = self.start(memory, 1, inputs.size(1))
            steps = project_inputs(layers[0], below).unsqueeze(2).unbind(1)  # T x [B, 1, gates x D]
            pairs = [self._advance(gates, memory, state) for gates in steps]
            features, weights = zip(*pairs, strict=True)
            return torch.cat(features, 1), torch.cat(weights, 1)
        for index, layer in enumerate(layers):
            if index:
                below = self.dropout(below)
            below = run(layer, below, tuple(states[:, index] for states in memory.initial))
        return self._attend(below, memory)

    def _advance(
        self, gates: Tensor, memory: Memory, state: RecurrentState
    ) -> tuple[Tensor, Tensor]:
        """One step of [B, K] hypotheses, from the first layer's projected inputs.

        gates [B, K, gates x D] -> features before dropout [B, K, D], weights [B, K, S].
        """
        if state.fed is not None:
            gates = gates + self.feed(state.fed)
        layers = layers_of(self.layers)
        for index, layer in enumerate(layers):
            if index:
                below = self.dropout(state.layers[index - 1][0])
                gates = project_inputs(layer, below)
            state.layers[index] = advance(layer, gates, state.layers[index])
        features, weights = self._attend(state.layers[-1][0], memory)
        if state.fed is not None:
            state.fed = features
        return features, weights

    def _attend(self, hidden: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Top decoder states [B, N, D] -> attentional vectors [B, N, D], weights [B, N, S]."""
        if self.attention is None:
            return hidden, hidden.new_ones(*hidden.shape[:2], 1)
        context, weights = self.attention(hidden, memory.keys[0], memory.values[0], memory.padding)
        return torch.tanh(self.combine(torch.cat([context, hidden], -1))), weights

    def _readout(self, features: Tensor) -> Tensor:
        """What the output layer sees of features [..., D]: as wide as what it is tied to."""
        seen: Tensor = self.dropout(features)
        return cast("Tensor", self.narrow(seen)) if self.section.tied_embeddings else seen

    def _embed(self, inputs: Tensor) -> Tensor:
        """Target ids [B, N] -> [B, N, E]."""
        vectors: Tensor = self.embedding_dropout(self.target_dropout(self.target_embedding(inputs)))
        return vectors


def reversal(lengths: Tensor, size: int) -> Tensor:
    """The index [B, size] that turns around each row's first `lengths` [B] places, no others."""
    places = torch.arange(size, device=lengths.device).expand(lengths.size(0), -1)
    mirrored = lengths.unsqueeze(1) - 1 - places
    return torch.where(mirrored >= 0, mirrored, places)


def take(tensor: Tensor, order: Tensor) -> Tensor:
    """The rows of tensor [B, S, D] in the order [B, S]."""
    return tensor.gather(1, order.unsqueeze(-1).expand(-1, -1, tensor.size(-1)))


def _side_by_side(one: Tensor, other: Tensor) -> Tensor:
    return torch.cat([one, other], -1)


def _embedding(size: int, width: int) -> nn.Embedding:
    """Vectors of length about one, so that tied logits start small."""
    embedding = nn.Embedding(size, width)
    nn.init.normal_(embedding.weight, std=width**-0.5)
    return embedding


def _check(section: RecurrentSection) -> None:
    """Raise RecipeError for keys that do not go together."""
    if section.bidirectional and section.width % 2:
        raise RecipeError(
            f"model.width = {section.width} is odd, and model.bidirectional needs two equal halves",
            f"try model.width = {section.width + 1} or model.bidirectional = false",
        )
    if section.input_feeding and section.memory == "context":
        raise RecipeError(
            'model.input_feeding = true has nothing to feed with model.memory = "context"',
            'try model.memory = "general" or model.input_feeding = false',
        )
