"""How far a gradient reaches: the norm of dloss/dh_t against the distance from the loss.

Encoder: the loss of the whole target, distance from the source's last token read. Decoder: the
loss of the last target token alone, distance from it. For recurrent models h_t is all that the top
layer hands to its next step, an LSTM's cell included, and the derivative is the total one, through
all later states; for a Transformer it is what enters the first layer at position t. An encoder that
reads both ways is seen on its way onward. Measures after Pascanu et al. 2013. All is computed in
float64 and without dropout.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from math import nan
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtkit import model_dir
from mtkit.data.batches import pad
from mtkit.data.corpus import Pair
from mtkit.data.tags import with_tag
from mtkit.data.tokenizer import Tokenizer
from mtkit.errors import DataError, ModelError
from mtkit.models.build import build
from mtkit.models.cells import States, advance, layers_of, project_inputs
from mtkit.models.encoder import Encoder, Reader, reversal, take
from mtkit.models.recurrent import RecurrentState
from mtkit.models.seq2seq import Seq2Seq
from mtkit.models.transformer import Transformer
from mtkit.symbols import BOS, EOS, PAD

Rows = Sequence[tuple[Tensor, Tensor]]  # source [1, S] and target [1, T], both ending in EOS

FAR = 40  # tokens: how far away each sentence's gradient is kept for the claims
_NOTHING = 1e-20  # squared norms below it count as no gradient (Pascanu et al. 2013's code)


@dataclass(frozen=True)
class Reach:
    """Mean gradient norms by distance, each sentence's divided by its norm at distance 0."""

    norms: tuple[float, ...]
    # Mean of (|d_t+1 dh_t+1/dh_t|^2 / |d_t+1|^2 - 1)^2: 0 is a norm that is kept. nan where states
    # do not follow from one another.
    omega: float
    steps: float  # share of the steps that any gradient reaches ("steps in the past")
    far: tuple[float, ...] = ()  # of each sentence that is so long, what is left at FAR

    def at(self, distance: int) -> float:
        """What is left of the gradient so far away; nan where no sentence is so long."""
        return self.norms[distance] if distance < len(self.norms) else nan


@dataclass(frozen=True)
class Gradients:
    """A model's reach, at initialisation or after training."""

    name: str
    moment: str  # "initial" or "trained"
    encoder: Reach
    decoder: Reach | None  # None for a decoder that sees a window of words and keeps no state
    radius: float  # largest |eigenvalue| of the decoder's candidate matrix; nan where it has none


def gradients(
    run: Path, pairs: Sequence[Pair], *, most: int = 24, tag: str | None = None
) -> list[Gradients]:
    """A run's gradients at initialisation and as trained, over the longest `most` pairs.

    `tag` stands before each source; None: the recipe's. The initial weights are drawn again from
    the recipe's seed, as training drew them. Raises DataError when there are no pairs, ModelError
    for a kind of model without known states.
    """
    if not pairs:
        raise DataError("there is no pair to follow gradients through", "name a corpus with pairs")
    loaded = model_dir.load(run)
    longest = sorted(pairs, key=lambda pair: -len(pair.source.split()))[:most]
    tokenizers = loaded.source_tokenizer, loaded.target_tokenizer
    tag = loaded.recipe.search.tag if tag is None else tag
    tagged = [Pair(with_tag(tag, pair.source), pair.target) for pair in longest]
    rows = encoded(tagged, *tokenizers)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(loaded.recipe.training.seed)
        fresh = build(loaded.recipe.model, tokenizers[0].size, tokenizers[1].size)
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


def measure(model: Seq2Seq, rows: Rows, name: str = "", moment: str = "trained") -> Gradients:
    """The reach of a model's gradients over sentences; the model itself stays as it is.

    Raises ModelError for a model that is neither recurrent nor a Transformer.
    """
    model = deepcopy(model).double().eval()
    source, target = (
        torch.from_numpy(pad([row[side][0].tolist() for row in rows])) for side in (0, 1)
    )
    radius = nan
    match model:
        case Reader():
            encoder, decoder, logits = _recurrent(model, source, target)
            if decoder is not None and isinstance(model.layers, nn.ModuleList):
                radius = spectral_radius(layers_of(model.layers)[-1])
        case Transformer():
            encoder, decoder, logits = _transformer(model, source, target)
        case _:
            raise ModelError(f"{name}: a {type(model).__name__} has no states that are known here")
    losses = F.cross_entropy(
        logits.flatten(0, 1), target.flatten(), ignore_index=PAD, reduction="none"
    ).view_as(target)
    ends = (target != PAD).sum(1, keepdim=True) - 1
    # No sentence's states know another sentence, so that the sum serves each of them.
    whole, last = losses.sum(), losses.gather(1, ends).sum()
    return Gradients(
        name,
        moment,
        encoder.reach(whole),
        decoder.reach(last) if decoder is not None else None,
        radius,
    )


