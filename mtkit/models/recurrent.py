"""Recurrent encoder-decoders: a context vector, or attention with or without input feeding.

`context` is Sutskever et al. 2014: the decoder starts from the encoder's last states and sees
nothing else of the source. The other memories attend to the encoder's top states as Luong et al.
2015 do: h_t -> weights -> c_t -> h~_t = tanh(W_c [c_t; h_t]), and h~_t is what the output layer
sees. The query is the current state, so that the fused kernels can run the decoder over a whole
target at once. The order of Bahdanau et al. 2015 is that of models/bahdanau.py.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtkit.errors import RecipeError
from mtkit.models.attention import Attention, LocalAttention
from mtkit.models.cells import States, advance, layers_of, project_inputs, recurrent_layer, run
from mtkit.models.encoder import Reader
from mtkit.models.initial import initialise
from mtkit.models.seq2seq import Memory, State, reorder
from mtkit.recipe import RecurrentSection
from mtkit.symbols import PAD


@dataclass
class RecurrentState:
    """Each layer's states, and the attentional vector to be fed; they move with the hypotheses."""

    layers: list[States]  # a layer's h, and the LSTM's c: each [B, K, D]
    fed: Tensor | None  # [B, K, D]; None without input feeding
    length: int = 0  # tokens read so far

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

    def truncate(self, every: int) -> None:
        """Let no gradient pass to the steps before, where a piece of `every` steps (0: all) ends.

        Also what is fed is of the past. That a step reads the memory is not cut.
        """
        if every and self.length and self.length % every == 0:
            self.layers = [tuple(state.detach() for state in states) for states in self.layers]
            self.fed = None if self.fed is None else self.fed.detach()


