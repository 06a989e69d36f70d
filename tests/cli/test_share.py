"""One output of several processes: in order, whole, and gone on with after any of them has died."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mtkit import UsageError
from mtkit.cli.share import Part, Share
from tests.cli.conftest import REPOSITORY, Call

ONE, OTHER = {"options": 1}, {"options": 2}


def part(path: Path, rank: int, identity: dict[str, int] = ONE, *, keep: bool = True) -> Part:
    return Part(path, identity, Share(rank, 2), keep=keep)


def written(opened: Part, text: str) -> None:
    opened.write(text)
    opened.finish()
    opened.close()


def test_part_that_an_earlier_call_left_is_not_joined(tmp_path: Path) -> None:
    """Not even while the process that will write it anew has not yet begun."""
    target = tmp_path / "out"
    written(part(target, 1, OTHER), "stale\n")
    first = part(target, 0, keep=False)
    joining = threading.Thread(target=written, args=(first, "a\n"))
    joining.start()
    joining.join(0.6)
    assert not target.exists()
    written(part(target, 1, keep=False), "b\n")
    joining.join(20)
    assert target.read_text() == "a\nb\n"
    assert list(tmp_path.iterdir()) == [target]


def test_part_that_was_whole_is_whole_for_the_next_sitting(tmp_path: Path) -> None:
    target = tmp_path / "out"
    written(part(target, 1), "b\nc\n")
    killed = part(target, 0)
    killed.write("a\nhalf a li")
    killed.close()
    second = part(target, 1)
    assert second.done == 2
    written(second, "d\n")
    first = part(target, 0)
    assert first.done == 1
    written(first, "x\n")
    assert target.read_text() == "a\nx\nb\nc\nd\n"


@pytest.mark.parametrize(("begun", "after"), [(2, 1), (2, 3), (1, 2)])
def test_another_number_of_processes_cannot_go_on(tmp_path: Path, begun: int, after: int) -> None:
    target = tmp_path / "out"
    opened = Part(target, ONE, Share(0, begun), keep=True)
    opened.write("a\n")
    opened.close()
    processes = "one process" if begun == 1 else f"{begun} processes"
    with pytest.raises(UsageError, match=f"was begun by {processes}"):
        Part(target, ONE, Share(0, after), keep=True)
    Part(target, ONE, Share(0, after), keep=False).close()  # anew


def test_second_call_at_one_output_is_refused(tmp_path: Path) -> None:
    first = part(tmp_path / "out", 0)
    first.write("a\n")
    with pytest.raises(UsageError, match="out: another call is writing it"):
        part(tmp_path / "out", 0)
    with pytest.raises(UsageError, match="out: another call is writing it"):
        part(tmp_path / "out", 0, keep=False)
    first.close()
    assert part(tmp_path / "out", 0).done == 1


def test_part_without_a_whole_line_is_not_begun(tmp_path: Path) -> None:
    """As a kill in the first line leaves it."""
    (tmp_path / ".out.0of2.part").write_text("half a li")
    (tmp_path / ".out.0of2.whose").write_text('{"options": 2}')
    opened = part(tmp_path / "out", 0)
    assert opened.done == 0
    opened.close()
    assert list(tmp_path.iterdir()) == []


def test_first_process_tells_what_any_of_them_has_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part(tmp_path / "out", 0).close()
    assert capsys.readouterr().err == ""
    second = part(tmp_path / "out", 1)
    second.write("a\n")
    second.close()
    part(tmp_path / "out", 0).close()
    said = "what 2 processes wrote of out is kept: the same command goes on there\n"
    assert capsys.readouterr().err == said


def test_what_is_to_be_removed_is_of_one_output_alone(tmp_path: Path) -> None:
    folder = tmp_path.resolve() / "my files"
    folder.mkdir()
    for name in ("out", "out.en"):
        opened = Part(folder / name, OTHER, Share(0, 1), keep=True)
        opened.write("a\n")
        opened.close()
    for share in (Share(0, 1), Share(0, 2)):
        with pytest.raises(UsageError, match="was begun") as caught:
            Part(folder / "out", ONE, share, keep=True)
        _, _, command = str(caught.value.hint).partition("start anew: ")
        left = [str(folder / ".out.part"), str(folder / ".out.whose")]
        assert shlex.split(command) == ["rm", *left]


def test_part_where_nothing_can_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"out cannot be written \(No such file or directory\)"):
        part(tmp_path / "nowhere" / "out", 0)


@contextmanager
def torchrun(*arguments: object) -> Iterator["subprocess.Popen[bytes]"]:
    """Two processes of `mtkit`, and what started them."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    with subprocess.Popen(
        [*launcher, "--nproc-per-node", "2", "-m", "mtkit", *map(str, arguments)],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
    ) as process:
        yield process


def process_of(launcher: int, rank: int) -> int:
    """The process of this rank that a launcher has started."""
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            return int(child)
    raise AssertionError(f"rank {rank} does not run")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_two_processes_go_on_where_one_was_killed(call: Call, model: Path, tmp_path: Path) -> None:
    source, target, report = tmp_path / "in.txt", tmp_path / "out.txt", tmp_path / "report.jsonl"
    source.write_text("".join(f"the cat saw {n} dogs\n\n" for n in range(3_000)), encoding="utf-8")
    command = ["translate", model, source, "-o", target, "--report", report, "--resume"]
    command += ["--beam", 1, "--workers", 1]
    grown = tmp_path / ".out.txt.1of2.part"
    with torchrun(*command) as process:
        deadline = time.monotonic() + 120
        while not (grown.exists() and grown.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process_of(process.pid, 1), signal.SIGKILL)
        _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    said = [line for line in err.decode().splitlines() if "the same command goes on there" in line]
    assert sorted(said) == [
        f"what 2 processes wrote of {path.name} is kept: the same command goes on there"
        for path in (target, report)
    ]
    assert not target.exists()
    kept = grown.read_bytes()
    with torchrun(*command) as process:
        _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err.decode()
    whole = target.read_bytes()
    assert whole.count(b"\n") == 6_000
    assert kept[: kept.rindex(b"\n") + 1] in whole
    alone = call("translate", model, source, "--beam", 1, "--workers", 1).out
    assert whole.decode() == alone
    assert report.read_bytes().count(b"\n") == 6_000
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != ".stdin") == [
        "in.txt", "out.txt", "report.jsonl",
    ]  # fmt: skip


def test_what_can_be_read_only_once_is_not_shared_or_resumed(
    call: Call, model: Path, tmp_path: Path
) -> None:
    source, target, pipe = tmp_path / "in.txt", tmp_path / "out.txt", tmp_path / "pipe"
    source.write_text("the cat saw a dog\n", encoding="utf-8")
    os.mkfifo(pipe)
    for files in ([source, "-"], [pipe]):
        command = ["translate", model, *files, "-o", target, "--resume", "--beam", 1]
        found = call(*command, stdin_bytes=b"the dog saw a cat\n")
        assert found.code == 2
        assert "only files can be shared among processes, or resumed" in found.err
        assert f"hint:  mtkit translate {model} in.txt -o out.txt --resume" in found.err
        assert not target.exists()
