"""`mtkit show`: what a model is, what it scores and where it comes from."""

import json
from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtkit import ModelError
from mtkit.cli.curves import curve
from mtkit.cli.options import Model
from mtkit.cli.output import draw, examples, json_line, say, write

if TYPE_CHECKING:
    from rich.table import Table

    from mtkit import Recipe

Card = Mapping[str, Any]  # JSON
_CARD = "put back the card.json that was saved with the model"
_SHOWN = 12  # validations of a long run: so many of them, evenly


def add_to(app: typer.Typer) -> None:
    app.command(
        epilog=examples("mtkit show runs/de-en", "mtkit show runs/de-en --json | jq .test")
    )(show)


def show(
    model: Model,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="The card and validations as one object.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the curves into a picture: .png, .svg or .pdf."),
    ] = None,
) -> None:
    """Print a model's card: languages, size, scores with signatures, data, versions."""
    import mtkit

    card = read_card(model)
    validations = list(_validations(model / "log.jsonl"))
    if plot:
        mtkit.plot_curves(validations, plot, card.get("title", ""))
        say(f"{plot}: loss and scores of {len(validations)} validations")
    if as_json:
        write(json_line({**card, "validations": validations}))
        return
    recipe = mtkit.Recipe.load(model / "recipe.toml")
    draw(_facts(model, card, recipe))
    for part in ("valid", "test"):
        if card.get(part, {}).get("scores"):
            draw("", _scores(part, card[part]))
    if validations:
        draw("", _progress(validations))
    if len(validations) > 1:
        draw(*_curves(validations))


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a model directory, without its weights. Raises ModelError."""
    path = folder / "card.json"
    require_folder(folder)
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        begun = (folder / "checkpoints").is_dir() or (folder / "log.jsonl").is_file()
        if begun and not (folder / "weights.safetensors").exists():
            raise ModelError(
                f"{folder}: the run holds no model yet: it was not validated so far",
                "let it train to its first validation",
            ) from None
        raise ModelError(f"{folder}: card.json is missing", "name a model or run folder") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: damaged, or not a model's card ({error})", _CARD) from None
    if not isinstance(card, dict):
        raise ModelError(f"{path}: not a model's card", _CARD)
    return card


def require_folder(folder: Path) -> None:
    """Raise ModelError for a model or run folder that is a file, or is not there."""
    hint = f"see: ls {quote(str(folder.parent))}"
    if folder.is_file():
        raise ModelError(f"{folder} is a file, not a model or run folder", hint)
    if not folder.is_dir():
        raise ModelError(f"{folder}: there is no such model directory", hint)


def signatures(folder: Path, part: str) -> dict[str, str]:
    """The signatures of the scores in a model's card; `part` is valid or test."""
    try:
        return dict(read_card(folder).get(part, {}).get("signatures", {}))
    except ModelError:
        return {}


def _validations(path: Path) -> Iterator[dict[str, Any]]:
    """The validations in a run's log; a line that is cut short is not one."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and event.get("event") == "validated" and "scores" in event:
                yield {
                    key: value for key, value in event.items() if key not in ("event", "samples")
                }


def _facts(folder: Path, card: Card, recipe: "Recipe") -> "Table":
    from rich.table import Table

    from mtkit.cli.display import clock

    table = Table.grid(padding=(0, 2))
    data, model = recipe.data, recipe.model
    sizes = ", ".join(f"{key} {value:,}" for key, value in card.get("vocabulary", {}).items())
    layers = f"{model.encoder_layers}+{model.decoder_layers} layers of width {model.width}"
    trained = ""
    if {"update", "epochs", "seconds"} <= card.keys():
        trained = f"{card['update']:,} updates, {card['epochs']:.2f} epochs, "
        trained += clock(card["seconds"])
    rows = {
        "model": str(folder),
        "title": card.get("title") or recipe.title,
        "languages": f"{data.source_language or '?'} -> {data.target_language or '?'}",
        "kind": f"{model.kind}, {layers}",
        "parameters": f"{card.get('parameters', 0):,}",
        "vocabulary": f"{sizes} ({recipe.tokenizer.kind})",
        "trained on": " ".join(card.get("train", data.train))
        + (f" ({card['pairs']:,} pairs)" if "pairs" in card else ""),
        "trained for": trained,
        "hardware": ", ".join(str(card[k]) for k in ("machine", "precision") if k in card),
        "averaged": f"{card['averaged']} checkpoints" if "averaged" in card else "",
        "data": str(card.get("data", ""))[:16],
        "written by": f"mtkit {card.get('mtkit', '?')}, torch {card.get('torch', '?')}",
    }
    for key, value in rows.items():
        if value:
            table.add_row(key, value)
    return table


def _scores(part: str, found: Mapping[str, Any]) -> "Table":
    """The scores of a corpus, each with its signature."""
    from rich.table import Table

    from mtkit.cli.display import label

    name = " ".join(found.get("corpora", ())) or part
    table = Table(name, "", "signature", box=None, pad_edge=False)
    for metric, value in found["scores"].items():
        if metric in found.get("signatures", {}):
            table.add_row(label(metric), f"{value:.2f}", found["signatures"][metric])
    return table


def _curves(validations: list[dict[str, Any]]) -> list[str]:
    """Loss and scores over updates."""
    from mtkit.cli.display import label

    losses = [(event["update"], event["loss"]) for event in validations]
    losses = [(update, loss) for update, loss in losses if isfinite(loss)]
    found = [curve("loss", losses, ".3f")] if losses else []
    for metric in validations[-1]["scores"]:
        points = [(event["update"], event["scores"].get(metric, 0.0)) for event in validations]
        found.append(curve(label(metric), points))
    return [f"\n{drawn}" for drawn in found]


def _progress(validations: list[dict[str, Any]]) -> "Table":
    from rich.table import Table

    from mtkit.cli.display import clock, label, mark

    metrics = list(validations[-1]["scores"])
    table = Table("update", "epoch", "loss", *map(label, metrics), "time", "", box=None)
    for column in table.columns:
        column.justify = "right"
    every = -(-len(validations) // _SHOWN)
    best = max((index for index, event in enumerate(validations) if event["best"]), default=-1)
    for index, event in enumerate(validations):
        if index == best or (len(validations) - 1 - index) % every == 0:
            values = (f"{event['scores'].get(metric, 0):.1f}" for metric in metrics)
            table.add_row(
                f"{event['update']:,}",
                f"{event['epoch']:.2f}",
                f"{event['loss']:.3f}",
                *values,
                clock(event["seconds"]),
                mark(event["best"], event.get("averaged", 0)).strip(),
            )
    return table
