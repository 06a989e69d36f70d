"""German: the finite verb second in main clauses, last in subordinate ones; case and gender."""

import re

from .german_forms import (
    DEFINITE,
    ENDINGS,
    decline,
    imperative,
    infinitive,
    irregular,
    posture,
    verb_forms,
    weak_ending,
)
from .lexicon import Verb
from .meaning import Clause, Phrase, Sentence, Time, Unit

# Pronouns: nominative, accusative, dative.
PRONOUNS = {
    "I": ("ich", "mich", "mir"),
    "he": ("er", "ihn", "ihm"),
    "she": ("sie", "sie", "ihr"),
    "we": ("wir", "uns", "uns"),
    "du": ("du", "dich", "dir"),
    "Sie": ("Sie", "Sie", "Ihnen"),
}


# Objects that a place precedes: im Park Äpfel essen, but den Apfel im Park essen.
INDEFINITE = ("bare", "a", "few", "number")


CASES = {"nom": 0, "acc": 1, "dat": 2}


POSSESSIVES = {
    "my": "mein",
    "our": "unser",
    "his": "sein",
    "her": "ihr",
    "du": "dein",
    "Sie": "Ihr",
}


NUMBERS = {
    **dict(enumerate(["zwei", "drei", "vier", "fünf", "sechs", "sieben"], 2)),
    **dict(enumerate(["acht", "neun", "zehn", "elf", "zwölf"], 8)),
}


MINUTES = {5: "fünf nach", 10: "zehn nach", 15: "Viertel nach", 20: "zwanzig nach", 30: "halb"}


CONJUNCTIONS = {
    "because": "weil",
    "when": "wenn",
    "if": "falls",
    "although": "obwohl",
    "that": "dass",
}


JOINTS = {"and": "und", "but": "aber"}


def sentence(meaning: Sentence) -> str:
    """The German sentence."""
    register = meaning.register
    words: list[str] = []
    if register == "formal":
        words += ["meine Damen und Herren", ","]
    elif meaning.vocative is not None:
        words += [meaning.vocative.de, ","]
    for unit in meaning.units:
        if unit.joint:
            words += [",", JOINTS[unit.joint]]
        words += _unit(unit, meaning.mood, "du" if register == "familiar" else "Sie")
    # Clauses that end together each leave their comma.
    text = re.sub(",+", ",", " ".join(words).replace(" ,", ",")).rstrip(",")
    return text[0].upper() + text[1:] + ("?" if meaning.mood == "question" else ".")


def _unit(unit: Unit, mood: str, you: str) -> list[str]:
    if unit.subordinate is None:
        return _clause(unit.main, mood, you)
    word = CONJUNCTIONS[unit.conjunction]
    if unit.conjunction == "when" and unit.subordinate.tense == "past":
        word = "als"
    subordinate = [word, *_clause(unit.subordinate, "subordinate", you)]
    if unit.conjunction in ("because", "that"):
        return [*_clause(unit.main, mood, you), ",", *subordinate, ","]
    order = {"command": "command", "request": "late request"}.get(mood, "inverted")
    return [*subordinate, ",", *_clause(unit.main, order, you)]


def _clause(clause: Clause, order: str, you: str, gap: str = "") -> list[str]:
    """The words of a clause; `order` is a mood, "inverted" (verb first) or "subordinate"."""
    person = _person(clause, you)
    finite, tail = _predicate(clause, person)
    subject = _subject(clause, order, you, gap)
    middle, after = _middle(clause, you, gap, ("bitte",) if order == "late request" else ())
    if order == "subordinate":
        front, subject = ([], subject) if gap else (subject, [])
        # A separated prefix rejoins its verb: steht auf -> aufsteht.
        end = [tail[0] + finite] if tail and _separated(clause) else [*tail, finite]
        return [*front, *subject, *middle, *end, *after]
    if order in ("command", "request", "late request"):
        assert clause.verb is not None
        please = ["bitte"] if order == "request" else []
        verb = (
            [imperative(clause.verb)]
            if you == "du"
            else [infinitive(clause.verb, joined=False), "Sie"]
        )
        prefix = clause.verb.de[0].partition("|")
        return [*please, *verb, *middle, *([prefix[0]] if prefix[2] else []), *after]
    if clause.wh == "subject":
        return ["wer", finite, *middle, *tail, *after]
    if order == "question" or order == "inverted":
        return [*_question_word(clause, you), finite, *subject, *middle, *tail, *after]
    if clause.fronted and clause.time is not None:
        return [_time(clause.time), finite, *subject, *middle, *tail, *after]
    if clause.kind == "existence":
        assert clause.place is not None
        return [clause.place.de, finite, *subject, *tail]
    return [*subject, finite, *middle, *tail, *after]


