"""How far a gradient reaches: the norm of dloss/dh_t against the distance from the loss.

Encoder: the loss of the whole target, distance from the source's last token read. Decoder: the
loss of the last target token alone, distance from it. For recurrent models h_t is the top layer's
state, and the derivative is the total one, through all later states; for a Transformer it is what
enters the first layer at position t. Measures after Pascanu et al. 2013.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtkit import model_dir
from mtkit.data.corpus import Pair
from mtkit.data.tokenizer import Tokenizer
from mtkit.errors import DataError
from mtkit.models.build import build
from mtkit.models.cells import advance, layers_of, project_inputs, read
from mtkit.models.recurrent import Recurrent
from mtkit.models.seq2seq import Seq2Seq
from mtkit.models.transformer import Transformer
from mtkit.recipe import RecurrentSection
from mtkit.symbols import BOS, EOS

_NOTHING = 1e-20  # squared norms below it count as no gradient (Pascanu et al. 2013's code)


@dataclass(frozen=True)
class Reach:
    """Mean gradient norms by distance, each sentence's divided by its norm at distance 0."""

    norms: tuple[float, ...]
    omega: float  # mean of (|d_t|^2 / |d_t+1|^2 - 1)^2: 0 is a norm that is kept
    steps: float  # share of the steps that any gradient reaches ("steps in the past")

    def at(self, distance: int) -> float:
        """What is left of the gradient so far away; nan where no sentence is so long."""
        return self.norms[distance] if distance < len(self.norms) else nan


@dataclass(frozen=True)
class Gradients:
    """A model's reach, at initialisation or after training."""

    name: str
    moment: str  # "initial" or "trained"
    encoder: Reach | None  # None for stacked encoders that read both ways
    decoder: Reach | None  # None for a decoder that sees a window of words and keeps no state
    radius: float  # largest |eigenvalue| of the decoder's candidate matrix; nan for a Transformer


def gradients(run: Path, pairs: Sequence[Pair], *, most: int = 24) -> list[Gradients]:
    """A run's gradients at initialisation and as trained, over the longest `most` pairs.

    Raises DataError when there are no pairs.
    """
    if not pairs:
        raise DataError("there is no pair to follow gradients through", "name a corpus with pairs")
    loaded = model_dir.load(run)
    longest = sorted(pairs, key=lambda pair: -len(pair.source.split()))[:most]
    tokenizers = loaded.source_tokenizer, loaded.target_tokenizer
    rows = encoded(longest, *tokenizers)
    torch.manual_seed(loaded.recipe.training.seed)
    fresh = build(loaded.recipe.model, tokenizers[0].size, tokenizers[1].size).eval()
    return [
        measure(model, rows, run.name, moment)
        for model, moment in ((fresh, "initial"), (loaded.model, "trained"))
    ]


def encoded(
    pairs: Sequence[Pair], source: Tokenizer, target: Tokenizer
) -> list[tuple[Tensor, Tensor]]:
    """Pairs as ids that end in EOS, each [1, S] and [1, T]."""
    sources = source.encode([pair.source for pair in pairs])
    targets = target.encode([pair.target for pair in pairs])
    return [
        (torch.tensor([[*ours, EOS]]), torch.tensor([[*theirs, EOS]]))
        for ours, theirs in zip(sources, targets, strict=True)
    ]


def measure(
    model: Seq2Seq, rows: Sequence[tuple[Tensor, Tensor]], name: str = "", moment: str = "trained"
) -> Gradients:
    """The reach of a model's gradients over sentences, one by one: source [1, S], target [1, T]."""
    section = getattr(model, "section", None)
    recurrent = isinstance(section, RecurrentSection)
    encoder, decoder = [], []
    for source, target in rows:
        if recurrent:
            ours = cast("Recurrent", model)
            if ours.section.decoder != "window":
                decoder.append(_decoder_states(ours, source, target))
            if not ours.section.bidirectional or ours.section.encoder_layers == 1:
                encoder.append(_encoder_states(ours, source, target))
        else:
            first, second = _positions(cast("Transformer", model), source, target)
            encoder.append(first)
            decoder.append(second)
    return Gradients(
        name,
        moment,
        reach(encoder) if encoder else None,
        reach(decoder) if decoder else None,
        spectral_radius(layers_of(cast("Recurrent", model).layers)[-1])
        if recurrent and decoder
        else nan,
    )


