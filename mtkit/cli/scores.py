"""Scores of systems: how they are computed, and how they are shown."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mtkit.cli.output import draw, json_line, say, write

if TYPE_CHECKING:
    from mtkit import Comparison, Score


@dataclass(frozen=True)
class Scorer:
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


def show(name: str, scores: "Sequence[Score]", as_json: bool) -> None:
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


def show_comparison(names: list[str], found: "Sequence[Comparison]", as_json: bool) -> None:
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
    say(f"p: how often so large a difference from {names[0]} would come by chance, were both")
    say("   equally good (paired bootstrap); * below 0.05")
    for item in by_system[0]:
        say(item.score.signature)
