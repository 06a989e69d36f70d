"""What a model says of given targets: token scores, alignment, and the penalty that rests on it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log

import torch
from torch import Tensor, nn

from mtkit.decoding.hypotheses import Hypothesis
from mtkit.decoding.options import SearchOptions
from mtkit.errors import ModelError, UsageError
from mtkit.models.encoder import Reader
from mtkit.models.ensemble import Ensemble
from mtkit.models.seq2seq import Memory, Seq2Seq
from mtkit.symbols import BOS, EOS, PAD

# Target positions that are computed at a time: their logits over a whole vocabulary are large.
_POSITIONS = 1024


@dataclass(frozen=True)
class Forced:
    """One target under teacher forcing."""

    token_scores: tuple[float, ...]  # log-probability of each token, and of EOS
    alignment: tuple[tuple[float, ...], ...] = ()  # [T, S], on request; rows as the scores


@torch.inference_mode()
def force(
    model: Seq2Seq,
    memory: Memory,
    rows: Sequence[int],
    targets: Sequence[Sequence[int]],
    layer: int | None = None,
) -> list[Forced]:
    """Each target (without BOS and EOS) after the source of its row of the memory.

    With `layer`, the alignment of that decoder layer, as `Seq2Seq.alignment` counts them.
    """
    order = sorted(range(len(targets)), key=lambda index: len(targets[index]))
    found: dict[int, Forced] = {}
    while order:
        count = max(_POSITIONS // (len(targets[order[-1]]) + 1), 1)
        part, order = order[-count:], order[:-count]
        device = memory.padding.device
        sources = memory.select(torch.tensor([rows[index] for index in part], device=device))
        inputs = _padded([[BOS, *targets[index]] for index in part], device)  # [N, T]
        labels = _padded([[*targets[index], EOS] for index in part], device)
        logits = model.decode(inputs, sources)
        if logits.dtype in (torch.bfloat16, torch.float16):
            logits = logits.float()
        chosen = logits.gather(2, labels.unsqueeze(2)).squeeze(2) - logits.logsumexp(2)  # [N, T]
        weights = None if layer is None else model.alignment(inputs, sources, layer).tolist()
        sizes = (~sources.padding).sum(1).tolist()
        for place, (index, scores) in enumerate(zip(part, chosen.tolist(), strict=True)):
            length = len(targets[index]) + 1
            lines = weights[place][:length] if weights else ()
            alignment = tuple(tuple(line[: sizes[place]]) for line in lines)
            found[index] = Forced(tuple(scores[:length]), alignment)
    return [found[index] for index in range(len(targets))]


def annotated(
    model: Seq2Seq,
    memory: Memory,
    found: Sequence[Sequence[Hypothesis]],
    options: SearchOptions,
) -> list[list[Hypothesis]]:
    """The hypotheses of each sentence with what the options ask to know of them, best first."""
    flat = [(row, item) for row, items in enumerate(found) for item in items]
    results = force(
        model,
        memory,
        [row for row, _ in flat],
        [item.tokens for _, item in flat],
        options.alignment_layer if options.aligned else None,
    )
    ranked: list[list[Hypothesis]] = [[] for _ in found]
    for (row, item), forced in zip(flat, results, strict=True):
        penalty = options.coverage_penalty and options.coverage_penalty * coverage(forced.alignment)
        ranked[row].append(
            replace(
                item,
                score=item.score + penalty,
                token_scores=forced.token_scores,
                alignment=forced.alignment,
            )
        )
    return [sorted(items, key=lambda item: -item.score) for items in ranked]


def require_alignment(model: Seq2Seq, layer: int) -> None:
    """Raise ModelError for a context vector, UsageError for a layer that recurrent models lack.

    Other models count their layers themselves.
    """
    models: Sequence[nn.Module] = [*model.models] if isinstance(model, Ensemble) else [model]
    readers = [each for each in models if isinstance(each, Reader)]
    if len(readers) < len(models):
        return
    if all(each.section.memory == "context" for each in readers):
        raise ModelError(
            "the model has a context vector, which attends to nothing",
            "leave alignment, replace_unknown and coverage_penalty out",
        )
    if layer > 1:
        raise UsageError(
            f"alignment_layer = {layer}, but a recurrent model has one attention",
            "--search alignment_layer=1",
        )


def coverage(alignment: Sequence[Sequence[float]]) -> float:
    """sum over source tokens of log(min(attention that they got, 1)) (Wu et al. 2016, eq. 14)."""
    got = (sum(column) for column in zip(*alignment, strict=True))
    return sum(log(max(min(share, 1.0), 1e-12)) for share in got)


def _padded(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in rows], device=device)
