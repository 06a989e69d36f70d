"""Pairs set apart for validation, such that no sentence of theirs stays in training."""

import hashlib
import heapq
from collections.abc import Iterable, Sequence

from mtkit.data.corpus import Pair

__all__ = ["HeldOut", "Sentences"]


class HeldOut:
    """Chooses `count` different pairs while a corpus goes by, in constant memory.

    Those with the smallest hashes are taken: the choice depends on which pairs there are and on
    nothing else, so runs with other seeds or a shuffled corpus are judged by the same pairs.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._chosen: list[tuple[int, str, str]] = []  # a heap with the largest hash on top
        self._hashes: set[int] = set()

    def offer(self, pairs: Iterable[Pair]) -> None:
        """Consider further pairs of the corpus."""
        for pair in pairs:
            value = _hash(pair)
            full = len(self._chosen) == self._count
            if full and (not self._count or value >= -self._chosen[0][0]):
                continue
            if value in self._hashes:
                continue
            self._hashes.add(value)
            heapq.heappush(self._chosen, (-value, pair.source, pair.target))
            if len(self._chosen) > self._count:
                self._hashes.remove(-heapq.heappop(self._chosen)[0])

    @property
    def pairs(self) -> list[Pair]:
        """The choice so far, in the order of the hashes: the first few are a fair sample too."""
        return [Pair(source, target) for _, source, target in sorted(self._chosen, reverse=True)]


class Sentences:
    """Which sentences occur in some pairs, up to spaces."""

    def __init__(self, pairs: Iterable[Pair]) -> None:
        pairs = list(pairs)
        self._sources = {_spaced(pair.source) for pair in pairs}
        self._targets = {_spaced(pair.target) for pair in pairs}

    def known(self, sources: Sequence[str], targets: Sequence[str]) -> list[bool]:
        """Of each pair, whether its source occurs as a source or its target as a target."""
        return [
            _spaced(source) in self._sources or _spaced(target) in self._targets
            for source, target in zip(sources, targets, strict=True)
        ]


def _spaced(text: str) -> str:
    return " ".join(text.split())


def _hash(pair: Pair) -> int:
    text = f"{pair.source}\0{pair.target}".encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())
