"""Text in, text out: one translation for every line, in order, always."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Literal, Protocol, Self

import torch

from mtkit.allocator import keep_freed_memory
from mtkit.data.tags import with_tag
from mtkit.decoding.alignment import Links, links, without_unknown, words
from mtkit.decoding.demands import Demand
from mtkit.decoding.hypotheses import Hypothesis
from mtkit.decoding.incoming import holds_long_sentence, split_line, usable
from mtkit.decoding.mbr import by_utility
from mtkit.decoding.options import SearchOptions
from mtkit.decoding.requests import Request, offending
from mtkit.decoding.search import beam_search
from mtkit.decoding.workers import Batch, Workers, processors
from mtkit.errors import ModelError, UsageError
from mtkit.metrics import utility
from mtkit.models import precision as numbers
from mtkit.models.ensemble import Ensemble
from mtkit.models.seq2seq import Seq2Seq
from mtkit.symbols import EOS, PAD

_WINDOW = 4096
_FIRST_WINDOW = 256
# Searches of a line for a translation without what is forbidden.
_ROUNDS = 20
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
    # empty: nothing to translate; split: in pieces; over-long: a sentence of it was cut for that
    status: Literal["ok", "empty", "split", "over-long"]
    repaired: bool = False  # characters that no model can read became U+FFFD
    alternatives: tuple[Alternative, ...] = ()  # the n best, this one first; () without n-best
    pieces: tuple[str, ...] = ()  # these four are of the best alternative
    token_scores: tuple[float, ...] = ()
    alignment: Links = ()
    attention: tuple[tuple[float, ...], ...] = ()
    unmet: tuple[str, ...] = ()  # what was asked for and is not so: phrases missing, or there


@dataclass(frozen=True)
class _Line:
    """A line of a window and the places of its pieces."""

    pieces: range
    repaired: bool
    cut: bool  # a sentence was longer than the model takes
    request: Request
    options: SearchOptions


@dataclass(frozen=True)
class _Piece:
    """What is searched for: a sentence, how, and what its target is asked to be."""

    tokens: list[int]
    options: SearchOptions
    request: Request


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
        self.workers = 1
        self._pool: Workers | None = None

    @classmethod
    def load(
        cls,
        *paths: Path | str,
        device: str = "auto",
        precision: str = "auto",
        options: SearchOptions | None = None,
        workers: int | None = None,
    ) -> Self:
        """The translator in a model directory; without `options`, as its recipe wants to search.

        Several directories are an ensemble, whose recipe is the first's. In `auto` precision,
        float32, no translation depends on the other lines of its batch. With `workers` this process
        computes with one thread, and on a CPU so many processes of one thread each share the
        batches of a call (0: as many as there are processors): the translations are the same for
        every number of them. None leaves all to torch's threads. Raises ModelError for an ensemble
        of models that do not share their tokenizers.
        """
        from mtkit import model_dir

        if workers is not None:
            torch.set_num_threads(1)
        keep_freed_memory()
        loaded = [model_dir.load(Path(path), device=device) for path in paths]
        if not loaded:
            raise UsageError("no model directory is named", "Translator.load(PATH)")
        first = loaded[0]
        for other in loaded[1:]:
            for side in ("source", "target"):
                name = f"{side}_tokenizer"
                if getattr(first, name).fingerprint != getattr(other, name).fingerprint:
                    raise ModelError(
                        f"{first.path} and {other.path} have different {side} tokenizers: "
                        "their token ids do not mean the same",
                        "train the models of an ensemble from one recipe with other seeds, or "
                        "another [model] section",
                    )
        models = [each.model for each in loaded]
        for model in models:
            numbers.apply(model, precision)
        translator = cls(
            models[0] if len(models) == 1 else Ensemble(models),
            first.source_tokenizer,
            first.target_tokenizer,
            options or SearchOptions.from_section(first.recipe.search),
            max_source_length=min(each.recipe.data.max_length for each in loaded),
        )
        translator.tag = first.recipe.search.tag
        if translator.device.type == "cpu" and workers is not None:
            translator.workers = workers or processors()
        return translator

    def translate(self, lines: Sequence[str | Request]) -> list[Translation]:
        """One translation a line, in the order of the lines; a line may ask for more."""
        training = self.model.training
        self.model.eval()
        try:
            return self._translate(lines)
        finally:
            self.model.train(training)

    def stream(
        self, lines: Iterable[str | Request], window: int = _WINDOW
    ) -> Iterator[Translation]:
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

    def _translate(self, lines: Sequence[str | Request]) -> list[Translation]:
        requests = [self._asked(line) for line in lines]
        readable = [usable(request.source) for request in requests]
        encoded = self.encode(readable)
        pieces: list[_Piece] = []
        plan: list[_Line] = []
        for request, text, tokens in zip(requests, readable, encoded, strict=True):
            first, cut = len(pieces), False
            options = self._options_of(request)
            if len(tokens) > self.max_source_length:
                parts = split_line(text, self.encode, self.max_source_length)
                cut = holds_long_sentence(text, self.encode, self.max_source_length)
                asked = spread(request, len(parts))
                pieces += [
                    _Piece(part, options, wish) for part, wish in zip(parts, asked, strict=True)
                ]
            elif tokens and not text.isspace():
                pieces.append(_Piece(tokens, options, request))
            repaired = text != request.source
            plan.append(_Line(range(first, len(pieces)), repaired, cut, request, options))
        found = self._search(pieces)
        ranked = [item for piece in found for item in piece]
        texts = iter(self.target_tokenizer.decode([item.tokens for item in ranked]))
        best = [[(item, next(texts)) for item in piece] for piece in found]
        return [
            self._assemble(line, text, pieces, best)
            for line, text in zip(plan, readable, strict=True)
        ]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The source ids of each text, without EOS; the tag stands before them."""
        return self.source_tokenizer.encode([with_tag(self.tag, text) for text in texts])

    def _asked(self, line: str | Request) -> Request:
        """The line as a request, the phrases that are forbidden to all included."""
        request = Request(line) if isinstance(line, str) else line
        if self.options.forbid:
            request = replace(request, forbidden=(*request.forbidden, *self.options.forbid))
        return request

    def _options_of(self, request: Request) -> SearchOptions:
        """How a line is searched: it may ask for more hypotheses than the others."""
        options = self.options
        if request.n_best not in (None, options.n_best):
            options = options.fitted(n_best=request.n_best)
        if request.constraints and (options.sampled or options.groups > 1):
            raise UsageError(
                "constraints are met by beam search, not by samples or groups",
                "temperature = 0 and groups = 1",
            )
        return options

    def _search(self, pieces: Sequence[_Piece]) -> list[list[Hypothesis]]:
        """The best of each piece, searched in batches of one way and of about one length."""
        found: list[list[Hypothesis]] = [[] for _ in pieces]
        ways: dict[tuple[SearchOptions, bool], list[int]] = {}
        for index, piece in enumerate(pieces):
            ways.setdefault((piece.options, piece.request.demanding), []).append(index)
        for (options, demanding), indices in ways.items():
            if options.mbr or demanding:
                options = replace(options, n_best=options.width)
            chosen = [pieces[index] for index in indices]
            if demanding:
                results = self._met(chosen, options)
            else:
                results = self._searched([piece.tokens for piece in chosen], options, None)
            for index, result in zip(indices, results, strict=True):
                found[index] = result
        return found

    def _searched(
        self,
        sentences: Sequence[list[int]],
        options: SearchOptions,
        demands: Sequence[Demand] | None,
    ) -> list[list[Hypothesis]]:
        planned = batches([len(tokens) + 1 for tokens in sentences], self.max_tokens)
        given: list[Batch] = [
            (
                options,
                [sentences[index] for index in batch],
                [demands[index] for index in batch] if demands else None,
            )
            for batch in planned
        ]
        found: list[list[Hypothesis]] = [[] for _ in sentences]
        for batch, results in zip(planned, self._spread(given), strict=True):
            for index, result in zip(batch, results, strict=True):
                found[index] = result
        return found

    def _spread(self, given: Sequence[Batch]) -> Iterable[list[list[Hypothesis]]]:
        """The results of the batches, by other processes where there are enough to share."""
        if self.workers == 1 or len(given) == 1:
            return map(self._search_batch, given)
        if self._pool is None:
            self._pool = Workers(self._search_batch, self.workers)
        return self._pool.map(given)

    def _search_batch(self, batch: Batch) -> list[list[Hypothesis]]:
        options, sentences, demands = batch
        longest = max(map(len, sentences))
        rows = [[*tokens, EOS, *[PAD] * (longest - len(tokens))] for tokens in sentences]
        source = torch.tensor(rows, device=self.device)
        return beam_search(self.model, source, options, demands)

    def close(self) -> None:
        """End the processes that searched, if there were any."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _met(self, pieces: Sequence[_Piece], options: SearchOptions) -> list[list[Hypothesis]]:
        """The best of each piece that are as they were asked to be, the others only if all are not.

        A phrase can be spelt by other tokens than the tokenizer's. So the text is looked at, and
        where it holds what it must not, its tokens are forbidden too and the search begins anew.
        """
        decode = self.target_tokenizer.decode
        demands = [piece.request.demand(self.target_tokenizer) for piece in pieces]
        found: list[list[Hypothesis]] = [[] for _ in pieces]
        left = list(range(len(pieces)))
        for _ in range(_ROUNDS):
            sentences = [pieces[index].tokens for index in left]
            results = self._searched(sentences, options, [demands[index] for index in left])
            again = []
            for index, items in zip(left, results, strict=True):
                request, texts = pieces[index].request, decode([item.tokens for item in items])
                held = [request.held(text) for text in texts]
                clean = [i for i, phrases in zip(items, held, strict=True) if not phrases]
                found[index] = clean or items
                runs = {
                    offending(item.tokens, phrase, decode)
                    for item, phrases in zip(items, held, strict=True)
                    for phrase in phrases
                }
                more = tuple(runs - {(), *demands[index].forbidden})
                if not clean and more:
                    again.append(index)
                    forbidden = (*demands[index].forbidden, *more)
                    demands[index] = replace(demands[index], forbidden=forbidden)
            left = again
            if not left:
                break
        return found

    def _assemble(
        self,
        line: _Line,
        source: str,
        pieces: Sequence[_Piece],
        best: Sequence[Sequence[tuple[Hypothesis, str]]],
    ) -> Translation:
        """The translation of a line from those of its pieces."""
        parts = [best[index] for index in line.pieces]
        if not parts:
            unmet = line.request.unmet("")
            return Translation("", 0.0, 0.0, 0, 0, "empty", line.repaired, unmet=unmet)
        options = line.options
        ids = [pieces[index].tokens for index in line.pieces]
        written = self._written(source, ids) if options.alignment or options.replace_unknown else []
        ranks = max(map(len, parts)) if len(parts) == 1 else min(map(len, parts))
        ranked = [
            self._joined(
                [
                    self._alternative(*part[rank], written[place] if written else ())
                    for place, part in enumerate(parts)
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
            source_tokens=sum(map(len, ids)),
            status="over-long" if line.cut else "ok" if len(parts) == 1 else "split",
            repaired=line.repaired,
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

    def _written(self, source: str, ids: Sequence[Sequence[int]]) -> list[list[str]]:
        """The source pieces of each part as they are written, unknown ones spelt out if known."""
        (pieces,) = self.source_tokenizer.encode_pieces([with_tag(self.tag, source)])
        if len(pieces) != sum(map(len, ids)):  # a part begins with a space of its own
            return [[self.source_tokenizer.piece(token) for token in part] for part in ids]
        rest = iter(pieces)
        return [list(islice(rest, len(part))) for part in ids]

    def _alternative(self, item: Hypothesis, text: str, written: Sequence[str]) -> Alternative:
        options, piece = self.options, self.target_tokenizer.piece
        target = [piece(token) for token in item.tokens] if options.annotated else []
        if options.replace_unknown:
            decode = self.target_tokenizer.decode
            text = without_unknown(item.tokens, item.alignment, written, decode)
        return Alternative(
            _BREAKS.sub(" ", text),
            item.score,
            item.log_probability,
            len(item.tokens),
            (*target, piece(EOS)) if options.token_scores else (),
            item.token_scores if options.token_scores else (),
            links(item.alignment, written, target, self._tag_words) if options.alignment else (),
            item.alignment if options.alignment else (),
        )

    def _joined(
        self, parts: Sequence[Alternative], written: Sequence[Sequence[str]]
    ) -> Alternative:
        """Pieces as one translation, scored as one hypothesis with an EOS a piece."""
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
        return Alternative(
            " ".join(part.text for part in parts if part.text),
            self.options.score(log_probability, tokens + len(parts)),
            log_probability,
            tokens,
            tuple(piece for part in parts for piece in part.pieces),
            tuple(score for part in parts for score in part.token_scores),
            tuple(aligned),
        )


def spread(request: Request, parts: int) -> list[Request]:
    """What each part of a line in pieces is asked for: the first the prefix, the last the phrases.

    What is forbidden is forbidden everywhere.
    """
    plain = Request("", forbidden=request.forbidden)
    asked = [plain] * parts
    asked[0] = replace(asked[0], prefix=request.prefix)
    asked[-1] = replace(asked[-1], constraints=request.constraints)
    return asked


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
