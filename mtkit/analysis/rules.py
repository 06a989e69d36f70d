"""The rules by which the claims are judged: figures seed by seed, and whether each seed agrees."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import hypot, inf
from statistics import mean, median

from mtkit.analysis.evidence import Evidence
from mtkit.analysis.exploding import Exploding
from mtkit.analysis.gradients import FAR, Gradients
from mtkit.analysis.intervals import of_mean, of_median
from mtkit.analysis.losses import Speed
from mtkit.analysis.negation import CHANCE, PLACES

CONTEXT = ("rnn", "gru", "lstm")
ATTENTION = ("lstm-additive", "lstm-dot", "transformer")
GATED = ("gru", "lstm")
_LEARNED = 5.0  # BLEU above chance on the shortest sentences, below which a model is not judged
_FALLS, _STAYS = 0.5, 0.75  # of it kept on the longest
_FEW = 2  # sentences, below which there is no interval to judge by
_BLIND = 1e-3  # nats a token: an encoder without positions differs only by rounding

Found = Mapping[str, Evidence]  # one seed's rungs by name


@dataclass(frozen=True)
class Judged:
    """What was measured, and for which seeds the rule holds; no seed: it could not be judged."""

    measured: str
    holds: dict[int | None, bool] = field(default_factory=dict)  # None: no seed has a part in it


@dataclass(frozen=True)
class Costs:
    """CPU seconds of updates of two cells of one width, which took turns."""

    width: int
    gru: tuple[float, ...]
    lstm: tuple[float, ...]


@dataclass(frozen=True)
class Experiments:
    """What is measured beside the trained models."""

    exploding: tuple[Exploding, ...] = ()
    costs: Costs | None = None
    speeds: tuple[Speed, ...] = ()


NO_EXPERIMENTS = Experiments()
MISSING = Judged("its rungs were not trained")

VANISHING = (
    f"once trained, the RNN keeps less than a tenth of its gradient over {FAR} tokens, and less "
    "than GRU and LSTM (95 % intervals apart)"
)


def vanishing(seeds: Sequence[Found]) -> Judged:
    """Claim 1: the encoder's gradient, from the state after the last token backwards."""
    seeds = _with(seeds, CONTEXT)
    whole = [
        s for s in seeds if all(len(g.encoder.far) >= _FEW for n in CONTEXT for g in s[n].gradients)
    ]
    if not whole:
        return MISSING if not seeds else Judged(f"too few sources were longer than {FAR} tokens")
    kept = _each(whole, CONTEXT, lambda e: f"{_left(e, 0):.2g} → {_left(e, 1):.2g}")
    steps = _each(
        whole, CONTEXT, lambda e: " → ".join(f"{g.encoder.steps:.0%}" for g in e.gradients)
    )
    text = (
        f"left of the encoder's gradient {FAR} tokens back, median sentence, untrained → trained: "
        f"{kept}. Steps that a gradient reaches at all (Pascanu et al. 2013): {steps}"
    )

    def holds(seed: Found) -> bool:
        ends = {name: of_median(_trained(seed[name]).encoder.far) for name in CONTEXT}
        below = all(ends["rnn"][1] < ends[name][0] for name in GATED)
        return _left(seed["rnn"], 1) < 0.1 and below

    return Judged(text, _held(whole, holds))


def _left(item: Evidence, moment: int) -> float:
    return median(item.gradients[moment].encoder.far)


def _trained(item: Evidence) -> Gradients:
    return item.gradients[-1]


EXPLODING = (
    "the largest gradient of the RNN with the large matrix is over ten times that with the small "
    "one, and its loss rises by more than 1 over its start, or is lost, without clipping alone"
)


def explodes(found: Sequence[Exploding]) -> Judged:
    """Claim 2: an experiment of its own, which needs no trained model."""
    if not found:
        return Judged("the experiment was not made")
    first = found[0]

    def losses(name: str) -> str:
        courses = [getattr(one, name) for one in found]
        return _row(f"{c.start:.1f} → {c.loss:.3g} (highest {c.highest:.3g})" for c in courses)

    text = (
        f"an RNN's largest gradient norm in {first.updates} updates of plain descent: "
        f"{_row(f'{e.small.largest:.2g}' for e in found)} at spectral radius "
        f"{first.small.radius:g}, {_row(f'{e.large.largest:.2g}' for e in found)} at "
        f"{first.large.radius:g}. Its loss, first batch → mean of the last quarter, at "
        f"{first.large.radius:g}: {losses('large')}; with clipping: {losses('clipped')}"
    )

    def holds(one: Exploding) -> bool:
        risen, kept = (c.highest > c.start + 1 for c in (one.large, one.clipped))
        return one.large.largest > 10 * one.small.largest and risen and not kept

    return Judged(text, {one.seed: holds(one) for one in found})


