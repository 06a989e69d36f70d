"""What a user does wrong becomes one sentence and a hint, and exit code 2."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mtkit.cli import app as command_line
from tests.cli.conftest import REPOSITORY, Call

QUICK = "phrasebook-ko-en-quickstart"
FAST = "multi30k-en-de-fast"


@pytest.mark.parametrize(
    ("arguments", "sentence", "hint"),
    [
        (["trian"], "no such command 'trian'", "did you mean 'train'?"),
        (["frobnicate"], "no such command 'frobnicate'", "see: mtkit --help"),
        (["recipe", "frobnicate"], "no such command 'frobnicate'", "see: mtkit recipe --help"),
        (["recipe", "shwo", "x"], "no such command 'shwo'", "did you mean 'show'?"),
        (["train", "--frobnicate"], "no such option: --frobnicate", "mtkit train --help"),
        (["translate"], "missing argument", "mtkit translate --help"),
        (["train", "--corpus", "a.de", "a.en"], "a.en is half of a name", "'a.{de,en}'"),
        (["train", QUICK, "--corpus", "a.de", "a.en"], "extra argument", "'a.{de,en}'"),
        (
            ["train", "--preset", "huge"],
            "there is no preset huge",
            "choose one of tiny, small, base",
        ),
        (["train", "--preset", "sutskever2015"], "no preset", "did you mean sutskever2014?"),
        (["train"], "nothing to learn from", "--source a.de --target a.en"),
        (["train", "--source", "a.de"], "--source needs --target", "--target"),
        (["train", "--source", "a.de", "--target", "a.en"], "a.de: no such file", "two text files"),
        (["train", "no.toml"], "no.toml: no such recipe", "mtkit recipe list"),
        (["train", "phrasebok-ko-en-quickstart"], "no such recipe", f"did you mean {QUICK}?"),
        (["train", QUICK, "--preset", "tiny"], "brings its own model", "leave --preset out"),
        (["train", QUICK, "--set", "training"], "not of the form section.key=value", "for example"),
        (
            ["train", QUICK, "--set", "training.warmup=3"],
            "unknown key training.warmup",
            "did you mean training.schedule.warmup?",
        ),
        (["train", QUICK, "--set", "model.heads=7"], "does not divide", "--set model.heads=4"),
        (["train", "--corpus", "phrasebook:ko-xx"], "xx", ""),
        (
            ["train", FAST],
            "data/multi30k/train.en does not exist",
            f"mtkit recipe show {FAST} says",
        ),
        (
            ["train", FAST, "--corpus", "phrasebook:ko-en"],
            "data/multi30k/val.en does not exist",
            "--valid names another",
        ),
        (
            ["recipe", "check", FAST],
            "data/multi30k/train.en does not exist",
            f"mtkit recipe show {FAST} says",
        ),
        (["translate", "nowhere"], "nowhere: there is no such model", "ls"),
        (["translate", "nowhere", "missing.txt"], "missing.txt: no such file", "stdin"),
        (["evaluate", "nowhere"], "nowhere: there is no such model", "see: ls ."),
        (["evaluate", "my runs/a"], "my runs/a: there is no such model", "see: ls 'my runs'"),
        (["show", "nowhere"], "nowhere: there is no such model", "see: ls ."),
        (["average", "my runs/a", "-o", "x"], "my runs/a: there is no such", "ls 'my runs'"),
        (["train", QUICK, "--plan", "--verify-resume"], "two questions", "one at a time"),
        (["recipe", "explain", "training.max_token"], "training.max_token", "training.max_tokens?"),
        (["recipe", "show", "quick"], "quick: no such recipe", "mtkit recipe list"),
        (["tokenizer", "encode", "missing.spm"], "missing.spm: cannot be read", ""),
    ],
)
def test_mistake_is_said_in_a_sentence_with_a_hint(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    arguments: list[str], sentence: str, hint: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    done = call(*arguments)
    assert done.code == 2
    assert done.out == ""
    said = [line for line in done.err.split("\n") if line]
    assert said[0].startswith("error: ")
    assert sentence in said[0]
    assert len(said) <= 2
    assert hint in (said[1] if len(said) > 1 else "")
    assert all(line.startswith("hint:  ") for line in said[1:])
    assert not (tmp_path / "runs").exists()


def test_recipe_beside_a_corpus_of_its_name_is_no_split_name(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.toml").write_text("[model]\nkind = 'transformer'\n")
    done = call("train", "my.toml", "--corpus", "my.tsv", "-o", "run")
    assert "my.tsv does not exist" in done.err
    assert "half of a name" not in done.err


def test_packed_corpus_of_a_shipped_recipe_is_found_near(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data/multi30k").mkdir(parents=True)
    Path("data/multi30k/train.en.gz").write_bytes(b"")
    done = call("train", FAST)
    assert done.code == 2
    assert "hint:  did you mean data/multi30k/train.en.gz?" in done.err


def test_unequal_files_are_named_with_their_lengths(call: Call, tmp_path: Path) -> None:
    (tmp_path / "hyp.txt").write_text("a\nb\n")
    (tmp_path / "ref.txt").write_text("a\n")
    done = call("evaluate", tmp_path / "hyp.txt", "--reference", tmp_path / "ref.txt")
    assert done.code == 2
    assert f"{tmp_path / 'hyp.txt'} has 2 lines but {tmp_path / 'ref.txt'} has 1" in done.err


def test_file_without_reference_is_told_how_to_be_scored(call: Call, tmp_path: Path) -> None:
    (tmp_path / "hyp.txt").write_text("a\n")
    done = call("evaluate", tmp_path / "hyp.txt")
    assert done.code == 2
    assert "--reference" in done.err


def test_traceback_is_shown_on_request_only(call: Call) -> None:
    assert "Traceback" not in call("show", "nowhere").err
    for arguments in (["--traceback", "show", "nowhere"], ["show", "nowhere", "--traceback"]):
        done = call(*arguments)
        assert done.code == 2
        assert "Traceback" in done.err
        assert "\nerror: nowhere" in done.err


def test_further_process_says_its_number_and_no_hint(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "3")
    assert call("show", "nowhere").err == "process 3: nowhere: there is no such model directory\n"


def test_system_s_error_is_a_sentence_that_names_the_file(
    call: Call, model: Path, tmp_path: Path
) -> None:
    """Wherever it comes from: here from the drawing of a picture."""
    pytest.importorskip("matplotlib", reason="needs pip install 'mtkit[plot]'")
    picture = tmp_path / "nowhere" / "map.svg"
    done = call("analyze", "attention", model, "--source", "the cat", "--plot", picture)
    assert done.code == 2
    assert done.err.startswith(f"error: {picture} cannot be used (No such file or directory)")


@pytest.mark.parametrize("arguments", [["show", "nowhere"], ["translate", "--help"]])
def test_nobody_who_reads_is_no_failure(arguments: list[str]) -> None:
    """As in `mtkit ... 2>&1 | head`, which has read enough."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "mtkit", *arguments]
    done = subprocess.run(command, stdout=writing, stderr=writing, check=False, cwd=REPOSITORY)
    os.close(writing)
    assert done.returncode == 141


