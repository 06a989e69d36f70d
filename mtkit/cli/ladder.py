"""`mtkit ladder`: from an RNN to a Transformer, trained, measured and judged in one command."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtkit import DataError, RecipeError, UsageError
from mtkit.cli.options import Device
from mtkit.cli.output import draw, examples, json_line, say, write

if TYPE_CHECKING:
    from mtkit import Event

_EVERY = 20.0  # seconds between two lines of progress
_INTERRUPTED = 130


def add_to(app: typer.Typer) -> None:
    app.command(
        epilog=examples("mtkit ladder -o runs/ladder", "mtkit ladder -o runs/ladder --seeds 1,2,3")
    )(ladder)


def ladder(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of all its runs.")
    ] = Path("runs/ladder"),
    minutes: Annotated[
        float, typer.Option(min=0, metavar="N", help="Training of one seed's rungs; 0: no limit.")
    ] = 36.0,
    updates: Annotated[
        int, typer.Option(min=1, metavar="N", help="A rung ends after so many at the latest.")
    ] = 1500,
    seeds: Annotated[str, typer.Option(metavar="1,2,3", help="Train every rung by these.")] = "1",
    only: Annotated[str, typer.Option(metavar="rnn,lstm", help="Train these rungs alone.")] = "",
    corpus: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Train on this corpus instead of the phrasebook."),
    ] = None,
    valid: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Its pairs to measure on.")
    ] = None,
    device: Device = "auto",
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="The claims, one JSON object a line.")
    ] = False,
) -> None:
    """Train eight models of one size, then say which claims of the story hold here.

    The same command again goes on where it was stopped.
    """
    import mtkit

    if bool(corpus) != bool(valid):
        raise UsageError("--corpus and --valid go together", "name both, or neither")
    plan = mtkit.Climb(
        output,
        minutes,
        updates,
        _numbers(seeds),
        tuple(name for name in only.split(",") if name),
        tuple(corpus or ()),
        tuple(valid or ()),
        device,
    )
    try:
        climbed = mtkit.climb(plan, _Progress())
    except (DataError, RecipeError) as error:
        if "--set" in (error.hint or ""):  # which is a flag of train
            error.hint = "name another corpus, for example a larger one: --corpus NAME --valid NAME"
        raise
    if climbed.interrupted:
        say("stopped; run the same command again to go on")
        raise typer.Exit(_INTERRUPTED)
    report = mtkit.write_ladder(output, climbed)
    if climbed.short:
        say(f"warning: the clock ended {', '.join(map(str, climbed.short))}: they made")
        say("         fewer updates than asked for, of which the verdicts know nothing (--minutes)")
    for claim in climbed.claims:
        if as_json:
            write(json_line(claim))
        else:
            draw(
                f"{claim.number}. {claim.claim}: {claim.verdict}",
                f"   {claim.measured}",
                f"   it holds if {claim.rule}",
            )
    say(f"the report is {report}; beside it are claims.md and lengths.svg")


class _Progress:
    """Lines that say where on the whole ladder a run is."""

    def __init__(self) -> None:
        self._title = ""
        self._spoke = 0.0

    def __call__(self, number: int, count: int, title: str, event: "Event | None") -> None:
        from mtkit.cli.display import clock

        begun = title != self._title
        if begun:
            self._title = title
            say(f"[{number + 1}/{count}] {title}")
        if event is None or type(event).__name__ != "Progressed":
            return
        if time.monotonic() - self._spoke >= _EVERY:
            self._spoke = time.monotonic()
            facts = vars(event)
            left = "" if facts["remaining"] is None else f", {clock(facts['remaining'])} left"
            say(
                f"[{number + 1}/{count}] update {facts['update']:,}, loss {facts['loss']:.3f}{left}"
            )


def _numbers(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 0 or len(set(found)) < len(found):
        raise UsageError(f"--seeds {text} is no list of seeds", "for example --seeds 1,2,3")
    return found
