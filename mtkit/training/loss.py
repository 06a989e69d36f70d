"""Label-smoothed cross-entropy of a model, without its logits ever being in memory at once."""

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from mtkit.data.batches import Batch
from mtkit.models.seq2seq import Seq2Seq

# Logits that are worked on at a time. On a CPU they stay in its cache, where the passes over them
# cost little; a GPU wants larger pieces.
_AT_A_TIME = {"cpu": 1 << 22, "cuda": 1 << 28}


class Objective(nn.Module):
    """A model together with what it is trained on: one call from a batch to its loss.

    This, not the model, is what the processes of a run wrap, since the loss is where the output
    layer meets its gradient.
    """

    def __init__(self, model: Seq2Seq, smoothing: float, r_drop: float = 0.0) -> None:
        """`r_drop` is alpha of Liang et al. 2021: two passes over each batch are to agree."""
        super().__init__()
        self.model = model
        self.smoothing = smoothing
        self.r_drop = r_drop
        self.scratch = Scratch()

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss to train on and the plain cross-entropy, both summed over the batch's labels."""
        if self.r_drop:
            batch = twice(batch)
        memory = self.model.encode(batch.source)
        features = self.model.features(batch.inputs, memory)  # [B, T, D]
        features = features.flatten(0, 1).index_select(0, batch.rows)  # [N, D]
        aims = Aims(batch.labels, self.smoothing, self.r_drop)
        return linear_loss(features, self.model.output_layer(), aims, self.scratch)


@dataclass(frozen=True)
class Aims:
    """What the distributions of N rows are to be.

    A share `smoothing` of the target's mass is spread evenly over all V words (Szegedy et al. 2016;
    Vaswani et al. 2017, 5.4). With `r_drop`, rows 2n and 2n + 1 are two passes over one position:
    of their losses the mean counts, and alpha / 4 (KL(p|q) + KL(q|p)) is added, half of the
    paper's loss (Liang et al. 2021, eq. 4), so that it is of one pass' size.
    """

    labels: Tensor  # [N]
    smoothing: float = 0.0
    r_drop: float = 0.0

    @property
    def weight(self) -> float:
        """Of a row's cross-entropy in the loss."""
        return 0.5 if self.r_drop else 1.0


class Scratch:
    """Memory that is written over by every batch: fresh memory costs more than what is done in it.

    The system hands it out page by page, on first touch.
    """

    def __init__(self) -> None:
        self.pieces: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], like: Tensor, dtype: torch.dtype) -> Tensor:
        """The piece of this name, on the device of `like`; what it holds is of no meaning."""
        size = math.prod(shape)
        piece = self.pieces.get(name)
        if (
            piece is None
            or piece.numel() < size
            or (piece.dtype, piece.device) != (dtype, like.device)
        ):
            piece = self.pieces[name] = torch.empty(size, dtype=dtype, device=like.device)
        return piece[:size].view(shape)


def linear_loss(
    features: Tensor,
    output_layer: tuple[Tensor, Tensor | None],
    aims: Aims,
    scratch: Scratch | None = None,
) -> tuple[Tensor, Tensor]:
    """The loss that is trained on and the plain cross-entropy, both summed over rows.

    features [N, D]; the output layer is a matrix [V, D] and a bias [V]. Under autocast the products
    are made in its type, sums in float32. Only the first value has a gradient.
    """
    precision = features.dtype
    if torch.is_autocast_enabled(features.device.type):
        precision = torch.get_autocast_dtype(features.device.type)
    scratch = scratch or Scratch()
    found = _LinearLoss.apply(features, *output_layer, aims, precision, scratch)  # type: ignore[no-untyped-call]
    return cast("tuple[Tensor, Tensor]", found)


