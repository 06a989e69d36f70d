"""Scores by length of the source, by rare words and by copied words, with their uncertainty."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import nan

from mtkit.data.corpus import Pair
from mtkit.errors import DataError
from mtkit.metrics import Score, compare

LENGTHS = (10, 20, 30, 40, 50)  # words of the source up to which a bin reaches; then one more
_RARE = 5  # a word that occurs less often in the corpus of counts is rare


@dataclass(frozen=True)
class Bin:
    """The pairs of a corpus that have something in common, and how they are translated."""

    label: str
    sentences: int
    reference_words: int
    scores: tuple[Score, ...]  # corpus scores of these pairs
    intervals: tuple[float, ...]  # half of each score's 95 % bootstrap interval


def by_length(
    pairs: Sequence[Pair],
    translations: Sequence[str],
    *,
    target_language: str = "",
    edges: Sequence[int] = LENGTHS,
    resamples: int = 200,
) -> list[Bin]:
    """Corpus BLEU and chrF per bin of source words; empty bins are left out."""
    starts = [1, *(edge + 1 for edge in edges)]
    labels = [f"{a}-{b}" for a, b in zip(starts, edges, strict=False)] + [f">{edges[-1]}"]

    def label(pair: Pair) -> str:
        return labels[_bin(pair, edges)]

    return _binned(pairs, translations, label, labels, (target_language, resamples))


def strangers(pairs: Sequence[Pair], *, edges: Sequence[int] = LENGTHS) -> list[Pair]:
    """Each pair with the target of the next one in its bin of length.

    What a translation scores against it is chance: the words and endings that any two sentences of
    that length have in common.
    """
    last: dict[int, int] = {}
    found = list(pairs)
    for index in [*range(len(pairs)), *range(len(pairs))]:  # twice: the last pair meets the first
        before = last.get(_bin(pairs[index], edges))
        if before is not None:
            found[before] = Pair(pairs[before].source, pairs[index].target)
        last[_bin(pairs[index], edges)] = index
    return found


def _bin(pair: Pair, edges: Sequence[int]) -> int:
    words = len(pair.source.split())
    return sum(words > edge for edge in edges)


def by_rarity(
    pairs: Sequence[Pair],
    translations: Sequence[str],
    training: Iterable[str],
    *,
    target_language: str = "",
    resamples: int = 200,
) -> list[Bin]:
    """By the number of source words that occur fewer than five times in the `training` lines."""
    known = Counter(word for line in training for word in line.split())
    labels = ["no rare word", "1 rare word", "2 or more"]

    def label(pair: Pair) -> str:
        return labels[min(sum(known[word] < _RARE for word in pair.source.split()), 2)]

    return _binned(pairs, translations, label, labels, (target_language, resamples))


def by_copies(
    pairs: Sequence[Pair],
    translations: Sequence[str],
    *,
    target_language: str = "",
    resamples: int = 200,
) -> list[Bin]:
    """By the number of words (names, numbers) that stand in source and reference alike."""
    labels = ["nothing copied", "1 word copied", "2 or more"]

    def words(text: str) -> set[str]:
        return {word for word in text.split() if any(map(str.isalnum, word))}

    def label(pair: Pair) -> str:
        return labels[min(len(words(pair.source) & words(pair.target)), 2)]

    return _binned(pairs, translations, label, labels, (target_language, resamples))


def _binned(
    pairs: Sequence[Pair],
    translations: Sequence[str],
    label: Callable[[Pair], str],
    labels: Sequence[str],
    scoring: tuple[str, int],
) -> list[Bin]:
    if len(pairs) != len(translations):
        raise DataError(f"{len(translations)} translations of {len(pairs)} pairs cannot be binned")
    members: dict[str, list[int]] = {name: [] for name in labels}
    for index, pair in enumerate(pairs):
        members[label(pair)].append(index)
    language, resamples = scoring
    bins = []
    for name, indices in members.items():
        if not indices:
            continue
        references = [pairs[i].target for i in indices]
        texts = [translations[i] for i in indices]
        # There is no other system: what is wanted is the interval.
        found = compare(
            texts, {}, references, target_language=language, metrics=("bleu", "chrf"),
            resamples=resamples,
        )  # fmt: skip
        words = sum(len(line.split()) for line in references)
        scores = tuple(item.score for item in found)
        # Of a single sentence there is nothing to resample.
        intervals = tuple(item.interval if len(indices) > 1 else nan for item in found)
        bins.append(Bin(name, len(indices), words, scores, intervals))
    return bins
