"""A process that falls silent is noticed by all others, and none else."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from mtkit.training import heartbeat
from mtkit.training.heartbeat import Heartbeat


class Shared:
    """A board that one process can be cut off from."""

    def __init__(self, signs: dict[str, str], rank: int, cut: set[int]) -> None:
        self.signs, self.rank, self.cut = signs, rank, cut

    def set(self, key: str, value: str) -> None:
        if self.rank not in self.cut:
            self.signs[key] = value

    def multi_get(self, keys: list[str]) -> list[bytes]:
        while self.rank in self.cut:  # no answer, and no end of waiting
            time.sleep(0.01)
        if any(key not in self.signs for key in keys):
            raise RuntimeError("timed out")
        return [self.signs[key].encode() for key in keys]

    def set_timeout(self, timeout: timedelta) -> None:
        pass


@pytest.mark.parametrize("lost", [0, 2])
def test_silent_process_is_given_up_by_all(monkeypatch: pytest.MonkeyPatch, lost: int) -> None:
    monkeypatch.setattr(heartbeat, "BEAT", 0.02)
    monkeypatch.setattr(heartbeat, "SILENCE", 0.6)
    signs: dict[str, str] = {}
    cut: set[int] = set()
    said: dict[int, str] = {}
    done = threading.Event()

    def ending(rank: int) -> Callable[[str], None]:
        def end(reason: str) -> None:
            said[rank] = reason
            cut.add(rank)  # it has ended: no sign of life any more
            if len(said) == 3:
                done.set()

        return end

    beats = [Heartbeat(Shared(signs, rank, cut), rank, 3, ending(rank)) for rank in range(3)]
    time.sleep(1.5)
    assert not said, "nobody was silent"
    cut.add(lost)
    assert done.wait(20)
    assert f"nothing was heard from process {lost} " in said[1 if lost == 0 else 0]
    cut.clear()
    for beat in beats:
        beat.stop()


def test_heartbeat_that_is_stopped_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT", 0.02)
    monkeypatch.setattr(heartbeat, "SILENCE", 0.2)
    said: list[str] = []
    Heartbeat(Shared({}, 0, set()), 0, 2, said.append).stop()
    time.sleep(0.6)
    assert said == []
