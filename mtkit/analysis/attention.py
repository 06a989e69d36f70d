"""What a model looks at: alignment maps under teacher forcing, their entropy, word alignments."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from mtkit.data.tags import with_tag
from mtkit.data.tokenizer import Tokenizer
from mtkit.decoding.search import SearchOptions
from mtkit.decoding.translator import Translator
from mtkit.errors import ModelError
from mtkit.model_dir import LoadedModel
from mtkit.models.recurrent import Recurrent
from mtkit.models.transformer import Attention, Transformer
from mtkit.symbols import BOS, EOS

_MARK = "▁"  # how SentencePiece begins a word


@dataclass(frozen=True)
class Map:
    """One alignment: which share of its attention each target token gives each source token."""

    name: str  # "attention", "mean", "layer 2", "layer 2 head 3"
    weights: tuple[tuple[float, ...], ...]  # [T, S]; a row sums to 1
    entropy: float  # mean over target tokens, in bits


@dataclass(frozen=True)
class AttentionMaps:
    """The attention of a model over one sentence pair."""

    source: tuple[str, ...]  # pieces, with </s>
    target: tuple[str, ...]
    maps: tuple[Map, ...]  # the first stands for the model
    words: tuple[tuple[str, str], ...]  # target word, the source word that it looks at most


def attention(
    loaded: LoadedModel, source: str, target: str | None = None, *, tag: str | None = None
) -> AttentionMaps:
    """Alignment maps of a sentence with its translation, or with the model's own if None.

    `tag` stands before the source; None: the recipe's.
    A Transformer gives the mean over heads of every layer and each head of the cross-attention.
    Raises ModelError for a context vector, which attends to nothing.
    """
    section = loaded.recipe.model
    if section.kind == "recurrent" and section.memory == "context":
        raise ModelError(
            f"{loaded.path} has a context vector, which attends to nothing",
            "name a model with attention (model.memory), or a Transformer",
        )
    source = with_tag(loaded.recipe.search.tag if tag is None else tag, source)
    if target is None:
        translator = Translator(
            loaded.model,
            loaded.source_tokenizer,
            loaded.target_tokenizer,
            SearchOptions.from_section(loaded.recipe.search),
        )
        target = translator.translate([source])[0].text
    sides = []
    for text, tokenizer in ((source, loaded.source_tokenizer), (target, loaded.target_tokenizer)):
        sides.append([*tokenizer.encode([text])[0], EOS])
    ours = torch.tensor([sides[0]])
    inputs = torch.tensor([[BOS, *sides[1][:-1]]])
    with torch.no_grad():
        memory = loaded.model.encode(ours)
        if section.kind == "recurrent":
            named = {"attention": cast("Recurrent", loaded.model).alignment(inputs, memory)[0]}
        else:
            named = _heads(cast("Transformer", loaded.model), ours, inputs)
    pieces = [
        _pieces(ids, tokenizer)
        for ids, tokenizer in zip(
            sides, (loaded.source_tokenizer, loaded.target_tokenizer), strict=True
        )
    ]
    maps = tuple(
        Map(name, tuple(tuple(row) for row in weights.tolist()), entropy(weights))
        for name, weights in named.items()
    )
    links = word_alignment(pieces[0], pieces[1], next(iter(named.values())))
    return AttentionMaps(tuple(pieces[0]), tuple(pieces[1]), maps, tuple(links))


def entropy(weights: Tensor) -> float:
    """The mean entropy of the rows of [T, S], in bits: 0 looks at one place, log2 S at all."""
    return float(torch.special.entr(weights.double()).sum(-1).mean() / torch.log(torch.tensor(2.0)))


def word_alignment(
    source: Sequence[str], target: Sequence[str], weights: Tensor
) -> list[tuple[str, str]]:
    """Each target word with the source word that gets most of its pieces' attention [T, S].

    End-of-sentence tokens are no words: what they get is left out.
    """
    ours, theirs = _words(source[:-1]), _words(target[:-1])
    found = []
    for word, rows in theirs:
        shares = [float(weights[rows][:, columns].sum()) for _, columns in ours]
        if shares:
            found.append((word, ours[max(range(len(shares)), key=shares.__getitem__)][0]))
    return found


def _words(pieces: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Words, each with the places of its pieces."""
    groups: list[list[int]] = []
    for place, piece in enumerate(pieces):
        if piece.startswith(_MARK) or not groups:
            groups.append([])
        groups[-1].append(place)
    named = [("".join(pieces[i] for i in group).replace(_MARK, ""), group) for group in groups]
    return [(word, group) for word, group in named if word]


def _pieces(ids: Sequence[int], tokenizer: Tokenizer) -> list[str]:
    return [*(tokenizer.piece(token) for token in ids[:-1]), "</s>"]


def _heads(model: Transformer, source: Tensor, inputs: Tensor) -> dict[str, Tensor]:
    """Cross-attention [T, S]: the mean of all heads, of each layer's, and every head."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, given: tuple[Tensor, Tensor, Tensor, Tensor | None]) -> None:
        query, keys, _, bias = given
        seen.append(cast("Attention", module).weights(query, keys, bias)[0])  # [H, T, S]

    layers = [cast("nn.Module", layer.cross_attention) for layer in model.decoder]
    handles = [layer.register_forward_pre_hook(keep) for layer in layers]
    try:
        model(source, inputs)
    finally:
        for handle in handles:
            handle.remove()
    maps = {"mean": torch.stack(seen).mean((0, 1))}
    for number, heads in enumerate(seen, start=1):
        maps[f"layer {number}"] = heads.mean(0)
        maps |= {f"layer {number} head {h}": w for h, w in enumerate(heads, start=1)}
    return maps
