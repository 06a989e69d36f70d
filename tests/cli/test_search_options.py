"""Every way of searching from the command line: what the library finds, and what is refused."""

import json
from collections.abc import Mapping
from math import fsum
from pathlib import Path

import pytest

import mtkit
from tests.cli.conftest import LINES, Call

TEXT = ["the cat saw a dog", "", "the sun ate", "the dog saw a sun ate a cat", "ate"]
STDIN = "".join(f"{line}\n" for line in TEXT).encode()
WAYS: dict[str, Mapping[str, object]] = {
    "greedy": {"beam": 1},
    "wide": {"beam": 6},
    "long": {"max_length_ratio": 3.0, "length_penalty": 2.0},
    "n-best": {"n_best": 4},
    "sampling": {"temperature": 1.0, "seed": 3},
    "top-k": {"temperature": 2.0, "top_k": 3, "n_best": 2},
    "top-p": {"temperature": 2.0, "top_p": 0.5, "seed": 1},
    "diverse": {"groups": 3, "diversity": 9.0, "n_best": 3},
    "risk": {"beam": 8, "mbr": "chrf"},
    "risk of samples": {"beam": 8, "temperature": 1.0, "mbr": "bleu"},
    "coverage": {"beam": 6, "coverage_penalty": 5.0},
    "least length": {"min_length": 6},
    "no repeat": {"no_repeat": 1, "max_length_ratio": 3.0},
    "patience": {"beam": 3, "patience": 4.0, "max_length_ratio": 3.0},
    "forbidden": {"forbid": ("a", "e")},
    "longest": {"max_length_offset": 1, "max_length_ratio": 0.0},
}
# What stands on the command line by itself; all else is --search KEY=VALUE.
FLAGS = {"beam", "n_best", "length_penalty", "max_length_ratio"}


def flags(options: Mapping[str, object]) -> list[str]:
    found: list[str] = []
    for key, value in options.items():
        if key in FLAGS:
            found += [f"--{key.replace('_', '-')}", str(value)]
        elif isinstance(value, tuple):
            found += [part for each in value for part in ("--search", f"{key}={each}")]
        else:
            found += ["--search", f"{key}={value}"]
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: mtkit.Recipe) -> Path:
    """One that writes words: its vocabulary has no bytes."""
    import torch

    folder = tmp_path_factory.mktemp("models") / "words"
    section = mtkit.TokenizerSection(kind="bpe", vocabulary=40, byte_fallback=False)
    tokenizer = mtkit.Tokenizer.train(LINES, section)
    torch.manual_seed(6)
    built = mtkit.build(tiny_recipe.model, tokenizer.size, tokenizer.size)
    with torch.no_grad():
        for weight in built.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.15)
    mtkit.save(folder, built, tiny_recipe, tokenizer, tokenizer, {})
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """A model of another kind with the same tokenizer."""
    import torch

    table = {"kind": "recurrent", "cell": "gru", "memory": "additive", "width": 12, "embedding": 8}
    loaded = mtkit.load(model)
    recipe = mtkit.Recipe.from_table({"model": table, "data": {"max_length": 12}})
    torch.manual_seed(2)
    built = mtkit.build(recipe.model, loaded.source_tokenizer.size, loaded.target_tokenizer.size)
    folder = tmp_path_factory.mktemp("models") / "other"
    tokenizers = loaded.source_tokenizer, loaded.target_tokenizer
    mtkit.save(folder, built, recipe, *tokenizers, {})
    return folder


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: mtkit.Recipe) -> Path:
    """A model with a tokenizer of its own."""
    section = mtkit.TokenizerSection(kind="bpe", vocabulary=290)
    tokenizer = mtkit.Tokenizer.train(LINES, section)
    built = mtkit.build(tiny_recipe.model, tokenizer.size, tokenizer.size)
    folder = tmp_path_factory.mktemp("models") / "stranger"
    mtkit.save(folder, built, tiny_recipe, tokenizer, tokenizer, {})
    return folder


