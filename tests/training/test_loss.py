"""The loss and its gradients against torch's own cross-entropy."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mtkit.data.batches import Lesson
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


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("teaching", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("r_drop", [0.0, 2.0])
@pytest.mark.parametrize("at_a_time", [8 * WORDS, 1 << 20])
def test_a_lesson_takes_its_share_of_the_label(
    monkeypatch: pytest.MonkeyPatch,
    at_a_time: int,
    r_drop: float,
    teaching: float,
    smoothing: float,
) -> None:
    monkeypatch.setitem(module._AT_A_TIME, "cpu", at_a_time)
    features, matrix, bias, labels = layer(100)
    generator = torch.Generator().manual_seed(1)
    expected_words = torch.rand(100, WORDS, generator=generator, dtype=torch.float64)
    shares, words = (8 * expected_words).softmax(-1).topk(5)
    shares = shares / shares.sum(1, keepdim=True)
    if r_drop:  # the two rows of a position have one label and one lesson
        labels, words, shares = (
            part[::2].repeat_interleave(2, 0) for part in (labels, words, shares)
        )
    leaves = (features, matrix, bias)
    others = [leaf.detach().clone().requires_grad_() for leaf in leaves]

    aims = Aims(labels, smoothing, r_drop, Lesson(words, shares), teaching)
    loss, plain = linear_loss(features, (matrix, bias), aims)
    (3 * loss).backward()

    logits = F.linear(*others)
    wanted = F.one_hot(labels, WORDS).double() * (1 - teaching)
    wanted = wanted.scatter_add(1, words, teaching * shares)
    wanted = (1 - smoothing) * wanted + smoothing / WORDS
    expected = F.cross_entropy(logits, wanted, reduction="sum") * aims.weight
    if r_drop:
        one, other = logits[::2].log_softmax(-1), logits[1::2].log_softmax(-1)
        apart = (one.exp() - other.exp()) * (one - other)  # KL(p|q) + KL(q|p)
        expected = expected + r_drop / 4 * apart.sum()
    (3 * expected).backward()

    assert_same(loss, expected)
    assert_same(plain, F.cross_entropy(logits, labels, reduction="sum") * aims.weight)
    for leaf, reference in zip(leaves, others, strict=True):
        assert_same(leaf.grad, reference.grad)


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
