"""`mtkit translate`: a line in, a line out, in order, whatever stands in the line."""

import gzip
import io
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mtkit import DataError, UsageError
from mtkit.cli.options import Device, Json, Model
from mtkit.cli.output import Sink, examples, is_terminal, say
from mtkit.cli.rows import Records, Rows

if TYPE_CHECKING:
    from mtkit import Translation, Translator

_SEARCH, _OUTPUT, _HARDWARE = "Search", "Output", "Hardware"
_TOLD = 5  # lines that are named one by one before they are only counted

Group = list[tuple[str, bool]]


def add_to(app: typer.Typer) -> None:
    app.command(
        epilog=examples(
            "mtkit translate runs/de-en < in.de > out.en",
            "mtkit translate runs/de-en in.de -o out.tsv --n-best 5",
        )
    )(translate)


def translate(
    model: Model,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE...", help="Text, a sentence a line (default: stdin)."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write, whole or not at all (default: stdout).",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    scores: Annotated[
        bool,
        typer.Option("--scores", metavar="", help="Write score TAB text.", rich_help_panel=_OUTPUT),
    ] = False,
    as_json: Json = False,
    json_lines: Annotated[
        bool,
        typer.Option(
            "--json-lines",
            metavar="",
            help="Read objects: source, prefix, constraints, forbidden, n_best; the rest stays.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", metavar="", help="Only warn.", rich_help_panel=_OUTPUT)
    ] = False,
    n_best: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Write so many: line number TAB score TAB text.",
            rich_help_panel=_SEARCH,
        ),
    ] = 1,
    beam: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Hypotheses kept; 1 is greedy (default: the recipe's).",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    length_penalty: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="X", help="0 favours short ones, 1 long ones.", rich_help_panel=_SEARCH
        ),
    ] = None,
    max_length_ratio: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="X", help="Longest output per source token.", rich_help_panel=_SEARCH
        ),
    ] = None,
    search: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="May be given several times: min_length, no_repeat, coverage_penalty, forbid, "
            "patience, unknown; groups, diversity; temperature, top_k, top_p, seed; mbr; "
            "token_scores, alignment, alignment_layer, replace_unknown.",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    others: Annotated[
        list[Path] | None,
        typer.Option(
            "--with",
            metavar="MODEL",
            help="One more model of an ensemble; may be given several times.",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    device: Device = "auto",
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        typer.Option(help="Of the numbers inside the model.", rich_help_panel=_HARDWARE),
    ] = "auto",
    tag: Annotated[
        str | None,
        typer.Option(
            metavar="TAG",
            help="Put before every line, e.g. <2de> (default: the recipe's).",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Source tokens computed at a time.", rich_help_panel=_HARDWARE
        ),
    ] = None,
) -> None:
    """Translate lines. As many lines come out as went in, in the same order."""
    import mtkit

    paths = [path for path in files or () if str(path) != "-"]
    for path in paths:
        if not path.exists() or path.is_dir():
            what = "is a folder, not a file" if path.is_dir() else "no such file"
            raise UsageError(f"{path}: {what}", "name text files, or give the text to stdin")
        if output and output.is_file() and output.samefile(path):
            raise UsageError(
                f"{path} is to be read and written: its text would be lost",
                f"name another --output, for example {path}.out",
            )
    with closing(Sink(output)) as sink:
        translator = mtkit.Translator.load(
            model, *(others or ()), device=device, precision=precision
        )
        given = {
            "beam": beam,
            "n_best": n_best,
            "length_penalty": length_penalty,
            "max_length_ratio": max_length_ratio,
            "token_scores": as_json or json_lines,
        }
        wanted = {key: value for key, value in given.items() if value is not None}
        translator.options = options = translator.options.fitted(**wanted).changed(search or ())
        translator.max_tokens = batch or translator.max_tokens
        translator.tag = translator.tag if tag is None else tag
        notes = Notes(translator.max_source_length, quiet=quiet)
        plain = Rows(options.n_best, scores, as_json, options.alignment)
        rows = Records() if json_lines else plain
        for number, translation in translated(translator, read(files or []), notes, rows):
            sink.write(rows(number, translation))
        sink.finish()
    notes.end()


def read(files: Sequence[Path]) -> Iterator[Group]:
    """Lines of the files, or of stdin, in groups that never wait for more than is there."""
    import mtkit

    for path in files or [Path("-")]:
        if str(path) == "-":
            if sys.stdin is None:
                raise UsageError("stdin is closed", "name a file, or give the text to stdin")
            if sys.stdin.isatty():
                say("type a line and press Enter; Ctrl-D ends")
            stdin = io.FileIO(sys.stdin.fileno(), closefd=False)
            yield from mtkit.arriving(io.BufferedReader(stdin))
            continue
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
                yield from mtkit.arriving(stream)
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or error
            hint = f"see how far it goes: gzip -t {path}" if path.suffix == ".gz" else None
            raise DataError(f"{path} cannot be read ({reason})", hint) from None


def translated(
    translator: "Translator", groups: Iterator[Group], notes: "Notes", rows: Rows
) -> Iterator[tuple[int, "Translation"]]:
    """Each line's number, from 1, and its translation, as soon as its group is done."""
    number = 0
    for group in groups:
        asked = [rows.asked(at, line) for at, (line, _) in enumerate(group, start=number + 1)]
        found = translator.translate(asked)
        for (_, repaired), translation in zip(group, found, strict=True):
            number += 1
            notes.add(number, translation, repaired=repaired or translation.repaired)
            yield number, translation
        notes.progress(number)


@dataclass
class Notes:
    """What there is to say about lines that were not quite ordinary."""

    longest: int
    quiet: bool = False
    split: int = 0
    repaired: list[int] = field(default_factory=list)
    lines: int = 0
    began: float = field(default_factory=time.monotonic)
    _redrawn: bool = False

    def add(self, number: int, translation: "Translation", *, repaired: bool) -> None:
        self.lines = number
        if repaired:
            self.repaired.append(number)
        if translation.status == "split":
            self.split += 1
            if self.split <= _TOLD:
                self._say(
                    f"note: line {number} was longer than the model takes "
                    f"({translation.source_tokens} tokens; it takes {self.longest}): "
                    "split, translated in pieces and rejoined"
                )

    def progress(self, number: int) -> None:
        """Where we are, redrawn in place, when a person can see it and it disturbs nothing."""
        if self.quiet or is_terminal(sys.stdin) or is_terminal(sys.stdout):
            return
        if not is_terminal(sys.stderr):
            return
        rate = number / max(time.monotonic() - self.began, 1e-9)
        sys.stderr.write(f"\r{number:,} lines, {rate:,.0f} a second ")
        sys.stderr.flush()
        self._redrawn = True

    def end(self) -> None:
        """The counts of what happened more than once."""
        if self.split > _TOLD:
            self._say(f"note: {self.split:,} lines in all were split and rejoined")
        if self.repaired:
            count = len(self.repaired)
            self._say(
                f"warning: {count:,} {'line' if count == 1 else 'lines'} held NUL or bytes that "
                f"are not UTF-8, read as U+FFFD (first: line {self.repaired[0]:,})"
            )
        if not self.quiet and not is_terminal(sys.stdin):
            took = max(time.monotonic() - self.began, 1e-9)
            self._say(f"{self.lines:,} lines in {took:.1f} s, {self.lines / took:,.1f} a second")

    def _say(self, text: str) -> None:
        if self.quiet and not text.startswith("warning"):
            return
        say(f"\n{text}" if self._redrawn else text)
        self._redrawn = False
