"""The best continuations of hypotheses: the part of a step that sees the whole vocabulary."""

from collections.abc import Sequence
from math import inf, isqrt

import torch
from torch import Tensor

from mtkit.symbols import PAD

# Logits that are normalised at a time on a CPU: few enough to stay in its cache.
_BLOCK = 1 << 17


def continuations(
    live: Tensor, logits: Tensor, forbidden: Sequence[slice]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The K best continuations of each sentence's K hypotheses of log-probability live [B, K].

    From logits [B, K, V], which are overwritten; `forbidden` tokens are left out, PAD among them.
    Gives what added to the logits of a hypothesis makes log-probabilities of its continuations, and
    of the best their log-probability, hypothesis and token: [B, K] each.

    A top-k over the whole vocabulary costs more than the rest of a step. The K best lie in the K
    groups with the largest maxima, so only those are searched. A group takes every n-th token,
    which lets the maxima be taken across rows of memory.
    """
    logits = logits.contiguous()
    width, words = logits.shape[1:]
    if width == 1:
        shift = live - _survey(logits, forbidden, 0)[0]
        best, tokens = logits.max(2)
        return shift, best + shift, torch.zeros_like(tokens), tokens
    height = max(isqrt(words // width), 1)
    groups = words // height
    totals, maxima = _survey(logits, forbidden, groups)
    shift = live - totals  # [B, K]
    maxima = (maxima + shift.unsqueeze(2)).flatten(1)  # [B, K * groups]
    chosen = maxima.topk(width).indices  # [B, K] groups
    parents = chosen // groups
    column = torch.arange(0, words, groups, device=logits.device)  # [height]
    tokens = (chosen - parents * groups).unsqueeze(2) + column  # [B, K, height]
    # The last row of groups is shorter than the others; PAD is forbidden, so it stands for nothing.
    tokens.masked_fill_(tokens >= words, PAD)
    places = ((parents * words).unsqueeze(2) + tokens).flatten(1)  # [B, K * height]
    values = logits.flatten(1).gather(1, places).view_as(tokens)
    values += shift.gather(1, parents).unsqueeze(2)
    best, index = values.flatten(1).topk(width)  # [B, K]
    places = places.gather(1, index)
    parents = places // words
    return shift, best, parents, places - parents * words


def _survey(logits: Tensor, forbidden: Sequence[slice], groups: int) -> tuple[Tensor, Tensor]:
    """The log of the sum of exponentials [B, K], and every group's maximum [B, K, groups].

    The sum is over all tokens, as the model means it; maxima leave out what is forbidden, which is
    overwritten. On a CPU blocks of rows go through both while they are in its cache.
    """
    rows = logits.flatten(0, 1)  # [B * K, V]
    count, words = rows.shape
    full = words // groups * groups if groups else words
    size = count if logits.is_cuda else max(_BLOCK // words, 1)
    largest, totals, maxima = (rows.new_empty(count, n) for n in (1, 1, groups))
    scratch = torch.empty_like(rows[:size])
    for first in range(0, count, size):
        part = slice(first, first + size)
        block = rows[part]
        torch.amax(block, 1, keepdim=True, out=largest[part])
        space = torch.sub(block, largest[part], out=scratch[: len(block)])
        torch.sum(space.exp_(), 1, keepdim=True, out=totals[part])
        for tokens in forbidden:
            block[:, tokens] = -inf
        if groups:
            torch.amax(block[:, :full].view(len(block), -1, groups), 1, out=maxima[part])
    if full < words:
        ahead = maxima[:, : words - full]
        torch.maximum(ahead, rows[:, full:], out=ahead)
    totals = totals.log_().add_(largest)
    return totals.view(logits.shape[:2]), maxima.view(*logits.shape[:2], groups)
