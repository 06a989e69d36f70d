"""The steps from corpora to tokenizers and stores: spool, hold out, learn a vocabulary, encode.

The texts of the training corpus are spooled to the disk first; whatever follows goes over the
spool in constant memory, in several processes. What a step has made lies on the disk when the next
begins, so that a preparation that was killed goes on there.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mtkit.data.corpus import Corpus, Pair
from mtkit.data.encode import Encoder
from mtkit.data.held_out import HeldOut, Sentences
from mtkit.data.progress import Listen, Meter
from mtkit.data.side_by_side import can_fork, in_order
from mtkit.data.spool import Rows, Spool, write_whole
from mtkit.data.store import StoreWriter
from mtkit.data.tokenizer import Tokenizer
from mtkit.errors import DataError
from mtkit.recipe import DataSection, TokenizerSection
from mtkit.symbols import UNK

__all__ = ["Binariser", "Listen", "Tokenizers"]

_NOTABLE_UNK = 0.001

Tokenizers = tuple[Tokenizer, Tokenizer]


@dataclass
class Binariser:
    """One preparation under way; `notes` gathers what it has to say."""

    data: DataSection
    section: TokenizerSection
    folder: Path
    tell: Listen
    workers: int
    notes: list[str] = field(default_factory=list)
    corpora: tuple[int, ...] = ()  # pairs trained on, of each corpus

    def run(self, train: Corpus, valid: Corpus | None, given: Tokenizers | None) -> Tokenizers:
        """Write the stores `train` and `valid` and return the tokenizers they are encoded with."""
        spool = Spool(self.spooled, train, self.tell)
        if spool.parts < 2:
            self.workers = 1  # not worth the forking
        self.notes.append(f"Training: {' '.join(spool.report)}")
        if not len(spool):
            raise DataError(
                f"{train.name} has no pair with text on both sides", "look at the files"
            )
        pairs, rows = self._chosen(spool, train, valid)
        tokenizers = given or self._learned(spool, rows, train.tags)
        self._say_vocabulary(tokenizers)
        self._say_tags(train.tags, tokenizers[0])
        self._encode_train(spool, rows, tokenizers)
        self._encode_valid(pairs, tokenizers)
        return tokenizers

    @property
    def spooled(self) -> Path:
        """Where everything lies that is not wanted afterwards."""
        return self.folder / "spool"

    # -- validation -------------------------------------------------------------------------

    def _chosen(self, spool: Spool, train: Corpus, valid: Corpus | None) -> tuple[list[Pair], Rows]:
        """The pairs to validate on, and which spooled pairs are trained on."""
        facts, file = self.spooled / "chosen.json", self.spooled / "rows"
        if not facts.exists():
            before = len(self.notes)
            pairs = self._hold_out(spool, train) if valid is None else self._read_valid(valid)
            write_whole(self._rows(spool, pairs, held_out=valid is None), file)
            table = {
                "valid": [[pair.source, pair.target] for pair in pairs],
                "notes": self.notes[before:],
            }
            write_whole(json.dumps(table), facts)
            del self.notes[before:]
        table = json.loads(facts.read_text(encoding="utf-8"))
        self.notes += table["notes"]
        return [Pair(*pair) for pair in table["valid"]], np.memmap(file, np.int64, "r")

    def _hold_out(self, spool: Spool, train: Corpus) -> list[Pair]:
        """The pairs that are held out of the training corpus."""
        wanted = self.data.held_out

        def choose(part: int) -> tuple[int, list[Pair]]:
            choice, rows = HeldOut(wanted), spool.part(part)
            choice.offer(map(Pair, *spool.take(rows)))
            return len(rows), choice.pairs

        choice, meter = HeldOut(wanted), Meter("choosing pairs to validate on", self.tell)
        for part, (count, pairs) in enumerate(in_order(choose, spool.parts, self.workers), 1):
            choice.offer(pairs)
            meter.show(count, part / spool.parts)
        meter.end()
        few = len(choice.pairs) < wanted
        has = len(choice.pairs) if few else len(spool)
        if 2 * wanted > has:
            fewer = f"--set data.held_out={has // 10}, or " if has >= 10 else ""
            raise DataError(
                f"{train.name} has {has:,}{' different' if few else ''} pairs: too few to hold "
                f"{wanted:,} of them out for validation",
                f"{fewer}name a validation corpus: --valid NAME",
            )
        return choice.pairs

    def _read_valid(self, corpus: Corpus) -> list[Pair]:
        self.tell("reading the validation corpus", None, 0.0)
        pairs = list(corpus)
        self.notes.append(f"Validation: {' '.join(corpus.report.sentences())}")
        if not pairs:
            raise DataError(
                f"{corpus.name} has no pair with text on both sides", "name another: --valid NAME"
            )
        return pairs

    def _rows(self, spool: Spool, valid: list[Pair], *, held_out: bool) -> Rows:
        """Which spooled pairs are trained on: none that has a sentence of a held-out pair.

        A corpus given for validation takes nothing away; what it shares with training is told.
        """
        sentences = Sentences(valid)

        def look(part: int) -> tuple[int, Rows]:
            rows = spool.part(part)
            return len(rows), rows[np.array(sentences.known(*spool.take(rows)), bool)]

        known, meter = [], Meter("comparing with the pairs to validate on", self.tell)
        for part, (count, found) in enumerate(in_order(look, spool.parts, self.workers), 1):
            known.append(found)
            meter.show(count, part / spool.parts)
        meter.end()
        shared = np.concatenate(known)
        rows: Rows = np.arange(len(spool), dtype=np.int64)
        if not held_out:
            if len(shared):
                self.notes.append(
                    f"{len(shared):,} training pairs have their source or their target in common "
                    "with a validation pair; they are trained on."
                )
            return rows
        others = len(shared) - len(valid)
        also = (
            f"; {others:,} more that share a sentence with them are not trained on"
            if others
            else ""
        )
        self.notes.append(f"Held out for validation: {len(valid):,} pairs{also}.")
        if len(shared) == len(rows):
            raise DataError(
                "every training pair shares a sentence with those held out for validation",
                "name a validation corpus: --valid NAME",
            )
        return np.delete(rows, shared)

    # -- tokenizers -------------------------------------------------------------------------

    def _learned(self, spool: Spool, rows: Rows, tags: Sequence[str]) -> Tokenizers:
        """Tokenizers of a sample of the rows, the same one twice if it is joint."""
        self.tell("training the tokenizer", None, 0.0)
        files = [self.spooled / f"{number}.spm" for number in range(1 if self.section.joint else 2)]
        if not all(file.exists() for file in files):
            chosen = rows[_spread(len(rows), self.section.sample_lines)]

            def learn(number: int) -> None:
                sides = (0, 1) if self.section.joint else (number,)
                lines = (
                    text for side in sides for part in spool.chunks(chosen) for text in part[side]
                )
                made = Tokenizer.train(lines, self.section, () if number else tags)
                write_whole(made.to_bytes(), files[number])

            # In a process of its own: the memory that it takes is given back for certain, and this
            # one is not held up meanwhile.
            apart = spool.parts > 1 and can_fork()
            list(in_order(learn, len(files), max(self.workers, 2) if apart else 1))
        learned = [Tokenizer.load(file) for file in files]
        self.tell("training the tokenizer", 1.0, 0.0)
        return learned[0], learned[-1]

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

    # -- ids --------------------------------------------------------------------------------

    def _encode_train(self, spool: Spool, rows: Rows, tokenizers: Tokenizers) -> None:
        """Write the training store, without the pairs that are too long."""
        limit = self.data.max_length
        texts = self.section.sampling > 0
        encoder = Encoder(spool, rows, tokenizers, limit, texts, self.spooled / "parts")
        meter = Meter("encoding", self.tell)
        found, store = encoder.run(self.folder / "train", self.workers, meter)
        self.corpora = tuple(found.kept)
        if found.too_long:
            self.notes.append(
                f"Left out of training, as pairs: {found.too_long:,} with more than {limit} tokens "
                f"on a side; the longest has {found.longest:,} ({found.where})."
            )
        if not len(store):
            raise DataError(
                f"no training pair has at most {limit} tokens on both sides",
                f"--set data.max_length={found.longest}",
            )
        tokens = store.source.tokens, store.target.tokens
        self.notes.append(
            f"Trained on: {len(store):,} pairs, {tokens[0]:,} source and {tokens[1]:,} target "
            "tokens."
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