@dataclass
class Chain:
    """The states of one layer, step by step."""

    lengths: Tensor  # [B] steps of each sentence
    steps: list[States] = field(default_factory=list)  # of each step, each [B, D]
    linked: bool = True  # whether a step's states are made of those before it

    def reach(self, loss: Tensor) -> Reach:
        """How far the gradient of a loss reaches from the last steps back to the first."""
        arrived = self._gradients(loss)
        norms = torch.stack([_norm(states) for states in arrived], 1)  # [B, steps]
        kept = [norm[:length] for norm, length in zip(norms, self.lengths.tolist(), strict=True)]
        passed: list[Tensor] = []
        if self.linked and len(self.steps) > 1:
            shares = torch.stack(
                [
                    _norm(_pulled(after, before, gradient)) / _norm(gradient)
                    for before, after, gradient in zip(
                        self.steps[:-1], self.steps[1:], arrived[1:], strict=True
                    )
                ],
                1,
            )  # [B, steps - 1]
            lengths = self.lengths.tolist()
            passed = [share[: length - 1] for share, length in zip(shares, lengths, strict=True)]
        return reach(kept, passed)

    def _gradients(self, loss: Tensor) -> list[States]:
        flat = [state for states in self.steps for state in states]
        found = torch.autograd.grad(loss, flat, retain_graph=True, allow_unused=True)
        filled = iter(_filled(found, flat))
        return [tuple(next(filled) for _ in states) for states in self.steps]


def reach(sentences: Sequence[Tensor], passed: Sequence[Tensor]) -> Reach:
    """The mean of gradient norms, each sentence's in the order of t [steps].

    `passed` are the factors by which each step t + 1 -> t alone changes the norm [steps - 1]; none
    where there are no such steps.
    """
    columns: list[list[float]] = [[] for _ in range(max(map(len, sentences)))]
    alive, all_steps = 0, 0
    for norms in sentences:
        backwards = norms.flip(0).double()
        read = backwards.nonzero()
        if len(read):
            backwards = backwards[int(read[0]) :]  # a last state that nothing reads is no step
        for distance, norm in enumerate((backwards / backwards[0].clamp_min(1e-300)).tolist()):
            columns[distance].append(norm)
        alive += int((backwards.square() >= _NOTHING).sum())
        all_steps += len(backwards)
    changes: list[float] = []
    for norms, factors in zip(sentences, passed, strict=False):
        live = norms[1:].square() >= _NOTHING
        changes += (factors[live].square() - 1).square().tolist()
    # Where fewer than half of the sentences are so long, a mean would be of other sentences.
    kept = [column for column in columns if 2 * len(column) >= len(sentences)]
    means = tuple(sum(column) / len(column) for column in kept)
    far = tuple(columns[FAR]) if len(columns) > FAR else ()
    return Reach(means, sum(changes) / len(changes) if changes else nan, alive / all_steps, far)