def _subject(clause: Clause, order: str, you: str, gap: str) -> list[str]:
    if clause.kind == "weather":
        return ["es"]
    if gap == "subject" or not clause.subject:
        return []
    words, relative = _phrases(clause.subject, "nom", you)
    if clause.kind == "existence" and order != "statement":
        assert clause.place is not None
        return [clause.place.de, *words]
    return words + relative


def _middle(
    clause: Clause, you: str, gap: str, please: tuple[str, ...] = ()
) -> tuple[list[str], list[str]]:
    """What stands between the finite verb (or subject) and the end, and what follows the end.

    `please` follows the pronouns: rufen Sie ihn bitte an.
    """
    pronouns: list[str] = []
    words: list[str] = []
    after: list[str] = []
    receiver: list[str] = []
    preposition = ""
    negation = ["nicht"] if clause.negated and not _takes_kein(clause) else []
    if clause.receiver:
        dative, _ = _phrases(clause.receiver, "dat", you)
        (pronouns if clause.receiver[0].noun is None else receiver).extend(dative)
    hidden = gap == "object" or clause.wh in ("object", "number")
    if clause.object and clause.kind == "action" and not hidden:
        assert clause.verb is not None
        case, preposition = _object_case(clause.verb)
        kein = clause.negated and _takes_kein(clause)
        object_words, after = _phrases(clause.object, case, you, kein=kein)
        if preposition:
            words += [*negation, preposition, *object_words]
            negation = []
        elif clause.object[0].noun is None:
            pronouns += object_words
        elif len(clause.object) == 1 and clause.object[0].determiner == "proper":
            receiver += object_words  # a name, like a receiver, precedes the time
        else:
            words += object_words
    time = [] if clause.time is None or clause.fronted else [_time(clause.time)]
    now = clause.time is not None and clause.time.day is not None
    gerade = ["gerade"] if clause.tense == "progressive" and not now else []
    place: list[str] = []
    if clause.place is not None and clause.kind != "existence":
        goal = clause.verb is not None and clause.verb.goal
        place = [clause.place.de_to if goal else clause.place.de]
    if words and not negation and all(p.determiner in INDEFINITE for p in clause.object):
        words, place = place + words, []
    elif preposition:
        # Im Park auf den Bus warten, im Park nicht auf den Bus warten.
        words, place = place + words, []
    when = [*time, *gerade]
    if words and negation:
        # Den Brief gestern nicht lesen, but gestern nicht im Park schlafen.
        words, when = words + when, []
    words = [*receiver, *when, *words, *negation, *_complement(clause, you), *place]
    return [*pronouns, *please, *words], after


def _takes_kein(clause: Clause) -> bool:
    if clause.kind == "profession":
        return True
    return clause.kind == "action" and any(p.determiner == "bare" for p in clause.object)


def _object_case(verb: Verb) -> tuple[str, str]:
    """The case of a verb's object, and its preposition."""
    if verb.de_object == "dat":
        return "dat", ""
    return "acc", verb.de_object


def _complement(clause: Clause, you: str) -> list[str]:
    match clause.kind:
        case "quality":
            assert clause.adjective is not None
            return [clause.adjective.de]
        case "comparison":
            assert clause.adjective is not None
            return [clause.adjective.de_more, "als", *_phrases(clause.object, "nom", you)[0]]
        case "profession":
            noun = clause.object[0].noun
            assert noun is not None
            plural = _person(clause, you) in ("1p", "3p") and not _is_sie(clause, you)
            woman = not plural and _is_woman(clause.subject[0])
            kein = [("keine" if plural or woman else "kein")] if clause.negated else []
            return [*kein, noun.de_plural if plural else noun.de_woman if woman else noun.de]
        case "age":
            return [NUMBERS[clause.number], "Jahre", "alt"]
        case "weather":
            assert clause.verb is not None
            return [clause.verb.de[0]] if clause.verb.adjective else []
    return []


def _question_word(clause: Clause, you: str) -> list[str]:
    verb = clause.verb
    match clause.wh:
        case "object":
            assert verb is not None
            case, preposition = _object_case(verb)
            if not verb.pronoun_object:
                return ["was"]
            return [*([preposition] if preposition else []), "wem" if case == "dat" else "wen"]
        case "number":
            noun = clause.object[0].noun
            assert noun is not None
            return ["wie viele", noun.de_plural]
        case "place":
            return ["wohin" if verb is not None and verb.goal else "wo"]
        case "time":
            return ["wann"]
        case "reason":
            return ["warum"]
    return []


def _person(clause: Clause, you: str) -> str:
    if not clause.subject or clause.wh == "subject":
        return "3s"
    first = clause.subject[0]
    if len(clause.subject) > 1:
        return "3p"
    if first.noun is None:
        second = "2s" if you == "du" else "3p"
        return {"I": "1s", "you": second, "we": "1p"}.get(first.determiner, "3s")
    return "3p" if first.number > 1 else "3s"


