"""What a search works on: the live hypotheses of a batch, and those that have finished."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Hypothesis:
    """A finished target sentence."""

    tokens: tuple[int, ...]  # without BOS and EOS
    log_probability: float  # of the tokens and EOS
    score: float
    token_scores: tuple[float, ...] = ()  # log-probability of each token and EOS, on request
    alignment: tuple[tuple[float, ...], ...] = ()  # [T, S] attention weights, on request


@dataclass(frozen=True)
class Beam:
    """What one step leaves: the live hypotheses of each sentence, best first, and who ended."""

    sentences: Tensor  # [B] rows of the source that was given
    limits: Tensor  # [B] longest hypothesis, EOS included
    tokens: Tensor  # [B, K] last token
    parents: Tensor  # [B, K] hypothesis of the step before that this one goes on from
    live: Tensor  # [B, K] log-probability; -inf where nothing lives
    ended: Tensor  # [B, K] log-probability of the parent + EOS; -inf where it did not finish
    finished: Tensor  # [B] hypotheses that have finished so far; with rules [B, groups]

    def select(self, rows: Tensor) -> "Beam":
        """These sentences [B'] alone."""
        fields = (getattr(self, name) for name in self.__dataclass_fields__)
        return Beam(*(tensor.index_select(0, rows) for tensor in fields))