def by_library(model: Path, options: Mapping[str, object]) -> list[mtkit.Translation]:
    translator = mtkit.Translator.load(model, device="cpu")
    translator.options = translator.options.fitted(**options)
    return translator.translate(TEXT)


@pytest.mark.parametrize("way", WAYS)
def test_way_of_searching_is_the_library_s(call: Call, model: Path, way: str) -> None:
    done = call("translate", model, *flags(WAYS[way]), stdin_bytes=STDIN)
    assert done.code == 0
    found = by_library(model, WAYS[way])
    if "n_best" in WAYS[way]:
        wanted = [
            f"{number}\t{item.score:.4f}\t{item.text}"
            for number, line in enumerate(found, start=1)
            for item in line.alternatives or (line,)
        ]
    else:
        wanted = [item.text for item in found]
    assert done.out.split("\n")[:-1] == wanted
    plain = call("translate", model, stdin_bytes=STDIN).out
    assert done.out != plain, "an option that changes nothing here tests nothing"


def test_token_scores_and_alignments_are_written_on_request(call: Call, model: Path) -> None:
    plain = call("translate", model, stdin_bytes=STDIN).out.split("\n")
    aligned = call("translate", model, "--search", "alignment=true", stdin_bytes=STDIN).out
    for line, text, source in zip(aligned.split("\n")[:-1], plain, TEXT, strict=False):
        written, links = line.split("\t")
        assert written == text
        pairs = [tuple(map(int, link.split("-"))) for link in links.split()]
        assert all(place < len(source.split()) for place, _ in pairs)
    done = call("translate", model, "--json", "--search", "alignment=true", stdin_bytes=STDIN)
    for record in map(json.loads, done.out.splitlines()):
        assert len(record.get("pieces", [])) == len(record.get("token_scores", []))
        assert fsum(record.get("token_scores", [])) == pytest.approx(
            record["log_probability"], abs=1e-4
        )
        assert len(record.get("attention", [])) in (0, record["tokens"] + 1)


def test_ensemble_of_two_kinds_is_neither_of_them(call: Call, model: Path, other: Path) -> None:
    both = call("translate", model, "--with", other, "--scores", stdin_bytes=STDIN)
    assert both.code == 0
    translator = mtkit.Translator.load(model, other, device="cpu")
    wanted = [f"{item.score:.4f}\t{item.text}" for item in translator.translate(TEXT)]
    assert both.out.split("\n")[:-1] == wanted
    for alone in (model, other):
        assert call("translate", alone, "--scores", stdin_bytes=STDIN).out != both.out


def test_ensemble_of_a_model_with_itself_is_that_model(call: Call, model: Path) -> None:
    alone = call("translate", model, stdin_bytes=STDIN).out
    assert call("translate", model, "--with", model, stdin_bytes=STDIN).out == alone


@pytest.mark.parametrize("command", ["translate", "score", "evaluate"])
def test_ensemble_of_models_that_share_no_vocabulary_is_refused(
    call: Call, model: Path, stranger: Path, command: str
) -> None:
    corpus = [] if command == "translate" else ["phrasebook:de-en:test#size=2"]
    done = call(command, model, *corpus, "--with", stranger, stdin_bytes=STDIN)
    assert done.code == 2
    assert done.err.startswith(f"error: {model} and {stranger} have different source tokenizers")
    assert f"mtkit train {model}/recipe.toml -o NEW --set training.seed=2" in done.err
    assert done.out == ""


