"""A translator by compiled functions: the same texts, in any batch, with every way of searching."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mtkit.decoding.options import SearchOptions
from mtkit.decoding.requests import Request
from mtkit.decoding.translator import Translator
from mtkit.recipe import TransformerSection
from tests.decoding.conftest import CORPUS
from tests.decoding.test_selftest import saved

pytestmark = pytest.mark.usefixtures("compiler")
SECTION = TransformerSection(
    kind="transformer", width=32, heads=2, feed_forward=48, encoder_layers=2, decoder_layers=2
)
LINES = [*CORPUS[:12], "", "a" * 250, "b"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("model"), SECTION)


def texts(translator: Translator, size: int, lines: list[str]) -> list[str]:
    groups = (lines[first : first + size] for first in range(0, len(lines), size))
    return [found.text for group in groups for found in translator.translate(group)]


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_compiled_line_is_the_same_in_any_batch(folder: Path, precision: str) -> None:
    fast = Translator.load(folder, device="cpu", precision=precision, compiled=True)
    assert fast.uncompiled == ""
    wanted = [(found.text, found.log_probability) for found in fast.translate(LINES)]
    for size in (1, 4):
        turned = LINES[::-1]
        groups = [turned[first : first + size] for first in range(0, len(turned), size)]
        found = [item for group in groups for item in fast.translate(group)]
        assert [(item.text, item.log_probability) for item in found[::-1]] == wanted


@pytest.mark.parametrize(
    "options",
    [
        {"beam": 1},
        {"beam": 4, "n_best": 4},
        {"beam": 4, "groups": 2},
        {"beam": 3, "no_repeat": 2, "min_length": 4},
        {"beam": 3, "alignment": True, "token_scores": True},
        {"temperature": 1.0, "seed": 3, "n_best": 2},
    ],
    ids=str,
)
def test_compiled_search_finds_what_the_plain_one_finds(
    folder: Path, options: dict[str, Any]
) -> None:
    plain, fast = (Translator.load(folder, device="cpu", compiled=way) for way in (False, True))
    for translator in (plain, fast):
        translator.options = replace(SearchOptions(max_length_ratio=0.7), **options)
    for ours, theirs in zip(fast.translate(LINES), plain.translate(LINES), strict=True):
        assert ours.text == theirs.text
        assert ours.score == pytest.approx(theirs.score, abs=1e-4)
        assert ours.token_scores == pytest.approx(theirs.token_scores, abs=1e-3)
        assert ours.alignment == theirs.alignment


def test_compiled_search_meets_what_lines_demand(folder: Path) -> None:
    fast = Translator.load(folder, device="cpu", compiled=True)
    plain = Translator.load(folder, device="cpu")
    word = plain.translate(["a"])[0].text.split()[0]
    asked = [Request("a", constraints=(CORPUS[0].split()[0],)), Request("a", forbidden=(word,))]
    found = fast.translate(asked)
    assert [item.text for item in found] == [item.text for item in plain.translate(asked)]
    assert CORPUS[0].split()[0] in found[0].text
    assert word not in found[1].text


def test_compiled_models_agree_in_an_ensemble_and_among_workers(folder: Path) -> None:
    plain = Translator.load(folder, folder, device="cpu")
    fast = Translator.load(folder, folder, device="cpu", compiled=True)
    alone = Translator.load(folder, device="cpu", compiled=True, workers=2)
    alone.max_tokens = 30
    try:
        wanted = texts(plain, 99, LINES)
        assert texts(fast, 99, LINES) == wanted
        assert texts(alone, 99, LINES) == wanted
    finally:
        alone.close()


def test_translator_says_why_it_is_not_compiled(tmp_path: Path) -> None:
    narrow = saved(tmp_path, SECTION.model_copy(update={"width": 24}))
    translator = Translator.load(narrow, device="cpu", compiled=True)
    assert "no multiples of 16" in translator.uncompiled
    plain = Translator.load(narrow, device="cpu")
    assert texts(translator, 9, LINES) == texts(plain, 9, LINES)
