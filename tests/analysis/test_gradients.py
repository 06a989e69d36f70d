"""Gradients reach as far as the equations say."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mtkit.analysis.gradients import Gradients, Unrolled, measure, reach, spectral_radius
from mtkit.models.encoder import Reader
from mtkit.models.recurrent import Recurrent
from mtkit.symbols import BOS, EOS
from tests.laws.kinds import KINDS, tiny_model

RECURRENT = [name for name, section in KINDS.items() if section.kind == "recurrent"]
LONG = (torch.tensor([[4, 5, 6, 7, EOS]]), torch.tensor([[9, 4, 5, 6, EOS]]))
SHORT = (torch.tensor([[8, 4, EOS]]), torch.tensor([[6, 7, EOS]]))
INPUTS = torch.tensor([[BOS, 9, 4, 5, 6]])


def recurrent(name: str) -> Recurrent:
    model = tiny_model(name)
    assert isinstance(model, Recurrent)
    return model


def remembering(factor: float) -> Recurrent:
    """A tanh RNN whose encoder reads nothing: its state is zero, its matrix factor x identity."""
    model = recurrent("rnn-context")
    weights = model.encoder.onward[0].all_weights[0]  # type: ignore[union-attr]
    with torch.no_grad():
        for weight in weights:  # type: ignore[union-attr]
            weight.zero_()
        weights[1].copy_(torch.eye(6) * factor)  # type: ignore[index]
    return model


@pytest.mark.parametrize("name", RECURRENT)
def test_unrolled_encoder_gives_what_the_encoder_gives(name: str) -> None:
    model = tiny_model(name)
    assert isinstance(model, Reader)
    source = torch.tensor([[4, 5, 6, 7, EOS], [8, 4, EOS, 0, 0]])
    embedded = model.source_embedding(source)
    outputs, last = model.encoder(embedded, source == 0)
    again, again_last = Unrolled(model.encoder)(embedded, source == 0)
    here = (source != 0).unsqueeze(-1)
    torch.testing.assert_close(again * here, outputs * here, rtol=0, atol=1e-12)
    for one, other in zip(last, again_last, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_encoder_reach_is_the_product_of_jacobians() -> None:
    """dloss/dh_t = dloss/dh_S . prod diag(1 - h^2) W, by hand."""
    model = recurrent("rnn-context")
    found = measure(model, [LONG]).encoder
    layer = model.encoder.onward[0]
    assert isinstance(layer, nn.RNN)
    weight = layer.all_weights[0][1].detach()
    hidden = layer(model.source_embedding(LONG[0]))[0][0].detach()  # [S, D]
    last = hidden[-1].clone().requires_grad_()
    memory = model.encode(LONG[0])
    alone = (last[None, None],)  # [B, 1, D], as context and as start state
    stepped = type(memory)(memory.padding, alone, alone, alone)
    loss = F.cross_entropy(model.decode(INPUTS, stepped)[0], LONG[1][0])
    gradient = torch.autograd.grad(loss, last)[0]
    first = float(gradient.norm())
    wanted, changes = [], []
    for state in hidden.flip(0):
        wanted.append(float(gradient.norm()) / first)
        pulled = (gradient * (1 - state**2)) @ weight
        changes.append((float(pulled.norm() / gradient.norm()) ** 2 - 1) ** 2)
        gradient = pulled
    assert found.norms == pytest.approx(wanted, rel=1e-9)
    assert found.omega == pytest.approx(sum(changes[:-1]) / 4, rel=1e-9)


def test_decoder_reach_is_that_of_a_nudged_state() -> None:
    """A finite difference: the last label's loss when one LSTM state, h or c, is moved a little."""
    model = recurrent("lstm-dot-one-width")
    found = measure(model, [LONG]).decoder
    assert found is not None

    def loss(at: int, part: int, place: int, nudge: float) -> float:
        memory = model.encode(LONG[0])
        state = model.start(memory, 1, 5)
        for index, token in enumerate(INPUTS.unbind(1)):
            logits = model.step(token.unsqueeze(1), memory, state)
            if index == at and at < 4:
                states = [tensor.detach().clone() for tensor in state.layers[0]]
                states[part][0, 0, place] += nudge
                state.layers[0] = tuple(states)
        return float(F.cross_entropy(logits[0], LONG[1][0, -1:]).detach())

    def norm(at: int) -> float:
        slopes = (
            (loss(at, part, place, 1e-5) - loss(at, part, place, -1e-5)) / 2e-5
            for part in (0, 1)
            for place in range(6)
        )
        return math.hypot(*slopes)

    assert found.norms[3] / found.norms[1] == pytest.approx(norm(1) / norm(3), rel=1e-5)
    assert found.norms[2] / found.norms[1] == pytest.approx(norm(2) / norm(3), rel=1e-5)


