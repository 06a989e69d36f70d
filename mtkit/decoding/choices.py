"""How a step with rules chooses: the best of groups, a draw, or turns of banks.

Each takes the log-probability of the hypotheses, `live` [B, K], and that of their continuations,
`logs` [B, K, V], -inf where a rule forbids one, and gives a `Choice`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from mtkit.decoding.demands import Progress
from mtkit.symbols import EOS


@dataclass(frozen=True)
class Choice:
    """The hypotheses that live on and those that end, [B, K] each."""

    live: Tensor
    parents: Tensor
    tokens: Tensor
    ended: Tensor


def best(live: Tensor, logs: Tensor, groups: int = 1, diversity: float = 0.0) -> Choice:
    """The best continuations in each group (Vijayakumar et al. 2016, algorithm 1).

    A group pays `diversity` for a token as often as earlier groups have chosen it at this step:
    that decides who goes on, and their log-probabilities stay true. In one group this is plain
    beam search: a hypothesis ends if its end is among the K best.
    """
    batch, beam, words = logs.shape
    width = beam // groups
    chosen = logs.new_zeros(batch, words)  # how often a token has been chosen at this step
    parts = []
    for first in range(0, beam, width):
        part = slice(first, first + width)
        scores = live[:, part].unsqueeze(2) + logs[:, part]  # [B, K / groups, V]
        ends = scores[:, :, EOS].clone()
        scores[:, :, EOS] = -inf
        scores = scores.flatten(1)
        ranked = scores - diversity * chosen.repeat(1, width) if first else scores
        values, index = ranked.topk(width)
        parents, tokens = index // words, index % words
        rivals = torch.cat((values, ends), 1).unsqueeze(1)
        rank = (rivals > ends.unsqueeze(2)).sum(2)
        ended = ends.masked_fill(rank >= width, -inf)
        parts.append(Choice(scores.gather(1, index), parents + first, tokens, ended))
        chosen.scatter_add_(1, tokens, (values > -inf).to(chosen.dtype))
    names = ("live", "parents", "tokens", "ended")
    return Choice(*(torch.cat([getattr(part, name) for part in parts], 1) for name in names))


def drawn(live: Tensor, logs: Tensor, draws: Tensor, cut: tuple[float, int, float]) -> Choice:
    """One token for each hypothesis, by a number of [0, 1) for each, `draws` [B, K].

    `cut` is temperature, top-k and top-p: see `truncated`. What is drawn keeps the log-probability
    that the model gives it.
    """
    sums = truncated(logs, *cut).softmax(2).cumsum(2)  # [B, K, V]
    total = sums[:, :, -1:]
    wanted = torch.minimum(draws.unsqueeze(2) * total, total * (1 - 1e-12))
    tokens = torch.searchsorted(sums, wanted, right=True).clamp_(max=logs.size(2) - 1)
    after = live + logs.gather(2, tokens).squeeze(2)
    tokens = tokens.squeeze(2)
    ends = tokens == EOS
    parents = torch.arange(live.size(1), device=live.device).expand_as(tokens)
    return Choice(after.masked_fill(ends, -inf), parents, tokens, after.masked_fill(~ends, -inf))


def truncated(logs: Tensor, temperature: float, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Logits [B, K, V] in float64 to draw from, -inf for what is never drawn.

    The k likeliest tokens (Fan et al. 2018), and of these the fewest that together have
    probability top_p (Holtzman et al. 2020), both after the temperature.
    """
    logits = logs.double() / temperature
    if 0 < top_k < logits.size(2):
        least = logits.topk(top_k).values[..., -1:]
        logits = logits.masked_fill(logits < least, -inf)
    if top_p < 1:
        ordered, index = logits.sort(2, descending=True)
        probabilities = ordered.softmax(2)
        before = probabilities.cumsum(2) - probabilities
        logits = logits.scatter(2, index, ordered.masked_fill(before >= top_p, -inf))
    return logits


def in_turns(
    live: Tensor, logs: Tensor, progress: Sequence[Progress]
) -> tuple[list[tuple[float, int, int, Progress]], list[float]]:
    """The continuations of one sentence with constraints, after Post and Vilar 2018.

    live [K], logs [K, V]. The candidates are the K best, each hypothesis's own best, and all that
    bring a constraint on. Those with equally many tokens met share a bank, and the banks take one
    candidate each in turn, the fullest first, until there are K. Gives for each its
    log-probability, parent, token and progress, and the log-probability of each hypothesis's end.
    An end finishes if it is among the best of the full bank, as many as that bank got places for;
    one that lacks a constraint only if no hypothesis goes on and none is better off.
    """
    beam, words = logs.shape
    scores = live.unsqueeze(1) + logs
    ends = scores[:, EOS].tolist()
    scores[:, EOS] = -inf
    places = set(scores.flatten().topk(beam).indices.tolist())
    places |= {k * words + token for k, token in enumerate(scores.argmax(1).tolist())}
    places |= {k * words + token for k in range(beam) for token in progress[k].wanted}
    order = sorted(places)
    values = scores.flatten()[torch.tensor(order, device=scores.device)].tolist()
    banks: dict[int, list[tuple[float, int, int, Progress]]] = {}
    for value, place in sorted(zip(values, order, strict=True), key=lambda item: -item[0]):
        if value > -inf:
            parent, token = divmod(place, words)
            after = progress[parent].after(token)
            banks.setdefault(after.bank, []).append((value, parent, token, after))
    chosen: list[tuple[float, int, int, Progress]] = []
    depth = 0
    while len(chosen) < beam and depth < len(order):
        chosen += [banks[n][depth] for n in sorted(banks, reverse=True) if depth < len(banks[n])]
        depth += 1
    chosen = sorted(chosen[:beam], key=lambda item: -item[0])
    rivals = [item[0] for item in chosen if item[3].met]
    room = len(rivals) or (1 if chosen else beam)
    able = [end if item.met else -inf for end, item in zip(ends, progress, strict=True)]
    if not chosen and max(able) == -inf:
        able = ends
    ended = [end if sum(other > end for other in (*rivals, *able)) < room else -inf for end in able]
    return chosen, ended
