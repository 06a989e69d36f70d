"""Korean: subject, object, verb; particles; one predicate whose endings carry everything else."""

from collections.abc import Callable
from functools import cache

from . import hangul
from .hangul import Stem, particle
from .lexicon import Verb
from .meaning import Clause, Phrase, Sentence, Time, Unit

# Pronouns by register: topic, subject, the form before 를 and 에게, possessive.
PRONOUNS = {
    "neutral": {"I": ("저는", "제가", "저", "제"), "you": ("당신은", "당신이", "당신", "당신의")},
    "familiar": {"I": ("나는", "내가", "나", "내"), "you": ("너는", "네가", "너", "네")},
    "formal": {
        "I": ("저는", "제가", "저", "제"),
        "you": ("여러분은", "여러분이", "여러분", "여러분의"),
    },
}
OTHERS = {
    "he": ("그는", "그가", "그", "그의"),
    "she": ("그녀는", "그녀가", "그녀", "그녀의"),
    "we": ("우리는", "우리가", "우리", "우리"),
}
OWNERS = {"my": "I", "your": "you", "his": "he", "her": "she", "our": "we"}
NUMBERS = {
    **dict(enumerate(["한", "두", "세", "네", "다섯", "여섯"], 1)),
    **dict(enumerate(["일곱", "여덟", "아홉", "열", "열한", "열두"], 7)),
}
MINUTES = {5: "오 분", 10: "십 분", 15: "십오 분", 20: "이십 분", 30: "반"}
ENDINGS = {"neutral": "polite", "familiar": "casual", "formal": "formal"}
CONNECTIVES = {"and": "고", "but": "지만", "because": "기 때문에"}
FINALS: dict[str, Callable[[Stem], str]] = {
    "polite": hangul.polite,
    "casual": hangul.casual,
    "formal": lambda stem: hangul.formal(stem, "니다"),
    "formal?": lambda stem: hangul.formal(stem, "니까"),
    "if": lambda stem: hangul.eu_form(stem, "면"),
    "when": lambda stem: hangul.eu_form(stem, "ㄹ") + " 때",
}
BE = Stem("있", adjective=True)
BE_NOT = Stem("없", adjective=True)


def sentence(meaning: Sentence) -> str:
    """The Korean sentence."""
    register = meaning.register
    words: list[str] = []
    if register == "formal":
        words.append("여러분,")
    elif meaning.vocative is not None:
        words.append(particle(meaning.vocative.ko, "아") + ",")
    for index, unit in enumerate(meaning.units):
        last = index + 1 == len(meaning.units)
        if last and meaning.mood in ("command", "request"):
            ending = meaning.mood
        elif last:
            ending = ENDINGS[register]
            if ending == "formal" and meaning.mood == "question":
                ending = "formal?"
        else:
            ending = meaning.units[index + 1].joint
            ending = "command " + ending if meaning.mood in ("command", "request") else ending
        words += _unit(unit, register, ending)
        if not last:
            words[-1] += ","
    return " ".join(words) + ("?" if meaning.mood == "question" else ".")


def _unit(unit: Unit, register: str, ending: str) -> list[str]:
    if unit.subordinate is None:
        return _clause(unit.main, register, ending)
    if unit.conjunction == "that":
        verb = unit.main.verb
        assert verb is not None
        inner = _clause(unit.subordinate, register, "quote")
        inner[-1] += verb.ko_that
        subject = _phrases(unit.main.subject, register, "은")
        return [subject, *inner, _predicate(unit.main, register, ending)]
    first = _clause(unit.subordinate, register, unit.conjunction)
    return first + _clause(unit.main, register, ending)


def _clause(clause: Clause, register: str, ending: str, gap: str = "") -> list[str]:
    main = ending in ("polite", "casual", "formal", "formal?", "and", "but")
    words: list[str] = []
    time = [] if clause.time is None else [_time(clause.time)]
    if clause.fronted:
        words, time = time, []
    if clause.kind == "existence":
        assert clause.place is not None
        words += [clause.place.ko + "에", _phrases(clause.subject, register, "이")]
        return [*words, _predicate(clause, register, ending)]
    if clause.wh == "subject":
        words.append("누가")
    elif clause.subject and gap != "subject":
        words.append(_phrases(clause.subject, register, "은" if main else "이"))
    words += time
    words += {"time": ["언제"], "reason": ["왜"]}.get(clause.wh, [])
    words += _place(clause)
    if clause.receiver:
        words.append(_phrases(clause.receiver, register, "에게"))
    words += _object(clause, register, gap)
    return [*words, _predicate(clause, register, ending)]


