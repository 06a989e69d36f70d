"""Recurrent layers two ways: a whole sequence in one fused kernel, and one step written out.

Both read the same weights, those of torch's nn.RNN, nn.GRU and nn.LSTM with one layer. A state is
(h,), or (h, c) for an LSTM. With `truncate` a sequence is read in pieces of so many steps, and no
gradient goes from one piece to the one before it (truncated back-propagation through time,
Williams and Peng 1990); the values are the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, assert_never

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Cell = Literal["rnn", "gru", "gru_cho", "lstm"]
States = tuple[Tensor, ...]
# Inputs [B, T, E] and states [1, B, D] -> outputs [B, T, D] and the states behind them.
Kernel = Callable[[Tensor, States], tuple[Tensor, States]]

# Sigmoids of this are 0 and 1 exactly in every float type, float16 included.
_SHUT = 1e4
# oneDNN's bfloat16 LSTM is 2.5 times slower when the input width is no multiple of this.
_LANES = 32


class ChoGRU(nn.RNNBase):
    """The GRU of Cho et al. 2014, as Bahdanau et al. 2015 (A.1.1) write it.

    h~ = tanh(W x + U (r * h)), h' = (1 - z) h + z h~: the reset gate acts before the recurrent
    matrix. No fused kernel knows this cell, so it runs step by step. Its weights have the shapes
    and the order of nn.GRU's: reset, update, candidate.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__("GRU", inputs, width, batch_first=True)

    def forward(self, inputs: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """inputs [B, T, E], start [1, B, D] -> outputs [B, T, D], the last state [1, B, D]."""
        states: States = (start[0],)
        outputs = []
        for gates in project_inputs(self, inputs).unbind(1):
            states = advance(self, gates, states)
            outputs.append(states[0])
        return torch.stack(outputs, 1), states[0].unsqueeze(0)


def recurrent_layer(cell: Cell, inputs: int, width: int) -> nn.RNNBase:
    """One layer, one direction, batch first; weights are torch's uniform ±1/sqrt(width).

    An LSTM's forget gates start open: their bias is 1 (Gers et al. 2000, Jozefowicz et al. 2015).
    """
    match cell:
        case "rnn":
            return nn.RNN(inputs, width, batch_first=True)
        case "gru":
            return nn.GRU(inputs, width, batch_first=True)
        case "gru_cho":
            return ChoGRU(inputs, width)
        case "lstm":
            layer = nn.LSTM(inputs, width, batch_first=True)
            _, _, bias, second_bias = layer.all_weights[0]
            with torch.no_grad():
                bias[width : 2 * width] = 1.0
                second_bias[width : 2 * width] = 0.0
            return layer
        case _:
            assert_never(cell)


def layers_of(modules: nn.ModuleList) -> list[nn.RNNBase]:
    """The recurrent layers in a list of modules, by their type."""
    return [module for module in modules if isinstance(module, nn.RNNBase)]


@dataclass(frozen=True)
class Products:
    """A layer's two matrices with their biases, as one step uses them."""

    inputs: Callable[[Tensor], Tensor]  # [..., E] -> [..., gates x D]
    states: Callable[[Tensor], Tensor]  # [..., D] -> [..., gates x D]


def step_by(layer: nn.RNNBase, products: Products) -> None:
    """Let the layer's steps use other products than those of its own matrices."""
    assert not isinstance(layer, ChoGRU), "its states are multiplied in two parts"
    vars(layer)["products"] = products


def project_inputs(layer: nn.RNNBase, inputs: Tensor) -> Tensor:
    """The share of the gates that needs no state: [..., E] -> [..., gates x D]."""
    if products := vars(layer).get("products"):
        projected: Tensor = products.inputs(inputs)
        return projected
    weight, _, bias, _ = layer.all_weights[0]
    return F.linear(inputs, weight, bias)


def advance(layer: nn.RNNBase, inputs: Tensor, states: States) -> States:
    """One step by the cell's equations; `inputs` [..., gates x D] comes from `project_inputs`.

    In torch's GRU the reset gate acts after the recurrent matrix, and z keeps the old state; in
    that of Cho et al. 2014 (`ChoGRU`) it acts before, and z lets the new state in.
    """
    hidden = states[0]
    _, weight, _, bias = layer.all_weights[0]
    if isinstance(layer, ChoGRU):
        width = 2 * layer.hidden_size
        gates = inputs[..., :width] + F.linear(hidden, weight[:width], bias[:width])
        reset, enter = torch.sigmoid(gates).chunk(2, -1)
        new = inputs[..., width:] + F.linear(reset * hidden, weight[width:], bias[width:])
        return (hidden + enter * (torch.tanh(new) - hidden),)
    products = vars(layer).get("products")
    recurrent = products.states(hidden) if products else F.linear(hidden, weight, bias)
    match layer:
        case nn.LSTM():
            enter, keep, new, leave = (inputs + recurrent).chunk(4, -1)
            cell = torch.sigmoid(keep) * states[1] + torch.sigmoid(enter) * torch.tanh(new)
            return torch.sigmoid(leave) * torch.tanh(cell), cell
        case nn.GRU():
            reset, keep, new = inputs.chunk(3, -1)
            hidden_reset, hidden_keep, hidden_new = recurrent.chunk(3, -1)
            fresh = torch.tanh(new + torch.sigmoid(reset + hidden_reset) * hidden_new)
            return (fresh + torch.sigmoid(keep + hidden_keep) * (hidden - fresh),)
        case _:
            return (torch.tanh(inputs + recurrent),)


def sweep(kernel: Kernel, inputs: Tensor, states: States, truncate: int) -> tuple[Tensor, States]:
    """A kernel over inputs [B, T, E], in pieces of `truncate` steps (0: all at once)."""
    outputs: list[Tensor] = []
    for piece in torch.split(inputs, truncate or inputs.size(1), 1):
        if outputs:
            states = tuple(state.detach() for state in states)
        output, states = kernel(piece, states)
        outputs.append(output)
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)), states


