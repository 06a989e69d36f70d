"""What beam search promises, over every kind of model and in float64."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from math import log

import pytest
import torch
from torch import Tensor

from mtkit.decoding.search import Hypothesis, SearchOptions, beam_search
from mtkit.errors import ModelError, UsageError
from mtkit.models.seq2seq import Memory, Seq2Seq
from mtkit.symbols import BOS, EOS, PAD, UNK
from tests.laws.kinds import KINDS, tiny_model

EXACT = 1e-9
LENGTHS = (1, 5, 3, 7, 4, 5)
kinds = pytest.mark.parametrize("kind", KINDS)


def sentences(lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> list[list[int]]:
    """Source rows without padding, EOS at the end."""
    generator = torch.Generator().manual_seed(seed)
    return [
        [*torch.randint(4, 11, (length,), generator=generator).tolist(), EOS] for length in lengths
    ]


def batch(rows: list[list[int]], extra: int = 0) -> Tensor:
    """Rows padded to the longest, and by `extra` beyond."""
    longest = max(map(len, rows)) + extra
    return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])


def teacher_forced(model: Seq2Seq, row: list[int], tokens: tuple[int, ...]) -> float:
    """log P(tokens, EOS | row) by the slow path."""
    with torch.no_grad():
        logits = model(torch.tensor([row]), torch.tensor([[BOS, *tokens]]))
    labels = torch.tensor([[*tokens, EOS]])
    return float(logits.log_softmax(-1).gather(2, labels.unsqueeze(2)).sum())


def greedy(model: Seq2Seq, row: list[int], longest: int) -> tuple[int, ...]:
    """The argmax of the whole prefix, again and again."""
    tokens: list[int] = []
    while len(tokens) < longest - 1:
        with torch.no_grad():
            logits = model(torch.tensor([row]), torch.tensor([[BOS, *tokens]]))[0, -1]
        logits[[PAD, BOS]] = -torch.inf
        best = int(logits.argmax())
        if best == EOS:
            break
        tokens.append(best)
    return tuple(tokens)


def every_output(words: tuple[int, ...], longest: int) -> Iterator[tuple[int, ...]]:
    """All token sequences that fit into `longest` positions with their EOS."""
    layer: list[tuple[int, ...]] = [()]
    for _ in range(longest):
        yield from layer
        layer = [(*prefix, word) for prefix in layer for word in words]


def same(one: list[list[Hypothesis]], other: list[list[Hypothesis]]) -> None:
    for left, right in zip(one, other, strict=True):
        assert [item.tokens for item in left] == [item.tokens for item in right]
        for a, b in zip(left, right, strict=True):
            assert a.log_probability == pytest.approx(b.log_probability, rel=EXACT)
            assert a.score == pytest.approx(b.score, rel=EXACT)


@kinds
def test_beam_of_one_is_greedy(kind: str) -> None:
    model, rows = tiny_model(kind), sentences()
    options = SearchOptions(beam=1, max_length_ratio=1.5, max_length_offset=3)
    found = beam_search(model, batch(rows), options)
    for row, (best,) in zip(rows, found, strict=True):
        assert best.tokens == greedy(model, row, options.longest(len(row) - 1))
        assert best.log_probability == pytest.approx(
            teacher_forced(model, row, best.tokens), rel=EXACT
        )


@kinds
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_beam_as_wide_as_the_space_is_exhaustive_search(kind: str, alpha: float) -> None:
    model, rows = tiny_model(kind, target_size=6), sentences((1, 3))
    rows = [[4 + token % 2 if token != EOS else EOS for token in row] for row in rows]
    outputs = list(every_output((UNK, 4, 5), longest=4))
    options = SearchOptions(
        beam=len(outputs),
        n_best=len(outputs),
        length_penalty=alpha,
        max_length_ratio=0,
        max_length_offset=4,
    )
    for row, found in zip(rows, beam_search(model, batch(rows), options), strict=True):
        truth = sorted(
            (
                (logp / ((5 + len(tokens) + 1) / 6) ** alpha, logp, tokens)
                for tokens in outputs
                for logp in [teacher_forced(model, row, tokens)]
            ),
            reverse=True,
        )
        assert [item.tokens for item in found] == [tokens for _, _, tokens in truth]
        assert [item.score for item in found] == pytest.approx([s for s, _, _ in truth], rel=EXACT)
        assert [item.log_probability for item in found] == pytest.approx(
            [logp for _, logp, _ in truth], rel=EXACT
        )


@kinds
@pytest.mark.parametrize("beam", [1, 4])
def test_batch_is_its_sentences_one_by_one(kind: str, beam: int) -> None:
    model, rows = tiny_model(kind), sentences()
    options = SearchOptions(beam=beam, n_best=beam, max_length_ratio=1.5, max_length_offset=2)
    alone = [beam_search(model, batch([row]), options)[0] for row in rows]
    same(beam_search(model, batch(rows), options), alone)
    same(beam_search(model, batch(rows, extra=3), options), alone)
    same(beam_search(model, batch(rows[::-1]), options)[::-1], alone)


@kinds
def test_n_best_is_sorted_distinct_and_teacher_forced(kind: str) -> None:
    model, rows = tiny_model(kind), sentences()
    options = SearchOptions(beam=5, n_best=5, length_penalty=0.6, max_length_ratio=1.0)
    for row, found in zip(rows, beam_search(model, batch(rows), options), strict=True):
        assert 1 <= len(found) <= 5
        assert [item.score for item in found] == sorted((h.score for h in found), reverse=True)
        assert len({item.tokens for item in found}) == len(found)
        for item in found:
            assert not {PAD, BOS, EOS} & set(item.tokens)
            assert len(item.tokens) + 1 <= options.longest(len(row) - 1)
            logp = teacher_forced(model, row, item.tokens)
            assert item.log_probability == pytest.approx(logp, rel=EXACT)
            assert item.score == options.score(item.log_probability, len(item.tokens) + 1)


@kinds
def test_n_best_begins_with_the_best(kind: str) -> None:
    model, rows = tiny_model(kind), sentences()
    options = SearchOptions(beam=4, n_best=4)
    best = beam_search(model, batch(rows), replace(options, n_best=1))
    same([found[:1] for found in beam_search(model, batch(rows), options)], best)


class Table(Seq2Seq):
    """A model whose next token depends on the last one alone: logits are rows of a table."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = table

    def encode(self, source: Tensor) -> Memory:
        return Memory(source == PAD, (), ())

    def features(self, inputs: Tensor, memory: Memory) -> Tensor:
        return inputs

    def output_layer(self) -> tuple[Tensor, Tensor | None]:
        raise AssertionError("a table has none")

    def start(self, memory: Memory, beam: int, capacity: int) -> "Nothing":
        return Nothing()

    def step(self, tokens: Tensor, memory: Memory, state: object) -> Tensor:
        return self.table[tokens]


