"""`mtkit export`: a model for another engine, and the proof that it translates the same."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mtkit.cli.options import Json, Model
from mtkit.cli.output import draw, examples, json_line, say, write

if TYPE_CHECKING:
    from mtkit import Agreement


def add_to(app: typer.Typer) -> None:
    app.command(
        epilog=examples(
            "mtkit export runs/de-en --to ctranslate2 -o de-en.ct2",
            "mtkit export runs/de-en -o de-en.ct2 --verify 'test.{de,en}'",
        )
    )(export)


def export(
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="A new folder.")],
    to: Annotated[Literal["ctranslate2"], typer.Option(help="The engine.")] = "ctranslate2",
    precision: Annotated[
        Literal["float32", "int8", "int16", "float16", "bfloat16"],
        typer.Option(help="Of the weights that are stored."),
    ] = "float32",
    verify: Annotated[
        str | None,
        typer.Option(metavar="CORPUS", help="Translate it with both, compare and score both."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a Transformer as CTranslate2 runs it, with its tokenizers beside it."""
    import mtkit

    loaded = mtkit.load(model)
    corpus = mtkit.open_corpus(verify) if verify else None
    pairs = list(corpus or ())
    mtkit.export(loaded, output, precision)
    say(f"{output}: open it with ctranslate2.Translator({str(output)!r})")
    if corpus is None:
        if as_json:
            write(json_line({"output": str(output)}))
        return
    translator = mtkit.Translator.load(model, device="cpu", workers=0)
    computed = "default" if precision == "float32" else precision
    exported = mtkit.Exported(
        output,
        loaded.source_tokenizer,
        loaded.target_tokenizer,
        translator.options,
        device="cpu",
        compute_type=computed,
    )
    if corpus.tags:  # its sources bring their own
        translator.tag = ""
    exported.tag = translator.tag
    found = mtkit.agreement(
        translator,
        exported,
        [pair.source for pair in pairs],
        [pair.target for pair in pairs],
        loaded.recipe.data.target_language,
    )
    translator.close()
    if as_json:
        write(json_line(found))
    else:
        _show(found)


def _show(found: "Agreement") -> None:
    from rich.table import Table

    write(
        f"{found.same:,} of {found.lines:,} lines the same ({100 * found.share:.2f} %); "
        f"scores of the others at most {found.farthest:.1g} apart\n"
    )
    table = Table("", "mtkit", "exported")
    for ours, theirs in zip(found.original, found.exported, strict=True):
        table.add_row(ours.label, f"{ours.value:.2f}", f"{theirs.value:.2f}")
    draw(table)
    write(f"{found.original[0].signature}\n")
