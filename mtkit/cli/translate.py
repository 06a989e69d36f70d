"""`mtkit translate`: a line in, a line out, in order, whatever stands in the line."""

import gzip
import io
import sys
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from mtkit import DataError, UsageError
from mtkit.cli.notes import Notes
from mtkit.cli.options import (
    Beam,
    Compile,
    Device,
    Json,
    Model,
    Others,
    Precision,
    Search,
    Workers,
)
from mtkit.cli.output import Sink, examples, json_line, keep_inputs, say
from mtkit.cli.rows import Records, Rows
from mtkit.cli.share import Part, Share, digest, portion

if TYPE_CHECKING:
    from mtkit import Translation, Translator

_SEARCH, _OUTPUT, _HARDWARE = "Search", "Output", "Hardware"
_MODEL_FILES = {".safetensors", ".toml", ".spm"}

Group = list[tuple[str, bool]]


def add_to(app: typer.Typer) -> None:
    app.command(
        epilog=examples(
            "mtkit translate runs/de-en < in.de > out.en",
            "mtkit translate runs/de-en in.de -o out.tsv --n-best 5",
            "mtkit translate runs/a in.de --search temperature=1 --search top_p=0.9",
            "mtkit translate runs/a in.de --with runs/b --beam 16 --search mbr=chrf",
            "mtkit translate runs/a in.de -o out.en --report lines.jsonl --resume",
            "mtkit translate runs/a --json-lines < asked.jsonl > answered.jsonl",
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
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What became of each line: JSON Lines with status, tokens, score, limits, loops.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            metavar="",
            help="Keep what is written if stopped, and go on there.",
            rich_help_panel=_OUTPUT,
        ),
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
    beam: Beam = None,
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
    search: Search = None,
    others: Others = None,
    device: Device = "auto",
    precision: Precision = "auto",
    compile_: Compile = False,
    workers: Workers = 0,
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
    require_sound(paths, scores=scores, as_json=as_json or json_lines)
    share = Share.from_environment()
    flags = (length_penalty, max_length_ratio, search, precision, compile_, tag, scores)
    call = (n_best, beam, *flags, as_json, json_lines)
    models = [model, *(others or ())]
    named = {"--output": output} | ({"--report": report} if report else {})
    keep_inputs([output, report], [*paths, *(file for each in models for file in each.glob("*"))])
    with ExitStack() as stack:
        lines = None
        if resume or share.world > 1:
            asked = mtkit.SearchOptions().changed(search or (), n_best=n_best)
            whole = asked.n_best == 1 or as_json or json_lines
            require_shareable(model, files or [], output, a_line_each=whole)
            sinks, lines = parts(stack, models, files or [], named, call, share, keep=resume)
        else:
            pairs = named.items()
            sinks = [stack.enter_context(closing(Sink(path, flag))) for flag, path in pairs]
        translator = mtkit.Translator.load(
            *models, device=device, precision=precision, workers=workers, compiled=compile_
        )
        stack.callback(translator.close)
        if translator.uncompiled and not quiet:
            say(f"note: translating without compiled functions: {translator.uncompiled}")
        given = {
            "beam": beam,
            "n_best": n_best,
            "length_penalty": length_penalty,
            "max_length_ratio": max_length_ratio,
            "token_scores": as_json or json_lines,
        }
        wanted = {key: value for key, value in given.items() if value is not None}
        translator.options = options = translator.options.changed(search or (), **wanted)
        translator.max_tokens = batch or translator.max_tokens
        translator.tag = translator.tag if tag is None else tag
        for stranger in translator.unknown_tags if share.rank == 0 else ():
            say(f"warning: {stranger} is no token of the model's vocabulary: it was not learned")
        notes = Notes(
            translator.max_source_length,
            options.max_length_ratio,
            quiet=quiet or share.rank > 0,
            reads_stdin=not files or len(paths) < len(files),
            writes_stdout=output is None,
        )
        plain = Rows(options.n_best, scores, as_json, options.alignment)
        constrains = not options.sampled and options.groups == 1
        rows = Records(constrains) if json_lines else plain
        groups = read(files or [])
        for done in translated(translator, groups, notes, rows, lines):
            sinks[0].write(rows(done.number, done.translation))
            for sink in sinks[1:]:
                sink.write(json_line(mtkit.line_report(*done)))
        for sink in sinks:
            sink.finish()
    notes.end()


def require_sound(paths: Sequence[Path], *, scores: bool, as_json: bool) -> None:
    """Raise UsageError for what is no file, or for a flag that would be for nothing."""
    for path in paths:
        if not path.exists() or path.is_dir():
            what = "is a folder, not a file" if path.is_dir() else "no such file"
            raise UsageError(f"{path}: {what}", "name text files, or give the text to stdin")
    if scores and as_json:
        raise UsageError("--scores is for text; JSON holds every score", "leave --scores out")


def require_shareable(
    model: Path, files: Sequence[Path], output: Path | None, *, a_line_each: bool
) -> None:
    """Raise UsageError for a call whose output cannot be put together from parts."""
    if output is None or not files or not all(path.is_file() for path in files):
        raise UsageError(
            "only files can be shared among processes, or resumed: input and --output",
            f"mtkit translate {quote(str(model))} in.txt -o out.txt --resume",
        )
    if not a_line_each:
        raise UsageError(
            "several output lines for a line cannot be shared among processes, or resumed",
            "add --json: an object a line",
        )


def parts(
    stack: ExitStack,
    models: Sequence[Path],
    files: Sequence[Path],
    outputs: Mapping[str, Path | None],
    call: tuple[object, ...],
    share: Share,
    *,
    keep: bool,
) -> tuple[list[Sink | Part], range]:
    """The outputs, by their flags, as files to go on with, and the lines that they still want.

    The stack closes them.
    """
    inside = [path for model in models for path in model.glob("*")]
    weights = [path for path in sorted(inside) if path.suffix in _MODEL_FILES]
    owner = {"model": digest(weights), "input": digest(files), "options": list(call)}
    opened = [
        stack.enter_context(closing(Part(path, owner, share, keep=keep, flag=flag)))
        for flag, path in outputs.items()
        if path is not None
    ]
    done = min(part.done for part in opened)
    for part in opened:
        part.cut(done)
    total = sum(len(group) for group in read(files)) if share.world > 1 else sys.maxsize
    own = share.lines(total)
    return list(opened), range(own.start + done, own.stop)


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
            named = quote(str(path))
            hint = f"see what it is: ls -l {named}"
            if path.suffix == ".gz":
                hint = f"see how far it goes: gzip -t {named}"
            raise DataError(f"{path} cannot be read ({reason})", hint) from None


class Done(NamedTuple):
    """A line and what became of it."""

    number: int  # from 1
    source: str  # what was to be translated of it
    translation: "Translation"
    seconds: float  # its share of the time of its group


def translated(
    translator: "Translator",
    groups: Iterator[Group],
    notes: Notes,
    rows: Rows,
    wanted: range | None = None,
) -> Iterator[Done]:
    """Each line as soon as its group is done; `wanted` ones are counted from 0; None: all."""
    number = wanted.start if wanted else 0
    for group in groups if wanted is None else portion(groups, wanted):
        began = time.perf_counter()
        asked = [rows.asked(at, line) for at, (line, _) in enumerate(group, start=number + 1)]
        found = translator.translate(asked)
        seconds = (time.perf_counter() - began) / len(group)
        for (_, repaired), request, translation in zip(group, asked, found, strict=True):
            number += 1
            translation = replace(
                translation,
                repaired=repaired or translation.repaired,
                status="refused" if rows.refused(number) else translation.status,
            )
            notes.add(number, translation)
            source = request if isinstance(request, str) else request.source
            yield Done(number, source, translation, seconds)
        notes.progress(number)
