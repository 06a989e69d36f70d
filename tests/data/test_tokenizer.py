"""Text to ids and back."""

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtkit.data.tokenizer import Tokenizer, normalise
from mtkit.errors import DataError, ModelError, RecipeError
from mtkit.recipe import TokenizerSection
from mtkit.symbols import BOS, EOS, PAD, PIECES, UNK

KINDS = ("unigram", "bpe", "char", "word")
WITH_BYTES = ("unigram", "bpe")
SIZES = {"unigram": 332, "bpe": 360, "char": 100, "word": 30}  # what LINES allow

LINES = [
    "Das Haus ist groß, und der Garten ist klein.",
    "Der kleine Hund läuft durch das große Haus.",
    "Wo ist der Hund? Er ist im Garten, nicht im Haus!",
    "나는 어제 학교에 갔다. ㅋㅋㅋ",
    "“Zitat” … und ½ Liter, 1987 Mal.",
    "The dog runs through the big house and the small garden.",
] * 5


def section(kind: str, vocabulary: int, **knobs: object) -> TokenizerSection:
    return TokenizerSection.model_validate({"kind": kind, "vocabulary": vocabulary, **knobs})


@pytest.fixture(scope="module", params=WITH_BYTES)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return Tokenizer.train(LINES, section(request.param, SIZES[request.param]))


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_have_the_ids_of_symbols(kind: str) -> None:
    trained = Tokenizer.train(LINES, section(kind, SIZES[kind]))
    assert [trained.piece(token) for token in (PAD, UNK, BOS, EOS)] == list(PIECES)
    assert not {PAD, BOS, EOS} & set(trained.encode(["<pad> <s> Der Hund </s>"])[0])


@given(text=st.text(max_size=40))
@settings(max_examples=400, deadline=None)
def test_decode_gives_back_any_text_as_normalised(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode([text])) == [normalise(text)]


def test_every_character_of_unicode_comes_back(tokenizer: Tokenizer) -> None:
    # All of the planes that hold assigned characters, surrogates included, 64 to a line.
    codes = [*range(0x33480), *range(0xE0000, 0xE0200)]
    lines = ["".join(map(chr, codes[i : i + 64])) for i in range(0, len(codes), 64)]
    assert tokenizer.decode(tokenizer.encode(lines)) == [normalise(line) for line in lines]


@pytest.mark.parametrize(
    "text",
    ["ㅋㅋㅋ", "“Zitat” ‘so’ … ½ ² №", "Groß GROSS", "Ａ（全角）", "x\u2028y\u0085z\u00a0", "a\0b"],
)
def test_encoding_keeps_text_that_nfkc_would_rewrite(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode([text])) == [text]


def test_composed_and_decomposed_text_have_the_same_ids(tokenizer: Tokenizer) -> None:
    text = "Er läuft, 나는 학교에 갔다"
    apart = unicodedata.normalize("NFD", text)
    assert apart != text
    assert tokenizer.encode([apart]) == tokenizer.encode([text])


def test_what_is_not_unicode_becomes_the_replacement_character(tokenizer: Tokenizer) -> None:
    texts = tokenizer.decode(tokenizer.encode(["a\ud800b", "\ud83d\ude00", "\udfff"]))
    assert texts == ["a\ufffdb", "😀", "\ufffd"]


def test_decoding_always_gives_one_line(tokenizer: Tokenizer) -> None:
    letter = tokenizer.encode(["a"])[0][-1]
    ids = {tokenizer.piece(token): token for token in range(tokenizer.size)}
    rows = [
        [letter, ids["<0x0A>"], letter, ids["<0x0D>"], letter],
        [ids["<0xFF>"], letter],  # no character at all
        [BOS, letter, EOS, PAD, PAD],
        [],
    ]
    assert tokenizer.decode(rows) == ["a a a", "\ufffda", "a", ""]


def test_pieces_belong_to_the_ids(tokenizer: Tokenizer) -> None:
    ids, pieces = tokenizer.encode(LINES), tokenizer.encode_pieces(LINES)
    assert [[tokenizer.piece(token) for token in row] for row in ids] == pieces


def test_no_lines_are_no_ids(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode([]) == []
    assert tokenizer.decode([]) == []
    assert tokenizer.encode(["", "  "]) == [[], []]


@pytest.mark.parametrize("kind", WITH_BYTES)
def test_training_gives_the_same_tokenizer_again(kind: str) -> None:
    first, second = (Tokenizer.train(iter(LINES), section(kind, SIZES[kind])) for _ in range(2))
    assert first.fingerprint == second.fingerprint


def test_saved_tokenizer_is_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "joint.spm")
    loaded = Tokenizer.load(tmp_path / "joint.spm")
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.encode(LINES) == tokenizer.encode(LINES)
    assert Tokenizer(tokenizer.to_bytes()).fingerprint == tokenizer.fingerprint


