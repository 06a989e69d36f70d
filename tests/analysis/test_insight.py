"""Lengths, attention, claims and charts: each figure from what it is computed from."""

import math
import re
from xml.etree import ElementTree

import pytest
import torch

from mtkit.analysis.attention import entropy, word_alignment
from mtkit.analysis.charts import Line, heat_map, lines_chart
from mtkit.analysis.exploding import enlarge, explode
from mtkit.analysis.gradients import spectral_radius
from mtkit.analysis.length import by_copies, by_length, by_rarity, strangers
from mtkit.analysis.losses import by_thirds, cpu_seconds
from mtkit.analysis.rungs import RUNGS, Climb, chosen, recipe_of, sized
from mtkit.data.corpus import Pair
from mtkit.errors import DataError, UsageError
from mtkit.models.build import build
from mtkit.recipe import Recipe
from tests.laws.kinds import KINDS

PAIRS = [
    Pair("a b c", "one two three four five"),
    Pair("a b c d e f g h i j k", "one two three four five six"),
    Pair("x 7 zebra", "y 7 zebra is here now"),
]


def test_bins_hold_every_pair_once_by_its_words() -> None:
    texts = [PAIRS[0].target, "wrong words stand here", PAIRS[2].target]
    bins = by_length(PAIRS, texts, edges=(10, 20), resamples=20)
    assert [(b.label, b.sentences) for b in bins] == [("1-10", 2), ("11-20", 1)]
    assert bins[0].scores[0].value == pytest.approx(100)
    assert bins[1].scores[0].value < 50
    assert math.isnan(bins[1].intervals[0])
    assert bins[0].reference_words == 11


def test_rare_and_copied_words_sort_pairs() -> None:
    texts = [pair.target for pair in PAIRS]
    assert [b.sentences for b in by_copies(PAIRS, texts, resamples=5)] == [2, 1]
    rare = by_rarity(PAIRS, texts, ["a b c x 7"] * 5 + ["zebra"] * 5, resamples=5)
    assert [(b.label, b.sentences) for b in rare] == [("no rare word", 2), ("2 or more", 1)]


def test_bins_want_a_translation_a_pair() -> None:
    with pytest.raises(DataError, match="1 translations of 3 pairs"):
        by_length(PAIRS, ["one"])


def test_entropy_is_zero_for_one_place_and_log_of_the_places_for_all() -> None:
    assert entropy(torch.eye(4)) == pytest.approx(0)
    assert entropy(torch.full((3, 4), 0.25)) == pytest.approx(2)


def test_words_are_aligned_by_the_attention_of_all_their_pieces() -> None:
    weights = torch.tensor([[0.6, 0.1, 0.2, 0.1], [0.0, 0.1, 0.8, 0.1], [0.9, 0.0, 0.0, 0.1]])
    found = word_alignment(["▁a", "▁b", "c", "</s>"], ["▁x", "y", "</s>"], weights)
    assert found == [("xy", "bc")]


def test_loss_by_thirds_is_of_each_sentence() -> None:
    losses = [torch.tensor([1.0, 2.0, 3.0]), torch.tensor([9.0]), torch.tensor([3.0, 4.0, 5.0])]
    assert by_thirds(losses) == ((1, 2, 3), (3, 4, 5))


def test_works_that_are_timed_take_turns() -> None:
    made: list[str] = []
    times = cpu_seconds(lambda: made.append("a"), lambda: made.append("b"))
    assert "".join(made) == "ab" * (len(made) // 2)
    assert [len(column) for column in times] == [len(made) // 2 - 1] * 2, "the first is a warm-up"


def test_strangers_are_other_targets_of_the_same_length() -> None:
    pairs = [Pair("a b", "1"), Pair("a b c d", "2"), Pair("c d", "3"), Pair("e f", "4")]
    found = strangers(pairs, edges=(3,))
    assert [pair.source for pair in found] == [pair.source for pair in pairs]
    assert [pair.target for pair in found] == ["3", "2", "4", "1"], "alone in its bin: itself"


def test_enlarged_matrices_have_the_radius_asked_for() -> None:
    model = build(KINDS["rnn-context"], 11, 13)
    enlarge(model, 2.5)
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.RNNBase)]
    assert [spectral_radius(layer) for layer in layers] == pytest.approx([2.5, 2.5])


