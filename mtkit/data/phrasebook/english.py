"""English: subject, verb, object; do-support; times and places at the end."""

from functools import cache

from .lexicon import Noun, Verb
from .meaning import Clause, Phrase, Sentence, Time, Unit

PRONOUNS = {
    "I": ("I", "me"),
    "you": ("you", "you"),
    "he": ("he", "him"),
    "she": ("she", "her"),
    "we": ("we", "us"),
}
NUMBERS = {
    **dict(enumerate(["one", "two", "three", "four", "five", "six"], 1)),
    **dict(enumerate(["seven", "eight", "nine", "ten", "eleven", "twelve"], 7)),
}
MINUTES = {5: "five past", 10: "ten past", 15: "a quarter past", 20: "twenty past", 30: "half past"}
VOWELS = "aeiou"


def sentence(meaning: Sentence) -> str:
    """The English sentence."""
    words: list[str] = []
    if meaning.register == "formal":
        words += ["ladies and gentlemen", ","]
    elif meaning.vocative is not None:
        words += [meaning.vocative.en, ","]
    for unit in meaning.units:
        if unit.joint:
            words += [",", unit.joint]
        words += _unit(unit, meaning.mood)
    text = " ".join(words).replace(" ,", ",").replace(",,", ",")
    return text[0].upper() + text[1:] + ("?" if meaning.mood == "question" else ".")


def _unit(unit: Unit, mood: str) -> list[str]:
    main = _clause(unit.main, mood)
    if unit.subordinate is None:
        return main
    subordinate = [unit.conjunction, *_clause(unit.subordinate, "statement")]
    if unit.conjunction in ("because", "that"):
        return main + subordinate
    return [*subordinate, ",", *main]


def _clause(clause: Clause, mood: str, gap: str = "") -> list[str]:
    auxiliary, verb = _predicate(clause, mood)
    subject = _phrases(clause.subject, subject=True) if clause.subject and gap != "subject" else []
    if clause.kind == "existence":
        subject, verb = ["there"], [*verb, *subject]
    if clause.kind == "weather":
        subject = ["it"]
    rest = [*verb, *_objects(clause, gap)]
    if clause.place is not None:
        goal = clause.verb is not None and clause.verb.goal
        rest.append(clause.place.en_to if goal else clause.place.en)
    front: list[str] = []
    if clause.time is not None:
        if clause.fronted:
            front = [_time(clause.time), ","]
        else:
            rest.append(_time(clause.time))
    if mood in ("command", "request"):
        return [*front, *(["please"] if mood == "request" else []), *auxiliary, *rest]
    if clause.wh == "subject":
        return ["who", *auxiliary, *rest]
    if mood == "question":
        return [*_question_word(clause), *auxiliary, *subject, *rest]
    return [*front, *subject, *auxiliary, *rest]


def _question_word(clause: Clause) -> list[str]:
    match clause.wh:
        case "object":
            return ["who" if clause.verb is not None and clause.verb.pronoun_object else "what"]
        case "number":
            noun = clause.object[0].noun
            assert noun is not None
            return ["how many", noun.en_plural]
        case "place":
            return ["where"]
        case "time":
            return ["when"]
        case "reason":
            return ["why"]
    return []


def _objects(clause: Clause, gap: str) -> list[str]:
    verb = clause.verb
    receiver = _phrases(clause.receiver) if clause.receiver else []
    hidden = gap == "object" or clause.wh in ("object", "number")
    shown = clause.kind == "action" and clause.object and not hidden
    objects = _phrases(clause.object) if shown else []
    if receiver and verb is not None and verb.en_receiver:
        return [*objects, verb.en_receiver, *receiver]
    return receiver + objects


def _predicate(clause: Clause, mood: str) -> tuple[list[str], list[str]]:
    """The auxiliary, which a question puts before the subject, and what follows the subject."""
    person = "3s" if clause.wh == "subject" else _person(clause)
    if mood in ("command", "request"):
        assert clause.verb is not None
        return (["don't"] if clause.negated else []), [clause.verb.en[0]]
    if clause.verb is None or clause.verb.adjective:
        be = _be(person, clause.tense, clause.negated)
        return be, _complement(clause, plural=person not in ("1s", "3s"))
    return _verb(clause, person, mood == "question" and clause.wh != "subject")


def _complement(clause: Clause, *, plural: bool) -> list[str]:
    match clause.kind:
        case "weather":
            assert clause.verb is not None
            return [clause.verb.en[0]]
        case "quality":
            assert clause.adjective is not None
            return [clause.adjective.en]
        case "comparison":
            assert clause.adjective is not None
            return [clause.adjective.en_more, "than", *_phrases(clause.object)]
        case "profession":
            noun = clause.object[0].noun
            assert noun is not None
            return [noun.en_plural] if plural else [_article(noun.en), noun.en]
        case "age":
            return [NUMBERS[clause.number], "years old"]
    return []


