"""word2vec files, text and binary, and what is said of those that are none."""

import gzip
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mtkit.data.word_vectors import read_vectors
from mtkit.errors import DataError

WORDS: dict[str, Sequence[float]] = {
    "the": (0.5, -1.25, 3.0),
    "집": (1e-3, 2.0, -0.125),
    "</s>": (0.0, 0.0, 0.0),
    "▁house": (7.0, 8.0, 9.0),
}


def text(rows: dict[str, Sequence[float]] = WORDS, header: str = "4 3") -> bytes:
    lines = [header, *(" ".join([word, *map(str, row)]) for word, row in rows.items())]
    return "".join(f"{line}\n" for line in lines).encode()


def binary(end: bytes = b"\n") -> bytes:
    rows = [word.encode() + b" " + struct.pack("<3f", *row) + end for word, row in WORDS.items()]
    return b"4 3\n" + b"".join(rows)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.vec", text()),
        ("a.vec", text().replace(b"\n", b" \n")),  # Mikolov's program leaves a space there
        ("a.bin", binary()),
        ("a.bin", binary(b"")),
        ("a.vec.gz", gzip.compress(text(), mtime=0)),
        ("a.bin.gz", gzip.compress(binary(), mtime=0)),
    ],
)
def test_wanted_words_are_read_from_either_format(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    vectors = read_vectors(path, {"the", "집", "▁house", "absent"})
    assert vectors.width == 3
    assert set(vectors.found) == {"the", "집", "▁house"}
    for word, vector in vectors.found.items():
        assert vector.dtype == np.float32
        np.testing.assert_array_equal(vector, np.array(WORDS[word], dtype=np.float32))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "begins with a line of two numbers"),
        (text(header="the 0.5 1.5 2.5"), "not with 'the 0.5 1.5 2.5'"),
        (text(header="0 3"), "begins with a line of two numbers"),
        (text(header="5 3"), "ends after 4 of the 5 vectors"),
        (text(header="4 2"), r"a\.vec:2: not a word and 2 numbers"),
        (text(header="4 4"), r"a\.vec:2: not a word and 4 numbers"),
        (text({**WORDS, "▁house": (1.0,)}), r"a\.vec:5: not a word and 3 numbers"),
        (binary()[:-6], "ends after 3 of the 4 vectors"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "a.vec"
    path.write_bytes(content)
    with pytest.raises(DataError, match=sentence) as caught:
        read_vectors(path, {"the"})
    assert caught.value.hint


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file of vectors"):
        read_vectors(tmp_path / "no.vec", set())
    damaged = tmp_path / "a.vec.gz"
    damaged.write_bytes(gzip.compress(text())[:-12])
    with pytest.raises(DataError, match="cannot be read"):
        read_vectors(damaged, set(WORDS))