def test_the_experiment_is_the_same_again() -> None:
    batches = [(torch.randint(4, 20, (4, 12)), torch.randint(4, 20, (4, 6))) for _ in range(2)]
    first, again, other = (explode(batches, 20, width=16, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.small != other.small
    assert (first.updates, first.seed, other.seed) == (2, 1, 2)


def test_rungs_are_of_about_one_size() -> None:
    sizes = {}
    for rung in chosen(()):
        recipe = Recipe.from_table({"model": sized(rung.model, 4000)})
        built = build(recipe.model, 4000, 4000)
        named = built.named_parameters()
        sizes[rung.name] = sum(p.numel() for name, p in named if "embedding" not in name)
    assert len(sizes) == 8
    assert max(sizes.values()) < 1.05 * min(sizes.values())


def test_ladder_recipes_share_data_and_budget(tmp_path) -> None:  # type: ignore[no-untyped-def]
    plan = Climb(tmp_path, updates=7)
    first, second = (recipe_of(rung, plan, 3) for rung in chosen(("rnn", "transformer")))
    assert first.training.minutes == plan.minutes / 8
    assert first.data == second.data
    assert first.training == second.training
    assert first.training.seed == 3
    assert "max_words=60" in first.data.train[1]
    with pytest.raises(UsageError, match="no rung perceptron"):
        chosen(("perceptron",))


def test_charts_are_whole_and_bring_nothing_from_elsewhere() -> None:
    curves = [Line("a < b", ((0, 1.0), (1, 0.1))), Line("c", ((0, 1.0), (1, 1e-30)))]
    for chart in (
        lines_chart(curves, "x", "y", logarithmic=True),
        lines_chart(curves, "x", "y", ticks=("one", "two")),
        heat_map([[0.2, 0.8]], ["t"], ["s", "</s>"]),
    ):
        ElementTree.fromstring(chart)
        assert not re.search(r"(href|src)=|url\(", chart)
    assert "nothing was measured" in lines_chart([Line("none", ())], "x", "y")


def test_names_of_all_rungs_fit_beside_their_curves() -> None:
    curves = [Line(rung.title, ((0, float(n)), (1, float(n)))) for n, rung in enumerate(RUNGS)]
    chart = lines_chart(curves, "x", "y")
    width = float(re.findall(r'viewBox="0 0 (\d+)', chart)[0])
    for x, name in re.findall(r'<text x="([0-9.]+)"[^>]*class="name">([^<]+)<', chart):
        assert float(x) + 7.2 * len(name) <= width, "7.2 pixels a letter of 12 pixels, bold"


def test_long_name_of_a_curve_keeps_its_end() -> None:
    names = [f"runs/of/a/very/long/way/to/seed-{n}/lstm" for n in (1, 2)]
    chart = lines_chart([Line(name, ((0, 1.0), (1, 2.0))) for name in names], "x", "y")
    shown = re.findall(r'class="name">([^<]+)<', chart)
    assert len(set(shown)) == 2
    assert all(len(name) <= 30 and name.endswith("/lstm") for name in shown)


def test_wide_characters_have_room_in_a_heat_map() -> None:
    def width(name: str) -> float:
        chart = heat_map([[0.5]], [name], ["s"])
        return float(re.findall(r'viewBox="0 0 ([0-9.]+)', chart)[0])

    assert width("고양이") == width("abcdef")


def test_intervals_lie_inside_their_chart() -> None:
    chart = lines_chart([Line("a", ((0, 1.0), (1, 2.0)), (5.0, 1.0))], "x", "y", ticks=("p", "q"))
    heights = [float(y) for y in re.findall(r"y[12]?=\"([-0-9.]+)\"", chart)]
    assert min(heights) >= 0
    tops = [float(y) for y in re.findall(r'y2="([-0-9.]+)" stroke=', chart)]
    assert len(set(tops)) == 2, "an interval was cut off"


def test_what_is_below_the_floor_is_not_drawn_at_it() -> None:
    chart = lines_chart(
        [Line("a", tuple((n, 10.0**-n) for n in range(20)))], "x", "y", logarithmic=True
    )
    (points,) = re.findall(r'<polyline points="([^"]+)"', chart)
    assert len(points.split()) == 13  # 1e0 ... 1e-12


def test_the_largest_share_is_the_darkest() -> None:
    opacities = re.findall(r'fill-opacity="([0-9.]+)"', heat_map([[0.1, 0.05]], ["t"], ["s", "r"]))
    assert opacities == ["1.000", "0.500"]
