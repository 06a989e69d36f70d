"""Wordings of the phrasebook as a native reader would have them, meaning by meaning."""

from typing import Any

import pytest

from mtkit.data.phrasebook import SPEAK, hangul
from mtkit.data.phrasebook.lexicon import lexicon
from mtkit.data.phrasebook.meaning import (
    Clause,
    Phrase,
    Relative,
    Sentence,
    Time,
    Unit,
)

WORDS = lexicon()
NOUN, VERB, THOUGHT = WORDS.nouns, WORDS.verbs, WORDS.thoughts
PLACE, SPOT, DAY, ADJECTIVE = WORDS.places, WORDS.spots, WORDS.days, WORDS.adjectives


def the(noun: str, **more: Any) -> Phrase:
    return Phrase(NOUN[noun], "the")._replace(**more)


def some(noun: str, determiner: str, number: int = 1, adjective: str = "") -> Phrase:
    return Phrase(NOUN[noun], determiner, number, ADJECTIVE[adjective] if adjective else None)


def pronoun(word: str) -> Phrase:
    return Phrase(None, word)


def act(verb: str, *phrases: Phrase, **more: Any) -> Clause:
    """A clause with a subject and perhaps an object."""
    subject, object = phrases[:1], phrases[1:]
    return Clause("action", VERB[verb], subject, object)._replace(**more)


def command(verb: str, *objects: Phrase, **more: Any) -> Clause:
    return Clause("action", VERB[verb], (), objects, negated=True)._replace(**more)


def say(clause: Clause, mood: str = "statement", **more: Any) -> Sentence:
    return Sentence((Unit(clause),), mood)._replace(**more)


def join(main: Clause, conjunction: str, subordinate: Clause) -> Sentence:
    return Sentence((Unit(main, conjunction, subordinate),))


BOOK_SHE_BOUGHT = the(
    "book",
    relative=Relative(
        act("buy", Phrase(NOUN["mother"], "your"), the("book"), tense="past"), "object"
    ),
)
WEATHER_RAIN = Clause("weather", WORDS.weather["rain"])

