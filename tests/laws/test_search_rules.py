"""What samples, groups, demands, ensembles and scores promise, over every kind and in float64."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from mtkit.decoding.demands import Demand, Progress
from mtkit.decoding.forced import coverage, force
from mtkit.decoding.hypotheses import Hypothesis
from mtkit.decoding.options import SearchOptions
from mtkit.decoding.search import beam_search
from mtkit.errors import UsageError
from mtkit.models.ensemble import Ensemble
from mtkit.symbols import BOS, EOS, PAD, UNK
from tests.laws.kinds import KINDS, tiny_model
from tests.laws.test_search import ONE, batch, same, sentences, table, teacher_forced

EXACT = 1e-9
# A model that sees one token finds texts of the same pairs of tokens equally likely: no order is
# the right one.
kinds = pytest.mark.parametrize("kind", [kind for kind in KINDS if "window-of-one" not in kind])
SHORT = SearchOptions(beam=4, n_best=4, max_length_ratio=1.0, max_length_offset=4)


def holds(tokens: tuple[int, ...], phrase: tuple[int, ...]) -> bool:
    return any(tokens[at : at + len(phrase)] == phrase for at in range(len(tokens)))


@kinds
@pytest.mark.parametrize("beam", [1, 4])
def test_search_without_a_demand_is_beam_search(kind: str, beam: int) -> None:
    model, source = tiny_model(kind), batch(sentences())
    options = replace(SHORT, beam=beam, n_best=beam)
    plain = beam_search(model, source, options)
    same(beam_search(model, source, options, [Demand()] * len(source)), plain)


@kinds
def test_diverse_beam_without_a_penalty_is_each_groups_own_beam(kind: str) -> None:
    model, source = tiny_model(kind), batch(sentences())
    options = replace(SHORT, beam=6, n_best=6, groups=2, diversity=0.0)
    three = beam_search(model, source, replace(SHORT, beam=3, n_best=3))
    found = beam_search(model, source, options)
    same([items[:3] for items in found], three)


@kinds
def test_diverse_beam_pays_for_tokens_that_were_chosen_before(kind: str) -> None:
    """With an immense penalty no group begins as another did, and all scores stay true."""
    model, rows = tiny_model(kind), sentences()
    options = replace(SHORT, groups=4, diversity=1e6, min_length=1)
    for row, found in zip(rows, beam_search(model, batch(rows), options), strict=True):
        firsts = [item.tokens[0] for item in found]
        assert len(firsts) == len(set(firsts)) == 4
        for item in found:
            truth = teacher_forced(model, row, item.tokens)
            assert item.log_probability == pytest.approx(truth, rel=EXACT)


@kinds
def test_sampling_at_a_temperature_near_zero_is_greedy(kind: str) -> None:
    model, source = tiny_model(kind), batch(sentences())
    greedy = beam_search(model, source, replace(SHORT, beam=1, n_best=1))
    for cut in (
        {"temperature": 1e-7},
        {"temperature": 1.0, "top_k": 1},
        {"temperature": 5.0, "top_p": 1e-9},
    ):
        same(beam_search(model, source, replace(SHORT, n_best=1, **cut)), greedy)


@kinds
def test_samples_depend_on_the_seed_and_on_no_neighbour(kind: str) -> None:
    model, rows = tiny_model(kind), sentences()
    options = replace(SHORT, n_best=3, temperature=1.5)
    together = beam_search(model, batch(rows), options)
    same([beam_search(model, batch([row]), options)[0] for row in rows], together)
    same(beam_search(model, batch(rows[::-1], extra=2), options)[::-1], together)
    other = beam_search(model, batch(rows), replace(options, seed=1))
    assert [x[0].tokens for x in other] != [x[0].tokens for x in together]


def test_samples_are_as_frequent_as_the_model_says() -> None:
    """20,000 draws of one sentence: chi-square over every output, at the 0.1 % level."""
    model = table(6, {BOS: {4: 0.5, 5: 0.3, EOS: 0.2}, 4: {EOS: 0.42, 5: 0.58}, 5: {EOS: 1.0}})
    options = SearchOptions(temperature=1.0, n_best=20_000, max_length_offset=4)
    found = [item.tokens for item in beam_search(model, ONE, options)[0]]
    expected = {(): 0.2, (4,): 0.21, (4, 5): 0.29, (5,): 0.3}
    assert set(found) == set(expected)
    count = len(found)
    distance = sum(
        (found.count(tokens) - count * share) ** 2 / (count * share)
        for tokens, share in expected.items()
    )
    assert distance < 16.27  # three degrees of freedom


def test_samples_keep_to_top_k_and_top_p_after_the_temperature() -> None:
    model = table(
        7, {BOS: {4: 0.5, 5: 0.3, 6: 0.15, EOS: 0.05}} | {w: {EOS: 1.0} for w in (4, 5, 6)}
    )
    options = SearchOptions(temperature=1.0, n_best=4_000)

    def shares(**cut: float) -> dict[tuple[int, ...], float]:
        found = [item.tokens for item in beam_search(model, ONE, replace(options, **cut))[0]]
        return {tokens: found.count(tokens) / len(found) for tokens in sorted(set(found))}

    assert shares(top_k=2) == pytest.approx({(4,): 0.625, (5,): 0.375}, abs=0.03)
    assert shares(top_p=0.7) == pytest.approx({(4,): 0.625, (5,): 0.375}, abs=0.03)
    sharp = {(4,): 0.25, (5,): 0.09, (6,): 0.0225, (): 0.0025}
    sharp = {tokens: share / sum(sharp.values()) for tokens, share in sharp.items()}
    assert shares(temperature=0.5) == pytest.approx(sharp, abs=0.03)


@kinds
def test_constraints_are_in_every_output_at_its_true_score(kind: str) -> None:
    model, rows = tiny_model(kind), sentences()
    asked = [((4, 5), (7,)), ((12, 12, 12),), ((6,), (6, 8), (9, 6)), (), ((10, 11),), ((5,),)]
    demands = [Demand(constraints=phrases) for phrases in asked]
    for beam in (1, 4, 9):
        options = replace(SHORT, beam=beam, n_best=beam)
        found = beam_search(model, batch(rows), options, demands)
        for row, phrases, items in zip(rows, asked, found, strict=True):
            for item in items:
                assert all(holds(item.tokens, phrase) for phrase in phrases)
                truth = teacher_forced(model, row, item.tokens)
                assert item.log_probability == pytest.approx(truth, rel=EXACT)
        # No sentence minds what its neighbours ask for.
        for row, demand, items in zip(rows, demands, found, strict=True):
            same([items], beam_search(model, batch([row]), options, [demand]))
        plain = beam_search(model, batch(rows[3:4]), options)[0]
        same([found[3]], [plain])


@pytest.mark.parametrize("words", [(4, 4, 5), (4, 5), (5, 4, 5, 4)])
def test_progress_is_what_a_search_of_the_text_finds(words: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        text = torch.randint(4, 6, (9,), generator=generator).tolist()
        progress = Progress.start((words,))
        for count, token in enumerate(text, start=1):
            progress = progress.after(token)
            assert progress.met == holds(tuple(text[:count]), words)


@kinds
def test_forbidden_phrases_are_in_no_output(kind: str) -> None:
    model, rows = tiny_model(kind), sentences()
    free = beam_search(model, batch(rows), SHORT)
    demands = [
        Demand(forbidden=(*((item.tokens[:1]) for item in items if item.tokens), (5, 6)))
        if row % 2
        else Demand(forbidden=tuple(pair for pair in pairwise(items[0].tokens)))
        for row, items in enumerate(free)
    ]
    found = beam_search(model, batch(rows), SHORT, demands)
    for demand, items in zip(demands, found, strict=True):
        for item in items:
            assert not any(holds(item.tokens, phrase) for phrase in demand.forbidden)


@kinds
def test_output_begins_with_its_prefix_and_goes_on_as_the_model_would(kind: str) -> None:
    model, rows = tiny_model(kind), sentences()
    demands = [Demand(prefix=(7, 5, 7)[: row % 4]) for row in range(len(rows))]
    found = beam_search(model, batch(rows), SHORT, demands)
    for row, demand, items in zip(rows, demands, found, strict=True):
        for item in items:
            assert item.tokens[: len(demand.prefix)] == demand.prefix
            truth = teacher_forced(model, row, item.tokens)
            assert item.log_probability == pytest.approx(truth, rel=EXACT)
    # The prefix of what is found anyway changes nothing.
    free = beam_search(model, batch(rows), replace(SHORT, beam=1, n_best=1))
    demands = [Demand(prefix=items[0].tokens[:2]) for items in free]
    same(beam_search(model, batch(rows), replace(SHORT, beam=1, n_best=1), demands), free)


@kinds
@pytest.mark.parametrize("mode", [{}, {"groups": 2}, {"temperature": 1.0}])
def test_least_length_and_unrepeated_n_grams_hold(kind: str, mode: dict[str, float]) -> None:
    model, rows = tiny_model(kind), sentences()
    options = replace(SHORT, min_length=6, no_repeat=2, **mode)
    for items in beam_search(model, batch(rows), options):
        for item in items:
            assert len(item.tokens) >= 6
            bigrams = list(pairwise(item.tokens))
            assert len(bigrams) == len(set(bigrams))


def test_sentence_ends_where_the_rules_leave_nothing_else() -> None:
    """Two words that may be said once each, and a least length of nine."""
    model = table(6, {BOS: {4: 0.5, 5: 0.5}, 4: {5: 1.0}, 5: {4: 1.0}})
    options = SearchOptions(beam=2, n_best=2, no_repeat=1, min_length=9, unknown=False)
    for item in beam_search(model, ONE, options)[0]:
        assert sorted(item.tokens) == [4, 5]


@kinds
def test_ensemble_of_one_model_twice_is_that_model(kind: str) -> None:
    model, source = tiny_model(kind), batch(sentences())
    twice = Ensemble([model, model])
    same(beam_search(twice, source, SHORT), beam_search(model, source, SHORT))
    rules = replace(SHORT, coverage_penalty=0.3, no_repeat=3)
    same(beam_search(twice, source, rules), beam_search(model, source, rules))


def test_ensemble_of_different_kinds_is_the_mean_of_their_probabilities() -> None:
    models = [tiny_model(kind) for kind in list(KINDS)[::5]]
    rows = sentences()
    inputs = torch.tensor([[BOS, 5, 6, 7]] * len(rows))
    with torch.no_grad():
        mean = sum(model(batch(rows), inputs).softmax(-1) for model in models) / len(models)
        found = Ensemble(models)(batch(rows), inputs)
        assert found.exp().allclose(mean, atol=1e-12)
    ensemble = Ensemble(models)
    for row, items in zip(rows, beam_search(ensemble, batch(rows), SHORT), strict=True):
        for item in items:
            truth = teacher_forced(ensemble, row, item.tokens)
            assert item.log_probability == pytest.approx(truth, rel=EXACT)


@kinds
def test_score_of_its_own_output_is_the_search_s_log_probability(kind: str) -> None:
    model, rows = tiny_model(kind), sentences()
    with torch.inference_mode():
        memory = model.encode(batch(rows))
    found = beam_search(model, batch(rows), replace(SHORT, token_scores=True))
    flat = [(row, item) for row, items in enumerate(found) for item in items]
    forced = force(model, memory, [row for row, _ in flat], [item.tokens for _, item in flat])
    for (_, item), scores in zip(flat, forced, strict=True):
        assert len(scores.token_scores) == len(item.tokens) + 1
        assert sum(scores.token_scores) == pytest.approx(item.log_probability, rel=EXACT)
        assert scores.token_scores == pytest.approx(item.token_scores, rel=EXACT)


@kinds
def test_alignment_of_a_target_token_is_a_distribution_over_its_own_source(kind: str) -> None:
    model, rows = tiny_model(kind), sentences()
    found = beam_search(model, batch(rows, extra=2), replace(SHORT, alignment=True))
    for row, items in zip(rows, found, strict=True):
        for item in items:
            assert len(item.alignment) == len(item.tokens) + 1
            for weights in item.alignment:
                assert len(weights) in (len(row), 1)  # 1: a context vector
                # Local attention weighs by a Gaussian too: less than a distribution.
                assert 0 < sum(weights) <= 1 + EXACT
                assert "local" in kind or sum(weights) == pytest.approx(1.0)


@kinds
def test_coverage_ranks_what_has_finished_after_wu_et_al(kind: str) -> None:
    model, source = tiny_model(kind), batch(sentences())
    every = replace(SHORT, alignment=True, patience=3)
    plain = beam_search(model, source, every)
    found = beam_search(model, source, replace(every, coverage_penalty=2.0))
    for items, others in zip(found, plain, strict=True):
        for item in items:
            rank = every.score(item.log_probability, len(item.tokens) + 1)
            assert item.score == pytest.approx(rank + 2.0 * coverage(item.alignment))
        scores = [item.score for item in items]
        assert scores == sorted(scores, reverse=True)
        # It chooses among all that have finished, the best without it among them.
        expected = sorted((o.score + 2.0 * coverage(o.alignment) for o in others), reverse=True)
        assert all(mine >= theirs - EXACT for mine, theirs in zip(scores, expected, strict=True))


def test_coverage_by_hand() -> None:
    weights = ((0.5, 0.5, 0.0), (0.5, 0.25, 0.25))
    assert coverage(weights) == pytest.approx(
        float(torch.tensor([0.75, 0.25]).double().log().sum())
    )


def test_unknown_stays_out_where_steps_have_rules() -> None:
    model = table(6, {BOS: {UNK: 0.9, 4: 0.1}, UNK: {EOS: 1.0}, 4: {EOS: 1.0}})
    for mode in ({"temperature": 1.0}, {"min_length": 1}):
        options = SearchOptions(beam=1, unknown=False, **mode)
        assert beam_search(model, ONE, options)[0][0].tokens == (4,)
        assert not {PAD, BOS, EOS} & set(beam_search(model, ONE, options)[0][0].tokens)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("temprature=1", "--search temperature=1"),
        ("beam", "key=value"),
        ("beam=wide", "is no whole number"),
        ("unknown=perhaps", "true or false"),
        ("top_k=5", "--search temperature=1"),
        ("mbr=wer", "chrf"),
        ("temperature=nan", "0 or more"),
        ("no_repeat=-1", "less than 0"),
        ("patience=nan", "greater than 0"),
    ],
)
def test_search_options_that_mean_nothing_are_refused(change: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        SearchOptions().changed([change])
    assert words in f"{caught.value.message} {caught.value.hint}"


def test_search_options_change_by_key_and_value() -> None:
    options = SearchOptions().changed(["groups=4", "forbid=a b", "forbid=c", "unknown=no"])
    assert (options.groups, options.beam, options.unknown) == (4, 8, False)
    assert options.forbid == ("a b", "c")
    assert SearchOptions().changed(["n-best=7"]).beam == 7
    assert isinstance(options, SearchOptions)
    assert isinstance(beam_search(table(6, {BOS: {4: 1.0}}), ONE)[0][0], Hypothesis)


def test_scores_do_not_change_with_the_size_of_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = tiny_model("transformer-pre-all"), sentences()
    targets: list[tuple[int, ...]] = [(5, 6, 7), (), (8,) * 9, (4,), (9, 9), (5,)]
    with torch.inference_mode():
        memory = model.encode(batch(rows))
    places = list(range(len(rows)))
    whole: list[Tensor] = [
        torch.tensor(item.token_scores) for item in force(model, memory, places, targets)
    ]
    monkeypatch.setattr("mtkit.decoding.forced._POSITIONS", 3)
    for one, other in zip(whole, force(model, memory, places, targets), strict=True):
        torch.testing.assert_close(one, torch.tensor(other.token_scores))
