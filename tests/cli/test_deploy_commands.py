"""Translating in parts: reports, resuming, several processes; exporting and self-testing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mtkit
from mtkit.cli.share import Part, Share, portion
from mtkit.models.transformer import Transformer
from tests.cli.conftest import REPOSITORY, Call, Spawn

TEXT = "".join(f"the cat saw {number} dogs\n" for number in range(40)) + "\n  \nlast without end"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_report_has_a_record_for_every_line(call: Call, model: Path, tmp_path: Path) -> None:
    long = "the cat saw a dog. " * 8
    text = f"the cat\n\n{long}\n{'cat' * 60}\nbad ".encode() + b"\xff\n"
    report = tmp_path / "report.jsonl"
    done = call("translate", model, "--report", report, stdin_bytes=text)
    assert done.code == 0
    records = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
    assert [record["line"] for record in records] == [1, 2, 3, 4, 5]
    statuses = [record["status"] for record in records]
    assert statuses == ["ok", "empty", "split", "over-long", "repaired"]
    assert set(records[0]) == {
        "line", "status", "source_tokens", "target_tokens", "score", "limited", "repetition",
        "unmet", "seconds",
    }  # fmt: skip
    assert all(record["seconds"] >= 0 for record in records)


def test_output_is_the_same_for_any_workers_and_batch(
    call: Call, model: Path, source: Path
) -> None:
    plain = call("translate", model, source, "--workers", 1).out
    assert plain.count("\n") == 43
    for flags in (["--workers", 2, "--batch", 30], ["--workers", 3, "--batch", 1], ["--batch", 64]):
        assert call("translate", model, source, *flags).out == plain


def test_model_that_cannot_be_compiled_translates_all_the_same(
    call: Call, model: Path, source: Path
) -> None:
    plain = call("translate", model, source)
    done = call("translate", model, source, "--compile")
    assert (done.code, done.out) == (0, plain.out)
    note = "note: translating without compiled functions: "
    assert [line for line in done.err.splitlines() if line.startswith(note)]
    assert note not in plain.err
    assert note not in call("translate", model, source, "--compile", "--quiet").err


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_every_precision_gives_every_line_a_line(
    call: Call, model: Path, source: Path, precision: str
) -> None:
    done = call("translate", model, source, "--precision", precision)
    assert done.code == 0
    assert done.out.count("\n") == 43


def test_stopped_output_is_gone_on_with(
    call: Call, model: Path, source: Path, tmp_path: Path
) -> None:
    """As it stands after a kill in the middle of a line: whole lines stay, the rest is made."""
    whole = call("translate", model, source).out
    target = tmp_path / "out.txt"
    flags = ["translate", model, source, "-o", target, "--resume"]
    assert call(*flags).code == 0
    assert target.read_text(encoding="utf-8") == whole
    target.unlink()
    _begin(call, flags, tmp_path, "kept\n" * 7 + "half a li")
    done = call(*flags)
    assert done.code == 0
    assert f"\n{whole.count(chr(10)) - 7} lines in" in f"\n{done.err}"  # of this sitting
    assert target.read_text(encoding="utf-8").split("\n")[:7] == ["kept"] * 7
    assert target.read_text(encoding="utf-8").split("\n")[7:] == whole.split("\n")[7:]
    assert [path.name for path in tmp_path.glob(".out*")] == []


def _begin(call: Call, flags: list[object], folder: Path, text: str) -> None:
    """Leave what a stopped run of the same call leaves, but with this text."""
    original = Part.finish
    Part.finish = lambda self: None  # type: ignore[method-assign]
    try:
        call(*flags)
    finally:
        Part.finish = original  # type: ignore[method-assign]
    (folder / ".out.txt.part").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("mistake", ["model", "options"])
def test_call_that_failed_before_its_first_line_is_not_begun(
    call: Call, model: Path, source: Path, tmp_path: Path, mistake: str
) -> None:
    rest = [source, "-o", tmp_path / "out.txt", "--resume"]
    wrong: dict[str, list[object]] = {
        "model": [tmp_path / "typo", *rest],
        "options": [model, *rest, "--beam", 4, "--search", "groups=3"],
    }
    failed = call("translate", *wrong[mistake])
    assert failed.code == 2
    assert "kept" not in failed.err
    assert list(tmp_path.glob(".out*")) == []
    assert call("translate", model, *rest).code == 0


@pytest.mark.parametrize("change", ["input", "options", "model"])
def test_output_of_another_call_is_not_gone_on_with(
    call: Call, model: Path, source: Path, tmp_path: Path, change: str
) -> None:
    target = tmp_path / "out.txt"
    flags: list[object] = ["translate", model, source, "-o", target, "--resume"]
    _begin(call, flags, tmp_path, "kept\n")
    if change == "input":
        source.write_text("another\n", encoding="utf-8")
    elif change == "options":
        flags += ["--beam", 1]
    else:
        loaded = mtkit.load(model)
        other = tmp_path / "other"
        loaded.model.output.weight.data.mul_(2)  # type: ignore[union-attr, operator]
        tokenizer = loaded.source_tokenizer
        mtkit.save(other, loaded.model, loaded.recipe, tokenizer, tokenizer, {})
        flags[1] = other
    done = call(*flags)
    assert done.code == 2
    assert f"was begun with another {change}" in done.err
    assert "rm " in done.err
    assert (tmp_path / ".out.txt.part").read_text(encoding="utf-8") == "kept\n"


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["-o", "out.gz"],
        ["-o", "out", "--n-best", "2"],
        ["-o", "out", "--search", "n_best=2"],
    ],
)
def test_what_cannot_be_resumed_is_refused(
    call: Call, model: Path, source: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source.parent)
    done = call("translate", model, source, "--resume", *flags)
    assert done.code == 2
    assert "Traceback" not in done.err


def test_interrupt_leaves_whole_lines_to_go_on_with(
    spawn: Spawn, call: Call, model: Path, tmp_path: Path
) -> None:
    source, target = tmp_path / "many.txt", tmp_path / "out.txt"
    source.write_text("".join(f"the cat saw {n} dogs\n" for n in range(20_000)), encoding="utf-8")
    with spawn("translate", model, source, "-o", target, "--resume", "--beam", 1) as process:
        part = tmp_path / ".out.txt.part"
        deadline = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    kept = part.read_bytes()
    assert kept.endswith(b"\n")
    assert f"{kept.count(10):,} lines of out.txt are kept".encode() in err
    assert not target.exists()


def test_two_processes_leave_one_ordered_file(
    call: Call, model: Path, source: Path, tmp_path: Path
) -> None:
    target, report = tmp_path / "out.txt", tmp_path / "report.jsonl"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "mtkit", "translate", str(model), str(source)]
    command += ["-o", str(target), "--report", str(report), "--resume"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr.decode()
    assert target.read_text(encoding="utf-8") == call("translate", model, source).out
    records = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
    assert [record["line"] for record in records] == list(range(1, 44))
    assert [path.name for path in tmp_path.glob(".out*")] == []


def test_shares_are_the_whole_and_portions_are_what_was_asked_for() -> None:
    for world in (1, 2, 3, 7):
        shares = [Share(rank, world).lines(20) for rank in range(world)]
        assert [line for share in shares for line in share] == list(range(20))
    groups = [[0, 1, 2], [3], [4, 5, 6, 7]]
    for wanted in (range(8), range(2, 5), range(3, 4), range(6, 99), range(8, 8)):
        found = [line for group in portion(iter(groups), wanted) for line in group]
        assert found == [line for line in range(8) if line in wanted]


def test_export_writes_a_folder_and_compares(call: Call, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2", reason="needs pip install 'mtkit[ctranslate2]'")
    for side in ("de", "en"):
        (tmp_path / f"test.{side}").write_text("the cat\nthe dog ate\n", encoding="utf-8")
    corpus = f"{tmp_path}/test.{{de,en}}"
    done = call("export", model, "-o", tmp_path / "ct2", "--verify", corpus)
    assert done.code == 0
    assert "of 2 lines the same" in done.out
    assert "BLEU" in done.out
    assert (tmp_path / "ct2" / "model.bin").exists()
    again = call("export", model, "-o", tmp_path / "ct2")
    assert again.code == 2
    assert "exists already" in again.err


def test_selftest_ends_with_1_where_a_promise_is_broken(
    call: Call, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("the cat\nthe dog ate a cat\nthe sun\n", encoding="utf-8")
    whole = Transformer.encode
    monkeypatch.setattr(  # padding that is seen
        Transformer, "encode", lambda self, source: whole(self, source.clamp_min(1))
    )
    done = call("selftest", model, lines)
    assert done.code == 1
    assert "BROKEN" in done.out


def test_selftest_shows_a_row_a_check(call: Call, model: Path, tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("the cat\nthe dog ate a cat\nthe sun\n", encoding="utf-8")
    done = call("selftest", model, lines)
    assert "a line does not depend on its neighbours" in done.out
    assert done.code == 0
    assert "BROKEN" not in done.out
    listed = call("selftest", model, lines, "--json").out
    records = [json.loads(line) for line in listed.splitlines()]
    assert [set(record) for record in records] == [{"name", "passed", "told"}] * 7
    lines.write_text("\n \n", encoding="utf-8")
    assert call("selftest", model, lines).code == 2
