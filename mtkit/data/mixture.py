"""Several corpora in the shares that a recipe asks for: a pure function of seed and epoch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtkit.errors import RecipeError

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Mixture:
    """So many times an epoch goes through each corpus; pairs of a corpus lie one behind the other.

    A corpus of weight 0.5 gives half of its pairs to an epoch and the other half to the next, one
    of weight 3 gives each of them three times: each goes round in shuffles of its own, and an epoch
    takes up where the one before it stopped. So at all times every pair of a corpus has been seen
    as often as any other of it, but for one time.
    """

    sizes: tuple[int, ...]  # pairs of each corpus
    weights: tuple[float, ...]

    @classmethod
    def of(cls, sizes: tuple[int, ...], weights: tuple[float, ...]) -> "Mixture | None":
        """None where every corpus is gone through once. Raises RecipeError for weights amiss."""
        if not weights:
            return None
        alike = f"--set 'data.weights={[1] * len(sizes)}'"
        if len(weights) != len(sizes):
            raise RecipeError(
                f"data.weights has {len(weights)} numbers for {len(sizes)} corpora of data.train",
                f"give one number for each corpus, in their order: {alike}",
            )
        if not any(weight * size for weight, size in zip(weights, sizes, strict=True)):
            raise RecipeError(
                "data.weights leave no pair to train on", f"raise one of them: {alike}"
            )
        return cls(sizes, weights)

    def rows(self, seed: int, epoch: int) -> Rows:
        """The pairs of an epoch, as numbers in the store, one of them several times if so asked."""
        parts, first = [], 0
        for corpus, (size, weight) in enumerate(zip(self.sizes, self.weights, strict=True)):
            start, end = (int(turn * weight * size) for turn in (epoch, epoch + 1))
            for turn in range(start // size, -(-end // size)) if size else ():
                shuffle = np.random.Generator(np.random.PCG64([seed, corpus, turn]))
                begin, stop = max(start - turn * size, 0), min(end - turn * size, size)
                parts.append(first + shuffle.permutation(size)[begin:stop])
            first += size
        return np.concatenate([*parts, np.empty(0, np.int64)])
