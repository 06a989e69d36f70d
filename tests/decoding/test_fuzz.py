"""The line contract under every way of decoding: 20,000 lines of anything, shared among them."""

import random
from collections.abc import Mapping
from dataclasses import replace

import pytest

from mtkit.data.tokenizer import Tokenizer
from mtkit.decoding.options import SearchOptions
from mtkit.decoding.requests import Request
from mtkit.decoding.translator import Translator
from mtkit.models.ensemble import Ensemble
from tests.decoding.conftest import CORPUS, LONGEST, noisy
from tests.decoding.test_translator import AWKWARD, fuzzed

BASE = SearchOptions(beam=2, max_length_ratio=0.25, max_length_offset=2)
WAYS: dict[str, Mapping[str, object]] = {
    "greedy": {"beam": 1},
    "beam": {"beam": 3},
    "n-best": {"beam": 3, "n_best": 3},
    "sampling": {"temperature": 1.0},
    "top-k": {"temperature": 1.3, "top_k": 5, "n_best": 2},
    "top-p": {"temperature": 0.7, "top_p": 0.8, "seed": 5},
    "diverse": {"beam": 4, "groups": 2, "n_best": 2},
    "rules": {"min_length": 3, "no_repeat": 2, "unknown": False},
    "patience": {"beam": 3, "patience": 3.0, "length_penalty": 2.0},
    "coverage": {"coverage_penalty": 0.3},
    "alignment": {"alignment": True, "token_scores": True, "replace_unknown": True},
    "forbidden": {"forbid": ("a", "e ")},
    "risk": {"mbr": "chrf", "beam": 3},
    "risk-of-samples": {"mbr": "bleu", "beam": 3, "temperature": 1.0},
    "ensemble": {},
    "requests": {},
    "json-lines": {},
}
SHARE = 20_000 // len(WAYS)


def share(way: str) -> list[str]:
    """The lines of one way; those of no two ways are the same draw."""
    lines = fuzzed(SHARE - 2, seed=100 + list(WAYS).index(way))
    return [*lines, "word " * 2_000, "쉬지않고" * 500]


def wish(line: str, rng: random.Random) -> Request:
    """A request of anything for the line."""
    words = [*" ".join(CORPUS).split(), *AWKWARD]
    some = tuple(word for word in rng.choices(words, k=2) if word.strip() and len(word) < 20)
    return Request(
        line,
        prefix=rng.choice(words)[:20] if rng.random() < 0.5 else "",
        constraints=some[:1] if rng.random() < 0.3 else (),
        forbidden=some[1:] if rng.random() < 0.3 else (),
        n_best=rng.choice((None, 1, 3)),
    )


@pytest.mark.slow
@pytest.mark.parametrize("way", [way for way in WAYS if way != "json-lines"])
def test_every_line_gets_one_line_in_order(tokenizer: Tokenizer, way: str) -> None:
    model = noisy(tokenizer, 1)
    if way == "ensemble":
        model = Ensemble([model, noisy(tokenizer, 2)])
    options = replace(BASE, **WAYS[way])
    translator = Translator(model, tokenizer, tokenizer, options, max_source_length=LONGEST)
    rng = random.Random(3)
    lines = share(way)
    asked = [wish(line, rng) if way == "requests" else line for line in lines]
    found = translator.translate(asked)
    assert len(found) == len(lines) == SHARE
    for line, item in zip(lines, found, strict=True):
        for text in (item.text, *(a.text for a in item.alternatives)):
            assert not {"\n", "\r", "\0"} & set(text)
        if not line.strip():
            assert (item.text, item.status) == ("", "empty")
        held = {phrase for phrase in options.forbid if phrase in item.text}
        assert held <= set(item.unmet)
    for index in range(0, SHARE, 400):  # a line alone gives what it gave in the crowd
        assert translator.translate([asked[index]])[0].text == found[index].text
