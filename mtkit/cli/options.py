"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

Device = Annotated[
    str,
    typer.Option(metavar="auto|cpu|cuda", help="Where to compute.", rich_help_panel="Hardware"),
]
Json = Annotated[
    bool,
    typer.Option("--json", metavar="", help="One JSON object a line.", rich_help_panel="Output"),
]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A model or run folder.")]
Workers = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="N",
        help="Processes of one thread that share the batches on a CPU; 0: as many as processors.",
        rich_help_panel="Hardware",
    ),
]
