"""Text to pieces or ids and back, by a file or by a model's folder."""

import gzip
from pathlib import Path

import pytest

from mtkit.symbols import UNK
from tests.cli.conftest import LINES, Call


def test_text_survives_pieces_and_ids(call: Call, model: Path) -> None:
    text = "the cat saw a dog\n\n강아지 ½\n"
    for flags in ([], ["--ids"]):
        coded = call("tokenizer", "encode", model, *flags, stdin_bytes=text.encode())
        assert coded.out.count("\n") == 3
        back = call("tokenizer", "decode", model, *flags, stdin_bytes=coded.out.encode())
        assert back.out == text
    assert all(part.isdecimal() for part in coded.out.split())


def test_trained_file_is_a_tokenizer(call: Call, tmp_path: Path) -> None:
    (tmp_path / "a.de").write_text("\n".join(LINES) + "\n")
    (tmp_path / "a.en").write_text("\n".join(LINES) + "\n")
    target = tmp_path / "joint.spm"
    trained = call(
        "tokenizer", "train", f"{tmp_path}/a.{{de,en}}", "-o", target, "--vocabulary", 290
    )
    assert trained.code == 0
    assert trained.out == ""
    assert "290 pieces" in trained.err
    assert call("tokenizer", "encode", target, stdin_bytes=b"the cat\n").out.startswith("▁")
    one = call(
        "tokenizer", "train", tmp_path / "a.de", "-o", target, "--kind", "char", "--vocabulary", 50
    )
    assert one.code == 0


@pytest.mark.parametrize("corpus", ["a.de", "a.{de,en}"])
def test_corpus_is_not_overwritten_by_its_vocabulary(
    call: Call, tmp_path: Path, corpus: str
) -> None:
    text = "\n".join(LINES) + "\n"
    for name in ("a.de", "a.en"):
        (tmp_path / name).write_text(text)
    done = call("tokenizer", "train", tmp_path / corpus, "-o", tmp_path / "a.de")
    assert done.code == 2
    assert "its text would be lost" in done.err
    assert (tmp_path / "a.de").read_text() == text


def test_too_large_a_vocabulary_leaves_no_file(call: Call, tmp_path: Path) -> None:
    (tmp_path / "a.de").write_text("abc\n")
    done = call("tokenizer", "train", tmp_path / "a.de", "-o", tmp_path / "x.spm")
    assert done.code == 2
    assert list(tmp_path.glob("*.spm*")) == []
    assert "hint:  --vocabulary " in done.err  # the flag of this command, not a recipe's key


def test_packed_json_lines_are_read_as_pairs(call: Call, tmp_path: Path) -> None:
    rows = "".join(f'{{"de": "{line}", "en": "{line}"}}\n' for line in LINES)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(rows.encode()))
    target = tmp_path / "x.spm"
    done = call(
        "tokenizer", "train", tmp_path / "a.jsonl.gz", "-o", target, "--kind", "char",
        "--vocabulary", 50,
    )  # fmt: skip
    assert done.code == 0
    ids = call("tokenizer", "encode", target, "--ids", stdin_bytes=b"{\n").out.split()
    assert str(UNK) in ids  # no brace was among the text


@pytest.mark.parametrize(
    ("flags", "text", "hint"),
    [
        (["--ids"], b"5 99999\n", "ids go from 0 to "),
        (["--ids"], b"5 the\n", "pieces are read without --ids"),
        ([], b"nonsense\n", "text becomes pieces by: mtkit tokenizer encode "),
        ([], b"99999\n", "numbers are read with --ids"),
    ],
)
def test_what_is_no_token_is_named(
    call: Call, model: Path, flags: list[str], text: bytes, hint: str
) -> None:
    done = call("tokenizer", "decode", model, *flags, stdin_bytes=text)
    assert done.code == 2
    assert "line 1:" in done.err
    assert f"hint:  {hint}" in done.err
