"""`mtkit evaluate`: scores, each with its signature, of a model or of translations in files."""

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtkit import DataError, ModelError, RecipeError, UsageError
from mtkit.cli.options import Device, Json
from mtkit.cli.output import Sink, draw, examples, json_line, say, write
from mtkit.cli.translate import Notes

if TYPE_CHECKING:
    from mtkit import Comparison, Corpus, Recipe, Score, Translator

_SCORES, _SEARCH, _OUTPUT = "Scores", "Search", "Output"


def add_to(app: typer.Typer) -> None:
    app.command(
        epilog=examples(
            "mtkit evaluate runs/de-en 'test.{de,en}'",
            "mtkit evaluate --reference test.en baseline.txt new.txt",
        )
    )(evaluate)


@dataclass(frozen=True)
class _Scorer:
    """How texts are scored; the same for every system of a table."""

    language: str
    lowercase: bool
    tokenize: str | None

    def score(self, hypotheses: Sequence[str], references: list[list[str]]) -> "list[Score]":
        import mtkit

        return mtkit.score(
            hypotheses,
            references,
            target_language=self.language,
            lowercase=self.lowercase,
            tokenize=self.tokenize,
        )

    def compare(
        self, systems: dict[str, list[str]], references: list[list[str]]
    ) -> "list[Comparison]":
        import mtkit

        (_, baseline), *others = systems.items()
        return mtkit.compare(
            baseline,
            dict(others),
            references,
            target_language=self.language,
            lowercase=self.lowercase,
            tokenize=self.tokenize,
        )


@dataclass(frozen=True)
class _Run:
    """How a model translates here, and where to."""

    beam: int | None
    device: str
    output: Path | None


def evaluate(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="WHAT...",
            help="A model with corpora to translate (default: the recipe's test corpora); or, with "
            "--reference, files of translations, compared with the first of them.",
            show_default=False,
        ),
    ],
    reference: Annotated[
        list[Path] | None,
        typer.Option(
            "--reference",
            "-r",
            metavar="FILE",
            help="Human translations; may be given several times.",
        ),
    ] = None,
    lowercase: Annotated[
        bool,
        typer.Option("--lowercase", metavar="", help="Disregard case.", rich_help_panel=_SCORES),
    ] = False,
    tokenize: Annotated[
        str | None,
        typer.Option(
            metavar="none|13a|...",
            help="BLEU's tokenizer (default: that of the language).",
            rich_help_panel=_SCORES,
        ),
    ] = None,
    target_language: Annotated[
        str | None,
        typer.Option(metavar="CODE", help="Language of the translations.", rich_help_panel=_SCORES),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Keep the translations.", rich_help_panel=_OUTPUT
        ),
    ] = None,
    as_json: Json = False,
    beam: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Hypotheses kept (default: the recipe's).",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    device: Device = "auto",
) -> None:
    """Score a model on corpora, or translations against references."""
    first = Path(what[0])
    if first.is_dir():
        scorer = _Scorer(target_language or "", lowercase, tokenize)
        if reference:
            raise UsageError(
                "a model is evaluated on corpora of pairs, not on --reference files",
                f"mtkit evaluate {first} 'test.{{de,en}}'",
            )
        scores = of_model(first, what[1:], scorer, _Run(beam, device, output))
        _show(*scores, as_json)
        return
    if not reference:
        if first.is_file():
            raise UsageError(
                f"{first} is a file: what shall it be compared with?",
                f"mtkit evaluate {first} --reference REFERENCE",
            )
        raise ModelError(f"{first}: there is no such model directory", "see: ls runs")
    if output:
        raise UsageError("--output keeps a model's translations; these are in files already")
    language = target_language or _language_of(reference[0])
    of_files(
        [Path(name) for name in what], reference, _Scorer(language, lowercase, tokenize), as_json
    )


def of_files(systems: list[Path], references: list[Path], scorer: _Scorer, as_json: bool) -> None:
    """Score one file of translations, or compare several with the first."""
    lists = [_lines(path) for path in references]
    texts = {str(path): _lines(path) for path in systems}
    for name, lines in texts.items():
        for path, others in zip(references, lists, strict=True):
            if len(lines) != len(others):
                raise DataError(
                    f"{name} has {len(lines):,} lines but {path} has {len(others):,}",
                    "score the translation of exactly the lines that the reference translates",
                )
    if len(texts) < len(systems):
        raise UsageError("the same file of translations is named twice")
    if len(texts) == 1:
        ((name, lines),) = texts.items()
        _show(name, scorer.score(lines, lists), as_json)
    else:
        _show_comparison(list(texts), scorer.compare(texts, lists), as_json)


