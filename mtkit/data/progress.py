"""How far a stage of the preparation has come, and how fast."""

import time
from collections.abc import Callable

__all__ = ["Listen", "Meter"]

# The stage, how much of it is done (None: not known), and its pairs a second (0: not measured).
Listen = Callable[[str, float | None, float], None]


class Meter:
    """Tells of one stage; the rate counts the pairs of this sitting alone."""

    def __init__(self, stage: str, tell: Listen) -> None:
        self.stage = stage
        self.tell = tell
        self.began = time.monotonic()
        self.fresh = 0
        tell(stage, None, 0.0)

    def show(self, fresh: int, fraction: float | None = None) -> None:
        """So many further pairs have gone through, which makes this fraction of them all."""
        self.fresh += fresh
        self.tell(self.stage, fraction, self._rate())

    def end(self) -> None:
        """The stage has ended."""
        self.tell(self.stage, 1.0, self._rate())

    def _rate(self) -> float:
        return self.fresh / max(time.monotonic() - self.began, 1e-9)
