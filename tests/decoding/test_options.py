"""What search options refuse, and that each hint mends what it is given for."""

import re

import pytest

from mtkit.decoding.options import SearchOptions
from mtkit.errors import RecipeError, UsageError
from mtkit.recipe import STEEPEST, Recipe


def refused(changes: list[str]) -> UsageError:
    with pytest.raises(UsageError) as caught:
        SearchOptions().changed(changes)
    return caught.value


def advised(error: UsageError) -> list[str]:
    """What stands behind every `--search` of a hint."""
    return re.findall(r"--search ([\w.=]+)", error.hint or "")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["beam=0"], "beam = 0 is less than 1"),
        (["n_best=0"], "n_best = 0 is less than 1"),
        (["beam=2", "n_best=5"], "n-best = 5 does not fit a beam of 2"),
        (["patience=0"], "patience = 0.0 is not greater than 0"),
        (["max_length_ratio=inf"], "max_length_ratio = inf is less than 0, or not finite"),
        (["max_length_ratio=-1"], "max_length_ratio = -1.0 is less than 0, or not finite"),
        (["max_length_offset=0"], "max_length_offset = 0 is less than 1"),
        (["length_penalty=nan"], "length_penalty = nan is not finite"),
        (["length_penalty=51"], "length_penalty = 51 leaves of scores only zeros"),
        (["no_repeat=-1"], "no_repeat = -1 is less than 0, or no number"),
        (["coverage_penalty=inf"], "coverage_penalty = inf is less than 0, or no number"),
        (["groups=2", "diversity=-1"], "diversity = -1.0 is not a penalty"),
        (["beam=5", "diversity=2"], "diversity = 2.0 is for a beam in groups"),
        (["mbr=ter"], "mbr = ter is no utility"),
        (["alignment_layer=2"], "alignment_layer = 2, but nothing asks for an alignment"),
        (["temperature=-1"], "temperature = -1.0 is not finite and 0 or more"),
        (["temperature=1", "top_p=1.5"], "top_p = 1.5 is not above 0 and at most 1"),
        (["top_k=5"], "top_k = 5 is for samples"),
        (["top_p=0.5"], "top_p = 0.5 is for samples"),
        (["seed=3"], "seed = 3 is for samples"),
        (["groups=0"], "groups = 0 is less than 1"),
        (["beam=4", "groups=3"], "groups = 3 does not divide the beam of 4"),
        (["beam=4", "n_best=4", "groups=3"], "groups = 3 does not divide the beam of 4"),
        (["temperature=1", "groups=5"], "samples have no groups"),
    ],
)
def test_hint_behind_the_mistake_makes_it_right(changes: list[str], sentence: str) -> None:
    error = refused(changes)
    assert error.message == sentence
    assert advised(error)
    SearchOptions().changed([*changes, *advised(error)])


@pytest.mark.parametrize(
    ("change", "sentence", "hint"),
    [
        ("beam=wide", "beam = wide is no whole number", "--search beam=5"),
        ("temperature=hot", "temperature = hot is no number", "--search temperature=0.0"),
        ("unknown=maybe", "unknown = maybe is not true or false", "--search unknown=true"),
        ("tempurature=1", "there is no search option tempurature", "--search temperature=1"),
        ("tempurature", "there is no search option tempurature", "--search temperature=VALUE"),
        ("forbd=a b", "there is no search option forbd", "--search 'forbid=a b'"),
        ("temperature", "temperature is not key=value", "--search temperature=VALUE"),
        ("forbid= ", "a forbidden phrase is empty", "--search 'forbid=some words'"),
    ],
)
def test_hint_in_the_place_of_the_mistake_can_be_pasted(
    change: str, sentence: str, hint: str
) -> None:
    error = refused([change])
    assert (error.message, error.hint) == (sentence, hint)


def test_layer_is_for_whatever_asks_for_an_alignment() -> None:
    for other in ("alignment=true", "replace_unknown=true", "coverage_penalty=0.1"):
        assert SearchOptions().changed(["alignment_layer=2", other]).alignment_layer == 2


def test_recipe_takes_the_length_penalties_that_a_search_takes() -> None:
    steepest = Recipe().changed([f"search.length_penalty={STEEPEST}"])
    assert SearchOptions.from_section(steepest.search).length_penalty == STEEPEST
    with pytest.raises(RecipeError, match=r"length_penalty = 50\.5"):
        Recipe().changed(["search.length_penalty=50.5"])
