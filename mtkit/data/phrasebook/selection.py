"""Which words go together, worked out once from the lexicon."""

from dataclasses import dataclass
from functools import cache

from .lexicon import Adjective, Day, Lexicon, Noun, Place, Verb, lexicon

PEOPLE = ("family", "person", "profession", "name")
TENSES = ("present", "past", "future", "progressive")


@dataclass(frozen=True)
class Selection:
    """Tuples to choose from, by id where they depend on a word."""

    names: tuple[Noun, ...]
    professions: tuple[Noun, ...]
    people: tuple[Noun, ...]
    relatives: tuple[Noun, ...]  # people whose sex is known, for professions
    young: tuple[Noun, ...]  # whose age is told
    standing: tuple[Noun, ...]  # what lies, stands or sits somewhere
    verbs: tuple[Verb, ...]
    short_verbs: tuple[Verb, ...]  # those that need no object, goal or place
    thoughts: tuple[Verb, ...]
    weather: tuple[Verb, ...]
    near: tuple[Place, ...]
    where: dict[str, tuple[Place, ...]]  # by verb
    spots: tuple[Place, ...]
    days: dict[str, tuple[Day, ...]]  # by tense
    predicative: tuple[Adjective, ...]
    moods: tuple[Adjective, ...]  # tired, happy
    described: dict[str, tuple[Noun, ...]]  # by adjective
    attributes: dict[str, tuple[Adjective, ...]]  # by noun
    acting: dict[str, tuple[Verb, ...]]  # by noun: verbs whose subject it can be
    suffering: dict[str, tuple[Verb, ...]]  # by noun: verbs whose object it can be


@cache
def selection() -> Selection:
    """The selection of the whole lexicon."""
    words = lexicon()
    verbs = tuple(words.verbs.values())
    nouns = tuple(words.nouns.values())
    adjectives = tuple(words.adjectives.values())
    places = tuple(words.places.values())
    return Selection(
        names=words.of_kind("name"),
        professions=words.of_kind("profession"),
        people=words.of_kind(*PEOPLE),
        relatives=words.of_kind("family", "name"),
        young=tuple(n for n in nouns if {n.id, n.kind} & set(words.rules["nouns"]["young"])),
        standing=tuple(noun for noun in nouns if noun.posture),
        verbs=verbs,
        short_verbs=tuple(v for v in verbs if not v.objects and not v.goal and v.place != "city"),
        thoughts=tuple(words.thoughts.values()),
        weather=tuple(words.weather.values()),
        near=tuple(place for place in places if place.kind == "near"),
        where={verb.id: _where(verb, words) for verb in verbs},
        spots=tuple(words.spots.values()),
        days=_days(words),
        predicative=tuple(a for a in adjectives if a.predicative),
        moods=tuple(words.adjectives[id] for id in words.rules["adjectives"]["moods"]),
        described={a.id: tuple(n for n in nouns if n.id in a.nouns) for a in adjectives},
        attributes={n.id: tuple(a for a in adjectives if n.id in a.nouns) for n in nouns},
        acting={
            n.id: tuple(v for v in verbs if n in v.subjects and not v.receivers) for n in nouns
        },
        suffering={
            n.id: tuple(v for v in verbs if n in v.objects and not v.receivers) for n in nouns
        },
    )


def _where(verb: Verb, words: Lexicon) -> tuple[Place, ...]:
    """The places its entry names by kind or by id; otherwise near ones, for a goal also cities."""
    sets = words.rules["sets"]
    names = " ".join(sets.get(name, name) for name in verb.place.split()).split()
    names = names or ["near"] + ["city"] * verb.goal
    if verb.stative and not verb.place:
        return ()
    return tuple(p for p in words.places.values() if p.kind in names or p.id in names)


def _days(words: Lexicon) -> dict[str, tuple[Day, ...]]:
    days = words.days.values()
    return {tense: tuple(day for day in days if tense in day.tenses.split()) for tense in TENSES}
