"""A line in, a line out: on stdin, in files, while typing, and when nobody reads on."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mtkit
from tests.cli.conftest import Call, Spawn
from tests.conftest import Place

AWKWARD = "the cat\r\n\n  \t\nthe\u2028dog\x85\x0b ate\nbad \udcff byte\nthe \0 sun"


def awkward() -> bytes:
    return AWKWARD.encode("utf-8", "surrogateescape")


def test_every_line_gets_a_line(call: Call, model: Path) -> None:
    done = call("translate", model, stdin_bytes=awkward())
    assert done.code == 0
    lines = done.out.split("\n")
    assert lines[-1] == ""
    assert len(lines) == 7
    assert (lines[1], lines[2]) == ("", "")
    assert done.err.count("warning: 2 lines held NUL or bytes") == 1
    assert "first: line 5" in done.err


def test_output_does_not_depend_on_how_lines_arrive(
    call: Call, model: Path, tmp_path: Path
) -> None:
    text = b"the cat saw a dog\nthe sun\nthe dog ate\n"
    (tmp_path / "in.txt").write_bytes(text)
    (tmp_path / "in.txt.gz").write_bytes(gzip.compress(text))
    piped = call("translate", model, stdin_bytes=text).out
    assert call("translate", model, tmp_path / "in.txt").out == piped
    assert call("translate", model, tmp_path / "in.txt.gz").out == piped
    both = call("translate", model, tmp_path / "in.txt", "-", "--batch", 5, stdin_bytes=text).out
    assert both == piped * 2


def test_output_without_room_is_a_sentence_and_leaves_what_was_there(
    call: Call, model: Path, place: Place, tmp_path: Path
) -> None:
    target, lines = place.folder / "out.txt", tmp_path / "in.txt"
    target.write_bytes(b"before\n")
    lines.write_bytes(b"the cat saw a dog\n" * 1000)
    place.close()
    done = call("translate", model, lines, "-o", target, "--beam", 1)
    place.open()
    assert done.code == 2
    assert done.out == ""
    said = [line for line in done.err.split("\n") if line]
    assert said[0].startswith(f"error: {target} cannot be written (")
    assert said[1:] == ["hint:  name another --output"]
    assert target.read_bytes() == b"before\n"
    assert {path.name for path in place.folder.iterdir()} <= {"out.txt"}


def test_output_file_is_whole_or_not_there(call: Call, model: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    done = call("translate", model, "-o", target, stdin_bytes=b"the cat\nthe dog\n")
    assert done.code == 0
    assert done.out == ""
    assert target.read_text(encoding="utf-8").count("\n") == 2
    before = target.read_bytes()
    failed = call("translate", tmp_path / "none", "-o", target, stdin_bytes=b"the cat\n")
    assert failed.code == 2
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.glob(".*.part")] == []
    assert call("translate", model, "-o", tmp_path, stdin_bytes=b"x\n").code == 2


def test_file_that_is_read_is_not_written_over(call: Call, model: Path, tmp_path: Path) -> None:
    source, link = tmp_path / "in.de", tmp_path / "link.txt"
    source.write_bytes(b"the cat\n")
    (tmp_path / "in.en").write_bytes(b"a cat\n")
    link.symlink_to(source)
    corpus = f"<2en> {tmp_path}/in.{{de,en}}"
    for command in (
        ["translate", model, source, "-o", source],
        ["translate", model, source, "-o", link],
        ["translate", model, source, "--report", source],
        ["translate", model, source, "--report", model / "card.json"],
        ["evaluate", model, corpus, "-o", tmp_path / "in.en"],
        ["score", model, corpus, "-o", source],
        ["evaluate", model, corpus, "-o", model / "card.json"],
        ["score", model, corpus, "-o", model / "card.json"],
    ):
        done = call(*command)
        assert done.code == 2
        assert "its text would be lost" in done.err
    twice = call("translate", model, source, "-o", tmp_path / "out", "--report", tmp_path / "out")
    assert twice.code == 2
    assert "is to be written twice" in twice.err
    assert source.read_bytes() == b"the cat\n"


@pytest.mark.parametrize("more", [[], ["--resume"]])
def test_report_that_cannot_be_written_is_told_by_its_flag(
    call: Call, model: Path, tmp_path: Path, more: list[str]
) -> None:
    source, report = tmp_path / "in.txt", tmp_path / "nowhere" / "report"
    source.write_bytes(b"the cat\n")
    done = call("translate", model, source, "-o", tmp_path / "out", "--report", report, *more)
    assert done.code == 2
    assert done.err.startswith(f"error: {report} cannot be written (")
    assert done.err.endswith("\nhint:  name another --report\n")
    assert {path.name for path in tmp_path.iterdir()} <= {"in.txt", ".stdin"}


def test_report_of_records_is_of_what_they_say(
    call: Call, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[str] = []
    report_of = mtkit.line_report

    def seen(
        number: int, source: str, found: mtkit.Translation, seconds: float
    ) -> dict[str, object]:
        judged.append(source)
        return report_of(number, source, found, seconds)

    monkeypatch.setattr("mtkit.decoding.report.line_report", seen)
    records = ['{"source": "the \\u0063at"}', "nothing", '{"source": " "}']
    records.append('{"source": "the sun", "prefix": "cat", "forbidden": ["cat"]}')
    records.append('{"source": "the dog", "constraints": ["dog"], "id": 7}')
    report = tmp_path / "report"
    flags = ["--json-lines", "--report", report, "--search", "temperature=1"]
    done = call("translate", model, *flags, stdin_bytes="\n".join(records).encode())
    assert done.code == 0
    assert judged == ["the cat", "", " ", "the sun", ""]
    told = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
    statuses = [record["status"] for record in told]
    assert statuses == ["ok", "refused", "empty", "ok", "refused"]
    assert [record["unmet"] for record in told] == [[], [], [], ["cat"], []]
    assert "warning: 1 translation is not as was asked" in done.err
    assert "(first: line 4, cat)" in done.err
    assert json.loads(done.out.splitlines()[4])["id"] == 7


def test_link_stays_a_link_to_what_was_written(call: Call, model: Path, tmp_path: Path) -> None:
    target, link = tmp_path / "out.txt", tmp_path / "link.txt"
    link.symlink_to(target)
    assert call("translate", model, "-o", link, stdin_bytes=b"the cat\n").code == 0
    assert link.is_symlink()
    assert target.read_bytes().count(b"\n") == 1


def test_named_pipe_is_read(spawn: Spawn, model: Path, tmp_path: Path) -> None:
    source = tmp_path / "in"
    os.mkfifo(source)
    with spawn("translate", model, source) as process:
        source.write_bytes(b"the cat\nthe dog\n")
        assert process.stdout is not None
        assert process.stdout.read().count(b"\n") == 2
        assert process.wait(30) == 0


def test_named_pipe_is_written_and_stays(spawn: Spawn, model: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(b"the cat\nthe dog\n")
    os.mkfifo(target)
    with spawn("translate", model, source, "-o", target) as process:
        assert target.read_bytes().count(b"\n") == 2
        assert process.wait(30) == 0
    assert target.is_fifo()


def test_output_that_ends_in_gz_is_packed(call: Call, model: Path, tmp_path: Path) -> None:
    plain = call("translate", model, stdin_bytes=b"the cat\n").out
    target = tmp_path / "out.gz"
    assert call("translate", model, "-o", target, stdin_bytes=b"the cat\n").code == 0
    assert gzip.decompress(target.read_bytes()).decode() == plain


@pytest.mark.parametrize(
    "whole", [gzip.compress(b"the cat\n" * 99, mtime=0)[:-9], b"the cat\n"], ids=["cut", "plain"]
)
def test_damaged_gz_is_an_error_that_names_it(
    call: Call, model: Path, tmp_path: Path, whole: bytes
) -> None:
    source = tmp_path / "in.gz"
    source.write_bytes(whole)
    done = call("translate", model, source)
    assert done.code == 2
    assert done.err.startswith(f"error: {source} cannot be read")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="this system has no /proc")
def test_file_that_cannot_be_read_is_an_error_with_a_hint(call: Call, model: Path) -> None:
    done = call("translate", model, "/proc/self/mem")
    assert done.code == 2
    assert done.err.startswith("error: /proc/self/mem cannot be read (Input/output error)\n")
    assert "hint:  see what it is: ls -l /proc/self/mem" in done.err


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_closed_standard_stream_is_no_accident(model: Path, tmp_path: Path, stream: str) -> None:
    (tmp_path / "in.txt").write_bytes(b"the cat\n")
    number = {"stdin": 0, "stdout": 1, "stderr": 2}[stream]
    command = [sys.executable, "-m", "mtkit", "translate", model]
    command += [] if stream == "stdin" else [tmp_path / "in.txt"]
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {number}>&-', "sh", *map(str, command)],
        capture_output=True,
        check=False,
    )
    if stream == "stderr":
        assert (done.returncode, done.stdout.count(b"\n")) == (0, 1)
    else:
        assert done.returncode == 2
        assert done.stderr.decode().startswith(f"error: {stream} is closed")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_full_disk_is_an_error_without_a_traceback(call: Call, model: Path) -> None:
    done = call("translate", model, "-o", "/dev/full", stdin_bytes=b"the cat\n")
    assert done.code == 2
    assert done.err.startswith("error: /dev/full cannot be written (No space left on device)")
    assert Path("/dev/full").is_char_device()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_stdout_without_room_is_an_error_with_a_hint(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_bytes(b"the cat\n")
    command = [sys.executable, "-m", "mtkit", "translate", str(model), str(tmp_path / "in.txt")]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 2
    said = "error: stdout cannot be written (No space left on device)"
    assert done.stderr.decode() == f"{said}\nhint:  write to another place: > FILE\n"


@pytest.mark.parametrize("option", ["--max-length-ratio", "--length-penalty"])
def test_infinite_options_are_refused(call: Call, model: Path, option: str) -> None:
    done = call("translate", model, option, "inf", stdin_bytes=b"the cat\n")
    assert done.code == 2
    assert "finite" in done.err


def test_json_says_what_became_of_each_line(call: Call, model: Path) -> None:
    source = "the cat saw a dog. " * 8
    text = f"the cat\n\n{source}\n".encode()
    done = call("translate", model, "--json", "--n-best", 2, stdin_bytes=text)
    records = [json.loads(line) for line in done.out.strip().split("\n")]
    assert [record["line"] for record in records] == [1, 2, 3]
    assert [record["status"] for record in records] == ["ok", "empty", "split"]
    assert len(records[0]["alternatives"]) == 2
    assert records[0]["alternatives"][0]["text"] == records[0]["translation"]
    assert "line 3 was longer than the model takes" in done.err
    assert "it takes 12" in done.err


def test_n_best_is_a_table_with_line_numbers(call: Call, model: Path) -> None:
    done = call("translate", model, "--n-best", 3, stdin_bytes=b"the cat\n\nthe dog\n")
    rows = [line.split("\t") for line in done.out.rstrip("\n").split("\n")]
    assert [row[0] for row in rows] == ["1", "1", "1", "2", "3", "3", "3"]
    scores = [float(row[1]) for row in rows[:3]]
    assert scores == sorted(scores, reverse=True)
    assert all(len(row) == 3 for row in rows)


def test_scores_stand_before_the_text(call: Call, model: Path) -> None:
    plain = call("translate", model, stdin_bytes=b"the cat\n").out
    score, text = call("translate", model, "--scores", stdin_bytes=b"the cat\n").out.split("\t")
    assert text == plain
    assert float(score) < 0


def test_search_flags_reach_the_search(call: Call, model: Path) -> None:
    longest = call("translate", model, "--json", "--max-length-ratio", 5, stdin_bytes=b"the cat\n")
    greedy = call("translate", model, "--json", "--beam", 1, stdin_bytes=b"the cat\n")
    translator = mtkit.Translator.load(
        model, options=mtkit.SearchOptions(beam=1, max_length_ratio=1.0, max_length_offset=3)
    )
    assert json.loads(greedy.out)["translation"] == translator.translate(["the cat"])[0].text
    assert json.loads(longest.out)["tokens"] != json.loads(greedy.out)["tokens"]


def test_quiet_keeps_warnings(call: Call, model: Path) -> None:
    tagged = call("translate", model, "--quiet", "--tag", "<2xx>", stdin_bytes=b"the cat\n")
    assert tagged.err.startswith("warning: <2xx> is no token of the model's vocabulary")
    assert call("translate", model, "--quiet", stdin_bytes=b"the cat\n").err == ""
    assert "warning" in call("translate", model, "--quiet", stdin_bytes=b"\xff\n").err


def test_typed_line_is_answered_before_the_next(spawn: Spawn, model: Path) -> None:
    with spawn("translate", model) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in (b"the cat\n", b"\n", b"the dog\n"):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline().endswith(b"\n")
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.wait(30) == 0


def test_closed_pipe_ends_quietly(spawn: Spawn, model: Path) -> None:
    with spawn("translate", model) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(b"the cat\n")
        process.stdin.flush()
        process.stdout.readline()
        process.stdout.close()
        try:
            process.stdin.write(b"the dog\n" * 50)
            process.stdin.close()
        except BrokenPipeError:
            pass
        assert process.wait(30) == 141
        assert process.stderr.read() == b""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_leaves_no_unfinished_file(
    spawn: Spawn, model: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with spawn("translate", model, "-o", tmp_path / "out") as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(60) == code
    assert list(tmp_path.iterdir()) == []


def test_interrupt_ends_with_130_and_leaves_whole_lines(
    spawn: Spawn, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "in.txt").write_bytes(b"the cat saw a dog\n\n" * 20_000)
    process = spawn("translate", model, tmp_path / "in.txt", "--workers", 1)
    assert process.stdout is not None
    assert process.stderr is not None
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest = process.stdout.read()  # `communicate` would lose what readline has read ahead
    err = process.stderr.read()
    assert process.wait(60) == 130
    lines = (first + rest).split(b"\n")
    assert lines[-1] == b""
    assert 0 < len(lines) < 40_000
    assert set(lines[:-1:2]) == {first[:-1]}
    assert set(lines[1:-1:2]) <= {b""}
    assert b"Traceback" not in err


@pytest.mark.parametrize("flags", [[], ["--json"], ["--scores"]])
def test_stdout_holds_data_only(call: Call, model: Path, flags: list[str]) -> None:
    done = call("translate", model, *flags, stdin_bytes=b"the cat\n\xff\n" + b"a b c d " * 20)
    assert len(done.out.rstrip("\n").split("\n")) == 3
    assert "\x1b" not in done.out + done.err
    assert "note" not in done.out
    assert "warning" not in done.out
