"""The texts of a corpus on the disk, so that it is read once, however slow its reading."""

import json
from collections.abc import Iterator
from itertools import accumulate, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtkit.data.corpus import Corpus
from mtkit.data.progress import Listen, Meter
from mtkit.data.store import Texts, TextWriter, read_texts, whole_texts

__all__ = ["Rows", "Spool", "write_whole"]

Rows = NDArray[np.int64]


class Spool:
    """The pairs of a corpus, read by number, in constant memory.

    The folder is written chunk by chunk. One that is found half written is gone on with: the
    corpus is read again up to there, which is the smaller part of the work.
    """

    chunk = 50_000  # pairs handled at once

    def __init__(self, path: Path, corpus: Corpus, tell: Listen) -> None:
        self._sides = path / "source", path / "target"
        facts = path / "facts.json"
        if not facts.exists():
            path.mkdir(exist_ok=True)
            self._write(corpus, Meter("reading the corpus", tell))
            table = {"ends": list(accumulate(corpus.sizes)), "report": corpus.report.sentences()}
            write_whole(json.dumps(table), facts)
        table = json.loads(facts.read_text(encoding="utf-8"))
        self.ends: list[int] = table["ends"]  # the pair behind the last of each corpus
        self.report: list[str] = table["report"]  # what the reading met, in sentences
        self._texts: tuple[Texts, Texts] | None = None

    def __len__(self) -> int:
        return self.ends[-1]

    @property
    def parts(self) -> int:
        """How many chunks there are."""
        return -(-len(self) // self.chunk)

    def part(self, number: int) -> Rows:
        """The rows of a chunk."""
        start = number * self.chunk
        return np.arange(start, min(start + self.chunk, len(self)), dtype=np.int64)

    def take(self, rows: Rows) -> tuple[list[str], list[str]]:
        """Sources and targets at ascending rows that lie close."""
        if self._texts is None:
            self._texts = read_texts(self._sides[0]), read_texts(self._sides[1])
        source, target = self._texts
        return source.take(rows), target.take(rows)

    def chunks(self, rows: Rows) -> Iterator[tuple[list[str], list[str]]]:
        """Sources and targets at ascending rows, many at a time."""
        for start in range(0, len(rows), self.chunk):
            yield self.take(rows[start : start + self.chunk])

    def _write(self, corpus: Corpus, meter: Meter) -> None:
        there = min(map(whole_texts, self._sides)) // self.chunk * self.chunk
        writers = [TextWriter(side, there) for side in self._sides]
        pairs, count = iter(corpus), 0
        while chunk := list(islice(pairs, self.chunk)):
            if count >= there:
                writers[0].add([pair.source for pair in chunk])
                writers[1].add([pair.target for pair in chunk])
            count += len(chunk)
            meter.show(len(chunk))
        for writer in writers:
            writer.close()
        meter.end()


def write_whole(content: str | bytes | Rows, path: Path) -> None:
    """Write a file that is there whole or not at all, should this process be killed."""
    aside = path.with_name(f".{path.name}.part")
    if isinstance(content, np.ndarray):
        aside.write_bytes(content.data)
    else:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)
    aside.replace(path)
