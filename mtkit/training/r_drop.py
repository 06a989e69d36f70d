"""R-Drop (Liang et al. 2021): two passes over a batch, each with its own dropout, must agree."""

import torch
from torch import Tensor

from mtkit.data.batches import Batch
from mtkit.training.loss import CHUNK


def twice(batch: Batch) -> Batch:
    """The batch below itself: one pass over it is two passes, since dropout falls anew on each."""
    positions = batch.inputs.numel()
    return Batch(
        batch.source.repeat(2, 1),
        batch.inputs.repeat(2, 1),
        torch.cat([batch.rows, batch.rows + positions]),
        batch.labels.repeat(2),
    )


def r_drop_loss(logits: Tensor, labels: Tensor, smoothing: float, alpha: float) -> Tensor:
    """Half of the paper's loss (eq. 4), so that it is of one pass' size; summed over N (float32).

    logits [2 N, V] of the two passes, one below the other; labels [N]. With their distributions p
    and q: the mean of both smoothed cross-entropies + alpha / 4 (KL(p|q) + KL(q|p)).
    """
    loss: Tensor = _RDropLoss.apply(logits, labels, smoothing, alpha)  # type: ignore[no-untyped-call]
    return loss


class _RDropLoss(torch.autograd.Function):
    """As in `smoothed_loss`, the gradient is made while the logits are at hand."""

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        context, logits: Tensor, labels: Tensor, smoothing: float, alpha: float
    ) -> Tensor:
        exact = torch.promote_types(logits.dtype, torch.float32)
        loss = logits.new_zeros((), dtype=exact)
        gradient = torch.empty_like(logits) if context.needs_input_grad[0] else None
        rows = labels.size(0)
        for start in range(0, rows, CHUNK // 2):
            here = slice(start, min(start + CHUNK // 2, rows))
            there = slice(rows + start, rows + here.stop)
            log_p = logits[here].to(exact).log_softmax(-1)  # [n, V]
            log_q = logits[there].to(exact).log_softmax(-1)
            for log_probabilities in (log_p, log_q):
                loss += _smoothed(log_probabilities, labels[here], smoothing) / 2
            ratio = log_p - log_q
            p, q = log_p.exp_(), log_q.exp_()
            p_from_q = (p * ratio).sum(-1, keepdim=True)  # KL(p|q) [n, 1]
            q_from_p = (q * ratio).sum(-1, keepdim=True).neg_()
            loss += alpha / 4 * (p_from_q + q_from_p).sum()
            if gradient is not None:
                # Of KL(p|q) + KL(q|p) by the logits of p: p (log p/q - KL(p|q)) + p - q.
                apart = p - q
                by_p = (ratio - p_from_q).mul_(p).add_(apart).mul_(alpha / 4)
                by_q = (ratio + q_from_p).mul_(q).add_(apart).mul_(-alpha / 4)
                gradient[here] = by_p.add_(_of_smoothed(p, labels[here], smoothing), alpha=0.5)
                gradient[there] = by_q.add_(_of_smoothed(q, labels[here], smoothing), alpha=0.5)
        context.save_for_backward(gradient)
        return loss

    @staticmethod
    def backward(context, scale: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[no-untyped-def]
        (gradient,) = context.saved_tensors
        return gradient * scale.to(gradient.dtype), None, None, None


def _smoothed(log_p: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Smoothed cross-entropy summed over rows: log_p [n, V], labels [n]."""
    of_label = log_p.gather(1, labels[:, None]).sum()
    return -(1 - smoothing) * of_label - smoothing / log_p.size(-1) * log_p.sum()


def _of_smoothed(p: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Its gradient by the logits, in the place of p [n, V]: p minus the smoothed target."""
    p.sub_(smoothing / p.size(-1))
    return p.scatter_add_(1, labels[:, None], p.new_full((p.size(0), 1), smoothing - 1))
