"""Gradients reach as far as the equations say."""

import pytest
import torch
from torch import Tensor

from mtkit.analysis.gradients import measure, reach, spectral_radius
from mtkit.models.build import build
from mtkit.models.recurrent import Recurrent
from mtkit.symbols import BOS, EOS
from tests.laws.kinds import KINDS, SOURCE_SIZE, TARGET_SIZE


def rows() -> list[tuple[Tensor, Tensor]]:
    source = torch.tensor([[4, 5, 6, 7, 8, EOS]])
    return [(source, torch.tensor([[9, 4, 5, EOS]]))]


def test_encoder_reach_is_the_product_of_jacobians() -> None:
    torch.manual_seed(3)
    model = build(KINDS["rnn-context"], SOURCE_SIZE, TARGET_SIZE).double().eval()
    assert isinstance(model, Recurrent)
    source, target = rows()[0]
    states: list[Tensor] = []
    layer = model.encoder.onward[0]
    weight, recurrent, bias, second = layer.all_weights[0]
    hidden = torch.zeros(1, model.section.width, dtype=torch.float64, requires_grad=True)
    for token in source[0]:
        entering = model.source_embedding(token[None]) @ weight.T + bias
        hidden = torch.tanh(entering + hidden @ recurrent.T + second)
        states.append(hidden)
    memory = model.encode(source)
    stepped = type(memory)(memory.padding, memory.keys, memory.values, (hidden.unsqueeze(1),))
    inputs = torch.cat([torch.tensor([[BOS]]), target[:, :-1]], 1)
    loss = torch.nn.functional.cross_entropy(
        model.decode(inputs, stepped)[0], target[0], reduction="sum"
    )
    gradients = torch.autograd.grad(loss, states)
    wanted = [float(g.norm() / gradients[-1].norm()) for g in reversed(gradients)]
    found = measure(model, rows()).encoder
    assert found is not None
    assert found.norms == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_has_a_decoder_reach(kind: str) -> None:
    torch.manual_seed(1)
    # Of one size: some share the embeddings of both languages.
    model = build(KINDS[kind], TARGET_SIZE, TARGET_SIZE).eval()
    found = measure(model, rows())
    if found.decoder is None:
        assert kind.startswith("window")
        return
    assert len(found.decoder.norms) in (3, 4)
    assert found.decoder.norms[0] == pytest.approx(1.0)
    assert all(norm >= 0 for norm in found.decoder.norms)


def test_reach_measures_what_is_kept() -> None:
    halved = reach([torch.tensor([0.125, 0.25, 0.5, 1.0])])
    assert halved.norms == pytest.approx((1.0, 0.5, 0.25, 0.125))
    assert halved.omega == pytest.approx((0.25 - 1) ** 2)
    assert halved.steps == 1.0
    cut = reach([torch.tensor([0.0, 0.0, 1.0, 1.0])])
    assert cut.steps == 0.5


def test_spectral_radius_is_the_largest_eigenvalue() -> None:
    layer = torch.nn.GRU(2, 2)
    with torch.no_grad():
        layer.weight_hh_l0[4:] = torch.tensor([[0.0, 2.0], [-2.0, 0.0]])
    assert spectral_radius(layer) == pytest.approx(2.0)
