"""`mtkit score`: how likely a model finds given translations."""

from contextlib import closing
from math import exp
from pathlib import Path
from typing import Annotated

import typer

from mtkit import DataError
from mtkit.cli.options import Device, Json, Model, Others
from mtkit.cli.output import Sink, examples, json_line, keep_inputs, say


def add_to(app: typer.Typer) -> None:
    app.command(
        epilog=examples(
            "mtkit score runs/de-en 'test.{de,en}' > test.scores",
            "mtkit score runs/de-en pairs.tsv --json -o pairs.jsonl",
        )
    )(score)


def score(
    model: Model,
    corpora: Annotated[list[str], typer.Argument(metavar="CORPUS...", help="Pairs, by name.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="File to write.", rich_help_panel="Output"
        ),
    ] = None,
    as_json: Json = False,
    others: Others = None,
    device: Device = "auto",
) -> None:
    """Score given pairs: a log-probability a line; with --json also that of every token."""
    import mtkit

    translator = mtkit.Translator.load(model, *(others or ()), device=device)
    corpus = mtkit.open_corpora(corpora)
    if corpus.tags:  # its sources bring their own
        translator.tag = ""
    total, tokens, number = 0.0, 0, 0
    keep_inputs([output], corpus.paths)
    with closing(Sink(output)) as sink:
        for number, found in enumerate(mtkit.score_pairs(translator, corpus), start=1):
            total, tokens = total + found.log_probability, tokens + found.tokens + 1
            record = {"pair": number, **vars(found)}
            sink.write(json_line(record) if as_json else f"{found.log_probability:.4f}\n")
        if not corpus.report.read:
            raise DataError(f"{corpus.name} holds no pair: there is nothing to score")
        for sentence in corpus.report.sentences():
            say(sentence)
        if not number:
            raise DataError(f"{corpus.name} holds no whole pair: there is nothing to score")
        sink.finish()
    mean = total / tokens
    say(f"{number:,} pairs: {mean:.4f} a token, EOS counted; perplexity {exp(min(-mean, 700)):.2f}")
