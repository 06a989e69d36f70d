"""Each formula of the textbook, computed with Python's floats: lists, loops and `math`."""

import math

import pytest
import torch

from mtkit.models.cells import Cell, advance, project_inputs, recurrent_layer
from mtkit.models.transformer import SelfAttention
from mtkit.recipe import TransformerSection

Vector = list[float]
Matrix = list[Vector]
WIDTH, INPUTS = 3, 2


def dot(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def softmax(scores: Vector) -> Vector:
    exps = [math.exp(score) for score in scores]
    return [value / sum(exps) for value in exps]


class Gates:
    """W x + b and U h + c of a cell, a number at a time; gate g has rows g D ... (g + 1) D."""

    def __init__(self, layer: torch.nn.RNNBase) -> None:
        self.w, self.u, self.b, self.c = (weight.tolist() for weight in layer.all_weights[0])

    def __call__(self, number: int, unit: int, x: Vector, h: Vector) -> float:
        row = number * WIDTH + unit
        return float(dot(self.w[row], x) + self.b[row] + dot(self.u[row], h) + self.c[row])


def rnn(gate: Gates, x: Vector, h: Vector, c: Vector) -> tuple[Vector, Vector]:
    return [math.tanh(gate(0, d, x, h)) for d in range(WIDTH)], c


def lstm(gate: Gates, x: Vector, h: Vector, c: Vector) -> tuple[Vector, Vector]:
    after_h, after_c = [], []
    for d in range(WIDTH):
        enter, keep = sigmoid(gate(0, d, x, h)), sigmoid(gate(1, d, x, h))
        after_c.append(keep * c[d] + enter * math.tanh(gate(2, d, x, h)))
        after_h.append(sigmoid(gate(3, d, x, h)) * math.tanh(after_c[d]))
    return after_h, after_c


def gru_cho(gate: Gates, x: Vector, h: Vector, c: Vector) -> tuple[Vector, Vector]:
    reset = [sigmoid(gate(0, d, x, h)) * h[d] for d in range(WIDTH)]
    z = [sigmoid(gate(1, d, x, h)) for d in range(WIDTH)]
    new = [math.tanh(gate(2, d, x, reset)) for d in range(WIDTH)]
    return [(1 - z[d]) * h[d] + z[d] * new[d] for d in range(WIDTH)], c


def gru(gate: Gates, x: Vector, h: Vector, c: Vector) -> tuple[Vector, Vector]:
    after = []
    nothing = [0.0] * WIDTH
    for d in range(WIDTH):
        row = 2 * WIDTH + d
        recurrent = dot(gate.u[row], h) + gate.c[row]
        z = sigmoid(gate(1, d, x, h))
        within = gate(2, d, x, nothing) - gate.c[row]  # W x + b alone
        new = math.tanh(within + sigmoid(gate(0, d, x, h)) * recurrent)
        after.append((1 - z) * new + z * h[d])
    return after, c


@pytest.mark.parametrize(
    ("cell", "formula"), [("rnn", rnn), ("lstm", lstm), ("gru", gru), ("gru_cho", gru_cho)]
)
def test_cell_is_its_formula(cell: Cell, formula) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(1)
    layer = recurrent_layer(cell, INPUTS, WIDTH).double()
    inputs = torch.randn(4, INPUTS).double()
    states = tuple(torch.randn(1, WIDTH).double() for _ in range(2 if cell == "lstm" else 1))
    h, c, gates = states[0][0].tolist(), states[-1][0].tolist(), Gates(layer)
    for x in inputs:
        states = advance(layer, project_inputs(layer, x[None]), states)
        h, c = formula(gates, x.tolist(), h, c)
        assert states[0][0].tolist() == pytest.approx(h, rel=1e-12)
    if cell == "lstm":
        assert states[1][0].tolist() == pytest.approx(c, rel=1e-12)


def attention(queries: Matrix, keys: Matrix, values: Matrix) -> Matrix:
    """softmax(Q K^T / sqrt(d_k)) V."""
    found = []
    for query in queries:
        weights = softmax([dot(query, key) / math.sqrt(len(query)) for key in keys])
        found.append([dot(weights, [value[d] for value in values]) for d in range(len(values[0]))])
    return found


def columns(matrix: Matrix, first: int, count: int) -> Matrix:
    return [row[first : first + count] for row in matrix]


def test_multi_head_attention_is_its_formula() -> None:
    """Concat(head_1 ... head_h) W^O, head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V)."""
    torch.manual_seed(1)
    section = TransformerSection(kind="transformer", width=6, heads=3, attention_dropout=0.0)
    module = SelfAttention(section).double()
    x = torch.randn(1, 4, 6).double()
    seen = module(*module.split(x), None)[0].tolist()

    weight, bias = module.joined.weight.tolist(), module.joined.bias.tolist()
    joined = [[dot(row, v) + b for row, b in zip(weight, bias, strict=True)] for v in x[0].tolist()]
    heads = [
        attention(*(columns(joined, part * 6 + head * 2, 2) for part in range(3)))
        for head in range(3)
    ]
    out, out_bias = module.out.weight.tolist(), module.out.bias.tolist()
    for position in range(4):
        together = [number for head in heads for number in head[position]]
        expected = [dot(row, together) + b for row, b in zip(out, out_bias, strict=True)]
        assert seen[position] == pytest.approx(expected, rel=1e-12)
