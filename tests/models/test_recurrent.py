"""Cells, attention and the recurrent model against their equations, written out in loops."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from mtkit.errors import RecipeError
from mtkit.models.attention import Attention, Score
from mtkit.models.cells import (
    Cell,
    States,
    advance,
    layers_of,
    project_inputs,
    read,
    recurrent_layer,
    run,
)
from mtkit.models.encoder import reversal, take
from mtkit.models.recurrent import Recurrent
from mtkit.recipe import RecurrentSection
from mtkit.symbols import BOS, EOS, PAD

CELLS: tuple[Cell, ...] = ("rnn", "gru", "gru_cho", "lstm")
SCORES: tuple[Score, ...] = ("additive", "dot", "general", "concat")
WIDTH, EMBEDDING = 4, 3

Weights = Sequence[Tensor]
Equations = Callable[[Weights, Tensor, States], States]


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def gate(weights: Weights, number: int, x: Tensor, h: Tensor) -> Tensor:
    """W [x, h] + b of one gate: torch keeps a gate's rows together, and two biases."""
    rows = slice(number * WIDTH, (number + 1) * WIDTH)
    w, u, b, c = weights
    return w[rows] @ x + b[rows] + u[rows] @ h + c[rows]


def rnn_equations(weights: Weights, x: Tensor, states: States) -> States:
    """h_t = tanh(W_h h_{t-1} + W_x x_t + b); the notes write a general sigma for the tanh."""
    return (torch.tanh(gate(weights, 0, x, states[0])),)


def lstm_equations(weights: Weights, x: Tensor, states: States) -> States:
    """The notes' LSTM exactly: C_t = f_t C_{t-1} + i_t C~_t, h_t = o_t tanh(C_t)."""
    h, c = states
    i, f = sigmoid(gate(weights, 0, x, h)), sigmoid(gate(weights, 1, x, h))
    new, o = torch.tanh(gate(weights, 2, x, h)), sigmoid(gate(weights, 3, x, h))
    c = f * c + i * new
    return o * torch.tanh(c), c


def gru_equations(weights: Weights, x: Tensor, states: States) -> States:
    """torch's GRU, which departs from the notes (and Cho et al. 2014) in two places.

    The notes: h~ = tanh(W [r * h, x] + b), h_t = (1 - z) h + z h~. Here the reset gate multiplies
    what the recurrent matrix gives, U h + c, not h; and z is mirrored: it is the share that stays,
    h_t = (1 - z) h~ + z h. The mirroring is a change of names (1 - sigmoid(a) = sigmoid(-a)); the
    reset is another cell.
    """
    (h,) = states
    r, z = sigmoid(gate(weights, 0, x, h)), sigmoid(gate(weights, 1, x, h))
    w, u, b, c = (weight[2 * WIDTH :] for weight in weights)
    new = torch.tanh(w @ x + b + r * (u @ h + c))
    return ((1 - z) * new + z * h,)


def cho_equations(weights: Weights, x: Tensor, states: States) -> States:
    """The notes' GRU exactly: h~ = tanh(W [r * h, x] + b), h_t = (1 - z) h + z h~."""
    (h,) = states
    r, z = sigmoid(gate(weights, 0, x, h)), sigmoid(gate(weights, 1, x, h))
    new = torch.tanh(gate(weights, 2, x, r * h))
    return ((1 - z) * h + z * new,)


EQUATIONS: dict[Cell, Equations] = {
    "rnn": rnn_equations,
    "gru": gru_equations,
    "gru_cho": cho_equations,
    "lstm": lstm_equations,
}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(1)


def zeros(cell: Cell, *shape: int) -> States:
    return tuple(torch.zeros(*shape, WIDTH).double() for _ in range(2 if cell == "lstm" else 1))


