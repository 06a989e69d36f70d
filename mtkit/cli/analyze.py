"""`mtkit analyze`: how far gradients reach, what length does, what a model attends to."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mtkit.cli.options import Model
from mtkit.cli.output import draw, examples, json_line, say, write
from mtkit.cli.show import require_folder

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mtkit import AttentionMaps, Bin, Gradients, Pair, Recipe

app = typer.Typer(
    help="Look into models: gradients, lengths, attention.",
    epilog=examples("mtkit analyze gradients runs/rnn", "mtkit analyze attention runs/lstm"),
    no_args_is_help=True,
)

Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Model or run folders.")]
CorpusName = Annotated[
    str | None,
    typer.Option(
        "--corpus", metavar="NAME", help="Pairs to look at (default: the first run's data.valid)."
    ),
]
Most = Annotated[int, typer.Option(min=1, metavar="N", help="Look at no more pairs than these.")]
Plot = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Draw it into a .png, .svg or .pdf (extra: plot)."),
]
AsJson = Annotated[bool, typer.Option("--json", metavar="", help="One JSON object a line.")]
_REACHES = (1, 5, 10, 20, 40, 80)
_SHADES = " .:-=+*#%@"


@app.command(
    epilog=examples(
        "mtkit analyze gradients runs/rnn runs/lstm",
        "mtkit analyze gradients runs/rnn runs/lstm --plot reach.svg",
    )
)
def gradients(
    runs: Runs,
    corpus: CorpusName = None,
    most: Most = 24,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Print what is left of the gradient by distance from the loss (Pascanu et al. 2013)."""
    import mtkit

    pairs, tag = pairs_of(corpus, runs)
    alike = len({run.resolve().name for run in runs}) < len(runs)
    found = [
        replace(item, name=str(run)) if alike else item
        for run in runs
        for item in mtkit.gradients(run, pairs, most=most, tag=tag)
    ]
    if as_json:
        for item in found:
            write(json_line(item))
    else:
        draw(*_gradient_tables(found))
    if plot:
        curves = [
            mtkit.Line(
                f"{item.name}, {item.moment}",
                tuple((float(d), n) for d, n in enumerate(item.decoder.norms) if n > 0),
                dashed=item.moment == "initial",
            )
            for item in found
            if item.decoder is not None
        ]
        words = "tokens from the loss (decoder)"
        mtkit.save_lines(plot, curves, words, "gradient norm / norm at 0", logarithmic=True)
        say(f"the picture is {plot}")


