"""Verdicts follow the figures: each rule is met, missed, and without what it needs."""

import json
import math
from dataclasses import asdict, replace

import pytest

from mtkit.analysis.claims import Claim, claims_table, judge
from mtkit.analysis.evidence import Evidence, read
from mtkit.analysis.exploding import Course, Exploding
from mtkit.analysis.gradients import FAR, Gradients, Reach
from mtkit.analysis.intervals import of_mean, of_median
from mtkit.analysis.length import Bin
from mtkit.analysis.losses import Speed
from mtkit.analysis.negation import PLACES, Heard, forbids, heard, sources, twins
from mtkit.analysis.rules import Costs, Experiments, kept
from mtkit.metrics import Score


def evidence(rung: str, seed: int = 1, left: float = 0.5, **others: object) -> Evidence:
    """A rung whose encoder keeps `left` of its gradient at FAR, give or take a tenth."""
    reach = Reach((1.0,), 0.0, 1.0, tuple(left * (0.9 + 0.01 * n) for n in range(21)))
    moments = tuple(Gradients(rung, moment, reach, reach, 1.0) for moment in ("initial", "trained"))
    plain = Evidence(
        rung, seed, 9, moments, (), (), ((2.0, 2.0, 2.0),) * 9, (2.0,) * 9, (2.5,) * 9, (),
    )  # fmt: skip
    return replace(plain, **others)


def lengths(short: float, long: float, half: float = 1.0) -> dict[str, object]:
    """BLEU of short and of long sentences, where chance is 2."""

    def of(label: str, value: float) -> Bin:
        return Bin(label, 50, 99, (Score("bleu", "BLEU", value, "s", 50),) * 2, (half, half))

    return {"bins": (of("1-10", short), of(">50", long)), "chance": (2.0, 2.0)}


def spoken(accuracy: float) -> dict[str, object]:
    half = 0.05
    return {
        "negation": tuple(
            Heard(place.label, 60, accuracy, (accuracy - half, accuracy + half)) for place in PLACES
        )
    }


def verdict(number: int, *items: Evidence) -> str:
    return judge(items)[number - 1].verdict


def test_bins_of_few_sentences_decide_nothing() -> None:
    """A single long sentence has no interval: it must not say that attention falls."""
    whole = {
        "rnn": lengths(20, 4), "lstm": lengths(20, 4), "lstm-dot": lengths(60, 58),
        "transformer": lengths(60, 58),
    }  # fmt: skip
    assert verdict(3, *(evidence(rung, **found) for rung, found in whole.items())) == "reproduced"
    for found in whole.values():
        found["bins"] = tuple(
            replace(item, sentences=1, intervals=(math.nan, math.nan))
            if item.label == ">50"
            else item
            for item in found["bins"]
        )
    decided = verdict(3, *(evidence(rung, **found) for rung, found in whole.items()))
    assert decided == "not decided here"
    one = Reach((1.0,), 0.0, 1.0, (0.5,))  # a single sentence is as long as FAR
    moments = tuple(Gradients("rnn", moment, one, one, 1.0) for moment in ("initial", "trained"))
    few = [evidence(rung, gradients=moments) for rung in ("rnn", "gru", "lstm")]
    assert verdict(1, *few) == "not decided here"


def test_nothing_measured_is_nothing_decided() -> None:
    claims = judge([])
    assert [claim.number for claim in claims] == list(range(1, 9))
    assert {claim.verdict for claim in claims} == {"not decided here"}
    assert all(claim.rule and claim.measured for claim in claims)


def test_vanishing_wants_the_rnn_below_a_tenth_and_below_the_others() -> None:
    gated = [evidence("gru", left=0.2), evidence("lstm", left=0.3)]
    assert verdict(1, evidence("rnn", left=0.01), *gated) == "reproduced"
    assert verdict(1, evidence("rnn", left=0.15), *gated) == "not reproduced"
    near = [evidence("gru", left=0.0105), gated[1]]
    assert verdict(1, evidence("rnn", left=0.01), *near) == "not reproduced", "intervals overlap"
    short = Reach((1.0,), 0.0, 1.0)
    moments = tuple(Gradients("rnn", "trained", short, short, 1.0) for _ in range(2))
    assert verdict(1, evidence("rnn", gradients=moments), *gated) == "not decided here"
    assert f"{FAR} tokens" in judge([evidence("rnn", left=0.01), *gated])[0].measured


