"""Where the command line writes: data to stdout and nothing else, talk to stderr."""

import gzip
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

import typer

from mtkit import UsageError, json_text

if TYPE_CHECKING:
    from rich.console import RenderableType

PIPE_CLOSED = 141  # what a shell reports for a command that SIGPIPE ended


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
    """The same of bytes. Raises UsageError when stdout is closed, or takes no more."""
    if sys.stdout is None:
        raise UsageError("stdout is closed", "write to a file: > FILE")
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        silence(sys.stdout)
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(PIPE_CLOSED) from None
        raise UsageError(
            f"stdout cannot be written ({error.strerror})", "write to another place: > FILE"
        ) from None


def silence(stream: TextIO) -> None:
    """Let what is still written to a stream go nowhere.

    Or the interpreter's last flush would meet the closed pipe, or the full disk, again.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def keep_streams() -> None:
    """Let no file that is opened later take the number of a standard stream that was closed."""
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person is at the other end; a standard stream that was closed is None."""
    return stream is not None and stream.isatty()


def keep_inputs(outputs: Sequence[Path | None], inputs: Sequence[Path]) -> None:
    """Raise UsageError where what is written would take the place of what is read, or of itself."""
    named = [path for path in outputs if path is not None]
    for path in named:
        if path.is_file() and any(other.is_file() and path.samefile(other) for other in inputs):
            raise UsageError(
                f"{path} is to be read and written: its text would be lost",
                f"name another file, for example {path}.out",
            )
    whole = [path.resolve() for path in named if path.is_file() or not path.exists()]
    if len(set(whole)) < len(whole):
        raise UsageError(f"{named[-1]} is to be written twice", "name two different files")


class Sink:
    """Stdout, or a file that is written aside and appears under its name when it is whole.

    A name that ends in `.gz` is packed. A device or a pipe is written to as it stands.
    """

    def __init__(self, path: Path | None, flag: str = "--output") -> None:
        """Raises UsageError when there can be no such file; `flag` is what has named it."""
        self._path, self._flag = path, flag
        self._aside: Path | None = None
        self._file: BinaryIO | gzip.GzipFile | None = None
        if path is None:
            return
        if path.is_dir():
            raise self._refused("it is a folder")
        real = path.resolve()  # what a link points to is replaced, not the link
        if path.is_file() or not path.exists():
            self._aside = real.with_name(f".{real.name}.{os.getpid()}.part")
        with self._writing():
            file = self._aside or path
            self._file = gzip.GzipFile(file, "wb") if path.suffix == ".gz" else file.open("wb")

    def write(self, text: str) -> None:
        self.write_bytes(text.encode("utf-8", "surrogatepass"))

    def write_bytes(self, data: bytes) -> None:
        if self._file is None:
            write_bytes(data)
        else:
            with self._writing():
                self._file.write(data)

    def finish(self) -> None:
        """Let the file appear."""
        if self._file is not None and self._path is not None:
            with self._writing():
                self._file.close()
                if self._aside is not None:
                    self._aside.replace(self._path.resolve())
            self._file = None

    def close(self) -> None:
        """Leave nothing behind if `finish` was not reached."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            if self._aside is not None:
                self._aside.unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._refused(error.strerror or str(error)) from None

    def _refused(self, reason: str) -> UsageError:
        return UsageError(
            f"{self._path} cannot be written ({reason})", f"name another {self._flag}"
        )


def json_line(record: object) -> str:
    """A record (dataclass or mapping) as one line of JSON; numbers that are none become null."""
    return f"{json_text(record)}\n"


def draw(*parts: "RenderableType") -> None:
    """Tables for people, on stdout; plain characters when it is not a terminal."""
    from rich.console import Console

    terminal = is_terminal(sys.stdout)
    console = Console(highlight=False, markup=False, emoji=False, width=None if terminal else 200)
    unbounded = console.options.update_width(1000)
    # No cell is cut short: what is wider than the terminal is left to it to wrap.
    tables = [part for part in parts if not isinstance(part, str)]
    needed = [console.measure(table, options=unbounded).maximum for table in tables]
    console.width = max([console.width, *needed])
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    write("\n".join(line.rstrip() for line in capture.get().split("\n")))
