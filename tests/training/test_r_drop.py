"""The loss of R-Drop and its gradients, against the formula and torch's own differentiation."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mtkit.data.batches import Batch
from mtkit.models.build import build
from mtkit.recipe import TransformerSection
from mtkit.training import loss as module
from mtkit.training.loss import Aims, Objective, linear_loss, twice

WIDTH, WORDS = 6, 37


def by_formula(logits: Tensor, labels: Tensor, smoothing: float, alpha: float) -> Tensor:
    """Liang et al. 2021, eq. 4, halved, with torch's own losses; rows 2n and 2n + 1 are a pair."""
    entropies = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="sum")
    p, q = logits[::2].log_softmax(-1), logits[1::2].log_softmax(-1)
    apart = F.kl_div(q, p, reduction="sum", log_target=True)
    apart = apart + F.kl_div(p, q, reduction="sum", log_target=True)
    return (entropies + alpha / 2 * apart) / 2


def layer(pairs: int) -> tuple[list[Tensor], Tensor]:
    """features [2 pairs, WIDTH], matrix and bias with gradients; labels, equal in a pair."""
    generator = torch.Generator().manual_seed(pairs)
    shapes = (2 * pairs, WIDTH), (WORDS, WIDTH), (WORDS,)
    leaves = [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in shapes
    ]
    return leaves, torch.randint(WORDS, (pairs,), generator=generator).repeat_interleave(2)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("alpha", [1e-9, 5.0])
@pytest.mark.parametrize(("pairs", "at_a_time"), [(1, 1 << 20), (7, 4 * WORDS), (300, 1 << 10)])
def test_r_drop_loss_and_its_gradients_equal_the_formula(
    monkeypatch: pytest.MonkeyPatch, pairs: int, at_a_time: int, alpha: float, smoothing: float
) -> None:
    monkeypatch.setitem(module._AT_A_TIME, "cpu", at_a_time)
    leaves, labels = layer(pairs)
    others = [leaf.detach().clone().requires_grad_() for leaf in leaves]

    loss, plain = linear_loss(leaves[0], (leaves[1], leaves[2]), Aims(labels, smoothing, alpha))
    (3 * loss).backward()
    logits = F.linear(*others)
    expected = by_formula(logits, labels, smoothing, alpha)
    (3 * expected).backward()

    torch.testing.assert_close(loss, expected, rtol=1e-11, atol=1e-11)
    entropy = F.cross_entropy(logits, labels, reduction="sum") / 2
    torch.testing.assert_close(plain, entropy, rtol=1e-11, atol=1e-11)
    for leaf, other in zip(leaves, others, strict=True):
        torch.testing.assert_close(leaf.grad, other.grad, rtol=1e-10, atol=1e-10)


def test_r_drop_of_two_equal_passes_is_the_smoothed_loss() -> None:
    (features, matrix, bias), labels = layer(9)
    once, twice_over = features[::2], features[::2].repeat_interleave(2, 0)
    torch.testing.assert_close(
        linear_loss(twice_over, (matrix, bias), Aims(labels, 0.1, 5.0)),
        linear_loss(once, (matrix, bias), Aims(labels[::2], 0.1)),
        rtol=1e-12,
        atol=0,
    )


def test_r_drop_of_no_rows_has_a_gradient_of_zero() -> None:
    (features, matrix, bias), labels = layer(0)
    linear_loss(features, (matrix, bias), Aims(labels, 0.1, 5.0))[0].backward()
    assert matrix.grad is not None
    assert matrix.grad.abs().sum() == 0


def test_batch_twice_is_two_passes_with_their_own_dropout() -> None:
    section = TransformerSection(
        kind="transformer", width=16, heads=2, feed_forward=32, dropout=0.5
    )
    torch.manual_seed(1)
    model = build(section, 20, 20).double()
    source = torch.tensor([[5, 6, 3], [7, 3, 0]])
    inputs = torch.tensor([[2, 8, 9], [2, 4, 3]])
    batch = Batch(source, inputs, torch.tensor([0, 1, 2, 3, 4]), torch.tensor([8, 9, 3, 4, 3]))
    seen = twice(batch)

    def passes() -> tuple[Tensor, Tensor]:
        logits = model(seen.source, seen.inputs).flatten(0, 1)[seen.rows]
        return logits[::2], logits[1::2]

    assert not torch.allclose(*passes())
    model.eval()
    first, second = passes()
    torch.testing.assert_close(first, second)
    once = model(batch.source, batch.inputs).flatten(0, 1)[batch.rows]
    torch.testing.assert_close(first, once)
    assert torch.equal(seen.labels[::2], batch.labels)
    assert torch.equal(seen.labels[1::2], batch.labels)


def test_objective_with_r_drop_is_the_smoothed_loss_where_nothing_is_dropped() -> None:
    section = TransformerSection(kind="transformer", width=16, heads=2, feed_forward=32)
    torch.manual_seed(1)
    model = build(section, 20, 20).double().eval()
    rows, labels = torch.tensor([0, 1, 2]), torch.tensor([8, 9, 3])
    batch = Batch(torch.tensor([[5, 6, 3]]), torch.tensor([[2, 8, 9]]), rows, labels)
    torch.testing.assert_close(
        Objective(model, 0.1, r_drop=5.0)(batch), Objective(model, 0.1)(batch)
    )
