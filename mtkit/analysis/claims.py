"""The eight claims of the story from RNN to Transformer: each with its figures and its verdict.

A verdict is computed from the ladder's runs by a rule that stands beside it (rules.py). It is
"reproduced" where the rule holds for every seed, "not reproduced" where it holds for none, and
"not decided here" where the seeds disagree, or where what the rule needs was not trained or learned
nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from mtkit.analysis import rules
from mtkit.analysis.evidence import Evidence
from mtkit.analysis.rules import NO_EXPERIMENTS, Experiments, Found, Judged

Verdict = Literal["reproduced", "not reproduced", "not decided here"]


@dataclass(frozen=True)
class Claim:
    """A row of the table: what is said, what was measured, and whether it is so here."""

    number: int
    claim: str
    measured: str  # a figure a seed, in the seeds' order: "1 / 2 / 3"
    rule: str  # what must hold
    verdict: Verdict
    seeds: tuple[int, ...]  # that were judged; () where no seed could be


def judge(evidence: Sequence[Evidence], made: Experiments = NO_EXPERIMENTS) -> list[Claim]:
    """All eight claims, in order."""
    by_seed: dict[int, dict[str, Evidence]] = {}
    for item in evidence:
        by_seed.setdefault(item.seed, {})[item.rung] = item

    def over_rungs(rule: Callable[[Sequence[Found]], Judged]) -> Judged:
        return rule([by_seed[seed] for seed in sorted(by_seed)])

    judged = (
        ("gradients in the RNN vanish with distance, less so in LSTM and GRU",
         rules.VANISHING, over_rungs(rules.vanishing)),
        ("gradients explode where the recurrent matrix is large; clipping keeps training going",
         rules.EXPLODING, rules.explodes(made.exploding)),
        ("context-vector models fall with source length, attention models do not",
         rules.FALLING, over_rungs(rules.falling)),
        ("reversing the source moves where the loss falls: less at the targets' beginnings",
         rules.MOVED, over_rungs(rules.moved)),
        ("a GRU costs less than an LSTM per update", rules.COSTING, rules.costing(made.costs)),
        ("the Transformer trains faster per token than recurrent models, by parallelism",
         rules.FASTER, rules.faster(made.speeds)),
        ("without positional encoding word order is lost", rules.ORDER, over_rungs(rules.order)),
        ("\"don't\", last in Korean and first in English, is beyond the RNN, not beyond others",
         rules.NEGATED, over_rungs(rules.negated)),
    )  # fmt: skip
    return [
        Claim(number, words, *_verdict(found, rule)) for number, (words, rule, found) in
        enumerate(judged, 1)
    ]  # fmt: skip


def _verdict(found: Judged, rule: str) -> tuple[str, str, Verdict, tuple[int, ...]]:
    """What was measured, the rule, the verdict and the seeds it is of."""
    held = list(found.holds.values())
    seeds = tuple(seed for seed in found.holds if seed is not None)
    if not held:
        return found.measured, rule, "not decided here", ()
    if all(held):
        return found.measured, rule, "reproduced", seeds
    if any(held):
        only = ", ".join(str(seed) for seed, holds in found.holds.items() if holds)
        words = f"{found.measured}; the rule holds for seed {only} alone"
        return words, rule, "not decided here", seeds
    return found.measured, rule, "not reproduced", seeds


def claims_table(claims: Sequence[Claim]) -> str:
    """The claims as a table in Markdown."""
    rows = ["| claim | measured | it holds if | here |", "|---|---|---|---|"]
    for claim in claims:
        cells = (f"{claim.number}. {claim.claim}", claim.measured, claim.rule)
        plain = " | ".join(cell.replace("|", "\\|") for cell in cells)
        rows.append(f"| {plain} | **{claim.verdict}**{_of(claim.seeds)} |")
    return "\n".join(rows) + "\n"


def _of(seeds: Sequence[int]) -> str:
    if not seeds:
        return ""
    return f" (seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))})"