def test_sampling_follows_its_seed_and_keeps_the_text(tokenizer: Tokenizer) -> None:
    plain = tokenizer.encode(LINES)
    first, again, other = (tokenizer.encode(LINES, sampling=0.3, seed=seed) for seed in (7, 7, 8))
    assert first == again
    assert first != other
    assert first != plain
    assert tokenizer.decode(first) == tokenizer.decode(plain)
    assert tokenizer.encode(LINES) == plain, "sampling must leave no trace"


def test_text_of_too_few_pieces_is_told_not_sized() -> None:
    with pytest.raises(DataError, match="1 lines are too few to train a tokenizer on"):
        Tokenizer.train(["a"], section("bpe", 100, byte_fallback=False))


@pytest.mark.parametrize("kind", ["unigram", "bpe", "word"])
@pytest.mark.parametrize("bytes_too", [True, False])
def test_largest_vocabulary_that_the_error_names_works(kind: str, bytes_too: bool) -> None:
    with pytest.raises(RecipeError) as raised:
        Tokenizer.train(LINES, section(kind, 100_000, byte_fallback=bytes_too))
    largest = named_size(raised.value)
    assert f"at most {largest}" in raised.value.message
    assert Tokenizer.train(LINES, section(kind, largest, byte_fallback=bytes_too)).size == largest
    with pytest.raises(RecipeError):
        Tokenizer.train(LINES, section(kind, largest + 1, byte_fallback=bytes_too))


@pytest.mark.parametrize("kind", WITH_BYTES)
@pytest.mark.parametrize("bytes_too", [True, False])
def test_smallest_vocabulary_that_the_error_names_works(kind: str, bytes_too: bool) -> None:
    with pytest.raises(RecipeError) as raised:
        Tokenizer.train(LINES, section(kind, 8, byte_fallback=bytes_too))
    smallest = named_size(raised.value)
    assert f"less than the {smallest} " in raised.value.message
    assert Tokenizer.train(LINES, section(kind, smallest, byte_fallback=bytes_too)).size == smallest
    with pytest.raises(RecipeError):
        Tokenizer.train(LINES, section(kind, smallest - 1, byte_fallback=bytes_too))


def test_char_vocabulary_is_at_most_what_was_asked() -> None:
    characters = {c for line in LINES for c in line if c != " "} | {"▁"}
    assert Tokenizer.train(LINES, section("char", 5000)).size == len(characters) + len(PIECES)
    assert Tokenizer.train(LINES, section("char", 20)).size == 20


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lines", [[], ["", " "], ["\t", "\r"]])
def test_training_without_text_is_an_error(kind: str, lines: list[str]) -> None:
    with pytest.raises(DataError, match="no text to train"):
        Tokenizer.train(lines, section(kind, 300))


def test_training_learns_from_very_long_lines() -> None:
    # SentencePiece leaves out lines beyond 4,192 bytes unless told otherwise.
    trained = Tokenizer.train(["a b " * 5000 + "ж"], section("char", 100))
    assert UNK not in trained.encode(["ж"])[0]


def test_training_survives_nul_and_half_surrogates() -> None:
    trained = Tokenizer.train([*LINES, "a\0b", "\ud800x"], section("bpe", 360))
    assert trained.decode(trained.encode(["a\0b"])) == ["a\0b"]


def test_error_of_the_lines_comes_through_training() -> None:
    def lines() -> Iterator[str]:
        yield from LINES
        raise DataError("line 31 is broken", "mend it")

    with pytest.raises(DataError, match="line 31 is broken"):
        Tokenizer.train(lines(), section("bpe", 340))


def test_file_that_is_no_tokenizer_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "joint.spm"
    with pytest.raises(ModelError, match=re.escape(str(path))):
        Tokenizer.load(path)
    for content in (b"", b"not a model", b"\x00" * 100):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=re.escape(str(path))):
            Tokenizer.load(path)


def test_truncated_tokenizer_is_an_error(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "joint.spm"
    path.write_bytes(tokenizer.to_bytes()[:-1000])
    with pytest.raises(ModelError, match=re.escape(str(path))):
        Tokenizer.load(path)


def named_size(error: RecipeError) -> int:
    """The size in the hint, as the user would paste it."""
    found = re.search(r"--set tokenizer\.vocabulary=(\d+)", error.hint or "")
    assert found, error.hint
    return int(found[1])
