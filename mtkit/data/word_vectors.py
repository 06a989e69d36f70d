"""Word vectors in word2vec's format (Mikolov et al. 2013), text or binary, plain or .gz.

Both begin with a line `COUNT WIDTH`. Then a text file has a line for every word, `word x1 x2 ...`,
and a binary one the word, a space and WIDTH little-endian float32 numbers.
"""

import gzip
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from shlex import quote

import numpy as np
from numpy.typing import NDArray

from mtkit.errors import DataError

Vector = NDArray[np.float32]
_LONGEST_WORD = 10_000  # bytes; in a file that is no word2vec file the end is never found


@dataclass(frozen=True)
class Vectors:
    """The vectors of some words, each [width]."""

    width: int
    found: dict[str, Vector]


def read_vectors(path: Path, wanted: Collection[str]) -> Vectors:
    """The vectors of the wanted words, as far as the file has them; others are passed over.

    Which of the two formats a file has is seen at its first word. Raises DataError for a file that
    is missing, damaged or of another format.
    """
    try:
        with _open(path) as file:
            count, width = _header(path, file.readline(1000))
            rows = _rows(path, file, count, width)
            found = {word: vector for word, vector in rows if word in wanted}
    except FileNotFoundError:
        hint = f"see what is there: ls {quote(str(path.parent))}"
        raise DataError(f"{path}: there is no such file of vectors", hint) from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error})", "download it again") from None
    return Vectors(width, found)


def _open(path: Path) -> BufferedIOBase:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _header(path: Path, line: bytes) -> tuple[int, int]:
    fields = line.split()
    if len(fields) == 2 and all(field.isdigit() for field in fields):
        count, width = int(fields[0]), int(fields[1])
        if count and width:
            return count, width
    raise DataError(
        f"{path}:1: word2vec's format begins with a line of two numbers, how many words and how "
        f"many numbers a word, not with {line[:40].decode('utf-8', 'replace').strip()!r}",
        f"a file of GloVe lacks that line; for 400000 words of 300 numbers: {_headed(path)}",
    )


def _headed(path: Path) -> str:
    """A command that gives the file a first line, or writes a packed one with it beside it."""
    if path.suffix != ".gz":
        return f"sed -i '1i 400000 300' {quote(str(path))}"
    other = path.with_name(f"headed.{path.name}")
    return f"zcat {quote(str(path))} | sed '1i 400000 300' | gzip > {quote(str(other))}"


def _rows(path: Path, file: BufferedIOBase, count: int, width: int) -> Iterator[tuple[str, Vector]]:
    """All words with their vectors. Raises DataError where the file ends before the last."""
    begin = file.tell()
    first = file.readline()
    file.seek(begin)
    read = _text_row if _is_text(first, width) else _binary_row
    for number in range(count):
        row = read(path, file, number, width)
        if row is None:
            raise DataError(
                f"{path}: ends after {number:,} of the {count:,} vectors that its first line names",
                "download it again",
            )
        yield row


def _is_text(line: bytes, width: int) -> bool:
    """Whether behind the first word stand numbers in words; raw bytes hardly ever look so."""
    fields = line.split()
    try:
        numbers = [float(field) for field in fields[-min(width, max(len(fields) - 1, 1)) :]]
    except ValueError:
        return False
    return bool(numbers)


def _text_row(
    path: Path, file: BufferedIOBase, number: int, width: int
) -> tuple[str, Vector] | None:
    line = file.readline()
    if not line.strip():
        return None
    word, *fields = line.rstrip().rsplit(b" ", width)
    try:
        vector = np.array([float(field) for field in fields], dtype=np.float32)
    except ValueError:
        vector = np.empty(0, dtype=np.float32)
    # A word may hold spaces, but not the first: else a wrong WIDTH would pass for such a word.
    if len(vector) != width or (number == 0 and b" " in word):
        raise DataError(
            f"{path}:{number + 2}: not a word and {width} numbers, which the first line promises",
            "correct that line, or download the file again",
        )
    return word.decode("utf-8", "replace"), vector


def _binary_row(
    path: Path, file: BufferedIOBase, number: int, width: int
) -> tuple[str, Vector] | None:
    word = bytearray()
    while (letter := file.read(1)) != b" ":
        if not letter or len(word) > _LONGEST_WORD:
            return None
        word += letter
    data = file.read(4 * width)
    if len(data) < 4 * width:
        return None
    # Mikolov's program ends a vector with a line break, others do not.
    return word.lstrip(b"\n").decode("utf-8", "replace"), np.frombuffer(data, "<f4")
