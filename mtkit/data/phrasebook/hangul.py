"""Korean sounds and endings: what a syllable ends in, particles, and the forms of a stem."""

from functools import cache
from typing import NamedTuple

FIRST, LAST = 0xAC00, 0xD7A3
VOWELS = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
FINALS = " ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"
# Stems that end in one of these vowels take -아; all others take -어.
BRIGHT = "ㅏㅗㅑ"
# A vowel and the 아/어 after it that become one: 가+아 -> 가, 오+아 -> 와, 마시+어 -> 마셔.
CONTRACTED = {
    "ㅏ": "ㅏ",
    "ㅗ": "ㅘ",
    "ㅓ": "ㅓ",
    "ㅜ": "ㅝ",
    "ㅣ": "ㅕ",
    "ㅐ": "ㅐ",
    "ㅔ": "ㅔ",
    "ㅕ": "ㅕ",
}
# Particles: after a final consonant, after a vowel.
PARTICLES = {
    "은": ("은", "는"),
    "이": ("이", "가"),
    "을": ("을", "를"),
    "과": ("과", "와"),
    "아": ("아", "야"),
}


def final(word: str) -> str:
    """The final consonant of the last syllable, or "" where it ends in a vowel."""
    code = ord(word[-1])
    assert FIRST <= code <= LAST, word
    return FINALS[(code - FIRST) % 28].strip()


def particle(word: str, name: str) -> str:
    """The word with a particle in the form its last sound asks for."""
    if name == "으로":  # ㄹ counts as a vowel here: 서울로
        return word + ("로" if final(word) in ("", "ㄹ") else "으로")
    if name in PARTICLES:
        return word + PARTICLES[name][final(word) == ""]
    return word + name


def _vowel(syllable: str) -> str:
    return VOWELS[(ord(syllable) - FIRST) // 28 % 21]


def _with(syllable: str, *, vowel: str = "", consonant: str | None = None) -> str:
    """The syllable with another vowel or final consonant ("" takes it away)."""
    code = ord(syllable) - FIRST
    if vowel:
        code += (VOWELS.index(vowel) - code // 28 % 21) * 28
    if consonant is not None:
        code += (FINALS.index(consonant) if consonant else 0) - code % 28
    return chr(FIRST + code)


class Stem(NamedTuple):
    """A predicate without its ending.

    `irregular` is ㅂ or ㄷ, or 이 for the copula (의사이-, 의사가 아니-); an adjective has no -는-.
    """

    text: str
    adjective: bool = False
    irregular: str = ""

    @property
    def has_neun(self) -> bool:
        """있다 and 없다 take -는 like verbs though they describe."""
        return not self.adjective or self.text.endswith(("있", "없"))


@cache
def parse(entry: str, *, adjective: bool = False) -> Stem:
    """A dictionary form as the lexicon writes it: "돕다 ㅂ"."""
    irregular = entry[-1] if entry[-1] in "ㅂㄷ" else ""
    word = entry.removesuffix(" " + irregular) if irregular else entry
    return Stem(word.removesuffix("다"), adjective, irregular)


@cache
def a_form(stem: Stem) -> str:
    """The stem with -아/어: 먹어, 가, 와, 도와, 추워, 들어, 몰라, 써, 해."""
    body, last = stem.text[:-1], stem.text[-1]
    if last == "하":
        return body + "해"
    if stem.irregular == "ㅂ":
        return body + _with(last, consonant="") + ("와" if stem.text.endswith("돕") else "워")
    if stem.irregular == "ㄷ":
        last = _with(last, consonant="ㄹ")
        return body + last + ("아" if _vowel(last) in BRIGHT else "어")
    vowel = _vowel(last)
    if final(last):
        bright = vowel in BRIGHT and final(last) != "ㅆ"  # 갔어, whatever the vowel
        return body + last + ("아" if bright else "어")
    if last == "르":
        before = _with(body[-1], consonant="ㄹ")
        return body[:-1] + before + ("라" if _vowel(before) in BRIGHT else "러")
    if vowel == "ㅡ":
        bright = bool(body) and body[-1] != " " and _vowel(body[-1]) in BRIGHT
        return body + _with(last, vowel="ㅏ" if bright else "ㅓ")
    if vowel in CONTRACTED:
        return body + _with(last, vowel=CONTRACTED[vowel])
    return body + last + ("아" if vowel in BRIGHT else "어")


@cache
def eu_form(stem: Stem, ending: str) -> str:
    """The stem with an ending that takes -으- after a consonant: ㄴ, ㄹ, ㅂ니다, 면, 세요."""
    text = stem.text
    if stem.irregular == "ㅂ":
        text = text[:-1] + _with(text[-1], consonant="") + "우"
    elif stem.irregular == "ㄷ":
        text = text[:-1] + _with(text[-1], consonant="ㄹ") + "으"
    elif final(text) == "ㄹ":
        # ㄹ falls before ㄴ, ㅂ, ㅅ and ㄹ, and stays before 면.
        text = text if ending == "면" else text[:-1] + _with(text[-1], consonant="")
    elif final(text):
        text += "으"
    if ending[0] in "ㄴㄹㅂ":
        return text[:-1] + _with(text[-1], consonant=ending[0]) + ending[1:]
    return text + ending


@cache
def past(stem: Stem) -> Stem:
    """The stem of the past tense: 먹었-, 갔-, 했-."""
    if stem.irregular == "이":
        return Stem(_copula(stem.text, "었", "였"), adjective=True)
    form = a_form(stem)
    return Stem(form[:-1] + _with(form[-1], consonant="ㅆ"), adjective=True)


@cache
def n_form(stem: Stem, ending: str) -> str:
    """The stem with an ending in ㄴ (는, 니), before which ㄹ falls: 사는."""
    text = stem.text
    if final(text) == "ㄹ":
        text = text[:-1] + _with(text[-1], consonant="")
    return text + ending


@cache
def formal(stem: Stem, ending: str) -> str:
    """The formal ending -ㅂ니다 or -습니다 (`ending` is 니다 or 니까)."""
    if final(stem.text) in ("", "ㄹ"):
        return eu_form(stem, "ㅂ" + ending)
    return stem.text + "습" + ending


@cache
def plain(stem: Stem, *, is_past: bool) -> str:
    """The plain statement that a quotation takes: 먹는다, 간다, 먹었다, 크다."""
    if stem.adjective or is_past:
        return stem.text + "다"
    if final(stem.text) in ("", "ㄹ"):
        return eu_form(stem._replace(irregular=""), "ㄴ다")
    return stem.text + "는다"


def _copula(text: str, after_consonant: str, after_vowel: str) -> str:
    """The copula with an ending that swallows its 이 after a vowel: 의사였어요, 대학생이었어요."""
    if text.endswith("아니") or final(text[:-1]):
        return text + after_consonant
    return text[:-1] + after_vowel


@cache
def polite(stem: Stem) -> str:
    """The polite ending -요."""
    return _copula(stem.text, "에요", "예요") if stem.irregular == "이" else a_form(stem) + "요"


@cache
def casual(stem: Stem) -> str:
    """The ending among friends."""
    return _copula(stem.text, "야", "야") if stem.irregular == "이" else a_form(stem)


@cache
def quoted(stem: Stem, *, is_past: bool) -> str:
    """The statement as a quotation takes it, before -고 or -는: 먹는다, 의사라."""
    if stem.irregular == "이" and not is_past:
        return _copula(stem.text, "라", "라")
    return plain(stem, is_past=is_past)
