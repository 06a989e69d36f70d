"""Attention over the states of a source sentence, by the scores of two papers.

additive  v . tanh(W q + U h)     Bahdanau et al. 2015, A.1.2
dot       q . h                   Luong et al. 2015, eq. 8
general   q . (W h)               likewise
concat    v . tanh(W [q; h])      likewise: the same function as additive, by one matrix
location  (W q) at h's place      Luong et al. 2015, eq. 9: what lies there is not looked at

Global attention weighs all source positions; local attention (Luong et al. 2015, 3.2) those
within `window` of a place p: the target position (`monotonic`), or one that is predicted from the
query, p = S sigmoid(v . tanh(W q)), around which a Gaussian falls off (`predictive`). What the
Gaussian leaves of the weights is not normalised again.
"""

from typing import Literal

import torch
from torch import Tensor, nn

Score = Literal["additive", "dot", "general", "concat", "location"]
Reach = Literal["global", "monotonic", "predictive"]


class Attention(nn.Module):
    """Scores, softmax and weighted sum of source states [B, S, Ds] for queries [B, N, D].

    What a score needs of the source alone is computed once, by `keys`. `places` is how many source
    positions the location score can look at; those behind get no weight.
    """

    def __init__(
        self, score: Score, width: int, source_width: int | None = None, places: int = 0
    ) -> None:
        super().__init__()
        self.score = score
        if score in ("additive", "general", "concat"):
            self.key = nn.Linear(source_width or width, width, bias=False)
        if score in ("additive", "concat"):
            self.query = nn.Linear(width, width, bias=False)
            self.energy = nn.Linear(width, 1, bias=False)
        if score == "location":
            self.place = nn.Linear(width, places, bias=False)

    def keys(self, states: Tensor) -> Tensor:
        """Source states [B, S, Ds] -> keys [B, S, D]."""
        if self.score in ("dot", "location"):
            return states
        keys: Tensor = self.key(states)
        return keys

    def forward(
        self, queries: Tensor, keys: Tensor, values: Tensor, padding: Tensor, at: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """queries [B, N, D], keys [B, S, D], values [B, S, Ds] -> contexts [B, N, Ds], weights.

        Padded source positions [B, S] get weight [B, N, S] zero. The softmax is float32 at least.
        `at` is the target position of all queries (a step); None: they lie at 0, 1, 2 ... Only
        local attention asks for it.
        """
        return attend(self.scores(queries, keys), values, padding.unsqueeze(1))

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """queries [B, N, D], keys [B, S, D] -> [B, N, S]."""
        if self.score in ("dot", "general"):
            return queries @ keys.transpose(1, 2)
        if self.score == "location":
            size = keys.size(1)
            scores: Tensor = self.place(queries)[..., :size]
            unseen = (*scores.shape[:2], size - scores.size(-1))
            return torch.cat([scores, scores.new_full(unseen, float("-inf"))], -1)
        sums = self.query(queries).unsqueeze(2) + keys.unsqueeze(1)  # [B, N, S, D]
        energies: Tensor = self.energy(torch.tanh(sums)).squeeze(-1)
        return energies


class LocalAttention(Attention):
    """Attention within `window` positions of a place in the source (Luong et al. 2015, 3.2)."""

    def __init__(
        self, score: Score, width: int, reach: Reach, window: int, places: int = 0
    ) -> None:
        super().__init__(score, width, places=places)
        self.window = window
        self.predictive = reach == "predictive"
        if self.predictive:
            self.aim = nn.Linear(width, width, bias=False)
            self.aimed = nn.Linear(width, 1, bias=False)

    def forward(
        self, queries: Tensor, keys: Tensor, values: Tensor, padding: Tensor, at: int | None = None
    ) -> tuple[Tensor, Tensor]:
        lengths = padding.logical_not().sum(1)[:, None, None]  # [B, 1, 1]
        centre = self._centre(queries, lengths, at)  # [B, N, 1]
        positions = torch.arange(keys.size(1), device=keys.device)
        away = positions - centre  # [B, N, S]
        hidden = padding.unsqueeze(1) | (away.abs() > self.window)
        contexts, weights = attend(self.scores(queries, keys), values, hidden)
        if self.predictive:
            spread = self.window / 2
            weights = weights * torch.exp(-(away**2) / (2 * spread**2))
            contexts = weights.to(values.dtype) @ values
        return contexts, weights

    def _centre(self, queries: Tensor, lengths: Tensor, at: int | None) -> Tensor:
        """The places [B, N, 1] in sources of these lengths [B, 1, 1], counted from 0.

        Beyond the source's end a monotonic place stays there: something is always in the window.
        """
        if self.predictive:
            share = torch.sigmoid(self.aimed(torch.tanh(self.aim(queries))))
            return lengths * share.to(torch.promote_types(share.dtype, torch.float32))
        count = queries.size(1)
        first, end = (0, count) if at is None else (at, at + 1)
        places = torch.arange(first, end, device=queries.device).expand(count)
        return places[None, :, None].minimum(lengths - 1)


def attend(scores: Tensor, values: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Scores [B, N, S] of values [B, S, D] -> contexts [B, N, D], weights [B, N, S].

    What is `hidden` [B, N or 1, S] gets weight zero.
    """
    scores = scores.masked_fill(hidden, float("-inf"))
    precise = torch.promote_types(scores.dtype, torch.float32)
    weights = torch.softmax(scores, -1, dtype=precise)
    return weights.to(values.dtype) @ values, weights
