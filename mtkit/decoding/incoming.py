"""Lines on their way in: bytes to text, in groups that never wait for more than is there."""

import re
import select
from collections.abc import Iterator
from typing import Protocol

_CHUNK = 1 << 16
_BOM = b"\xef\xbb\xbf"
_FIRST_WINDOW = 256
_UNUSABLE = re.compile("[\ud800-\udfff\0]")


class ByteStream(Protocol):
    """What `sys.stdin.buffer` and every buffered binary file can do."""

    def read1(self, size: int, /) -> bytes: ...
    def fileno(self) -> int: ...


def decode_line(raw: bytes) -> tuple[str, bool]:
    """A line as text without its LF or CR LF, and whether it had to be repaired.

    Bytes that are not UTF-8 become U+FFFD, for one bad line must not stop the others.
    """
    raw = raw.removesuffix(b"\n").removesuffix(b"\r")
    try:
        return raw.decode(), False
    except UnicodeDecodeError:
        return raw.decode(errors="replace"), True


def usable(line: str) -> str:
    """The line as a tokenizer can read it: NUL and lone surrogates become U+FFFD."""
    return _UNUSABLE.sub("\ufffd", line)


def arriving(stream: ByteStream, window: int = 4096) -> Iterator[list[tuple[str, bool]]]:
    """All lines of a stream as `decode_line` gives them, in groups of at most `window`.

    A group is what has arrived: a line typed at a terminal comes at once and alone, a file comes in
    full groups, of which the first are smaller so that the first answer comes early. Lines end at
    LF and nowhere else; the last one needs none. A byte order mark at the start is no text.
    """
    lines: list[bytes] = []
    pending: list[bytes] = []
    size = min(_FIRST_WINDOW, window)
    mark = _BOM
    while chunk := stream.read1(_CHUNK):
        chunk, mark = chunk.removeprefix(mark), b""
        *ended, rest = chunk.split(b"\n")
        if ended:
            lines += [b"".join([*pending, ended[0]]), *ended[1:]]
            pending = []
        pending.append(rest)
        while len(lines) >= size or (lines and not _more_is_there(stream)):
            yield [decode_line(line) for line in lines[:size]]
            del lines[:size]
            size = min(2 * size, window)
    if last := b"".join(pending):
        lines.append(last)
    for start in range(0, len(lines), window):
        yield [decode_line(line) for line in lines[start : start + window]]


def _more_is_there(stream: ByteStream) -> bool:
    """Whether a read would return at once; where that cannot be known, no."""
    try:
        return bool(select.select([stream.fileno()], [], [], 0)[0])
    except (OSError, ValueError):
        return False
