"""What one sentence asks of its target, in tokens, and how far a hypothesis has met it."""

from collections.abc import Sequence
from dataclasses import dataclass

Phrase = tuple[int, ...]


@dataclass(frozen=True)
class Demand:
    """What the target of one sentence must begin with, hold and not hold."""

    prefix: Phrase = ()
    constraints: tuple[Phrase, ...] = ()  # in any order
    forbidden: tuple[Phrase, ...] = ()

    @property
    def room(self) -> int:
        """A length, EOS included, that is enough for the prefix and every constraint."""
        return len(self.prefix) + sum(map(len, self.constraints)) + 1


@dataclass(frozen=True)
class Progress:
    """How much of each constraint a hypothesis holds (Post and Vilar 2018)."""

    constraints: tuple[Phrase, ...]
    held: tuple[int, ...]  # tokens of each: all of them, or those that the hypothesis ends in

    @classmethod
    def start(cls, constraints: Sequence[Phrase]) -> "Progress":
        """Nothing of any of them."""
        return cls(tuple(constraints), (0,) * len(constraints))

    @property
    def met(self) -> bool:
        """Whether the hypothesis holds all constraints."""
        return all(held == len(c) for c, held in zip(self.constraints, self.held, strict=True))

    @property
    def bank(self) -> int:
        """Tokens that are met: whole constraints, and the one that is being written."""
        pairs = list(zip(self.constraints, self.held, strict=True))
        whole = sum(held for constraint, held in pairs if held == len(constraint))
        return whole + max((held for c, held in pairs if held < len(c)), default=0)

    @property
    def wanted(self) -> set[int]:
        """The tokens that bring an unmet constraint on."""
        pairs = zip(self.constraints, self.held, strict=True)
        return {constraint[held] for constraint, held in pairs if held < len(constraint)}

    def after(self, token: int) -> "Progress":
        """The progress of the hypothesis with one token more."""
        held = tuple(map(_held, self.constraints, self.held, (token,) * len(self.held)))
        return Progress(self.constraints, held)


def _held(constraint: Phrase, held: int, token: int) -> int:
    """The most tokens that the constraint begins with and the hypothesis now ends in."""
    if held == len(constraint):
        return held
    end = (*constraint[:held], token)
    return next(n for n in range(held + 1, -1, -1) if end[len(end) - n :] == constraint[:n])
