"""Recurrent layers two ways: a whole sequence in one fused kernel, and one step written out.

Both read the same weights, those of torch's nn.RNN, nn.GRU and nn.LSTM with one layer. A state is
(h,), or (h, c) for an LSTM.
"""

from typing import Literal, assert_never

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Cell = Literal["rnn", "gru", "lstm"]
States = tuple[Tensor, ...]

# Sigmoids of this are 0 and 1 exactly in every float type, float16 included.
_SHUT = 1e4
# oneDNN's bfloat16 LSTM is 2.5 times slower when the input width is no multiple of this.
_LANES = 32


def recurrent_layer(cell: Cell, inputs: int, width: int) -> nn.RNNBase:
    """One layer, one direction, batch first; weights are torch's uniform ±1/sqrt(width).

    An LSTM's forget gates start open: their bias is 1 (Gers et al. 2000, Jozefowicz et al. 2015).
    """
    match cell:
        case "rnn":
            return nn.RNN(inputs, width, batch_first=True)
        case "gru":
            return nn.GRU(inputs, width, batch_first=True)
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


def project_inputs(layer: nn.RNNBase, inputs: Tensor) -> Tensor:
    """The share of the gates that needs no state: [..., E] -> [..., gates x D]."""
    weight, _, bias, _ = layer.all_weights[0]
    return F.linear(inputs, weight, bias)


def advance(layer: nn.RNNBase, inputs: Tensor, states: States) -> States:
    """One step by the cell's equations; `inputs` [..., gates x D] comes from `project_inputs`.

    The GRU is torch's: the reset gate acts after the recurrent matrix, and z keeps the old state
    (Cho et al. 2014 reset before the matrix, and there z lets the new state in).
    """
    hidden = states[0]
    _, weight, _, bias = layer.all_weights[0]
    recurrent = F.linear(hidden, weight, bias)
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


def run(layer: nn.RNNBase, inputs: Tensor, states: States) -> Tensor:
    """The fused kernel over inputs [B, T, E], from states [B, D]: outputs [B, T, D]."""
    start = tuple(state.unsqueeze(0).contiguous() for state in states)  # [1, B, D]
    outputs: Tensor = layer(inputs, start if isinstance(layer, nn.LSTM) else start[0])[0]
    return outputs


def read(layer: nn.RNNBase, inputs: Tensor, padding: Tensor) -> tuple[Tensor, States]:
    """The fused kernel over padded inputs [B, S, E] from zero: outputs [B, S, D], last states.

    The last states [B, D] are those of each sentence's own last token; outputs at padding mean
    nothing. There is no packing: it costs a host synchronisation and the fast kernels.
    """
    last = padding.logical_not().sum(1) - 1  # [B]
    states: States
    if isinstance(layer, nn.LSTM):
        outputs, cell = _read_lstm(layer, inputs, padding)
        states = (cell,)
    else:
        outputs, states = layer(inputs)[0], ()
    hidden = outputs[torch.arange(outputs.size(0), device=outputs.device), last]
    return outputs, (hidden, *states)


def _read_lstm(layer: nn.LSTM, inputs: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
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
    outputs, _, cell = torch.lstm(
        marked, (zero, zero), weights, True, 1, 0.0, layer.training, False, True
    )
    return outputs, cell[0]
