"""The decoder with a fixed past sees its window, and what is before it changes nothing."""

import pytest
import torch
from torch import Tensor

from mtkit.errors import RecipeError
from mtkit.models.window import Window
from mtkit.recipe import RecurrentSection
from mtkit.symbols import BOS, EOS

SOURCE = torch.tensor([[4, 5, 6, EOS]])
INPUTS = torch.tensor([[BOS, 5, 9, 4, 7, 6]])


def model(**changes: object) -> Window:
    torch.manual_seed(2)
    small = {
        "kind": "recurrent",
        "decoder": "window",
        "window": 3,
        "width": 4,
        "embedding": 3,
        "decoder_layers": 1,
        "tied_embeddings": False,
        "dropout": 0.0,
    }
    return Window(RecurrentSection.model_validate(small | changes), 11, 13).double()


@pytest.mark.parametrize("memory", ["context", "general"])
@pytest.mark.parametrize("size", [1, 3])
def test_window_is_markov_of_its_order(memory: str, size: int) -> None:
    m = model(memory=memory, window=size)
    before = m(SOURCE, INPUTS)
    for t in range(6):
        changed = INPUTS.clone()
        changed[0, t] = 12
        after = m(SOURCE, changed)
        differs = [not torch.equal(after[0, u], before[0, u]) for u in range(6)]
        assert differs == [t <= u < t + size for u in range(6)]


def test_window_is_the_network_of_its_equations() -> None:
    m = model(memory="general", decoder_layers=2)
    memory = m.encode(SOURCE)
    logits, alignment = m(SOURCE, INPUTS), m.alignment(INPUTS, memory)
    (first, second), states, start = m.layers, memory.values[0][0], memory.initial[0][0, 0]
    assert m.attention is not None
    for t in range(6):
        words: list[Tensor] = [
            m.target_embedding.weight[INPUTS[0, u]] if u >= 0 else torch.zeros(3).double()
            for u in range(t - 2, t + 1)
        ]
        h = torch.tanh(first.weight @ torch.cat(words) + first.bias + m.context.weight @ start)
        h = torch.tanh(second.weight @ h + second.bias)
        a = torch.stack([h @ m.attention.key.weight @ s for s in states]).softmax(0)
        torch.testing.assert_close(alignment[0, t], a)
        h = torch.tanh(m.combine.weight @ torch.cat([(a[:, None] * states).sum(0), h]))
        torch.testing.assert_close(logits[0, t], m.output.weight @ h + m.output.bias)


def test_window_refuses_input_feeding() -> None:
    with pytest.raises(RecipeError, match="feeds the past"):
        model(input_feeding=True)
