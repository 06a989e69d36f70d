"""Scores with signatures, of models and of files; data on stdout, talk on stderr."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

import mtkit
from mtkit import Recipe
from tests.cli.conftest import Call

REFERENCE = "The cat sat on the mat today.\nDogs like to eat their dinner early.\n"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    texts = {
        "ref.en": REFERENCE * 10,
        "same.txt": REFERENCE * 10,
        "lower.txt": REFERENCE.lower() * 10,
        "bad.txt": "The mat cat.\nDogs eat.\n" * 10,
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return {name: tmp_path / name for name in texts}


def test_file_is_scored_with_signatures(call: Call, files: dict[str, Path]) -> None:
    done = call("evaluate", files["same.txt"], "--reference", files["ref.en"], "--json")
    (record,) = [json.loads(line) for line in done.out.strip().split("\n")]
    values = {score["name"]: score["value"] for score in record["scores"]}
    assert values == pytest.approx({"bleu": 100, "chrf": 100, "ter": 0})
    assert all("version:" in score["signature"] for score in record["scores"])
    table = call("evaluate", files["same.txt"], "-r", files["ref.en"])
    assert "tok:13a" in table.out
    assert "100.00" in table.out
    assert "\x1b" not in table.out


def test_language_that_a_name_does_not_tell_is_asked_for(
    call: Call, files: dict[str, Path]
) -> None:
    texts = files["same.txt"], files["lower.txt"]
    assert "--target-language" in call("evaluate", texts[0], "-r", texts[1]).err
    told = ["--target-language", "en"], ["--tokenize", "13a"]
    assert all("--target" not in call("evaluate", texts[0], "-r", texts[1], *t).err for t in told)
    assert "--target" not in call("evaluate", texts[0], "-r", files["ref.en"]).err


def test_options_of_computing_are_refused_for_files(call: Call, files: dict[str, Path]) -> None:
    for flags in (["--precision", "int8"], ["--workers", 2], ["--compile"], ["--device", "cpu"]):
        done = call("evaluate", files["same.txt"], "-r", files["ref.en"], *flags)
        assert done.code == 2
        assert f"{flags[0]} is for a model" in done.err


def test_variants_are_told_by_their_signatures(call: Call, files: dict[str, Path]) -> None:
    plain = call("evaluate", files["lower.txt"], "-r", files["ref.en"], "--json")
    variant = call(
        "evaluate", files["lower.txt"], "-r", files["ref.en"], "--json",
        "--lowercase", "--tokenize", "none",
    )  # fmt: skip
    bleu = json.loads(variant.out)["scores"][0]
    assert bleu["value"] == pytest.approx(100)
    assert "case:lc" in bleu["signature"]
    assert "tok:none" in bleu["signature"]
    assert json.loads(plain.out)["scores"][0]["value"] < 100
    assert call("evaluate", files["bad.txt"], "-r", files["ref.en"], "--tokenize", "x").code == 2


def test_several_references_are_used(call: Call, files: dict[str, Path]) -> None:
    done = call(
        "evaluate", files["lower.txt"], "-r", files["ref.en"], "-r", files["lower.txt"], "--json"
    )
    bleu = json.loads(done.out)["scores"][0]
    assert bleu["value"] == pytest.approx(100)
    assert "nrefs:2" in bleu["signature"]


def test_systems_are_compared_with_the_first(call: Call, files: dict[str, Path]) -> None:
    names = [files["bad.txt"], files["same.txt"]]
    done = call("evaluate", "--reference", files["ref.en"], *names, "--json")
    first, second = [json.loads(line) for line in done.out.strip().split("\n")]
    assert [first["system"], second["system"]] == [str(name) for name in names]
    assert first["scores"][0]["p_value"] is None
    assert second["scores"][0]["p_value"] < 0.05
    twice = call("evaluate", "--reference", files["ref.en"], names[0], names[0])
    assert twice.err.endswith("named twice\nhint:  name each file once\n")
    table = call("evaluate", "--reference", files["ref.en"], *names)
    assert "chance" in table.err
    assert "*" in table.out


def test_model_is_translated_scored_and_kept(call: Call, model: Path, tmp_path: Path) -> None:
    for language in ("de", "en"):
        (tmp_path / f"test.{language}").write_text("the cat\nthe dog\nthe sun saw a dog\n")
    corpus = f"{tmp_path}/test.{{de,en}}"
    kept = tmp_path / "kept.txt"
    done = call("evaluate", model, corpus, "--json", "-o", kept)
    assert done.code == 0
    scored = call("evaluate", kept, "-r", tmp_path / "test.en", "--json")
    assert json.loads(done.out)["scores"] == json.loads(scored.out)["scores"]
    assert call("translate", model, tmp_path / "test.de").out == kept.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "flags",
    [
        ["--precision", "int8", "--workers", 2],
        ["--beam", 4, "--search", "no_repeat=1", "--search", "min_length=3"],
        ["--search", "temperature=1", "--search", "seed=4"],
        ["--with", "MODEL"],
    ],
)
def test_model_is_evaluated_as_it_translates(
    call: Call, model: Path, tmp_path: Path, flags: list[object]
) -> None:
    flags = [model if flag == "MODEL" else flag for flag in flags]
    for language in ("de", "en"):
        (tmp_path / f"test.{language}").write_text("the cat\nthe dog\nthe sun saw a dog\n")
    kept = tmp_path / "kept.txt"
    done = call("evaluate", model, f"{tmp_path}/test.{{de,en}}", "-o", kept, *flags)
    assert done.code == 0
    translated = call("translate", model, tmp_path / "test.de", *flags).out
    assert kept.read_text(encoding="utf-8") == translated
    for index, flag in enumerate(flags):  # what a score depends on is said with it
        if flag == "--search":
            assert str(flags[index + 1]) in done.err


@pytest.mark.parametrize("flag", ["--output", "--beam", "--search", "--with"])
def test_translations_in_files_are_not_translated(
    call: Call, files: dict[str, Path], flag: str
) -> None:
    done = call("evaluate", files["same.txt"], "-r", files["ref.en"], flag, "1")
    assert done.code == 2
    assert done.err.startswith(f"error: {flag} is for a model that translates")


def test_model_without_test_corpus_asks_for_one(call: Call, model: Path) -> None:
    done = call("evaluate", model)
    assert done.code == 2
    assert "names no test corpus" in done.err


def test_corpus_the_wrong_way_round_is_refused(call: Call, model: Path, tmp_path: Path) -> None:
    for language in ("de", "en"):
        (tmp_path / f"test.{language}").write_text("the cat\n")
    done = call("evaluate", model, f"{tmp_path}/test.{{en,de}}")
    assert done.code == 2
    assert "turn the corpus round" in done.err


def test_line_of_the_kept_file_is_of_the_row_of_its_number(
    call: Call, model: Path, tmp_path: Path
) -> None:
    long = "the cat saw a dog. " * 8
    path, kept = tmp_path / "holes.tsv", tmp_path / "kept.txt"
    path.write_text(f"the cat\ta\n\tb\n{long}\tc\n\t\nate\t \n", encoding="utf-8")
    done = call("evaluate", model, path, "-o", kept)
    assert done.code == 0
    assert "note: line 3 was longer" in done.err
    assert f"in {kept}, with an empty line for each row that was dropped" in done.err
    lines = f"the cat\n\n{long}\n\n\n"
    assert call("translate", model, stdin_bytes=lines.encode()).out == kept.read_text("utf-8")


def test_tag_of_the_recipe_stands_before_sources_that_bring_none(
    call: Call, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, list[str]]] = []
    loaded = mtkit.load(model)
    recipe = loaded.recipe.changed(["search.tag=<2en>"])
    folder, tokenizer = tmp_path / "tagged", loaded.source_tokenizer
    mtkit.save(folder, loaded.model, recipe, tokenizer, tokenizer, {})

    def stream(self: mtkit.Translator, lines: Iterable[str]) -> list[mtkit.Translation]:
        asked = list(lines)
        seen.append((self.tag, asked))
        return self.translate(asked)

    monkeypatch.setattr(mtkit.Translator, "stream", stream)
    for name in ("a", "b"):
        (tmp_path / f"{name}.tsv").write_text(f"{name}\tx\n\tx\nate\tx\n", encoding="utf-8")
    done = call("evaluate", folder, tmp_path / "a.tsv", f"<2ko> {tmp_path / 'b.tsv'}")
    assert done.code == 0
    assert seen == [("<2en>", ["a", "ate"]), ("", ["<2ko> b", "<2ko> ate"])]


@pytest.mark.parametrize("option", ["n_best=2", "alignment=true", "token_scores=true"])
def test_option_that_changes_no_score_is_refused(
    call: Call, model: Path, tmp_path: Path, option: str
) -> None:
    (tmp_path / "pairs.tsv").write_text("the cat\tthe dog\n", encoding="utf-8")
    done = call("evaluate", model, tmp_path / "pairs.tsv", "--search", option)
    assert done.code == 2
    assert f"{option.partition('=')[0]} changes no score" in done.err
    samples = ["--search", "temperature=1", "--search", "n_best=2"]
    assert call("evaluate", model, tmp_path / "pairs.tsv", *samples).code == 0


@pytest.mark.parametrize("command", ["evaluate", "score"])
def test_pairs_with_an_empty_side_are_left_out_counted_and_named(
    call: Call, model: Path, tmp_path: Path, command: str
) -> None:
    path = tmp_path / "holes.tsv"
    path.write_text("the cat\tthe dog\n\tthe sun\nthe dog\tthe cat\n", encoding="utf-8")
    done = call(command, model, path)
    assert done.code == 0, done.err
    assert "1 with an empty source" in done.err
    assert "row 2" in done.err


def test_score_puts_the_recipes_tag_before_what_has_none(
    call: Call, model: Path, tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("the cat\tthe dog\nthe dog\tthe cat\n", encoding="utf-8")
    tagged = tmp_path / "model"
    shutil.copytree(model, tagged)
    recipe = Recipe.load(tagged / "recipe.toml").changed(["search.tag=<2de>"])
    (tagged / "recipe.toml").write_text(recipe.to_toml(), encoding="utf-8")
    mixed = call("score", tagged, f"<2ko> {pairs}", pairs)
    said = call("score", model, f"<2ko> {pairs}", f"<2de> {pairs}")
    assert mixed.code == said.code == 0, mixed.err
    assert mixed.out == said.out
    assert len(set(mixed.out.split())) == 4