class _LinearLoss(torch.autograd.Function):
    """The gradient is made while the logits are at hand: softmax minus the smoothed target.

    What label smoothing adds is the same for every word. It needs no pass over the logits: their
    sum over the vocabulary is the product of the features with the matrix's column sums.
    """

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0915  one pass, told in order
        context,
        features: Tensor,
        matrix: Tensor,
        bias: Tensor | None,
        aims: Aims,
        precision: torch.dtype,
        scratch: Scratch,
    ) -> tuple[Tensor, Tensor]:
        labels, weight = aims.labels, aims.weight
        exact = torch.promote_types(precision, torch.float32)
        wide, narrow = features.to(precision), matrix.to(precision)
        needed = any(context.needs_input_grad[:3])
        to_features = torch.empty_like(wide)
        to_matrix = torch.zeros_like(matrix, dtype=exact)
        to_bias = torch.zeros_like(bias, dtype=exact) if bias is not None else None
        plain = features.new_zeros((), dtype=exact)
        normalisers = features.new_zeros((), dtype=exact)
        disagreement = features.new_zeros((), dtype=exact)
        size = matrix.size(0)
        count = max(_AT_A_TIME.get(features.device.type, 1 << 22) // size // 2, 1) * 2
        rounded = precision != exact
        piece = (min(count, len(labels)), size)
        logits = scratch.take("logits", piece, wide, precision)
        values = scratch.take("values", piece, wide, exact) if rounded else logits
        share = scratch.take("share", (size, wide.size(1)), wide, precision)
        addend = scratch.take("addend", (size, wide.size(1)), wide, exact) if rounded else share
        with torch.autocast(features.device.type, enabled=False):
            for start in range(0, len(labels), count):
                rows = slice(start, start + count)
                here = labels[rows, None]  # [n, 1]
                logits, values = logits[: len(here)], values[: len(here)]
                torch.mm(wide[rows], narrow.t(), out=logits)  # [n, V]
                if bias is not None:
                    logits += bias.to(precision)
                if rounded:
                    values.copy_(logits)
                of_label = values.gather(1, here)
                apart = values[::2] - values[1::2] if aims.r_drop else None
                log_sum = normalise(values)
                normalisers += log_sum.sum()
                plain += (log_sum - of_label).sum()
                if apart is not None:
                    apart -= log_sum[::2] - log_sum[1::2]  # the log of p / q [n / 2, V]
                    disagreement += agree(values, apart, aims.r_drop / 4)
                if needed:
                    on_label = torch.full_like(of_label, weight * (aims.smoothing - 1))
                    values.scatter_add_(1, here, on_label)
                    if rounded:
                        logits.copy_(values)
                    torch.mm(logits, narrow, out=to_features[rows])
                    torch.mm(logits.t(), wide[rows], out=share)
                    to_matrix += addend.copy_(share) if rounded else share
                    if to_bias is not None:
                        to_bias += logits.sum(0)
            loss = weight * plain + disagreement
            if aims.smoothing:
                even = weight * aims.smoothing / size  # what every word gets
                of_words, of_rows = narrow.sum(0, dtype=exact), wide.sum(0, dtype=exact)
                every_logit = of_words.dot(of_rows)
                to_features -= (even * of_words).to(precision)
                to_matrix -= even * of_rows
                if bias is not None and to_bias is not None:
                    every_logit += len(labels) * bias.sum(dtype=exact)
                    to_bias -= even * len(labels)
                loss += weight * aims.smoothing * (normalisers - plain) - even * every_logit
        context.save_for_backward(to_features, to_matrix, to_bias)
        context.types = (features.dtype, matrix.dtype)
        plain *= weight
        context.mark_non_differentiable(plain)
        return loss, plain

    @staticmethod
    def backward(context, scale: Tensor, _: Tensor):  # type: ignore[no-untyped-def]
        to_features, to_matrix, to_bias = context.saved_tensors
        of_features, of_matrix = context.types
        return (
            (to_features * scale.to(to_features.dtype)).to(of_features),
            (to_matrix * scale).to(of_matrix),
            (to_bias * scale).to(of_matrix) if to_bias is not None else None,
            None,
            None,
            None,
        )


def normalise(values: Tensor) -> Tensor:
    """Logits [n, V] become probabilities, in place; the log of their sum of exponentials [n, 1]."""
    largest = values.amax(1, keepdim=True)
    torch._softmax(values, 1, half_to_float=False, out=values)
    # The largest probability is 1 / sum exp(logit - largest).
    return largest - values.amax(1, keepdim=True).log_()


def agree(values: Tensor, ratio: Tensor, share: float) -> Tensor:
    """What R-Drop adds for pairs of rows p, q that lie one below the other, values [n, V].

    ratio [n / 2, V] is log(p / q), overwritten. Gives share (KL(p|q) + KL(q|p)), summed; `values`
    become the gradient, by the logits, of that and of half of each row's log of the sum.
    """
    p, q = values[::2], values[1::2]
    p_from_q = (p * ratio).sum(1, keepdim=True)  # KL(p|q) [n / 2, 1]
    q_from_p = (q * ratio).sum(1, keepdim=True).neg_()
    # Of KL(p|q) + KL(q|p) by the logits of p: p (log p/q - KL(p|q)) + p - q.
    ratio *= share
    by_p = (ratio + (0.5 + share - share * p_from_q)).mul_(p).sub_(q, alpha=share)
    by_q = (0.5 + share - share * q_from_p - ratio).mul_(q).sub_(p, alpha=share)
    p.copy_(by_p)
    q.copy_(by_q)
    return share * (p_from_q + q_from_p).sum()


def twice(batch: Batch) -> Batch:
    """Two passes over a batch as one, since dropout falls anew on each.

    The sentences lie below themselves; a position's two rows follow one another.
    """
    positions = batch.inputs.numel()
    return Batch(
        batch.source.repeat(2, 1),
        batch.inputs.repeat(2, 1),
        torch.stack([batch.rows, batch.rows + positions], 1).flatten(),
        batch.labels.repeat_interleave(2),
    )
