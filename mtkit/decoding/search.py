"""Beam search over any Seq2Seq; greedy is a beam of one.

The rules, since users compare numbers: score = log-probability / ((5 + length) / 6)^alpha, EOS
counted (Wu et al. 2016). A step ranks the continuations of all live hypotheses of a sentence; one
that ends in EOS finishes only if it is among the K best, and the K best others live on. A sentence
is done when K hypotheses (times patience, Kasai et al. 2022) have finished or none lives. At the
last position only EOS is allowed, at its true probability. PAD and BOS are never produced.
"""

from collections.abc import Sequence
from math import inf

import torch
from torch import Tensor

from mtkit.decoding.advance import advance
from mtkit.decoding.demands import Demand
from mtkit.decoding.forced import annotated
from mtkit.decoding.hypotheses import Beam, Hypothesis
from mtkit.decoding.options import SearchOptions
from mtkit.decoding.ruled import Ruled
from mtkit.errors import ModelError
from mtkit.models.seq2seq import Seq2Seq
from mtkit.symbols import BOS, EOS, PAD

__all__ = ["Hypothesis", "SearchOptions", "beam_search"]

# Finished sentences stay until this share of the batch is idle: leaving moves the others' state,
# except that of compiled functions.
_IDLE_SHARE = 0.25


@torch.inference_mode()
def beam_search(
    model: Seq2Seq,
    source: Tensor,
    options: SearchOptions | None = None,
    demands: Sequence[Demand] | None = None,
) -> list[list[Hypothesis]]:
    """The n best hypotheses for each row of source ids [B, S], best first.

    A row's longest hypothesis follows from its own length and demand, never from its neighbours'.
    With options or demands that need more than the best continuations, the steps are those of
    `Ruled`; the search is the same.
    """
    options = options or SearchOptions()
    if not len(source):
        return []
    limits = _limits(source, options, demands)
    stops = frozenset(limits)
    idle_share = _IDLE_SHARE if model.kernels is None else 0.0
    everything = memory = model.encode(source)
    state = model.start(memory, options.width, max(limits))
    beam = _begin(source, limits, options.width)
    rules = None
    if options.ruled or demands:
        rules = Ruled(source, beam, demands or [Demand()] * len(limits), options)
        beam = rules.begin(beam)
    steps: list[Beam] = []
    for position in range(1, max(limits) + 1):
        logits = model.step(beam.tokens, memory, state)  # [B, K, V]
        if rules is None:
            last = position if position in stops else None
            beam = advance(beam, logits, options, last, model.kernels)
        else:
            beam = rules.advance(beam, logits)
        steps.append(beam)
        alive = (beam.live.amax(1) > -inf).tolist()  # the one synchronisation of a step
        going = [row for row, lives in enumerate(alive) if lives]
        if not going:
            break
        if 0 < len(alive) - len(going) >= idle_share * len(alive):
            rows = torch.tensor(going, device=source.device)
            beam, memory = beam.select(rows), memory.select(rows)
            state.select(rows)
            if rules is not None:
                rules.select(going)
        if options.width > 1:
            state.follow(beam.parents)
    found = _backtrack(steps, len(limits), options)
    if options.annotated:
        found = annotated(model, everything, found, options)
    return [hypotheses[: options.n_best] for hypotheses in found]


def _limits(source: Tensor, options: SearchOptions, demands: Sequence[Demand] | None) -> list[int]:
    """Each sentence's longest hypothesis, EOS included: long enough for what it demands."""
    tokens = ((source != PAD) & (source != EOS)).sum(1).tolist()
    limits = [options.longest(count) for count in tokens]
    if demands:
        limits = [max(pair) for pair in zip(limits, (d.room for d in demands), strict=True)]
    return limits


def _begin(source: Tensor, limits: Sequence[int], beam: int) -> Beam:
    """One live hypothesis a sentence: BOS, and K - 1 places where nothing lives."""
    batch, device = len(limits), source.device
    tokens = torch.full((batch, beam), BOS, device=device)
    live = torch.full((batch, beam), -inf, device=device)
    live[:, 0] = 0.0
    return Beam(
        sentences=torch.arange(batch, device=device),
        limits=torch.tensor(limits, device=device),
        tokens=tokens,
        parents=torch.zeros_like(tokens),
        live=live,
        ended=live,
        finished=torch.zeros(batch, dtype=torch.long, device=device),
    )


def _backtrack(steps: Sequence[Beam], batch: int, options: SearchOptions) -> list[list[Hypothesis]]:
    """Follow the parents of each sentence's best ends back to the first token."""
    beam = options.width
    device = steps[0].live.device
    offset = torch.arange(len(steps), device=device) * batch
    rows = torch.cat([offset[t] + step.sentences for t, step in enumerate(steps)])

    def whole(name: str, filler: float) -> Tensor:
        """A field of all steps, sentences that had left included: [T, B, K], on the CPU."""
        compact = torch.cat([getattr(step, name) for step in steps])
        full = compact.new_full((len(steps) * batch, beam), filler)
        return full.index_copy(0, rows, compact).view(len(steps), batch, beam).cpu()

    tokens, parents = whole("tokens", PAD), whole("parents", 0)
    ended = whole("ended", -inf).double()  # a float32 cannot hold every penalty: -inf / inf is NaN
    lengths = torch.arange(1, len(steps) + 1, dtype=ended.dtype)  # [T]
    penalty = ((5 + lengths) / 6) ** options.length_penalty
    scores = (ended / penalty.view(-1, 1, 1)).transpose(0, 1).flatten(1)  # [B, T * K]
    count = options.n_best
    if options.groups > 1 or options.coverage_penalty:
        # Groups may find the same, and coverage may prefer another: all that finished are seen.
        count = max(beam, int((scores > -inf).sum(1).max()))
    best, index = scores.topk(count)  # [B, N]
    lengths, slots = index // beam, index % beam  # [B, N] tokens before EOS, and whose they are
    written = torch.full((*index.shape, len(steps)), PAD)
    for position in range(int(lengths.max()) - 1, -1, -1):
        inside = lengths > position
        written[:, :, position] = tokens[position].gather(1, slots)
        slots = torch.where(inside, parents[position].gather(1, slots), slots)
    logs = ended.transpose(0, 1).flatten(1).gather(1, index)
    found = [
        [
            Hypothesis(tuple(ids[:length]), log_probability, score)
            for ids, length, log_probability, score in zip(*row, strict=True)
            if log_probability > -inf
        ]
        for row in zip(
            written.tolist(), lengths.tolist(), logs.tolist(), best.tolist(), strict=True
        )
    ]
    if not all(found):
        raise ModelError(
            "the model gave a sentence no translation of a probability above zero",
            "its weights may hold values that are not numbers: train again with a lower rate",
        )
    if options.groups > 1:
        found = [list({item.tokens: item for item in items}.values()) for items in found]
    return found