FALLING = (
    f"of its BLEU above chance on the shortest sentences, every context-vector model keeps less "
    f"than {_FALLS:.0%} on the longest and every attention model more than {_STAYS:.0%}, and their "
    f"95 % intervals are apart; models less than {_LEARNED:g} above chance are left out"
)


@dataclass(frozen=True)
class Kept:
    """The BLEU above chance of the longest sentences as a share of that of the shortest."""

    short: float  # BLEU above chance
    share: float
    half: float  # of the share's 95 % interval


def kept(item: Evidence) -> Kept | None:
    """None where there are fewer than two bins of length with enough sentences.

    The interval is that of a quotient of two independent figures, to first order.
    """
    both = [pair for pair in zip(item.bins, item.chance, strict=True) if pair[0].sentences >= _FEW]
    if len(both) < 2:
        return None
    (first, first_chance), (last, last_chance) = both[0], both[-1]
    short = first.scores[0].value - first_chance
    long = last.scores[0].value - last_chance
    if short <= 0:
        return Kept(short, 0.0, inf)
    share = long / short
    return Kept(short, share, hypot(last.intervals[0], share * first.intervals[0]) / short)


def falling(seeds: Sequence[Found]) -> Judged:
    """Claim 3: on the same sentences for all models."""
    names = [*CONTEXT, *ATTENTION]
    seeds = [s for s in seeds if any(n in s for n in CONTEXT) and any(n in s for n in ATTENTION)]
    if not seeds:
        return MISSING
    shares = [{n: k for n in names if n in s and (k := kept(s[n])) is not None} for s in seeds]
    if not all(shares):
        return Judged("nearly all sentences measured are of one length")
    bins = [b for b in next(iter(seeds[0].values())).bins if b.sentences >= _FEW]
    labels = bins[0].label, bins[-1].label

    def words(name: str) -> str:
        found = [share[name] for share in shares if name in share]
        return f"{name} " + " / ".join(
            f"{k.share:.0%} of {k.short:.0f}" if k.short >= _LEARNED else "learned too little"
            for k in found
        )

    text = f"BLEU above chance kept at {labels[1]} words, of that at {labels[0]}: " + ", ".join(
        words(name) for name in names if any(name in share for share in shares)
    )
    holds: dict[int | None, bool] = {}
    for seed, share in zip(seeds, shares, strict=True):
        judged = {n: k for n, k in share.items() if k.short >= _LEARNED}
        low = [judged[n] for n in CONTEXT if n in judged]
        high = [judged[n] for n in ATTENTION if n in judged]
        if low and high:
            fall = all(k.share < _FALLS for k in low) and all(k.share > _STAYS for k in high)
            apart = max(k.share + k.half for k in low) < min(k.share - k.half for k in high)
            holds[_number(seed)] = fall and apart
    return Judged(text, holds)


MOVED = (
    "a token of the targets' first third costs the LSTM less when it reads the source backwards, "
    "and that gain is larger than in the last third (95 % intervals of both above 0)"
)


def moved(seeds: Sequence[Found]) -> Judged:
    """Claim 4, sentence by sentence."""
    seeds = _with(seeds, ("lstm", "lstm-reversed"))
    if not seeds:
        return MISSING

    def gains(seed: Found, part: int) -> list[float]:
        pairs = zip(seed["lstm"].thirds, seed["lstm-reversed"].thirds, strict=True)
        return [plain[part] - turned[part] for plain, turned in pairs]

    parts = [
        f"{name} {_row(f'{mean(gains(seed, part)):+.3f}' for seed in seeds)}"
        for part, name in enumerate(("first", "middle", "last"))
    ]
    text = f"loss a token that reversal saves in a third of the targets: {', '.join(parts)}"

    def holds(seed: Found) -> bool:
        first, last = gains(seed, 0), gains(seed, 2)
        more = [a - b for a, b in zip(first, last, strict=True)]
        return of_mean(first)[0] > 0 and of_mean(more)[0] > 0

    return Judged(text, _held(seeds, holds))


COSTING = "the median ratio of CPU times at one width is below 1, its 95 % interval too"


def costing(costs: Costs | None) -> Judged:
    """Claim 5: fresh models of one width on one batch."""
    if costs is None:
        return Judged("the experiment was not made")
    ratios = [gru / lstm for gru, lstm in zip(costs.gru, costs.lstm, strict=True)]
    low, high = of_median(ratios)
    text = (
        f"CPU time of an update at width {costs.width}: GRU {median(costs.gru) * 1e3:.0f} ms, "
        f"LSTM {median(costs.lstm) * 1e3:.0f} ms, ratio {median(ratios):.2f} ({low:.2f}-{high:.2f})"
    )
    return Judged(text, {None: high < 1})


