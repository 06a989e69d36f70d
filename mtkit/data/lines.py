"""Exact lines: what stands between two LF characters, and a record of all that was not kept."""

import gzip
import hashlib
import os
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from math import log
from pathlib import Path
from shlex import quote
from typing import IO

from mtkit.errors import DataError, MissingFileError

_BLOCK = 1 << 18
_BOM = b"\xef\xbb\xbf"
_PLACES = 5


@dataclass(slots=True)
class Report:
    """What one reading met and did; it is filled while the corpus is read."""

    read: int = 0
    empty_source: int = 0
    empty_target: int = 0
    empty_both: int = 0
    line_breaks: int = 0
    crlf: dict[str, int] = field(default_factory=dict)
    bom: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)

    @property
    def dropped(self) -> int:
        """Pairs that were left out, always both sides together."""
        return self.empty_source + self.empty_target + self.empty_both

    @property
    def kept(self) -> int:
        return self.read - self.dropped

    def drop(self, source: str, target: str, place: str) -> None:
        """Count a pair with an empty side; the first few keep their place."""
        has_source, has_target = bool(source.strip()), bool(target.strip())
        self.empty_both += not has_source and not has_target
        self.empty_source += has_target and not has_source
        self.empty_target += has_source and not has_target
        if len(self.places) < _PLACES:
            self.places.append(place)

    def sentences(self) -> list[str]:
        """The same in words: how many pairs, then one sentence for each thing that was done."""
        told = [f"{self.kept:,} pairs" + (f" of {self.read:,} rows." if self.dropped else ".")]
        if self.dropped:
            parts = [
                f"{count:,} with {what}"
                for count, what in (
                    (self.empty_source, "an empty source"),
                    (self.empty_target, "an empty target"),
                    (self.empty_both, "both sides empty"),
                )
                if count
            ]
            first = ", ".join(self.places) + (", ..." if self.dropped > len(self.places) else "")
            told.append(f"Dropped as pairs: {', '.join(parts)} ({first}).")
        told += [
            f"{count:,} lines of {name} end in CR LF; the CR was removed."
            for name, count in self.crlf.items()
        ]
        told += [f"The byte order mark at the start of {name} was removed." for name in self.bom]
        if self.line_breaks:
            told.append(f"{self.line_breaks:,} texts held line breaks; each became a space.")
        return told


def read_lines(path: Path, report: Report | None = None) -> Iterator[str]:
    """The lines of a UTF-8 file, plain or `.gz`; a missing file is an error at once.

    Lines end at LF and nowhere else; a CR before the LF and a byte order mark at the start are
    removed and reported. A last line needs no LF, and a last LF makes no further line.
    """
    require_file(path)
    return _lines_of(path, Report() if report is None else report)


def require_file(path: Path) -> None:
    """Raise a `DataError` where a file cannot be read, with the nearest name if it is missing."""
    if path.is_dir():
        raise DataError(
            f"{path} is a folder, not a file", f"see what is in it: ls {quote(str(path))}"
        )
    if path.exists():
        if not os.access(path, os.R_OK):
            readable = f"chmod u+r {quote(str(path))}"
            raise DataError(f"{path} cannot be read: it is not allowed", readable)
        return
    twin = path.with_suffix("") if path.suffix == ".gz" else path.with_name(path.name + ".gz")
    if twin.is_file():
        raise DataError(f"{path} does not exist", f"did you mean {twin}?")
    if not path.parent.is_dir():
        hint = (
            None if path.is_absolute() else f"names are read from the working folder, {Path.cwd()}"
        )
        raise MissingFileError(f"{path} does not exist: there is no folder {path.parent}", hint)
    there = f"see what is there: ls {quote(str(path.parent))}"
    raise MissingFileError(f"{path} does not exist", there)


