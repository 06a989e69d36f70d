"""Text in, text out: one translation for every line, in order, always."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Literal, Protocol, Self

import torch

from mtkit.data.tags import with_tag
from mtkit.decoding.incoming import split_line, usable
from mtkit.decoding.search import Hypothesis, SearchOptions, beam_search
from mtkit.errors import UsageError
from mtkit.models.seq2seq import Seq2Seq
from mtkit.symbols import EOS, PAD

_WINDOW = 4096
_FIRST_WINDOW = 256
_PRECISIONS = {"auto": torch.float32, "float32": torch.float32, "bfloat16": torch.bfloat16}
# What a model can spell through bytes, and what would break the output's lines or a terminal.
_BREAKS = re.compile(r"[\r\n\0]+")


class Codec(Protocol):
    """The part of a tokenizer that translation needs."""

    def encode(self, lines: Sequence[str]) -> list[list[int]]: ...
    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]: ...


@dataclass(frozen=True)
class Alternative:
    """One of the n best translations of a line."""

    text: str
    score: float
    log_probability: float
    tokens: int


@dataclass(frozen=True)
class Translation:
    """What became of one line."""

    text: str
    score: float  # log-probability / ((5 + length) / 6)^alpha, EOS counted
    log_probability: float
    tokens: int  # of the target, EOS not counted
    source_tokens: int
    status: Literal["ok", "empty", "split"]  # empty: nothing to translate; split: in pieces
    repaired: bool = False  # characters that no model can read became U+FFFD
    alternatives: tuple[Alternative, ...] = ()  # the n best, this one first; () without n-best


@dataclass(frozen=True)
class _Line:
    """A line of a window and the places of its pieces."""

    pieces: range
    repaired: bool


class Translator:
    """A model with its tokenizers; translates lines without changing the model."""

    def __init__(
        self,
        model: Seq2Seq,
        source_tokenizer: Codec,
        target_tokenizer: Codec,
        options: SearchOptions | None = None,
        *,
        max_source_length: int = 200,
        max_tokens: int | None = None,
    ) -> None:
        """Longer lines are translated in pieces of at most `max_source_length` tokens.

        `max_tokens` bounds a batch: rows x longest source; None: as suits the device.
        """
        self.model = model
        self.source_tokenizer = source_tokenizer
        self.target_tokenizer = target_tokenizer
        self.options = options or SearchOptions()
        self.max_source_length = max_source_length
        self.tag = ""  # stands before every text that is translated, e.g. <2de>
        tensors = chain(model.parameters(), model.buffers())
        self.device = next((tensor.device for tensor in tensors), torch.device("cpu"))
        self.max_tokens = max_tokens or (1024 if self.device.type == "cpu" else 16384)

    @classmethod
    def load(
        cls,
        path: Path | str,
        device: str = "auto",
        precision: str = "auto",
        options: SearchOptions | None = None,
    ) -> Self:
        """The translator in a model directory; without `options`, as its recipe wants to search.

        In `auto` precision, float32, no translation depends on the other lines of its batch.
        """
        from mtkit import model_dir

        if precision not in _PRECISIONS:
            raise UsageError(
                f"{precision} is not a precision", f"known precisions: {', '.join(_PRECISIONS)}"
            )
        loaded = model_dir.load(Path(path), device=device)
        translator = cls(
            loaded.model.to(_PRECISIONS[precision]),
            loaded.source_tokenizer,
            loaded.target_tokenizer,
            options or SearchOptions.from_section(loaded.recipe.search),
            max_source_length=loaded.recipe.data.max_length,
        )
        translator.tag = loaded.recipe.search.tag
        return translator

    def translate(self, lines: Sequence[str]) -> list[Translation]:
        """One translation a line, in the order of the lines."""
        training = self.model.training
        self.model.eval()
        try:
            return self._translate(lines)
        finally:
            self.model.train(training)

    def stream(self, lines: Iterable[str], window: int = _WINDOW) -> Iterator[Translation]:
        """One translation a line, in order, while the lines are still being read.

        So many lines are read ahead and sorted into batches; the first windows are smaller, so that
        the first answer comes early. A window of one answers each line before the next is read.
        """
        if window < 1:
            raise UsageError(f"a window of {window} lines translates nothing", "try a window of 1")
        source = iter(lines)
        size = min(_FIRST_WINDOW, window)
        while group := list(islice(source, size)):
            yield from self.translate(group)
            size = min(2 * size, window)

    def _translate(self, lines: Sequence[str]) -> list[Translation]:
        readable = [usable(line) for line in lines]
        encoded = self._encode(readable)
        pieces: list[list[int]] = []
        plan: list[_Line] = []
        for line, text, tokens in zip(lines, readable, encoded, strict=True):
            first = len(pieces)
            if len(tokens) > self.max_source_length:
                pieces += split_line(text, self._encode, self.max_source_length)
            elif tokens and not text.isspace():
                pieces.append(tokens)
            plan.append(_Line(range(first, len(pieces)), text != line))
        found = self._search(pieces)
        ranked = [item for piece in found for item in piece]
        texts = iter(self.target_tokenizer.decode([item.tokens for item in ranked]))
        best = [[self._alternative(item, next(texts)) for item in piece] for piece in found]
        return [self._assemble(line, pieces, best) for line in plan]

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        return self.source_tokenizer.encode([with_tag(self.tag, text) for text in texts])

    def _search(self, pieces: Sequence[Sequence[int]]) -> list[list[Hypothesis]]:
        """The n best of each piece, searched in batches of about one length."""
        found: list[list[Hypothesis]] = [[] for _ in pieces]
        for batch in batches([len(piece) + 1 for piece in pieces], self.max_tokens):
            longest = max(len(pieces[index]) for index in batch)
            rows = [
                [*pieces[index], EOS, *[PAD] * (longest - len(pieces[index]))] for index in batch
            ]
            source = torch.tensor(rows, device=self.device)
            results = beam_search(self.model, source, self.options)
            for index, result in zip(batch, results, strict=True):
                found[index] = result
        return found

    def _alternative(self, item: Hypothesis, text: str) -> Alternative:
        clean = _BREAKS.sub(" ", text)
        return Alternative(clean, item.score, item.log_probability, len(item.tokens))

    def _assemble(
        self, line: _Line, pieces: Sequence[Sequence[int]], best: Sequence[Sequence[Alternative]]
    ) -> Translation:
        """The translation of a line from those of its pieces."""
        parts = [best[index] for index in line.pieces]
        if not parts:
            return Translation("", 0.0, 0.0, 0, 0, "empty", line.repaired)
        ranks = max(map(len, parts)) if len(parts) == 1 else min(map(len, parts))
        ranked = tuple(self._joined([part[rank] for part in parts]) for rank in range(ranks))
        return Translation(
            ranked[0].text,
            ranked[0].score,
            ranked[0].log_probability,
            ranked[0].tokens,
            source_tokens=sum(len(pieces[index]) for index in line.pieces),
            status="ok" if len(parts) == 1 else "split",
            repaired=line.repaired,
            alternatives=ranked if self.options.n_best > 1 else (),
        )

    def _joined(self, parts: Sequence[Alternative]) -> Alternative:
        """Pieces as one translation, scored as one hypothesis with an EOS a piece."""
        if len(parts) == 1:
            return parts[0]
        log_probability = sum(part.log_probability for part in parts)
        tokens = sum(part.tokens for part in parts)
        return Alternative(
            " ".join(part.text for part in parts if part.text),
            self.options.score(log_probability, tokens + len(parts)),
            log_probability,
            tokens,
        )


def batches(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices in batches of rows x longest <= max_tokens, the longest first; one row at least."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    groups: list[list[int]] = []
    room = 0
    for index in order:
        if room == 0:
            groups.append([])
            room = max(max_tokens // lengths[index], 1)
        groups[-1].append(index)
        room -= 1
    return groups