def of_model(
    folder: Path,
    corpora: list[str],
    scorer: _Scorer,
    run: _Run,
) -> "tuple[str, list[Score]]":
    """Translate corpora with a model and score what comes out; the name of both and the scores."""
    import mtkit

    if not (folder / "recipe.toml").is_file():
        raise ModelError(f"{folder}: recipe.toml is missing", "name a model or run folder")
    recipe = mtkit.Recipe.load(folder / "recipe.toml")
    names = corpora or _own_corpora(recipe, folder)
    corpus = mtkit.open_corpora(names)
    language = scorer.language or recipe.data.target_language or corpus.languages[1] or ""
    _check_direction(recipe, corpus)
    translator = mtkit.Translator.load(folder, device=run.device)
    if corpus.tags:  # its sources bring their own
        translator.tag = ""
    options = translator.options
    translator.options = replace(options, beam=run.beam or options.beam)
    hypotheses, targets = _translate(translator, corpus, run.output)
    say(f"beam {translator.options.beam}, length penalty {options.length_penalty:g}")
    if run.output:
        say(f"the translations are in {run.output}")
    scores = replace(scorer, language=language).score(hypotheses, [targets])
    return f"{folder} on {corpus.name}", scores


def _translate(
    translator: "Translator", corpus: "Corpus", output: Path | None
) -> tuple[list[str], list[str]]:
    """Translations and references of the corpus; the former kept in a file if asked for."""
    pairs = list(corpus)
    for sentence in corpus.report.sentences():
        say(sentence)
    if not pairs:
        raise DataError(f"{corpus.name} holds no pair: there is nothing to score")
    notes = Notes(translator.max_source_length)
    found = []
    with closing(Sink(output)) as sink:
        sources = (pair.source for pair in pairs)
        for number, translation in enumerate(translator.stream(sources), start=1):
            notes.add(number, translation, repaired=False)
            notes.progress(number)
            found.append(translation.text)
            if output:
                sink.write(f"{translation.text}\n")
        sink.finish()
    notes.end()
    return found, [pair.target for pair in pairs]


def _own_corpora(recipe: "Recipe", folder: Path) -> tuple[str, ...]:
    """What the recipe says a model is to be scored on."""
    for key, names in (("test", recipe.data.test), ("valid", recipe.data.valid)):
        if names:
            say(f"on data.{key} of its recipe: {' '.join(names)}")
            return names
    raise RecipeError(
        f"{folder}: its recipe names no test corpus", f"mtkit evaluate {folder} 'test.{{de,en}}'"
    )


def _check_direction(recipe: "Recipe", corpus: "Corpus") -> None:
    """Raise UsageError when the corpus is of other languages, or the wrong way round."""
    wanted = recipe.data.source_language, recipe.data.target_language
    for side, asked, known in zip(("source", "target"), wanted, corpus.languages, strict=True):
        if asked and known and _base(asked) != _base(known):
            raise UsageError(
                f"the model's {side} language is {asked}, but {corpus.name} has {known} there",
                "turn the corpus round, or name another",
            )


def _base(language: str) -> str:
    return language.replace("_", "-").partition("-")[0].lower()


def _lines(path: Path) -> list[str]:
    import mtkit

    return list(mtkit.read_lines(path))


def _language_of(path: Path) -> str:
    """What the last suffix says, where it looks like a language."""
    suffix = path.name.removesuffix(".gz").rpartition(".")[2]
    return suffix if len(suffix) == 2 and suffix.isalpha() else ""


def _show(name: str, scores: "Sequence[Score]", as_json: bool) -> None:
    """One system: a line of JSON, or a row for each metric."""
    if as_json:
        write(json_line({"system": name, "scores": scores}))
        return
    from rich.table import Table

    table = Table("metric", "score", "signature", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for score in scores:
        table.add_row(score.label, f"{score.value:.2f}", score.signature)
    say(f"{name}: {scores[0].sentences:,} sentences")
    draw(table)


def _show_comparison(names: list[str], found: "Sequence[Comparison]", as_json: bool) -> None:
    """Several systems: the first is the baseline that p-values are about."""
    from rich.table import Table

    metrics = list(dict.fromkeys(item.score.label for item in found))
    by_system = [found[at : at + len(metrics)] for at in range(0, len(found), len(metrics))]
    if as_json:
        for name, items in zip(names, by_system, strict=True):
            write(
                json_line({"system": name, "scores": [{**vars(i), "system": name} for i in items]})
            )
        return
    table = Table("system", box=None, pad_edge=False)
    for label in metrics:
        table.add_column(f"{label} (mean ± 95 %)", justify="right")
        table.add_column("p", justify="right")
    for name, items in zip(names, by_system, strict=True):
        cells = []
        for item in items:
            p = item.p_value
            known = p is not None and not math.isnan(p)
            cells.append(f"{item.score.value:.2f} ({item.mean:.2f} ± {item.interval:.2f})")
            cells.append(f"{p:.4f}{'*' if p < 0.05 else ''}" if known and p is not None else "")
        table.add_row(name, *cells)
    draw(table)
    say(f"p: how likely chance alone explains the difference from {names[0]}; * below 0.05")
    for item in by_system[0]:
        say(item.score.signature)
