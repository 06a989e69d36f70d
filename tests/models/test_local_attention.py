"""Luong et al. 2015, 3.1 (location) and 3.2 (local attention), written out in loops."""

import math

import pytest
import torch

from mtkit.errors import RecipeError
from mtkit.models.attention import Attention, LocalAttention
from mtkit.models.recurrent import Recurrent
from mtkit.recipe import RecurrentSection

WIDTH, WINDOW = 4, 2
LENGTHS = (9, 5)
PADDING = torch.arange(9) >= torch.tensor(LENGTHS)[:, None]


def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(4)
    return torch.randn(2, 7, WIDTH).double(), torch.randn(2, 9, WIDTH).double()


def assert_same(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-10)


def test_location_score_is_a_row_of_its_matrix() -> None:
    queries, states = drawn()
    attention = Attention("location", WIDTH, places=6).double()
    contexts, weights = attention(queries, attention.keys(states), states, PADDING)
    for b, length in enumerate(LENGTHS):
        seen = min(length, 6)
        for n in range(7):
            expected = (attention.place.weight[:seen] @ queries[b, n]).softmax(0)
            assert_same(weights[b, n, :seen], expected)
            assert torch.equal(weights[b, n, seen:], torch.zeros(9 - seen).double())
            assert_same(contexts[b, n], expected @ states[b, :seen])


def test_monotonic_attention_looks_around_the_targets_place() -> None:
    queries, states = drawn()
    attention = LocalAttention("dot", WIDTH, "monotonic", WINDOW).double()
    contexts, weights = attention(queries, states, states, PADDING)
    for b, length in enumerate(LENGTHS):
        for t in range(7):
            place = min(t, length - 1)
            near = [s for s in range(length) if place - WINDOW <= s <= place + WINDOW]
            expected = torch.stack([queries[b, t] @ states[b, s] for s in near]).softmax(0)
            assert_same(weights[b, t, near], expected)
            assert weights[b, t].count_nonzero() == len(near)
            assert_same(contexts[b, t], expected @ states[b, near])
    # In a step all queries lie at one place.
    assert_same(attention(queries[:, 3:4], states, states, PADDING, 3)[1], weights[:, 3:4])


def test_predictive_attention_has_a_gaussian_that_is_not_normalised_again() -> None:
    queries, states = drawn()
    attention = LocalAttention("general", WIDTH, "predictive", WINDOW).double()
    contexts, weights = attention(queries, attention.keys(states), states, PADDING)
    totals = []
    for b, length in enumerate(LENGTHS):
        for t in range(7):
            q = queries[b, t]
            aimed = attention.aimed.weight[0] @ torch.tanh(attention.aim.weight @ q)
            place = length / (1 + math.exp(-aimed.item()))
            near = [s for s in range(length) if abs(s - place) <= WINDOW]
            scores = torch.stack([q @ attention.key.weight @ states[b, s] for s in near])
            fall = [math.exp(-((s - place) ** 2) / (2 * (WINDOW / 2) ** 2)) for s in near]
            expected = scores.softmax(0) * torch.tensor(fall, dtype=torch.float64)
            assert_same(weights[b, t, near], expected)
            assert_same(contexts[b, t], expected @ states[b, near])
            totals.append(float(weights[b, t].detach().sum()))
    assert max(totals) < 1


def test_predicted_place_is_learned() -> None:
    queries, states = drawn()
    attention = LocalAttention("dot", WIDTH, "predictive", WINDOW).double()
    attention(queries, states, states, PADDING)[0].square().sum().backward()
    for weight in (attention.aim.weight, attention.aimed.weight):
        assert weight.grad is not None
        assert weight.grad.abs().sum() > 0


@pytest.mark.parametrize("memory", ["context", "location"])
def test_local_attention_needs_a_score_of_content(memory: str) -> None:
    section = {"kind": "recurrent", "memory": memory, "reach": "monotonic"}
    with pytest.raises(RecipeError, match="goes with a score of content"):
        Recurrent(RecurrentSection.model_validate(section), 11, 13)