def digest(*paths: Path) -> str:
    """SHA-256 over the bytes of the files, each one's length included by its own digest."""
    whole = hashlib.sha256()
    for path in paths:
        require_file(path)
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def _lines_of(path: Path, report: Report) -> Iterator[str]:
    with _open(path) as stream:
        number, offset = 0, 0
        for block in _blocks(stream, path):
            start = 0
            if offset == 0 and block.startswith(_BOM):
                report.bom.append(str(path))
                start = len(_BOM)
            try:
                text = block[start:].decode() if start else block.decode()
            except UnicodeDecodeError as error:
                raise _bad_bytes(path, block, error.start + start, number, offset) from None
            if "\r\n" in text:
                report.crlf[str(path)] = report.crlf.get(str(path), 0) + text.count("\r\n")
                text = text.replace("\r\n", "\n")
            lines = text.split("\n")
            if not lines[-1]:
                lines.pop()
            yield from lines
            number += len(lines)
            offset += len(block)


def _open(path: Path) -> IO[bytes] | gzip.GzipFile:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _blocks(stream: IO[bytes] | gzip.GzipFile, path: Path) -> Iterator[bytes]:
    """Large pieces of the file, each cut after an LF; only the last may end without one."""
    pending: list[bytes] = []
    while chunk := _read(stream, path):
        cut = chunk.rfind(b"\n") + 1
        if cut:
            yield b"".join([*pending, chunk[:cut]])
            pending = []
        if cut < len(chunk):
            pending.append(chunk[cut:])
    if pending:
        yield b"".join(pending)


def _read(stream: IO[bytes] | gzip.GzipFile, path: Path) -> bytes:
    try:
        return stream.read(_BLOCK)
    except gzip.BadGzipFile as error:
        plain = quote(str(path.with_suffix("")))
        raise DataError(
            f"{path} is not a gzip file ({error})",
            f"if it is plain text: mv {quote(str(path))} {plain}",
        ) from None
    except (EOFError, zlib.error) as error:
        raise DataError(
            f"{path} is damaged: {error}", f"see how far it goes: gzip -t {quote(str(path))}"
        ) from None


# How other packed files begin, and what unpacks them.
_PACKED = {b"\x28\xb5\x2f\xfd": "zstdcat", b"BZh": "bzcat", b"\xfd7zXZ": "xzcat"}


def _bad_bytes(path: Path, block: bytes, at: int, number: int, offset: int) -> DataError:
    line = number + block.count(b"\n", 0, at) + 1
    named = quote(str(path))
    hint = f"convert it if it is Latin-1: {_conversion(path, 'latin1')}"
    if number == 0 and block.startswith((b"\xff\xfe", b"\xfe\xff")):
        hint = f"it looks like UTF-16: {_conversion(path, 'utf-16')}"
    elif number == 0 and block.startswith(b"\x1f\x8b"):
        hint = f"it looks like gzip: mv {named} {quote(f'{path}.gz')}"
    for mark, unpack in _PACKED.items():
        if number == 0 and block.startswith(mark):
            hint = f"only .gz is unpacked here: {unpack} {named} > {quote(f'{path}.txt')}"
    return DataError(
        f"{path}, line {line}: byte 0x{block[at]:02x} is not UTF-8 (at offset {offset + at})",
        hint,
    )


def _conversion(path: Path, encoding: str) -> str:
    """A command that writes the file as UTF-8 beside it, with what its name ends in."""
    packed = path.suffix == ".gz"
    plain = path.with_suffix("") if packed else path
    other = plain.with_name(f"{plain.stem}.utf8{plain.suffix}")
    convert, named = f"iconv -f {encoding} -t utf-8", quote(str(path))
    if packed:
        return f"zcat {named} | {convert} | gzip > {quote(f'{other}.gz')}"
    return f"{convert} {named} > {quote(str(other))}"


@dataclass(frozen=True, slots=True)
class TwoFiles:
    """A corpus in two files: line N of one belongs to line N of the other."""

    name: str
    source: Path
    target: Path
    languages: tuple[str | None, str | None]

    def read(self, report: Report) -> Iterator[tuple[str, str]]:
        """Every row as it stands; a `DataError` after the last common one if a file goes on."""
        lines = read_lines(self.source, report), read_lines(self.target, report)
        try:
            yield from zip(*lines, strict=True)
        except ValueError:
            raise _unequal(self.source, self.target) from None

    def fingerprint(self) -> str:
        return digest(self.source, self.target)


