"""RNNsearch and RNNencdec against the equations of Bahdanau et al. 2015, written out in loops."""

import pytest
import torch
from torch import Tensor

from mtkit.errors import RecipeError
from mtkit.models.bahdanau import Bahdanau
from mtkit.models.cells import layers_of
from mtkit.recipe import RecurrentSection
from mtkit.symbols import BOS, EOS, PAD

N, E, L, ANNOTATION = 4, 3, 5, 6
SOURCE = torch.tensor([[4, 5, 6, EOS], [7, 8, EOS, PAD]])
INPUTS = torch.tensor([[BOS, 5, 9, 4], [BOS, 12, 6, 7]])
LENGTHS = (4, 3)


def model(**changes: object) -> Bahdanau:
    torch.manual_seed(3)
    small = {
        "kind": "recurrent",
        "cell": "gru_cho",
        "decoder": "bahdanau",
        "memory": "additive",
        "width": N,
        "encoder_width": ANNOTATION,
        "embedding": E,
        "readout": L,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "tied_embeddings": False,
        "dropout": 0.0,
    }
    found = Bahdanau(RecurrentSection.model_validate(small | changes), 11, 13).double()
    with torch.no_grad():
        for weight in found.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.5)
    return found


def assert_same(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-10)


def cho_gru(layer: torch.nn.RNNBase, x: Tensor, h: Tensor, context: Tensor | None = None) -> Tensor:
    """s~ = tanh(W e + U [r * s] + C c), s' = (1 - z) s + z s~ (appendix A.2.2)."""
    w, u, b, c = layer.all_weights[0]
    size = len(h)
    add = torch.zeros(3 * size).double() if context is None else context
    r = torch.sigmoid(w[:size] @ x + b[:size] + u[:size] @ h + c[:size] + add[:size])
    two = slice(size, 2 * size)
    z = torch.sigmoid(w[two] @ x + b[two] + u[two] @ h + c[two] + add[two])
    three = slice(2 * size, None)
    new = torch.tanh(w[three] @ x + b[three] + u[three] @ (r * h) + c[three] + add[three])
    return (1 - z) * h + z * new


def annotations(m: Bahdanau, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """[forward; backward] states [S, 2n] of a sentence, the backward state at its first word."""
    half = ANNOTATION // 2
    forward, backward = torch.zeros(half).double(), torch.zeros(half).double()
    onward, turned = [], []
    for token in tokens:
        forward = cho_gru(layers_of(m.encoder.onward)[0], m.source_embedding.weight[token], forward)
        onward.append(forward)
    for token in tokens.flip(0):
        x = m.source_embedding.weight[token]
        backward = cho_gru(layers_of(m.encoder.turned)[0], x, backward)
        turned.insert(0, backward)
    return torch.stack([torch.cat(pair) for pair in zip(onward, turned, strict=True)]), turned[0]


@pytest.mark.parametrize("readout_state", ["previous", "current"])
def test_rnnsearch_follows_the_appendix(readout_state: str) -> None:
    m = model(readout_state=readout_state)
    logits, alignment = m(SOURCE, INPUTS), m.alignment(INPUTS, m.encode(SOURCE))
    attention = m.attention
    assert attention is not None
    u_o, v_o, c_o = m.deep.weight.split([N, E, ANNOTATION], 1)
    for b, length in enumerate(LENGTHS):
        h, first_backward = annotations(m, SOURCE[b, :length])
        s = torch.tanh(m.begin.weight @ first_backward + m.begin.bias)
        for t, token in enumerate(INPUTS[b]):
            y = m.target_embedding.weight[token]
            energies = [
                attention.energy.weight[0]
                @ torch.tanh(attention.query.weight @ s + attention.key.weight @ h_j)
                for h_j in h
            ]
            alpha = torch.stack(energies).softmax(0)
            c = (alpha[:, None] * h).sum(0)
            assert_same(alignment[b, t, :length], alpha)
            before = s
            s = cho_gru(layers_of(m.layers)[0], y, s, m.context.weight @ c)
            read = before if readout_state == "previous" else s
            deep = u_o @ read + v_o @ y + c_o @ c + m.deep.bias
            maxout = torch.stack([torch.maximum(deep[2 * i], deep[2 * i + 1]) for i in range(L)])
            assert_same(logits[b, t], m.output.weight @ maxout + m.output.bias)


def test_rnnencdec_feeds_the_last_state_at_every_step() -> None:
    m = model(memory="context", bidirectional=False, encoder_width=0)
    logits = m(SOURCE, INPUTS)
    for b, length in enumerate(LENGTHS):
        c = torch.zeros(N).double()
        for token in SOURCE[b, :length]:
            c = cho_gru(layers_of(m.encoder.onward)[0], m.source_embedding.weight[token], c)
        s = torch.tanh(m.begin.weight @ c + m.begin.bias)
        for t, token in enumerate(INPUTS[b]):
            y = m.target_embedding.weight[token]
            deep = m.deep.weight @ torch.cat([s, y, c]) + m.deep.bias
            s = cho_gru(layers_of(m.layers)[0], y, s, m.context.weight @ c)
            maxout = deep.view(L, 2).max(1).values
            assert_same(logits[b, t], m.output.weight @ maxout + m.output.bias)
    assert m.alignment(INPUTS, m.encode(SOURCE)).shape == (2, 4, 1)


@pytest.mark.parametrize("memory", ["additive", "context", "general"])
def test_gradients_reach_every_parameter(memory: str) -> None:
    m = model(memory=memory)
    m(SOURCE, INPUTS).log_softmax(-1)[..., EOS].sum().backward()
    for name, weight in m.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"decoder_layers": 2}, "has one layer, not 2"),
        ({"input_feeding": True}, "feeds the context already"),
        ({"reach": "predictive"}, "attends to the whole source"),
        ({"memory": "dot"}, "needs an encoder as wide as the decoder"),
        ({"encoder_width": 5}, r"model\.encoder_width = 5 is odd"),
        ({"decoder": "luong"}, r"only model\.decoder = \"bahdanau\" allows that"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(
    changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(RecipeError, match=sentence) as caught:
        model(**changes)
    assert caught.value.hint