def _verb(clause: Clause, person: str, question: bool) -> tuple[list[str], list[str]]:
    assert clause.verb is not None
    base, past, ing = forms(clause.verb)
    negated = clause.negated
    if clause.tense == "future":
        return (["won't"] if negated else ["will"]), [base]
    if clause.tense == "progressive":
        return _be(person, "present", negated), [ing]
    third = person == "3s"
    gone = clause.tense == "past"
    match clause.modal:
        case "can":
            word = "could" if gone else "can"
            return [("couldn't" if gone else "can't") if negated else word], [base]
        case "must":
            base, past, third_form = f"have to {base}", f"had to {base}", f"has to {base}"
        case "want":
            base, past, third_form = f"want to {base}", f"wanted to {base}", f"wants to {base}"
        case _:
            third_form = _third(base)
    if negated or question:
        do = "did" if gone else "does" if third else "do"
        return [do + ("n't" if negated else "")], [base]
    return [], [past if gone else third_form if third else base]


@cache
def forms(verb: Verb) -> tuple[str, str, str]:
    """Base, past and -ing form; words after the first do not change."""
    word, _, rest = verb.en[0].partition(" ")
    past = word + ("d" if word.endswith("e") else "ed")
    if word.endswith("y") and word[-2] not in VOWELS:
        past = word[:-1] + "ied"
    ing = (word[:-1] if word.endswith("e") and not word.endswith("ee") else word) + "ing"
    tail = f" {rest}" if rest else ""
    return (
        verb.en[0],
        verb.en[1] if len(verb.en) > 1 else past + tail,
        verb.en[2] if len(verb.en) > 2 else ing + tail,
    )


@cache
def _third(base: str) -> str:
    word, _, rest = base.partition(" ")
    if word.endswith("y") and word[-2] not in VOWELS:
        word = word[:-1] + "ies"
    elif word.endswith(("s", "sh", "ch", "x", "z", "o")):
        word += "es"
    else:
        word += "s"
    return f"{word} {rest}" if rest else word


def _be(person: str, tense: str, negated: bool) -> list[str]:
    if tense == "future":
        return ["won't be" if negated else "will be"]
    if tense == "past":
        word = "was" if person in ("1s", "3s") else "were"
    else:
        word = {"1s": "am", "3s": "is"}.get(person, "are")
    if not negated:
        return [word]
    return ["am", "not"] if word == "am" else [word + "n't"]


def _person(clause: Clause) -> str:
    """1s, 3s or p: the forms that English tells apart."""
    if not clause.subject:
        return "3s"
    first = clause.subject[0]
    if len(clause.subject) > 1:
        return "p"
    if first.noun is None:
        return {"I": "1s", "he": "3s", "she": "3s"}.get(first.determiner, "p")
    return "3s" if first.number == 1 else "p"


def _phrases(phrases: tuple[Phrase, ...], *, subject: bool = False) -> list[str]:
    parts = [_phrase(phrase, subject) for phrase in phrases]
    if len(parts) == 1:
        return parts[0]
    words: list[str] = []
    for part in parts[:-1]:
        words += [*part, ","]
    if len(parts) == 2:
        words.pop()
    return [*words, "and", *parts[-1]]


def _phrase(phrase: Phrase, subject: bool) -> list[str]:
    noun = phrase.noun
    if noun is None:
        return [PRONOUNS[phrase.determiner][0 if subject else 1]]
    words = [] if phrase.adjective is None else [phrase.adjective.en]
    words.append(noun.en_plural if phrase.number > 1 else noun.en)
    match phrase.determiner:
        case "a":
            words.insert(0, _article(words[0]))
        case "this":
            words.insert(0, "these" if phrase.number > 1 else "this")
        case "few":
            words.insert(0, "a few")
        case "number":
            words.insert(0, NUMBERS[phrase.number])
        case "name":
            assert phrase.owner is not None
            words.insert(0, phrase.owner.en + "'s")
        case "bare" | "proper":
            pass
        case determiner:
            words.insert(0, determiner)
    if phrase.relative is not None:
        who = phrase.relative.gap == "subject" and _human(noun)
        gap = phrase.relative.gap
        words += ["who" if who else "that", *_clause(phrase.relative.clause, "statement", gap)]
    return words


def _human(noun: Noun) -> bool:
    return noun.kind in ("family", "person", "profession", "name")


@cache
def _article(word: str) -> str:
    return "an" if word[0] in VOWELS and not word.startswith(("use", "uni", "one")) else "a"


def _time(time: Time) -> str:
    parts = []
    if time.hour:
        hour = NUMBERS[time.hour]
        parts.append(f"at {MINUTES[time.minute]} {hour}" if time.minute else f"at {hour} o'clock")
    if time.day is not None:
        parts.append(time.day.en)
    return " ".join(parts)
