"""The pairs of a spool as ids: part by part, side by side, joined into one store."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import compress
from pathlib import Path

import numpy as np

from mtkit.data.progress import Meter
from mtkit.data.side_by_side import in_order
from mtkit.data.spool import Rows, Spool, write_whole
from mtkit.data.store import Store, StoreWriter
from mtkit.data.tokenizer import Tokenizer

__all__ = ["Encoded", "Encoder"]

_AT_ONCE = 10_000  # pairs whose ids are numbers of Python's for a while
_SHOWN = 60  # characters of a text in a note


@dataclass
class Encoded:
    """What became of some pairs."""

    pairs: int = 0  # all of them
    kept: Sequence[int] = ()  # of each corpus
    too_long: int = 0
    longest: int = 0  # tokens of the longest that is too long
    where: str = ""  # and which it is

    def add(self, other: "Encoded") -> None:
        """Count further pairs too."""
        self.pairs += other.pairs
        before = self.kept or [0] * len(other.kept)
        self.kept = [sum(both) for both in zip(before, other.kept, strict=True)]
        self.too_long += other.too_long
        if other.longest > self.longest:
            self.longest, self.where = other.longest, other.where


@dataclass(frozen=True)
class Encoder:
    """Encodes rows of a spool in parts, each of them a small store with what became of it beside.

    Parts that are there already, because a preparation was killed, are taken as they are.
    """

    spool: Spool
    rows: Rows
    tokenizers: tuple[Tokenizer, Tokenizer]
    limit: int  # longest side of a pair in tokens
    texts: bool  # whether the texts are kept beside the ids
    folder: Path  # of the parts

    def run(self, store: Path, workers: int, meter: Meter) -> tuple[Encoded, Store]:
        """Encode all rows into a store. The same store whatever the number of workers."""
        self.folder.mkdir(exist_ok=True)
        count = -(-len(self.rows) // self.spool.chunk)
        found = Encoded()
        for made, part in in_order(self.part, count, workers):
            found.add(part)
            meter.show(part.pairs if made else 0, found.pairs / len(self.rows))
        with StoreWriter(store, self._sizes, texts=self.texts) as writer:
            for number in range(count):
                writer.append(Store.open(self._path(number)))
        meter.end()
        return found, Store.open(store)

    def part(self, number: int) -> tuple[bool, Encoded]:
        """Encode a part unless it is there; whether it was not."""
        path = self._path(number)
        facts = path.with_suffix(".json")
        if path.exists():
            return False, Encoded(**json.loads(facts.read_text(encoding="utf-8")))
        size = self.spool.chunk
        rows = self.rows[number * size : (number + 1) * size]
        found = Encoded()
        with StoreWriter(path, self._sizes, texts=self.texts) as writer:
            for start in range(0, len(rows), _AT_ONCE):
                found.add(self._encode(rows[start : start + _AT_ONCE], writer))
            write_whole(json.dumps(asdict(found)), facts)  # the store itself is there after it
        return True, found

    def _encode(self, rows: Rows, writer: StoreWriter) -> Encoded:
        sides = self.spool.take(rows)
        ids = [t.encode(side, threads=1) for t, side in zip(self.tokenizers, sides, strict=True)]
        lengths = [max(len(a), len(b)) for a, b in zip(*ids, strict=True)]
        fits = [length <= self.limit for length in lengths]
        source, target = (list(compress(side, fits)) for side in ids)
        texts = [list(compress(side, fits)) for side in sides] if self.texts else None
        writer.add(source, target, texts)
        ends = self.spool.ends
        places = np.searchsorted(ends, rows[np.array(fits, bool)], side="right")
        found = Encoded(len(rows), np.bincount(places, minlength=len(ends)).tolist())
        if not all(fits):
            found.too_long = fits.count(False)
            worst = max(range(len(lengths)), key=lengths.__getitem__)
            found.longest = lengths[worst]
            found.where = f"pair {rows[worst] + 1:,}: {_shorten(sides[0][worst])}"
        return found

    @property
    def _sizes(self) -> tuple[int, int]:
        return self.tokenizers[0].size, self.tokenizers[1].size

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}"


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."
