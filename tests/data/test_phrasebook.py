"""The phrasebook: its splits, its lengths, and the grammar of what is drawn from it."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import islice, pairwise, permutations
from random import Random

import pytest

from mtkit.data.phrasebook import LANGUAGES, SPEAK, SPLITS, sample, split_of
from mtkit.data.phrasebook.german_forms import decline
from mtkit.data.phrasebook.grammar import Sampler
from mtkit.data.phrasebook.lexicon import Verb, lexicon
from mtkit.data.phrasebook.meaning import (
    Sentence,
    clauses,
    combinations,
)
from mtkit.errors import DataError, UsageError

WORDS = lexicon()
NOUN, VERB = WORDS.nouns, WORDS.verbs


def meanings(size: int, *, seed: int = 11) -> Iterator[Sentence]:
    """Meanings of all splits, three to twenty English words long."""
    random = Random(seed)
    draw = Sampler(random.random)
    return (draw.sentence(3 + random.random() * 17) for _ in range(size))


@pytest.fixture(scope="module")
def drawn() -> list[tuple[Sentence, dict[str, str]]]:
    """Many meanings with their three wordings."""
    return [(m, {name: speak(m) for name, speak in SPEAK.items()}) for m in meanings(20_000)]


def test_sample_depends_on_its_arguments_alone() -> None:
    first = list(sample("ko", "en", size=300, seed=4))
    assert first == list(sample("ko", "en", size=300, seed=4))
    assert first != list(sample("ko", "en", size=300, seed=5))


def test_sample_is_the_same_on_every_machine() -> None:
    pairs = list(sample("en", "ko", "test", size=3, seed=1))
    assert pairs == PINNED


@pytest.mark.parametrize("split", SPLITS)
def test_smaller_sample_begins_the_larger_one(split: str) -> None:
    assert list(sample("de", "ko", split, size=40)) == list(
        islice(sample("de", "ko", split, size=90), 40)
    )


def test_sample_repeats_no_pair() -> None:
    pairs = list(sample("en", "de", size=10_000))
    assert len(set(pairs)) == 10_000


def test_splits_share_no_sentence_in_any_language(
    drawn: list[tuple[Sentence, dict[str, str]]],
) -> None:
    places: dict[str, set[str]] = defaultdict(set)
    for meaning, texts in drawn:
        for text in texts.values():
            places[text].add(split_of(meaning))
    assert [text for text, splits in places.items() if len(splits) > 1] == []


def test_samples_of_two_splits_and_seeds_do_not_overlap() -> None:
    train = list(sample("ko", "en", "train", size=8_000, seed=1))
    for split, seed in (("valid", 2), ("test", 3), ("combinations", 1)):
        others = list(sample("ko", "en", split, size=400, seed=seed))
        for side in (0, 1):
            assert not {pair[side] for pair in train} & {pair[side] for pair in others}


def test_combinations_hold_pairs_that_no_other_split_has(
    drawn: list[tuple[Sentence, dict[str, str]]],
) -> None:
    held_out = {
        (relation, head, other)
        for relation, table in WORDS.rules["held_out"].items()
        for head, others in table.items()
        for other in others
    }
    seen: Counter[str] = Counter()
    for meaning, _ in drawn:
        found = set(combinations(meaning)) & held_out
        assert (split_of(meaning) == "combinations") == bool(found)
        if not found:
            for clause in clauses(meaning):
                seen.update([] if clause.verb is None else [clause.verb.id])
                seen.update(p.noun.id for p in clause.object + clause.subject if p.noun is not None)
    for relation, head, other in held_out - {h for h in held_out if h[0] != "object"}:
        assert seen[head] >= 8, (relation, head)
        assert seen[other] >= 8, (relation, other)


@pytest.mark.parametrize(("source", "target"), list(permutations(LANGUAGES, 2)))
def test_target_is_a_function_of_the_source(
    source: str, target: str, drawn: list[tuple[Sentence, dict[str, str]]]
) -> None:
    targets: dict[str, set[str]] = defaultdict(set)
    for _, texts in drawn:
        targets[texts[source]].add(texts[target])
    ambiguous = sum(len(texts) > 1 for texts in targets.values())
    assert ambiguous / len(targets) < 0.001


@pytest.mark.parametrize("source", LANGUAGES)
@pytest.mark.parametrize("window", [(3, 16), (3, 5), (10, 12), (30, 60), (80, 80), (3, 80)])
def test_lengths_stay_in_their_window(source: str, window: tuple[int, int]) -> None:
    target = "en" if source == "ko" else "ko"
    low, high = window
    pairs = sample(source, target, size=60, min_words=low, max_words=high)
    assert all(low <= len(text.split(" ")) <= high for text, _ in pairs)


@pytest.mark.parametrize("source", LANGUAGES)
def test_lengths_spread_evenly(source: str) -> None:
    target = "en" if source == "ko" else "ko"
    counts = Counter(len(text.split(" ")) for text, _ in sample(source, target, size=2_800))
    assert sorted(counts) == list(range(3, 17))
    assert min(counts.values()) > 100
    assert max(counts.values()) < 240


def test_korean_particles_follow_the_last_sound(
    drawn: list[tuple[Sentence, dict[str, str]]],
) -> None:
    # Unicode lays syllables out in rows of 28 finals, the first of which is none and the ninth ㄹ.
    nouns = {noun.ko for noun in NOUN.values()} | {noun.counter for noun in NOUN.values()}
    closed, vowel = ("은", "을", "과"), ("는", "를", "와")
    checked = 0
    for _, texts in drawn:
        for word in texts["ko"].rstrip(".?").replace(",", "").split(" "):
            if word[:-1] in nouns and word not in nouns and word[-1] in closed + vowel:
                ends_in_consonant = (ord(word[-2]) - 0xAC00) % 28 != 0
                assert word[-1] in (closed if ends_in_consonant else vowel), word
                checked += 1
    assert checked > 10_000


def test_german_articles_fit_the_gender_of_their_noun(
    drawn: list[tuple[Sentence, dict[str, str]]],
) -> None:
    genders: dict[str, set[str]] = defaultdict(set)
    for noun in NOUN.values():
        genders[noun.de].add(noun.gender)
        genders[decline(noun, "acc", plural=False)].add(noun.gender)  # den Studenten
        if not noun.mass and noun.kind != "name":
            genders[noun.de_plural].add("p")
    allowed = {"das": "n", "dieses": "n", "den": "mp", "diesen": "mp", "einen": "m", "eine": "f"}
    checked = 0
    for meaning, texts in drawn:
        if any(p.relative for c in clauses(meaning) for p in c.subject + c.object):
            continue  # relative pronouns look like articles
        words = texts["de"].rstrip(".?").replace(",", " ,").split(" ")
        for article, word in pairwise(words):
            if article in allowed and word in genders:
                fits = set(allowed[article]) & genders[word]
                assert fits, (article, word, texts["de"])
                checked += 1
    assert checked > 1_000


def test_negative_command_stands_first_in_english_and_last_in_korean(
    drawn: list[tuple[Sentence, dict[str, str]]],
) -> None:
    longest = 0
    for meaning, texts in drawn:
        unit = meaning.units[0]
        single = len(meaning.units) == 1 and unit.subordinate is None
        if meaning.mood == "command" and single and unit.main.negated:
            addressed = meaning.register != "neutral"
            start = texts["en"].split(", ", 1)[addressed]
            assert start.startswith("don't " if addressed else "Don't ")
            assert texts["ko"].endswith(("지 마세요.", "지 마.", "지 마십시오."))
            longest = max(longest, len(texts["en"].split(" ")))
    assert longest > 12


def test_english_article_fits_the_next_sound(
    drawn: list[tuple[Sentence, dict[str, str]]],
) -> None:
    for _, texts in drawn:
        words = texts["en"].lower().split(" ")
        for article, word in pairwise(words):
            if article in ("a", "an") and not word.startswith("use"):
                assert (article == "an") == (word[0] in "aeiou"), texts["en"]


def test_sentences_have_clean_punctuation(
    drawn: list[tuple[Sentence, dict[str, str]]],
) -> None:
    for _, texts in drawn:
        for text in texts.values():
            assert text[-1] in ".?"
            assert not any(bad in text for bad in ("  ", ",,", " ,", " .", ",.", ", ,", ",?"))


def test_vocative_does_not_join_a_list_of_names(
    drawn: list[tuple[Sentence, dict[str, str]]],
) -> None:
    for meaning, texts in drawn:
        subject = meaning.units[0].main.subject
        if meaning.vocative is not None and len(subject) > 1:
            assert subject[0].determiner != "proper", texts["de"]


def test_requests_do_not_ask_to_lend_what_one_should_borrow(
    drawn: list[tuple[Sentence, dict[str, str]]],
) -> None:
    for meaning, texts in drawn:
        borrowed = meaning.units[-1].main.verb is VERB["borrow"]
        if meaning.mood == "request" and borrowed:
            assert texts["ko"].split("빌리")[-1].startswith("지 말아"), texts["ko"]


def test_relative_clause_lacks_nothing_but_its_gap(
    drawn: list[tuple[Sentence, dict[str, str]]],
) -> None:
    for meaning, texts in drawn:
        for clause in clauses(meaning):
            for phrase in clause.subject + clause.object:
                if phrase.relative is not None:
                    inner = phrase.relative.clause
                    assert inner.verb is not None
                    assert bool(inner.object) == bool(inner.verb.objects), texts["en"]


def test_english_plurals_are_spelt_as_they_sound() -> None:
    plain = [noun for noun in NOUN.values() if noun.de_plural and noun.kind != "name"]
    hissing = [noun for noun in plain if noun.en.endswith(("s", "x", "z", "ch", "sh"))]
    counted = [noun for noun in hissing if not noun.mass and noun.kind != "language"]
    assert {"fox", "peach", "dress"} <= {noun.id for noun in counted}
    for noun in counted:
        assert noun.en_plural == noun.en + "es"


def test_every_entry_has_words_of_its_own() -> None:
    for attribute in ("en", "de", "ko"):
        words = [getattr(noun, attribute) for noun in NOUN.values()]
        assert [word for word, count in Counter(words).items() if count > 1] == []


def test_every_verb_has_what_it_selects() -> None:
    for verb in VERB.values():
        assert isinstance(verb, Verb)
        assert verb.subjects, verb.id
        assert len(verb.de) == 3, verb.id


def test_too_large_a_sample_says_how_many_there_are() -> None:
    with pytest.raises(DataError, match="has no 100000 pairs de-en") as error:
        list(sample("de", "en", "combinations", size=100_000, min_words=3, max_words=3))
    assert error.value.hint is not None
    assert "ask for at most" in error.value.hint


def test_wrong_arguments_are_refused_at_once() -> None:
    with pytest.raises(UsageError, match="no language 'fr'"):
        sample("fr", "en", size=1)
    with pytest.raises(UsageError, match="both en"):
        sample("en", "en", size=1)
    with pytest.raises(UsageError, match="no split 'dev'"):
        sample("en", "de", "dev", size=1)
    with pytest.raises(UsageError, match="9 to 4 words"):
        sample("en", "de", size=1, min_words=9, max_words=4)


PINNED = [
    (
        "Don't throw away the skirt, her sweater, his dress, and this shirt.",
        "치마, 그녀의 스웨터, 그의 원피스 그리고 이 셔츠를 버리지 마세요.",
    ),
    (
        "Junho, don't invite Daniel and Sujin, and don't sell the sweater and this skirt.",
        "준호야, 다니엘과 수진을 초대하지 말고, 스웨터와 이 치마를 팔지 마.",
    ),
    ("She is swimming.", "그녀는 수영하고 있어요."),
]
