"""Bytes become lines without loss."""

import io
import os
import threading

import pytest

from mtkit.decoding.incoming import arriving, decode_line, usable


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
