"""The ladder: train every rung into a run folder of its own, measure them all, judge the claims."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from mtkit import model_dir
from mtkit.analysis import losses
from mtkit.analysis.claims import Claim, Costs, Evidence, in_batch, judge, negation_accuracy
from mtkit.analysis.exploding import Exploding, explode
from mtkit.analysis.gradients import encoded, measure
from mtkit.analysis.length import by_length
from mtkit.analysis.rungs import Climb, Rung, chosen, recipe_of
from mtkit.data.corpus import Pair, open_corpora
from mtkit.data.tokenizer import Tokenizer
from mtkit.decoding.translator import Translator
from mtkit.models.build import build
from mtkit.recipe import Recipe, RecurrentSection
from mtkit.training.checkpoint import write_text
from mtkit.training.events import Event, Finished
from mtkit.training.run import train

_MEASURED = 160  # sentences whose gradients and losses are followed
_TRANSLATED = 400
_NEGATIONS = 2500  # sentences of which the commands are taken
_BATCH = 16
_UPDATES = 40  # of the experiment with exploding gradients


@dataclass(frozen=True)
class Climbed:
    """A ladder that was trained as far as it went."""

    runs: tuple[Path, ...]
    evidence: tuple[Evidence, ...]
    claims: tuple[Claim, ...]
    interrupted: bool = False


Listen = Callable[[int, int, str, Event | None], None]  # rung number from 0, rungs, title, event


def climb(plan: Climb, listen: Listen = lambda number, count, title, event: None) -> Climbed:
    """Train what is not trained yet, then measure; the same call again goes on where it was."""
    jobs = [(rung, seed) for seed in plan.seeds for rung in chosen(plan.rungs)]
    share = plan.minutes / len(jobs)
    runs: list[Path] = []
    for number, (rung, seed) in enumerate(jobs):
        folder = plan.folder / f"seed-{seed}" / rung.name
        title = f"{rung.title}, seed {seed}"
        ends: list[Finished] = []

        def hear(
            event: Event, number: int = number, title: str = title, ends: list[Finished] = ends
        ) -> None:
            listen(number, len(jobs), title, event)
            if isinstance(event, Finished):
                ends.append(event)

        train(recipe_of(rung, plan, seed, share), folder, device=plan.device, listeners=[hear])
        if ends and ends[-1].reason == "interrupted":
            return Climbed(tuple(runs), (), (), interrupted=True)
        runs.append(folder)
    evidence = []
    for number, ((rung, seed), folder) in enumerate(zip(jobs, runs, strict=True)):
        listen(number, len(jobs), f"measuring {rung.title}, seed {seed}", None)
        evidence.append(examine(rung, seed, folder))
    claims = judge(evidence, *_experiments(runs))
    found = {"claims": [asdict(c) for c in claims], "evidence": [asdict(e) for e in evidence]}
    write_text(json.dumps(found, indent=1, ensure_ascii=False), plan.folder / "claims.json")
    return Climbed(tuple(runs), tuple(evidence), tuple(claims))


def valid_pairs(recipe: Recipe) -> list[Pair]:
    """The validation pairs of a rung, on which it is measured; the test split stays unseen."""
    return list(open_corpora(recipe.data.valid or recipe.data.train[:1]))[:_TRANSLATED]


def examine(rung: Rung, seed: int, folder: Path) -> Evidence:
    """All that the claims need of one rung."""
    loaded = model_dir.load(folder)
    pairs = valid_pairs(loaded.recipe)
    language = loaded.recipe.data.target_language
    translator = Translator.load(folder, device="cpu")
    texts = [item.text for item in translator.translate([pair.source for pair in pairs])]
    tokenizers = loaded.source_tokenizer, loaded.target_tokenizer
    rows = encoded(pairs[:_MEASURED], *tokenizers)
    longest = sorted(rows, key=lambda row: -row[0].size(1))[:24]
    torch.manual_seed(seed)
    fresh = build(loaded.recipe.model, tokenizers[0].size, tokenizers[1].size).eval()
    plain = losses.token_losses(loaded.model, rows)
    shuffled = losses.token_losses(loaded.model, rows, shuffle=1)
    batch = in_batch(longest[:_BATCH])
    seconds = losses.training_seconds(loaded.model, *batch)
    at_once, stepped = losses.decoding_seconds(loaded.model, *batch)
    return Evidence(
        rung.name,
        seed,
        (
            measure(fresh, longest, rung.name, "initial"),
            measure(loaded.model, longest, rung.name, "trained"),
        ),
        tuple(by_length(pairs, texts, target_language=language)),
        losses.by_thirds(plain),
        losses.mean_loss(plain),
        losses.mean_loss(shuffled),
        batch[1].numel() / seconds,
        at_once,
        stepped,
        _negation(translator, loaded.recipe),
    )


def _negation(translator: Translator, recipe: Recipe) -> tuple[tuple[str, int, float], ...]:
    """Balanced accuracy of negated commands by length; () for corpora other than the phrasebook."""
    if not all(name.startswith("phrasebook:ko-en") for name in recipe.data.train):
        return ()
    name = f"phrasebook:ko-en:valid#size={_NEGATIONS},seed=7,min_words=3,max_words=60"
    commands = [pair for pair in open_corpora([name]) if _is_command(pair.source)]
    found = []
    for label, low, high in (("3-20", 3, 20), ("21-60", 21, 60)):
        chosen = [p for p in commands if low <= len(p.source.split()) <= high][:200]
        texts = [item.text for item in translator.translate([pair.source for pair in chosen])]
        accuracy = negation_accuracy([pair.target for pair in chosen], texts)
        if accuracy is not None:
            found.append((label, *accuracy))
    return tuple(found)


def _is_command(korean: str) -> bool:
    """Whether the last word orders or asks: 마, 마세요, 지 마십시오, -세요, -아라, 주세요."""
    return korean.rstrip(".!").endswith(("세요", "십시오", "마", "마라", "라", "줘"))


def _experiments(runs: Sequence[Path]) -> tuple[Exploding | None, Costs | None]:
    """The two claims that need no trained model: exploding gradients, and what cells cost."""
    if not runs:
        return None, None
    loaded = model_dir.load(runs[0])
    pairs = valid_pairs(loaded.recipe)
    tokenizers = loaded.source_tokenizer, loaded.target_tokenizer
    rows = sorted(encoded(pairs, *tokenizers), key=lambda row: row[0].size(1))
    half = rows[len(rows) // 2 :]
    batches = [
        in_batch(half[start : start + _BATCH]) for start in range(0, len(half) - _BATCH + 1, _BATCH)
    ]
    courses = [batches[index % len(batches)] for index in range(_UPDATES)]
    return explode(courses, tokenizers[0].size), costs(batches[-1], tokenizers)


def costs(
    batch: tuple[torch.Tensor, torch.Tensor], tokenizers: tuple[Tokenizer, Tokenizer]
) -> Costs:
    """An update of a GRU and of an LSTM of one width, on one batch."""
    width = 192

    def seconds(cell: str) -> float:
        section = RecurrentSection.model_validate(
            {
                "kind": "recurrent", "cell": cell, "memory": "context", "width": width,
                "embedding": width // 2, "encoder_layers": 1, "decoder_layers": 1,
                "bidirectional": False,
            }
        )  # fmt: skip
        model = build(section, tokenizers[0].size, tokenizers[1].size)
        return losses.training_seconds(model, *batch)

    return Costs(width, seconds("gru"), seconds("lstm"))
