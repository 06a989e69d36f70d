"""The batches of the training corpus, prepared a little ahead of their use."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mtkit.data.batches import Batch, Indices, assemble, collate, pad, plan, shard
from mtkit.data.prepare import Prepared
from mtkit.data.store import Side
from mtkit.data.tokenizer import Tokenizer
from mtkit.recipe import TrainingSection
from mtkit.symbols import EOS
from mtkit.training.distributed import World

# How a batch is made from the indices of its pairs and a seed (which only sampling uses).
Fetch = Callable[[Indices, int], Batch]

AHEAD = 4


class Feed:
    """Every epoch's batches in the order of its plan, grouped into updates.

    An update takes `accumulation` batches from each process of the world. What is yielded depends
    on the epoch and the index alone, so that a run goes on where it stopped.
    """

    def __init__(
        self, lengths: NDArray[np.int32], fetch: Fetch, section: TrainingSection, world: World
    ) -> None:
        self.lengths = lengths
        self.fetch = fetch
        self.section = section
        self.world = world
        self.batches_per_epoch = len(self._plan(0))
        self.updates_per_epoch = -(-self.batches_per_epoch // self.batches_per_update)

    @property
    def batches_per_update(self) -> int:
        """Of all processes together."""
        return self.section.accumulation * self.world.size

    def _plan(self, epoch: int) -> list[Indices]:
        return plan(self.lengths, self.section.max_tokens, self.section.seed, epoch)

    def epoch(self, epoch: int, first: int) -> Iterator[list[Batch]]:
        """This process' batches for the updates `first`, `first` + 1 ... of an epoch."""
        batches = self._plan(epoch)
        with ThreadPoolExecutor(1) as pool:
            ahead: deque[Future[list[Batch]]] = deque()
            for update in range(first, self.updates_per_epoch):
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
            return [replace(batch, rows=batch.rows[:0], labels=batch.labels[:0])]
        return [self.fetch(group[index], seed + index) for index in mine]


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
