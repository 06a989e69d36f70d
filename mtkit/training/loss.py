"""Label-smoothed cross-entropy, summed over the rows of a batch."""

import torch
from torch import Tensor

# Rows whose logits are worked on at a time: they stay in the processor's cache.
CHUNK = 256


def smoothed_loss(logits: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """The loss that is trained on and the plain cross-entropy, both summed over rows (float32).

    logits [N, V], labels [N]. A share `smoothing` of the target's mass is spread evenly over all V
    words (Szegedy et al. 2016; Vaswani et al. 2017, 5.4). Only the first value has a gradient.
    """
    loss, plain = _SmoothedLoss.apply(logits, labels, smoothing)  # type: ignore[no-untyped-call]
    return loss, plain


class _SmoothedLoss(torch.autograd.Function):
    """The gradient is made while the logits are at hand: softmax minus the smoothed target.

    Log-probabilities are never in memory at once, and backward is one multiplication.
    """

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        context, logits: Tensor, labels: Tensor, smoothing: float
    ) -> tuple[Tensor, Tensor]:
        exact = torch.promote_types(logits.dtype, torch.float32)
        size = logits.size(-1)
        loss = logits.new_zeros((), dtype=exact)
        plain = logits.new_zeros((), dtype=exact)
        needed = context.needs_input_grad[0]
        gradient = torch.empty_like(logits) if needed else logits
        for start in range(0, logits.size(0), CHUNK):
            here = slice(start, start + CHUNK)
            log_p = logits[here].to(exact).log_softmax(-1)  # [n, V]
            of_label = log_p.gather(1, labels[here, None])  # [n, 1]
            plain -= of_label.sum()
            loss -= (1 - smoothing) * of_label.sum()
            if smoothing:
                loss -= smoothing / size * log_p.sum()
            if needed:
                p = log_p.exp_()
                if smoothing:
                    p.sub_(smoothing / size)
                p.scatter_add_(1, labels[here, None], torch.full_like(of_label, smoothing - 1))
                gradient[here] = p
        context.save_for_backward(gradient if needed else None)
        context.mark_non_differentiable(plain)
        return loss, plain

    @staticmethod
    def backward(context, scale: Tensor, _: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[no-untyped-def]
        (gradient,) = context.saved_tensors
        return gradient * scale.to(gradient.dtype), None, None
