"""Runs side by side: what each cost, what it scores, and where their translations part."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path
from statistics import median
from typing import Any

from mtkit import metrics
from mtkit.data.corpus import Pair
from mtkit.decoding.evaluate import evaluate
from mtkit.decoding.translator import Translator
from mtkit.errors import DataError, ModelError


@dataclass(frozen=True)
class Point:
    """One validation of a run."""

    update: int
    seconds: float
    loss: float
    scores: dict[str, float]


@dataclass(frozen=True)
class RunFacts:
    """What a run folder tells of its training."""

    name: str  # the folder's, or its path where another run's has that name
    path: Path
    title: str
    parameters: int
    updates: int
    seconds: float
    tokens_per_second: float  # target tokens; the median of the log's reports; nan without one
    loss: float  # of the best validation
    curve: tuple[Point, ...]
    machine: str


@dataclass(frozen=True)
class Compared:
    """A run and its translations of the corpus on which runs are compared."""

    facts: RunFacts
    translations: tuple[str, ...]
    sentences_per_second: float
    scores: dict[str, metrics.Score]
    p_values: dict[str, float | None]  # of the difference from the first run

    def row(self) -> dict[str, object]:
        """The table's row, for machines."""
        facts = self.facts
        return {
            "run": str(facts.path),
            "parameters": facts.parameters,
            "updates": facts.updates,
            "seconds": facts.seconds,
            "tokens_per_second": facts.tokens_per_second,
            "sentences_per_second": self.sentences_per_second,
            "loss": facts.loss,
            **{name: score.value for name, score in self.scores.items()},
            "signatures": {name: score.signature for name, score in self.scores.items()},
            "p_values": self.p_values,
        }


def run_facts(path: Path) -> RunFacts:
    """Read a run folder's card and log. Raises ModelError when there is no model in it."""
    try:
        card = json.loads((path / "card.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ModelError(f"{path} holds no model with a card", "name a run folder") from None
    events = list(_events(path / "log.jsonl"))
    points = tuple(
        Point(event["update"], event["seconds"], event["loss"], event["scores"])
        for event in events
        if event["event"] == "validated"
    )
    speeds = [event["tokens_per_second"] for event in events if event["event"] == "progressed"]
    best = card.get("valid", {}).get("update")
    losses = [point.loss for point in points if point.update == best]
    return RunFacts(
        path.resolve().name,
        path,
        card.get("title") or path.resolve().name,
        card.get("parameters", 0),
        max((point.update for point in points), default=card.get("update", 0)),
        max((point.seconds for point in points), default=card.get("seconds", 0.0)),
        median(speeds) if speeds else nan,
        min(losses, default=nan),
        points,
        card.get("machine", ""),
    )


def _events(path: Path) -> Sequence[dict[str, Any]]:
    """The events in a log; a line that is cut short is none."""
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [event for event in found if isinstance(event, dict) and "event" in event]


def compare_runs(
    runs: Sequence[Path],
    pairs: Sequence[Pair],
    *,
    target_language: str = "",
    tag: str | None = None,
    device: str = "auto",
    listen: Callable[[str], None] | None = None,
) -> list[Compared]:
    """Translate one corpus with every run and compare with the first, by paired bootstrap.

    `tag` stands before each source; None: that of the run's recipe. Raises DataError without pairs,
    ModelError for a folder without a model.
    """
    if not pairs:
        raise DataError("there is no pair to compare runs on", "name one with pairs: --corpus")
    facts = told_apart([run_facts(run) for run in runs])
    found = []
    for run in runs:
        if listen:
            listen(f"translating {len(pairs):,} sentences with {run}")
        translator = Translator.load(run, device=device)
        translator.tag = translator.tag if tag is None else tag
        found.append(evaluate(translator, pairs, target_language=target_language, metrics=()))
    texts = [tuple(t.text for t in evaluation.translations) for evaluation in found]
    scores = [_scores(text, pairs, target_language) for text in texts]
    p_values: list[dict[str, float | None]] = [dict.fromkeys(scores[0]) for _ in runs]
    if len(runs) > 1:
        # Names must differ, and folders of seeds may have one name.
        others = {f"{index}": text for index, text in enumerate(texts[1:], start=1)}
        references = [pair.target for pair in pairs]
        tested = metrics.compare(
            texts[0], others, references, target_language=target_language, metrics=("bleu", "chrf")
        )
        for item in tested:
            if item.system != "baseline":
                p_values[int(item.system)][item.score.name] = item.p_value
    return [
        Compared(*row)
        for row in zip(
            facts, texts, (e.sentences_per_second for e in found), scores, p_values, strict=True
        )
    ]


def told_apart(facts: Sequence[RunFacts]) -> list[RunFacts]:
    """The same with names and titles that differ: by their paths, where two have one of them."""
    names, titles = Counter(run.name for run in facts), Counter(run.title for run in facts)
    return [
        replace(
            run,
            name=str(run.path) if names[run.name] > 1 else run.name,
            title=f"{run.title} ({run.path})" if titles[run.title] > 1 else run.title,
        )
        for run in facts
    ]


def _scores(texts: Sequence[str], pairs: Sequence[Pair], language: str) -> dict[str, metrics.Score]:
    references = [pair.target for pair in pairs]
    found = metrics.score(texts, references, target_language=language, metrics=("bleu", "chrf"))
    return {score.name: score for score in found}


def most_different(
    compared: Sequence[Compared], pairs: Sequence[Pair], count: int = 8
) -> list[int]:
    """The sentences whose chrF differs most between the runs, the most different first."""
    spreads = []
    for index, pair in enumerate(pairs):
        values = [sentence_chrf(run.translations[index], pair.target) for run in compared]
        spreads.append(max(values) - min(values))
    return sorted(range(len(pairs)), key=lambda index: -spreads[index])[:count]


def worst(compared: Compared, pairs: Sequence[Pair], count: int = 5) -> list[int]:
    """The sentences that a run translates worst by chrF, the worst first."""
    values = [
        sentence_chrf(text, pair.target)
        for text, pair in zip(compared.translations, pairs, strict=True)
    ]
    return sorted(range(len(pairs)), key=values.__getitem__)[:count]


def sentence_chrf(text: str, reference: str) -> float:
    """chrF of one sentence."""
    return metrics.score([text], [reference], metrics=("chrf",))[0].value
