"""The batch plan is a pure function that loses no pair; collating pads and nothing else."""

import numpy as np
import pytest
import torch

from mtkit.data.batches import _walk, assemble, collate, fitting, gather, pad, plan, shard
from mtkit.data.store import Side
from mtkit.symbols import BOS, EOS, PAD


def lengths(count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    source = random.gamma(4, 3.5, count).astype(np.int32) + 2
    target = (source * random.uniform(0.7, 1.4, count)).astype(np.int32) + 1
    return np.stack([source, target], 1).astype(np.int32)


def side(sequences: list[list[int]]) -> Side:
    offsets = np.concatenate([[0], np.cumsum([len(s) for s in sequences])]).astype(np.int64)
    return Side(np.array([i for s in sequences for i in s], np.uint16), offsets, None)


@pytest.mark.parametrize("max_tokens", [1, 60, 512, 4096])
def test_plan_holds_every_pair_once_within_the_budget(max_tokens: int) -> None:
    table = lengths(2000)
    batches = plan(table, max_tokens, seed=3, epoch=1)
    assert sorted(np.concatenate(batches).tolist()) == list(range(2000))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * table[batch].max() <= max_tokens


def test_plan_fills_batches() -> None:
    table = lengths(29_000)
    batches = plan(table, 4096, seed=1, epoch=0)
    padded = sum(len(batch) * table[batch].max(0).sum() for batch in batches)
    assert table.sum() / padded > 0.94


def test_plan_is_a_function_of_seed_and_epoch() -> None:
    table = lengths(500)

    def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
        return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))

    assert same(plan(table, 300, 1, 0), plan(table, 300, 1, 0))
    assert not same(plan(table, 300, 1, 0), plan(table, 300, 1, 1))
    assert not same(plan(table, 300, 1, 0), plan(table, 300, 2, 0))
    # Every epoch has as many batches, so that updates can be counted before they are made.
    assert len({len(plan(table, 300, 1, epoch)) for epoch in range(20)}) == 1


@pytest.mark.parametrize("longest", [20, 256, 257, 900])
def test_walk_is_the_same_whichever_way_it_is_sorted(longest: int) -> None:
    random = np.random.default_rng(1)
    table = random.integers(1, longest, (3000, 2), dtype=np.int32, endpoint=True)
    table[0] = longest
    ties = random.integers(0, 5, len(table)).astype(np.float64)  # some of them equal too
    sides = table.max(1)
    along = (table[:, 0] - table[:, 1]) * np.where(sides % 2, -1, 1)
    assert _walk(table, ties).tolist() == np.lexsort((ties, along, sides)).tolist()


def test_plan_of_an_empty_corpus_is_empty() -> None:
    assert plan(np.empty((0, 2), np.int32), 100, 1, 0) == []


def test_collate_pads_and_shifts() -> None:
    source = side([[5, 6, EOS], [7, EOS]])
    target = side([[8, EOS], [9, 10, 11, EOS]])
    batch = collate(source, target, np.array([1, 0]))
    assert batch.source.tolist() == [[7, EOS, PAD], [5, 6, EOS]]
    assert batch.inputs.tolist() == [[BOS, 9, 10, 11], [BOS, 8, EOS, PAD]]
    assert batch.rows.tolist() == [0, 1, 2, 3, 4, 5]
    assert batch.labels.tolist() == [9, 10, 11, EOS, 8, EOS]
    assert batch.tokens == 6


def test_gather_equals_padding_in_a_loop() -> None:
    random = np.random.default_rng(5)
    sequences = [random.integers(4, 99, n).tolist() for n in random.integers(1, 30, 200)]
    indices = random.permutation(200)[:64]
    expected = pad([sequences[i] for i in indices])
    assert np.array_equal(gather(side(sequences), indices), expected)
    batch = assemble(expected, expected)
    assert batch.labels.tolist() == [token for i in indices for token in sequences[i]]


def test_shards_share_all_batches_of_an_update() -> None:
    for size in (1, 2, 3, 5):
        for count in range(1, 12):
            shares = [shard(count, size, rank) for rank in range(size)]
            assert sorted(index for share in shares for index in share) == list(range(count))


@pytest.mark.parametrize("max_tokens", [1, 7, 12, 20, 1000])
def test_fitting_parts_hold_every_pair_once_and_keep_to_the_budget(max_tokens: int) -> None:
    sources = [[4, 5, EOS], [6, EOS], [7, 8, 9, 10, EOS], [EOS]]
    targets = [[11, EOS], [12, 13, 14, 15, EOS], [16, EOS], [17, EOS]]
    parts = fitting(assemble(pad(sources), pad(targets)), max_tokens)
    pairs = []
    for part in parts:
        (rows, width), height = part.source.shape, part.inputs.size(1)
        assert rows == 1 or rows * max(width, height) <= max_tokens
        labels = torch.full((rows * height,), PAD)
        labels[part.rows] = part.labels
        for source, target in zip(part.source, labels.view(rows, -1), strict=True):
            pairs.append((source[source != PAD].tolist(), target[target != PAD].tolist()))
        assert torch.equal(part.inputs[:, 1:], labels.view(rows, -1)[:, :-1])
    assert sorted(pairs) == sorted(zip(sources, targets, strict=True))


@pytest.mark.parametrize("most", [1, 7, 128])
def test_plan_counts_pairs_where_it_is_told_to(most: int) -> None:
    table = lengths(1000)
    batches = plan(table, 1_000_000, seed=1, epoch=0, max_sentences=most)
    assert sorted(np.concatenate(batches).tolist()) == list(range(1000))
    assert sorted(map(len, batches))[1:] == [most] * (len(batches) - 1), "all full but the last"
    tight = plan(table, 60, seed=1, epoch=0, max_sentences=3)
    assert max(map(len, tight)) == 3
    assert all(len(batch) == 1 or len(batch) * table[batch].max() <= 60 for batch in tight)
