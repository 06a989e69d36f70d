"""Where the command line writes: data to stdout and nothing else, talk to stderr."""

import dataclasses
import json
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType


def examples(*commands: str) -> str:
    """The end of a help text."""
    return "\n".join(["Examples:", *(f"  {command}" for command in commands)])


def say(text: str) -> None:
    """One line of talk to stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def write(text: str) -> None:
    """Data to stdout at once, always UTF-8 and LF. Raises BrokenPipeError when nobody reads on."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "surrogatepass"))
    sys.stdout.buffer.flush()


def leave_stdout() -> None:
    """Let nothing more be written to a closed pipe, not even by the interpreter's last flush."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


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
