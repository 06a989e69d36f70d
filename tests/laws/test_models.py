"""What every kind of model obeys, in float64: these laws are what the interface promises."""

import pytest
import torch
import torch.nn.functional as F
from kinds import KINDS, SOURCE_SIZE, TARGET_SIZE, tiny_model
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mtkit.data.batches import assemble
from mtkit.models.seq2seq import Seq2Seq, reorder
from mtkit.symbols import BOS, EOS, PAD
from mtkit.training.loss import Objective

FIRST = EOS + 1  # of the tokens that are no symbols

every_kind = pytest.mark.parametrize("kind", KINDS)


def assert_same(actual: Tensor | None, expected: Tensor | None) -> None:
    assert actual is not None
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-10)


def sentences(seed: int, lengths: list[int], size: int) -> list[Tensor]:
    """Random sentences that end in EOS and are so long, EOS included."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.cat(
            [torch.randint(FIRST, size, (length - 1,), generator=generator), torch.tensor([EOS])]
        )
        for length in lengths
    ]


def batch(rows: list[Tensor], extra: int = 0) -> Tensor:
    """Rows of unequal length with PAD behind them, and `extra` further columns of it."""
    padded = pad_sequence(rows, batch_first=True, padding_value=PAD)
    return torch.nn.functional.pad(padded, (0, extra), value=PAD)


def inputs_of(targets: list[Tensor]) -> list[Tensor]:
    return [torch.cat([torch.tensor([BOS]), target[:-1]]) for target in targets]


def random_tokens(*shape: int) -> Tensor:
    return torch.randint(FIRST, TARGET_SIZE, shape, generator=torch.Generator().manual_seed(5))


def example(lengths: tuple[int, ...] = (5, 1, 7, 3)) -> tuple[list[Tensor], list[Tensor]]:
    """Sources of these lengths and decoder inputs of others."""
    sources = sentences(1, list(lengths), SOURCE_SIZE)
    return sources, inputs_of(sentences(2, [4, 6, 2, 5][: len(lengths)], TARGET_SIZE))


@every_kind
def test_models_stepping_equals_teacher_forcing(kind: str) -> None:
    model = tiny_model(kind)
    sources, _ = example()
    inputs = random_tokens(4, 6)
    memory = model.encode(batch(sources))
    state = model.start(memory, 1, 6)
    for t in range(6):
        logits = model.step(inputs[:, t : t + 1], memory, state)
        assert_same(logits, model.decode(inputs, memory)[:, t : t + 1])


@every_kind
@pytest.mark.parametrize("seed", range(3))
def test_models_stepping_through_follow_and_select_equals_teacher_forcing(
    kind: str, seed: int
) -> None:
    model, beam, steps = tiny_model(kind, seed), 3, 7
    torch.manual_seed(seed)
    sources, _ = example()
    memory = model.encode(batch(sources))
    state = model.start(memory, beam, steps)
    past = torch.empty(4, beam, 0, dtype=torch.int64)  # what each hypothesis has read
    for t in range(steps):
        tokens = torch.randint(BOS, TARGET_SIZE, (memory.padding.size(0), beam))
        past = torch.cat([past, tokens.unsqueeze(-1)], -1)
        logits = model.step(tokens, memory, state)
        for k in range(beam):
            assert_same(logits[:, k], model.decode(past[:, k], memory)[:, -1])
        if t in (1, 3):
            chosen = torch.randperm(memory.padding.size(0))[:-1]
            state.select(chosen)
            memory, past = memory.select(chosen), past[chosen]
        if t != 2:
            parents = torch.randint(beam, (memory.padding.size(0), beam))
            state.follow(parents)
            past = reorder(past, parents)


@every_kind
def test_models_start_gives_every_sentence_its_own_state(kind: str) -> None:
    # A state that aliases the memory, or another hypothesis, shows when two searches share one.
    model = tiny_model(kind)
    memory = model.encode(batch(example()[0]))
    tokens = torch.full((4, 2), BOS)
    first, second = model.start(memory, 2, 3), model.start(memory, 2, 3)
    before = model.step(tokens, memory, first)
    model.step(tokens + 2, memory, first)
    assert_same(model.step(tokens, memory, second), before)


def logits_and_gradients(
    model: Seq2Seq, source: Tensor, inputs: list[Tensor], extra: int = 0
) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits at the positions that count [N, V], and the gradients of a loss of these alone."""
    padded = batch(inputs, extra)
    model.zero_grad()
    logits = model(source, padded)[padded != PAD]
    label = torch.linspace(0, 1, TARGET_SIZE).double().softmax(-1)
    loss = -(logits.log_softmax(-1) @ label).sum()
    loss.backward()
    gradients = {
        name: weight.grad.clone()
        for name, weight in model.named_parameters()
        if weight.grad is not None
    }
    return logits.detach(), gradients