def _is_sie(clause: Clause, you: str) -> bool:
    return you == "Sie" and bool(clause.subject) and clause.subject[0].determiner == "you"


def _is_woman(phrase: Phrase) -> bool:
    if phrase.noun is None:
        return phrase.determiner == "she"
    return phrase.noun.gender == "f"


def _separated(clause: Clause) -> bool:
    verb = clause.verb
    return (
        verb is not None
        and "|" in verb.de[0]
        and clause.tense in ("present", "progressive")
        and (not clause.modal)
    )


def _predicate(clause: Clause, person: str) -> tuple[str, list[str]]:
    if clause.kind == "existence" or (clause.kind == "location" and _stands(clause)):
        noun = clause.subject[0].noun
        assert noun is not None
        return posture(noun.posture, clause.tense, person)
    verb = clause.verb
    if verb is None or verb.adjective:
        if clause.tense == "future":
            return irregular("werden", person), ["sein"]
        return irregular("war" if clause.tense == "past" else "sein", person), []
    finite, tail = verb_forms(verb, clause.tense, clause.modal, person)
    return finite, list(tail)


def _stands(clause: Clause) -> bool:
    noun = clause.subject[0].noun
    return noun is not None and noun.posture != ""


def _phrases(
    phrases: tuple[Phrase, ...], case: str, you: str, *, kein: bool = False
) -> tuple[list[str], list[str]]:
    """A list of phrases, and the relative clause of a single phrase with its commas."""
    parts = [_phrase(phrase, case, you, kein) for phrase in phrases]
    if len(parts) == 1:
        return parts[0], _relative(phrases[0], you)
    words: list[str] = []
    for part in parts[:-1]:
        words += [*part, ","]
    words.pop()
    return [*words, "und", *parts[-1]], []


def _phrase(phrase: Phrase, case: str, you: str, kein: bool) -> list[str]:
    noun = phrase.noun
    if noun is None:
        word = you if phrase.determiner == "you" else phrase.determiner
        return [PRONOUNS[word][CASES[case]]]
    gender = "p" if phrase.number > 1 else noun.gender
    determiner, ending = _determiner(
        phrase, "kein" if kein else phrase.determiner, case, gender, you
    )
    words = [determiner] if determiner else []
    if phrase.adjective is not None:
        words.append(phrase.adjective.de_stem + ending)
    words.append(decline(noun, case, plural=phrase.number > 1))
    return words


def _determiner(
    phrase: Phrase, determiner: str, case: str, gender: str, you: str
) -> tuple[str, str]:
    """The determiner, and the ending of an adjective after it."""
    strong = ENDINGS[case][gender]
    match determiner:
        case "the":
            return DEFINITE[case][gender], weak_ending(case, gender)
        case "this":
            return "dies" + strong, weak_ending(case, gender)
        case "few":
            return "ein paar", strong
        case "number":
            return NUMBERS[phrase.number], strong
        case "bare" | "proper":
            return "", strong
        case "name":
            assert phrase.owner is not None
            return phrase.owner.de + "s", strong
    stem = {"a": "ein", "kein": "kein"}.get(determiner) or (
        POSSESSIVES[you if determiner == "your" else determiner]
    )
    bare = (gender in "mn" and case == "nom") or (gender == "n" and case == "acc")
    ending = "" if bare else strong
    return stem + ending, strong if bare else weak_ending(case, gender)


def _relative(phrase: Phrase, you: str) -> list[str]:
    if phrase.relative is None or phrase.noun is None:
        return []
    clause, gap = phrase.relative
    gender = "p" if phrase.number > 1 else phrase.noun.gender
    case, preposition = "nom", ""
    if gap == "object":
        assert clause.verb is not None
        case, preposition = _object_case(clause.verb)
    pronoun = "denen" if (case, gender) == ("dat", "p") else DEFINITE[case][gender]
    # In a relative clause its subject follows the relative pronoun.
    words = _clause(clause, "subordinate", you, gap)
    return [",", *([preposition] if preposition else []), pronoun, *words, ","]


def _time(time: Time) -> str:
    parts = [] if time.day is None else [time.day.de]
    if time.hour:
        if time.minute == 30:
            hour = time.hour % 12 + 1
            parts.append(f"um halb {'eins' if hour == 1 else NUMBERS[hour]}")
        elif time.minute:
            hour_word = "eins" if time.hour == 1 else NUMBERS[time.hour]
            parts.append(f"um {MINUTES[time.minute]} {hour_word}")
        else:
            parts.append(f"um {'ein' if time.hour == 1 else NUMBERS[time.hour]} Uhr")
    return " ".join(parts)
