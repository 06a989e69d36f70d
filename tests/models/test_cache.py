"""The cache of keys and values against lists that are copied whenever a beam changes."""

import math

import pytest
import torch
from torch import Tensor

from mtkit.models.cache import KVCache

BATCH, HEADS, DH, LAYERS = 4, 2, 3, 2

History = list[list[list[tuple[Tensor, Tensor]]]]  # [B][K][t] keys and values [L, H, Dh]


def cache(beam: int, capacity: int, padding: Tensor | None = None) -> KVCache:
    like = torch.empty(BATCH, HEADS, 1, DH, dtype=torch.float64)
    made = KVCache(LAYERS, beam, capacity, like, padding)
    for tensor in (*made.keys, *made.values):
        tensor.fill_(math.nan)  # what was never written must never be read
    return made


def attend(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
    scores = query @ keys.transpose(-2, -1)
    return (scores if bias is None else scores + bias).softmax(-1) @ values


def advance(state: KVCache, history: History, query: Tensor) -> None:
    """Write one step into both, and hold what the hypotheses see of them side by side."""
    batch, beam = len(history), state.beam
    keys, values = torch.randn(2, LAYERS, batch, HEADS, beam, DH, dtype=torch.float64)
    for b, k in ((b, k) for b in range(batch) for k in range(beam)):
        history[b][k] = [*history[b][k], (keys[:, b, :, k], values[:, b, :, k])]
    bias = state.begin_step()
    for layer in range(LAYERS):
        all_keys, all_values = state.extend(layer, keys[layer], values[layer])
        seen = attend(query[:batch], all_keys, all_values, bias)
        for b, k in ((b, k) for b in range(batch) for k in range(beam)):
            past_keys, past_values = (
                torch.stack([pair[side][layer] for pair in history[b][k]], 1) for side in (0, 1)
            )
            expected = attend(query[b, :, k : k + 1], past_keys, past_values, None)
            torch.testing.assert_close(seen[b, :, k : k + 1], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("beam", [1, 2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_cache_through_follow_and_select_equals_copied_histories(beam: int, seed: int) -> None:
    torch.manual_seed(seed)
    steps = 9
    state = cache(beam, steps)
    history: History = [[[] for _ in range(beam)] for _ in range(BATCH)]
    query = torch.randn(BATCH, HEADS, beam, DH, dtype=torch.float64)
    for step in range(steps):
        advance(state, history, query)
        if step in (1, 4, 5):
            rows = torch.randperm(len(history))[:-1]
            state.select(rows)
            history = [history[row] for row in rows.tolist()]
        if step != 3:
            parents = torch.randint(beam, (len(history), beam))
            state.follow(parents)
            history = [
                [past[parent] for parent in chosen]
                for past, chosen in zip(history, parents.tolist(), strict=True)
            ]
    assert len(history) == 1
    assert state.length == steps


def test_cache_selects_before_the_first_step() -> None:
    torch.manual_seed(0)
    state = cache(2, 3)
    state.select(torch.tensor([2, 0]))
    history: History = [[[], []], [[], []]]
    query = torch.randn(BATCH, HEADS, 2, DH, dtype=torch.float64)
    for _ in range(3):
        advance(state, history, query)


def test_cache_of_one_hypothesis_hides_nothing() -> None:
    state = cache(1, 2)
    assert state.begin_step() is None


def test_cache_hides_other_hypotheses_and_steps_to_come() -> None:
    state = cache(2, 3)
    state.begin_step()
    state.follow(torch.tensor([[1, 1], [0, 1], [1, 0], [0, 0]]))
    bias = state.begin_step()
    assert bias is not None
    assert bias.shape == (BATCH, 1, 2, 4)
    seen = [[[0, 1, 1, 0], [0, 1, 0, 1]], [[1, 0, 1, 0], [0, 1, 0, 1]]]
    seen += [[[0, 1, 1, 0], [1, 0, 0, 1]], [[1, 0, 1, 0], [1, 0, 0, 1]]]
    assert (bias[:, 0] == 0).int().tolist() == seen
    assert ((bias == 0) | (bias == -math.inf)).all()


def test_cache_keeps_the_padding_of_the_sentences_that_stay() -> None:
    padding = torch.arange(BATCH * 3.0).view(BATCH, 1, 1, 3)
    state = cache(2, 3, padding)
    assert state.padding is padding
    state.select(torch.tensor([3, 1]))
    assert state.padding is not None
    assert torch.equal(state.padding, padding[[3, 1]])
    plain = cache(2, 3)
    plain.select(torch.tensor([3, 1]))
    assert plain.padding is None


def test_cache_hands_out_views_that_a_batched_product_takes_as_they_are() -> None:
    # Sentences and heads must merge into one axis, or every step copies the whole past.
    state = cache(2, 5)
    rows = torch.tensor([3, 1])
    for _ in range(3):
        state.begin_step()
        new = torch.randn(len(state.keys[0]), HEADS, 2, DH, dtype=torch.float64)
        for layer in range(LAYERS):
            for past, whole in zip(
                state.extend(layer, new, new),
                (state.keys[layer], state.values[layer]),
                strict=True,
            ):
                assert past.data_ptr() == whole.data_ptr()
                merged = past.view(-1, past.size(2), DH)
                assert merged.stride()[1:] == (DH, 1)
        if state.length == 1:
            state.select(rows)


def test_cache_select_takes_no_new_room() -> None:
    state = cache(2, 5)
    state.begin_step()
    before = [tensor.data_ptr() for tensor in (*state.keys, *state.values)]
    state.select(torch.tensor([2, 3]))
    after = (*state.keys, *state.values)
    assert [tensor.data_ptr() for tensor in after] == before
    assert all(len(tensor) == 2 for tensor in after)
