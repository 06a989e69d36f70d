"""`mtkit train`: from a recipe, or from two files, to a model; the same command again goes on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from mtkit import RecipeError, UsageError
from mtkit.cli import shipped
from mtkit.cli.options import Device, Json, split_by_the_shell
from mtkit.cli.output import examples, say
from mtkit.cli.show import signatures

if TYPE_CHECKING:
    from mtkit import Finished, Recipe

_INTERRUPTED = 130
_INPUT, _RUN = "Input", "This run"


def add_to(app: typer.Typer) -> None:
    app.command(
        epilog=examples(
            "mtkit train --source a.de --target a.en -o runs/de-en --preset small",
            "mtkit train phrasebook-ko-en-quickstart --set model.width=256",
        )
    )(train)


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE",
            help="A recipe file, the name of a shipped one, or a run folder to go on with.",
            autocompletion=shipped.complete,
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Sentences to learn from.", rich_help_panel=_INPUT),
    ] = None,
    target: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Their translations.", rich_help_panel=_INPUT),
    ] = None,
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Pairs to learn from: train.{de,en}, pairs.tsv, hf:owner/name, phrasebook:ko-en.",
            rich_help_panel=_INPUT,
        ),
    ] = None,
    valid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Pairs to validate on; without it some are held out.",
            rich_help_panel=_INPUT,
        ),
    ] = None,
    test: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Pairs to score at the end.", rich_help_panel=_INPUT),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Model and training, without a recipe: tiny, small (default), base, or a paper's, "
            "such as luong2015-small.",
            autocompletion=shipped.complete_preset,
            rich_help_panel=_RUN,
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a key of the recipe (see: mtkit recipe explain).",
            autocompletion=shipped.complete_key,
            rich_help_panel=_RUN,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Run folder (default: runs/NAME).",
            rich_help_panel=_RUN,
        ),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            metavar="",
            help="Say what the run would take, by a few updates; write nothing.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    verify_resume: Annotated[
        bool,
        typer.Option(
            "--verify-resume",
            metavar="",
            help="Prove here that a stopped run goes on exactly; leave nothing behind.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", metavar="", help="Say warnings only.", rich_help_panel="Output"),
    ] = False,
) -> None:
    """Train a model. The same command again goes on where it was stopped."""
    from mtkit.cli.display import summary

    corpora = {"train": list(corpus or ()), "valid": list(valid or ()), "test": list(test or ())}
    if source or target:
        corpora["train"].append(corpus_name(source, target))
    if recipe is None and not corpora["train"] and output and (output / "recipe.toml").is_file():
        recipe = str(output)
    loaded = load(recipe, preset, corpora, changes or [])
    if plan and verify_resume:
        raise UsageError("--plan and --verify-resume are two questions", "ask one at a time")
    if plan or verify_resume:
        from mtkit.cli import trial

        (trial.plan if plan else trial.verify)(loaded, device=device, as_json=as_json)
        return
    folder = output or default_output(recipe, loaded)
    if not output and not quiet:
        say(f"the run goes to {folder}")
    finished, trained = carry_out(loaded, folder, device=device, as_json=as_json, quiet=quiet)
    if not (quiet or as_json):
        if not trained:
            say(f"{folder} has come to its end already; longer: {_longer(loaded, finished)}")
        for line in summary(finished, signatures(folder, "valid")):
            say(line)


def _longer(recipe: "Recipe", finished: "Finished") -> str:
    """What to change for a run that has ended to go on."""
    limits = recipe.training
    if finished.reason.startswith("no gain"):
        return f"--set validation.patience={2 * recipe.validation.patience}"
    given = (("updates", limits.updates), ("epochs", limits.epochs), ("minutes", limits.minutes))
    return " ".join(f"--set training.{name}={2 * value:g}" for name, value in given if value)


def carry_out(
    recipe: "Recipe", folder: Path, *, device: str, as_json: bool = False, quiet: bool = False
) -> "tuple[Finished, bool]":
    """Train with a display; how it ended, and whether it had not ended before.

    Leaves with 130 when it was interrupted.
    """
    import mtkit
    from mtkit.cli.display import open_display

    with open_display(quiet=quiet, as_json=as_json) as display:
        mtkit.train(recipe, folder, device=device, listeners=[display])
    finished = display.finished
    if finished is None:  # a process of several that does not lead
        raise typer.Exit
    if finished.reason == "interrupted":
        say(f"stopped after update {finished.update:,}; everything is saved in {finished.run}")
        say("run the same command again to go on")
        raise typer.Exit(_INTERRUPTED)
    return finished, display.trained


def load(
    name: str | None, preset: str | None, corpora: dict[str, list[str]], changes: list[str]
) -> "Recipe":
    """The recipe that a call means. Raises UsageError where it means two, or half a corpus."""
    if name is None:
        return from_preset(preset or "small", corpora, changes)
    if preset:
        raise UsageError("a recipe brings its own model, a preset another", "leave --preset out")
    recipe_like = Path(name).suffix == ".toml" or Path(name).is_dir()
    if not recipe_like and (whole := split_by_the_shell([*corpora["train"], name])):
        raise UsageError(
            f"{name} is half of a name that the shell has split",
            f"in quotes it stays whole: '{whole}'",
        )
    return from_recipe(name, corpora, changes)


def from_preset(preset: str, corpora: dict[str, list[str]], changes: list[str]) -> "Recipe":
    """A recipe for named corpora alone; the languages are taken from their names."""
    import mtkit

    table = shipped.preset(preset)
    if not corpora["train"] and not any(change.startswith("data.train=") for change in changes):
        raise UsageError(
            "there is nothing to learn from: no recipe, no files, no corpus",
            "mtkit train --source a.de --target a.en, or a recipe: mtkit recipe list",
        )
    named = {key: names for key, names in corpora.items() if names}
    table["data"] = {**cast("dict[str, object]", table.get("data", {})), **named}
    recipe = mtkit.Recipe.from_table(table, f"preset {preset}")
    return with_languages(recipe.changed(changes) if changes else recipe)


def from_recipe(name: str, corpora: dict[str, list[str]], changes: list[str]) -> "Recipe":
    """A recipe file with the corpora and keys that this call changes."""
    import mtkit

    path = shipped.find(name)
    recipe = mtkit.Recipe.load(path, changes)
    named = {key: tuple(names) for key, names in corpora.items() if names}
    shipped.require_corpora(path, recipe, changes, named)
    if named:
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update=named)})
    if not recipe.data.train:
        raise RecipeError(
            f"{path}: data.train is empty", "name a corpus: --corpus, or --source and --target"
        )
    return with_languages(recipe)


def with_languages(recipe: "Recipe") -> "Recipe":
    """The recipe with languages filled in that the corpora say and it does not."""
    import mtkit

    data = recipe.data
    if data.source_language and data.target_language:
        return recipe
    source, target = mtkit.open_corpora(data.train, streaming=data.streaming).languages
    found = {
        "source_language": data.source_language or source or "",
        "target_language": data.target_language or target or "",
    }
    if not found["target_language"]:
        say("note: the target language is not known; BLEU counts words as in European languages")
        say("      (say it: --set data.target_language=ko)")
    return recipe.model_copy(update={"data": data.model_copy(update=found)})


def corpus_name(source: Path | None, target: Path | None) -> str:
    """Two files as one corpus: `a.{de,en}`, or `{x/a.de,y/b.en}` when more than a part differs."""
    if source is None or target is None:
        given = "--source" if target is None else "--target"
        other = "--target" if target is None else "--source"
        raise UsageError(f"{given} needs {other} beside it", f"name both: {given} A {other} B")
    for path in (source, target):
        if not path.is_file():
            raise UsageError(f"{path}: no such file", "--source and --target name two text files")
        if any(mark in str(path) for mark in "{},"):
            raise UsageError(f"{path}: a name of two files cannot hold braces or commas")
    if source.samefile(target):
        raise UsageError(
            f"{source} is both --source and --target", "name the file of the translations"
        )
    ours, theirs = str(source).split("."), str(target).split(".")
    differing = [n for n, pair in enumerate(zip(ours, theirs, strict=False)) if len(set(pair)) > 1]
    if len(ours) == len(theirs) and len(differing) == 1 and "/" not in ours[differing[0]]:
        at = differing[0]
        if "/" not in theirs[at]:
            return ".".join([*ours[:at], f"{{{ours[at]},{theirs[at]}}}", *ours[at + 1 :]])
    return f"{{{source},{target}}}"


def default_output(name: str | None, recipe: "Recipe") -> Path:
    """The run folder of a call that names none."""
    if name and Path(name).is_dir():
        return Path(name)
    if name:
        return Path("runs") / shipped.find(name).stem
    data = recipe.data
    return Path("runs") / f"{data.source_language or 'source'}-{data.target_language or 'target'}"