FASTER = (
    "the Transformer trains on more target tokens a CPU second than every recurrent model, and its "
    "decoder gains more over theirs with all positions at once than step by step (medians)"
)


def faster(speeds: Sequence[Speed]) -> Judged:
    """Claim 6, by CPU time on one batch of long sentences, the models in turns."""
    by_rung = {speed.rung: speed for speed in speeds}
    ours = by_rung.get("transformer")
    others = [speed for speed in speeds if not speed.rung.startswith("transformer")]
    if ours is None or not others:
        return MISSING
    rates = {s.rung: s.tokens / median(s.training) for s in (*others, ours)}
    gains = {
        s.rung: (
            median(s.at_once) / median(ours.at_once),
            median(s.stepped) / median(ours.stepped),
        )
        for s in others
    }
    text = (
        "target tokens of training a CPU second: "
        f"{', '.join(f'{name} {rate:,.0f}' for name, rate in rates.items())}. So many times as "
        "fast as theirs is the Transformer's decoder with all positions at once, and step by step: "
        f"{', '.join(f'{name} {once:.2f} and {step:.2f}' for name, (once, step) in gains.items())}"
    )
    quick = all(rates["transformer"] > rates[other.rung] for other in others)
    return Judged(text, {None: quick and all(once > step for once, step in gains.values())})


ORDER = (
    f"shuffling the source changes nothing without positions (less than {_BLIND:g}), costs loss "
    "with them, and the model with them has the lower loss (95 % intervals above 0)"
)


def order(seeds: Sequence[Found]) -> Judged:
    """Claim 7, sentence by sentence."""
    seeds = _with(seeds, ("transformer", "transformer-blind"))
    if not seeds:
        return MISSING

    def words(name: str) -> str:
        return _row(f"{mean(s[name].losses):.3f} and {mean(s[name].shuffled):.3f}" for s in seeds)

    text = (
        "loss a token with the source as it is and shuffled: without positions "
        f"{words('transformer-blind')}, with positions {words('transformer')}"
    )

    def holds(seed: Found) -> bool:
        blind, ours = seed["transformer-blind"], seed["transformer"]
        unmoved = abs(mean(blind.shuffled) - mean(blind.losses)) < _BLIND
        costs = of_mean(_less(ours.shuffled, ours.losses))[0] > 0
        return unmoved and costs and of_mean(_less(blind.losses, ours.losses))[0] > 0

    return Judged(text, _held(seeds, holds))


NEGATED = (
    f"in commands where the negation is the {PLACES[1].label} words, the RNN is no better than "
    "chance (50 %), while LSTM and every attention model are (95 % intervals)"
)


def negated(seeds: Sequence[Found]) -> Judged:
    """Claim 8, by minimal pairs; where no model has learned it there is nothing to judge."""
    names = ("rnn", "lstm", *ATTENTION)
    seeds = [seed for seed in _with(seeds, names) if all(seed[name].negation for name in names)]
    if not seeds:
        return MISSING
    rungs = [name for name in seeds[0] if all(name in seed for seed in seeds)]
    parts = []
    for n, place in enumerate(PLACES):
        rights = (f"{r} {_row(f'{s[r].negation[n].accuracy:.0%}' for s in seeds)}" for r in rungs)
        parts.append(f"{place.label}: {', '.join(rights)}")
    text = f"right beginnings of commands, where the negation is the {'; '.join(parts)}"

    def learned(seed: Found, name: str) -> bool:
        return seed[name].negation[1].interval[0] > CHANCE

    judged = [seed for seed in seeds if any(learned(seed, name) for name in names)]

    def holds(seed: Found) -> bool:
        return not learned(seed, "rnn") and all(learned(seed, name) for name in names[1:])

    return Judged(text, _held(judged, holds))


def _with(seeds: Sequence[Found], names: Iterable[str]) -> list[Found]:
    """The seeds whose rungs of these names were all trained."""
    wanted = set(names)
    return [seed for seed in seeds if wanted <= set(seed)]


def _number(seed: Found) -> int:
    return next(iter(seed.values())).seed


def _held(seeds: Sequence[Found], holds: Callable[[Found], bool]) -> dict[int | None, bool]:
    return {_number(seed): holds(seed) for seed in seeds}


def _row(figures: Iterable[str]) -> str:
    """A figure a seed: 1 / 2 / 3."""
    return " / ".join(figures)


def _each(seeds: Sequence[Found], names: Iterable[str], form: Callable[[Evidence], str]) -> str:
    """The figures of several rungs: rnn 1 / 2 / 3, gru 4 / 5 / 6."""
    return ", ".join(f"{name} {_row(form(seed[name]) for seed in seeds)}" for name in names)


def _less(values: Sequence[float], others: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(values, others, strict=True)]
