"""Whether a model keeps here what mtkit promises of every model: checks for a user's own."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mtkit.decoding.export import Exported, export
from mtkit.decoding.hypotheses import Hypothesis
from mtkit.decoding.incoming import usable
from mtkit.decoding.options import SearchOptions
from mtkit.decoding.search import beam_search
from mtkit.decoding.sentences import split_line
from mtkit.decoding.translator import Translator
from mtkit.errors import MTKitError
from mtkit.model_dir import LoadedModel, load
from mtkit.models.seq2seq import Seq2Seq
from mtkit.models.transformer import Transformer
from mtkit.symbols import BOS, EOS, PAD

# What rounding may change a log-probability by, a token: in float32, and by rounding weights too.
_SLIGHT, _COARSE = 1e-4, 0.1
_SAME = 0.995  # share of lines that an exported model must translate in the same words


@dataclass(frozen=True)
class Check:
    """One promise, and whether it was kept; None: it could not be tried here."""

    name: str
    passed: bool | None
    told: str


def selftest(path: Path, lines: Sequence[str]) -> Iterator[Check]:
    """Check the model of a directory on these lines, on this CPU, with one thread."""
    torch.set_num_threads(1)
    loaded = load(path)
    translator = Translator.load(path, device="cpu")
    translator.options = replace(translator.options, n_best=1)
    yield _neighbours(translator, lines)
    rows = _rows(translator, lines)
    yield _cached(translator, rows)
    yield _greedy(translator, rows)
    for precision in ("bfloat16", "int8"):
        yield _precision(translator, path, precision, rows)
    yield _compiled(translator, path, rows)
    yield _exported(translator, loaded, lines)


def _neighbours(translator: Translator, lines: Sequence[str]) -> Check:
    """Batches of 1, 7 and 64 lines, in this order and turned around."""
    turned = list(lines[::-1])
    seen: list[list[str]] = []
    for size in (1, 7, 64):
        seen.append(_in_groups(translator, lines, size))
        seen.append(_in_groups(translator, turned, size)[::-1])
    apart = sum(len(set(texts)) > 1 for texts in zip(*seen, strict=True))
    told = f"{len(lines)} lines in batches of 1, 7 and 64, in two orders: {apart} differ"
    return Check("a line does not depend on its neighbours", apart == 0, told)


def _in_groups(translator: Translator, lines: Sequence[str], size: int) -> list[str]:
    groups = (lines[first : first + size] for first in range(0, len(lines), size))
    return [found.text for group in groups for found in translator.translate(group)]


def _rows(translator: Translator, lines: Sequence[str]) -> list[list[int]]:
    """Source ids of the lines, of long ones in parts; EOS at the end."""
    longest = translator.max_source_length
    parts = [split_line(usable(line), translator.encode, longest) for line in lines]
    return [[*row, EOS] for rows in parts for row in rows]


def _cached(translator: Translator, rows: Sequence[list[int]]) -> Check:
    """What stepping said of its hypotheses, by computing them once more without any state."""
    found = _searched(translator.model, rows, translator.options)
    again = [_log_probability(translator.model, *pair) for pair in zip(rows, found, strict=True)]
    farthest = _farthest(found, again)
    told = f"log-probabilities at most {farthest:.1g} apart, a token"
    return Check("stepping gives what the whole prefix gives", farthest < _SLIGHT, told)


def _greedy(translator: Translator, rows: Sequence[list[int]]) -> Check:
    """A beam of one, by taking the best token again and again."""
    options = replace(translator.options, beam=1)
    rows = rows[:8]
    found = _searched(translator.model, rows, options)
    apart = 0
    for row, hypothesis in zip(rows, found, strict=True):
        best = _taken(translator.model, row, options.longest(len(row) - 1))
        apart += best != hypothesis.tokens
    told = f"{len(rows)} lines: {apart} differ"
    return Check("a beam of one is greedy", apart == 0, told)


def _precision(
    translator: Translator, path: Path, precision: str, rows: Sequence[list[int]]
) -> Check:
    """What a coarser model finds, as the exact one judges it."""
    name = f"{precision} is close to float32"
    try:
        coarse = Translator.load(path, device="cpu", precision=precision)
    except MTKitError as error:
        return Check(name, None, error.message)
    return _near(name, translator, coarse, rows, _COARSE)


def _compiled(translator: Translator, path: Path, rows: Sequence[list[int]]) -> Check:
    """What compiled functions find, likewise."""
    name = "compiled functions give the same"
    fast = Translator.load(path, device="cpu", compiled=True)
    if fast.uncompiled:
        return Check(name, None, fast.uncompiled)
    return _near(name, translator, fast, rows, _SLIGHT)


def _near(
    name: str, translator: Translator, coarse: Translator, rows: Sequence[list[int]], limit: float
) -> Check:
    exact = _searched(translator.model, rows, translator.options)
    found = _searched(coarse.model, rows, translator.options)
    again = [_log_probability(translator.model, *pair) for pair in zip(rows, found, strict=True)]
    same = sum(a.tokens == b.tokens for a, b in zip(exact, found, strict=True))
    mean = sum(
        abs(h.log_probability - value) / (len(h.tokens) + 1)
        for h, value in zip(found, again, strict=True)
    ) / len(found)
    told = f"{same} of {len(rows)} lines the same; log-probabilities {mean:.2g} apart, a token"
    return Check(name, mean < limit, told)


def _exported(translator: Translator, loaded: LoadedModel, lines: Sequence[str]) -> Check:
    name = "CTranslate2 translates the same"
    if not isinstance(loaded.model, Transformer):
        return Check(name, None, "it runs Transformers alone")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "exported")
        try:
            export(loaded, folder)
        except MTKitError as error:
            return Check(name, None, error.message)
        tokenizers = loaded.source_tokenizer, loaded.target_tokenizer
        exported = Exported(folder, *tokenizers, translator.options, device="cpu")
        exported.tag = translator.tag
        ours = translator.translate(lines)
        # Those that were taken whole and stopped before they had to: at the limit engines differ.
        kept = [i for i, mine in enumerate(ours) if mine.status == "ok" and not mine.limited]
        theirs = exported.translate([lines[index] for index in kept])
    if not kept:
        return Check(name, None, "the model ended no line of itself")
    same = sum(ours[i].text == found.text for i, found in zip(kept, theirs, strict=True))
    told = f"{same} of {len(kept)} lines the same"
    return Check(name, same >= _SAME * len(kept), told)


def _searched(
    model: Seq2Seq, rows: Sequence[list[int]], options: SearchOptions
) -> list[Hypothesis]:
    longest = max(map(len, rows))
    source = torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])
    return [found[0] for found in beam_search(model, source, options)]


@torch.inference_mode()
def _log_probability(model: Seq2Seq, row: list[int], hypothesis: Hypothesis) -> float:
    tokens = hypothesis.tokens
    logits = model(torch.tensor([row]), torch.tensor([[BOS, *tokens]])).float()
    labels = torch.tensor([[*tokens, EOS]])
    return float(logits.log_softmax(-1).gather(2, labels.unsqueeze(2)).sum())


@torch.inference_mode()
def _taken(model: Seq2Seq, row: list[int], longest: int) -> tuple[int, ...]:
    source = torch.tensor([row])
    memory = model.encode(source)
    tokens: list[int] = []
    while len(tokens) < longest - 1:
        logits = model.decode(torch.tensor([[BOS, *tokens]]), memory)[0, -1]
        logits[[PAD, BOS]] = -torch.inf
        best = int(logits.argmax())
        if best == EOS:
            break
        tokens.append(best)
    return tuple(tokens)


def _farthest(found: Sequence[Hypothesis], again: Sequence[float]) -> float:
    pairs = zip(found, again, strict=True)
    return max(abs(h.log_probability - value) / (len(h.tokens) + 1) for h, value in pairs)