GOLDEN = [
    (
        say(act("drink", pronoun("she"), some("coffee", "bare"), tense="past")),
        "She drank coffee.",
        "Sie hat Kaffee getrunken.",
        "그녀는 커피를 마셨어요.",
    ),
    (
        say(act("see", the("child"), the("dog", adjective=ADJECTIVE["big"]))),
        "The child sees the big dog.",
        "Das Kind sieht den großen Hund.",
        "아이는 큰 개를 봐요.",
    ),
    (
        say(act("buy", pronoun("I"), some("book", "number", 3), tense="future")),
        "I will buy three books.",
        "Ich werde drei Bücher kaufen.",
        "저는 책 세 권을 살 거예요.",
    ),
    (
        say(act("eat", pronoun("he"), some("apple", "a", 1, "red"), tense="progressive")),
        "He is eating a red apple.",
        "Er isst gerade einen roten Apfel.",
        "그는 빨간 사과 한 개를 먹고 있어요.",
    ),
    (
        say(act("drink", the("woman"), some("milk", "bare"), negated=True)),
        "The woman doesn't drink milk.",
        "Die Frau trinkt keine Milch.",
        "여자는 우유를 마시지 않아요.",
    ),
    (
        say(act("help", pronoun("we"), some("child", "this", 2), tense="past", negated=True)),
        "We didn't help these children.",
        "Wir haben diesen Kindern nicht geholfen.",
        "우리는 이 아이들을 돕지 않았어요.",
    ),
    (
        say(
            act(
                "get_up",
                pronoun("I"),
                tense="past",
                fronted=True,
                time=Time(DAY["monday"], 6, 30),
            )
        ),
        "At half past six on Monday, I got up.",
        "Am Montag um halb sieben bin ich aufgestanden.",
        "월요일 여섯 시 반에 저는 일어났어요.",
    ),
    (
        say(act("turn_off", pronoun("you"), the("lamp"), tense="past"), "question"),
        "Did you turn off the lamp?",
        "Haben Sie die Lampe ausgeschaltet?",
        "당신은 램프를 껐어요?",
    ),
    (
        say(
            Clause("action", VERB["sing"], (), (the("song"),), tense="past", wh="subject"),
            "question",
        ),
        "Who sang the song?",
        "Wer hat das Lied gesungen?",
        "누가 노래를 불렀어요?",
    ),
    (
        say(act("wait_for", pronoun("you"), tense="past", wh="object"), "question"),
        "Who did you wait for?",
        "Auf wen haben Sie gewartet?",
        "당신은 누구를 기다렸어요?",
    ),
    (
        say(act("go", pronoun("you"), wh="place", tense="future"), "question"),
        "Where will you go?",
        "Wohin werden Sie gehen?",
        "당신은 어디에 갈 거예요?",
    ),
    (
        say(
            act("read", pronoun("you"), some("novel", "number", 2), tense="past", wh="number"),
            "question",
            register="familiar",
            vocative=NOUN["sujin"],
        ),
        "Sujin, how many novels did you read?",
        "Sujin, wie viele Romane hast du gelesen?",
        "수진아, 너는 소설을 몇 권 읽었어?",
    ),
    (
        say(
            command("underestimate", Phrase(NOUN["strength"], "your", 1, ADJECTIVE["inner"])),
            "command",
        ),
        "Don't underestimate your inner strength.",
        "Unterschätzen Sie Ihre innere Stärke nicht.",
        "당신의 내면의 힘을 과소평가하지 마세요.",
    ),
    (
        say(command("forget", BOOK_SHE_BOUGHT), "command"),
        "Don't forget the book that your mother bought.",
        "Vergessen Sie das Buch nicht, das Ihre Mutter gekauft hat.",
        "당신의 어머니가 산 책을 잊지 마세요.",
    ),
    (
        say(command("forget", the("key"), the("bag"), some("umbrella", "my")), "request"),
        "Please don't forget the key, the bag, and my umbrella.",
        "Bitte vergessen Sie den Schlüssel, die Tasche und meinen Regenschirm nicht.",
        "열쇠, 가방 그리고 제 우산을 잊지 말아 주세요.",
    ),
    (
        say(
            command("read", the("letter"), negated=False),
            "command",
            register="familiar",
            vocative=NOUN["minsu"],
        ),
        "Minsu, read the letter.",
        "Minsu, lies den Brief.",
        "민수야, 편지를 읽어.",
    ),
    (
        say(command("open", the("window")), "command", register="formal"),
        "Ladies and gentlemen, don't open the window.",
        "Meine Damen und Herren, öffnen Sie das Fenster nicht.",
        "여러분, 창문을 열지 마십시오.",
    ),
    (
        say(
            act(
                "give",
                some("grandmother", "my"),
                some("apple", "few"),
                tense="past",
                receiver=(the("boy"),),
            )._replace(object=(some("apple", "few", 2),))
        ),
        "My grandmother gave the boy a few apples.",
        "Meine Großmutter hat dem Jungen ein paar Äpfel gegeben.",
        "제 할머니는 소년에게 사과 몇 개를 줬어요.",
    ),
    (
        join(
            act("sleep", pronoun("I")),
            "because",
            Clause("quality", subject=(pronoun("I"),), adjective=ADJECTIVE["tired"]),
        ),
        "I sleep because I am tired.",
        "Ich schlafe, weil ich müde bin.",
        "제가 피곤하기 때문에 저는 자요.",
    ),
    (
        join(act("go", pronoun("we"), place=PLACE["home"], tense="future"), "if", WEATHER_RAIN),
        "If it rains, we will go home.",
        "Falls es regnet, werden wir nach Hause gehen.",
        "비가 오면 우리는 집에 갈 거예요.",
    ),
    (
        join(
            act("call", Phrase(NOUN["paul"], "proper"), pronoun("I"), tense="past"),
            "when",
            act("arrive", the("train"), tense="past"),
        ),
        "When the train arrived, Paul called me.",
        "Als der Zug angekommen ist, hat Paul mich angerufen.",
        "기차가 도착했을 때 폴은 저에게 전화했어요.",
    ),
    (
        join(
            Clause("quality", subject=(the("soup"),), adjective=ADJECTIVE["hot"], negated=True),
            "although",
            Clause("quality", subject=(some("coffee", "the"),), adjective=ADJECTIVE["hot"]),
        ),
        "Although the coffee is hot, the soup isn't hot.",
        "Obwohl der Kaffee heiß ist, ist die Suppe nicht heiß.",
        "커피가 뜨거운데도 수프는 뜨겁지 않아요.",
    ),
    (
        join(
            Clause("action", THOUGHT["know_that"], (pronoun("he"),)),
            "that",
            act("get_up", some("student", "this"), negated=True),
        ),
        "He knows that this student doesn't get up.",
        "Er weiß, dass dieser Student nicht aufsteht.",
        "그는 이 대학생이 일어나지 않는다는 것을 알아요.",
    ),
    (
        say(
            Clause(
                "existence",
                subject=(some("cup", "number", 2),),
                place=SPOT["on_table"],
                tense="past",
            )
        ),
        "There were two cups on the table.",
        "Auf dem Tisch standen zwei Tassen.",
        "탁자 위에 찻잔 두 개가 있었어요.",
    ),
    (
        say(
            Clause(
                "comparison",
                subject=(some("dress", "this"),),
                object=(the("coat"),),
                adjective=ADJECTIVE["expensive"],
            )
        ),
        "This dress is more expensive than the coat.",
        "Dieses Kleid ist teurer als der Mantel.",
        "이 원피스는 외투보다 더 비싸요.",
    ),
    (
        say(Clause("profession", None, (Phrase(NOUN["aunt"], "our"),), (some("doctor", "bare"),))),
        "Our aunt is a doctor.",
        "Unsere Tante ist Ärztin.",
        "우리 이모는 의사예요.",
    ),
    (
        say(Clause("age", subject=(some("daughter", "my"),), number=7)),
        "My daughter is seven years old.",
        "Meine Tochter ist sieben Jahre alt.",
        "제 딸은 일곱 살이에요.",
    ),
    (
        say(
            act("help", pronoun("she"), modal="want", tense="present")._replace(
                object=(
                    the(
                        "tourist",
                        relative=Relative(
                            act("travel", the("tourist"), place=PLACE["seoul"], tense="past"),
                            "subject",
                        ),
                    ),
                )
            )
        ),
        "She wants to help the tourist who traveled to Seoul.",
        "Sie möchte dem Touristen helfen, der nach Seoul gereist ist.",
        "그녀는 서울로 여행을 간 관광객을 돕고 싶어 해요.",
    ),
    (
        say(
            act(
                "wait_for",
                pronoun("she"),
                some("bus", "this"),
                tense="past",
                negated=True,
                place=PLACE["airport"],
                time=Time(DAY["yesterday"]),
            )
        ),
        "She didn't wait for this bus at the airport yesterday.",
        "Sie hat gestern am Flughafen nicht auf diesen Bus gewartet.",
        "그녀는 어제 공항에서 이 버스를 기다리지 않았어요.",
    ),
    (
        say(
            act(
                "invite",
                pronoun("we"),
                Phrase(NOUN["daniel"], "proper"),
                tense="past",
                time=Time(DAY["monday"]),
            )
        ),
        "We invited Daniel on Monday.",
        "Wir haben Daniel am Montag eingeladen.",
        "우리는 월요일에 다니엘을 초대했어요.",
    ),
    (
        say(act("read", the("man"), the("letter"), tense="progressive", negated=True)),
        "The man isn't reading the letter.",
        "Der Mann liest den Brief gerade nicht.",
        "남자는 편지를 읽고 있지 않아요.",
    ),
    (
        say(
            act(
                "lend",
                Phrase(NOUN["anna"], "proper"),
                some("umbrella", "number", 2),
                tense="past",
                receiver=(Phrase(NOUN["paul"], "proper"),),
                time=Time(DAY["monday"]),
            )._replace(object=(some("umbrella", "number", 2),))
        ),
        "Anna lent Paul two umbrellas on Monday.",
        "Anna hat Paul am Montag zwei Regenschirme geliehen.",
        "안나는 월요일에 폴에게 우산 두 개를 빌려줬어요.",
    ),
    (
        Sentence(
            (Unit(command("help", pronoun("he"), negated=False), "if", WEATHER_RAIN),), "request"
        ),
        "If it rains, please help him.",
        "Falls es regnet, helfen Sie ihm bitte.",
        "비가 오면 그를 도와주세요.",
    ),
    (
        say(act("sell", pronoun("I"), some("house", "our", 1, "small"), tense="past")),
        "I sold our small house.",
        "Ich habe unser kleines Haus verkauft.",
        "저는 우리의 작은 집을 팔았어요.",
    ),
    (
        say(
            act(
                "lose",
                pronoun("he"),
                the(
                    "key",
                    relative=Relative(
                        act("look_for", pronoun("we"), the("key"), tense="past"), "object"
                    ),
                ),
                tense="past",
            )
        ),
        "He lost the key that we looked for.",
        "Er hat den Schlüssel verloren, den wir gesucht haben.",
        "그는 우리가 찾던 열쇠를 잃어버렸어요.",
    ),
    (
        say(act("lose", pronoun("she"), some("map", "number", 2), tense="past")),
        "She lost two maps.",
        "Sie hat zwei Landkarten verloren.",
        "그녀는 지도 두 장을 잃어버렸어요.",
    ),
]


