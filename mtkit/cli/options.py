"""Options that several commands have."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import typer

Beam = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Hypotheses kept; 1 is greedy (default: the recipe's).",
        rich_help_panel="Search",
    ),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        metavar="",
        help="Compute by C++ functions, compiled once for this CPU: faster, the same search.",
        rich_help_panel="Hardware",
    ),
]
Device = Annotated[
    str,
    typer.Option(metavar="auto|cpu|cuda", help="Where to compute.", rich_help_panel="Hardware"),
]
Json = Annotated[
    bool,
    typer.Option("--json", metavar="", help="One JSON object a line.", rich_help_panel="Output"),
]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A model or run folder.")]
Others = Annotated[
    list[Path] | None,
    typer.Option(
        "--with",
        metavar="MODEL",
        help="One more model of an ensemble; may be given several times.",
        rich_help_panel="Search",
    ),
]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16", "int8"],
    typer.Option(help="Of the numbers inside the model.", rich_help_panel="Hardware"),
]
Search = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="May be given several times: length_penalty, max_length_ratio, max_length_offset, "
        "min_length, no_repeat, coverage_penalty, forbid, patience, unknown; groups, diversity; "
        "temperature, top_k, top_p, seed; mbr; token_scores, alignment, alignment_layer, "
        "replace_unknown.",
        rich_help_panel="Search",
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="N",
        help="Processes of one thread that share the batches on a CPU; 0: as many as processors.",
        rich_help_panel="Hardware",
    ),
]


def split_by_the_shell(arguments: Sequence[str]) -> str | None:
    """The name `train.{de,en}` where a shell has made two arguments of it."""
    for first, second in pairwise(arguments):
        (stem, _, one), (other, _, two) = first.rpartition("."), second.rpartition(".")
        if stem and stem == other and one != two:
            return f"{stem}.{{{one},{two}}}"
    return None
