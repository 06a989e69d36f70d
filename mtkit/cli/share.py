"""Output that several processes write together, and that a stopped one can go on with."""

import fcntl
import hashlib
import json
import os
import re
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import IO, TypeVar

from mtkit import UsageError
from mtkit.cli.output import say

_BLOCK = 1 << 20
_PAUSE = 0.2  # seconds between two looks at whether the others are done

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """Which process this is of those that torchrun started."""

    rank: int
    world: int

    @classmethod
    def from_environment(cls) -> "Share":
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    def lines(self, total: int) -> range:
        """This process's lines of so many, counted from 0; those of all are the whole."""
        return range(total * self.rank // self.world, total * (self.rank + 1) // self.world)


def portion(groups: Iterator[list[T]], wanted: range) -> Iterator[list[T]]:
    """The wanted lines of those in groups, in groups."""
    first = 0
    for group in groups:
        if first >= wanted.stop:
            return
        if part := group[max(wanted.start - first, 0) : max(wanted.stop - first, 0)]:
            yield part
        first += len(group)


class Part:
    """A file of lines that grows beside its final place, for one model, input and options.

    What is there when the process ends is kept for the next one, if it is asked to be; then
    `done` lines are there already. A last line without its end is dropped, and where no line is
    whole nothing was begun.
    """

    def __init__(
        self,
        path: Path,
        identity: Mapping[str, object],
        share: Share,
        *,
        keep: bool,
        flag: str = "--output",
    ) -> None:
        """Raises UsageError when another model, input or call has begun the file, or is at it.

        `flag` is what has named the file.
        """
        if path.suffix == ".gz":
            raise UsageError(
                f"{path}: packed files are written at once, by one process",
                f"write to {path.with_suffix('')}, and pack that",
            )
        if path.exists() and not path.is_file():
            raise UsageError(f"{path} cannot be written (it is no plain file)", "name a file")
        self._name, self._path = path, path.resolve()
        self._share, self._keep, self._flag, self._finished = share, keep, flag, False
        self._part, self._whole, self._whose = (
            self._beside(share.rank, kind) for kind in ("part", "done", "whose")
        )
        self._text = json.dumps(identity, default=str, sort_keys=True, indent=1) + "\n"
        with self._writing():
            if keep:
                self._check_world()
            self._lock = self._locked()
            try:
                self._begin()
            except BaseException:
                self._lock.close()
                raise

    def _locked(self) -> IO[str]:
        """The file that says whose the part is, kept from other calls until it is closed."""
        file = self._whose.open("a", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise UsageError(
                f"{self._name}: another call is writing it", "wait for that, or name another file"
            ) from None
        return file

    def _begin(self) -> None:
        """Take up the lines that are there, if they are to be kept, or begin with none."""
        begun = self._whose.stat().st_size > 0 and self._holds_lines(self._share.rank)
        if self._keep and begun:
            self._check()
            if self._whole.exists():  # it had all its lines, but another process had not
                self._whole.replace(self._part)
        else:
            self._whole.unlink(missing_ok=True)
            self._whose.write_text(self._text, encoding="utf-8")
            self._part.write_bytes(b"")
        self.done = _keep_whole_lines(self._part)
        self._file = self._part.open("ab")

    def cut(self, lines: int) -> None:
        """Keep so many of the lines that are there already."""
        with self._writing():
            self._file.close()
            self.done = _keep_whole_lines(self._part, lines)
            self._file = self._part.open("ab")

    def write(self, text: str) -> None:
        with self._writing():
            self._file.write(text.encode("utf-8", "surrogatepass"))

    def finish(self) -> None:
        """Let the file appear; of several processes the first waits for all and joins the parts."""
        with self._writing():
            self._file.close()
            if self._share.world == 1:
                self._part.replace(self._path)
                self._whose.unlink(missing_ok=True)
            else:
                self._part.replace(self._whole)
                if self._share.rank == 0:
                    self._join()
            self._lock.close()
        self._finished = True

    def close(self) -> None:
        """If `finish` was not reached: leave whole lines to go on with, or nothing."""
        if self._finished:
            return
        with suppress(OSError), self._lock:
            self._file.close()
        lines = 0
        if not self._keep or not self._holds_lines(self._share.rank):
            for path in (self._part, self._whole, self._whose):
                path.unlink(missing_ok=True)
        elif self._part.exists():
            lines = _keep_whole_lines(self._part)
        if self._keep and self._share.rank == 0:
            self._tell_kept(lines)

    def _tell_kept(self, lines: int) -> None:
        """Say what there is to go on with, if anything."""
        kept = f"{lines:,} lines of {self._path.name} are kept" if lines else ""
        if self._share.world > 1 and any(map(self._holds_lines, range(self._share.world))):
            kept = f"what {self._share.world} processes wrote of {self._path.name} is kept"
        if kept:
            say(f"{kept}: the same command goes on there")

    def _beside(self, rank: int, kind: str) -> Path:
        place = f".{rank}of{self._share.world}" if self._share.world > 1 else ""
        return self._path.with_name(f".{self._path.name}{place}.{kind}")

    def _holds_lines(self, rank: int) -> bool:
        """Whether the process of this rank has left a whole line."""
        return any(_holds_a_line(self._beside(rank, kind)) for kind in ("part", "done"))

    def _anew(self) -> str:
        """A command that removes what calls have left of this file, and of no other."""
        pattern = re.compile(
            rf"\.{re.escape(self._path.name)}(\.\d+of\d+)?\.(part|done|whose|whole)"
        )
        names = [path.name for path in self._path.parent.iterdir()]
        left = sorted(name for name in names if pattern.fullmatch(name))
        return shlex.join(["rm", *(str(self._path.with_name(name)) for name in left)])

    def _check_world(self) -> None:
        """Raise UsageError where another number of processes has begun: their lines are others."""
        pattern = re.compile(rf"\.{re.escape(self._path.name)}(\.\d+of(\d+))?\.whose")
        for path in self._path.parent.iterdir():
            if (found := pattern.fullmatch(path.name)) is None:
                continue
            if (world := int(found[2] or 1)) != self._share.world:
                processes = "one process" if world == 1 else f"{world} processes"
                raise UsageError(
                    f"{self._name} was begun by {processes}",
                    f"start as many, or start anew: {self._anew()}",
                )

    def _check(self) -> None:
        if self._whose.read_text(encoding="utf-8") == self._text:
            return
        begun, wanted = json.loads(self._whose.read_text(encoding="utf-8")), json.loads(self._text)
        other = [key for key in wanted if begun.get(key) != wanted[key]]
        raise UsageError(
            f"{self._part} was begun with another {', '.join(other)}",
            f"finish it with what it was begun with, or start anew: {self._anew()}",
        )

    def _join(self) -> None:
        """Wait until every process has written its part, and make one file of them."""
        ranks = range(self._share.world)
        parts = [self._beside(rank, "done") for rank in ranks]
        whose = [self._beside(rank, "whose") for rank in ranks]
        while not all(map(self._is_ours, parts, whose)):
            time.sleep(_PAUSE)
        whole = self._beside(0, "whole")
        with whole.open("wb") as joined:
            for path in parts:
                with path.open("rb") as part:
                    while block := part.read(_BLOCK):
                        joined.write(block)
        whole.replace(self._path)
        for path in (*parts, *whose):
            with suppress(OSError):
                path.unlink()

    def _is_ours(self, part: Path, whose: Path) -> bool:
        """Whether a part is whole and of this call: an earlier one may have left another's."""
        with suppress(FileNotFoundError):
            return part.exists() and whose.read_text(encoding="utf-8") == self._text
        return False

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise UsageError(
                f"{self._name} cannot be written ({reason})", f"name another {self._flag}"
            ) from None


def digest(paths: Sequence[Path]) -> str:
    """SHA-256 over the contents of the files."""
    whole = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def _holds_a_line(path: Path) -> bool:
    """Whether the file is there and a line of it is whole."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        return file.readline().endswith(b"\n")


def _keep_whole_lines(path: Path, most: int | None = None) -> int:
    """Drop what follows the last line end, or the first `most` of them; how many are left."""
    lines, end, offset = 0, 0, 0
    with path.open("r+b") as file:
        while (block := file.read(_BLOCK)) and (most is None or lines < most):
            found = block.count(b"\n")
            if most is not None and lines + found > most:
                sizes = accumulate(len(line) + 1 for line in block.split(b"\n"))
                ends = [size for size, _ in zip(sizes, range(most - lines), strict=False)]
                lines, end = most, offset + (ends[-1] if ends else 0)
                break
            if found:
                lines, end = lines + found, offset + block.rindex(b"\n") + 1
            offset += len(block)
        file.truncate(end)
    return lines
