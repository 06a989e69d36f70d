"""German word forms: articles, adjective endings, nouns in their case, verbs in their person."""

from functools import cache

from .lexicon import Noun, Verb

# Endings of the definite article's row, by case: masculine, feminine, neuter, plural.
ENDINGS = {
    "nom": {"m": "er", "f": "e", "n": "es", "p": "e"},
    "acc": {"m": "en", "f": "e", "n": "es", "p": "e"},
    "dat": {"m": "em", "f": "er", "n": "em", "p": "en"},
}


DEFINITE = {
    "nom": {"m": "der", "f": "die", "n": "das", "p": "die"},
    "acc": {"m": "den", "f": "die", "n": "das", "p": "die"},
    "dat": {"m": "dem", "f": "der", "n": "dem", "p": "den"},
}


# ich, du, er, wir, sie/Sie.
IRREGULAR = {
    "sein": "bin bist ist sind sind",
    "war": "war warst war waren waren",
    "haben": "habe hast hat haben haben",
    "werden": "werde wirst wird werden werden",
    "can": "kann kannst kann können können",
    "could": "konnte konntest konnte konnten konnten",
    "must": "muss musst muss müssen müssen",
    "had_to": "musste musstest musste mussten mussten",
    "want": "möchte möchtest möchte möchten möchten",
    "wanted": "wollte wolltest wollte wollten wollten",
    "mögen": "mag magst mag mögen mögen",
    "wissen": "weiß weißt weiß wissen wissen",
    "lag": "lag lagst lag lagen lagen",
    "stand": "stand standst stand standen standen",
    "saß": "saß saßt saß saßen saßen",
}


PERSONS = ("1s", "2s", "3s", "1p", "3p")


MODALS = {"can": ("can", "could"), "must": ("must", "had_to"), "want": ("want", "wanted")}


POSTURES = {
    "lie": ("liegen", "liegt", "lag"),
    "stand": ("stehen", "steht", "stand"),
    "sit": ("sitzen", "sitzt", "saß"),
}


def posture(name: str, tense: str, person: str) -> tuple[str, list[str]]:
    """The finite form and the end of the verbal bracket of lie, stand or sit."""
    base, third, past = POSTURES[name]
    if tense == "future":
        return irregular("werden", person), [base]
    if tense == "past":
        return irregular(past, person), []
    return (third if person == "3s" else base), []


@cache
def verb_forms(verb: Verb, tense: str, modal: str, person: str) -> tuple[str, tuple[str, ...]]:
    """The finite form and the end of the verbal bracket."""
    if modal:
        word = MODALS[modal][tense == "past"]
        return irregular(word, person), (infinitive(verb, joined=True),)
    if tense == "future":
        return irregular("werden", person), (infinitive(verb, joined=True),)
    if tense == "past":
        participle = verb.de[2].removeprefix("ist ")
        auxiliary = "sein" if participle != verb.de[2] else "haben"
        return irregular(auxiliary, person), (participle,)
    prefix, bar, _ = verb.de[0].rpartition("|")
    return present(verb, person), ((prefix,) if bar else ())


@cache
def present(verb: Verb, person: str) -> str:
    """The finite form of the present tense, without a separated prefix."""
    base = infinitive(verb, joined=False)
    if base in IRREGULAR:
        return irregular(base, person)
    third = verb.de[1].split(" ")[0]
    if person == "3s":
        return third
    if person == "2s":
        # isst and liest stay as they are; otherwise -t becomes -st.
        stem = third[:-1]
        return third if stem.endswith(("s", "ß", "z")) else stem + "st"
    return base.removesuffix("en") + "e" if person == "1s" else base


@cache
def imperative(verb: Verb) -> str:
    """The command to one familiar person: lies, schlaf, arbeite."""
    stem = verb.de[0].rpartition("|")[2].removesuffix("en")
    changed = verb.de[1].split(" ")[0].removesuffix("t")
    if changed != stem and not set("äöü") & (set(changed) - set(stem)) and "i" in changed:
        return changed
    return stem + (
        "e" if stem.endswith(("t", "d", "s", "z", "fn", "chn", "ig", "ier", "lg", "ob")) else ""
    )


def infinitive(verb: Verb, *, joined: bool) -> str:
    """The infinitive, with its separable prefix or without."""
    prefix, _, rest = verb.de[0].rpartition("|")
    return prefix + rest if joined else rest


@cache
def irregular(word: str, person: str) -> str:
    """A form of a verb that follows no rule."""
    return IRREGULAR[word].split()[PERSONS.index(person)]


def weak_ending(case: str, gender: str) -> str:
    """The ending of an adjective after der, dieser or an inflected ein."""
    singular = gender != "p" and (case == "nom" or (case == "acc" and gender != "m"))
    return "e" if singular else "en"


@cache
def decline(noun: Noun, case: str, *, plural: bool) -> str:
    """A noun in its case: dative plurals end in -n, weak masculines in -n or -en."""
    if plural:
        add = case == "dat" and not noun.de_plural.endswith(("n", "s"))
        return noun.de_plural + ("n" if add else "")
    if noun.weak and case != "nom":
        return noun.de + ("n" if noun.de.endswith(("e", "r")) and noun.de != "Bär" else "en")
    return noun.de
