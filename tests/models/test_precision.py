"""int8 matrices: near the float32 ones, exact in themselves, deaf to their neighbours."""

import pytest
import torch
from torch import nn

from mtkit.errors import UsageError
from mtkit.models import precision
from mtkit.models.cells import Cell, advance, project_inputs, recurrent_layer
from mtkit.models.precision import Int8Linear, in_eight_bits
from tests.laws.kinds import KINDS, tiny_model


def test_rows_in_eight_bits_are_within_half_a_unit() -> None:
    rows = torch.randn(7, 33, generator=torch.Generator().manual_seed(1))
    rows[3] = 0.0
    scale, rounded = in_eight_bits(rows)
    assert rounded.dtype == torch.int8
    assert ((rounded * scale - rows).abs() <= 0.5001 * scale).all()
    assert (rounded.abs().amax(1)[[0, 1, 2, 4]] == 127).all()


@pytest.mark.parametrize(("width", "out"), [(16, 48), (48, 16), (4, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_int8_linear_is_the_product_of_the_rounded_matrices(
    width: int, out: int, bias: bool
) -> None:
    torch.manual_seed(2)
    linear = nn.Linear(width, out, bias=bias)
    inputs = torch.randn(2, 5, width)
    (scale, rounded), (column, weight) = in_eight_bits(inputs[1]), in_eight_bits(linear.weight)
    expected = (rounded.double() @ weight.double().t()) * scale * column.t()
    expected = expected + (linear.bias if bias else 0)
    with torch.no_grad():
        found = Int8Linear(linear.weight, linear.bias)(inputs)
    assert found.shape == (2, 5, out)
    torch.testing.assert_close(found[1].double(), expected.detach(), rtol=1e-5, atol=1e-6)


def test_int8_row_does_not_depend_on_its_neighbours() -> None:
    torch.manual_seed(3)
    linear = nn.Linear(32, 24)
    eight = Int8Linear(linear.weight, linear.bias)
    rows = torch.randn(70, 32) * torch.logspace(-2, 2, 70).unsqueeze(1)
    together = eight(rows)
    for index in (0, 33, 69):
        assert torch.equal(eight(rows[index : index + 1])[0], together[index])


@pytest.mark.parametrize("kind", KINDS)
def test_every_model_computes_in_int8_nearly_what_it_computes_in_float32(kind: str) -> None:
    source, inputs = torch.tensor([[4, 5, 6, 3]]), torch.tensor([[2, 4, 5]])
    exact, coarse = tiny_model(kind).float(), tiny_model(kind)
    precision.apply(coarse, "int8")
    with torch.no_grad():
        wanted = exact(source, inputs).log_softmax(-1)
        found = coarse(source, inputs).log_softmax(-1)
        memory = coarse.encode(source)
        state = coarse.start(memory, 1, 3)
        stepped = coarse.step(torch.tensor([[2]]), memory, state)
    assert found.dtype == torch.float32
    assert not torch.equal(found, wanted)
    assert (found - wanted).norm() < 0.1 * wanted.norm()
    stepped = stepped[0, 0].log_softmax(-1)
    if KINDS[kind].kind == "transformer":
        torch.testing.assert_close(stepped, found[0, 0], rtol=0, atol=1e-4)
    else:  # whose teacher forcing is by fused kernels that do not round the activations
        assert (stepped - found[0, 0]).norm() < 0.1 * found[0, 0].norm()


@torch.no_grad()
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_recurrent_layers_step_by_integers(cell: Cell) -> None:
    layer = recurrent_layer(cell, 16, 32)
    model = nn.Module()
    model.layers = nn.ModuleList([layer])
    inputs, hidden = torch.randn(5, 16), torch.randn(5, 32)
    states = (hidden, torch.randn(5, 32)) if cell == "lstm" else (hidden,)
    exact = advance(layer, project_inputs(layer, inputs), states)[0]
    weight = layer.all_weights[0][1].clone()
    precision.round_steps(model)
    found = advance(layer, project_inputs(layer, inputs), states)[0]
    assert not torch.equal(found, exact)
    assert (found - exact).norm() < 0.02 * exact.norm()
    scale, rounded = in_eight_bits(weight)
    torch.testing.assert_close(layer.all_weights[0][1], scale * rounded)


def test_unknown_precision_is_refused() -> None:
    with pytest.raises(UsageError, match="float16 is not a precision"):
        precision.apply(tiny_model("rnn-context"), "float16")
