"""Beam search over any Seq2Seq; greedy is a beam of one.

The rules, since users compare numbers: score = log-probability / ((5 + length) / 6)^alpha, EOS
counted (Wu et al. 2016). A step ranks the continuations of all live hypotheses of a sentence; one
that ends in EOS finishes only if it is among the K best, and the K best others live on. A sentence
is done when K hypotheses (times patience, Kasai et al. 2022) have finished or none lives. At the
last position only EOS is allowed, at its true probability. PAD and BOS are never produced.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Self

import torch
from torch import Tensor

from mtkit.decoding.candidates import continuations
from mtkit.errors import ModelError, UsageError
from mtkit.models.seq2seq import Seq2Seq
from mtkit.recipe import SearchSection
from mtkit.symbols import BOS, EOS, PAD

# Finished sentences stay until this share of the batch is idle: leaving moves the others' state.
_IDLE_SHARE = 0.25


@dataclass(frozen=True)
class SearchOptions:
    """How hypotheses are searched, ranked and returned."""

    beam: int = 5
    length_penalty: float = 1.0  # alpha; 0 ranks by log-probability alone
    n_best: int = 1
    max_length_ratio: float = 2.0  # longest output: int(ratio * source tokens) + offset, with EOS
    max_length_offset: int = 20
    patience: float = 1.0
    unknown: bool = True  # whether UNK may be produced

    def __post_init__(self) -> None:
        if self.beam < 1:
            raise UsageError(f"beam = {self.beam} is not a number of hypotheses", "try a beam of 5")
        if not 1 <= self.n_best <= self.beam:
            raise UsageError(
                f"n-best = {self.n_best} does not fit a beam of {self.beam}",
                f"try a beam of {max(self.n_best, 1)}",
            )
        if self.patience <= 0 or self.max_length_ratio < 0 or self.max_length_offset < 1:
            raise UsageError("patience and the longest length must be greater than 0")
        if not (isfinite(self.max_length_ratio) and isfinite(self.length_penalty)):
            raise UsageError("the longest length and the length penalty must be finite")

    @classmethod
    def from_section(cls, section: SearchSection) -> Self:
        """The options that a recipe's search section asks for."""
        return cls(
            beam=section.beam,
            length_penalty=section.length_penalty,
            max_length_ratio=section.max_length_ratio,
            max_length_offset=section.max_length_offset,
        )

    @property
    def forbidden(self) -> tuple[slice, ...]:
        """What no hypothesis holds; EOS is among it because it ends a hypothesis instead."""
        return (
            (slice(PAD, PAD + 1), slice(BOS, EOS + 1)) if self.unknown else (slice(PAD, EOS + 1),)
        )

    def longest(self, source_tokens: int) -> int:
        """Most target tokens, EOS included, for a source of so many tokens without its EOS."""
        return int(self.max_length_ratio * source_tokens) + self.max_length_offset

    def score(self, log_probability: float, length: int) -> float:
        """What hypotheses are ranked by; `length` counts EOS."""
        return log_probability / float(((5 + length) / 6) ** self.length_penalty)


@dataclass(frozen=True)
class Hypothesis:
    """A finished target sentence."""

    tokens: tuple[int, ...]  # without BOS and EOS
    log_probability: float  # of the tokens and EOS
    score: float


@dataclass(frozen=True)
class Beam:
    """What one step leaves: the live hypotheses of each sentence, best first, and who ended."""

    sentences: Tensor  # [B] rows of the source that was given
    limits: Tensor  # [B] longest hypothesis, EOS included
    tokens: Tensor  # [B, K] last token
    parents: Tensor  # [B, K] hypothesis of the step before that this one goes on from
    live: Tensor  # [B, K] log-probability; -inf where nothing lives
    ended: Tensor  # [B, K] log-probability of the parent + EOS; -inf where it did not finish
    finished: Tensor  # [B] hypotheses that have finished so far

    def select(self, rows: Tensor) -> "Beam":
        """These sentences [B'] alone."""
        fields = (getattr(self, name) for name in self.__dataclass_fields__)
        return Beam(*(tensor.index_select(0, rows) for tensor in fields))


