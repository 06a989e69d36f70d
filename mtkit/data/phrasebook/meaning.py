"""What a sentence of the phrasebook says, before any language has said it."""

from collections.abc import Iterator
from typing import NamedTuple

from .lexicon import Adjective, Day, Noun, Place, Verb


class Phrase(NamedTuple):
    """A noun with what belongs to it, or a pronoun without a noun.

    `determiner` is the, a, this, few, number, bare, proper, name (with an `owner`) or a possessive;
    of a pronoun it is I, you, he, she or we. `number` is 1, or how many; any other plural is 2.
    """

    noun: Noun | None
    determiner: str
    number: int = 1
    adjective: Adjective | None = None
    owner: Noun | None = None
    relative: "Relative | None" = None


class Time(NamedTuple):
    """A day, a clock time or both; hour 0 is no clock time."""

    day: Day | None
    hour: int = 0
    minute: int = 0


class Clause(NamedTuple):
    """One verb or predicate and its parts; lists of phrases are coordinated."""

    kind: str
    verb: Verb | None = None
    subject: tuple[Phrase, ...] = ()
    object: tuple[Phrase, ...] = ()
    receiver: tuple[Phrase, ...] = ()
    tense: str = "present"
    modal: str = ""
    negated: bool = False
    place: Place | None = None
    time: Time | None = None
    fronted: bool = False
    adjective: Adjective | None = None
    number: int = 0
    wh: str = ""  # subject, object, place, time, reason, number


class Relative(NamedTuple):
    """A clause whose subject or object is the phrase it belongs to."""

    clause: Clause
    gap: str


class Unit(NamedTuple):
    """A main clause and perhaps one subordinate clause; `joint` ties it to the unit before."""

    main: Clause
    conjunction: str = ""
    subordinate: Clause | None = None
    joint: str = ""


class Sentence(NamedTuple):
    """Units that follow each other, said to somebody (`vocative`) in one register and mood."""

    units: tuple[Unit, ...]
    mood: str = "statement"  # statement, question, command, request
    register: str = "neutral"  # neutral, familiar, formal
    vocative: Noun | None = None


def clauses(sentence: Sentence) -> Iterator[Clause]:
    """Every clause, relative clauses included."""
    for unit in sentence.units:
        yield from _with_relatives(unit.main)
        if unit.subordinate is not None:
            yield from _with_relatives(unit.subordinate)


def _with_relatives(clause: Clause) -> Iterator[Clause]:
    yield clause
    for phrase in clause.subject + clause.object:
        if phrase.relative is not None:
            yield from _with_relatives(phrase.relative.clause)


def content(sentence: Sentence) -> str:
    """The words of a sentence in alphabetical order, without grammar: what all languages express.

    Two sentences with one wording in any language have one content.
    """
    words: list[str] = []
    for clause in clauses(sentence):
        if clause.verb is not None:
            words.append(clause.verb.id)
        if clause.adjective is not None:
            words.append(clause.adjective.id)
        if clause.place is not None:
            words.append(clause.place.id)
        if clause.time is not None and clause.time.day is not None:
            words.append(clause.time.day.id)
        for phrase in clause.subject + clause.object + clause.receiver:
            words.append(phrase.determiner if phrase.noun is None else phrase.noun.id)
            if phrase.adjective is not None:
                words.append(phrase.adjective.id)
            if phrase.owner is not None:
                words.append(phrase.owner.id)
    words.sort()
    return " ".join(words)


def combinations(sentence: Sentence) -> Iterator[tuple[str, str, str]]:
    """The pairs of words that stand in one relation: ("object", "eat", "apple")."""
    for unit in sentence.units:
        if unit.subordinate is not None and unit.subordinate.verb is not None:
            yield ("conjunction", unit.conjunction, unit.subordinate.verb.id)
    for clause in clauses(sentence):
        if clause.verb is not None:
            for phrase in clause.object:
                if phrase.noun is not None:
                    yield ("object", clause.verb.id, phrase.noun.id)
        for phrase in clause.subject + clause.object + clause.receiver:
            if phrase.adjective is not None and phrase.noun is not None:
                yield ("adjective", phrase.adjective.id, phrase.noun.id)
        if clause.adjective is not None and clause.subject[0].noun is not None:
            yield ("adjective", clause.adjective.id, clause.subject[0].noun.id)
