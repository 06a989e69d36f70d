"""Rules of a search: plain functions on the log-probabilities of a step, [B, K, V].

What a rule forbids becomes -inf; what it leaves keeps its true log-probability. `past` [B, K, t]
holds the tokens of every hypothesis so far.
"""

from collections.abc import Sequence
from math import inf

from torch import Tensor

from mtkit.decoding.demands import Demand
from mtkit.symbols import EOS


def forbid_repeats(logs: Tensor, past: Tensor, size: int) -> None:
    """No hypothesis holds an n-gram of `size` tokens twice (Paulus et al. 2018, 2.5)."""
    if past.size(2) < size:
        return
    windows = past.unfold(2, size, 1)  # [B, K, t - size + 1, size]
    last = past[:, :, past.size(2) - size + 1 :].unsqueeze(2)  # [B, K, 1, size - 1]
    again = (windows[..., :-1] == last).all(-1)  # [B, K, t - size + 1]
    tokens = windows[..., -1]
    row, hypothesis, place = again.nonzero(as_tuple=True)
    logs[row, hypothesis, tokens[row, hypothesis, place]] = -inf


def forbid_phrases(logs: Tensor, past: Tensor, demands: Sequence[Demand]) -> None:
    """No hypothesis holds a forbidden phrase of its sentence: its last token never follows."""
    written = past.size(2)
    for row, demand in enumerate(demands):
        for *before, token in demand.forbidden:
            if len(before) > written:
                continue
            if before:
                end = past[row, :, written - len(before) :]  # [K, len(before)]
                logs[row, (end == end.new_tensor(before)).all(1), token] = -inf
            else:
                logs[row, :, token] = -inf


def force_prefix(logs: Tensor, true: Tensor, demands: Sequence[Demand], position: int) -> None:
    """Hypotheses begin with their sentence's prefix, whatever else is forbidden."""
    for row, demand in enumerate(demands):
        if position <= len(demand.prefix):
            token = demand.prefix[position - 1]
            logs[row] = -inf
            logs[row, :, token] = true[row, :, token]


def let_end(logs: Tensor, true: Tensor, must: Tensor) -> None:
    """Where a sentence must end now [B], and where nothing else is left, EOS is allowed."""
    logs.masked_fill_(must[:, None, None], -inf)
    stuck = logs.amax(2) == -inf  # [B, K]
    logs[:, :, EOS] = true[:, :, EOS].where(stuck, logs[:, :, EOS])
