"""Truncated back-propagation through time: equal values, and gradients that end in time."""

import pytest
import torch
from torch import Tensor

from mtkit.models.build import build
from mtkit.models.cells import Cell, States, advance, project_inputs, read, recurrent_layer, run
from mtkit.recipe import RecurrentSection
from mtkit.symbols import BOS, EOS, PAD

WIDTH, EMBEDDING, STEPS = 4, 3, 7
CELLS: tuple[Cell, ...] = ("rnn", "gru", "gru_cho", "lstm")
LENGTHS = torch.tensor([7, 2, 5])
PADDING = torch.arange(STEPS) >= LENGTHS[:, None]


def by_hand(layer: torch.nn.RNNBase, inputs: Tensor, states: States, every: int) -> list[States]:
    """The states after every step of one sentence [S, E]; the past is cut at each piece's start."""
    found = []
    for t, x in enumerate(inputs):
        if t % every == 0 and t:
            states = tuple(state.detach() for state in states)
        states = advance(layer, project_inputs(layer, x[None]), states)
        found.append(states)
    return found


@pytest.mark.parametrize("every", [1, 2, 3, 7, 9])
@pytest.mark.parametrize("cell", CELLS)
def test_read_is_the_loop_that_cuts_the_past(cell: Cell, every: int) -> None:
    torch.manual_seed(1)
    layer = recurrent_layer(cell, EMBEDDING, WIDTH).double()
    inputs = torch.randn(3, STEPS, EMBEDDING).double().requires_grad_()
    outputs, last = read(layer, inputs, PADDING, every)
    probe = torch.randn(STEPS, WIDTH).double()
    kept = torch.where(PADDING[..., None], 0.0, outputs * probe)
    loss = kept.sum() + sum(((k + 1) * state).sum() for k, state in enumerate(last))
    (actual,) = torch.autograd.grad(loss, inputs)

    expected = torch.zeros((), dtype=torch.float64)
    for row, length in enumerate(LENGTHS.tolist()):
        zero = tuple(torch.zeros(1, WIDTH).double() for _ in last)
        states = by_hand(layer, inputs[row, :length], zero, every)
        expected = expected + sum((s[0] * probe[t]).sum() for t, s in enumerate(states))
        expected = expected + sum(((k + 1) * s).sum() for k, s in enumerate(states[-1]))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(actual, torch.autograd.grad(expected, inputs)[0])


@pytest.mark.parametrize("cell", CELLS)
def test_run_lets_a_gradient_go_back_to_the_start_of_its_piece_only(cell: Cell) -> None:
    torch.manual_seed(1)
    layer = recurrent_layer(cell, EMBEDDING, WIDTH).double()
    inputs = torch.randn(1, STEPS, EMBEDDING).double().requires_grad_()
    zero = tuple(torch.zeros(1, WIDTH).double() for _ in range(2 if cell == "lstm" else 1))
    outputs = run(layer, inputs, zero, 3)
    torch.testing.assert_close(outputs, run(layer, inputs, zero))
    (gradient,) = torch.autograd.grad(outputs[0, 5].sum(), inputs)
    assert [bool(step.any()) for step in gradient[0]] == [False] * 3 + [True] * 3 + [False]


SOURCE = torch.tensor([[4, 5, 6, 7, EOS], [7, 8, EOS, PAD, PAD]])
INPUTS = torch.tensor([[BOS, 5, 9, 4, 6], [BOS, 12, 6, 7, 5]])


@pytest.mark.parametrize(
    "changes",
    [
        {"memory": "context"},
        {"memory": "general", "input_feeding": True},
        {"memory": "additive", "decoder": "bahdanau", "decoder_layers": 1},
    ],
)
def test_models_have_the_same_logits_and_other_gradients(changes: dict[str, object]) -> None:
    gradients = []
    for truncate in (0, 2, 5):
        torch.manual_seed(1)
        section = {"kind": "recurrent", "width": 4, "embedding": 3, "dropout": 0.0}
        model = build(
            RecurrentSection.model_validate(section | changes | {"truncate": truncate}), 11, 13
        ).double()
        logits = model(SOURCE, INPUTS)
        logits.log_softmax(-1)[..., EOS].sum().backward()
        weight = model.source_embedding.weight
        assert isinstance(weight, torch.nn.Parameter)
        assert weight.grad is not None
        gradients.append((logits.detach(), weight.grad))
    (full, gradient), (cut, cut_gradient), (whole, whole_gradient) = gradients
    torch.testing.assert_close(cut, full)
    assert not torch.allclose(cut_gradient, gradient)
    torch.testing.assert_close(whole, full)
    torch.testing.assert_close(whole_gradient, gradient)