def assert_same(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("cell", CELLS)
def test_cell_follows_its_equations_in_all_three_ways(cell: Cell) -> None:
    layer = recurrent_layer(cell, EMBEDDING, WIDTH).double()
    inputs = torch.randn(2, 5, EMBEDDING).double()
    weights = list(layer.all_weights[0])
    by_hand = []
    for row in inputs:
        states = zeros(cell)
        for x in row:
            states = EQUATIONS[cell](weights, x, states)
            by_hand.append(states[0])
    expected = torch.stack(by_hand).view(2, 5, WIDTH)

    assert_same(run(layer, inputs, zeros(cell, 2)), expected)
    assert_same(read(layer, inputs, torch.zeros(2, 5, dtype=torch.bool))[0], expected)
    states = zeros(cell, 2)
    for t in range(5):
        states = advance(layer, project_inputs(layer, inputs[:, t]), states)
        assert_same(states[0], expected[:, t])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cell", CELLS)
def test_read_ends_in_each_sentences_own_last_state(cell: Cell, dtype: torch.dtype) -> None:
    layer = recurrent_layer(cell, EMBEDDING, WIDTH).to(dtype)
    inputs = torch.randn(3, 6, EMBEDDING, dtype=dtype)
    lengths = [6, 1, 4]
    padding = torch.arange(6) >= torch.tensor(lengths)[:, None]
    loud = torch.where(padding[..., None], 100.0, inputs).to(dtype)  # what lies at padding is loud
    outputs, states = read(layer, loud, padding)
    for row, length in enumerate(lengths):
        zero = torch.zeros(1, 1, WIDTH, dtype=dtype)
        start = (zero, zero) if cell == "lstm" else zero
        alone, last = layer(inputs[row : row + 1, :length], start)
        last = last if isinstance(last, tuple) else (last,)
        atol = 2e-2 if dtype == torch.bfloat16 else 1e-6
        torch.testing.assert_close(outputs[row, :length], alone[0], atol=atol, rtol=0)
        for actual, expected in zip(states, last, strict=True):
            torch.testing.assert_close(actual[row], expected[0, 0], atol=atol, rtol=0)


def test_lstm_forget_gates_start_open() -> None:
    _, _, bias, second = recurrent_layer("lstm", EMBEDDING, WIDTH).all_weights[0]
    assert torch.equal((bias + second)[WIDTH : 2 * WIDTH], torch.ones(WIDTH))


def score_by_hand(attention: Attention, score: Score, q: Tensor, h: Tensor) -> Tensor:
    match score:
        case "dot":
            return (q * h).sum()
        case "general":
            return q @ (attention.key.weight @ h)
        case "additive":
            energy = torch.tanh(attention.query.weight @ q + attention.key.weight @ h)
            return attention.energy.weight[0] @ energy
        case "concat":
            matrix = torch.cat([attention.query.weight, attention.key.weight], 1)
            return attention.energy.weight[0] @ torch.tanh(matrix @ torch.cat([q, h]))


@pytest.mark.parametrize("score", SCORES)
def test_attention_follows_its_paper(score: Score) -> None:
    attention = Attention(score, WIDTH).double()
    queries, states = torch.randn(2, 3, WIDTH).double(), torch.randn(2, 5, WIDTH).double()
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    contexts, weights = attention(queries, attention.keys(states), states, padding)
    assert torch.equal(weights[1, :, 3:], torch.zeros(3, 2).double())
    for b, length in enumerate((5, 3)):
        for n in range(3):
            q, source = queries[b, n], states[b, :length]
            exps = [score_by_hand(attention, score, q, h).exp() for h in source]
            expected = torch.stack([e / sum(exps) for e in exps])
            assert_same(weights[b, n, :length], expected)
            assert_same(contexts[b, n], sum(w * h for w, h in zip(expected, source, strict=True)))


def test_attention_softmax_is_float32_under_bfloat16() -> None:
    attention = Attention("dot", WIDTH)
    states = torch.randn(1, 300, WIDTH, dtype=torch.bfloat16)
    contexts, weights = attention(states, states, states, torch.zeros(1, 300, dtype=torch.bool))
    assert weights.dtype == torch.float32
    assert contexts.dtype == torch.bfloat16
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 300))


def test_reversal_turns_around_each_sentence_and_leaves_its_padding() -> None:
    rows = torch.tensor([[1.0, 2, 3, 4], [1, 2, 9, 9], [1, 9, 9, 9]]).unsqueeze(-1)
    order = reversal(torch.tensor([4, 2, 1]), 4)
    turned = torch.tensor([[4.0, 3, 2, 1], [2, 1, 9, 9], [1, 9, 9, 9]]).unsqueeze(-1)
    assert torch.equal(take(rows, order), turned)
    assert torch.equal(take(turned, order), rows)


def section(**changes: object) -> RecurrentSection:
    small = {"kind": "recurrent", "width": WIDTH, "embedding": EMBEDDING, "dropout": 0.0}
    return RecurrentSection.model_validate(small | changes)


def model(**changes: object) -> Recurrent:
    torch.manual_seed(1)
    return Recurrent(section(**changes), 11, 13).double()


