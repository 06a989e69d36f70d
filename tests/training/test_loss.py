"""The loss and its gradient against torch's own cross-entropy."""

import pytest
import torch
import torch.nn.functional as F

from mtkit.training import loss as module
from mtkit.training.loss import smoothed_loss


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("rows", [1, 7, 600])
def test_smoothed_loss_equals_torch_cross_entropy(smoothing: float, rows: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    logits = torch.randn(rows, 37, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(37, (rows,), generator=generator)
    other = logits.detach().clone().requires_grad_()

    loss, plain = smoothed_loss(logits, labels, smoothing)
    (3 * loss).backward()
    expected = F.cross_entropy(other, labels, label_smoothing=smoothing, reduction="sum")
    (3 * expected).backward()

    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(logits.grad, other.grad, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        plain, F.cross_entropy(other, labels, reduction="sum"), rtol=1e-12, atol=1e-12
    )
    assert not plain.requires_grad


def test_smoothed_loss_is_the_same_in_one_chunk_or_many(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(100, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = torch.arange(100) % 11
    whole = smoothed_loss(logits, labels, 0.1)[0]
    monkeypatch.setattr(module, "CHUNK", 9)
    torch.testing.assert_close(smoothed_loss(logits, labels, 0.1)[0], whole, rtol=1e-13, atol=0)


def test_smoothed_loss_in_bfloat16_is_summed_in_float32() -> None:
    logits = torch.zeros(4096, 64, dtype=torch.bfloat16)
    loss, _ = smoothed_loss(logits, torch.zeros(4096, dtype=torch.int64), 0.0)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(4096 * 4.1588831, rel=1e-4)


def test_smoothed_loss_of_no_rows_has_a_gradient_of_zero() -> None:
    features = torch.randn(0, 5, requires_grad=True)
    matrix = torch.randn(5, 9, requires_grad=True)
    loss, _ = smoothed_loss(features @ matrix, torch.empty(0, dtype=torch.int64), 0.1)
    loss.backward()
    assert loss.item() == 0
    assert matrix.grad is not None
    assert matrix.grad.abs().sum() == 0
