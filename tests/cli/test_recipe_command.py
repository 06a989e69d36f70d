"""The shipped recipes are listed, shown, copied and checked; every key is explained."""

import json
from pathlib import Path

import pytest

import mtkit
from mtkit.cli import shipped
from tests.cli.conftest import Call


def test_list_names_every_shipped_recipe(call: Call) -> None:
    done = call("recipe", "list", "--json")
    listed = [json.loads(line) for line in done.out.strip().split("\n")]
    assert [entry["name"] for entry in listed] == shipped.names()
    assert all(entry["title"] for entry in listed)
    table = call("recipe", "list").out
    assert all(name in table for name in shipped.names())


@pytest.mark.parametrize("name", shipped.names())
def test_every_shipped_recipe_is_whole(
    call: Call, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = shipped.find(name).read_text(encoding="utf-8")
    assert call("recipe", "show", name).out == text
    assert call("recipe", "copy", name).code == 0
    assert (tmp_path / f"{name}.toml").read_text(encoding="utf-8") == text
    assert call("recipe", "copy", name).code == 2, "a copy never overwrites"
    resolved = call("recipe", "show", name, "--resolved").out
    assert mtkit.Recipe.parse(resolved) == mtkit.Recipe.load(shipped.find(name))
    assert text.startswith("#"), "a recipe opens with its command"
    assert any("mtkit " in line for line in shipped.heading(shipped.find(name)))
    if not any("{" in corpus for corpus in mtkit.Recipe.load(shipped.find(name)).data.train):
        assert call("recipe", "check", name).code == 0


@pytest.mark.parametrize("name", shipped.presets())
def test_every_preset_is_a_recipe(name: str) -> None:
    recipe = mtkit.Recipe.from_table(shipped.preset(name))
    corpora = recipe.data
    assert (corpora.train, corpora.valid, corpora.test) == ((), (), ()), "it names no corpora"
    limits = recipe.training
    assert limits.updates or limits.epochs or limits.minutes or recipe.validation.patience


def test_presets_are_named_shown_and_copied(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "tiny, small, base" in call("recipe", "list").err
    assert "# Tens of thousands of pairs" in call("recipe", "show", "tiny").out
    assert "width" in call("recipe", "show", "luong2015/small", "--resolved").out
    assert call("recipe", "copy", "tiny", "mine.toml").code == 0
    assert mtkit.Recipe.load(Path("mine.toml")).model.kind == "transformer"
    assert call("train", "tiny").code == 2, "a preset is no recipe: it names no corpus"


def test_check_finds_an_unknown_key(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[training]\nwarmup = 3\n")
    done = call("recipe", "check", path)
    assert done.code == 2
    assert f"{path}: unknown key training.warmup" in done.err


def test_explain_says_type_default_and_meaning(call: Call) -> None:
    done = call("recipe", "explain", "training.max_tokens")
    assert "4096" in done.out
    assert "rows x longest side" in done.out
    every = [
        json.loads(line) for line in call("recipe", "explain", "--json").out.split("\n") if line
    ]
    assert {knob["key"] for knob in every} == {knob.key for knob in mtkit.knobs()}
    section = call("recipe", "explain", "search").out
    assert "search.beam" in section
    assert "training" not in section


def test_completion_offers_recipes_and_keys() -> None:
    assert shipped.complete("phrasebook-ko-en-q") == ["phrasebook-ko-en-quickstart"]
    assert shipped.complete_key("search.b") == ["search.beam"]
