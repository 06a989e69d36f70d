"""Minimal pairs of commands: does a model say "don't" where the Korean says so, words away?

Each pair is one command of the phrasebook and the same command forbidden: their Korean differs in
one predicate, their English in "Don't" before it. So a model that does not see the difference is
right in half of the sentences, whatever it says, and nothing but the negation can tell them apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from statistics import mean

from mtkit.analysis.intervals import Interval, of_mean
from mtkit.data.corpus import Pair
from mtkit.data.phrasebook import SPEAK, split_of
from mtkit.data.phrasebook.grammar import Sampler
from mtkit.data.phrasebook.meaning import Sentence, Unit

CHANCE = 0.5
TWINS = 60  # of each place
_LONGEST = 60  # words, as the ladder trains on
_APART = 20  # words after the negation that make it distant from the source's end
_DRAWS = 400_000


@dataclass(frozen=True)
class Place:
    """Where the negation stands in the Korean sentence; in the English it stands first."""

    label: str
    drawn: tuple[int, int]  # English words that a sentence is drawn for
    units: tuple[int, int]  # clauses that it may have
    words: tuple[int, int]  # of the whole sentence
    after: tuple[int, int]  # of them after the negated predicate


PLACES = (
    Place("last of 3-6 words", (4, 10), (1, 1), (3, 6), (0, 0)),
    Place("last of 7 or more", (10, 22), (1, 1), (7, _LONGEST), (0, 0)),
    Place("20 or more words before the end", (35, 80), (2, 99), (1, _LONGEST), (_APART, _LONGEST)),
)


@dataclass(frozen=True)
class Twin:
    """A command and the same forbidden, Korean to English."""

    plain: Pair
    negated: Pair


@dataclass(frozen=True)
class Heard:
    """How often a model's translations of one place's twins begin as they should."""

    label: str
    twins: int
    accuracy: float  # of both sentences of all twins; chance is a half
    interval: Interval  # 95 %, over twins


@cache
def twins(place: Place, count: int = TWINS, seed: int = 7) -> tuple[Twin, ...]:
    """So many twins of the validation split, the same for the same seed; fewer if they are rare."""
    random = Random(seed)
    draw = Sampler(random.random)
    found: dict[str, Twin] = {}
    for _ in range(_DRAWS):
        if len(found) == count:
            break
        meaning = draw.sentence(random.uniform(*place.drawn))
        twin = _twin(meaning, place) if _suits(meaning, place) else None
        if twin is not None:
            found[twin.plain.source] = twin
    return tuple(found.values())


def heard(place: Place, twins: Sequence[Twin], translations: Sequence[str]) -> Heard:
    """Judge translations of `sources(twins)`, in that order."""
    halves = zip(translations[::2], translations[1::2], strict=True)
    right = [((not forbids(plain)) + forbids(negated)) / 2 for plain, negated in halves]
    return Heard(place.label, len(twins), mean(right), of_mean(right))


def sources(twins: Sequence[Twin]) -> list[str]:
    """The Korean sentences, the two of a twin after one another."""
    return [text for twin in twins for text in (twin.plain.source, twin.negated.source)]


def forbids(english: str) -> bool:
    """Whether a sentence begins as a prohibition: Don't ..., Please don't ..., Kim, don't ..."""
    words = english.lower().split()
    if words and words[0].endswith(","):
        words = words[1:]
    if words and words[0] == "please":
        words = words[1:]
    return bool(words) and words[0].strip(",.!") == "don't"


def _suits(meaning: Sentence, place: Place) -> bool:
    """Whether a command of this place begins with its verb and can be said either way."""
    if meaning.mood not in ("command", "request") or meaning.register == "formal":
        return False
    low, high = place.units
    first = meaning.units[0]
    verb = first.main.verb
    return (
        low <= len(meaning.units) <= high
        and first.subordinate is None  # else the English begins with "if"
        and verb is not None
        and verb.commands is True
        and (meaning.mood == "command" or verb.requests)
        and split_of(meaning) == "valid"
    )


def _twin(meaning: Sentence, place: Place) -> Twin | None:
    plain, negated = (_said(meaning, forbidden) for forbidden in (False, True))
    ours, theirs = plain.source.split(), negated.source.split()
    parted = [i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]]
    if not parted or not place.words[0] <= len(ours) <= place.words[1]:
        return None
    after = len(ours) - 1 - parted[0]
    return Twin(plain, negated) if place.after[0] <= after <= place.after[1] else None


def _said(meaning: Sentence, forbidden: bool) -> Pair:
    first, *others = meaning.units
    unit = Unit(first.main._replace(negated=forbidden), joint=first.joint)
    said = meaning._replace(units=(unit, *others))
    return Pair(SPEAK["ko"](said), SPEAK["en"](said))
