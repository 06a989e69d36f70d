"""A decoder with a fixed past: it sees the last tau target tokens and nothing before them.

The conditional language model of order tau that stands beside the latent autoregressive models:
P(y_t | y_{t-tau} ... y_{t-1}, source) by a feed-forward network over the joined embeddings (Bengio
et al. 2003), with attention on the encoder (as Rush et al. 2015), or with its context vector.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtkit.models.encoder import Reader
from mtkit.models.initial import initialise
from mtkit.models.recurrent import attention_of, check, context_memory
from mtkit.models.seq2seq import Memory, State, reorder
from mtkit.recipe import RecurrentSection
from mtkit.symbols import PAD


@dataclass
class WindowState:
    """The last tokens of every hypothesis [B, K, tau]; PAD where there were none yet."""

    recent: Tensor
    length: int = 0  # tokens read so far

    def select(self, sentences: Tensor) -> None:
        self.recent = self.recent.index_select(0, sentences)

    def follow(self, parents: Tensor) -> None:
        self.recent = reorder(self.recent, parents)


class Window(Reader):
    """An encoder and a feed-forward decoder (`RecurrentSection` with `decoder = "window"`)."""

    def __init__(self, section: RecurrentSection, source_size: int, target_size: int) -> None:
        """Raises RecipeError for keys that do not go together."""
        check(section)
        super().__init__(section, source_size, target_size)
        width = section.width
        widths = [section.window * section.embedding] + [width] * (section.decoder_layers - 1)
        self.layers = nn.ModuleList(nn.Linear(inputs, width) for inputs in widths)
        self.context = nn.Linear(width, width, bias=False)  # of the encoder's last state
        self.attention = attention_of(section)
        if self.attention is not None:
            self.combine = nn.Linear(2 * width, width, bias=False)
        self.make_output(width)
        initialise(self, section)

    def encode(self, source: Tensor) -> Memory:
        top, last = self.read(source)
        context = last[0][:, -1:]  # [B, 1, D]
        if self.attention is None:
            return context_memory(context, (context,))
        return Memory(source == PAD, (self.attention.keys(top),), (top,), (context,))

    def features(self, inputs: Tensor, memory: Memory) -> Tensor:
        return self._look(self._pasts(inputs), memory, None)

    def alignment(self, inputs: Tensor, memory: Memory, layer: int = 0) -> Tensor:
        """Attention weights under teacher forcing [B, T, S]; S = 1 for a context vector."""
        hidden = self._hidden(self._pasts(inputs), memory)
        if self.attention is None:
            return hidden.new_ones(*hidden.shape[:2], 1)
        weights: Tensor = self.attention(
            hidden, memory.keys[0], memory.values[0], memory.padding, None
        )[1]
        return weights

    def _pasts(self, inputs: Tensor) -> Tensor:
        """inputs [B, T] -> the last tokens at every position [B, T, tau]."""
        size = self.section.window
        return F.pad(inputs, (size - 1, 0), value=PAD).unfold(1, size, 1)

    def start(self, memory: Memory, beam: int, capacity: int) -> WindowState:
        context = memory.initial[0]
        shape = (context.size(0), beam, self.section.window)
        return WindowState(torch.full(shape, PAD, device=context.device))

    def step(self, tokens: Tensor, memory: Memory, state: State) -> Tensor:
        assert isinstance(state, WindowState)
        state.recent = torch.cat([state.recent[..., 1:], tokens.unsqueeze(-1)], -1)
        features = self._look(state.recent, memory, state.length)
        state.length += 1
        return self.project(features)

    def _look(self, past: Tensor, memory: Memory, at: int | None) -> Tensor:
        """Past tokens [B, N, tau] -> what the output layer sees [B, N, D]."""
        hidden = self._hidden(past, memory)
        if self.attention is not None:
            keys, values = memory.keys[0], memory.values[0]
            context, _ = self.attention(hidden, keys, values, memory.padding, at)
            hidden = torch.tanh(self.combine(torch.cat([context, hidden], -1)))
        return self.readout(hidden)

    def _hidden(self, past: Tensor, memory: Memory) -> Tensor:
        """Past tokens [B, N, tau] -> the top layer before attention [B, N, D]."""
        seen = torch.unflatten(self.embed(past.flatten(1)), 1, past.shape[1:])  # [B, N, tau, E]
        hidden = seen.masked_fill((past == PAD).unsqueeze(-1), 0.0).flatten(2)
        for index, layer in enumerate(self.layers):
            hidden = layer(self.dropout(hidden) if index else hidden)
            hidden = torch.tanh(hidden if index else hidden + self.context(memory.initial[0]))
        return hidden
