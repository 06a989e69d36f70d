"""Where the command line writes: data to stdout and nothing else, talk to stderr."""

import dataclasses
import json
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import typer

from mtkit import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

_PIPE_CLOSED = 141  # what a shell reports for a command that SIGPIPE ended


def examples(*commands: str) -> str:
    """The end of a help text."""
    return "\n".join(["Examples:", *(f"  {command}" for command in commands)])


def say(text: str) -> None:
    """One line of talk to stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def write(text: str) -> None:
    """Data to stdout at once, always UTF-8 and LF; ends the command when nobody reads on."""
    write_bytes(text.encode("utf-8", "surrogatepass"))


def write_bytes(data: bytes) -> None:
    """The same of bytes."""
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # The interpreter's last flush must not meet the closed pipe again.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
        raise typer.Exit(_PIPE_CLOSED) from None


class Sink:
    """Stdout, or a file that is written aside and appears under its name when it is whole."""

    def __init__(self, path: Path | None) -> None:
        """Raises UsageError when there can be no such file."""
        self._path = path
        self._file: BinaryIO | None = None
        if path is None:
            return
        self._aside = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            if path.is_dir():
                raise IsADirectoryError(None, "it is a folder")
            self._file = self._aside.open("wb")
        except OSError as error:
            raise UsageError(f"{path} cannot be written ({error.strerror})") from None

    def write(self, text: str) -> None:
        self.write_bytes(text.encode("utf-8", "surrogatepass"))

    def write_bytes(self, data: bytes) -> None:
        if self._file is None:
            write_bytes(data)
        else:
            self._file.write(data)

    def finish(self) -> None:
        """Let the file appear."""
        if self._file is not None and self._path is not None:
            self._file.close()
            self._aside.replace(self._path)
            self._file = None

    def close(self) -> None:
        """Leave nothing behind if `finish` was not reached."""
        if self._file is not None:
            self._file.close()
            self._aside.unlink(missing_ok=True)


def json_line(record: object) -> str:
    """A record (dataclass or mapping) as one line of JSON; numbers that are none become null."""
    return json.dumps(_plain(record), ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def draw(*parts: "RenderableType") -> None:
    """Tables for people, on stdout; plain characters when it is not a terminal."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    console = Console(highlight=False, markup=False, width=None if terminal else 200)
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    lines = capture.get().split("\n")
    write("\n".join(line.rstrip() if not terminal else line for line in lines))
