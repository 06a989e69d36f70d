"""How likely a model finds given translations."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch

from mtkit.data.corpus import Pair
from mtkit.decoding.forced import force
from mtkit.decoding.incoming import usable
from mtkit.decoding.translator import Translator, batches
from mtkit.symbols import EOS, PAD

_WINDOW = 1024


@dataclass(frozen=True)
class PairScore:
    """What a model says of a pair."""

    log_probability: float  # of the target's tokens and EOS, given the source
    score: float  # what search would rank it by: log-probability / ((5 + length) / 6)^alpha
    tokens: int  # of the target, EOS not counted
    source_tokens: int
    pieces: tuple[str, ...]  # the target's, EOS last
    token_scores: tuple[float, ...]  # log-probability of each of them


def score_pairs(translator: Translator, pairs: Iterable[Pair]) -> Iterator[PairScore]:
    """The score of each pair, in order, while they are being read; nothing is cut off.

    A source or target without tokens is EOS alone.
    """
    training = translator.model.training
    translator.model.eval()
    source = iter(pairs)
    try:
        while window := list(islice(source, _WINDOW)):
            yield from _scored(translator, window)
    finally:
        translator.model.train(training)


def _scored(translator: Translator, pairs: list[Pair]) -> list[PairScore]:
    sources = translator.encode([usable(pair.source) for pair in pairs])
    targets = translator.target_tokenizer.encode([usable(pair.target) for pair in pairs])
    found: dict[int, PairScore] = {}
    piece = translator.target_tokenizer.piece
    for batch in batches([len(tokens) + 1 for tokens in sources], translator.max_tokens):
        longest = max(len(sources[index]) for index in batch)
        rows = [[*sources[index], EOS, *[PAD] * (longest - len(sources[index]))] for index in batch]
        with torch.inference_mode():
            memory = translator.model.encode(torch.tensor(rows, device=translator.device))
        results = force(
            translator.model, memory, range(len(batch)), [targets[index] for index in batch]
        )
        for index, result in zip(batch, results, strict=True):
            total, length = sum(result.token_scores), len(targets[index])
            found[index] = PairScore(
                total,
                translator.options.score(total, length + 1),
                length,
                len(sources[index]),
                tuple(piece(token) for token in (*targets[index], EOS)),
                result.token_scores,
            )
    return [found[index] for index in range(len(pairs))]