def test_seeds_must_agree() -> None:
    def rungs(seed: int, left: float) -> list[Evidence]:
        gated = [evidence(name, seed, 0.3) for name in ("gru", "lstm")]
        return [evidence("rnn", seed, left), *gated]

    agreed = judge([*rungs(1, 0.01), *rungs(2, 0.02)])[0]
    assert (agreed.verdict, agreed.seeds) == ("reproduced", (1, 2))
    assert "rnn 0.01 → 0.01 / 0.02 → 0.02" in agreed.measured
    mixed = judge([*rungs(1, 0.01), *rungs(2, 0.4)])[0]
    assert mixed.verdict == "not decided here"
    assert mixed.measured.endswith("the rule holds for seed 1 alone")


def test_explosion_is_judged_by_norm_and_loss() -> None:
    def found(norm: float, highest: float, clipped: float = 5.0) -> Claim:
        small = Course(0.9, 1.0, 5.0, 5.0, 4.0)
        large, held = (Course(2.5, norm, 5.0, top, 4.0) for top in (highest, clipped))
        experiments = Experiments(exploding=(Exploding(3, 9, small, large, held),))
        return judge([], experiments)[1]

    assert found(50, math.inf).verdict == "reproduced"
    assert found(50, math.inf).seeds == (3,)
    assert found(50, 5.5).verdict == "not reproduced", "it trains without clipping"
    assert found(50, 9.0, clipped=9.0).verdict == "not reproduced", "clipping does not help"
    assert found(5, math.inf).verdict == "not reproduced"


def test_falling_is_judged_above_chance_and_beyond_the_intervals() -> None:
    attention = evidence("transformer", **lengths(52, 47))
    assert verdict(3, evidence("lstm", **lengths(22, 7)), attention) == "reproduced"
    share = kept(evidence("lstm", **lengths(22, 7)))
    assert share is not None
    assert share.share == pytest.approx(5 / 20), "chance is taken off"
    assert verdict(3, evidence("lstm", **lengths(22, 15)), attention) == "not reproduced"
    falls = evidence("transformer", **lengths(52, 30))
    assert verdict(3, evidence("lstm", **lengths(22, 7)), falls) == "not reproduced"
    unsure = evidence("transformer", **lengths(52, 42, half=25))
    assert verdict(3, evidence("lstm", **lengths(22, 7)), unsure) == "not reproduced"


def test_falling_leaves_out_what_learned_nothing() -> None:
    attention = evidence("transformer", **lengths(52, 47))
    claim = judge([evidence("rnn", **lengths(5, 3)), attention])[2]
    assert claim.verdict == "not decided here"
    assert "rnn learned too little" in claim.measured
    worse = evidence("lstm-dot", **lengths(1, 1))
    assert verdict(3, evidence("lstm", **lengths(22, 7)), worse, attention) == "reproduced"


def test_reversal_is_judged_sentence_by_sentence() -> None:
    plain = evidence("lstm", thirds=tuple((3.0, 2.0, 1 + n / 9) for n in range(9)))

    def turned(first: float, last: float) -> Evidence:
        values = tuple((3 - first, 2.0, 1 + n / 9 - last) for n in range(9))
        return evidence("lstm-reversed", thirds=values)

    assert verdict(4, plain, turned(0.5, 0.1)) == "reproduced"
    assert verdict(4, plain, turned(0.5, 0.6)) == "not reproduced"
    assert verdict(4, plain, turned(-0.1, -0.5)) == "not reproduced"


def test_costs_are_judged_by_their_ratio() -> None:
    def found(gru: float) -> str:
        times = tuple(gru + n / 1000 for n in range(7))
        return judge([], Experiments(costs=Costs(8, times, (0.1,) * 7)))[4].verdict

    assert (found(0.08), found(0.097)) == ("reproduced", "not reproduced")