@torch.inference_mode()
def beam_search(
    model: Seq2Seq, source: Tensor, options: SearchOptions | None = None
) -> list[list[Hypothesis]]:
    """The n best hypotheses for each row of source ids [B, S], best first.

    A row's longest hypothesis follows from its own length, never from its neighbours'.
    """
    options = options or SearchOptions()
    if not len(source):
        return []
    tokens = ((source != PAD) & (source != EOS)).sum(1).tolist()
    limits = [options.longest(count) for count in tokens]
    stops = frozenset(limits)
    memory = model.encode(source)
    state = model.start(memory, options.beam, max(limits))
    beam = _begin(source, limits, options.beam)
    steps: list[Beam] = []
    for position in range(1, max(limits) + 1):
        logits = model.step(beam.tokens, memory, state)  # [B, K, V]
        beam = _advance(beam, logits, options, position if position in stops else None)
        steps.append(beam)
        alive = (beam.live[:, 0] > -inf).tolist()  # the one synchronisation of a step
        going = [row for row, lives in enumerate(alive) if lives]
        if not going:
            break
        if len(going) <= (1 - _IDLE_SHARE) * len(alive):
            rows = torch.tensor(going, device=source.device)
            beam, memory = beam.select(rows), memory.select(rows)
            state.select(rows)
        if options.beam > 1:
            state.follow(beam.parents)
    return _backtrack(steps, len(limits), options)


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


def _advance(beam: Beam, logits: Tensor, options: SearchOptions, last: int | None) -> Beam:
    """The step that follows from logits [B, K, V] (overwritten); `last`: some may end there.

    Among the 2K best candidates at most K end in EOS, one for each parent. So they are ranked by
    counting: those that go on are the K best without EOS, and an end has rank r when r candidates
    of either sort are better.
    """
    width = options.beam
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    ends = logits[:, :, EOS].clone()
    shift, live, parents, tokens = continuations(beam.live, logits, options.forbidden)
    ends += shift
    if last is not None:
        live = live.masked_fill((beam.limits == last).unsqueeze(1), -inf)
    rivals = torch.cat((live, ends), 1).unsqueeze(1)  # [B, 1, 2K]
    rank = (rivals > ends.unsqueeze(2)).sum(2)  # [B, K]
    ended = ends.masked_fill(rank >= width, -inf)
    finished = beam.finished + (ended > -inf).sum(1)
    done = (finished >= width * options.patience).unsqueeze(1)
    return Beam(
        beam.sentences, beam.limits, tokens, parents, live.masked_fill(done, -inf), ended, finished
    )


def _backtrack(steps: Sequence[Beam], batch: int, options: SearchOptions) -> list[list[Hypothesis]]:
    """Follow the parents of each sentence's best ends back to the first token."""
    beam = options.beam
    device = steps[0].live.device
    offset = torch.arange(len(steps), device=device) * batch
    rows = torch.cat([offset[t] + step.sentences for t, step in enumerate(steps)])

    def whole(name: str, filler: float) -> Tensor:
        """A field of all steps, sentences that had left included: [T, B, K], on the CPU."""
        compact = torch.cat([getattr(step, name) for step in steps])
        full = compact.new_full((len(steps) * batch, beam), filler)
        return full.index_copy(0, rows, compact).view(len(steps), batch, beam).cpu()

    tokens, parents, ended = whole("tokens", PAD), whole("parents", 0), whole("ended", -inf)
    lengths = torch.arange(1, len(steps) + 1, dtype=ended.dtype)  # [T]
    penalty = ((5 + lengths) / 6) ** options.length_penalty
    scores = (ended / penalty.view(-1, 1, 1)).transpose(0, 1).flatten(1)  # [B, T * K]
    best, index = scores.topk(options.n_best)  # [B, N]
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
    return found