@app.command(
    epilog=examples(
        "mtkit analyze length runs/lstm runs/transformer --corpus 'test.{de,en}'",
        "mtkit analyze length runs/lstm --by copies --json",
    )
)
def length(
    runs: Runs,
    corpus: CorpusName = None,
    by: Annotated[
        Literal["length", "rare", "copies"], typer.Option(help="What the pairs are sorted by.")
    ] = "length",
    most: Most = 2000,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Print corpus BLEU and chrF by source length, rare or copied words, with 95 % intervals."""
    import mtkit

    pairs, tag = pairs_of(corpus, runs, most)
    found: dict[str, Sequence[Bin]] = {}
    for run in runs:
        say(f"translating {len(pairs):,} sentences with {run}")
        found[str(run)] = mtkit.binned_scores(run, pairs, by=by, tag=tag)
    for name, bins in found.items():
        if as_json:
            for item in bins:
                write(json_line({"run": name, **vars(item)}))
        else:
            draw(*_bin_table(name, bins))
    if plot:
        labels = list(dict.fromkeys(item.label for bins in found.values() for item in bins))
        curves = [
            mtkit.Line(
                name,
                tuple((float(labels.index(item.label)), item.scores[0].value) for item in bins),
            )
            for name, bins in found.items()
        ]
        mtkit.save_lines(plot, curves, f"bins: {', '.join(labels)}", "BLEU")
        say(f"the picture is {plot}")


@app.command(
    epilog=examples(
        "mtkit analyze attention runs/lstm --source 'Das ist ein Haus.'",
        "mtkit analyze attention runs/transformer --heads",
        "mtkit analyze attention runs/transformer --plot map.png",
    )
)
def attention(
    model: Model,
    source: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Sentence (default: the first of --corpus).")
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Its translation (default: the model's own).")
    ] = None,
    corpus: CorpusName = None,
    heads: Annotated[
        bool, typer.Option("--heads", metavar="", help="Every layer and head of a Transformer.")
    ] = False,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Draw which source tokens each target token looks at, with entropies and word alignments."""
    import mtkit

    tag = None
    if source is None:
        pairs, tag = pairs_of(corpus, [model], 1)
        source = pairs[0].source
    found = mtkit.attention(mtkit.load(model), source, target, tag=tag)
    if as_json:
        write(json_line(found))
    else:
        for line in heat_lines(found, heads):
            write(f"{line}\n")
    if plot:
        mtkit.save_map(plot, found.maps[0], found.target, found.source)
        say(f"the picture is {plot}")


def pairs_of(
    corpus: str | None, runs: Sequence[Path], most: int | None = None
) -> "tuple[list[Pair], str | None]":
    """The first pairs of a corpus by name, or of the validation corpora of the first run's recipe.

    With them the tag that is to stand before their sources: "" where they bring their own, and
    None, each run's own, elsewhere. Raises DataError where there is no pair, ModelError where there
    is no such run.
    """
    import mtkit

    for run in runs:
        require_folder(run)
    names = (corpus,) if corpus else _validated_on(runs[0])
    opened = mtkit.open_corpora(names)
    pairs = list(islice(opened, most))
    if not pairs:
        raise mtkit.DataError(f"{opened.name} holds no pair", "name a corpus: --corpus NAME")
    return pairs, "" if opened.tags else None


def _validated_on(run: Path) -> tuple[str, ...]:
    import mtkit

    data = recipe_of(run).data
    if not data.valid:
        raise mtkit.UsageError(f"{run} names no data.valid", "name a corpus: --corpus NAME")
    return data.valid


def recipe_of(run: Path) -> "Recipe":
    """The recipe in a model or run folder. Raises ModelError where it is missing."""
    import mtkit

    if not (run / "recipe.toml").is_file():
        raise mtkit.ModelError(f"{run}: recipe.toml is missing", "name a model or run folder")
    return mtkit.Recipe.load(run / "recipe.toml")


def heat_lines(found: "AttentionMaps", heads: bool) -> list[str]:
    """Alignment maps in characters: rows are target tokens, columns source tokens."""
    from rich.cells import cell_len

    lines = ["source: " + " ".join(f"{n}:{piece}" for n, piece in enumerate(found.source))]
    wide = max(map(cell_len, found.target))
    numbers = range(len(found.source))
    for item in found.maps if heads else found.maps[:1]:
        lines += ["", f"{item.name}, entropy {item.entropy:.2f} bits"]
        lines.append(" " * wide + "".join(f"{n:>3}" for n in numbers))
        for piece, row in zip(found.target, item.weights, strict=True):
            shades = (_SHADES[min(int(w * len(_SHADES)), len(_SHADES) - 1)] for w in row)
            lines.append(
                " " * (wide - cell_len(piece)) + piece + "".join(f"  {shade}" for shade in shades)
            )
    return [*lines, "", *(f"{target} <- {source}" for target, source in found.words)]


def _gradient_tables(found: "Sequence[Gradients]") -> "list[RenderableType]":
    from rich.table import Table

    tables: list[RenderableType] = []
    for side in ("encoder", "decoder"):
        table = Table(f"{side}: left at", *map(str, _REACHES), "steps", "Omega", "radius", box=None)
        for item in found:
            reach = getattr(item, side)
            if reach is not None:
                table.add_row(
                    f"{item.name}, {item.moment}",
                    *(_left(reach.at(distance)) for distance in _REACHES),
                    f"{reach.steps:.0%}",
                    "" if isnan(reach.omega) else f"{reach.omega:.2g}",
                    f"{item.radius:.2f}" if side == "decoder" and not isnan(item.radius) else "",
                )
        tables += [table, ""]
    return tables


def _left(share: float) -> str:
    """A share of the gradient; empty where no sentence is so long."""
    return "" if isnan(share) else f"{share:.1e}"


def _bin_table(name: str, bins: "Sequence[Bin]") -> "list[RenderableType]":
    from rich.table import Table

    table = Table(name, "sentences", "words", "BLEU", "", "chrF", "", box=None)
    for item in bins:
        cells = []
        for score, interval in zip(item.scores, item.intervals, strict=True):
            cells += [f"{score.value:.1f}", f"± {interval:.1f}"]
        table.add_row(item.label, f"{item.sentences:,}", f"{item.reference_words:,}", *cells)
    return [table, *(f"{s.label}|{s.signature}" for s in bins[0].scores), ""]
