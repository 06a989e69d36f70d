"""`mtkit quickstart`: a first translator, trained here and now on the embedded phrasebook."""

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtkit import UsageError
from mtkit.cli import shipped
from mtkit.cli.options import Device
from mtkit.cli.output import draw, examples, say
from mtkit.cli.show import signatures
from mtkit.cli.train import carry_out

if TYPE_CHECKING:
    from mtkit import Finished, Recipe

_RECIPE = "phrasebook-ko-en-quickstart"
_SAMPLES = 6


def add_to(app: typer.Typer) -> None:
    app.command(
        epilog=examples("mtkit quickstart", "mtkit quickstart first --source de --target en")
    )(quickstart)


def quickstart(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="Where the run goes (default: quickstart)."),
    ] = None,
    source: Annotated[
        str, typer.Option(metavar="ko|de|en", help="Language to translate from.")
    ] = "ko",
    target: Annotated[
        str, typer.Option(metavar="ko|de|en", help="Language to translate into.")
    ] = "en",
    device: Device = "auto",
) -> None:
    """Train a first translator in a minute or two: no data, no download, no GPU needed."""
    default = "quickstart" if (source, target) == ("ko", "en") else f"quickstart-{source}-{target}"
    folder = folder or Path(default)
    recipe = _recipe(folder, source, target)
    if (folder / "finished.json").is_file():
        ended = time.localtime((folder / "finished.json").stat().st_mtime)
        say(f"{folder} was trained on {time.strftime('%Y-%m-%d at %H:%M', ended)}; it is kept")
        again = f"{shlex.quote(f'{folder}-2')} --source {source} --target {target}"
        say(f"(to train again, name another folder: mtkit quickstart {again})")
    else:
        say(f"training {source} -> {target} on the embedded phrasebook, in {folder}")
        say("it takes a minute or two; Ctrl-C stops it, and the same command goes on")
    try:
        finished, _ = carry_out(recipe, folder, device=device)
    except UsageError as error:
        if "--output" in (error.hint or ""):  # which is a flag of train
            languages = f"--source {source} --target {target}"
            error.hint = f"name another folder: mtkit quickstart OTHER_DIR {languages}"
        raise
    _tell(finished, recipe)


def _recipe(folder: Path, source: str, target: str) -> "Recipe":
    """What is trained in the folder already, or the shipped recipe for these languages."""
    import mtkit

    if (folder / "recipe.toml").is_file():
        there = mtkit.Recipe.load(folder / "recipe.toml")
        languages = there.data.source_language, there.data.target_language
        if languages != (source, target):
            other = shlex.quote(f"{folder}-{source}-{target}")
            raise UsageError(
                f"{folder} holds a run from {languages[0]} to {languages[1]}",
                f"name another folder: mtkit quickstart {other} "
                f"--source {source} --target {target}",
            )
        return there
    begun = (folder / "run.lock").exists()
    if folder.exists() and not begun and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is in use", "name a new folder: mtkit quickstart DIR")
    path = shipped.find(_RECIPE)
    text = path.read_text(encoding="utf-8").replace(
        "phrasebook:ko-en", f"phrasebook:{source}-{target}"
    )
    changes = [f'data.source_language="{source}"', f'data.target_language="{target}"']
    recipe = mtkit.Recipe.parse(text, str(path), changes)
    mtkit.open_corpora([*recipe.data.train, *recipe.data.test])
    return recipe


def _tell(finished: "Finished", recipe: "Recipe") -> None:
    """Scores on held-out sentences, some of these, and what can be done next."""
    from mtkit.cli.display import label

    run = finished.run
    sentences = samples(run, recipe)
    if finished.test:
        values = ", ".join(f"{label(k)} {v:.1f}" for k, v in finished.test.items())
        say(f"\non test sentences that it has never seen: {values}")
        for name, signature in signatures(run, "test").items():
            say(f"  {label(name)}|{signature}")
    rows = []
    for source, translation, reference in sentences:
        rows += [f"  {source}", f"    model      {translation}", f"    reference  {reference}", ""]
    draw("", *rows)
    mine = shlex.quote(sentences[0][0]) if sentences else "'...'"
    named = shlex.quote(str(run))
    data = recipe.data
    for line in (
        "next:",
        "  translate a line of your own, in the phrasebook's words:",
        f"    echo {mine} | mtkit translate {named}",
        "  learn from your own text, a sentence a line:",
        f"    mtkit train --source my.{data.source_language} --target my.{data.target_language} "
        "-o runs/mine",
        "  learn from a public corpus (downloads it):",
        "    mtkit train --corpus 'hf:Helsinki-NLP/opus-100/de-en:train#de,en' --preset small "
        "-o runs/de-en",
        "  see what was trained, and other recipes:",
        f"    mtkit show {named}; mtkit recipe list",
    ):
        say(line)


def samples(run: Path, recipe: "Recipe") -> list[tuple[str, str, str]]:
    """Some test sentences, spread evenly, with the run's translation and the reference."""
    import mtkit

    if not (run / "test.txt").is_file():
        return []
    pairs = list(mtkit.open_corpora(recipe.data.test))
    translations = list(mtkit.read_lines(run / "test.txt"))
    if len(pairs) != len(translations):
        return []
    every = max(len(pairs) // _SAMPLES, 1)
    chosen = range(every // 2, len(pairs), every)
    return [(pairs[n].source, translations[n], pairs[n].target) for n in chosen][:_SAMPLES]
