"""What is said on stderr of lines that are translated: where we are, and what was not ordinary."""

import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mtkit.cli.output import is_terminal, say

if TYPE_CHECKING:
    from mtkit import Translation

_TOLD = 5  # lines that are named one by one before they are only counted


@dataclass
class Notes:
    """What there is to say about lines that were not quite ordinary."""

    longest: int
    ratio: float  # of the longest output to its source
    quiet: bool = False
    reads_stdin: bool = False
    writes_stdout: bool = False
    split: int = 0
    repaired: int = 0
    first_repaired: int = 0
    limited: int = 0
    first_limited: int = 0
    unmet: int = 0
    first_unmet: str = ""
    lines: int = 0  # translated in this sitting
    began: float = field(default_factory=time.monotonic)
    _redrawn: bool = False

    def add(self, number: int, translation: "Translation") -> None:
        self.lines += 1
        if translation.repaired:
            self.repaired += 1
            self.first_repaired = self.first_repaired or number
        if translation.limited:
            self.limited += 1
            self.first_limited = self.first_limited or number
        if translation.unmet:
            self.unmet += 1
            self.first_unmet = self.first_unmet or f"line {number:,}, {translation.unmet[0]}"
        if translation.status in ("split", "over-long"):
            self.split += 1
            if self.split <= _TOLD:
                self._say(
                    f"note: line {number} was longer than the model takes "
                    f"({translation.source_tokens} tokens; it takes {self.longest}): "
                    "split, translated in pieces and rejoined"
                )

    def progress(self, number: int) -> None:
        """Where we are, redrawn in place, when a person can see it and it disturbs nothing."""
        shown = self.writes_stdout and is_terminal(sys.stdout)
        if self.quiet or shown or self._typed or not is_terminal(sys.stderr):
            return
        rate = self.lines / max(time.monotonic() - self.began, 1e-9)
        sys.stderr.write(f"\r{number:,} lines, {rate:,.0f} a second ")
        sys.stderr.flush()
        self._redrawn = True

    def end(self) -> None:
        """The counts of what happened more than once."""
        if self.split > _TOLD:
            self._say(f"note: {self.split:,} lines in all were split and rejoined")
        if self.repaired:
            count = self.repaired
            self._say(
                f"warning: {count:,} {'line' if count == 1 else 'lines'} held NUL or bytes that "
                f"are not UTF-8, read as U+FFFD (first: line {self.first_repaired:,})"
            )
        if self.unmet:
            which = "translation is" if self.unmet == 1 else "translations are"
            self._say(
                f"warning: {self.unmet:,} {which} not as was asked: phrases are missing, or there "
                f"though forbidden (first: {self.first_unmet})"
            )
        if self.limited:
            which = "translation" if self.limited == 1 else "translations"
            self._say(
                f"note: {self.limited:,} {which} ended at the longest length, perhaps too early "
                f"(first: line {self.first_limited:,}); longer: "
                f"--search max_length_ratio={2 * self.ratio or 1:g}"
            )
        if not self.quiet and not self._typed:
            took = max(time.monotonic() - self.began, 1e-9)
            lines = "line" if self.lines == 1 else "lines"
            self._say(f"{self.lines:,} {lines} in {took:.1f} s, {self.lines / took:,.1f} a second")

    @property
    def _typed(self) -> bool:
        """Whether a person writes line by line, and reads each answer."""
        return self.reads_stdin and is_terminal(sys.stdin)

    def _say(self, text: str) -> None:
        if self.quiet and not text.startswith("warning"):
            return
        say(f"\n{text}" if self._redrawn else text)
        self._redrawn = False
