"""Global attention over a source sentence, by the scores of two papers.

additive  v . tanh(W q + U h)     Bahdanau et al. 2015, A.1.2
dot       q . h                   Luong et al. 2015, eq. 8
general   q . (W h)               likewise
concat    v . tanh(W [q; h])      likewise: the same function as additive, by one matrix
"""

from typing import Literal

import torch
from torch import Tensor, nn

Score = Literal["additive", "dot", "general", "concat"]


class Attention(nn.Module):
    """Scores, softmax and weighted sum; queries and source states share one width.

    What a score needs of the source alone is computed once, by `keys`.
    """

    def __init__(self, score: Score, width: int) -> None:
        super().__init__()
        self.score = score
        if score != "dot":
            self.key = nn.Linear(width, width, bias=False)
        if score in ("additive", "concat"):
            self.query = nn.Linear(width, width, bias=False)
            self.energy = nn.Linear(width, 1, bias=False)

    def keys(self, states: Tensor) -> Tensor:
        """Source states [B, S, D] -> keys [B, S, D]."""
        if self.score == "dot":
            return states
        keys: Tensor = self.key(states)
        return keys

    def forward(
        self, queries: Tensor, keys: Tensor, values: Tensor, padding: Tensor
    ) -> tuple[Tensor, Tensor]:
        """queries [B, N, D], keys and values [B, S, D] -> contexts [B, N, D], weights [B, N, S].

        Padded source positions [B, S] get weight zero. The softmax is float32 at least.
        """
        if self.score in ("dot", "general"):
            scores = queries @ keys.transpose(1, 2)
        else:
            sums = self.query(queries).unsqueeze(2) + keys.unsqueeze(1)  # [B, N, S, D]
            scores = self.energy(torch.tanh(sums)).squeeze(-1)
        return attend(scores, values, padding)


def attend(scores: Tensor, values: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
    """Scores [B, N, S] of values [B, S, D] -> contexts [B, N, D], weights [B, N, S]."""
    scores = scores.masked_fill(padding.unsqueeze(1), float("-inf"))
    precise = torch.promote_types(scores.dtype, torch.float32)
    weights = torch.softmax(scores, -1, dtype=precise)
    return weights.to(values.dtype) @ values, weights
