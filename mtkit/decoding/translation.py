"""What became of a line: the hypotheses of its sentences, put together as one translation."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, Protocol

from mtkit.data.tags import with_tag
from mtkit.decoding.alignment import Links, links, without_unknown, words
from mtkit.decoding.hypotheses import Hypothesis
from mtkit.decoding.mbr import by_utility
from mtkit.decoding.options import SearchOptions
from mtkit.decoding.sentences import Line, Sentence
from mtkit.metrics import utility
from mtkit.symbols import EOS

# What a model can spell through bytes, and what would break the output's lines or a terminal.
_BREAKS = re.compile(r"[\r\n\0]+")


class Codec(Protocol):
    """The part of a tokenizer that translation needs."""

    def encode(self, lines: Sequence[str]) -> list[list[int]]: ...
    def encode_pieces(self, lines: Sequence[str]) -> list[list[str]]: ...
    def piece(self, token: int) -> str: ...
    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]: ...


@dataclass(frozen=True)
class Alternative:
    """One of the n best translations of a line."""

    text: str
    score: float
    log_probability: float
    tokens: int
    limited: bool = False  # ended because it had its longest length; its end may be missing
    pieces: tuple[str, ...] = ()  # with token_scores: the target's, an EOS for each part included
    token_scores: tuple[float, ...] = ()  # log-probability of each of them
    alignment: Links = ()  # on request: (source word, target word), from 0
    attention: tuple[tuple[float, ...], ...] = ()  # on request: [T, S], of a line in one piece


@dataclass(frozen=True)
class Translation:
    """What became of one line."""

    text: str
    score: float  # log-probability / ((5 + length) / 6)^alpha, EOS counted
    log_probability: float
    tokens: int  # of the target, EOS not counted
    source_tokens: int
    # empty: nothing to translate; split: in pieces; over-long: a sentence of it was cut for that;
    # refused: a record of JSON Lines that is none, or that asks for what this search cannot do
    status: Literal["ok", "empty", "split", "over-long", "refused"]
    repaired: bool = False  # characters that no model can read became U+FFFD
    limited: bool = False  # ended because it had its longest length; its end may be missing
    alternatives: tuple[Alternative, ...] = ()  # the n best, this one first; () without n-best
    pieces: tuple[str, ...] = ()  # these four are of the best alternative
    token_scores: tuple[float, ...] = ()
    alignment: Links = ()
    attention: tuple[tuple[float, ...], ...] = ()
    unmet: tuple[str, ...] = ()  # what was asked for and is not so: phrases missing, or there


@dataclass(frozen=True)
class Writer:
    """Writes the translation of a line, from what was found for its sentences."""

    source_tokenizer: Codec
    target_tokenizer: Codec
    tag: str  # stood before the line when it was encoded
    tag_tokens: int  # that it took, before every sentence
    options: SearchOptions

    def translations(
        self, lines: Sequence[Line], found: Sequence[Sequence[Hypothesis]]
    ) -> list[Translation]:
        """One translation a line; `found` are the hypotheses of all their sentences, in order."""
        texts = iter(self.target_tokenizer.decode([best.tokens for each in found for best in each]))
        parts = iter([[(item, next(texts)) for item in each] for each in found])
        return [self._translation(line, list(islice(parts, len(line.sentences)))) for line in lines]

    def _translation(
        self, line: Line, parts: Sequence[Sequence[tuple[Hypothesis, str]]]
    ) -> Translation:
        """The translation of a line from the hypotheses of its sentences and their texts."""
        if not parts:
            unmet = line.request.unmet("")
            return Translation("", 0.0, 0.0, 0, 0, "empty", line.repaired, unmet=unmet)
        options = line.options
        written = self._written(line) if options.alignment or options.replace_unknown else []
        ranks = max(map(len, parts)) if len(parts) == 1 else min(map(len, parts))
        ranked = [
            self._joined(
                [
                    self._alternative(*part[rank], sentence, written[place] if written else ())
                    for place, (part, sentence) in enumerate(
                        zip(parts, line.sentences, strict=True)
                    )
                ],
                written,
            )
            for rank in range(ranks)
        ]
        if options.mbr:
            order = by_utility([item.text for item in ranked], utility(options.mbr))
            ranked = [ranked[index] for index in order]
        ranked.sort(key=lambda item: len(line.request.unmet(item.text)))
        first = ranked[0]
        return Translation(
            first.text,
            first.score,
            first.log_probability,
            first.tokens,
            source_tokens=sum(len(sentence.tokens) for sentence in line.sentences),
            status="over-long" if line.cut else "ok" if len(parts) == 1 else "split",
            repaired=line.repaired,
            limited=first.limited,
            alternatives=tuple(ranked[: options.n_best]) if options.n_best > 1 else (),
            pieces=first.pieces,
            token_scores=first.token_scores,
            alignment=first.alignment,
            attention=first.attention,
            unmet=line.request.unmet(first.text),
        )

    @property
    def _tag_words(self) -> int:
        return len(self.tag.split())

    def _written(self, line: Line) -> list[list[str]]:
        """The source pieces of each sentence as written, unknown ones spelt out if known."""
        (pieces,) = self.source_tokenizer.encode_pieces([with_tag(self.tag, line.text)])
        tag, own = pieces[: self.tag_tokens], pieces[self.tag_tokens :]
        counts = [len(sentence.tokens) - len(tag) for sentence in line.sentences]
        if len(own) != sum(counts):  # a sentence begins with a space of its own
            piece = self.source_tokenizer.piece
            return [[piece(token) for token in sentence.tokens] for sentence in line.sentences]
        rest = iter(own)
        return [[*tag, *islice(rest, count)] for count in counts]

    def _alternative(
        self, item: Hypothesis, text: str, sentence: Sentence, written: Sequence[str]
    ) -> Alternative:
        options, piece = self.options, self.target_tokenizer.piece
        target = [piece(token) for token in item.tokens] if options.annotated else []
        if options.replace_unknown:
            decode = self.target_tokenizer.decode
            text = without_unknown(item.tokens, item.alignment, written, decode, self._tag_words)
        return Alternative(
            _BREAKS.sub(" ", text),
            item.score,
            item.log_probability,
            len(item.tokens),
            len(item.tokens) + 1 >= options.longest(len(sentence.tokens)),
            (*target, piece(EOS)) if options.token_scores else (),
            item.token_scores if options.token_scores else (),
            links(item.alignment, written, target, self._tag_words) if options.alignment else (),
            item.alignment if options.alignment else (),
        )

    def _joined(
        self, parts: Sequence[Alternative], written: Sequence[Sequence[str]]
    ) -> Alternative:
        """Sentences as one translation, scored as one hypothesis with an EOS a sentence."""
        if len(parts) == 1:
            return parts[0]
        log_probability = sum(part.log_probability for part in parts)
        tokens = sum(part.tokens for part in parts)
        aligned: list[tuple[int, int]] = []
        before = [0, 0]
        for part, pieces in zip(parts, written or [()] * len(parts), strict=True):
            aligned += [
                (before[0] + source, before[1] + target) for source, target in part.alignment
            ]
            before[0] += max(words(pieces), default=-1) + 1 - self._tag_words
            before[1] += len(part.text.split(" ")) if part.text else 0
        score = self.options.score(log_probability, tokens + len(parts))
        if self.options.coverage_penalty:  # a sum over the source's words, so over its sentences
            score += sum(
                part.score - self.options.score(part.log_probability, part.tokens + 1)
                for part in parts
            )
        return Alternative(
            " ".join(part.text for part in parts if part.text),
            score,
            log_probability,
            tokens,
            any(part.limited for part in parts),
            tuple(piece for part in parts for piece in part.pieces),
            tuple(score for part in parts for score in part.token_scores),
            tuple(aligned),
        )