@pytest.mark.parametrize("kind", ["model", "other"])
def test_records_ask_for_their_own(call: Call, kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    records: list[dict[str, object]] = [
        {"id": 1, "source": TEXT[0], "kept": {"deep": [1, None]}},
        {"id": 2, "source": TEXT[0], "prefix": "a dog"},
        {"id": 3, "source": TEXT[0], "constraints": ["sun", "the cat"]},
        {"id": 4, "source": TEXT[0], "forbidden": ["a", "t"], "n_best": 3},
        {"id": 5, "source": "", "line": "mine"},
    ]
    text = "".join(f"{json.dumps(record)}\n" for record in records)
    done = call("translate", folder, "--json-lines", stdin_bytes=text.encode())
    assert done.code == 0
    found = [json.loads(line) for line in done.out.splitlines()]
    assert [record["line"] for record in found] == [1, 2, 3, 4, 5]
    for record, asked in zip(found, records, strict=True):
        taken = record.pop("input", {})
        assert {key: taken.get(key, record.get(key)) for key in asked} == asked
        assert "unmet" not in record
    plain = call("translate", folder, stdin_bytes=STDIN).out.split("\n")
    assert found[0]["translation"] == plain[0]
    assert found[1]["translation"].startswith("a dog")
    assert all(phrase in found[2]["translation"] for phrase in ("sun", "the cat"))
    assert len(found[3]["alternatives"]) == 3
    assert not {"a", "t"} & set("".join(item["text"] for item in found[3]["alternatives"]))
    assert found[4]["translation"] == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--search", "tempurature=1"], "there is no search option tempurature"),
        (["--search", "temperature"], "temperature is not key=value"),
        (["--search", "temperature=hot"], "temperature = hot is no number"),
        (["--search", "temperature=-1"], "temperature = -1.0 is not finite and 0 or more"),
        (["--search", "temperature=nan"], "temperature = nan is not finite and 0 or more"),
        (["--search", "top_k=5"], "top_k = 5 is for samples"),
        (["--search", "seed=5"], "seed = 5 is for samples"),
        (["--scores", "--json"], "--scores is for text"),
        (["--scores", "--json-lines"], "--scores is for text"),
        (["--search", "groups=3", "--beam", "4"], "groups = 3 does not divide the beam of 4"),
        (["--search", "groups=2", "--search", "temperature=1"], "samples have no groups"),
        (["--search", "mbr=ter"], "mbr = ter is no utility"),
        (["--search", "forbid= "], "a forbidden phrase is empty"),
        (["--search", "no_repeat=-1"], "no_repeat = -1 is less than 0"),
        (["--search", "unknown=maybe"], "unknown = maybe is not true or false"),
        (["--search", "alignment=true", "--search", "alignment_layer=9"], "9"),
        (["--n-best", "5", "--beam", "2"], "n-best = 5 does not fit a beam of 2"),
        (["--length-penalty", "1e9"], "length_penalty = 1e+09 leaves of scores only zeros"),
        (["--beam", "0"], "invalid value for '--beam'"),
        (["--n-best", "x"], "invalid value for '--n-best'"),
        (["--batch", "0"], "invalid value for '--batch'"),
        (["--workers", "-1"], "invalid value for '--workers'"),
        (["--precision", "int4"], "invalid value for '--precision'"),
        (["--device", "tpu"], "tpu"),
        (["--with", "nowhere"], "nowhere: there is no such model"),
    ],
)
def test_search_that_cannot_be_is_one_sentence(
    call: Call, model: Path, arguments: list[str], sentence: str
) -> None:
    done = call("translate", model, *arguments, stdin_bytes=STDIN)
    assert done.code == 2
    assert done.out == ""
    first, *rest = done.err.splitlines()
    assert first.startswith("error: ")
    assert sentence in first
    assert len(rest) <= 1


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        ("nothing", "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"text": "a"}', "the field source is missing"),
        ('{"source": 1}', "source is not text"),
        ('{"source": "a", "constraints": "b"}', "constraints is not a list of phrases"),
        ('{"source": "a", "forbidden": [""]}', "forbidden is not a list of phrases"),
        ('{"source": "a", "n_best": 0}', "n_best = 0 is no number from 1 to 1000"),
        ("", "not JSON"),
    ],
)
def test_record_that_is_none_gets_an_error_in_its_place(
    call: Call, model: Path, record: str, sentence: str
) -> None:
    text = f'{{"source": "the cat"}}\n{record}\n{{"source": "the dog"}}\n'
    done = call("translate", model, "--json-lines", stdin_bytes=text.encode())
    assert done.code == 0
    first, second, third = map(json.loads, done.out.splitlines())
    assert second["line"] == 2
    assert sentence in second["error"]
    assert "translation" in first
    assert "translation" in third


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    (tmp_path / "pairs.tsv").write_text("the cat\tthe dog\nthe sun\ta cat\nate\tsaw\n")
    return str(tmp_path / "pairs.tsv")


