"""Batches come in the order of the plan, however they are prepared."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from test_run import RECIPE

from mtkit import Recipe, prepare
from mtkit.data.batches import Batch, Indices
from mtkit.data.mixture import Mixture
from mtkit.training import feed
from mtkit.training.distributed import World
from mtkit.training.feed import Feed, fetcher, planned_lengths


@pytest.mark.parametrize("sampling", [0.0, 0.1])
def test_batches_do_not_depend_on_workers_or_on_how_far_they_are_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampling: float
) -> None:
    recipe = Recipe.parse(RECIPE).changed([f"tokenizer.sampling={sampling}"])
    random = np.random.default_rng(1)
    found = []
    for workers, ahead in ((1, 0), (1, 4), (3, 16)):
        monkeypatch.setattr(feed, "AHEAD", ahead)
        data = prepare(recipe, cache=tmp_path / f"{workers} {ahead}", workers=workers)
        fetch = fetcher(data, sampling)

        def slow(indices: Indices, seed: int, fetch: feed.Fetch = fetch) -> Batch:
            time.sleep(random.uniform(0, 0.003))
            return fetch(indices, seed)

        lengths = planned_lengths(data, sampling)
        made = Feed(lengths, slow, recipe.training, World(1, 0, torch.device("cpu")))
        found.append(
            [batch for epoch in (0, 1) for group in made.epoch(epoch, 0) for batch in group]
        )
    first, *others = found
    assert len(first) > 20
    for other in others:
        assert len(other) == len(first)
        for a, b in zip(first, other, strict=True):
            assert torch.equal(a.source, b.source)
            assert torch.equal(a.labels, b.labels)


def test_largest_batch_is_the_one_of_most_tokens_in_the_longest_sentences() -> None:
    recipe = Recipe.parse(RECIPE)
    data = prepare(recipe)
    lengths = planned_lengths(data, 0.0)
    made = Feed(lengths, fetcher(data, 0.0), recipe.training, World(1, 0, torch.device("cpu")))
    batches = [batch for group in made.epoch(0, 0) for batch in group]
    sizes = [len(b.source) * max(b.source.size(1), b.inputs.size(1)) ** 2 for b in batches]
    largest = made.largest()
    assert len(set(sizes)) > 5
    found = len(largest.source) * max(largest.source.size(1), largest.inputs.size(1)) ** 2
    assert found == max(sizes)


def test_largest_batch_may_be_of_pairs_that_the_first_epoch_leaves_out() -> None:
    recipe = Recipe.parse(RECIPE)
    data = prepare(recipe)
    lengths, alone = planned_lengths(data, 0.0), World(1, 0, torch.device("cpu"))
    whole = Feed(lengths, fetcher(data, 0.0), recipe.training, alone)
    mixture = Mixture.of((len(lengths),), (0.02,))
    little = Feed(lengths, fetcher(data, 0.0), recipe.training, alone, mixture)
    assert torch.equal(little.largest().source, whole.largest().source)
