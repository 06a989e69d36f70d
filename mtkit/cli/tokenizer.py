"""`mtkit tokenizer`: learn a vocabulary; text to pieces or ids, and back."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mtkit import DataError, ModelError, RecipeError
from mtkit.cli.output import Sink, examples, keep_inputs, say, write

if TYPE_CHECKING:
    from mtkit import Tokenizer

app = typer.Typer(
    help="Learn a vocabulary; turn text into pieces and back.",
    epilog=examples(
        "mtkit tokenizer train train.en -o en.spm", "mtkit tokenizer encode en.spm < in.txt"
    ),
    no_args_is_help=True,
)

File = Annotated[
    Path, typer.Argument(metavar="TOKENIZER", help="A .spm file, or a model or run folder.")
]
Ids = Annotated[bool, typer.Option("--ids", metavar="", help="Numbers, not pieces.")]
Target = Annotated[
    bool, typer.Option("--target", metavar="", help="The target's, where a folder holds two.")
]


@app.command(
    epilog=examples(
        "mtkit tokenizer train 'train.{de,en}' -o joint.spm --vocabulary 16000",
        "mtkit tokenizer train train.ko -o ko.spm --kind unigram",
    )
)
def train(
    corpora: Annotated[
        list[str],
        typer.Argument(
            metavar="CORPUS...", help="Corpora of pairs (both sides are read), or files of lines."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The .spm file to write.")
    ],
    kind: Annotated[
        Literal["bpe", "unigram", "char", "word"], typer.Option(help="How pieces are found.")
    ] = "bpe",
    vocabulary: Annotated[
        int, typer.Option(min=8, metavar="N", help="Pieces, special ones included.")
    ] = 8000,
    no_bytes: Annotated[
        bool,
        typer.Option("--no-bytes", metavar="", help="Do not spell unknown characters as bytes."),
    ] = False,
    coverage: Annotated[
        float,
        typer.Option(min=0.5, max=1, metavar="X", help="Share of characters that become pieces."),
    ] = 1.0,
) -> None:
    """Learn a vocabulary from text (SentencePiece)."""
    import mtkit

    section = mtkit.TokenizerSection(
        kind=kind,
        vocabulary=vocabulary,
        byte_fallback=not no_bytes,
        character_coverage=coverage,
    )
    keep_inputs([output], [path for name in corpora for path in _paths(name)])
    with closing(Sink(output)) as sink:
        try:
            tokenizer = mtkit.Tokenizer.train(_texts(corpora), section)
        except (DataError, RecipeError) as error:
            error.hint = _as_flags(error.hint)
            raise
        sink.write_bytes(tokenizer.to_bytes())
        sink.finish()
    say(f"{output}: {tokenizer.size:,} pieces ({kind})")


@app.command(
    epilog=examples(
        "mtkit tokenizer encode runs/de-en < in.de", "mtkit tokenizer encode en.spm --ids < in.en"
    )
)
def encode(
    tokenizer: File,
    ids: Ids = False,
    target: Target = False,
) -> None:
    """Write the pieces of each line of stdin, separated by spaces."""
    loaded = load(tokenizer, target=target)
    for lines in _stdin():
        if ids:
            rows = [" ".join(map(str, row)) for row in loaded.encode(lines)]
        else:
            rows = [" ".join(row) for row in loaded.encode_pieces(lines)]
        write("".join(f"{row}\n" for row in rows))


@app.command(
    epilog=examples(
        "mtkit tokenizer decode en.spm --ids < ids.txt",
        "mtkit tokenizer decode runs/de-en --target < pieces.txt",
    )
)
def decode(tokenizer: File, ids: Ids = False, target: Target = False) -> None:
    """Write the text of each line of pieces, or ids, on stdin."""
    loaded = load(tokenizer, target=target)
    name = str if ids else loaded.piece
    known = {name(token): token for token in range(loaded.size)}
    number = 0
    for lines in _stdin():
        rows = []
        for line in lines:
            number += 1
            parts = [part for part in line.split(" ") if part]
            if unknown := next((part for part in parts if part not in known), None):
                raise DataError(
                    f"line {number}: {unknown} is no {'id' if ids else 'piece'} of {tokenizer}",
                    _advice(unknown, tokenizer, loaded.size, ids=ids),
                )
            rows.append([known[part] for part in parts])
        write("".join(f"{text}\n" for text in loaded.decode(rows)))


def _advice(unknown: str, tokenizer: Path, size: int, *, ids: bool) -> str:
    """What to do about a word that stands where an id or a piece should."""
    number = unknown.isdecimal()
    if ids:
        return f"ids go from 0 to {size - 1}" if number else "pieces are read without --ids"
    encode = f"text becomes pieces by: mtkit tokenizer encode {quote(str(tokenizer))} < FILE"
    return "numbers are read with --ids" if number else encode


def _as_flags(hint: str | None) -> str | None:
    """Advice on keys of a recipe as advice on this command's flags."""
    flags = {"vocabulary": "--vocabulary", "character_coverage": "--coverage", "kind": "--kind"}
    for key, flag in flags.items():
        hint = hint and hint.replace(f"--set tokenizer.{key}=", f"{flag} ")
    return hint


def load(path: Path, *, target: bool) -> "Tokenizer":
    """The tokenizer in a file, or that of the source or target in a model folder."""
    import mtkit

    if path.is_dir():
        names = ["joint.spm", "target.spm" if target else "source.spm"]
        found = next((path / name for name in names if (path / name).is_file()), None)
        if found is None:
            raise ModelError(f"{path} holds no tokenizer", "name a .spm file, or a model folder")
        path = found
    return mtkit.Tokenizer.load(path)


def _paths(name: str) -> list[Path]:
    """The files that a corpus or a file of lines is read from."""
    import mtkit

    if Path(name).is_file() and not _is_table(name):
        return [Path(name)]
    return list(mtkit.open_corpus(name).paths)


def _texts(corpora: list[str]) -> Iterator[str]:
    """The lines of files, and both sides of corpora of pairs."""
    import mtkit

    for name in corpora:
        if Path(name).is_file() and not _is_table(name):
            yield from mtkit.read_lines(Path(name))
        else:
            for pair in mtkit.open_corpus(name):
                yield pair.source
                yield pair.target


def _is_table(name: str) -> bool:
    return name.removesuffix(".gz").endswith((".tsv", ".jsonl", ".parquet"))


def _stdin() -> Iterator[list[str]]:
    """Lines of stdin in groups that never wait for more than is there."""
    from mtkit.cli.translate import read

    number = 0
    for group in read([]):
        for _, repaired in group:
            number += 1
            if repaired:
                raise DataError(
                    f"line {number} of stdin is not UTF-8",
                    "convert it if it is Latin-1: iconv -f latin1 -t utf-8 FILE > FILE.utf8",
                )
        yield [line for line, _ in group]
