"""The steps from corpora to tokenizers and stores: spool, hold out, learn a vocabulary, encode.

The texts of the training corpus are spooled to the disk first: a corpus is read once, however slow
its reading, and whatever follows goes over the spool in constant memory.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain, compress, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtkit.data.corpus import Corpus, Pair
from mtkit.data.held_out import HeldOut, Sentences
from mtkit.data.store import StoreWriter, Texts, TextWriter, read_texts
from mtkit.data.tokenizer import Tokenizer
from mtkit.errors import DataError
from mtkit.recipe import DataSection, TokenizerSection
from mtkit.symbols import UNK

__all__ = ["Binariser", "Listen", "Tokenizers"]

_CHUNK = 50_000  # pairs handled at once
_NOTABLE_UNK = 0.001
_SHOWN = 60  # characters of a text in a note

Listen = Callable[[str, float | None], None]
Tokenizers = tuple[Tokenizer, Tokenizer]
Rows = NDArray[np.int64]


class Spool:
    """The pairs of a corpus on the disk, read by number."""

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self._path = path
        self._writers = TextWriter(path / "source"), TextWriter(path / "target")
        self._sides: tuple[Texts, Texts] | None = None

    def write(self, pairs: Sequence[Pair]) -> None:
        """Append pairs."""
        self._writers[0].add([pair.source for pair in pairs])
        self._writers[1].add([pair.target for pair in pairs])

    @property
    def sides(self) -> tuple[Texts, Texts]:
        """What was written; nothing can be appended any more."""
        if self._sides is None:
            for writer in self._writers:
                writer.close()
            self._sides = read_texts(self._path / "source"), read_texts(self._path / "target")
        return self._sides

    def chunks(self, rows: Rows) -> Iterator[tuple[Rows, list[str], list[str]]]:
        """The pairs at ascending rows, many at a time: their rows, sources and targets."""
        for start in range(0, len(rows), _CHUNK):
            some = rows[start : start + _CHUNK]
            sources, targets = (side.take(some) for side in self.sides)
            yield some, sources, targets


@dataclass
class Binariser:
    """One preparation under way; `notes` gathers what it has to say."""

    data: DataSection
    section: TokenizerSection
    folder: Path
    tell: Listen
    notes: list[str] = field(default_factory=list)
    corpora: tuple[int, ...] = ()  # pairs trained on, of each corpus
    _ends: tuple[int, ...] = ()  # the spooled pair behind the last of each corpus

    def run(self, train: Corpus, valid: Corpus | None, given: Tokenizers | None) -> Tokenizers:
        """Write the stores `train` and `valid` and return the tokenizers they are encoded with."""
        spool = Spool(self.folder / "spool")
        pairs = self._spool(train, spool, held_out=valid is None)
        if valid is not None:
            pairs = self._read_valid(valid)
        rows = self._rows(spool, pairs, held_out=valid is None)
        tokenizers = given or self._learn(spool, rows, train.tags)
        self._say_vocabulary(tokenizers)
        self._say_tags(train.tags, tokenizers[0])
        self._encode_train(spool, rows, tokenizers)
        self._encode_valid(pairs, tokenizers)
        return tokenizers

    def _spool(self, corpus: Corpus, spool: Spool, *, held_out: bool) -> list[Pair]:
        """Write the corpus to the spool; the pairs held out of it, if any are to be."""
        choice = HeldOut(self.data.held_out if held_out else 0)
        pairs = iter(corpus)
        count = 0
        while chunk := list(islice(pairs, _CHUNK)):
            self.tell("reading the corpus", None)
            spool.write(chunk)
            choice.offer(chunk)
            count += len(chunk)
        self.tell("reading the corpus", 1.0)
        self._ends = tuple(accumulate(corpus.sizes))
        self.notes.append(f"Training: {' '.join(corpus.report.sentences())}")
        if not count:
            raise DataError(
                f"{corpus.name} has no pair with text on both sides", "look at the files"
            )
        wanted = self.data.held_out
        few = len(choice.pairs) < wanted
        has = len(choice.pairs) if few else count
        if held_out and 2 * wanted > has:
            fewer = f"--set data.held_out={has // 10}, or " if has >= 10 else ""
            raise DataError(
                f"{corpus.name} has {has:,}{' different' if few else ''} pairs: too few to hold "
                f"{wanted:,} of them out for validation",
                f"{fewer}name a validation corpus: --set data.valid=...",
            )
        return choice.pairs

    def _read_valid(self, corpus: Corpus) -> list[Pair]:
        self.tell("reading the validation corpus", None)
        pairs = list(corpus)
        self.notes.append(f"Validation: {' '.join(corpus.report.sentences())}")
        if not pairs:
            raise DataError(
                f"{corpus.name} has no pair with text on both sides", "name another data.valid"
            )
        return pairs

    def _rows(self, spool: Spool, valid: list[Pair], *, held_out: bool) -> Rows:
        """Which spooled pairs are trained on: none that has a sentence of a held-out pair.

        A corpus given for validation takes nothing away; what it shares with training is told.
        """
        rows: Rows = np.arange(len(spool.sides[0]), dtype=np.int64)
        sentences = Sentences(valid)
        known = np.zeros(len(rows), bool)
        for some, sources, targets in spool.chunks(rows):
            known[some] = sentences.known(sources, targets)
        count = int(known.sum())
        if not held_out:
            if count:
                self.notes.append(
                    f"{count:,} training pairs have their source or their target in common with a "
                    "validation pair; they are trained on."
                )
            return rows
        others = count - len(valid)
        also = (
            f"; {others:,} more that share a sentence with them are not trained on"
            if others
            else ""
        )
        self.notes.append(f"Held out for validation: {len(valid):,} pairs{also}.")
        if count == len(rows):
            raise DataError(
                "every training pair shares a sentence with those held out for validation",
                "name a validation corpus: data.valid",
            )
        rest: Rows = np.flatnonzero(~known)
        return rest

    def _learn(self, spool: Spool, rows: Rows, tags: Sequence[str]) -> Tokenizers:
        """Tokenizers of a sample of the rows, the same one twice if it is joint."""
        self.tell("training the tokenizer", None)
        chosen = rows[_spread(len(rows), self.section.sample_lines)]
        source = (text for _, sources, _ in spool.chunks(chosen) for text in sources)
        target = (text for _, _, targets in spool.chunks(chosen) for text in targets)
        if self.section.joint:
            joint = Tokenizer.train(chain(source, target), self.section, tags)
            made = joint, joint
        else:
            learned = Tokenizer.train(source, self.section, tags)
            made = learned, Tokenizer.train(target, self.section)
        self.tell("training the tokenizer", 1.0)
        return made

    def _say_vocabulary(self, tokenizers: Tokenizers) -> None:
        source, target = tokenizers
        sizes = (
            f"{source.size:,} pieces, joint"
            if source is target
            else f"{source.size:,} source and {target.size:,} target pieces"
        )
        self.notes.append(f"Vocabulary: {sizes}.")

    def _say_tags(self, tags: Sequence[str], tokenizer: Tokenizer) -> None:
        for tag in tags:
            if tag not in tokenizer.encode_pieces([tag])[0]:
                self.notes.append(
                    f"The tag {tag} is no piece of the vocabulary: it is spelled in several."
                )

    def _encode_train(self, spool: Spool, rows: Rows, tokenizers: Tokenizers) -> None:
        """Write the training store, without the pairs that are too long."""
        limit = self.data.max_length
        texts = self.section.sampling > 0
        sizes = tokenizers[0].size, tokenizers[1].size
        done, too_long, longest = 0, 0, (0, "")
        kept = np.zeros(len(self._ends), np.int64)
        with StoreWriter(self.folder / "train", sizes, texts=texts) as writer:
            for some, sources, targets in spool.chunks(rows):
                self.tell("encoding", done / len(rows))
                done += len(some)
                ids = tokenizers[0].encode(sources), tokenizers[1].encode(targets)
                lengths = [max(len(a), len(b)) for a, b in zip(*ids, strict=True)]
                fits = [length <= limit for length in lengths]
                places = np.searchsorted(self._ends, some[np.array(fits, bool)], side="right")
                kept += np.bincount(places, minlength=len(kept))
                if not all(fits):
                    too_long += fits.count(False)
                    worst = max(range(len(lengths)), key=lengths.__getitem__)
                    where = f"pair {some[worst] + 1:,}: {_shorten(sources[worst])}"
                    longest = max(longest, (lengths[worst], where))
                writer.add(
                    list(compress(ids[0], fits)),
                    list(compress(ids[1], fits)),
                    (list(compress(sources, fits)), list(compress(targets, fits)))
                    if texts
                    else None,
                )
            pairs, tokens = writer.pairs, writer.tokens
        self.tell("encoding", 1.0)
        self.corpora = tuple(kept.tolist())
        if too_long:
            self.notes.append(
                f"Left out of training, as pairs: {too_long:,} with more than {limit} tokens on a "
                f"side; the longest has {longest[0]:,} ({longest[1]})."
            )
        if not pairs:
            raise DataError(
                f"no training pair has at most {limit} tokens on both sides",
                f"--set data.max_length={longest[0]}",
            )
        self.notes.append(
            f"Trained on: {pairs:,} pairs, {tokens[0]:,} source and {tokens[1]:,} target tokens."
        )

    def _encode_valid(self, pairs: list[Pair], tokenizers: Tokenizers) -> None:
        """Write the validation store, all of it, with its texts."""
        texts = [pair.source for pair in pairs], [pair.target for pair in pairs]
        sizes = tokenizers[0].size, tokenizers[1].size
        ids = [tokenizer.encode(side) for tokenizer, side in zip(tokenizers, texts, strict=True)]
        with StoreWriter(self.folder / "valid", sizes, texts=True) as writer:
            writer.add(ids[0], ids[1], texts)
        for side, rows in zip(("source", "target"), ids, strict=True):
            tokens = sum(map(len, rows))
            unknown = sum(row.count(UNK) for row in rows)
            if unknown > _NOTABLE_UNK * tokens:
                self.notes.append(
                    f"{unknown / tokens:.2%} of the validation {side} tokens are unknown to the "
                    "vocabulary."
                )


def _spread(count: int, most: int) -> Rows:
    """Numbers below `count`, at most `most` of them: one drawn from each of as many equal spans."""
    if count <= most:
        return np.arange(count, dtype=np.int64)
    places = np.arange(most) + np.random.Generator(np.random.PCG64(1)).random(most)
    return (places * (count / most)).astype(np.int64)


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."
