"""The batches of the training corpus, prepared a little ahead of their use."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mtkit.data.batches import Batch, Indices, plan, shard
from mtkit.recipe import TrainingSection
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
        self.updates_per_epoch = -(-self.batches_per_epoch // self._per_update)

    @property
    def _per_update(self) -> int:
        return self.section.accumulation * self.world.size

    def _plan(self, epoch: int) -> list[Indices]:
        return plan(self.lengths, self.section.max_tokens, self.section.seed, epoch)

    def epoch(self, epoch: int, first: int) -> Iterator[list[Batch]]:
        """This process' batches for the updates `first`, `first` + 1 ... of an epoch."""
        batches = self._plan(epoch)
        with ThreadPoolExecutor(1) as pool:
            ahead: deque[Future[list[Batch]]] = deque()
            for update in range(first, self.updates_per_epoch):
                group = batches[update * self._per_update : (update + 1) * self._per_update]
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
