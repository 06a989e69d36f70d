"""The words of the phrasebook, read from lexicon.toml and grammar.toml once."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, eq=False, slots=True)
class Noun:
    """A noun in three languages; `kind` is the class that verbs and adjectives select."""

    id: str
    kind: str
    en: str
    en_plural: str
    de: str
    de_plural: str
    de_woman: str
    gender: str  # m, f or n
    weak: bool
    ko: str
    counter: str
    mass: bool
    owned: bool
    ownerless: bool
    posture: str  # lie, stand or sit, where it can be asked where it is


@dataclass(frozen=True, eq=False, slots=True)
class Adjective:
    """An adjective; one that cannot be a predicate stands only before nouns."""

    id: str
    en: str
    en_more: str
    de: str
    de_more: str
    de_stem: str
    ko: str
    predicative: bool
    nouns: frozenset[str]


@dataclass(frozen=True, eq=False, slots=True)
class Verb:
    """A verb, what it selects and how each language marks its object."""

    id: str
    en: tuple[str, ...]
    de: tuple[str, ...]
    ko: str
    subjects: tuple[Noun, ...] = ()
    objects: tuple[Noun, ...] = ()
    receivers: tuple[Noun, ...] = ()
    pronoun_subject: bool = False
    pronoun_object: bool = False
    de_object: str = ""
    en_receiver: str = ""
    ko_object: str = "을"
    ko_place: str = "에서"
    ko_goal: str = "에"
    ko_honorific: str = ""
    ko_not: str = ""
    ko_lasting: bool = False
    ko_that: str = ""
    tense: str = ""
    goal: bool = False
    place: str = ""
    stative: bool = False
    ask: bool = True
    commands: bool | str = True
    requests: bool = True
    adjective: bool = False

    @property
    def lasting(self) -> bool:
        """Whether it is a state that lasts, at no certain time: love, know, live."""
        return self.stative and self.ko_lasting

    @property
    def invariant(self) -> bool:
        """Whether English has one form for present and past: cut, read."""
        return len(self.en) > 1 and self.en[0] == self.en[1]


@dataclass(frozen=True, eq=False, slots=True)
class Place:
    """A place where something happens, or where one goes."""

    id: str
    en: str
    de: str
    ko: str
    en_to: str = ""
    de_to: str = ""
    kind: str = ""


@dataclass(frozen=True, eq=False, slots=True)
class Day:
    """A day or another adverb of time, with the tenses it goes with."""

    id: str
    en: str
    de: str
    ko: str
    tenses: str
    ko_at: bool = False
    clock: bool = True


@dataclass(frozen=True)
class Lexicon:
    """All words, and the tables of grammar.toml as `rules`."""

    nouns: dict[str, Noun]
    adjectives: dict[str, Adjective]
    verbs: dict[str, Verb]
    thoughts: dict[str, Verb]
    weather: dict[str, Verb]
    places: dict[str, Place]
    spots: dict[str, Place]
    days: dict[str, Day]
    rules: dict[str, Any]

    def of_kind(self, *kinds: str) -> tuple[Noun, ...]:
        """The nouns of these classes, in the order of the lexicon."""
        return tuple(noun for noun in self.nouns.values() if noun.kind in kinds)


@cache
def lexicon() -> Lexicon:
    """The lexicon, read on first use."""
    words = _read("lexicon.toml")
    rules = _read("grammar.toml")
    nouns = {
        id: _noun(id, kind, entry, rules)
        for kind, entries in words["nouns"].items()
        for id, entry in entries.items()
    }
    return Lexicon(
        nouns=nouns,
        adjectives={
            id: _adjective(id, entry, nouns, rules) for id, entry in words["adjectives"].items()
        },
        verbs={id: _verb(id, entry, nouns, rules) for id, entry in words["verbs"].items()},
        thoughts={
            id: _verb(id, {"subject": "human"} | entry, nouns, rules)
            for id, entry in words["verbs_of_thought"].items()
        },
        weather={
            id: _verb(f"weather_{id}", entry, nouns, rules)
            for id, entry in words["weather"].items()
        },
        places={id: Place(id, **entry) for id, entry in words["places"].items()},
        spots={id: Place(id, **entry) for id, entry in words["spots"].items()},
        days={id: Day(id, **entry) for id, entry in words["days"].items()},
        rules=rules,
    )


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((files(__package__) / name).read_text(encoding="utf-8"))


def _noun(id: str, kind: str, entry: list[str], rules: dict[str, Any]) -> Noun:
    english = entry[0].split(", ")
    german = entry[1].split(", ")
    korean = entry[2].rsplit(" ", 1) if kind not in rules["nouns"]["mass"] else [entry[2]]
    article, singular = german[0].split(" ")
    return Noun(
        id=id,
        kind=kind,
        en=english[0],
        en_plural=english[-1] if len(english) > 1 else english[0] + "s",
        de=singular,
        de_plural=german[1] if len(german) > 1 else singular,
        de_woman=german[2] if len(german) > 2 and german[2] != "weak" else german[0].split(" ")[1],
        gender={"der": "m", "die": "f", "das": "n"}[article],
        weak=german[-1] == "weak",
        ko=korean[0],
        counter=korean[-1],
        mass=kind in rules["nouns"]["mass"],
        owned=kind in rules["nouns"]["owned"],
        posture=rules["posture"].get(id, rules["posture"].get(kind, "")),
        ownerless=bool({kind, id} & set(rules["nouns"]["ownerless"])),
    )


def _adjective(
    id: str, entry: list[str], nouns: dict[str, Noun], rules: dict[str, Any]
) -> Adjective:
    english = entry[0].split(", ")
    german = entry[1].split(", ")
    more = german[1] if len(german) > 1 else german[0] + ("r" if german[0].endswith("e") else "er")
    return Adjective(
        id=id,
        en=english[0],
        en_more=english[1] if len(english) > 1 else f"more {english[0]}",
        de=german[0],
        de_more=more,
        de_stem=german[2] if len(german) > 2 else german[0].removesuffix("e"),
        ko=entry[2],
        predicative=entry[2].split(" ㅂ")[0].endswith("다"),
        nouns=frozenset(noun.id for noun in _select(entry[3], nouns, rules["sets"])),
    )


def _verb(id: str, entry: dict[str, Any], nouns: dict[str, Noun], rules: dict[str, Any]) -> Verb:
    rest = dict(entry)
    subject, object, receiver = (rest.pop(key, "") for key in ("subject", "object", "receiver"))
    german = tuple(rest.pop("de").split(", "))
    return Verb(
        id=id,
        en=tuple(rest.pop("en").split(", ")),
        de=german,
        subjects=_select(subject, nouns, rules["sets"]),
        objects=_select(object, nouns, rules["sets"]),
        receivers=_select(receiver, nouns, rules["sets"]),
        pronoun_subject="pronoun" in _names(subject, rules["sets"]),
        pronoun_object="pronoun" in _names(object, rules["sets"]),
        **rest,
    )


def _names(selection: str, sets: dict[str, str]) -> list[str]:
    """The classes and nouns that a selection means, its sets resolved."""
    names: list[str] = []
    for name in selection.split():
        names += _names(sets[name], sets) if name in sets else [name]
    return names


def _select(selection: str, nouns: dict[str, Noun], sets: dict[str, str]) -> tuple[Noun, ...]:
    """The nouns that a selection of sets, classes and single nouns means."""
    names = _names(selection, sets)
    kinds = {noun.kind for noun in nouns.values()}
    chosen = [n for n in nouns.values() if n.kind in names or (n.id in names and n.id not in kinds)]
    for name in names:
        if name not in kinds and name not in nouns and name != "pronoun":
            raise ValueError(f"lexicon.toml: {name!r} is neither a class nor a noun")
    return tuple(chosen)
