"""The ladder: train every rung into a run folder of its own, measure them all, judge the claims."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mtkit import model_dir
from mtkit.analysis import losses
from mtkit.analysis.claims import Claim, judge
from mtkit.analysis.evidence import Evidence, examine, in_batch, valid_pairs
from mtkit.analysis.exploding import explode
from mtkit.analysis.gradients import encoded
from mtkit.analysis.rules import Costs, Experiments
from mtkit.analysis.rungs import RUNGS, Climb, Rung, chosen, place_of, recipe_of, same_training
from mtkit.data.tokenizer import Tokenizer
from mtkit.models.build import build
from mtkit.models.seq2seq import Seq2Seq
from mtkit.recipe import Recipe, RecurrentSection
from mtkit.records import json_text
from mtkit.training.checkpoint import write_text
from mtkit.training.events import Event, Finished
from mtkit.training.run import train

_BATCH = 16
_UPDATES = 40  # of the experiment with exploding gradients
_WIDTH = 192  # of the cells whose costs are compared


@dataclass(frozen=True)
class Climbed:
    """A ladder that was trained as far as it went."""

    runs: tuple[Path, ...]
    evidence: tuple[Evidence, ...]
    claims: tuple[Claim, ...]
    interrupted: bool = False
    short: tuple[Path, ...] = ()  # runs that the clock ended before their updates were made


Listen = Callable[[int, int, str, Event | None], None]  # rung number from 0, rungs, title, event


def climb(plan: Climb, listen: Listen = lambda number, count, title, event: None) -> Climbed:
    """Train and measure what is not yet; the same call again goes on where it was.

    A rung is measured as soon as it is trained, and what was measured is kept in its folder. Rungs
    and seeds that another call with these settings trained in the same folder are judged too.
    """
    jobs = [(rung, seed) for seed in plan.seeds for rung in chosen(plan.rungs)]
    found: dict[Path, Evidence] = {}
    for number, (rung, seed) in enumerate(jobs):
        folder = plan.run(rung, seed)
        title = f"{rung.title}, seed {seed}"

        def hear(event: Event, number: int = number, title: str = title) -> None:
            listen(number, len(jobs), title, event)

        if not _trained(rung, plan, seed, folder, hear):
            return Climbed(tuple(found), tuple(found.values()), (), interrupted=True)
        listen(number, len(jobs), f"measuring {title}", None)
        found[folder] = examine(rung.name, seed, folder)
    for rung, seed in _of_other_calls(plan, set(found)):
        found[plan.run(rung, seed)] = examine(rung.name, seed, plan.run(rung, seed))
    listen(len(jobs) - 1, len(jobs), "measuring explosions and costs", None)
    ordered = sorted(found, key=lambda run: (found[run].seed, place_of(found[run].rung)))
    evidence = [found[run] for run in ordered]
    seeds = sorted({item.seed for item in evidence})
    first = [run for run in ordered if found[run].seed == whole_seed(evidence)]
    claims = judge(evidence, _experiments(first, seeds))
    short = tuple(filter(_ended_by_the_clock, ordered))
    table = {"claims": claims, "evidence": evidence, "ended_by_the_clock": list(map(str, short))}
    write_text(json_text(table, indent=1), plan.folder / "claims.json")
    return Climbed(tuple(ordered), tuple(evidence), tuple(claims), short=short)


def whole_seed(evidence: Sequence[Evidence]) -> int:
    """The seed of which most rungs were trained, the lowest of them."""
    counts = Counter(item.seed for item in evidence)
    return min(counts, key=lambda seed: (-counts[seed], seed))


def _of_other_calls(plan: Climb, known: set[Path]) -> Iterator[tuple[Rung, int]]:
    """Rungs that were trained to their end in the plan's folder by a recipe of this plan.

    Those that the clock ended are none of them, unless it is this plan's.
    """
    for path in sorted(plan.folder.glob("seed-*/*/finished.json")):
        seed = path.parent.parent.name.removeprefix("seed-")
        if path.parent in known or not seed.isdigit():
            continue
        for rung in RUNGS:
            if rung.name != path.parent.name:
                continue
            made, wanted = (
                Recipe.load(path.parent / "recipe.toml"),
                recipe_of(rung, plan, int(seed)),
            )
            as_long = made.training.minutes == wanted.training.minutes
            if same_training(made, wanted) and (as_long or not _ended_by_the_clock(path.parent)):
                yield rung, int(seed)


def _ended_by_the_clock(run: Path) -> bool:
    """Whether a finished run made fewer updates than it was to make."""
    finished = json.loads((run / "finished.json").read_text(encoding="utf-8"))
    return str(finished["reason"]).endswith("minutes")


def _trained(
    rung: Rung, plan: Climb, seed: int, folder: Path, listen: Callable[[Event], None]
) -> bool:
    """Train a rung to its end, if it is not there yet; False when it was interrupted."""
    ends: list[Finished] = []

    def hear(event: Event) -> None:
        listen(event)
        if isinstance(event, Finished):
            ends.append(event)

    train(recipe_of(rung, plan, seed), folder, device=plan.device, listeners=[hear])
    return not (ends and ends[-1].reason == "interrupted")


def _experiments(runs: Sequence[Path], seeds: Sequence[int]) -> Experiments:
    """What is measured beside the trained models: explosions, and what cells and rungs cost.

    `runs` are one seed's, of one vocabulary.
    """
    loaded = {run.name: model_dir.load(run) for run in runs}
    first = loaded[runs[0].name]
    tokenizers = first.source_tokenizer, first.target_tokenizer
    rows = encoded(valid_pairs(first.recipe), *tokenizers)
    rows.sort(key=lambda row: row[0].size(1))
    half = rows[len(rows) // 2 :]
    starts = range(0, max(1, len(half) - _BATCH + 1), _BATCH)
    batches = [in_batch(half[start : start + _BATCH]) for start in starts]
    courses = [batches[index % len(batches)] for index in range(_UPDATES)]
    return Experiments(
        tuple(explode(courses, tokenizers[0].size, seed=seed) for seed in seeds),
        costs(batches[-1], tokenizers),
        tuple(losses.speeds({name: it.model for name, it in loaded.items()}, *batches[-1])),
    )


def costs(
    batch: tuple[torch.Tensor, torch.Tensor], tokenizers: tuple[Tokenizer, Tokenizer]
) -> Costs:
    """Updates of a GRU and of an LSTM of one width, on one batch, in turns."""

    def fresh(cell: str) -> Seq2Seq:
        section = RecurrentSection.model_validate(
            {
                "kind": "recurrent", "cell": cell, "memory": "context", "width": _WIDTH,
                "embedding": _WIDTH // 2, "encoder_layers": 1, "decoder_layers": 1,
                "bidirectional": False,
            }
        )  # fmt: skip
        return build(section, tokenizers[0].size, tokenizers[1].size)

    works = [losses.updating(fresh(cell), *batch) for cell in ("gru", "lstm")]
    gru, lstm = losses.cpu_seconds(*works)
    return Costs(_WIDTH, gru, lstm)
