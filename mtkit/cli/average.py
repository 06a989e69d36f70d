"""`mtkit average`: the mean of a run's last checkpoints, or of several models, as a model."""

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from mtkit import ModelError, UsageError
from mtkit.cli.output import examples, say
from mtkit.cli.show import require_folder


def add_to(app: typer.Typer) -> None:
    app.command(
        epilog=examples(
            "mtkit average runs/de-en --last 5 -o models/de-en-mean",
            "mtkit average runs/a runs/b -o models/mean",
        )
    )(average)


def average(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="A run, or several models of one recipe."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the new model.")
    ],
    last: Annotated[
        int, typer.Option(min=2, metavar="N", help="Newest checkpoints of a single run.")
    ] = 5,
) -> None:
    """Average weights (Vaswani et al. 2017, 6.1); the mean often translates a little better."""
    import mtkit

    first = runs[0]
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output} exists already", "name a new folder")
    sources = runs if len(runs) > 1 else checkpoints(first)[-last:]
    loaded = mtkit.load(first)
    weights = mtkit.average(sources)
    loaded.model.load_state_dict(weights, strict=False)
    inherited = {k: v for k, v in loaded.card.items() if k not in ("valid", "test", "update")}
    card = {**inherited, "averaged": len(sources), "averaged_from": [str(path) for path in sources]}
    mtkit.save(
        output, loaded.model, loaded.recipe, loaded.source_tokenizer, loaded.target_tokenizer, card
    )
    say(f"{output}: the mean of {', '.join(path.name for path in sources)}")
    own = loaded.recipe.data.test or loaded.recipe.data.valid
    say(f"score it: mtkit evaluate {quote(str(output))}{'' if own else ' CORPUS'}")


def checkpoints(run: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first. Raises ModelError for fewer than two."""
    require_folder(run)
    found = sorted(run.glob("checkpoints/[0-9]*/weights.safetensors"))
    if len(found) < 2:
        raise ModelError(
            f"{run} holds {len(found)} checkpoints; a mean needs two",
            "name a run folder, or several models; a run keeps training.keep checkpoints",
        )
    return [path.parent for path in found]
