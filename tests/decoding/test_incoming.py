"""Bytes become lines without loss, and long lines pieces without loss."""

import io
import os
import threading
from collections.abc import Sequence

import pytest

from mtkit.decoding.incoming import arriving, decode_line, split_line, usable


def encode(lines: Sequence[str]) -> list[list[int]]:
    """A token for every character but the spaces."""
    return [[ord(character) for character in line if not character.isspace()] for line in lines]


def as_text(pieces: list[list[int]]) -> list[str]:
    return ["".join(map(chr, piece)) for piece in pieces]


def collected(data: bytes, window: int = 4096) -> list[str]:
    return [line for group in arriving(io.BytesIO(data), window) for line, _ in group]


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\n\nb", ["a", "", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        ("\ufeffa\n\ufeffb".encode(), ["a", "\ufeffb"]),
        ("a\u2028b\u0085c\x0bd\x0ce\n".encode(), ["a\u2028b\u0085c\x0bd\x0ce"]),
        (b"\n" * 5000, [""] * 5000),
        (b"x" * 200_000 + b"\ny", ["x" * 200_000, "y"]),
    ],
)
def test_lines_end_at_line_feeds_alone(data: bytes, lines: list[str]) -> None:
    for window in (1, 3, 4096):
        assert collected(data, window) == lines


def test_groups_never_exceed_the_window() -> None:
    groups = [len(group) for group in arriving(io.BytesIO(b"a\n" * 10_000), window=700)]
    assert sum(groups) == 10_000
    assert max(groups) <= 700


def test_line_is_given_before_the_next_one_is_written() -> None:
    """A pipe whose writer waits for each answer: reading ahead would wait for ever."""
    reading, writing = os.pipe()
    answered = threading.Semaphore(1)

    def write() -> None:
        with os.fdopen(writing, "wb", buffering=0) as sink:
            for line in (b"one\n", b"two\n", b"three"):
                assert answered.acquire(timeout=10)
                sink.write(line)

    writer = threading.Thread(target=write)
    writer.start()
    groups = []
    with os.fdopen(reading, "rb") as source:
        for group in arriving(source):
            groups.append([line for line, _ in group])
            answered.release()
    writer.join(timeout=10)
    assert groups == [["one"], ["two"], ["three"]]


def test_broken_bytes_are_repaired_and_told() -> None:
    assert decode_line("grün\n".encode()) == ("grün", False)
    assert decode_line(b"gr\xfcn\r\n") == ("gr\ufffdn", True)
    assert decode_line(b"\xed\xa0\x80") == ("\ufffd\ufffd\ufffd", True)


def test_only_what_no_tokenizer_can_read_is_changed() -> None:
    fine = "가 e\u0301 \u2028 \u0085 👩‍👧 \ufffd"
    assert usable(fine) == fine
    assert usable("a\0b\ud800c") == "a\ufffdb\ufffdc"


@pytest.mark.parametrize(
    ("text", "longest", "pieces"),
    [
        ("One two. Three four five", 14, ["Onetwo.", "Threefourfive"]),
        ("one two three four", 10, ["onetwo", "threefour"]),
        ("onetwothreefour", 8, ["onetwot", "hreefour"]),
        ("今日は雨。明日は晴れ。", 6, ["今日は雨。", "明日は晴れ。"]),
        ("‘Stop!’ he said. ‘No.’", 13, ["‘Stop!’", "hesaid.‘No.’"]),
        ("3.14 is pi", 6, ["3.14", "ispi"]),
    ],
)
def test_line_is_cut_at_sentence_ends_before_spaces_before_tokens(
    text: str, longest: int, pieces: list[str]
) -> None:
    assert as_text(split_line(text, encode, longest)) == pieces


@pytest.mark.parametrize("longest", [1, 2, 7, 50])
@pytest.mark.parametrize(
    "text",
    [
        "a " * 300,
        ". " * 300,
        "x" * 1_000,
        "Hi. " + "y" * 500,
        "  leading. and trailing.  " * 20,
        "。" * 100,
        "a. " * 200 + "b" * 200,
    ],
)
def test_pieces_hold_every_token_once_and_in_order(text: str, longest: int) -> None:
    pieces = split_line(text, encode, longest)
    assert [token for piece in pieces for token in piece] == encode([text])[0]
    assert all(0 < len(piece) <= longest for piece in pieces)


def test_blank_line_has_no_pieces() -> None:
    assert split_line(" \t ", encode, 5) == []