SOURCE = torch.tensor([[4, 5, 6, EOS], [7, 8, EOS, PAD]])
REVERSED = torch.tensor([[6, 5, 4, EOS], [8, 7, EOS, PAD]])
INPUTS = torch.tensor([[BOS, 5, 9, 4], [BOS, 12, 6, 7]])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_reverse_source_reads_the_words_backwards_and_eos_last(bidirectional: bool) -> None:
    backward = model(reverse_source=True, bidirectional=bidirectional)
    onward = model(bidirectional=bidirectional)
    assert_same(backward(SOURCE, INPUTS), onward(REVERSED, INPUTS))
    # The memory lies in the order of the source: word 0 was read third.
    actual, expected = backward.encode(SOURCE), onward.encode(REVERSED)
    assert torch.equal(actual.padding, SOURCE == PAD)
    assert_same(actual.values[0][:, [2, 1, 0, 3]][:1], expected.values[0][:1])
    assert_same(actual.values[0][:, [1, 0, 2]][1:], expected.values[0][1:, :3])


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_encoder_is_torchs_own_stack(cell: Cell, bidirectional: bool) -> None:
    torch_class = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell]
    ours = model(cell=cell, bidirectional=bidirectional, memory="dot")
    half = WIDTH // 2 if bidirectional else WIDTH
    stack = torch_class(EMBEDDING, half, 2, batch_first=True, bidirectional=bidirectional).double()
    directions = [ours.encoder.onward, ours.encoder.turned][: 1 + bidirectional]
    mine = [
        weight for both in zip(*directions, strict=True) for d in both for weight in d.parameters()
    ]
    with torch.no_grad():
        for theirs, weight in zip(stack.parameters(), mine, strict=True):
            theirs.copy_(weight)
    outputs, last = stack(ours.source_embedding(SOURCE[:1]))
    last = last if isinstance(last, tuple) else (last,)
    memory = ours.encode(SOURCE[:1])
    assert_same(memory.values[0], outputs)
    for actual, expected in zip(memory.initial, last, strict=True):
        layers = expected[:, 0].reshape(2, WIDTH)  # the two directions of a layer side by side
        assert_same(actual[0], layers)


@pytest.mark.parametrize("cell", CELLS)
def test_context_decoder_starts_from_the_encoders_last_states(cell: Cell) -> None:
    m = model(cell=cell, memory="context", tied_embeddings=False)
    memory = m.encode(SOURCE)
    assert_same(memory.values[0], memory.initial[0][:, -1:])
    for b in range(2):
        states = [tuple(s[b, layer] for s in memory.initial) for layer in range(2)]
        for t, token in enumerate(INPUTS[b]):
            below = m.target_embedding.weight[token]
            for index, layer in enumerate(layers_of(m.layers)):
                weights = list(layer.all_weights[0])
                states[index] = EQUATIONS[cell](weights, below, states[index])
                below = states[index][0]
            assert_same(m(SOURCE, INPUTS)[b, t], m.output.weight @ below + m.output.bias)


@pytest.mark.parametrize("feeding", [False, True])
def test_attentional_decoder_follows_luong(feeding: bool) -> None:
    m = model(memory="general", input_feeding=feeding, decoder_layers=1, encoder_layers=1)
    memory = m.encode(SOURCE)
    weights = list[Tensor](layers_of(m.layers)[0].all_weights[0])
    if feeding:  # the input is [embedding; h~]
        weights[0] = torch.cat([weights[0], m.feed.weight], 1)
    alignment = m.alignment(INPUTS, memory)
    assert m.attention is not None
    assert isinstance(m.narrow, torch.nn.Linear)
    for b, length in enumerate((4, 3)):
        source = memory.values[0][b, :length]
        states = tuple(s[b, 0] for s in memory.initial)
        attentional = torch.zeros(WIDTH).double()
        for t, token in enumerate(INPUTS[b]):
            x = m.target_embedding.weight[token]
            x = torch.cat([x, attentional]) if feeding else x
            states = lstm_equations(weights, x, states)
            scores = torch.stack([states[0] @ m.attention.key.weight @ h for h in source])
            a = scores.exp() / scores.exp().sum()
            c = (a[:, None] * source).sum(0)
            attentional = torch.tanh(m.combine.weight @ torch.cat([c, states[0]]))
            logits = m.target_embedding.weight @ (m.narrow.weight @ attentional) + m.output_bias
            assert_same(m(SOURCE, INPUTS)[b, t], logits)
            assert_same(alignment[b, t, :length], a)


def test_bridge_maps_all_encoder_layers_to_all_decoder_layers() -> None:
    m = model(encoder_layers=1, decoder_layers=2)
    _, last = m.encoder(m.source_embedding(SOURCE), SOURCE == PAD)
    for bridge, states, initial in zip(m.bridges, last, m.encode(SOURCE).initial, strict=True):
        assert_same(initial.flatten(1), states.flatten(1) @ bridge.weight.T + bridge.bias)
    assert not model().bridges


