"""Processes that search side by side, each with one thread, over one copy of the weights.

Threads inside an operation gain little at the size of a decoder's step, and threads of Python wait
for one another; processes do neither. They are forked when the first of them is needed, so that
they share the model's memory, and a batch gives the same in whichever of them it is searched.
"""

import gc
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait

import torch

from mtkit.data.side_by_side import processors
from mtkit.decoding.demands import Demand
from mtkit.decoding.hypotheses import Hypothesis
from mtkit.decoding.options import SearchOptions
from mtkit.errors import MTKitError, UsageError

# How to search, each sentence's token ids, and what is asked of its translation.
Batch = tuple[SearchOptions, list[list[int]], list[Demand] | None]
Search = Callable[[Batch], list[list[Hypothesis]]]


def own_processors() -> int:
    """The processors that are this process' own: a share where torchrun has started several."""
    return max(processors() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1)


def own_device(name: str) -> str:
    """The device of this name; where it is CUDA, each process that torchrun started has its own.

    Raises UsageError where there are fewer of them than processes.
    """
    wanted = name == "auto" or name.startswith("cuda")
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    if alone or not wanted or not torch.cuda.is_available():
        return name
    rank, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if rank >= count:
        raise UsageError(
            f"there is no CUDA device {rank} here: there are {count}",
            "start no more processes than that, or use --device cpu",
        )
    return f"cuda:{rank}"


class Workers:
    """Forked copies of this process that search batches for it.

    They see the model as it is when they are made. They end with `close`, and when this
    process ends, however it does.
    """

    def __init__(self, search: Search, count: int) -> None:
        self._connections: list[Connection] = []
        self._processes = []
        context = multiprocessing.get_context("fork")
        gc.freeze()  # or the collector's marks would copy the memory that is shared
        for _ in range(count):
            ours, theirs = context.Pipe()
            self._connections.append(ours)
            process = context.Process(
                target=_serve, args=(theirs, tuple(self._connections), search), daemon=True
            )
            process.start()
            theirs.close()
            self._processes.append(process)

    def map(self, batches: Sequence[Batch]) -> list[list[list[Hypothesis]]]:
        """The results of the batches, in their order; the next batch goes to whoever is free.

        Raises what the search raised, and MTKitError when a process has died.
        """
        results: list[list[list[Hypothesis]]] = [[] for _ in batches]
        left = iter(enumerate(batches))
        busy: dict[Connection, int] = {}
        for connection, (index, batch) in zip(self._connections, left, strict=False):
            self._send(connection, batch)
            busy[connection] = index
        while busy:
            ready = wait(list(busy))
            for connection in [each for each in busy if each in ready]:
                results[busy.pop(connection)] = self._received(connection)
                if (following := next(left, None)) is not None:
                    busy[connection], batch = following
                    self._send(connection, batch)
        return results

    def close(self) -> None:
        """End the processes."""
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.terminate()
            process.join()

    @staticmethod
    def _send(connection: Connection, batch: Batch) -> None:
        try:
            connection.send(batch)
        except ConnectionError:
            raise _ended() from None

    @staticmethod
    def _received(connection: Connection) -> list[list[Hypothesis]]:
        try:
            result: list[list[Hypothesis]] | Exception = connection.recv()
        except (EOFError, ConnectionError):
            raise _ended() from None
        if isinstance(result, Exception):
            raise result
        return result


def _ended() -> MTKitError:
    return MTKitError(
        "a process that searched has ended unexpectedly",
        "memory may have run out: free some, or add --workers 1 where the command has it",
    )


def _serve(connection: Connection, others: Sequence[Connection], search: Search) -> None:
    """Search what comes until nothing can come any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that has the lines
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for other in others:  # the far ends, ours among them: held open, we would never see the end
        other.close()
    torch.set_num_threads(1)
    while True:
        try:
            batch = connection.recv()
        except (EOFError, ConnectionError):
            return
        try:
            connection.send(search(batch))
        except Exception as error:  # noqa: BLE001  it is raised where the lines are
            connection.send(error)
