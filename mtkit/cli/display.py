"""What a training run looks like: live on a terminal, plain lines or JSON lines elsewhere."""

import math
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mtkit import Event, Finished, Noted, Preparing, Progressed, Saved, Started, Validated, Warned
from mtkit.cli.output import json_line, say, write

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_EVERY = 30.0  # seconds between two progress lines where nothing can be redrawn
_LABELS = {"bleu": "BLEU", "chrf": "chrF", "ter": "TER"}


class Display:
    """Lines of talk, one a listened event that is worth one; keeps what the end is told from."""

    def __init__(self, say: Callable[[str], None] = say) -> None:
        self.say = say
        self.started: Started | None = None
        self.finished: Finished | None = None
        self.trained = False
        self._stage = ""
        self._since = self._spoke = time.monotonic()
        self._validations = 0

    def __call__(self, event: Event) -> None:
        self.trained |= isinstance(event, Started)
        match event:
            case Preparing():
                self.preparing(event)
            case Started():
                self.started = event
                self.begin(event)
            case Progressed():
                self.progressed(event)
            case Validated():
                self.validated(event)
            case Warned():
                self.say(f"warning: {event.message}")
            case Noted():
                self.noted(event)
            case Finished():
                self.finished = event
            case Saved():
                pass

    def preparing(self, event: Preparing) -> None:
        now = time.monotonic()
        if event.stage != self._stage:
            self._stage, self._since, self._spoke = event.stage, now, now
            self.say(f"{event.stage} ...")
        rate = _rate(event)
        if event.fraction == 1.0 and rate and now - self._since >= 1:
            self.say(f"{event.stage}: {now - self._since:.0f} s{rate}")
        elif now - self._spoke >= _EVERY:
            self._spoke = now
            share = "" if event.fraction is None else f" {event.fraction:.0%}"
            self.say(f"{event.stage} ...{share}{rate}")

    def begin(self, event: Started) -> None:
        for note in event.notes:
            self.say(note)
        self.say(
            f"{event.parameters:,} parameters, {event.pairs:,} pairs, "
            f"{event.batches_per_epoch:,} batches an epoch; {event.device}, {event.precision}"
        )
        if event.resumed_at is not None:
            self.say(f"going on from update {event.resumed_at:,}")

    def noted(self, event: Noted) -> None:
        self.say(f"note: {event.message}")

    def progressed(self, event: Progressed) -> None:
        if time.monotonic() - self._spoke >= _EVERY:
            self._spoke = time.monotonic()
            end = "" if event.remaining is None else f"  {clock(event.remaining)} left"
            self.say("  ".join(facts(event)) + end)

    def validated(self, event: Validated) -> None:
        self._spoke = time.monotonic()
        if not self._validations:
            for name, signature in event.signatures.items():
                self.say(f"{label(name)}|{signature}")
            self.say(row("update", "epoch", "loss", "ppl", *map(label, event.scores)))
        self._validations += 1
        self.say(
            row(
                f"{event.update:,}",
                f"{event.epoch:.2f}",
                f"{event.loss:.3f}",
                f"{event.perplexity:.2f}",
                *(f"{value:.1f}" for value in event.scores.values()),
            )
            + f"  {clock(event.seconds)}"
            + mark(event.best, event.averaged)
        )


class Quiet(Display):
    """Warnings only."""

    def preparing(self, event: Preparing) -> None:
        pass

    begin = progressed = validated = noted = preparing  # type: ignore[assignment]


class JsonLines(Quiet):
    """Every event as a line of JSON on stdout."""

    def __call__(self, event: Event) -> None:
        name = type(event).__name__.lower()
        write(json_line({"event": name, **vars(event)}))
        self.trained |= isinstance(event, Started)
        if isinstance(event, Finished):
            self.finished = event