def reach(sentences: Sequence[Tensor]) -> Reach:
    """The mean of gradient norms, each sentence's in the order of t [steps]."""
    columns: list[list[float]] = [[] for _ in range(max(map(len, sentences)))]
    changes, alive, all_steps = [], 0, 0
    for norms in sentences:
        backwards = norms.flip(0).double()
        read = backwards.nonzero()
        if len(read):
            backwards = backwards[int(read[0]) :]  # a last state that nothing reads is no step
        for distance, norm in enumerate((backwards / backwards[0].clamp_min(1e-30)).tolist()):
            columns[distance].append(norm)
        squares = backwards.square()
        live = squares >= _NOTHING
        alive, all_steps = alive + int(live.sum()), all_steps + len(backwards)
        ratios = squares[1:][live[:-1]] / squares[:-1][live[:-1]]
        changes += (ratios - 1).square().tolist()
    # Where fewer than half of the sentences are so long, a mean would be of other sentences.
    kept = [column for column in columns if 2 * len(column) >= len(sentences)]
    means = tuple(sum(column) / len(column) for column in kept)
    return Reach(means, sum(changes) / len(changes) if changes else nan, alive / all_steps)


def spectral_radius(layer: nn.RNNBase) -> float:
    """The largest |eigenvalue| of the matrix from state to new state (a gate's candidate)."""
    weight = layer.all_weights[0][1].detach()
    square = weight.chunk(weight.size(0) // weight.size(1))
    return float(torch.linalg.eigvals(square[2 if len(square) > 1 else 0].double()).abs().max())


def _inputs(target: Tensor) -> Tensor:
    return F.pad(target[:, :-1], (1, 0), value=BOS)


def _loss(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="sum")


def _norms(gradients: Sequence[Tensor | None], steps: int) -> Tensor:
    """Gradients, each [1, D] or None for zero -> their norms [steps]."""
    return torch.stack(
        [torch.zeros(()) if g is None else g.detach().norm().float() for g in gradients]
    )[:steps]


def _decoder_states(model: Recurrent, source: Tensor, target: Tensor) -> Tensor:
    """|dloss_T/dh_t| for every t [T], by the model's own steps."""
    memory = model.encode(source)
    state = model.start(memory, 1, target.size(1))
    hidden = []
    for token in _inputs(target).unbind(1):
        logits = model.step(token.unsqueeze(1), memory, state)  # [1, 1, V]
        hidden.append(state.layers[-1][0])
    loss = _loss(logits, target[:, -1:])
    return _norms(torch.autograd.grad(loss, hidden, allow_unused=True), len(hidden))


def _encoder_states(model: Recurrent, source: Tensor, target: Tensor) -> Tensor:
    """|dloss/dh_t| for every t in the order of reading [S].

    The fused kernel shows only what reaches h_t from above; the way through later states is
    walked again by the cell's equations.
    """
    seen: list[tuple[Tensor, ...]] = []

    def keep(module: nn.Module, given: tuple[Tensor, ...], made: tuple[Tensor, ...]) -> None:
        seen.append((given[0], given[1], made[0], *made[1]))

    handle = model.encoder.register_forward_hook(keep)
    try:
        loss = _loss(model(source, _inputs(target)), target)
    finally:
        handle.remove()
    inputs, padding, top, *last = seen[0]
    direct, *ends = torch.autograd.grad(loss, [top, *last], allow_unused=True)
    layers = layers_of(model.encoder.onward)
    width = layers[-1].hidden_size
    direct = torch.zeros_like(top) if direct is None else direct
    direct = direct[..., :width].clone()
    if model.section.bidirectional and ends[0] is not None:
        # Both directions' ends were taken before they were joined, so `top` does not see them.
        direct[:, -1] += ends[0][:, -1, :width]
    below = inputs.detach()
    for layer in layers[:-1]:
        below = read(layer, below, padding)[0].detach()
    states = tuple(
        torch.zeros(1, width, requires_grad=True, dtype=top.dtype) for _ in range(len(last))
    )
    hidden = []
    for gates in project_inputs(layers[-1], below).unbind(1):
        states = advance(layers[-1], gates, states)
        hidden.append(states[0])
    outputs, arriving = list(hidden), list(direct.unbind(1))
    if len(states) > 1 and ends[1] is not None:
        outputs.append(states[1])
        arriving.append(ends[1][:, -1, :width])
    found = torch.autograd.grad(outputs, hidden, arriving, allow_unused=True)
    return _norms(found, len(hidden))


def _positions(model: Transformer, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """What enters the first layers: |dloss/dx_s| [S] and |dloss_T/dx_t| [T]."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.append(given[0])

    handles = [s[0].register_forward_pre_hook(keep) for s in (model.encoder, model.decoder)]
    try:
        logits = model(source, _inputs(target))
    finally:
        for handle in handles:
            handle.remove()
    whole = torch.autograd.grad(_loss(logits, target), seen[0], retain_graph=True)[0]
    last = torch.autograd.grad(_loss(logits[:, -1:], target[:, -1:]), seen[1])[0]
    return whole[0].norm(dim=-1), last[0].norm(dim=-1)
