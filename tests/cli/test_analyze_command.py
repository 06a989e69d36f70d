"""`mtkit analyze` and `mtkit compare`: tables for people, JSON lines for programs, pictures."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.table import Table

import mtkit
from mtkit.cli import output
from mtkit.cli.analyze import pairs_of
from tests.cli.conftest import Call

PAIRS = {
    "the cat saw a dog": "the dog saw the cat",
    "a sun ate": "the sun ate",
    "the dog": "the dog",
    "the cat saw a dog a cat": "a cat saw a dog",
}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{source}\t{target}\n" for source, target in PAIRS.items()))
    return path


def test_gradients_as_table_and_json(call: Call, model: Path, corpus: Path) -> None:
    table = call("analyze", "gradients", model, "--corpus", corpus)
    assert table.code == 0, table.err
    assert "encoder: left at" in table.out
    assert "nan" not in table.out
    lines = call("analyze", "gradients", model, "--corpus", corpus, "--json").out.splitlines()
    found = [json.loads(line) for line in lines]
    assert [item["moment"] for item in found] == ["initial", "trained"]
    assert all(item["encoder"]["norms"][0] == 1 for item in found)
    # This model was never trained: its weights are those that the recipe's seed draws.
    assert found[0]["encoder"]["norms"] == found[1]["encoder"]["norms"]
    assert found[0]["radius"] is None  # a Transformer has no recurrent matrix


def test_length_puts_every_pair_into_one_bin(call: Call, model: Path, corpus: Path) -> None:
    lines = call("analyze", "length", model, "--corpus", corpus, "--json").out.splitlines()
    (row,) = map(json.loads, lines)
    assert (row["run"], row["label"], row["sentences"]) == (str(model), "1-10", 4)
    assert [score["name"] for score in row["scores"]] == ["bleu", "chrf"]
    copies = call("analyze", "length", model, "--corpus", corpus, "--by", "copies")
    assert copies.code == 0, copies.err
    assert "2 or more" in copies.out
    assert "nrefs:1" in copies.out
    assert call("analyze", "length", model, "--corpus", corpus, "--by", "colour").code == 2


def test_attention_shows_maps_and_words(
    call: Call, model: Path, corpus: Path, tmp_path: Path
) -> None:
    asked = ["analyze", "attention", model, "--source", "the cat", "--target", "a dog"]
    shown = call(*asked, "--heads")
    assert shown.code == 0, shown.err
    assert "layer 1 head 2, entropy" in shown.out
    assert re.search(r"^dog <- (the|cat)$", shown.out, re.MULTILINE)
    item = json.loads(call(*asked, "--json").out)
    assert len(item["maps"][0]["weights"]) == len(item["target"])
    assert all(sum(row) == pytest.approx(1, abs=1e-5) for row in item["maps"][0]["weights"])
    assert "the" in call("analyze", "attention", model, "--corpus", corpus).out
    pytest.importorskip("matplotlib", reason="needs pip install -e .[plot]")
    assert call(*asked, "--plot", tmp_path / "map.svg").code == 0
    assert "<svg" in (tmp_path / "map.svg").read_text()


def test_compare_writes_a_table_and_a_page(
    call: Call, model: Path, corpus: Path, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    shown = call("compare", model, model, "--corpus", corpus, "--html", page)
    assert shown.code == 0, shown.err
    assert "parameters" in shown.out
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"<script|<link|@import|url\(|(href|src)=", text)
    for heading in ("Runs", "By source length", "Reach of the gradients", "Attention"):
        assert f"<h2>{heading}</h2>" in text
    rows = call("compare", model, model, "--corpus", corpus, "--json").out.splitlines()
    first, second = map(json.loads, rows)
    assert first["p_values"] == {"bleu": None, "chrf": None}
    assert second["p_values"]["bleu"] == 1.0
    assert first["bleu"] == second["bleu"]


def test_mistakes_are_sentences(call: Call, model: Path) -> None:
    for command in (["analyze", "gradients"], ["analyze", "length"], ["compare"]):
        missing = call(*command, "no/run")
        assert missing.code == 2
        said = "error: no/run: there is no such model directory\nhint:  see: ls no\n"
        assert missing.err == said
        assert call(*command, "no/run", "--corpus", "phrasebook:de-en#size=2").err == said
    unnamed = call("analyze", "length", model)
    assert unnamed.code == 2
    assert "names no data.valid" in unnamed.err


def test_folder_without_a_recipe_is_told_so(call: Call, tmp_path: Path, corpus: Path) -> None:
    for command in (["analyze", "gradients"], ["compare", "--corpus", corpus]):
        done = call(*command, tmp_path)
        assert done.code == 2
        assert done.err.startswith(f"error: {tmp_path}: recipe.toml is missing\nhint: ")


def test_attention_of_a_tagged_model_sees_the_tag(model: Path) -> None:
    loaded = mtkit.load(model)
    search = loaded.recipe.search.model_copy(update={"tag": "<2de>"})
    recipe = loaded.recipe.model_copy(update={"search": search})
    found = mtkit.attention(replace(loaded, recipe=recipe), "the cat", "a dog")
    (tagged,) = loaded.source_tokenizer.encode_pieces(["<2de> the cat"])
    assert found.source == (*tagged, "</s>")
    bare = mtkit.attention(replace(loaded, recipe=recipe), "the cat", "a dog", tag="")
    (pieces,) = loaded.source_tokenizer.encode_pieces(["the cat"])
    assert bare.source == (*pieces, "</s>")


def test_corpus_that_brings_its_tags_gets_no_other(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("the cat\ta dog\n" * 3, encoding="utf-8")
    pairs, tag = pairs_of(f"<2de> {tmp_path}/x.tsv", [], 2)
    assert (len(pairs), pairs[0].source, tag) == (2, "<2de> the cat", "")
    assert pairs_of(f"{tmp_path}/x.tsv", [])[1] is None
    (tmp_path / "none.tsv").write_text("\t\n")
    with pytest.raises(mtkit.DataError, match="holds no pair"):
        pairs_of(f"{tmp_path}/none.tsv", [])


def test_table_that_is_wider_than_the_terminal_is_not_cut(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(output, "is_terminal", lambda stream: True)
    table = Table("run", *("number",) * 6, box=None)
    table.add_row("a-rather-long-name-of-a-run", *("1.0e-05",) * 6)
    output.draw(table)
    shown = capfdbinary.readouterr().out.decode()
    assert shown.count("1.0e-05") == 6
    assert "…" not in shown
