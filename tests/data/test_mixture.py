"""Corpora in shares: every pair of a corpus as often as any other, whatever the weight."""

from collections import Counter

import numpy as np
import pytest

from mtkit.data.mixture import Mixture
from mtkit.errors import RecipeError

SIZES, WEIGHTS = (10, 7, 4, 5), (1.0, 0.5, 3.25, 0.0)
MIXTURE = Mixture(SIZES, WEIGHTS)
CORPUS = np.repeat(np.arange(4), SIZES)


@pytest.mark.parametrize("epochs", [1, 2, 3, 8])
def test_mixture_sees_each_pair_of_a_corpus_equally_often(epochs: int) -> None:
    seen = Counter[int]()
    for epoch in range(epochs):
        seen.update(MIXTURE.rows(3, epoch).tolist())
    for corpus, (size, weight) in enumerate(zip(SIZES, WEIGHTS, strict=True)):
        counts = [seen[int(row)] for row in np.flatnonzero(corpus == CORPUS)]
        assert sum(counts) == int(epochs * weight * size)
        assert max(counts) - min(counts) <= 1


def test_mixture_is_a_function_of_seed_and_epoch() -> None:
    assert np.array_equal(MIXTURE.rows(3, 5), MIXTURE.rows(3, 5))
    assert not np.array_equal(MIXTURE.rows(3, 5), MIXTURE.rows(3, 6))
    assert not np.array_equal(MIXTURE.rows(3, 5), MIXTURE.rows(4, 5))


def test_mixture_without_weights_is_none() -> None:
    assert Mixture.of((3, 4), ()) is None


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 1.0, 1.0), (0.0, 0.0)])
def test_weights_that_do_not_fit_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(RecipeError, match=r"data\.weights"):
        Mixture.of((3, 4), weights)