class Nothing:
    """The state of a model that remembers nothing."""

    def select(self, sentences: Tensor) -> None:
        pass

    def follow(self, parents: Tensor) -> None:
        pass


def table(words: int, rows: dict[int, dict[int, float]]) -> Table:
    """Rows of probabilities; what is not named has a very small one."""
    logits = torch.full((words, words), 1e-30, dtype=torch.float64).log()
    for last, nexts in rows.items():
        for token, probability in nexts.items():
            logits[last, token] = torch.tensor(probability, dtype=torch.float64).log()
    return Table(logits)


# From BOS: 4 (0.5), 5 (0.3), EOS (0.2); 4 and 5 go on to EOS or to each other.
CHAIN = {
    BOS: {4: 0.5, 5: 0.3, EOS: 0.2},
    4: {EOS: 0.42, 5: 0.58},
    5: {EOS: 0.9, 4: 0.1},
}
ONE = torch.tensor([[4, EOS]])


def test_end_finishes_only_among_the_k_best() -> None:
    """At the first step EOS ranks third: with a beam of 2 the empty hypothesis never finishes."""
    model = table(6, CHAIN)
    options = SearchOptions(length_penalty=0.0, max_length_ratio=0, max_length_offset=9)
    two = beam_search(model, ONE, replace(options, beam=2, n_best=2))[0]
    assert () not in [item.tokens for item in two]
    three = beam_search(model, ONE, replace(options, beam=3, n_best=3))[0]
    assert () in [item.tokens for item in three]


def test_sentence_is_done_when_k_have_finished() -> None:
    """By hand, with a beam of 2: (5) finishes at the second step, (4 5) at the third."""
    options = SearchOptions(beam=2, n_best=2, length_penalty=0.0, max_length_offset=9)
    model = table(6, CHAIN)
    assert [item.tokens for item in beam_search(model, ONE, options)[0]] == [(5,), (4, 5)]
    hasty = replace(options, patience=0.5)
    assert [item.tokens for item in beam_search(model, ONE, hasty)[0]] == [(5,)]
    longer_is_better = replace(options, length_penalty=1.0)
    found = beam_search(model, ONE, longer_is_better)[0]
    assert [item.tokens for item in found] == [(4, 5), (5,)]


