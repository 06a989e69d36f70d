"""Work on the parts of a corpus in several processes, with results in the order of the parts."""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar, cast

from mtkit.errors import DataError

__all__ = ["LostForkError", "can_fork", "in_order", "processors"]

Result = TypeVar("Result")


class LostForkError(DataError):
    """A process that was forked has died; what was made before is whole."""


_task: Callable[[int], object]  # of a process that was forked for it


def can_fork() -> bool:
    """Whether processes can be forked safely."""
    return sys.platform == "linux"


def processors() -> int:
    """How many processes this one may keep busy here; 1 where they cannot be forked safely."""
    return len(os.sched_getaffinity(0)) if can_fork() else 1


def in_order(task: Callable[[int], Result], count: int, workers: int) -> Iterator[Result]:
    """task(0) ... task(count - 1), made by forks of this process where `workers` is above 1.

    What is yielded does not depend on `workers`. The forks see everything as it is now, and end
    when this process does, however it ends. Raises what a task raises, and LostForkError when a
    fork has died.
    """
    if workers < 2 or not can_fork():
        yield from map(task, range(count))
        return
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        max(min(workers, count), 1),
        mp_context=multiprocessing.get_context("fork"),
        initializer=_begin,
        initargs=(task, os.getpid()),
    )
    try:
        yield from cast("Iterator[Result]", pool.map(_carry_out, range(count)))
    except BrokenProcessPool:
        raise LostForkError(
            "a process that prepared the data has ended unexpectedly",
            "memory may have run out; the same command goes on where it stopped",
        ) from None
    except BaseException:  # Ctrl-C too: nobody waits for what is half done
        for fork in set(multiprocessing.active_children()) - before:
            fork.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(task: Callable[[int], object], parent: int) -> None:
    global _task
    _task = task
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that was started
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    set_parent_death_signal = 1  # sys/prctl.h
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != parent:  # it has died already
        os._exit(1)


def _carry_out(number: int) -> object:
    return _task(number)