class Recurrent(Reader):
    """RNN, GRU or LSTM encoder-decoder (`RecurrentSection`).

    Decoder layer l starts from the last states of encoder layer l; if there are not as many
    layers, from a learned linear map of all of them. The attentional vector is fed without dropout,
    as it is on no recurrent connection.
    """

    def __init__(self, section: RecurrentSection, source_size: int, target_size: int) -> None:
        """Raises RecipeError for keys that do not go together."""
        check(section)
        super().__init__(section, source_size, target_size)
        width, embedding = section.width, section.embedding
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
        self.attention = attention_of(section)
        if self.attention is not None:
            self.combine = nn.Linear(2 * width, width, bias=False)
        if section.input_feeding:
            # The first layer's input is [embedding; h~]; these are its matrix's columns for h~.
            gates = layers_of(self.layers)[0].all_weights[0][0].size(0)
            self.feed = nn.Linear(width, gates, bias=False)
        self.make_output(width)
        initialise(self, section)

    def encode(self, source: Tensor) -> Memory:
        padding = source == PAD
        top, last = self.read(source)
        initial = last
        if self.bridges:
            initial = tuple(
                bridge(states.flatten(1)).unflatten(1, (self.section.decoder_layers, -1))
                for bridge, states in zip(self.bridges, last, strict=True)
            )
        if self.attention is None:
            return context_memory(last[0][:, -1:], initial)
        return Memory(padding, (self.attention.keys(top),), (top,), initial)

    def features(self, inputs: Tensor, memory: Memory) -> Tensor:
        return self.readout(self._force(inputs, memory)[0])

    def alignment(self, inputs: Tensor, memory: Memory, layer: int = 0) -> Tensor:
        """Attention weights under teacher forcing: inputs [B, T] -> [B, T, S].

        There is one attention, whatever the layer. A context vector is a memory of length one,
        so there S = 1 and every weight is 1.
        """
        return self._force(inputs, memory)[1]

    def start(self, memory: Memory, beam: int, capacity: int) -> RecurrentState:
        """The state of `beam` equal hypotheses a sentence; it does not grow with `capacity`."""
        first = memory.initial[0]  # [B, L, D]
        fed = None
        if self.section.input_feeding:
            fed = first.new_zeros(first.size(0), beam, first.size(2))
        return RecurrentState(start_layers(memory, beam), fed)

    def step(self, tokens: Tensor, memory: Memory, state: State) -> Tensor:
        assert isinstance(state, RecurrentState)
        embedded = self.embed(tokens)  # [B, K, E]
        features, _ = self._advance(
            project_inputs(layers_of(self.layers)[0], embedded), memory, state
        )
        return self.project(self.readout(features))

    def _force(self, inputs: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """inputs [B, T] -> features before dropout [B, T, D], attention weights [B, T, S]."""
        layers = layers_of(self.layers)
        below = self.embed(inputs)  # [B, T, E]
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
            start = tuple(states[:, index] for states in memory.initial)
            below = run(layer, below, start, self.section.truncate)
        return self._attend(below, memory, None)

    def _advance(
        self, gates: Tensor, memory: Memory, state: RecurrentState
    ) -> tuple[Tensor, Tensor]:
        """One step of [B, K] hypotheses, from the first layer's projected inputs.

        gates [B, K, gates x D] -> features before dropout [B, K, D], weights [B, K, S].
        """
        state.truncate(self.section.truncate)
        if state.fed is not None:
            gates = gates + self.feed(state.fed)
        layers = layers_of(self.layers)
        for index, layer in enumerate(layers):
            if index:
                below = self.dropout(state.layers[index - 1][0])
                gates = project_inputs(layer, below)
            state.layers[index] = advance(layer, gates, state.layers[index])
        features, weights = self._attend(state.layers[-1][0], memory, state.length)
        state.length += 1
        if state.fed is not None:
            state.fed = features
        return features, weights

    def _attend(self, hidden: Tensor, memory: Memory, at: int | None) -> tuple[Tensor, Tensor]:
        """Top decoder states [B, N, D] -> attentional vectors [B, N, D], weights [B, N, S]."""
        if self.attention is None:
            return hidden, hidden.new_ones(*hidden.shape[:2], 1)
        keys, values = memory.keys[0], memory.values[0]
        context, weights = self.attention(hidden, keys, values, memory.padding, at)
        return torch.tanh(self.combine(torch.cat([context, hidden], -1))), weights


def attention_of(section: RecurrentSection) -> Attention | None:
    """The attention of a section whose encoder is as wide as its decoder; None: a context vector.

    Raises RecipeError for a local attention that cannot see.
    """
    if section.memory == "context":
        return None
    if section.reach == "global":
        return Attention(section.memory, section.width, places=section.places)
    return LocalAttention(section.memory, section.width, section.reach, section.local_window)


def context_memory(context: Tensor, initial: States) -> Memory:
    """A context vector [B, 1, D] as a memory of length one."""
    nowhere = torch.zeros(context.size(0), 1, dtype=torch.bool, device=context.device)
    return Memory(nowhere, (context,), (context,), initial)


def start_layers(memory: Memory, beam: int) -> list[States]:
    """Each layer's start states for `beam` equal hypotheses, [B, K, D]."""
    return [
        tuple(states[:, layer : layer + 1].expand(-1, beam, -1) for states in memory.initial)
        for layer in range(memory.initial[0].size(1))
    ]


def check(section: RecurrentSection) -> None:
    """Raise RecipeError for keys that do not go together."""
    whole = section.encoder_width or section.width
    key = "encoder_width" if section.encoder_width else "width"
    if section.bidirectional and whole % 2:
        raise RecipeError(
            f"model.{key} = {whole} is odd, and model.bidirectional needs two equal halves",
            f"--set model.{key}={whole + 1}, or --set model.bidirectional=false",
        )
    if section.input_feeding and section.memory == "context":
        raise RecipeError(
            'model.input_feeding = true has nothing to feed with model.memory = "context"',
            "--set model.memory=general, or --set model.input_feeding=false",
        )
    if section.reach != "global" and section.memory in ("context", "location"):
        raise RecipeError(
            f'model.reach = "{section.reach}" goes with a score of content, not with '
            f'model.memory = "{section.memory}"',
            "--set model.memory=general, or --set model.reach=global",
        )
    if section.decoder == "bahdanau":
        _check_bahdanau(section)
    elif whole != section.width:
        raise RecipeError(
            f"model.encoder_width = {whole} differs from model.width = {section.width}, and only "
            'model.decoder = "bahdanau" allows that',
            "--set model.encoder_width=0",
        )
    if section.decoder == "window" and section.input_feeding:
        raise RecipeError(
            'model.input_feeding = true feeds the past, of which model.decoder = "window" sees '
            "only its last tokens",
            "--set model.input_feeding=false",
        )


def _check_bahdanau(section: RecurrentSection) -> None:
    if section.decoder_layers != 1:
        raise RecipeError(
            f'model.decoder = "bahdanau" has one layer, not {section.decoder_layers}',
            "--set model.decoder_layers=1",
        )
    if section.input_feeding:
        raise RecipeError(
            'model.decoder = "bahdanau" feeds the context already',
            "--set model.input_feeding=false",
        )
    if section.reach != "global":
        raise RecipeError(
            'model.decoder = "bahdanau" attends to the whole source', "--set model.reach=global"
        )
    whole = section.encoder_width or section.width
    if section.memory == "dot" and whole != section.width:
        raise RecipeError(
            f'model.memory = "dot" needs an encoder as wide as the decoder: model.encoder_width = '
            f"{whole} is not model.width = {section.width}",
            "--set model.memory=general",
        )