class Panel(Display):
    """A region at the foot of the terminal that is redrawn; what lasts is printed above it."""

    def __init__(self, live: "Live") -> None:
        super().__init__(self._print)
        self._live = live
        self._pace = ""

    def _print(self, text: str, style: str = "") -> None:
        self._live.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    def preparing(self, event: Preparing) -> None:
        if event.stage != self._stage:
            self._end_stage()
            self._stage, self._since = event.stage, time.monotonic()
        self._pace = _rate(event)
        self._live.update(_bar(event.stage + self._pace, event.fraction))

    def _end_stage(self) -> None:
        took = time.monotonic() - self._since
        if self._stage and took >= 1:
            self._print(f"{self._stage}: {took:.0f} s{self._pace}", "dim")
        self._stage = ""

    def begin(self, event: Started) -> None:
        self._end_stage()
        super().begin(event)
        self._live.update("the first updates ...")

    def progressed(self, event: Progressed) -> None:
        from rich.console import Group
        from rich.text import Text

        last = self.started.last_update if self.started else None
        total = "" if last is None else f"/{last:,}"
        first, *others = facts(event)
        line = Text("  ".join([first + total, *others]), no_wrap=True, overflow="ellipsis")
        if event.remaining is None:
            self._live.update(Group(line, Text(f"{clock(event.seconds)} so far", "dim")))
            return
        done = event.seconds / max(event.seconds + event.remaining, 1e-9)
        self._live.update(Group(line, _bar(f"{clock(event.remaining)} left", done)))

    def validated(self, event: Validated) -> None:
        super().validated(event)
        for sample in event.samples[:1]:
            self._print(f"    source       {sample.source}", "dim")
            self._print(f"    translation  {sample.translation}")
            self._print(f"    reference    {sample.reference}", "dim")


def _rate(event: Preparing) -> str:
    """How many pairs a second go through a stage, to stand behind its name."""
    return f", {event.pairs_per_second:,.0f} pairs/s" if event.pairs_per_second else ""


def _bar(text: str, fraction: float | None) -> "RenderableType":
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    grid = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=1.0, completed=fraction or 0.0, width=30, pulse=fraction is None)
    share = "" if fraction is None else f"{fraction:4.0%}"
    grid.add_row(bar, share, text)
    return grid


def facts(event: Progressed) -> list[str]:
    """A report in words, the most wanted first."""
    return [
        f"update {event.update:,}",
        f"epoch {event.epoch:.2f}",
        f"loss {event.loss:.3f}",
        f"{event.tokens_per_second:,.0f} tokens/s",
        f"rate {event.rate:.2e}",
    ]


def perplexity(loss: float) -> float:
    return math.exp(min(loss, 700.0))


def row(*cells: str) -> str:
    """Cells of a table whose rows come one by one."""
    return "".join(f"{cell:>9}" for cell in cells)


def mark(best: bool, averaged: int) -> str:
    """What stands behind a validation: a star for the best so far, and what a mean is of."""
    return (" *" if best else "") + (f" mean of {averaged}" if averaged else "")


def label(metric: str) -> str:
    return _LABELS.get(metric, metric)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def scores(values: dict[str, float]) -> str:
    """Scores in a line, as `BLEU 31.4  chrF 55.0`."""
    known = ((name, values[name]) for name in _LABELS if name in values)
    return "  ".join(f"{label(name)} {value:.1f}" for name, value in known)


@contextmanager
def open_display(*, quiet: bool = False, as_json: bool = False) -> Iterator[Display]:
    """The display that suits where stderr goes and what was asked for."""
    if as_json:
        yield JsonLines()
    elif quiet:
        yield Quiet()
    elif not sys.stderr.isatty():
        yield Display()
    else:
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True, emoji=False)
        with Live("starting ...", console=console, transient=True, refresh_per_second=8) as live:
            yield Panel(live)


def summary(finished: Finished, signatures: dict[str, str]) -> list[str]:
    """How a run ended, and what can be done now."""
    run, named = finished.run, shlex.quote(str(finished.run))
    told = [
        f"{finished.reason}, {clock(finished.seconds)} of training; "
        + (
            f"the best model is the mean of {finished.averaged} checkpoints"
            if finished.averaged
            else f"the best model is that of update {finished.best_update:,}"
        )
    ]
    if values := scores(finished.scores):
        told.append(f"validation: {values}")
    if values := scores(finished.test):
        told.append(f"test:       {values}")
    told += [f"  {label(name)}|{signature}" for name, signature in signatures.items()]
    return [
        *told,
        f"the model is in {run}; next:",
        f"  mtkit translate {named} < FILE",
        f"  mtkit evaluate {named}{'' if finished.test else ' CORPUS'}",
        f"  mtkit show {named}",
    ]
