"""`mtkit recipe`: the recipes that are shipped, and what every key of one means."""

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from mtkit.cli import shipped
from mtkit.cli.options import Json
from mtkit.cli.output import draw, examples, json_line, say, write

app = typer.Typer(
    help="List, read, copy and check recipes; explain their keys and presets.",
    epilog=examples("mtkit recipe list", "mtkit recipe explain training.max_tokens"),
    no_args_is_help=True,
)

Name = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="A recipe file, or the name of a shipped recipe.",
        autocompletion=shipped.complete,
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a key.", autocompletion=shipped.complete_key
    ),
]


@app.command("list", epilog=examples("mtkit recipe list", "mtkit recipe list --json | jq -r .name"))
def list_recipes(
    as_json: Json = False,
) -> None:
    """Name the shipped recipes, each with a line on what it is."""
    from rich.table import Table

    import mtkit

    table = Table("recipe", "what it is", box=None, pad_edge=False)
    for name in shipped.names():
        path = shipped.find(name)
        title = shipped.title(mtkit.Recipe.load(path), path)
        if as_json:
            write(json_line({"name": name, "title": title, "path": path}))
        table.add_row(name, title)
    if not as_json:
        draw(table)
        say("train one: mtkit train NAME    read one: mtkit recipe show NAME")
        say(f"presets, for mtkit train --preset NAME: {', '.join(shipped.presets())}")


@app.command(
    epilog=examples(
        "mtkit recipe show phrasebook-ko-en-quickstart",
        "mtkit recipe show my.toml --resolved --set model.width=512",
    )
)
def show(
    recipe: Name,
    resolved: Annotated[
        bool,
        typer.Option("--resolved", metavar="", help="Write every default out, comments left out."),
    ] = False,
    changes: Changes = None,
) -> None:
    """Print a recipe as it was written, or with every default."""
    import mtkit

    path = shipped.find(recipe, or_preset=True)
    loaded = mtkit.Recipe.load(path, changes or ())
    if resolved or changes:
        write(loaded.to_toml())
    else:
        write(path.read_text(encoding="utf-8"))


@app.command(
    epilog=examples(
        "mtkit recipe copy phrasebook-ko-en-quickstart",
        "mtkit recipe copy phrasebook-ko-en-quickstart mine.toml",
    )
)
def copy(
    recipe: Name,
    path: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Where to (default: NAME.toml here).")
    ] = None,
) -> None:
    """Copy a recipe, comments included, to a file of your own."""
    import mtkit

    source = shipped.find(recipe, or_preset=True)
    mtkit.Recipe.load(source)
    target = path or Path(source.name)
    target = target / source.name if target.is_dir() else target
    other = f"name another file: mtkit recipe copy {quote(recipe)} FILE"
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(source.read_text(encoding="utf-8"))
    except FileExistsError:
        raise mtkit.UsageError(f"{target} exists already", other) from None
    except OSError as error:
        raise mtkit.UsageError(f"{target} cannot be written ({error.strerror})", other) from None
    named, run = quote(str(target)), quote(f"runs/{target.stem}")
    say(f"wrote {target}; edit it, then: mtkit train {named} -o {run}")


@app.command(
    epilog=examples(
        "mtkit recipe check mine.toml", "mtkit recipe check mine.toml --set model.heads=8"
    )
)
def check(recipe: Name, changes: Changes = None) -> None:
    """Find out what is wrong with a recipe and whether its corpora can be opened."""
    import mtkit

    path = shipped.find(recipe)
    loaded = mtkit.Recipe.load(path, changes or ())
    shipped.require_corpora(path, loaded, changes or ())
    for key in ("train", "valid", "test"):
        corpora = getattr(loaded.data, key)
        here = [name for name in corpora if not name.startswith("hf:")]
        if here:
            mtkit.open_corpora(here)
        for name in corpora:
            if name not in here:
                say(f"{name} of data.{key} is opened when training starts")
    if not loaded.data.train:
        say("data.train is empty: name corpora in the recipe, or by mtkit train --corpus")
    say(f"{path}: every key is known and every value fits")


@app.command(
    epilog=examples(
        "mtkit recipe explain training.max_tokens", "mtkit recipe explain sutskever2014"
    )
)
def explain(
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY",
            help="A key, a section, or a preset of a paper; all keys without it.",
            autocompletion=shipped.complete_explained,
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Say what a key of the recipe means, or how near a preset is to its paper."""
    import mtkit
    from mtkit.cli import sheet

    name = shipped.spelled(key)
    if name in shipped.presets() and (found_sheet := shipped.sheet(name)) is not None:
        sheet.explain(name, found_sheet, as_json)
        return
    if key.endswith("/small"):
        shipped.preset(key)  # says which presets there are
    found = [
        knob
        for knob in mtkit.knobs()
        if not key or knob.key == key or knob.key.startswith(key.rstrip(".") + ".")
    ]
    if not found:
        near = mtkit.nearest_key(key)
        raise mtkit.RecipeError(
            f"no key or section of a recipe is called {key}",
            f"did you mean {near}?" if near else "see them all: mtkit recipe explain",
        )
    for knob in found:
        if as_json:
            write(json_line(knob.model_dump()))
            continue
        kind = f"   (model.kind = {knob.kind})" if knob.kind else ""
        write(f"{knob.key}{kind}\n    {knob.description}\n")
        write(f"    type: {knob.type}; default: {knob.default}\n")
