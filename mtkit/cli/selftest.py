"""`mtkit selftest`: what mtkit promises of every model, checked on one's own, on this machine."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from mtkit import DataError
from mtkit.cli.options import Json, Model
from mtkit.cli.output import draw, examples, json_line, write

_LINES = 60


def add_to(app: typer.Typer) -> None:
    app.command(
        epilog=examples("mtkit selftest runs/de-en", "mtkit selftest runs/de-en in.de --json")
    )(selftest)


def selftest(
    model: Model,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help=f"Source lines; {_LINES} are used (default: embedded ones)."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check batches, stepping, precisions and export; exit code 1 if a promise is not kept."""
    import mtkit

    lines = list(islice(_lines(model, file), _LINES))
    if not any(line.strip() for line in lines):
        raise DataError(f"{file}: it holds no line to translate", "name a text file")
    checks = []
    for check in mtkit.selftest(model, lines):
        checks.append(check)
        if as_json:
            write(json_line(check))
    if not as_json:
        from rich.table import Table

        table = Table("check", "", "what was seen")
        words = {True: "kept", False: "BROKEN", None: "not tried"}
        for check in checks:
            table.add_row(check.name, words[check.passed], check.told)
        draw(table)
    if any(check.passed is False for check in checks):
        raise typer.Exit(1)


def _lines(model: Path, file: Path | None) -> Iterator[str]:
    """The lines of the file, or embedded sentences in the model's source language."""
    import mtkit

    if file is not None:
        return mtkit.read_lines(file)
    language = mtkit.load(model).recipe.data.source_language
    source = language if language in ("de", "en", "ko") else "en"
    target = "en" if source != "en" else "de"
    return (pair.source for pair in mtkit.open_corpus(f"phrasebook:{source}-{target}:test"))
