"""What a long input costs: memory and lines a second of `mtkit translate`, from start to end.

The sentences of a file are repeated until there are enough lines, and go through a pipe as fast as
they are taken; what follows the file is for `mtkit translate`:

    python tests/bench/many_lines.py --lines 1000000 runs/tiny test.de --beam 1

A row is printed for every 100,000 lines that have come back: lines a second, and a second of a
processor, which does not depend on what else the machine does. Memory is that of the command and
its workers, pages that they share counted once (Linux tells it). The order is checked too: each
time a sentence returns, its translation must be the one that it had the first time, so that a line
lost, doubled or exchanged would be seen.
"""

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from typing import IO


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--every", type=int, default=100_000)
    parser.add_argument("model", type=Path)
    parser.add_argument("sentences", type=Path)
    parser.add_argument("flags", nargs=argparse.REMAINDER, help="for mtkit translate")
    given = parser.parse_args()
    sentences = given.sentences.read_bytes().splitlines()
    command = [sys.executable, "-m", "mtkit", "translate", str(given.model), *given.flags]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        lines = islice(cycle(sentences), given.lines)
        threading.Thread(target=feed, args=(process.stdin, lines), daemon=True).start()
        came = watch(process.stdout, process.pid, len(sentences), given.every)
    print(f"{came:,} of {given.lines:,} lines, exit code {process.returncode}")
    if came != given.lines or process.returncode:
        sys.exit(1)


def feed(stdin: IO[bytes], lines: "islice[bytes]") -> None:
    """Write the lines as they are taken, and end the input."""
    with suppress(BrokenPipeError), stdin:
        for line in lines:
            stdin.write(line + b"\n")


def watch(stdout: IO[bytes], pid: int, period: int, every: int) -> int:
    """Read all that comes back; print a row for each `every` lines. How many came."""
    first: list[bytes] = []
    count, exchanged = 0, 0
    before, worked = time.monotonic(), 0.0
    print("    lines  lines/s  lines/processor-s  MiB")
    for count, line in enumerate(stdout, start=1):
        if count <= period:
            first.append(line)
        elif line != first[(count - 1) % period]:
            exchanged += 1
        if count % every == 0:
            now, work = time.monotonic(), processor_seconds(pid)
            speeds = f"{every / (now - before):8,.0f} {every / (work - worked):18,.0f}"
            print(f"{count:9,} {speeds} {memory(pid):4.0f}", flush=True)
            before, worked = now, work
    print(f"{len(set(first)):,} different translations of {len(first):,}; exchanged: {exchanged}")
    if exchanged:
        sys.exit("lines came back in another order")
    return count


def processor_seconds(pid: int) -> float:
    """What a process and its descendants have computed so far."""
    fields = [
        Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split() for each in tree(pid)
    ]
    ticks = sum(int(field[11]) + int(field[12]) for field in fields)
    return ticks / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> float:
    """MiB of a process and of all that it has started."""
    return sum(map(proportional, tree(pid))) / 1024


def tree(pid: int) -> Sequence[int]:
    """The process and its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in tree(int(child)))]


def proportional(pid: int) -> int:
    """KiB of a process, a page that n processes share counted as 1/n."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


if __name__ == "__main__":
    main()
