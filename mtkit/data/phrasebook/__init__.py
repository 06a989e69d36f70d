"""The embedded corpus: everyday sentences in English, German and Korean from a synchronous grammar.

A meaning is drawn (grammar.py) and each language says it (english.py, german.py, korean.py); words
and weights stand in lexicon.toml and grammar.toml.
"""

from collections.abc import Callable, Iterator
from functools import cache
from hashlib import blake2b
from random import Random

from mtkit.errors import DataError, UsageError

from . import english, german, korean
from .grammar import Sampler
from .lexicon import lexicon
from .meaning import Sentence, combinations, content

LANGUAGES = ("de", "en", "ko")
SPLITS = ("train", "valid", "test", "combinations")

SPEAK: dict[str, Callable[[Sentence], str]] = {
    "de": german.sentence,
    "en": english.sentence,
    "ko": korean.sentence,
}
# Of a hundred contents, this many are for valid and test each.
HELD_OUT_PERCENT = 10
# After so many draws, or so many known sentences, without a new one a call gives up.
PATIENCE, KNOWN = 20_000, 300
SHORTEST, LONGEST = 3, 80


def sample(  # noqa: PLR0913 - the two word limits read better than a record of them
    source: str,
    target: str,
    split: str = "train",
    *,
    size: int,
    seed: int = 1,
    min_words: int = 3,
    max_words: int = 16,
) -> Iterator[tuple[str, str]]:
    """Distinct pairs of a split, `size` of them, the same for the same arguments everywhere.

    The lengths of the source sentences, in words, spread evenly from `min_words` to `max_words`.
    A smaller size gives the beginning of a larger one. No sentence of one split occurs in another
    one on either side, whatever the seeds; "combinations" has pairs of words no other split has.
    Raises DataError when there are not so many sentences of these lengths.
    """
    _check(source, target, split, (min_words, max_words))
    return _pairs(source, target, split, size, Random(seed), (min_words, max_words))


def split_of(meaning: Sentence) -> str:
    """The split of a sentence, which depends on its words alone, not on any seed."""
    held_out = _held_out()
    if any(pair in held_out for pair in combinations(meaning)):
        return "combinations"
    number = int.from_bytes(blake2b(content(meaning).encode(), digest_size=4).digest()) % 100
    if number < HELD_OUT_PERCENT:
        return "valid"
    return "test" if number < 2 * HELD_OUT_PERCENT else "train"


@cache
def _held_out() -> frozenset[tuple[str, str, str]]:
    return frozenset(
        (relation, head, other)
        for relation, table in lexicon().rules["held_out"].items()
        for head, others in table.items()
        for other in others
    )


def _pairs(
    source: str, target: str, split: str, size: int, random: Random, window: tuple[int, int]
) -> Iterator[tuple[str, str]]:
    draw = Sampler(random.random)
    ratio = lexicon().rules["ratio"][source]
    shortest, longest = window
    lengths = longest - shortest + 1
    found = dict.fromkeys(range(shortest, longest + 1), 0)
    seen: set[tuple[str, str]] = set()
    tries = known = 0
    while len(seen) < size:
        if tries == PATIENCE or known == KNOWN:
            raise DataError(
                f"the phrasebook has no {size} pairs {source}-{target} of {shortest} to {longest} "
                f"words in {split}: {len(seen)} were found",
                f"ask for at most {len(seen)} pairs: #size={len(seen)}, or allow other lengths",
            )
        tries += 1
        # Every other sentence is drawn for the length that most lacks them; they tend to fall short
        # of their budget, so the budget reaches beyond the longest.
        if random.random() < 0.5:
            wanted = min(found, key=found.__getitem__) + random.random()
        else:
            wanted = shortest - 0.5 + random.random() * lengths * 1.2
        meaning = draw.sentence(wanted / ratio)
        if split_of(meaning) != split:
            continue
        text = SPEAK[source](meaning)
        length = text.count(" ") + 1
        # A length that is ahead of the others waits, unless the others have run dry.
        ahead = found.get(length, 0) > 4 + 1.06 * len(seen) / lengths
        if length not in found or (ahead and tries < PATIENCE // 10):
            continue
        pair = (text, SPEAK[target](meaning))
        if pair in seen:
            known += 1
            continue
        tries = known = 0
        found[length] += 1
        seen.add(pair)
        yield pair


def _check(source: str, target: str, split: str, window: tuple[int, int]) -> None:
    for language in (source, target):
        if language not in LANGUAGES:
            raise UsageError(
                f"the phrasebook has no language {language!r}", f"use one of {', '.join(LANGUAGES)}"
            )
    if source == target:
        raise UsageError(
            f"source and target are both {source}",
            f"use for the target one of {', '.join(name for name in LANGUAGES if name != source)}",
        )
    if split not in SPLITS:
        raise UsageError(
            f"the phrasebook has no split {split!r}", f"use one of {', '.join(SPLITS)}"
        )
    low, high = window
    if not SHORTEST <= low <= high <= LONGEST:
        raise UsageError(
            f"sentences of {low} to {high} words cannot be asked for",
            f"use min_words and max_words with {SHORTEST} <= min_words <= max_words <= {LONGEST}",
        )
