"""What all recurrent models share: the encoder, the embeddings, and the output layer."""

from typing import cast

import torch
from torch import Tensor, nn

from mtkit.models.cells import States, layers_of, read, recurrent_layer
from mtkit.models.dropout import Dropout, TokenDropout, embedding_dropout
from mtkit.models.seq2seq import Seq2Seq
from mtkit.recipe import RecurrentSection
from mtkit.symbols import PAD


class Encoder(nn.Module):
    """Stacked layers that read one way, or both ways with half the width each way."""

    def __init__(self, section: RecurrentSection) -> None:
        super().__init__()
        whole = section.encoder_width or section.width
        widths = [section.embedding] + [whole] * (section.encoder_layers - 1)
        width = whole // 2 if section.bidirectional else whole
        self.onward = nn.ModuleList(recurrent_layer(section.cell, w, width) for w in widths)
        self.turned = nn.ModuleList(
            recurrent_layer(section.cell, w, width) for w in widths if section.bidirectional
        )
        self.dropout = Dropout(section.dropout)
        self.truncate = section.truncate

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
            outputs, states = read(layer, inputs, padding, self.truncate)
            if turned:
                mirrored = take(inputs, backwards)
                more, more_states = read(turned[index], mirrored, padding, self.truncate)
                outputs = torch.cat([outputs, take(more, backwards)], -1)
                states = tuple(map(_side_by_side, states, more_states))
            last.append(states)
            inputs = outputs
        return inputs, tuple(torch.stack(layers, 1) for layers in zip(*last, strict=True))


class Reader(Seq2Seq):
    """A model that reads its source with an `Encoder`; what its decoder is, subclasses say.

    Dropout falls on embeddings, between layers and on what the output layer sees, never on a
    recurrent connection.
    """

    def __init__(self, section: RecurrentSection, source_size: int, target_size: int) -> None:
        super().__init__()
        self.section = section
        self.target_size = target_size
        self.source_embedding = _embedding(source_size, section.embedding)
        self.target_embedding = _embedding(target_size, section.embedding)
        self.encoder = Encoder(section)
        self.dropout = Dropout(section.dropout)
        self.embedding_dropout = embedding_dropout(section)
        self.source_dropout = TokenDropout(section.source_token_dropout)
        self.target_dropout = TokenDropout(section.target_token_dropout)

    def make_output(self, width: int) -> None:
        """The output layer over features of this width."""
        embedding = self.section.embedding
        if self.section.tied_embeddings:
            self.narrow = (
                nn.Linear(width, embedding, bias=False) if width != embedding else nn.Identity()
            )
            self.output_bias = nn.Parameter(torch.zeros(self.target_size))
        else:
            self.output = nn.Linear(width, self.target_size)

    def read(self, source: Tensor) -> tuple[Tensor, States]:
        """Source ids [B, S] -> top states [B, S, D], every layer's last states, each [B, L, D].

        With `reverse_source` the words are read from last to first and EOS, the sentence's last
        token, still at the end; the top states lie in the order of the source all the same.
        """
        padding = source == PAD
        order = None
        if self.section.reverse_source:
            order = reversal(padding.logical_not().sum(1) - 1, source.size(1))
            source = source.gather(1, order)
        embedded = self.source_dropout(self.source_embedding(source))  # [B, S, E]
        top, last = self.encoder(self.embedding_dropout(embedded), padding)
        return (top if order is None else take(top, order)), last

    def output_layer(self) -> tuple[Tensor, Tensor | None]:
        if self.section.tied_embeddings:
            return self.target_embedding.weight, self.output_bias
        return self.output.weight, self.output.bias

    def readout(self, features: Tensor) -> Tensor:
        """What the output layer sees of features [..., D]: as wide as what it is tied to."""
        seen: Tensor = self.dropout(features)
        return cast("Tensor", self.narrow(seen)) if self.section.tied_embeddings else seen

    def embed(self, inputs: Tensor) -> Tensor:
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