def test_last_position_takes_the_end_at_its_true_probability() -> None:
    model = table(6, {BOS: {4: 0.9, EOS: 0.1}, 4: {4: 0.9, EOS: 0.1}})
    options = SearchOptions(beam=1, max_length_ratio=0, max_length_offset=3)
    (best,) = beam_search(model, ONE, options)[0]
    assert best.tokens == (4, 4)
    assert best.log_probability == pytest.approx(log(0.9 * 0.9 * 0.1))


def test_longest_output_follows_from_the_own_source() -> None:
    """A model that never ends of itself fills exactly what its own source allows."""
    never = {EOS: 1e-60}
    model = table(6, {BOS: {4: 1.0} | never, 4: {4: 1.0} | never, UNK: never, 5: never})
    rows = sentences((1, 6, 3))
    for beam in (1, 3):
        options = SearchOptions(beam=beam, max_length_ratio=1.5, max_length_offset=2)
        found = beam_search(model, batch(rows, extra=2), options)
        assert [len(best[0].tokens) for best in found] == [int(1.5 * n) + 1 for n in (1, 6, 3)]


@pytest.mark.parametrize("words", [6, 7, 29, 64, 101])
@pytest.mark.parametrize("beam", [1, 2, 5])
def test_candidates_are_found_in_a_vocabulary_of_any_size(words: int, beam: int) -> None:
    """The search through groups of tokens misses none: compared with sorting everything."""
    logits = torch.randn(words, words, generator=torch.Generator().manual_seed(words)).double()
    logits[:, EOS] = -50.0
    model = Table(logits)
    options = SearchOptions(beam=beam, max_length_ratio=0, max_length_offset=4, n_best=beam)
    logps = logits.log_softmax(-1)
    live: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    allowed = [word for word in range(words) if word not in (PAD, BOS, EOS)]
    for _ in range(3):
        nexts = [
            (logp + float(logps[tokens[-1] if tokens else BOS, word]), (*tokens, word))
            for logp, tokens in live
            for word in allowed
        ]
        live = sorted(nexts, reverse=True)[:beam]
    ends = sorted(((p + float(logps[t[-1], EOS]), t) for p, t in live), reverse=True)
    found = beam_search(model, ONE, options)[0]
    assert [item.tokens for item in found] == [tokens for _, tokens in ends]


def test_unknown_is_produced_only_if_allowed() -> None:
    model = table(6, {BOS: {UNK: 0.9, 4: 0.1}, UNK: {EOS: 1.0}, 4: {EOS: 1.0}})
    assert beam_search(model, ONE, SearchOptions(beam=1))[0][0].tokens == (UNK,)
    assert beam_search(model, ONE, SearchOptions(beam=1, unknown=False))[0][0].tokens == (4,)


def test_logits_that_share_memory_are_searched_alike() -> None:
    """A model may give the same logits to all hypotheses without a copy of them."""

    class Shared(Table):
        def step(self, tokens: Tensor, memory: Memory, state: object) -> Tensor:
            return self.table[BOS].expand(*tokens.shape, -1)

    logits = torch.randn(9, generator=torch.Generator().manual_seed(3)).expand(9, 9)
    options = SearchOptions(beam=3, n_best=3)
    kept = logits.clone()
    same([beam_search(Shared(logits), ONE, options)[0]], beam_search(Table(logits), ONE, options))
    assert torch.equal(logits, kept)


def test_half_precision_logits_are_normalised_in_float32() -> None:
    logits = torch.randn(40, 40, generator=torch.Generator().manual_seed(0)).bfloat16()
    model, options = Table(logits), SearchOptions(beam=3, max_length_ratio=0, max_length_offset=6)
    (best,) = beam_search(model, ONE, options)[0]
    path = [BOS, *best.tokens, EOS]
    exact = logits.double().log_softmax(-1)
    total = sum(float(exact[a, b]) for a, b in pairwise(path))
    assert best.log_probability == pytest.approx(total, abs=1e-4)


def test_model_without_numbers_is_an_error() -> None:
    with pytest.raises(ModelError):
        beam_search(Table(torch.full((8, 8), torch.nan)), ONE)


def test_empty_batch_has_no_translations() -> None:
    assert beam_search(table(6, CHAIN), torch.empty(0, 4, dtype=torch.long)) == []


def test_options_that_cannot_be_are_refused() -> None:
    for wrong in ({"beam": 0}, {"n_best": 6}, {"patience": 0.0}, {"max_length_offset": 0}):
        with pytest.raises(UsageError):
            SearchOptions(**wrong)