@pytest.mark.parametrize(("meaning", "en", "de", "ko"), GOLDEN, ids=[row[1] for row in GOLDEN])
def test_meaning_is_said_as_a_native_says_it(meaning: Sentence, en: str, de: str, ko: str) -> None:
    assert {name: speak(meaning) for name, speak in SPEAK.items()} == {"de": de, "en": en, "ko": ko}


@pytest.mark.parametrize(
    ("entry", "forms"),
    [
        ("먹다", "먹어 먹은 먹는"),
        ("돕다 ㅂ", "도와 도운 돕는"),
        ("듣다 ㄷ", "들어 들은 듣는"),
        ("부르다", "불러 부른 부르는"),
        ("고르다", "골라 고른 고르는"),
        ("쓰다", "써 쓴 쓰는"),
        ("끄다", "꺼 끈 끄는"),
        ("팔다", "팔아 판 파는"),
        ("열다", "열어 연 여는"),
        ("마시다", "마셔 마신 마시는"),
        ("배우다", "배워 배운 배우는"),
        ("보내다", "보내 보낸 보내는"),
        ("요리하다", "요리해 요리한 요리하는"),
        ("닫다", "닫아 닫은 닫는"),
        ("씻다", "씻어 씻은 씻는"),
    ],
)
def test_korean_stem_takes_its_endings(entry: str, forms: str) -> None:
    stem = hangul.parse(entry)
    made = (hangul.a_form(stem), hangul.eu_form(stem, "ㄴ"), hangul.n_form(stem, "는"))
    assert " ".join(made) == forms