def run(layer: nn.RNNBase, inputs: Tensor, states: States, truncate: int = 0) -> Tensor:
    """The fused kernel over inputs [B, T, E], from states [B, D]: outputs [B, T, D]."""
    start = tuple(state.unsqueeze(0).contiguous() for state in states)  # [1, B, D]
    return sweep(_kernel_of(layer), inputs, start, truncate)[0]


def _kernel_of(layer: nn.RNNBase) -> Kernel:
    def kernel(inputs: Tensor, states: States) -> tuple[Tensor, States]:
        if isinstance(layer, nn.LSTM):
            outputs, states = layer(inputs, states)
            return outputs, states
        outputs, state = layer(inputs, states[0])
        return outputs, (state,)

    return kernel


def read(
    layer: nn.RNNBase, inputs: Tensor, padding: Tensor, truncate: int = 0
) -> tuple[Tensor, States]:
    """The fused kernel over padded inputs [B, S, E] from zero: outputs [B, S, D], last states.

    The last states [B, D] are those of each sentence's own last token; outputs at padding mean
    nothing. There is no packing: it costs a host synchronisation and the fast kernels.
    """
    last = padding.logical_not().sum(1) - 1  # [B]
    states: States
    if isinstance(layer, nn.LSTM):
        outputs, cell = _read_lstm(layer, inputs, padding, truncate)
        states = (cell,)
    else:
        zero = inputs.new_zeros(1, inputs.size(0), layer.hidden_size)
        outputs, states = sweep(_kernel_of(layer), inputs, (zero,), truncate)[0], ()
    hidden = outputs[torch.arange(outputs.size(0), device=outputs.device), last]
    return outputs, (hidden, *states)


def _read_lstm(
    layer: nn.LSTM, inputs: Tensor, padding: Tensor, truncate: int
) -> tuple[Tensor, Tensor]:
    """Outputs [B, S, D] and the last cell state [B, D].

    The kernel gives the cell state only of its last step. So padding is marked in a further input
    column whose weights shut the input gate and open the forget gate: the cell state then stays,
    to the bit, what it was at the sentence's last token.
    """
    weight, *others = layer.all_weights[0]
    mark = padding.unsqueeze(-1).to(inputs.dtype)  # [B, S, 1]
    columns = 1 + -(inputs.size(-1) + 1) % _LANES
    width = layer.hidden_size
    gates = weight.new_zeros(4 * width, 1)  # in torch's order: input, forget, candidate, output
    gates[:width] = -_SHUT
    gates[width : 2 * width] = _SHUT
    marked = torch.cat([inputs, F.pad(mark, (0, columns - 1))], -1)
    weights = [torch.cat([weight, F.pad(gates, (0, columns - 1))], -1), *others]
    zero = inputs.new_zeros(1, inputs.size(0), width)

    cells = []  # at the end of each piece [B, D]

    def kernel(piece: Tensor, states: States) -> tuple[Tensor, States]:
        outputs, hidden, cell = torch.lstm(
            piece, states, weights, True, 1, 0.0, layer.training, False, True
        )
        cells.append(cell[0])
        return outputs, (hidden, cell)

    outputs, _ = sweep(kernel, marked, (zero, zero), truncate)
    if len(cells) == 1:
        return outputs, cells[0]
    # Of the piece in which the sentence ends: the later ones have its value, but not its gradient.
    ends = (padding.logical_not().sum(1) - 1) // truncate
    return outputs, torch.stack(cells)[ends, torch.arange(len(ends), device=ends.device)]
