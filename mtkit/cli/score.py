"""`mtkit score`: how likely a model finds given translations."""

from contextlib import closing
from itertools import tee
from math import exp
from pathlib import Path
from typing import Annotated

import typer

from mtkit import DataError
from mtkit.cli.options import Device, Json, Model, Others
from mtkit.cli.output import Sink, examples, json_line, keep_inputs, say
from mtkit.cli.rows import numbered

_PAIRS = "name pairs, such as 'test.{de,en}', or a .tsv with a source and a target in each row"


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
    """Score given pairs: a log-probability a line; with --json also that of every token.

    A row with an empty side gets an empty line; with --json, where pairs have numbers, none.
    """
    import mtkit

    models = [model, *(others or ())]
    translator = mtkit.Translator.load(*models, device=device)
    corpus = mtkit.open_corpora(corpora, tag=translator.tag)
    translator.tag = ""  # the sources bring it
    total, tokens, written = 0.0, 0, 0
    keep_inputs([output], [*corpus.paths, *(file for each in models for file in each.glob("*"))])
    rows, pairs = tee(numbered(corpus))
    scored = mtkit.score_pairs(translator, (pair for _, pair in pairs))
    with closing(Sink(output)) as sink:
        for (number, _), found in zip(rows, scored, strict=True):
            total, tokens = total + found.log_probability, tokens + found.tokens + 1
            if as_json:
                sink.write(json_line({"pair": number, **vars(found)}))
            else:
                sink.write("\n" * (number - written - 1) + f"{found.log_probability:.4f}\n")
            written = number
        if not corpus.report.read:
            raise DataError(f"{corpus.name} holds no pair: there is nothing to score", _PAIRS)
        for sentence in corpus.report.sentences():
            say(sentence)
        if not written:
            raise DataError(f"{corpus.name} holds no whole pair: there is nothing to score", _PAIRS)
        if not as_json:
            sink.write("\n" * (corpus.report.read - written))
        sink.finish()
    mean = total / tokens
    perplexity = exp(min(-mean, 700))
    count = f"{corpus.report.kept:,} pairs"
    say(f"{count}: {mean:.4f} a token, EOS counted; perplexity {perplexity:.2f}")
