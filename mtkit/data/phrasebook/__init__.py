"""The embedded corpus: everyday sentences in English, German and Korean from a synchronous grammar.

A meaning is drawn (grammar.py) and each language says it (english.py, german.py, korean.py); words
and weights stand in lexicon.toml and grammar.toml.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
# Draws without a new sentence after which a call gives up.
PATIENCE = 20_000
SHORTEST, LONGEST = 3, 80


@dataclass(frozen=True)
class Triple:
    """One meaning in the three languages."""

    de: str
    en: str
    ko: str


def sample(
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

    The lengths of the source sentences, in words, are spread evenly from `min_words` to `max_words`.
    A smaller size gives the beginning of a larger one. No sentence of one split occurs in another
    one on either side, whatever the seeds; "combinations" has pairs of words that no other split has.
    Raises DataError when there are not so many sentences of these lengths.
    """
    _check(source, target, split, (min_words, max_words))
    return _pairs(source, target, split, size, Random(seed), (min_words, max_words))


def triples(split: str = "train", *, size: int, seed: int = 1, words: int = 10) -> list[Triple]:
    """Meanings in all three languages, of about so many English words; for reading and proof."""
    draw = Sampler(Random(seed).random)
    found: list[Triple] = []
    while len(found) < size:
        meaning = draw.sentence(words)
        if split_of(meaning) == split:
            found.append(Triple(**{language: SPEAK[language](meaning) for language in LANGUAGES}))
    return found


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
    seen: set[tuple[str, str]] = set()
    shortest, longest = window
    while len(seen) < size:
        for _ in range(PATIENCE // 40):
            wanted = shortest + int(random.random() * (longest - shortest + 1))
            pair = _near(draw, wanted, ratio, (source, target, split), window, seen)
            if pair is not None:
                break
        else:
            raise DataError(
                f"the phrasebook has no {size} pairs {source}-{target} of {shortest} to {longest} "
                f"words in {split}: {len(seen)} were found",
                f"ask for at most {len(seen)} pairs, or allow longer sentences",
            )
        seen.add(pair)
        yield pair


def _near(
    draw: Sampler,
    wanted: int,
    ratio: float,
    which: tuple[str, str, str],
    window: tuple[int, int],
    seen: set[tuple[str, str]],
) -> tuple[str, str] | None:
    """A new pair whose source is about as long as wanted, or nothing after some tries."""
    source, target, split = which
    slack = max(1, wanted // 10)
    low, high = max(window[0], wanted - slack), min(window[1], wanted + slack)
    tries = 40 if split == "train" else 400
    for _ in range(tries):
        meaning = draw.sentence(wanted / ratio)
        if split_of(meaning) != split:
            continue
        text = SPEAK[source](meaning)
        if low <= text.count(" ") + 1 <= high:
            pair = (text, SPEAK[target](meaning))
            if pair not in seen:
                return pair
    return None


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