def test_speed_is_judged_at_once_and_step_by_step() -> None:
    lstm = Speed("lstm", 100, (2.0,) * 3, (2.0,) * 3, (2.0,) * 3)

    def found(training: float, stepped: float) -> str:
        ours = Speed("transformer", 100, (training,) * 3, (1.0,) * 3, (stepped,) * 3)
        return judge([], Experiments(speeds=(lstm, ours)))[5].verdict

    assert found(1.0, 2.0) == "reproduced"
    assert found(1.0, 0.5) == "not reproduced", "what it gains is not by parallelism"
    assert found(3.0, 2.0) == "not reproduced", "it is slower"
    assert judge([], Experiments(speeds=(lstm,)))[5].verdict == "not decided here"


def test_order_is_judged_by_shuffled_sources() -> None:
    blind = evidence("transformer-blind", losses=(2.2,) * 9, shuffled=(2.2,) * 9)
    assert verdict(7, blind, evidence("transformer")) == "reproduced"
    sees = replace(blind, shuffled=(2.3,) * 9)
    assert verdict(7, sees, evidence("transformer")) == "not reproduced"
    better = replace(blind, losses=(1.9,) * 9, shuffled=(1.9,) * 9)
    assert verdict(7, better, evidence("transformer")) == "not reproduced"


def test_negation_is_judged_against_chance() -> None:
    def rungs(rnn: float, others: float) -> list[Evidence]:
        names = ("lstm", "lstm-additive", "lstm-dot", "transformer")
        return [evidence("rnn", **spoken(rnn)), *(evidence(n, **spoken(others)) for n in names)]

    assert verdict(8, *rungs(0.5, 0.9)) == "reproduced"
    assert verdict(8, *rungs(0.7, 0.9)) == "not reproduced"
    assert verdict(8, *rungs(0.5, 0.52)) == "not decided here", "nobody has learned it"


def test_twins_differ_in_their_negation_alone() -> None:
    for place in PLACES:
        found = twins(place, 6)
        assert len(found) == 6
        for twin in found:
            assert not forbids(twin.plain.target)
            assert forbids(twin.negated.target)
            without = twin.negated.target.lower().replace("don't ", "", 1)
            assert without == twin.plain.target.lower()
            assert twin.plain.source != twin.negated.source
            assert ("지 마" in twin.negated.source) or ("지 말" in twin.negated.source)
    assert [len(pair.split()) >= 7 for pair in sources(twins(PLACES[1], 6))] == [True] * 12


def test_whoever_says_one_thing_always_is_right_by_chance() -> None:
    chosen = twins(PLACES[0], 6)
    assert heard(PLACES[0], chosen, ["Don't go."] * 12).accuracy == 0.5
    assert heard(PLACES[0], chosen, ["I go."] * 12).accuracy == 0.5
    right = heard(PLACES[0], chosen, ["Tom, go.", "Tom, please don't go."] * 6)
    assert (right.accuracy, right.interval) == (1.0, (1.0, 1.0))


def test_prohibitions_are_told_from_statements() -> None:
    assert forbids("Please don't sleep.")
    assert not forbids("I don't sleep.")
    assert not forbids("If you don't sleep, go.")
    assert not forbids("The actors don't sleep.")
    assert not forbids("")


def test_intervals_hold_their_figure_and_narrow_with_more() -> None:
    few, many = [0.0, 1.0] * 8, [0.0, 1.0] * 200
    assert of_mean(few)[0] < 0.5 < of_mean(few)[1]
    assert of_mean(many)[1] - of_mean(many)[0] == pytest.approx(2 * 1.96 * 0.5 / 20, rel=0.1)
    assert of_median([1.0, 2.0, 2.5, 100.0] * 9)[1] < 100
    assert all(math.isnan(end) for end in of_mean([1.0]))


def test_evidence_comes_back_from_its_file() -> None:
    before = evidence("lstm", **lengths(20, 10), **spoken(0.7))
    before = replace(before, gradients=(replace(before.gradients[0], decoder=None),) * 2)
    assert read(json.loads(json.dumps(asdict(before)))) == before


def test_claims_become_a_table_in_markdown() -> None:
    claim = Claim(1, "a | b", "1 / 2", "it is", "reproduced", (1, 2))
    table = claims_table([claim, replace(claim, verdict="not decided here", seeds=())])
    rows = table.splitlines()
    assert rows[2] == "| 1. a \\| b | 1 / 2 | it is | **reproduced** (seeds 1, 2) |"
    assert rows[3].endswith("| **not decided here** |")