def _place(clause: Clause) -> list[str]:
    verb = clause.verb
    if verb is None:
        return [] if clause.place is None else [clause.place.ko + "에"]
    name = verb.ko_goal if verb.goal else verb.ko_place
    if clause.wh == "place":
        return [particle("어디", name)]
    return [] if clause.place is None else [particle(clause.place.ko, name)]


def _object(clause: Clause, register: str, gap: str) -> list[str]:
    verb = clause.verb
    if clause.kind == "comparison":
        return [_phrases(clause.object, register, "보다"), "더"]
    if clause.kind != "action" or verb is None or gap == "object":
        return []
    if clause.wh == "object":
        return [particle("누구" if verb.pronoun_object else "무엇", verb.ko_object)]
    if clause.wh == "number":
        noun = clause.object[0].noun
        assert noun is not None
        return [particle(noun.ko, verb.ko_object), "몇 " + noun.counter]
    return [_phrases(clause.object, register, verb.ko_object)] if clause.object else []


def _predicate(clause: Clause, register: str, ending: str) -> str:
    if clause.kind == "action":
        assert clause.verb is not None
        if ending.startswith(("command", "request")):
            return _command(clause.verb, clause.negated, ending, register)
        first = clause.subject[0] if clause.subject else None
        third = first is None or first.noun is not None or first.determiner in ("he", "she")
        return _verb(clause.verb, clause.tense, (clause.modal, third), clause.negated, ending)
    tense = clause.tense
    if clause.kind in ("existence", "location"):
        return finish(BE_NOT if clause.negated else BE, tense, ending)
    if clause.kind in ("profession", "age"):
        noun = clause.object[0].noun if clause.object else None
        text = noun.ko if noun is not None else f"{NUMBERS[clause.number]} 살"
        text = particle(text, "이") + " 아니" if clause.negated else text + "이"
        return finish(Stem(text, adjective=True, irregular="이"), tense, ending)
    if clause.kind == "weather":
        assert clause.verb is not None
        return _verb(clause.verb, tense, ("", True), clause.negated, ending)
    assert clause.adjective is not None
    stem = hangul.parse(clause.adjective.ko, adjective=True)
    return finish(_negated(stem) if clause.negated else stem, tense, ending)


def _negated(stem: Stem) -> Stem:
    return Stem(stem.text + "지 않", stem.adjective)


@cache
def _verb(verb: Verb, tense: str, modal: tuple[str, bool], negated: bool, ending: str) -> str:
    """A verb with its auxiliaries, tense and ending; `modal` says whether a third person wants."""
    if negated and verb.ko_not and not modal[0]:
        stem, negated = hangul.parse(verb.ko_not), False
    else:
        stem = hangul.parse(verb.ko, adjective=verb.adjective)
    match modal:
        case ("can", _):
            stem = Stem(hangul.eu_form(stem, "ㄹ") + (" 수 없" if negated else " 수 있"), True)
            negated = False
        case ("must", _):
            stem = Stem(hangul.a_form(stem) + "야 하")
        case ("want", third):
            stem = Stem(stem.text + "고 싶어 하") if third else Stem(stem.text + "고 싶", True)
    if tense == "progressive":
        stem = Stem(stem.text + "고 있", True)
    stem = _negated(stem) if negated else stem
    if (verb.ko_lasting, tense, ending) == (True, "past", "adnominal"):
        return stem.text + "던"
    return finish(stem, tense, ending)


def finish(stem: Stem, tense: str, ending: str) -> str:
    """The stem with tense and ending."""
    if ending == "adnominal":
        return _adnominal(stem, tense)
    if tense == "future":
        noun = "거" if ending in ("polite", "casual", "quote") else "것"
        stem = Stem(f"{hangul.eu_form(stem, 'ㄹ')} {noun}이", adjective=True, irregular="이")
    is_past = tense == "past"
    if is_past:
        stem = hangul.past(stem)
    if ending in CONNECTIVES:
        return stem.text + CONNECTIVES[ending]
    if ending == "although":
        if is_past or stem.has_neun:
            return hangul.n_form(stem, "는데도")
        return hangul.eu_form(stem, "ㄴ") + "데도"
    if ending == "quote":
        return hangul.quoted(stem, is_past=is_past)
    return FINALS[ending](stem)


