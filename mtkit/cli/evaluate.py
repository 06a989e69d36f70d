"""`mtkit evaluate`: scores, each with its signature, of a model or of translations in files."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from mtkit import DataError, ModelError, RecipeError, UsageError
from mtkit.cli.notes import Notes
from mtkit.cli.options import Beam, Compile, Device, Json, Others, Precision, Search, Workers
from mtkit.cli.output import Sink, examples, keep_inputs, say
from mtkit.cli.rows import numbered
from mtkit.cli.scores import Scorer, show, show_comparison

if TYPE_CHECKING:
    from mtkit import Corpus, Recipe, Score, SearchOptions, Translation, Translator

_SCORES, _OUTPUT = "Scores", "Output"


def add_to(app: typer.Typer) -> None:
    app.command(
        epilog=examples(
            "mtkit evaluate runs/de-en 'test.{de,en}'",
            "mtkit evaluate --reference test.en baseline.txt new.txt",
        )
    )(evaluate)


@dataclass(frozen=True)
class _Run:
    """How a model translates here, and where to."""

    models: Sequence[Path]
    beam: int | None
    search: Sequence[str]
    device: str
    precision: str
    compiled: bool
    workers: int
    output: Path | None

    def translator(self) -> "Translator":
        import mtkit

        translator = mtkit.Translator.load(
            *self.models,
            device=self.device,
            precision=self.precision,
            workers=self.workers,
            compiled=self.compiled,
        )
        if translator.uncompiled:
            say(f"note: translating without compiled functions: {translator.uncompiled}")
        given = {} if self.beam is None else {"beam": self.beam}
        translator.options = translator.options.changed(self.search, **given)
        _require_counting(translator.options)
        return translator

    def told(self, options: "SearchOptions") -> str:
        """What a score depends on beside the model and the corpus."""
        penalty = f"length penalty {options.length_penalty:g}"
        precision = [self.precision] if self.precision != "auto" else []
        return ", ".join([f"beam {options.beam}", penalty, *self.search, *precision])


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
    beam: Beam = None,
    search: Search = None,
    others: Others = None,
    device: Device = "auto",
    precision: Precision = "auto",
    compile_: Compile = False,
    workers: Workers = 0,
) -> None:
    """Score a model on corpora, or translations against references."""
    first = Path(what[0])
    if first.is_dir():
        scorer = Scorer(target_language or "", lowercase, tokenize)
        if reference:
            raise UsageError(
                "a model is evaluated on corpora of pairs, not on --reference files",
                f"mtkit evaluate {quote(str(first))} 'test.{{de,en}}'",
            )
        models = [first, *(others or ())]
        run = _Run(models, beam, search or (), device, precision, compile_, workers, output)
        show(*of_model(what[1:], scorer, run), as_json)
        return
    if not reference:
        if first.is_file():
            raise UsageError(
                f"{first} is a file: what shall it be compared with?",
                f"mtkit evaluate {quote(str(first))} --reference REFERENCE",
            )
        hint = f"see: ls {quote(str(first.parent))}"
        raise ModelError(f"{first}: there is no such model directory", hint)
    computing = {
        "output": output, "beam": beam, "search": search, "with": others, "compile": compile_,
        "precision": precision != "auto", "device": device != "auto", "workers": workers,
    }  # fmt: skip
    for flag, given in computing.items():
        if given:
            raise UsageError(
                f"--{flag} is for a model that translates; these are translations already",
                f"leave --{flag} out",
            )
    language = target_language or _language_of(reference[0])
    scorer = Scorer(language, lowercase, tokenize)
    _tell_unknown(scorer)
    of_files([Path(name) for name in what], reference, scorer, as_json)


def _tell_unknown(scorer: Scorer) -> None:
    if not scorer.language and not scorer.tokenize:
        say("note: the target language is not known; BLEU counts words as in European languages")
        say("      (say it: --target-language ko)")


def of_files(systems: list[Path], references: list[Path], scorer: Scorer, as_json: bool) -> None:
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
        raise UsageError("the same file of translations is named twice", "name each file once")
    if len(texts) == 1:
        ((name, lines),) = texts.items()
        show(name, scorer.score(lines, lists), as_json)
    else:
        show_comparison(list(texts), scorer.compare(texts, lists), as_json)


def of_model(corpora: list[str], scorer: Scorer, run: _Run) -> "tuple[str, list[Score]]":
    """Translate corpora with a model and score what comes out; the name of both and the scores."""
    import mtkit

    folder = run.models[0]
    if not (folder / "recipe.toml").is_file():
        raise ModelError(f"{folder}: recipe.toml is missing", "name a model or run folder")
    recipe = mtkit.Recipe.load(folder / "recipe.toml")
    names = corpora or _own_corpora(recipe, folder)
    corpus = mtkit.open_corpora(names)
    language = scorer.language or recipe.data.target_language or corpus.languages[1] or ""
    scorer = replace(scorer, language=language)
    _tell_unknown(scorer)
    _check_direction(recipe, corpus)
    inside = [file for model in run.models for file in model.glob("*")]
    keep_inputs([run.output], [*corpus.paths, *inside])
    scorer.score([""], [[""]])  # an unknown tokenizer is told before anything is translated
    with closing(run.translator()) as translator:
        # Sources that bring a tag of their own get no other.
        tags = ["" if mtkit.open_corpus(name).tags else translator.tag for name in names]
        hypotheses, targets = _translate(translator, corpus, tags, run.output)
    say(run.told(translator.options))
    if run.output:
        dropped = ", with an empty line for each row that was dropped"
        say(f"the translations are in {run.output}{dropped if corpus.report.dropped else ''}")
    scores = scorer.score(hypotheses, [targets])
    return f"{' + '.join(map(str, run.models))} on {corpus.name}", scores


def _translate(
    translator: "Translator", corpus: "Corpus", tags: Sequence[str], output: Path | None
) -> tuple[list[str], list[str]]:
    """Translations and references of the corpus; the former kept in a file if asked for.

    `tags` are to stand before the sources, one for each part of the corpus. Line N of the file is
    of row N, and empty where that row is no pair.
    """
    pairs = list(numbered(corpus))
    if not corpus.report.read:
        raise DataError(f"{corpus.name} holds no pair: there is nothing to score")
    for sentence in corpus.report.sentences():
        say(sentence)
    if not pairs:
        raise DataError(f"{corpus.name} holds no whole pair: there is nothing to score")
    notes = Notes(translator.max_source_length, translator.options.max_length_ratio)
    found, written = [], 0
    sources = (pair.source for _, pair in pairs)
    translations = _tagged(translator, sources, zip(tags, corpus.sizes, strict=True))
    with closing(Sink(output)) as sink:
        for (number, _), translation in zip(pairs, translations, strict=True):
            notes.add(number, translation)
            notes.progress(number)
            found.append(translation.text)
            if output:
                sink.write("\n" * (number - written - 1) + f"{translation.text}\n")
                written = number
        if output:
            sink.write("\n" * (corpus.report.read - written))
        sink.finish()
    notes.end()
    return found, [pair.target for _, pair in pairs]


def _tagged(
    translator: "Translator", sources: Iterator[str], parts: Iterable[tuple[str, int]]
) -> "Iterator[Translation]":
    """The translation of each source; a part is the tag of so many that follow one another."""
    for tag, size in parts:
        translator.tag = tag
        yield from translator.stream(islice(sources, size))


def _require_counting(options: "SearchOptions") -> None:
    """Raise UsageError for what changes no translation, and so no score."""
    several = options.n_best > 1 and not options.sampled  # the best of more samples is another one
    idle = {"n_best": several, "alignment": options.alignment, "token_scores": options.token_scores}
    for name, given in idle.items():
        if given:
            raise UsageError(
                f"{name} changes no score: it is for mtkit translate", f"leave --search {name} out"
            )


def _own_corpora(recipe: "Recipe", folder: Path) -> tuple[str, ...]:
    """What the recipe says a model is to be scored on."""
    for key, names in (("test", recipe.data.test), ("valid", recipe.data.valid)):
        if names:
            say(f"on data.{key} of its recipe: {' '.join(names)}")
            return names
    raise RecipeError(
        f"{folder}: its recipe names no test corpus",
        f"mtkit evaluate {quote(str(folder))} 'test.{{de,en}}'",
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