def test_score_prints_a_log_probability_a_pair(call: Call, model: Path, corpus: str) -> None:
    done = call("score", model, corpus)
    assert done.code == 0
    numbers = [float(line) for line in done.out.splitlines()]
    assert len(numbers) == 3
    assert all(number < 0 for number in numbers)
    assert "3 pairs" in done.err
    listed = call("score", model, corpus, "--json", "--with", model)
    for number, record in zip(numbers, map(json.loads, listed.out.splitlines()), strict=True):
        assert record["log_probability"] == pytest.approx(number, abs=1e-4)
        assert fsum(record["token_scores"]) == pytest.approx(number, abs=1e-4)
        assert len(record["pieces"]) == len(record["token_scores"]) == record["tokens"] + 1


def test_score_of_a_row_stands_in_its_line(call: Call, model: Path, tmp_path: Path) -> None:
    holes = tmp_path / "holes.tsv"
    holes.write_text("\tthe sun\nthe cat\tthe dog\n\t\nate\tsaw\nate\t \n", encoding="utf-8")
    done = call("score", model, holes)
    assert [bool(line) for line in done.out.split("\n")] == [False, True, False, True, False, False]
    assert "2 pairs:" in done.err
    listed = call("score", model, holes, "--json")
    assert [json.loads(line)["pair"] for line in listed.out.splitlines()] == [2, 4]


@pytest.mark.parametrize(("text", "what"), [("", "no pair"), ("\tthe sun\n", "no whole pair")])
def test_corpus_without_a_pair_to_score_is_an_error_with_a_way_out(
    call: Call, model: Path, tmp_path: Path, text: str, what: str
) -> None:
    (tmp_path / "pairs.tsv").write_text(text, encoding="utf-8")
    done = call("score", model, tmp_path / "pairs.tsv")
    assert (done.code, done.out) == (2, "")
    assert f"holds {what}: there is nothing to score\nhint:  name pairs" in done.err


def test_score_of_a_translation_is_that_of_the_search(
    call: Call, model: Path, tmp_path: Path
) -> None:
    source = "the cat saw a dog"
    found = json.loads(call("translate", model, "--json", stdin_bytes=f"{source}\n".encode()).out)
    tokenizer = mtkit.load(model).target_tokenizer
    pieces = found["pieces"][:-1]
    if tokenizer.encode_pieces([found["translation"]]) != [pieces]:
        pytest.skip("the search has spelt its text in other pieces than the tokenizer would")
    (tmp_path / "pairs.tsv").write_text(f"{source}\t{found['translation']}\n", encoding="utf-8")
    scored = json.loads(call("score", model, tmp_path / "pairs.tsv", "--json").out)
    assert scored["log_probability"] == pytest.approx(found["log_probability"], abs=1e-4)
    assert scored["score"] == pytest.approx(found["score"], abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["MODEL"], "missing argument 'CORPUS...'"),
        (["nowhere", "phrasebook:de-en"], "nowhere: there is no such model"),
        (["MODEL", "missing.tsv"], "missing.tsv"),
        (["MODEL", "EMPTY"], "holds no pair"),
        (["MODEL", "phrasebook:de-xx"], "xx"),
    ],
)
def test_score_of_nothing_is_one_sentence(
    call: Call, model: Path, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    (tmp_path / "empty.tsv").write_bytes(b"")
    stand_for = {"MODEL": str(model), "EMPTY": str(tmp_path / "empty.tsv")}
    done = call("score", *(stand_for.get(name, name) for name in arguments))
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert sentence in done.err.splitlines()[0]
    assert done.out == ""
