"""The two pages: a comparison of any runs, and the ladder's report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

from mtkit import model_dir
from mtkit.analysis import report
from mtkit.analysis.attention import attention
from mtkit.analysis.charts import Line, alone, lines_chart
from mtkit.analysis.claims import claims_table
from mtkit.analysis.comparison import Compared, compare_runs
from mtkit.analysis.evidence import Evidence, valid_pairs
from mtkit.analysis.gradients import gradients
from mtkit.analysis.ladder import Climbed, whole_seed
from mtkit.analysis.length import Bin, by_copies, by_length, by_rarity
from mtkit.analysis.rungs import chosen
from mtkit.data.corpus import Pair, open_corpora
from mtkit.decoding.translator import Translator
from mtkit.errors import ModelError, UsageError
from mtkit.training.checkpoint import write_text

_COMPARED = 200


def binned_scores(
    run: Path, pairs: Sequence[Pair], *, by: str = "length", tag: str | None = None
) -> list[Bin]:
    """A run's scores of pairs by `length`, `rare` or `copies`. Raises UsageError for others.

    `tag` stands before each source; None: the recipe's.
    """
    if by not in ("length", "rare", "copies"):
        raise UsageError(f"--by {by} sorts nothing", "--by length, --by rare or --by copies")
    loaded = model_dir.load(run)
    language = loaded.recipe.data.target_language
    translator = Translator.load(run)
    translator.tag = translator.tag if tag is None else tag
    found = translator.translate([pair.source for pair in pairs])
    texts = [translation.text for translation in found]
    match by:
        case "rare":
            lines = (pair.source for pair in open_corpora(loaded.recipe.data.train))
            return by_rarity(pairs, texts, lines, target_language=language)
        case "copies":
            return by_copies(pairs, texts, target_language=language)
        case _:
            return by_length(pairs, texts, target_language=language)


def write_comparison(
    path: Path,
    compared: Sequence[Compared],
    pairs: Sequence[Pair],
    *,
    target_language: str = "",
    tag: str | None = None,
) -> None:
    """The report of runs: table, curves, lengths, gradients, attention, sentences.

    `tag` stands before each source; None: that of the run's recipe.
    """
    table, curves, *sentences = report.comparison_sections(compared, pairs)
    lengths = {
        run.facts.name: by_length(pairs, run.translations, target_language=target_language)
        for run in compared
    }
    reached = [
        replace(item, name=run.facts.name)
        for run in compared
        for item in gradients(run.facts.path, pairs, most=8, tag=tag)
    ]
    sections = [
        table,
        curves,
        report.length_section(lengths),
        report.gradient_section(reached),
        *_attention({run.facts.title: run.facts.path for run in compared}, pairs, tag),
        *sentences,
    ]
    report.write_page(path, report.page("Comparison of runs", sections))


def write_ladder(folder: Path, climbed: Climbed) -> Path:
    """The ladder's report, which is the path that is given back, and two parts of it as files.

    report.html: the claims, then what they were computed from, of one seed; claims.md: the
    table of claims; lengths.svg: the main picture, over all seeds.
    """
    first = whole_seed(climbed.evidence)
    measured = [item for item in climbed.evidence if item.seed == first]
    runs = [
        run for run, item in zip(climbed.runs, climbed.evidence, strict=True) if item.seed == first
    ]
    recipe = model_dir.load(runs[0]).recipe
    pairs = valid_pairs(recipe)[:_COMPARED]
    language = recipe.data.target_language
    compared = compare_runs(runs, pairs, target_language=language, device="cpu")
    table, curves, *sentences = report.comparison_sections(compared, pairs)
    picture = lengths_picture(climbed.evidence)
    seeds = sorted({item.seed for item in climbed.evidence})
    which = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    sections = [
        report.claims_section(climbed.claims),
        f"<h2>BLEU by source length, {which}</h2>{picture}" if picture else "",
        table,
        curves,
        report.length_section({item.rung: item.bins for item in measured}),
        report.gradient_section([moment for item in measured for moment in item.gradients]),
        *_attention({run.facts.title: run.facts.path for run in compared}, pairs),
        *sentences,
    ]
    page = folder / "report.html"
    report.write_page(page, report.page("From RNN to Transformer", sections))
    claims = claims_table(climbed.claims)
    if climbed.short:
        names = ", ".join(f"{run.parent.name}/{run.name}" for run in climbed.short)
        claims += f"\nThe clock ended these before all updates were made: {names}.\n"
    write_text(claims, folder / "claims.md")
    if picture:
        write_text(alone(picture), folder / "lengths.svg")
    return page


def lengths_picture(evidence: Sequence[Evidence]) -> str:
    """BLEU by source length of every rung: the mean over seeds, and half of the range between them.

    Empty where the sentences are all of one length.
    """
    by_rung: dict[str, list[Evidence]] = {}
    for item in evidence:
        by_rung.setdefault(item.rung, []).append(item)
    labels = [found.label for found in evidence[0].bins]
    if len(labels) < 2:
        return ""
    curves = []
    for rung, items in by_rung.items():
        values = [[found.scores[0].value for found in item.bins] for item in items]
        means = [mean(column) for column in zip(*values, strict=True)]
        spread = [(max(column) - min(column)) / 2 for column in zip(*values, strict=True)]
        points = tuple((float(place), value) for place, value in enumerate(means))
        curves.append(
            Line(chosen((rung,))[0].title, points, tuple(spread) if len(items) > 1 else ())
        )
    return lines_chart(curves, "words of the source", "BLEU", ticks=labels)


def _attention(
    runs: Mapping[str, Path], pairs: Sequence[Pair], tag: str | None = None
) -> list[str]:
    """The maps of one sentence of middling length, by every run that attends."""
    chosen = sorted(pairs, key=lambda pair: abs(len(pair.source.split()) - 8))[0]
    parts = ["<h2>Attention</h2>"]
    for title, run in runs.items():
        loaded = model_dir.load(run)
        try:
            found = attention(loaded, chosen.source, chosen.target, tag=tag)
        except ModelError:
            continue  # a context vector
        parts.append(report.attention_section(title, found))
    return parts if len(parts) > 1 else []
