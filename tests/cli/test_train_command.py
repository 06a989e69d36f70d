"""From a recipe, or from two files, to a run that goes on where it was stopped."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import mtkit
from mtkit.cli import train
from tests.cli.conftest import REPOSITORY, Call, Spawn

SMALL = [
    "--set", "model.width=16", "--set", "model.heads=2", "--set", "model.feed_forward=16",
    "--set", "model.encoder_layers=1", "--set", "model.decoder_layers=1",
    "--set", "tokenizer.vocabulary=900", "--set", "search.beam=1", "--set", "training.average=1",
    "--set", "search.max_length_ratio=0.1", "--set", "search.max_length_offset=4",
    "--set", "validation.sentences=10", "--set", "training.precision=float32",
]  # fmt: skip
CORPORA = [
    "--corpus",
    "phrasebook:ko-en:train#size=300",
    "--valid",
    "phrasebook:ko-en:valid#size=10",
]


def test_run_ends_is_told_and_is_not_trained_twice(call: Call, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = ["train", *CORPORA, "--test", "phrasebook:ko-en:test#size=10", "-o", run, *SMALL]
    command += ["--set", "training.updates=4", "--set", "validation.every=2"]
    done = call(*command)
    assert done.code == 0, done.err
    assert done.out == ""
    assert "reached 4 updates" in done.err
    assert f"mtkit translate {run}" in done.err
    weights = (run / "weights.safetensors").read_bytes()
    again = call(*command)
    assert again.code == 0
    assert "come to its end already; longer: " in again.err
    assert "--set training.updates=8" in again.err
    assert (run / "weights.safetensors").read_bytes() == weights
    other = call(*command, "--set", "model.width=32")
    assert other.code == 2
    assert "model.width = 16, not 32" in other.err
    _show_average_evaluate(call, run, tmp_path)


def _show_average_evaluate(call: Call, run: Path, tmp_path: Path) -> None:
    """What can be done with a run afterwards."""
    card = json.loads(call("show", run, "--json").out)
    assert card["parameters"] > 0
    assert len(card["validations"]) == 2
    shown = call("show", run).out
    assert "ko -> en" in shown
    assert "tok:13a" in shown
    assert "BLEU" in shown
    assert "2 4 updates" in shown
    mean = tmp_path / "mean"
    averaged = call("average", run, "--last", 2, "-o", mean)
    assert averaged.code == 0, averaged.err
    assert call("average", run, "-o", mean).code == 2, "a model is never overwritten"
    assert call("translate", mean, stdin_bytes=b"x\n").out.count("\n") == 1
    scored = call("evaluate", run, "--json", "-o", tmp_path / "test.txt")
    assert scored.code == 0
    assert (tmp_path / "test.txt").read_bytes() == (run / "test.txt").read_bytes()
    scores = {score["name"]: score["value"] for score in json.loads(scored.out)["scores"]}
    assert scores == pytest.approx(card["test"]["scores"])
    pytest.importorskip("matplotlib", reason="needs pip install 'mtkit[plot]'")
    assert call("show", run, "--plot", tmp_path / "curves.svg").code == 0
    assert (tmp_path / "curves.svg").read_bytes().startswith(b"<?xml")


def test_two_files_are_enough(call: Call, tmp_path: Path) -> None:
    pairs = list(mtkit.open_corpus("phrasebook:ko-en:train#size=120"))
    (tmp_path / "a.ko").write_text("".join(f"{p.source}\n" for p in pairs), encoding="utf-8")
    (tmp_path / "a.en").write_text("".join(f"{p.target}\n" for p in pairs), encoding="utf-8")
    files = ["--source", tmp_path / "a.ko", "--target", tmp_path / "a.en"]
    limits = ["--set", "training.updates=2", "--set", "data.held_out=10"]
    done = call(
        "train", *files, "-o", tmp_path / "run", "--preset", "tiny", *SMALL, *limits, "--json"
    )
    assert done.code == 0, done.err
    events = [json.loads(line) for line in done.out.strip().split("\n")]
    kinds = [event["event"] for event in events]
    assert kinds[-1] == "finished"
    assert {"started", "validated", "saved"} <= set(kinds)
    recipe = mtkit.Recipe.load(tmp_path / "run" / "recipe.toml")
    assert (recipe.data.source_language, recipe.data.target_language) == ("ko", "en")
    assert any("10" in note for event in events for note in event.get("notes", ()))


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_interrupted_run_is_saved_and_goes_on(
    spawn: Spawn, call: Call, tmp_path: Path, stop: signal.Signals
) -> None:
    command = [
        "train",
        *CORPORA,
        "-o",
        tmp_path / "run",
        *SMALL,
        "--set",
        "training.updates=100000",
    ]
    process = spawn(*command, "--json")
    assert process.stdout is not None
    assert process.stderr is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "progressed":
            break
    process.send_signal(stop)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err.decode()
    assert b"run the same command again to go on" in err
    assert b"Traceback" not in err
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    reached = int(checkpoint.name)
    done = call(*command, "--json", "--set", f"training.updates={reached + 2}")
    assert done.code == 0, done.err
    started = next(json.loads(x) for x in done.out.split("\n") if '"started"' in x)
    assert started["resumed_at"] == reached


@pytest.mark.parametrize(
    ("source", "target", "name"),
    [
        ("d/train.de", "d/train.en", "d/train.{de,en}"),
        ("x.de-en.de.gz", "x.de-en.en.gz", "x.de-en.{de,en}.gz"),
        ("a.de", "b.en", "{a.de,b.en}"),
        ("one/a.de", "two/a.en", "{one/a.de,two/a.en}"),
        ("source", "target", "{source,target}"),
    ],
)
def test_two_files_have_one_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, target: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (Path(source), Path(target)):
        path.parent.mkdir(exist_ok=True)
        path.write_text("x\n")
    if source.endswith(".gz"):
        assert train.corpus_name(Path(source), Path(target)) == name
        return
    assert train.corpus_name(Path(source), Path(target)) == name
    assert len(list(mtkit.open_corpus(name))) == 1


def test_one_file_is_no_translation_of_itself(call: Call, tmp_path: Path) -> None:
    (tmp_path / "a.de").write_text("eins\n")
    (tmp_path / "b.de").symlink_to(tmp_path / "a.de")
    done = call("train", "--source", tmp_path / "a.de", "--target", tmp_path / "b.de")
    assert done.code == 2
    assert f"{tmp_path}/a.de is both --source and --target" in done.err


def test_plan_and_proof_leave_nothing_behind(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    command = ["train", *CORPORA, "-o", here / "run", *SMALL, "--set", "training.updates=5000"]
    command += ["--set", "training.epochs=0", "--set", "training.minutes=0"]
    done = call(*command, "--plan", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["updates"] == 5000
    assert found["seconds"] == pytest.approx(5000 * found["seconds_per_update"])
    assert found["memory"] > 10**8
    told = call(*command, "--plan").out.split("\n")
    assert [line.split("  ")[0] for line in told[:-1]] == [
        "parameters", "an epoch", "speed", "the run", "memory", "disk",
    ]  # fmt: skip
    proved = call(*command, "--verify-resume")
    assert proved.code == 0, proved.err
    assert proved.out == "weights   the same\nlosses    the same\nbatches   the same\n"
    assert "a run stopped after 10 of 20 updates goes on, exactly" in proved.err
    assert list(here.iterdir()) == []


def test_default_output_is_named_after_the_recipe(tmp_path: Path) -> None:
    recipe = mtkit.Recipe.from_table({"data": {"source_language": "de", "target_language": "en"}})
    assert train.default_output("phrasebook-ko-en-quickstart", recipe) == Path(
        "runs/phrasebook-ko-en-quickstart"
    )
    assert train.default_output(None, recipe) == Path("runs/de-en")
    assert train.default_output(str(tmp_path), recipe) == tmp_path


def by_torchrun(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """`torchrun --nproc-per-node 2 -m mtkit train ...`"""
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "mtkit"]
    command = [sys.executable, "-m", *launcher, "train", *arguments, "--device", "cpu"]
    return subprocess.run(
        [str(part) for part in command],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_processes_that_train_together_leave_one_model_and_say_things_once(
    call: Call, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    done = by_torchrun(*CORPORA, "-o", run, *SMALL, "--set", "training.updates=4")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(f"the model is in {run}") == 1
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().split("\n")[:-1]]
    assert [entry["event"] for entry in log].count("finished") == 1
    assert call("translate", run, stdin_bytes=b"x\n").out.count("\n") == 1


def test_processes_that_train_together_say_a_mistake_once(tmp_path: Path) -> None:
    (tmp_path / "a.de").write_text("eins\nzwei\ndrei\n")
    (tmp_path / "a.en").write_text("one\n")
    files = ["--source", tmp_path / "a.de", "--target", tmp_path / "a.en", "-o", tmp_path / "run"]
    done = by_torchrun(*files)
    said = [line for line in done.stderr.split("\n") if line.startswith(("error: ", "process "))]
    assert done.returncode != 0
    (mistake,) = (line for line in said if line.startswith("error: "))
    assert f"{tmp_path}/a.de has 3 lines but {tmp_path}/a.en has 1" in mistake
    # The launcher may end the other process before it has noticed anything.
    rest = [line for line in said if line != mistake]
    assert rest in ([], ["process 1: ended, because another process has ended"])
