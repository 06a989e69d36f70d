"""Processes that tell one another that they are still there.

Where a process dies, the system closes its connections and the others are told. A machine that is
cut off tells nobody: what waits for it would wait for ever.
"""

import os
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

SILENCE = 180.0  # seconds after which a process is given up
BEAT = 5.0  # seconds between two signs of life


class Board(Protocol):
    """Where signs of life are put up for all; torch's stores are such."""

    def set(self, key: str, value: str) -> None: ...
    def multi_get(self, keys: list[str]) -> list[bytes]: ...
    def set_timeout(self, timeout: timedelta) -> None: ...


def end_at_once(reason: str) -> None:
    """Say why and end this process, whatever it is waiting for."""
    sys.stderr.write(f"{reason}\n")
    sys.stderr.flush()
    os._exit(1)


class Heartbeat:
    """Two threads: one puts up signs of life and reads those of others, one counts the silence.

    The first process watches all, and all watch the first, so that each learns of any. Silence is
    counted in turns of this process, not by the clock: one that was suspended starts no alarm.
    """

    def __init__(
        self, board: Board, rank: int, size: int, end: Callable[[str], None] = end_at_once
    ) -> None:
        self._board = board
        self._own = f"alive-{rank}"
        self._watched = list(range(1, size)) if rank == 0 else [0]
        self._rank = rank
        self._end = end
        self._seen: dict[int, bytes] = {}
        self._silent = dict.fromkeys(self._watched, 0.0)  # seconds, by process
        self._over = threading.Event()
        board.set_timeout(timedelta(seconds=SILENCE))
        board.set(self._own, "0")
        for work in (self._beat, self._count):
            threading.Thread(target=work, daemon=True).start()

    def stop(self) -> None:
        """Let the others be; what they do is of no interest any more."""
        self._over.set()

    def _beat(self) -> None:
        number = 0
        while not self._over.wait(BEAT):
            number += 1
            try:
                self._board.set(self._own, str(number))
                found = self._board.multi_get([f"alive-{rank}" for rank in self._watched])
            except RuntimeError:  # torch's way to say that nothing was heard: it is counted
                continue
            for rank, sign in zip(self._watched, found, strict=True):
                if self._seen.get(rank) != sign:
                    self._seen[rank], self._silent[rank] = sign, 0.0

    def _count(self) -> None:
        turn = min(BEAT, 1.0)
        while not self._over.wait(turn):
            for rank in self._watched:
                self._silent[rank] += turn
                if self._silent[rank] > SILENCE:
                    self._over.set()
                    self._end(
                        f"process {self._rank}: ended, because nothing was heard from process "
                        f"{rank} for {SILENCE:.0f} s; the same command on every machine goes on "
                        "from the last checkpoint"
                    )
                    return
