"""The loss and its gradients against torch's own cross-entropy."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mtkit.training import loss as module
from mtkit.training.loss import Aims, linear_loss

WIDTH, WORDS = 6, 37


def layer(rows: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """features [rows, WIDTH], matrix [WORDS, WIDTH] and bias [WORDS] with gradients; labels."""
    generator = torch.Generator().manual_seed(rows)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()

    labels = torch.randint(WORDS, (rows,), generator=generator)
    return leaf(rows, WIDTH), leaf(WORDS, WIDTH), leaf(WORDS), labels


def assert_same(found: Tensor | None, expected: Tensor | None) -> None:
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("at_a_time", [1, 9 * WORDS, 1 << 20])
def test_linear_loss_equals_torch_cross_entropy(
    monkeypatch: pytest.MonkeyPatch, at_a_time: int, smoothing: float, biased: bool
) -> None:
    monkeypatch.setitem(module._AT_A_TIME, "cpu", at_a_time)
    features, matrix, bias, labels = layer(100)
    leaves = (features, matrix, bias) if biased else (features, matrix)
    others = [leaf.detach().clone().requires_grad_() for leaf in leaves]

    loss, plain = linear_loss(features, (matrix, bias if biased else None), Aims(labels, smoothing))
    (3 * loss).backward()
    logits = F.linear(*others)
    expected = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="sum")
    (3 * expected).backward()

    assert_same(loss, expected)
    assert_same(plain, F.cross_entropy(logits, labels, reduction="sum"))
    assert not plain.requires_grad
    for leaf, other in zip(leaves, others, strict=True):
        assert_same(leaf.grad, other.grad)


def test_linear_loss_holds_for_logits_of_any_size() -> None:
    matrix = torch.tensor([[1e4], [-1e4], [0.0]], dtype=torch.float64, requires_grad=True)
    features = torch.ones(3, 1, dtype=torch.float64, requires_grad=True)
    loss, plain = linear_loss(features, (matrix, None), Aims(torch.tensor([0, 1, 2])))
    loss.backward()
    assert plain.item() == pytest.approx(3e4)
    assert torch.isfinite(features.grad).all() if features.grad is not None else False


def test_linear_loss_under_autocast_is_summed_in_float32() -> None:
    features, matrix, bias, labels = layer(4096, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        loss, plain = linear_loss(features, (matrix, bias), Aims(labels, 0.1))
    loss.backward()
    exact = F.cross_entropy(F.linear(features, matrix, bias), labels, reduction="sum")
    assert loss.dtype == plain.dtype == torch.float32
    assert plain.item() == pytest.approx(exact.item(), rel=1e-3)
    exact_gradient = torch.autograd.grad(
        F.cross_entropy(
            F.linear(features, matrix, bias), labels, reduction="sum", label_smoothing=0.1
        ),
        (features, matrix, bias),
    )
    for leaf, expected in zip((features, matrix, bias), exact_gradient, strict=True):
        assert leaf.grad is not None
        assert leaf.grad.dtype == torch.float32
        assert (leaf.grad - expected).norm() < 0.02 * expected.norm()


def test_linear_loss_of_no_rows_has_a_gradient_of_zero() -> None:
    features, matrix, bias, labels = layer(0)
    loss, plain = linear_loss(features, (matrix, bias), Aims(labels, 0.1))
    loss.backward()
    assert loss.item() == plain.item() == 0
    assert matrix.grad is not None
    assert matrix.grad.abs().sum() == 0


def test_linear_loss_without_gradients_makes_none() -> None:
    features, matrix, bias, labels = layer(7)
    with torch.inference_mode():
        loss, plain = linear_loss(features, (matrix, bias), Aims(labels, 0.0))
    assert_same(loss, plain)
    assert_same(loss, F.cross_entropy(F.linear(features, matrix, bias), labels, reduction="sum"))