VARIANTS: tuple[dict[str, object], ...] = (
    {"memory": "context", "encoder_layers": 1},
    {"memory": "context", "cell": "gru", "tied_embeddings": False},
    {"memory": "additive", "cell": "rnn"},
    {"memory": "general", "input_feeding": True},
    {"memory": "concat", "input_feeding": True, "bidirectional": False},
    {"memory": "dot", "embedding": WIDTH},
)


@pytest.mark.parametrize("changes", VARIANTS)
def test_gradients_reach_every_parameter(changes: dict[str, object]) -> None:
    m = model(**changes)
    m(SOURCE, INPUTS).log_softmax(-1)[..., EOS].sum().backward()
    for name, weight in m.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name


@pytest.mark.parametrize("changes", VARIANTS)
def test_dropout_acts_in_training_only(changes: dict[str, object]) -> None:
    m, plain = model(**changes | {"dropout": 0.5}), model(**changes)
    assert not torch.equal(m(SOURCE, INPUTS), m(SOURCE, INPUTS))
    assert_same(m.eval()(SOURCE, INPUTS), plain(SOURCE, INPUTS))


@pytest.mark.parametrize("feeding", [False, True])
def test_dropout_falls_on_embeddings_between_layers_and_on_the_output(feeding: bool) -> None:
    m = model(dropout=0.5, input_feeding=feeding, encoder_layers=3, decoder_layers=2)
    seen: list[tuple[int, ...]] = []
    for dropout in (m.embedding_dropout, m.dropout, m.encoder.dropout):
        dropout.register_forward_hook(lambda _, values, __: seen.append(tuple(values[0].shape)))
    m(SOURCE, INPUTS)
    source, between_encoder_layers = (2, 4, EMBEDDING), [(2, 4, WIDTH)] * 2
    target, output = (2, 4, EMBEDDING), (2, 4, WIDTH)
    between_decoder_layers = [(2, 1, WIDTH)] * 4 if feeding else [(2, 4, WIDTH)]
    assert seen == [
        source,
        *between_encoder_layers,
        target,
        *between_decoder_layers,
        output,
    ]


def test_tied_embeddings_share_one_matrix() -> None:
    names = dict(model().named_parameters())
    assert sorted(tuple(w.shape) for w in names.values() if 13 in w.shape) == [
        (13,),
        (13, EMBEDDING),
    ]
    untied = dict(model(tied_embeddings=False).named_parameters())
    assert sorted(tuple(w.shape) for w in untied.values() if 13 in w.shape) == [
        (13,),
        (13, EMBEDDING),
        (13, WIDTH),
    ]
    assert isinstance(model(embedding=WIDTH).narrow, torch.nn.Identity)


def test_sutskevers_model_has_his_64_million_recurrent_weights() -> None:
    changes = {"memory": "context", "cell": "lstm", "width": 1000, "embedding": 1000}
    with torch.device("meta"):
        m = Recurrent(
            section(**changes, encoder_layers=4, decoder_layers=4, bidirectional=False), 8, 8
        )
    stacks = [*m.encoder.onward, *m.layers]
    assert sum(w.numel() for layer in stacks for w in layer.parameters() if w.dim() == 2) == 64e6


def test_the_memory_of_a_context_vector_has_length_one() -> None:
    m = model(memory="context")
    memory = m.encode(SOURCE)
    assert memory.padding.tolist() == [[False], [False]]
    assert memory.keys[0].shape == (2, 1, WIDTH)
    assert torch.equal(m.alignment(INPUTS, memory), torch.ones(2, 4, 1).double())


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("feeding", [False, True])
def test_model_learns_under_bfloat16_autocast(cell: Cell, feeding: bool) -> None:
    m = model(cell=cell, input_feeding=feeding).float()
    expected = m(SOURCE, INPUTS)
    with torch.autocast("cpu", torch.bfloat16):
        logits = m(SOURCE, INPUTS)
    torch.testing.assert_close(logits.float(), expected, atol=5e-2, rtol=0)
    logits.float().log_softmax(-1)[..., EOS].sum().backward()
    assert all(weight.grad is not None for weight in m.parameters())


def test_an_odd_width_cannot_be_halved() -> None:
    with pytest.raises(RecipeError, match=r"model\.width = 5 is odd") as caught:
        model(width=5)
    assert caught.value.hint == "--set model.width=6, or --set model.bidirectional=false"
    assert model(width=5, bidirectional=False)(SOURCE, INPUTS).shape == (2, 4, 13)


def test_a_context_vector_leaves_nothing_to_feed() -> None:
    with pytest.raises(RecipeError, match=r"model\.input_feeding = true has nothing to feed"):
        model(memory="context", input_feeding=True)
