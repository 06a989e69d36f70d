"""The eight claims of the story from RNN to Transformer: each with its figures and its verdict.

A verdict is computed from the ladder's runs, and holds only if it holds for every seed. Where a
rung is missing, it is that nothing was measured.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

import torch
from torch import Tensor

from mtkit.analysis.exploding import Exploding
from mtkit.analysis.gradients import Gradients
from mtkit.analysis.length import Bin
from mtkit.analysis.losses import Rows

Verdict = Literal["reproduced", "not reproduced", "not measured"]
FAR = 40  # tokens
CONTEXT = ("rnn", "gru", "lstm")
ATTENTION = ("lstm-additive", "lstm-dot", "transformer")


@dataclass(frozen=True)
class Evidence:
    """What was measured of one rung with one seed."""

    rung: str
    seed: int
    gradients: tuple[Gradients, ...]  # initial and trained
    bins: tuple[Bin, ...]  # by source length
    thirds: tuple[float, float, float]  # loss of the targets' first, middle and last third
    loss: float  # with the source as it is
    shuffled: float  # with the source tokens in random order
    tokens_per_second: float  # of training, by CPU time
    at_once: float  # CPU seconds of teacher forcing
    stepped: float  # the same positions one by one
    negation: tuple[tuple[str, int, float], ...]  # words, sentences, balanced accuracy


@dataclass(frozen=True)
class Costs:
    """CPU seconds of an update of two cells of one width."""

    width: int
    gru: float
    lstm: float


@dataclass(frozen=True)
class Claim:
    """A row of the table: what is said, what was measured, and whether it is so here."""

    number: int
    claim: str
    measured: str
    verdict: Verdict


Found = Mapping[str, Evidence]  # one seed's rungs by name


def judge(
    evidence: Sequence[Evidence], exploding: Exploding | None, costs: Costs | None
) -> list[Claim]:
    """All eight claims, in order."""
    seeds: dict[int, dict[str, Evidence]] = {}
    for item in evidence:
        seeds.setdefault(item.seed, {})[item.rung] = item
    by_seed = list(seeds.values())
    return [
        _over(1, "RNN gradients vanish with distance, less in LSTM and GRU", by_seed, _vanishing),
        _exploding(exploding),
        _over(3, "context vectors fall with source length, attention does not", by_seed, _falling),
        _over(4, "reversing the source takes loss from the targets' beginnings", by_seed, _moved),
        _costs(costs),
        _over(6, "the Transformer trains faster per token, by parallelism", by_seed, _faster),
        _over(7, "without positions word order is lost", by_seed, _order),
        _over(8, "attention learns distant negation better than the RNN", by_seed, _negated),
    ]


Judged = tuple[str, bool] | None


def _over(
    number: int, claim: str, seeds: Sequence[Found], rule: Callable[[Found], Judged]
) -> Claim:
    """A claim over all seeds: one that a seed denies is not reproduced."""
    found = [judged for seed in seeds if (judged := rule(seed)) is not None]
    if not found:
        return Claim(
            number, claim, "its rungs were not trained, or learned nothing", "not measured"
        )
    agreed = all(holds for _, holds in found)
    words = " | ".join(text for text, _ in found)
    return Claim(number, claim, words, "reproduced" if agreed else "not reproduced")


def _vanishing(found: Found) -> Judged:
    if any(name not in found for name in CONTEXT):
        return None
    shares: dict[str, list[float]] = {}
    for name in CONTEXT:
        reaches = [moment.encoder for moment in found[name].gradients]
        shares[name] = [reach.at(FAR) if reach else float("nan") for reach in reaches]
    values = [share for pair in shares.values() for share in pair]
    if not values or not all(map(isfinite, values)):
        return None
    words = ", ".join(f"{name} {a:.1e} -> {b:.1e}" for name, (a, b) in shares.items())
    rnn, gru, lstm = (shares[name][-1] for name in CONTEXT)
    text = f"share of the encoder's gradient left {FAR} tokens away, initial -> trained: {words}"
    return text, rnn < 0.1 and rnn < gru and rnn < lstm


def _exploding(found: Exploding | None) -> Claim:
    claim = "gradients explode when the recurrent matrix is large, and clipping keeps training sane"
    if found is None:
        return Claim(2, claim, "the experiment was not made", "not measured")
    small, large, clipped = found.small, found.large, found.clipped
    words = (
        f"largest gradient norm {small.largest:.2g} at spectral radius {small.radius:g}, "
        f"{large.largest:.2g} at {large.radius:g}; loss after {found.updates} updates "
        f"{large.loss:.2f} unclipped, {clipped.loss:.2f} clipped"
    )
    better = not isfinite(large.loss) or clipped.loss < large.loss
    holds = large.largest > 10 * small.largest and better
    return Claim(2, claim, words, "reproduced" if holds else "not reproduced")


def kept(bins: Sequence[Bin]) -> float:
    """The BLEU of the longest sentences as a share of that of the shortest."""
    first, last = bins[0].scores[0].value, bins[-1].scores[0].value
    return last / first if first else float("nan")


def _falling(found: Found) -> Judged:
    context = [name for name in CONTEXT if name in found]
    attention = [name for name in ATTENTION if name in found]
    if not context or not attention or len(found[context[0]].bins) < 2:
        return None
    shares = {name: kept(found[name].bins) for name in [*context, *attention]}
    first, last = found[context[0]].bins[0].label, found[context[0]].bins[-1].label
    if not all(map(isfinite, shares.values())):
        return None  # a model that learned nothing has nothing to lose with length
    words = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    holds = max(shares[n] for n in context) < min(shares[n] for n in attention)
    return f"BLEU at {last} words as a share of that at {first}: {words}", holds


def _moved(found: Found) -> Judged:
    if "lstm" not in found or "lstm-reversed" not in found:
        return None
    plain, turned = found["lstm"].thirds, found["lstm-reversed"].thirds
    gains = [a - b for a, b in zip(plain, turned, strict=True)]
    words = ", ".join(f"{gain:+.3f}" for gain in gains)
    text = f"loss that reversal saves a token in the targets' first, middle, last third: {words}"
    return text, gains[0] > 0 and gains[0] > gains[2]


def _costs(costs: Costs | None) -> Claim:
    claim = "a GRU costs less than an LSTM per update"
    if costs is None:
        return Claim(5, claim, "the experiment was not made", "not measured")
    words = (
        f"at width {costs.width}, CPU time of an update: GRU {costs.gru * 1e3:.0f} ms, "
        f"LSTM {costs.lstm * 1e3:.0f} ms ({costs.gru / costs.lstm:.2f} of it)"
    )
    return Claim(5, claim, words, "reproduced" if costs.gru < costs.lstm else "not reproduced")


def _faster(found: Found) -> Judged:
    others = [found[name] for name in found if not name.startswith("transformer")]
    if "transformer" not in found or not others:
        return None
    ours = found["transformer"]
    speeds = ", ".join(f"{e.rung} {e.tokens_per_second:,.0f}" for e in [*others, ours])
    gains = ", ".join(f"{e.rung} {e.stepped / e.at_once:.1f}x" for e in [*others, ours])
    text = f"training tokens a CPU second: {speeds}; at once instead of step by step: {gains}"
    return text, all(ours.tokens_per_second > e.tokens_per_second for e in others)


def _order(found: Found) -> Judged:
    if "transformer" not in found or "transformer-blind" not in found:
        return None
    blind, ours = found["transformer-blind"], found["transformer"]
    text = (
        f"loss with the source as it is and shuffled: without positions {blind.loss:.3f} and "
        f"{blind.shuffled:.3f}, with positions {ours.loss:.3f} and {ours.shuffled:.3f}"
    )
    lost = abs(blind.shuffled - blind.loss) < 1e-3 and ours.shuffled - ours.loss > 1e-3
    return text, lost and ours.loss < blind.loss


def _negated(found: Found) -> Judged:
    attention = [name for name in ATTENTION if name in found and found[name].negation]
    if "rnn" not in found or not found["rnn"].negation or not attention:
        return None
    last = {name: item.negation[-1] for name, item in found.items() if item.negation}
    words = ", ".join(f"{name} {accuracy:.0%}" for name, (_, _, accuracy) in last.items())
    if max(last[name][2] for name in attention) <= 0.5:
        return None  # no better than a coin: nothing was learned that could be compared
    label, count, least = last["rnn"]
    text = f"balanced accuracy of don't, {label} words ({count} negated commands): {words}"
    return text, all(last[name][2] > least for name in attention)


def negation_accuracy(
    references: Sequence[str], translations: Sequence[str]
) -> tuple[int, float] | None:
    """Negated commands, and the mean of recall and specificity of "don't" among the first words.

    None where there are only sentences of one kind.
    """
    right: dict[bool, list[bool]] = {True: [], False: []}
    for reference, translation in zip(references, translations, strict=True):
        truth = negated_command(reference)
        right[truth].append(negated_command(translation) == truth)
    if not right[True] or not right[False]:
        return None
    recall, specificity = (sum(right[kind]) / len(right[kind]) for kind in (True, False))
    return len(right[True]), (recall + specificity) / 2


def negated_command(text: str) -> bool:
    """Whether an English sentence forbids: Don't ..., Please don't ..., Kim, please don't ..."""
    return any(word.strip(",.!").lower() == "don't" for word in text.split()[:3]) and text.split()[
        0
    ].lower() not in ("i", "you", "we", "they")


def in_batch(rows: Rows) -> tuple[Tensor, Tensor]:
    """Sentences cut to the shortest source and target of them, as one batch without padding."""
    source = min(s.size(1) for s, _ in rows)
    target = min(t.size(1) for _, t in rows)
    return (
        torch.cat([s[:, -source:] for s, _ in rows]),
        torch.cat([t[:, -target:] for _, t in rows]),
    )