def _unequal(source: Path, target: Path) -> DataError:
    counts = sum(1 for _ in read_lines(source)), sum(1 for _ in read_lines(target))
    told = f"{source} has {counts[0]:,} lines but {target} has {counts[1]:,}"
    place = first_divergence(source, target)
    longer = source if counts[0] > counts[1] else target
    if place is None:
        end = min(counts)
        return DataError(
            f"{told}; no place before the end of the shorter one looks shifted",
            f"see what {longer} has after line {end}: {show(longer, end - 2, end + 3)}",
        )
    return DataError(
        f"{told}; they seem to diverge near line {place:,}",
        f"compare: {show(source, place - 3, place + 3)}; {show(target, place - 3, place + 3)}",
    )


def show(path: Path, first: int, last: int) -> str:
    """A command that prints these lines of the file."""
    first, named = max(first, 1), quote(str(path))
    lines = f"sed -n '{first}p'" if first == last else f"sed -n '{first},{last}p'"
    return f"zcat {named} | {lines}" if path.suffix == ".gz" else f"{lines} {named}"


_SEARCHED = 1_000_000
_CHANGE = 6.0


def first_divergence(source: Path, target: Path) -> int | None:
    """The line (from 1) from which a shifted alignment explains the two files better, or None.

    The shift may only grow, in the direction of the longer file; each growth costs as much as
    some thirty ordinary pairs can gain, so a few bad pairs do not count as a shift.
    """
    ratio, extra = _shifts_of(source, target)
    sides = (source, target) if extra > 0 else (target, source)
    sign = 1.0 if extra > 0 else -1.0
    steps = sorted({s for s in (0, 1, 2, 3, abs(extra)) if s <= min(abs(extra), 10_000)})
    longer = _traits(sides[0])
    window = deque(islice(longer, steps[-1]))
    best = [(0.0, 0)] + [(float("inf"), 0)] * (len(steps) - 1)
    for number, (one, entering) in enumerate(
        islice(zip_longest(_traits(sides[1]), longer), _SEARCHED), start=1
    ):
        if one is None:
            break
        if entering is not None:
            window.append(entering)
        cheapest: tuple[float, int] = (float("inf"), 0)
        for at, shift in enumerate(steps):
            cost, place = best[at]
            if cheapest[0] + _CHANGE < cost:
                cost, place = cheapest[0] + _CHANGE, cheapest[1] or number
            cheapest = min(cheapest, (cost, place))
            other = window[shift] if shift < len(window) else None
            best[at] = (cost + _mismatch(other, one, sign * ratio), place)
        if window:
            window.popleft()
    return min(best)[1] or None


_Traits = tuple[float, frozenset[str], bool]


def _shifts_of(source: Path, target: Path) -> tuple[float, int]:
    """The log ratio of characters, source over target, and how many more lines the source has."""
    characters, lines = [1, 1], [0, 0]
    for side, path in enumerate((source, target)):
        for line in read_lines(path):
            characters[side] += len(line)
            lines[side] += 1
    means = [total / max(count, 1) for total, count in zip(characters, lines, strict=True)]
    return log(means[0] / means[1]), lines[0] - lines[1]


def _traits(path: Path) -> Iterator[_Traits]:
    """What survives translation of each line: its length, its numbers, whether it is a question."""
    for line in read_lines(path):
        numbers = frozenset("".join(c if c.isdecimal() else " " for c in line).split())
        yield log(len(line) + 5), numbers, line.rstrip().endswith(("?", "？"))


def _mismatch(one: _Traits | None, other: _Traits, ratio: float) -> float:
    if one is None:
        return 2.0
    cost = min(abs(one[0] - other[0] - ratio), 1.5)
    return cost + (one[1] != other[1]) + (one[2] != other[2])