def test_memory_that_ran_out_is_said(call: Call, model: Path) -> None:
    done = call("translate", model, "--max-length-ratio", 1e12, stdin_bytes=b"the cat\n")
    assert done.code == 1
    assert done.err.startswith("error: memory ran out\nhint:  try a smaller --batch")


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["train", "x.toml"], MemoryError(), "--set training.max_tokens=1024"),
        (["--traceback", "evaluate", "run"], MemoryError(), "a smaller --beam, or fewer --workers"),
        (["score", "run"], RuntimeError("CUDA out of memory"), "--device cpu"),
        (["score", "run"], MemoryError(), "a machine with more memory"),
        (["selftest", "run"], RuntimeError("CUDA out of memory"), "a machine with more memory"),
    ],
)
def test_less_memory_is_asked_for_by_flags_that_the_command_has(
    call: Call, monkeypatch: pytest.MonkeyPatch, arguments: list[str], error: Exception, hint: str
) -> None:
    def ran_out(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(command_line, "app", ran_out)
    said = call(*arguments).err
    assert "error: memory ran out\nhint: " in said
    assert hint in said
    assert "--batch" not in said


def test_export_that_cannot_be_verified_is_not_begun(
    call: Call, model: Path, tmp_path: Path
) -> None:
    done = call("export", model, "-o", tmp_path / "ct2", "--verify", "missing.tsv")
    assert done.code == 2
    assert "missing.tsv does not exist" in done.err
    assert not (tmp_path / "ct2").exists()


def test_unknown_tokenizer_is_told_before_anything_is_translated(
    call: Call, model: Path, tmp_path: Path
) -> None:
    corpus = "phrasebook:de-en:test#size=2"
    done = call("evaluate", model, corpus, "--tokenize", "x", "-o", tmp_path / "out")
    assert done.code == 2
    assert done.err.startswith("error: x is not a tokenizer of BLEU")
    assert not (tmp_path / "out").exists()


def test_unexpected_failure_is_a_sentence_and_exit_code_1(call: Call, tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text('{"parameters": "many"}')  # written by nobody
    (tmp_path / "recipe.toml").write_text("")
    done = call("show", tmp_path)
    assert done.code == 1
    assert done.err.startswith("error: unexpected ")
    assert "--traceback" in done.err
    assert "Traceback" not in done.err


def test_missing_weights_are_named(call: Call, model: Path, tmp_path: Path) -> None:
    for name in ("card.json", "recipe.toml", "joint.spm"):
        (tmp_path / name).write_bytes((model / name).read_bytes())
    done = call("translate", tmp_path, stdin_bytes=b"a\n")
    assert done.code == 2
    assert "weights.safetensors is missing" in done.err
    assert done.out == ""


@pytest.mark.parametrize("flags", [["-o", ""], ["--output", ""], ["--output="], ["-o"]])
def test_output_without_a_name_is_not_the_folder_we_are_in(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call("train", "phrasebook-ko-en-rnn", *flags)
    assert done.code == 2
    assert done.err.startswith("error: --output names nothing\nhint: ")
    assert [path for path in tmp_path.iterdir() if path.name != ".stdin"] == []


def test_page_that_would_be_a_folder_is_refused_at_once(call: Call, tmp_path: Path) -> None:
    done = call("compare", tmp_path / "nowhere", "--html", tmp_path)
    assert done.code == 2
    assert "--html" in done.err
    assert "is a directory" in done.err


def test_interrupt_while_the_command_is_imported_says_nothing() -> None:
    program = """
import os, signal, sys
from mtkit.__main__ import main
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "mtkit.cli.app":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGINT
    assert (done.stdout, done.stderr) == (b"", b"")