def test_transformer_reach_is_that_of_its_embeddings() -> None:
    model = tiny_model("transformer-pre-none-gelu")
    found = measure(model, [LONG])
    assert found.decoder is not None
    embedding = model.target_embedding
    assert isinstance(embedding, nn.Embedding)
    moved = embedding(INPUTS).detach().requires_grad_()
    handle = embedding.register_forward_hook(lambda *_: moved)
    logits = model(LONG[0], INPUTS)[0]
    handle.remove()
    loss = F.cross_entropy(logits[-1:], LONG[1][0, -1:])
    norms = torch.autograd.grad(loss, moved)[0][0].norm(dim=-1).flip(0)
    assert found.decoder.norms == pytest.approx((norms / norms[0]).tolist(), rel=1e-9)
    assert math.isnan(found.decoder.omega)
    assert math.isnan(found.radius)


@pytest.mark.parametrize("name", KINDS)
def test_sentences_of_every_kind_do_not_disturb_one_another(name: str) -> None:
    model = tiny_model(name)
    together = measure(model, [LONG, SHORT])
    alone = [measure(model, [row]) for row in (LONG, SHORT)]
    for side in ("encoder", "decoder"):
        both, first, second = (getattr(found, side) for found in (together, *alone))
        if both is None:
            assert name.startswith("window")
            continue
        shared = min(len(first.norms), len(second.norms))
        means = [(a + b) / 2 for a, b in zip(first.norms, second.norms, strict=False)]
        assert both.norms == pytest.approx([*means, *first.norms[shared:]], rel=1e-9)
        # A truncated model can forbid even the last step to look back.
        assert both.norms[0] == pytest.approx(float(any(both.norms)))
    assert next(model.parameters()).dtype == torch.float64  # and it is still the same model
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_truncation_in_training_is_seen() -> None:
    """Of pieces of two steps, only the last, here of one step, receives a gradient."""
    found = measure(tiny_model("lstm-context-truncated"), [LONG])
    assert [norm > 0 for norm in found.encoder.norms] == [True, False, False, False, False]
    assert found.encoder.steps == pytest.approx(1 / 5)


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_a_cell_that_only_remembers(factor: float) -> None:
    found: Gradients = measure(remembering(factor), [LONG])
    assert found.encoder.norms == pytest.approx([factor**n for n in range(5)])
    assert found.encoder.omega == pytest.approx((factor**2 - 1) ** 2)
    assert found.encoder.steps == 1


def test_reach_measures_what_is_kept() -> None:
    halved = reach([torch.tensor([0.125, 0.25, 0.5, 1.0])], [torch.tensor([0.5, 0.5, 0.5])])
    assert halved.norms == pytest.approx((1.0, 0.5, 0.25, 0.125))
    assert halved.omega == pytest.approx((0.25 - 1) ** 2)
    assert halved.steps == 1.0
    cut = reach([torch.tensor([0.0, 0.0, 1.0, 1.0])], [])
    assert cut.steps == 0.5
    assert math.isnan(cut.omega)
    unread = reach([torch.tensor([0.5, 1.0, 0.0])], [])
    assert unread.norms == (1.0, 0.5)


def test_spectral_radius_is_the_largest_eigenvalue() -> None:
    layer = torch.nn.GRU(2, 2)
    with torch.no_grad():
        layer.weight_hh_l0[4:] = torch.tensor([[0.0, 2.0], [-2.0, 0.0]])
    assert spectral_radius(layer) == pytest.approx(2.0)
