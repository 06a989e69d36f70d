"""The batches of the training corpus, prepared a little ahead of their use."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from mtkit.data.batches import (
    Batch,
    Indices,
    assemble,
    collate,
    fitting,
    longest_sides,
    nothing_of,
    pad,
    plan,
    shard,
)
from mtkit.data.mixture import Mixture
from mtkit.data.prepare import Prepared
from mtkit.data.store import Side
from mtkit.data.tokenizer import Tokenizer
from mtkit.recipe import TrainingSection
from mtkit.symbols import EOS
from mtkit.training.distributed import World

# How a batch is made from the indices of its pairs and a seed (which only sampling uses).
Fetch = Callable[[Indices, int], Batch]

AHEAD = 4
_AT_ONCE = 1 << 20  # pairs whose lengths are worked on at a time


class Feed:
    """Every epoch's batches in the order of its plan, grouped into updates.

    An update takes `accumulation` batches from each process of the world. What is yielded depends
    on the epoch and the index alone, so that a run goes on where it stopped.
    """

    def __init__(
        self,
        lengths: NDArray[np.int32],
        fetch: Fetch,
        section: TrainingSection,
        world: World,
        mixture: Mixture | None = None,
    ) -> None:
        """`lengths` [pairs, 2] in tokens; without a mixture an epoch is every pair once."""
        self.lengths = lengths
        self.fetch = fetch
        self.section = section
        self.world = world
        self.mixture = mixture
        self._updates: dict[int, int] = {}
        self._latest: tuple[int, list[Indices]] = (-1, [])  # plans of many pairs take seconds
        self.batches_per_epoch = len(self._plan(0))

    @property
    def batches_per_update(self) -> int:
        """Of all processes together."""
        return self.section.accumulation * self.world.size

    def updates_in(self, epoch: int) -> int:
        """How many updates an epoch has: always so many, unless it is a mixture of corpora."""
        known = epoch if self.mixture is not None else 0
        if known not in self._updates:
            self._plan(known)
        return self._updates[known]

    def _plan(self, epoch: int) -> list[Indices]:
        if self._latest[0] == epoch:
            return self._latest[1]
        if self.mixture is None:
            batches = self._cut(self.lengths, epoch)
        else:
            rows = self.mixture.rows(self.section.seed, epoch)
            batches = [rows[batch] for batch in self._cut(self.lengths[rows], epoch)]
        self._updates[epoch] = -(-len(batches) // self.batches_per_update)
        self._latest = epoch, batches
        return batches

    def _cut(self, lengths: NDArray[np.int32], epoch: int) -> list[Indices]:
        limits = self.section
        return plan(lengths, limits.max_tokens, limits.seed, epoch, limits.max_sentences)

    def largest(self) -> Batch:
        """The batch that takes most memory: most tokens, in the longest sentences."""
        batches = self._plan(0)
        if self.mixture is not None:  # its first epoch need not have all pairs
            batches = self._cut(self.lengths, 0)
        counts = np.fromiter(map(len, batches), np.int64, len(batches))
        longest = longest_sides(self.lengths)[np.concatenate(batches)]  # pair by pair
        longest = np.maximum.reduceat(longest, np.cumsum(counts) - counts)  # of every batch
        largest = batches[int(np.argmax(counts * longest.astype(np.int64) ** 2))]
        batch = self.fetch(largest, self.section.seed)
        return fitting(batch, self.section.max_tokens)[0]

    def epoch(self, epoch: int, first: int) -> Iterator[list[Batch]]:
        """This process' batches for the updates `first`, `first` + 1 ... of an epoch."""
        batches = self._plan(epoch)
        with ThreadPoolExecutor(1) as pool:
            ahead: deque[Future[list[Batch]]] = deque()
            for update in range(first, self.updates_in(epoch)):
                start = update * self.batches_per_update
                group = batches[start : start + self.batches_per_update]
                ahead.append(pool.submit(self._fetch_mine, group, epoch, update))
                if len(ahead) > AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _fetch_mine(self, group: list[Indices], epoch: int, update: int) -> list[Batch]:
        mine = shard(len(group), self.world.size, self.world.rank)
        seed = (self.section.seed * 1_000_003 + epoch) * 1_000_003 + update
        if not mine:
            # The epoch's last update has fewer batches than processes. All must take part in the
            # exchange of gradients, so this one sends those of a batch with nothing to predict.
            batch = self.fetch(group[0], seed)
            return [nothing_of(batch)]
        batches = (self.fetch(group[index], seed + index) for index in mine)
        return [part for batch in batches for part in fitting(batch, self.section.max_tokens)]


def planned_lengths(data: Prepared, sampling: float) -> NDArray[np.int32]:
    """The lengths [pairs, 2] that batches are planned by, EOS included.

    Sampling makes sequences longer than the stored ones; by how much is seen from some of them.
    """
    lengths, count = data.train.lengths, len(data.train)
    if not sampling or not count:
        return lengths
    rows = np.linspace(0, count - 1, min(count, 2000)).astype(np.int64)
    sides = (data.train.source, data.train.target)
    growth = []
    for number, (side, tokenizer) in enumerate(
        zip(sides, (data.source_tokenizer, data.target_tokenizer), strict=True)
    ):
        assert side.texts is not None, "a store made for sampling keeps its texts"
        found = tokenizer.encode(side.texts.take(rows), sampling=sampling, seed=1)
        tokens = sum(map(len, found)) + len(found)
        growth.append(max(tokens / int(lengths[rows, number].sum()), 1.0))
    longer = np.empty(lengths.shape, np.int32)
    for start in range(0, count, _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        longer[some] = np.ceil(lengths[some] * growth)
    return longer


def fetcher(data: Prepared, sampling: float) -> Fetch:
    """How batches are made: from the stored ids, or, with sampling, segmented anew every time."""
    source, target = data.train.source, data.train.target
    if not sampling:
        return lambda indices, seed: collate(source, target, indices)

    def sample(tokenizer: Tokenizer, side: Side, indices: Indices, seed: int) -> list[list[int]]:
        assert side.texts is not None, "a store made for sampling keeps its texts"
        texts = [side.texts[int(index)] for index in indices]
        rows = tokenizer.encode(texts, sampling=sampling, seed=seed % 2**32)
        return [[*row, EOS] for row in rows]

    return lambda indices, seed: assemble(
        pad(sample(data.source_tokenizer, source, indices, 2 * seed)),
        pad(sample(data.target_tokenizer, target, indices, 2 * seed + 1)),
    )
