"""The loss of R-Drop and its gradient, against the formula and torch's own differentiation."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mtkit.data.batches import Batch
from mtkit.models.build import build
from mtkit.recipe import TransformerSection
from mtkit.training import r_drop as module
from mtkit.training.loss import smoothed_loss
from mtkit.training.r_drop import r_drop_loss, twice


def by_formula(logits: Tensor, labels: Tensor, smoothing: float, alpha: float) -> Tensor:
    """Liang et al. 2021, eq. 4, halved, with torch's own losses."""
    p, q = logits.chunk(2)
    entropies = sum(
        F.cross_entropy(half, labels, label_smoothing=smoothing, reduction="sum") for half in (p, q)
    )
    p, q = p.log_softmax(-1), q.log_softmax(-1)
    apart = F.kl_div(q, p, reduction="sum", log_target=True)
    apart = apart + F.kl_div(p, q, reduction="sum", log_target=True)
    return (entropies + alpha / 2 * apart) / 2


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("alpha", [0.0, 5.0])
@pytest.mark.parametrize("rows", [1, 7, 300])
def test_r_drop_loss_and_its_gradient_equal_the_formula(
    rows: int, alpha: float, smoothing: float
) -> None:
    generator = torch.Generator().manual_seed(rows)
    logits = torch.randn(2 * rows, 37, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(37, (rows,), generator=generator)
    other = logits.detach().clone().requires_grad_()

    loss = r_drop_loss(logits, labels, smoothing, alpha)
    (3 * loss).backward()
    expected = by_formula(other, labels, smoothing, alpha)
    (3 * expected).backward()

    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(logits.grad, other.grad, rtol=1e-12, atol=1e-12)


def test_r_drop_gradient_equals_finite_differences() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = 3 * torch.randn(6, 5, generator=generator, dtype=torch.float64)
    labels = torch.tensor([4, 0, 2])
    assert torch.autograd.gradcheck(
        lambda given: r_drop_loss(given, labels, 0.1, 4.0), logits.requires_grad_()
    )


def test_r_drop_of_two_equal_passes_is_the_smoothed_loss() -> None:
    logits = torch.randn(9, 11, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    labels = torch.arange(9)
    torch.testing.assert_close(
        r_drop_loss(logits.repeat(2, 1), labels, 0.1, 5.0),
        smoothed_loss(logits, labels, 0.1)[0],
        rtol=1e-13,
        atol=0,
    )


def test_r_drop_is_the_same_in_one_chunk_or_many(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(200, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = torch.arange(100) % 11
    whole = r_drop_loss(logits, labels, 0.1, 5.0)
    monkeypatch.setattr(module, "CHUNK", 14)
    torch.testing.assert_close(r_drop_loss(logits, labels, 0.1, 5.0), whole, rtol=1e-13, atol=0)


def test_r_drop_of_no_rows_has_a_gradient_of_zero() -> None:
    features = torch.randn(0, 5, requires_grad=True)
    matrix = torch.randn(5, 9, requires_grad=True)
    r_drop_loss(features @ matrix, torch.empty(0, dtype=torch.int64), 0.1, 5.0).backward()
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
    first, second = model(seen.source, seen.inputs, seen.rows).chunk(2)
    assert not torch.allclose(first, second)
    model.eval()
    first, second = model(seen.source, seen.inputs, seen.rows).chunk(2)
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(first, model(batch.source, batch.inputs, batch.rows))
    assert torch.equal(seen.labels, batch.labels.repeat(2))
