"""The decoder of Bahdanau et al. 2015 (appendix A), and with a fixed context that of RNNencdec.

At each step attention is asked from the state *before* it, the context enters every gate of the
cell, and the words are read out of a deep output layer with maxout (Goodfellow et al. 2013):

    c_i = attention(s_{i-1}),   s_i = cell([E y_{i-1}; c_i], s_{i-1})
    t~_i = U_o s_{i-1} + V_o E y_{i-1} + C_o c_i,   t_i = max of each pair of t~_i,   logits W_o t_i

The decoder starts from s_0 = tanh(W_s h), h the state of the encoder's backward layer at the first
word. With `memory = "context"` the context is the encoder's last state, the same at every step
(Cho et al. 2014; the paper's baseline).
"""

import torch
from torch import Tensor, nn

from mtkit.models.attention import Attention
from mtkit.models.cells import States, advance, layers_of, project_inputs, recurrent_layer
from mtkit.models.encoder import Reader
from mtkit.models.initial import initialise
from mtkit.models.recurrent import RecurrentState, check, context_memory, start_layers
from mtkit.models.seq2seq import Memory, State
from mtkit.recipe import RecurrentSection
from mtkit.symbols import PAD


class Bahdanau(Reader):
    """RNNsearch, or RNNencdec (`RecurrentSection` with `decoder = "bahdanau"`)."""

    def __init__(self, section: RecurrentSection, source_size: int, target_size: int) -> None:
        """Raises RecipeError for keys that do not go together."""
        check(section)
        super().__init__(section, source_size, target_size)
        width, embedding = section.width, section.embedding
        annotation = section.encoder_width or width
        self.readout_width = section.readout or max(width // 2, 1)
        # The last state of the layer that reads backwards is its state at the first word.
        self.start_width = annotation // 2 if section.bidirectional else annotation
        self.begin = nn.Linear(self.start_width, width)
        self.layers = nn.ModuleList([recurrent_layer(section.cell, embedding, width)])
        gates = layers_of(self.layers)[0].all_weights[0][0].size(0)
        self.context = nn.Linear(annotation, gates, bias=False)  # C, C_z, C_r as one matrix
        self.attention: Attention | None = None
        if section.memory != "context":
            self.attention = Attention(section.memory, width, annotation, section.places)
        self.deep = nn.Linear(width + embedding + annotation, 2 * self.readout_width)  # U_o V_o C_o
        self.make_output(self.readout_width)
        initialise(self, section)

    def encode(self, source: Tensor) -> Memory:
        top, last = self.read(source)
        hidden = last[0][:, -1:]  # of the top layer, both directions side by side [B, 1, Ds]
        start = torch.tanh(self.begin(hidden[..., -self.start_width :]))  # [B, 1, D]
        initial: States = (start,)
        if self.section.cell == "lstm":
            initial = (start, torch.zeros_like(start))
        if self.attention is None:
            return context_memory(hidden, initial)
        return Memory(source == PAD, (self.attention.keys(top),), (top,), initial)

    def features(self, inputs: Tensor, memory: Memory) -> Tensor:
        return self.readout(self._force(inputs, memory)[0])

    def alignment(self, inputs: Tensor, memory: Memory, layer: int = 0) -> Tensor:
        """Attention weights under teacher forcing: inputs [B, T] -> [B, T, S]."""
        return self._force(inputs, memory)[1]

    def start(self, memory: Memory, beam: int, capacity: int) -> RecurrentState:
        """The state of `beam` equal hypotheses a sentence; it does not grow with `capacity`."""
        return RecurrentState(start_layers(memory, beam), None)

    def step(self, tokens: Tensor, memory: Memory, state: State) -> Tensor:
        assert isinstance(state, RecurrentState)
        embedded = self.embed(tokens)  # [B, K, E]
        gates = project_inputs(layers_of(self.layers)[0], embedded)
        hidden, context, _ = self._advance(gates, memory, state)
        return self.project(self.readout(self._deep_output(hidden, embedded, context)))

    def _force(self, inputs: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """inputs [B, T] -> features before dropout [B, T, l], attention weights [B, T, S]."""
        embedded = self.embed(inputs)  # [B, T, E]
        state = self.start(memory, 1, inputs.size(1))
        gates = project_inputs(layers_of(self.layers)[0], embedded).unsqueeze(2)
        steps = [self._advance(gate, memory, state) for gate in gates.unbind(1)]
        hidden, contexts, weights = (torch.cat(part, 1) for part in zip(*steps, strict=True))
        return self._deep_output(hidden, embedded, contexts), weights

    def _advance(
        self, gates: Tensor, memory: Memory, state: RecurrentState
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One step of [B, K] hypotheses, from their projected embeddings [B, K, gates x D].

        Gives the state that is read out [B, K, D], the context [B, K, Ds], weights [B, K, S].
        """
        state.truncate(self.section.truncate)
        before = state.layers[0]
        keys, values = memory.keys[0], memory.values[0]
        if self.attention is None:
            context = values.expand(-1, gates.size(1), -1)
            weights = values.new_ones(*context.shape[:2], 1)
        else:
            context, weights = self.attention(before[0], keys, values, memory.padding)
        after = advance(layers_of(self.layers)[0], gates + self.context(context), before)
        state.layers[0] = after
        state.length += 1
        read = before if self.section.readout_state == "previous" else after
        return read[0], context, weights

    def _deep_output(self, hidden: Tensor, embedded: Tensor, context: Tensor) -> Tensor:
        """[B, N, D], [B, N, E], [B, N, Ds] -> maxout of pairs [B, N, l]."""
        pairs = self.deep(torch.cat([hidden, embedded, context], -1))
        return torch.unflatten(pairs, -1, (self.readout_width, 2)).amax(-1)
