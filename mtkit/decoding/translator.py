"""Text in, text out: one translation for every line, in order, always."""

import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from shlex import quote
from typing import Self

import torch

from mtkit.allocator import keep_freed_memory
from mtkit.data.tags import with_tag
from mtkit.decoding.demands import Demand
from mtkit.decoding.forced import require_alignment
from mtkit.decoding.hypotheses import Hypothesis
from mtkit.decoding.options import SearchOptions
from mtkit.decoding.requests import Request, offending
from mtkit.decoding.search import beam_search
from mtkit.decoding.sentences import Sentence, planned
from mtkit.decoding.translation import Codec, Translation, Writer
from mtkit.decoding.workers import Batch, Workers, own_device, own_processors
from mtkit.errors import ModelError, UsageError
from mtkit.models import precision as numbers
from mtkit.models.ensemble import Ensemble
from mtkit.models.seq2seq import Seq2Seq
from mtkit.symbols import EOS, PAD

_WINDOW = 4096
_FIRST_WINDOW = 256
_HYPOTHESES = 8  # of a sentence, for which max_tokens is meant
# Searches of a line for a translation without what is forbidden.
_ROUNDS = 20
_TAG = re.compile(r"<[^<>\s]+>")


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
        self.uncompiled = ""  # why compiled functions that were asked for are not used
        self._pool: Workers | None = None
        self._sharing = threading.Lock()  # one call at a time talks to the processes

    @classmethod
    def load(
        cls,
        *paths: Path | str,
        device: str = "auto",
        precision: str = "auto",
        options: SearchOptions | None = None,
        workers: int | None = None,
        compiled: bool = False,
    ) -> Self:
        """The translator in a model directory; without `options`, as its recipe wants to search.

        Several directories are an ensemble, whose recipe is the first's. In `auto` precision,
        float32, no translation depends on the other lines of its batch. On CUDA each of several
        processes that torchrun has started takes a device of its own. With `workers` this process
        computes with one thread, and on a CPU so many processes of one thread each share the
        batches of a call (0: as many as there are processors): the translations are the same for
        every number of them. None leaves all to torch's threads. `compiled` asks for the functions
        of `models.compiled`; where there are none, `uncompiled` says why, and all is as without.
        Raises ModelError for an ensemble of models that do not share their tokenizers.
        """
        from mtkit import model_dir

        if workers is not None:
            torch.set_num_threads(1)
        keep_freed_memory()
        loaded = [model_dir.load(Path(path), device=own_device(device)) for path in paths]
        if not loaded:
            raise UsageError("no model directory is named", "Translator.load(PATH)")
        first = loaded[0]
        for other in loaded[1:]:
            for side in ("source", "target"):
                name = f"{side}_tokenizer"
                if getattr(first, name).fingerprint != getattr(other, name).fingerprint:
                    recipe = quote(str(first.path / model_dir.RECIPE))
                    raise ModelError(
                        f"{first.path} and {other.path} have different {side} tokenizers: "
                        "their token ids do not mean the same",
                        f"mtkit train {recipe} -o NEW --set training.seed=2",
                    )
        models = [each.model for each in loaded]
        for model in models:
            numbers.apply(model, precision)
        uncompiled = ""
        if compiled:
            models, uncompiled = _by_compiled_functions(models)
        translator = cls(
            models[0] if len(models) == 1 else Ensemble(models),
            first.source_tokenizer,
            first.target_tokenizer,
            options or SearchOptions.from_section(first.recipe.search),
            max_source_length=min(each.recipe.data.max_length for each in loaded),
        )
        translator.tag = first.recipe.search.tag
        translator.uncompiled = uncompiled
        if translator.device.type == "cpu" and workers is not None:
            translator.workers = workers or own_processors()
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

    @property
    def unknown_tags(self) -> list[str]:
        """Tags like <2de> within `tag` that are no token of the source vocabulary."""
        (pieces,) = self.source_tokenizer.encode_pieces([self.tag])
        return [tag for tag in _TAG.findall(self.tag) if tag not in pieces]

    def close(self) -> None:
        """End the processes that searched, if there were any."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The source ids of each text, without EOS; the tag stands before them."""
        return self.source_tokenizer.encode([with_tag(self.tag, text) for text in texts])

    @property
    def _tag_tokens(self) -> int:
        """How many tokens the tag puts before a text."""
        if not self.tag:
            return 0
        with_it, without = self.encode(["x"]), self.source_tokenizer.encode(["x"])
        return len(with_it[0]) - len(without[0])

    def _translate(self, lines: Sequence[str | Request]) -> list[Translation]:
        if self.options.aligned:
            require_alignment(self.model, self.options.alignment_layer)
        requests = [self._asked(line) for line in lines]
        options = [self._options_of(request) for request in requests]
        head = self._tag_tokens
        plan = planned(requests, options, self.encode, self.max_source_length, head)
        found = self._search([sentence for line in plan for sentence in line.sentences])
        tokenizers = self.source_tokenizer, self.target_tokenizer
        return Writer(*tokenizers, self.tag, head, self.options).translations(plan, found)

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
                "--search temperature=0 --search groups=1",
            )
        return options

    def _search(self, sentences: Sequence[Sentence]) -> list[list[Hypothesis]]:
        """The best of each sentence, searched in batches of one way and of about one length."""
        found: list[list[Hypothesis]] = [[] for _ in sentences]
        ways: dict[tuple[SearchOptions, bool], list[int]] = {}
        for index, sentence in enumerate(sentences):
            ways.setdefault((sentence.options, sentence.request.demanding), []).append(index)
        for (options, demanding), indices in ways.items():
            if options.mbr or demanding:
                options = replace(options, n_best=options.width)
            chosen = [sentences[index] for index in indices]
            if demanding:
                results = self._met(chosen, options)
            else:
                results = self._searched([each.tokens for each in chosen], options, None)
            for index, result in zip(indices, results, strict=True):
                found[index] = result
        return found

    def _met(self, sentences: Sequence[Sentence], options: SearchOptions) -> list[list[Hypothesis]]:
        """The best of each sentence that are as was asked, the others only if all are not.

        A phrase can be spelt by other tokens than the tokenizer's. So the text is looked at, and
        where it holds what it must not, its tokens are forbidden too and the search begins anew.
        """
        decode = self.target_tokenizer.decode
        demands = [sentence.request.demand(self.target_tokenizer) for sentence in sentences]
        found: list[list[Hypothesis]] = [[] for _ in sentences]
        left = list(range(len(sentences)))
        for _ in range(_ROUNDS):
            rows = [sentences[index].tokens for index in left]
            results = self._searched(rows, options, [demands[index] for index in left])
            again = []
            for index, items in zip(left, results, strict=True):
                request, texts = sentences[index].request, decode([item.tokens for item in items])
                held = [request.held(text) for text in texts]
                clean = [i for i, phrases in zip(items, held, strict=True) if not phrases]
                found[index] = clean or items
                runs = {
                    offending(item.tokens, phrase, decode)
                    for item, phrases in zip(items, held, strict=True)
                    for phrase in phrases
                }
                more = tuple(runs - {(), *demands[index].forbidden})
                if len(clean) < sentences[index].options.n_best and more:
                    again.append(index)
                    forbidden = (*demands[index].forbidden, *more)
                    demands[index] = replace(demands[index], forbidden=forbidden)
            left = again
            if not left:
                break
        return found

    def _searched(
        self,
        sentences: Sequence[list[int]],
        options: SearchOptions,
        demands: Sequence[Demand] | None,
    ) -> list[list[Hypothesis]]:
        # What a step holds grows with the hypotheses; from eight on rows make room for them.
        room = max(self.max_tokens * _HYPOTHESES // max(options.width, _HYPOTHESES), 1)
        planned = batches([len(tokens) + 1 for tokens in sentences], room)
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
        with self._sharing:
            if self._pool is None:
                self._pool = Workers(self._search_batch, self.workers)
            try:
                return self._pool.map(given)
            except BaseException:  # some still work: what they send would answer the next call
                self.close()
                raise

    def _search_batch(self, batch: Batch) -> list[list[Hypothesis]]:
        options, sentences, demands = batch
        longest = max(map(len, sentences))
        rows = [[*tokens, EOS, *[PAD] * (longest - len(tokens))] for tokens in sentences]
        source = torch.tensor(rows, device=self.device)
        return beam_search(self.model, source, options, demands)


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


def _by_compiled_functions(models: list[Seq2Seq]) -> tuple[list[Seq2Seq], str]:
    """The models that compute by compiled functions, or these models and why they do not."""
    from mtkit.models.compiled import compiled
    from mtkit.models.compiler import NotCompiledError
    from mtkit.models.transformer import Transformer

    # Transformers first: others are changed in place, and none shall be if one cannot be had.
    order = sorted(range(len(models)), key=lambda at: not isinstance(models[at], Transformer))
    try:
        made = {at: compiled(models[at]) for at in order}
    except NotCompiledError as reason:
        return models, str(reason)
    return [made[at] for at in range(len(models))], ""
