"""Parts are worked on by forks, in order, and no fork is left behind."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from mtkit.data.side_by_side import in_order
from mtkit.errors import DataError, RecipeError


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and is not buried yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: list[int]) -> bool:
    until = time.monotonic() + 20
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(alive, pids))


def pids_in(folder: Path, count: int) -> list[int]:
    """Wait for so many processes to have written down that they run."""
    until = time.monotonic() + 60
    while len(found := [int(path.name) for path in folder.iterdir()]) < count:
        assert time.monotonic() < until
        time.sleep(0.05)
    return found


def sleeper(folder: Path) -> Callable[[int], None]:
    def sleep(number: int) -> None:
        (folder / str(os.getpid())).touch()
        time.sleep(600)

    return sleep


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_results_are_in_order_whoever_makes_them(workers: int) -> None:
    def task(number: int) -> tuple[int, bool]:
        time.sleep(0.02 * (number % 3 == 0))
        return number**2, os.getpid() == parent

    parent = os.getpid()
    found = list(in_order(task, 11, workers))
    assert [square for square, _ in found] == [number**2 for number in range(11)]
    assert {here for _, here in found} == {workers == 1}


def test_error_of_a_task_arrives_with_its_hint() -> None:
    def task(number: int) -> int:
        if number == 3:
            raise RecipeError("no", "try this")
        return number

    with pytest.raises(RecipeError, match="no") as caught:
        list(in_order(task, 5, 2))
    assert caught.value.hint == "try this"


def test_death_of_a_fork_is_a_sentence() -> None:
    with pytest.raises(DataError, match="has ended unexpectedly"):
        list(in_order(lambda number: os.kill(os.getpid(), signal.SIGKILL), 3, 2))


def test_interrupt_waits_for_no_part(tmp_path: Path) -> None:
    def interrupt(number: int, frame: FrameType | None) -> None:
        if len(list(tmp_path.iterdir())) == 2:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            list(in_order(sleeper(tmp_path), 4, 2))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < 60
    assert gone([int(path.name) for path in tmp_path.iterdir()])


def test_forks_end_with_a_process_that_is_killed(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        list(in_order(sleeper(tmp_path), 4, 2))
        os._exit(0)
    pids = pids_in(tmp_path, 2)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert gone(pids)


def test_nothing_is_forked_where_forks_are_not_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert list(in_order(lambda number: os.getpid(), 3, 2)) == [os.getpid()] * 3