@every_kind
def test_models_padding_is_invisible(kind: str) -> None:
    model = tiny_model(kind)
    sources, inputs = example()
    logits, gradients = logits_and_gradients(model, batch(sources), inputs)
    wide_logits, wide_gradients = logits_and_gradients(model, batch(sources, 3), inputs, 2)
    assert_same(wide_logits, logits)
    assert wide_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert_same(wide_gradients[name], gradient)


@every_kind
def test_models_a_longer_neighbour_is_invisible(kind: str) -> None:
    model = tiny_model(kind)
    sources, inputs = example()
    more_sources = [*sources, *sentences(3, [12], SOURCE_SIZE)]
    more_inputs = [*inputs, *inputs_of(sentences(4, [9], TARGET_SIZE))]
    alone = model(batch(sources), batch(inputs))
    together = model(batch(more_sources), batch(more_inputs))
    for row, tokens in enumerate(inputs):
        assert_same(together[row, : len(tokens)], alone[row, : len(tokens)])


@every_kind
def test_models_a_batch_is_its_sentences_one_by_one(kind: str) -> None:
    model = tiny_model(kind)
    sources, inputs = example()
    logits, gradients = logits_and_gradients(model, batch(sources), inputs)
    total = {name: torch.zeros_like(gradient) for name, gradient in gradients.items()}
    alone = []
    for source, tokens in zip(sources, inputs, strict=True):
        one, more = logits_and_gradients(model, source.unsqueeze(0), [tokens])
        alone.append(one)
        for name, gradient in more.items():
            total[name] += gradient
    assert_same(torch.cat(alone), logits)
    for name, gradient in gradients.items():
        assert_same(total[name], gradient)


@every_kind
def test_models_stepping_in_a_batch_is_stepping_one_by_one(kind: str) -> None:
    model = tiny_model(kind)
    sources, _ = example()
    tokens = random_tokens(3, 4, 2)
    memory = model.encode(batch(sources))
    state = model.start(memory, 2, 3)
    together = [model.step(step, memory, state) for step in tokens]
    for row, source in enumerate(sources):
        memory = model.encode(source.unsqueeze(0))
        state = model.start(memory, 2, 3)
        for step, expected in zip(tokens, together, strict=True):
            assert_same(model.step(step[row : row + 1], memory, state), expected[row : row + 1])


@every_kind
def test_models_see_no_later_target(kind: str) -> None:
    model = tiny_model(kind)
    memory = model.encode(batch(example()[0]))
    inputs = random_tokens(4, 6)
    before = model.decode(inputs, memory)
    for t in range(1, 6):
        changed = inputs.clone()
        changed[:, t:] = (inputs[:, t:] - FIRST + 1) % (TARGET_SIZE - FIRST) + FIRST
        after = model.decode(changed, memory)
        assert_same(after[:, :t], before[:, :t])
        assert not torch.allclose(after[:, t], before[:, t]), "the changed input itself is seen"


@every_kind
def test_models_see_every_source_token(kind: str) -> None:
    model = tiny_model(kind)
    (source, *_), (inputs, *_) = example()
    before = model(source[None], inputs[None])
    for s in range(len(source) - 1):
        changed = source.clone()
        changed[s] = FIRST if source[s] != FIRST else FIRST + 1
        assert not torch.allclose(model(changed[None], inputs[None]), before)


@every_kind
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_models_loss_and_gradient_are_those_of_their_logits(kind: str, smoothing: float) -> None:
    sources, targets = example()
    given = assemble(batch(sources).numpy(), batch(targets).numpy())
    model, other = tiny_model(kind), tiny_model(kind)
    loss, plain = Objective(model, smoothing)(given)
    loss.backward()
    logits = other(given.source, given.inputs).flatten(0, 1)[given.rows]
    expected = F.cross_entropy(logits, given.labels, reduction="sum", label_smoothing=smoothing)
    expected.backward()
    assert_same(loss, expected)
    assert_same(plain, F.cross_entropy(logits, given.labels, reduction="sum"))
    for mine, its in zip(model.parameters(), other.parameters(), strict=True):
        assert_same(mine.grad, its.grad)


@every_kind
def test_models_are_the_same_model_in_float32(kind: str) -> None:
    # float32 takes other kernels on some processors, above all an LSTM's.
    model = tiny_model(kind)
    sources, inputs = example()
    expected = model(batch(sources), batch(inputs))
    actual = model.float()(batch(sources), batch(inputs))
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual.double(), expected, atol=1e-4, rtol=1e-4)


@every_kind
def test_models_are_drawn_from_the_seed(kind: str) -> None:
    source, inputs = batch(example()[0]), batch(example()[1])
    assert torch.equal(tiny_model(kind, 3)(source, inputs), tiny_model(kind, 3)(source, inputs))
    assert not torch.equal(tiny_model(kind, 3)(source, inputs), tiny_model(kind)(source, inputs))
