"""`mtkit compare`: runs in one table, and in one page that needs nothing but a browser."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtkit.cli.analyze import AsJson, CorpusName, Most, Runs, pairs_of, recipe_of
from mtkit.cli.options import Device
from mtkit.cli.output import draw, examples, json_line, say, write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from mtkit import Compared


def add_to(app: typer.Typer) -> None:
    app.command(
        epilog=examples(
            "mtkit compare runs/lstm runs/transformer --corpus 'test.{de,en}'",
            "mtkit compare runs/lstm runs/transformer --html report.html",
        )
    )(compare)


def compare(
    runs: Runs,
    corpus: CorpusName = None,
    most: Most = 500,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, help="Write one self-contained HTML page."),
    ] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Compare runs: size, cost, speed, loss, scores, and whether these differ from the first's."""
    import mtkit

    pairs, tag = pairs_of(corpus, runs, most)
    language = recipe_of(runs[0]).data.target_language
    compared = mtkit.compare_runs(
        runs, pairs, target_language=language, tag=tag, device=device, listen=say
    )
    if as_json:
        for run in compared:
            write(json_line(run.row()))
    else:
        draw(*_table(compared))
    if html:
        mtkit.write_comparison(html, compared, pairs, target_language=language, tag=tag)
        say(f"the report is {html}")


def _table(compared: "Sequence[Compared]") -> "list[RenderableType]":
    from rich.table import Table

    from mtkit.cli.display import clock

    heads = ("run", "parameters", "updates", "time", "tokens/s", "sentences/s", "loss",
             "BLEU", "p", "chrF", "p")  # fmt: skip
    table = Table(*heads, box=None)
    for run in compared:
        facts = run.facts
        cells = []
        for name in ("bleu", "chrf"):
            p = run.p_values[name]
            cells += [f"{run.scores[name].value:.1f}", "" if p is None else f"{p:.3f}"]
        table.add_row(
            facts.name, f"{facts.parameters:,}", f"{facts.updates:,}", clock(facts.seconds),
            f"{facts.tokens_per_second:,.0f}", f"{run.sentences_per_second:.1f}",
            f"{facts.loss:.3f}", *cells,
        )  # fmt: skip
    scores = compared[0].scores.values()
    return [table, *(f"{score.label}|{score.signature}" for score in scores)]