def spectral_radius(layer: nn.RNNBase) -> float:
    """The largest |eigenvalue| of the matrix from state to new state (a gate's candidate)."""
    weight = layer.all_weights[0][1].detach()
    square = weight.chunk(weight.size(0) // weight.size(1))
    return float(torch.linalg.eigvals(square[2 if len(square) > 1 else 0].double()).abs().max())


def _norm(states: Sequence[Tensor]) -> Tensor:
    """The norm of all parts of a state together: each [B, D] -> [B]."""
    squares = [state.flatten(1).square().sum(1) for state in states]
    return torch.stack(squares).sum(0).sqrt()


def _filled(found: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor]:
    pairs = zip(found, like, strict=True)
    return [torch.zeros_like(state) if g is None else g.detach() for g, state in pairs]


def _pulled(after: States, before: States, gradient: States) -> list[Tensor]:
    """The gradient at `after`, pulled back through the one step from `before`."""
    found = torch.autograd.grad(after, before, gradient, retain_graph=True, allow_unused=True)
    return _filled(found, before)


# -- recurrent -----------------------------------------------------------------------------


class Unrolled(nn.Module):
    """A recurrent encoder one step after the other: the same values, and the top states kept."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.top: Chain | None = None

    def forward(self, inputs: Tensor, padding: Tensor) -> tuple[Tensor, States]:
        """As `mtkit.models.encoder.Encoder` in evaluation mode."""
        lengths = padding.logical_not().sum(1)
        backwards = reversal(lengths, padding.size(1))
        turned = layers_of(self.encoder.turned)
        last = []
        for index, layer in enumerate(layers_of(self.encoder.onward)):
            self.top = self._walk(layer, inputs, lengths)
            outputs, states = _outcome(self.top)
            if turned:
                mirrored = self._walk(turned[index], take(inputs, backwards), lengths)
                more, others = _outcome(mirrored)
                outputs = torch.cat([outputs, take(more, backwards)], -1)
                both = zip(states, others, strict=True)
                states = tuple(torch.cat(pair, -1) for pair in both)
            last.append(states)
            inputs = outputs
        return inputs, tuple(torch.stack(layers, 1) for layers in zip(*last, strict=True))

    def _walk(self, layer: nn.RNNBase, inputs: Tensor, lengths: Tensor) -> Chain:
        chain = Chain(lengths)
        zero = inputs.new_zeros(inputs.size(0), layer.hidden_size)
        states: States = (zero, zero) if isinstance(layer, nn.LSTM) else (zero,)
        for step, gates in enumerate(project_inputs(layer, inputs).unbind(1)):
            if self.encoder.truncate and step % self.encoder.truncate == 0:
                states = tuple(state.detach() for state in states)
            states = _handed_on(advance(layer, gates, states))
            chain.steps.append(states)
        return chain


def _outcome(chain: Chain) -> tuple[Tensor, States]:
    """Outputs [B, S, D], and the states [B, D] at each sentence's last step."""
    whole = [torch.stack(parts, 1) for parts in zip(*chain.steps, strict=True)]
    rows = torch.arange(len(chain.lengths))
    return whole[0], tuple(part[rows, chain.lengths - 1] for part in whole)


def _handed_on(states: States) -> States:
    """The same states; an LSTM's c as the next step receives it, not as its own h was made of it.

    So each part's gradient counts the paths that begin behind this step, and none twice.
    """
    hidden, *others = states
    return (hidden, *(state.clone() for state in others))


def _recurrent(model: Reader, source: Tensor, target: Tensor) -> tuple[Chain, Chain | None, Tensor]:
    """Top states of encoder and decoder, and the logits [B, T, V]."""
    unrolled = Unrolled(model.encoder)
    model.encoder = unrolled  # type: ignore[assignment]  # the same call; the model is our copy
    memory = model.encode(source)
    state = model.start(memory, 1, target.size(1))
    chain = Chain((target != PAD).sum(1))
    logits = []
    for tokens in _inputs(target).unsqueeze(2).unbind(1):  # [B, 1]
        logits.append(model.step(tokens, memory, state))
        if isinstance(state, RecurrentState):
            state.layers = [_handed_on(states) for states in state.layers]
            chain.steps.append(state.layers[-1])
    assert unrolled.top is not None
    return unrolled.top, chain if chain.steps else None, torch.cat(logits, 1)


def _inputs(target: Tensor) -> Tensor:
    """Labels [B, T] -> what the decoder is fed, BOS first."""
    return F.pad(target[:, :-1], (1, 0), value=BOS)


# -- Transformer ---------------------------------------------------------------------------


def _transformer(model: Transformer, source: Tensor, target: Tensor) -> tuple[Chain, Chain, Tensor]:
    """What enters the first layers of encoder and decoder, and the logits [B, T, V]."""
    seen: list[Tensor] = []

    def split(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        steps = given[0].unbind(1)
        chains[len(seen)].steps = [(step,) for step in steps]
        seen.append(given[0])
        return (torch.stack(steps, 1), *given[1:])

    chains = [Chain((side != PAD).sum(1), linked=False) for side in (source, target)]
    for stack in (model.encoder, model.decoder):
        stack[0].register_forward_pre_hook(split)
    logits = model(source, _inputs(target))
    return chains[0], chains[1], logits