def _adnominal(stem: Stem, tense: str) -> str:
    """The form before a noun: 먹는, 먹은, 먹을, 먹을 수 있었던."""
    if tense == "future":
        return hangul.eu_form(stem, "ㄹ")
    if tense == "past":
        return hangul.past(stem).text + "던" if stem.adjective else hangul.eu_form(stem, "ㄴ")
    return hangul.n_form(stem, "는") if stem.has_neun else hangul.eu_form(stem, "ㄴ")


@cache
def _command(verb: Verb, negated: bool, ending: str, register: str) -> str:
    stem = hangul.parse(verb.ko)
    if ending == "command and":
        return stem.text + ("지 말고" if negated else "고")
    if ending == "request":
        give = {"neutral": "주세요", "familiar": "줘", "formal": "주십시오"}[register]
        if negated:
            return f"{stem.text}지 말아 {give}"
        # 주다 itself is not doubled: 책을 주세요.
        if stem.text.endswith("주"):
            return stem.text.removesuffix("주") + give
        # 도와주다 is one word in the dictionary.
        return hangul.a_form(stem) + ("" if stem.text == "돕" else " ") + give
    if negated:
        return (
            stem.text
            + {"neutral": "지 마세요", "familiar": "지 마", "formal": "지 마십시오"}[register]
        )
    if register == "familiar":
        return hangul.a_form(stem)
    polite = "세요" if register == "neutral" else "십시오"
    return verb.ko_honorific + polite if verb.ko_honorific else hangul.eu_form(stem, polite)


def _phrases(phrases: tuple[Phrase, ...], register: str, name: str) -> str:
    """A list of phrases with the particle after the last."""
    if len(phrases) == 1:
        if phrases[0].noun is None:
            return _pronoun(phrases[0].determiner, register, name)
        return particle(_phrase(phrases[0], register), name)
    parts = [_phrase(phrase, register) for phrase in phrases]
    if len(parts) == 2:
        return f"{particle(parts[0], '과')} {particle(parts[1], name)}"
    return f"{', '.join(parts[:-1])} 그리고 {particle(parts[-1], name)}"


def _pronoun(pronoun: str, register: str, name: str) -> str:
    forms = PRONOUNS[register].get(pronoun) or OTHERS[pronoun]
    if name in ("은", "이"):
        return forms[name == "이"]
    return particle(forms[2], name)


def _phrase(phrase: Phrase, register: str) -> str:
    noun = phrase.noun
    assert noun is not None
    words: list[str] = []
    if phrase.relative is not None:
        words += _clause(phrase.relative.clause, register, "adnominal", phrase.relative.gap)
    determiner = phrase.determiner
    if determiner == "this":
        words.append("이")
    elif determiner == "name":
        assert phrase.owner is not None
        words.append(phrase.owner.ko + "의")
    elif determiner in OWNERS:
        owner = OWNERS[determiner]
        possessive = (PRONOUNS[register].get(owner) or OTHERS[owner])[3]
        # 우리 집, but 우리의 작은 집.
        far = possessive == "우리" and phrase.adjective is not None
        words.append(possessive + "의" if far else possessive)
    if phrase.adjective is not None:
        words.append(_attribute(phrase.adjective.ko, phrase.adjective.predicative))
    match determiner:
        case "a":
            words += [noun.ko, "한", noun.counter]
        case "few":
            words += [noun.ko, "몇", noun.counter]
        case "number":
            words += [noun.ko, NUMBERS[phrase.number], noun.counter]
        case _:
            words.append(noun.ko + ("들" if phrase.number > 1 else ""))
    return " ".join(words)


@cache
def _attribute(entry: str, predicative: bool) -> str:
    return (
        finish(hangul.parse(entry, adjective=True), "present", "adnominal")
        if predicative
        else entry
    )


def _time(time: Time) -> str:
    words = [] if time.day is None else [time.day.ko]
    if not time.hour:
        assert time.day is not None
        return time.day.ko + ("에" if time.day.ko_at else "")
    words.append(f"{NUMBERS[time.hour]} 시")
    if time.minute:
        words.append(MINUTES[time.minute])
    return " ".join(words) + "에"
