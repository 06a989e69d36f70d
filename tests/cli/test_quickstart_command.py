"""The first command: what is there is kept, what is foreign is left alone."""

import socket
from pathlib import Path

import pytest

import mtkit
from mtkit.cli import quickstart
from mtkit.training.folder import RunFolder
from tests.cli.conftest import Call


def test_finished_quickstart_is_told_and_kept(call: Call, tmp_path: Path, model: Path) -> None:
    run = tmp_path / "quickstart"
    run.mkdir()
    for path in model.iterdir():
        (run / path.name).write_bytes(path.read_bytes())
    recipe = quickstart._recipe(tmp_path / "new", "ko", "en")
    recipe = recipe.changed(["data.test=phrasebook:ko-en:test#size=12"])
    (run / "recipe.toml").write_text(recipe.to_toml(), encoding="utf-8")
    ended = mtkit.Finished(
        run=run,
        reason="reached 4 epochs",
        update=9,
        best_update=9,
        scores={"bleu": 90.0},
        test={"bleu": 88.8},
        seconds=80.0,
    )
    RunFolder(run).finish(ended, recipe)
    (run / "test.txt").write_text("translated\n" * 12)
    weights = (run / "weights.safetensors").read_bytes()
    done = call("quickstart", run)
    assert done.code == 0, done.err
    assert "was trained on 20" in done.err
    assert "BLEU 88.8" in done.err
    assert done.out.count("translated") == 6
    for command in ("| mtkit translate", "mtkit train --source", "mtkit train --corpus"):
        assert command in done.err
    assert (run / "weights.safetensors").read_bytes() == weights
    other = call("quickstart", run, "--source", "de")
    assert other.code == 2
    assert "holds a run from ko to en" in other.err


def test_foreign_folder_is_left_alone(call: Call, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work\n")
    done = call("quickstart", tmp_path)
    assert done.code == 2
    assert [path.name for path in tmp_path.iterdir() if path.name != ".stdin"] == ["thesis.txt"]


def test_folder_in_use_is_told_with_the_argument_of_this_command(
    call: Call, tmp_path: Path
) -> None:
    with RunFolder(tmp_path / "run").alone():
        done = call("quickstart", tmp_path / "run", "--source", "de")
    assert done.code == 2
    assert "another process is training in this folder" in done.err
    assert "mtkit quickstart OTHER_DIR --source de --target en\n" in done.err
    assert "--output" not in done.err


def test_other_languages_have_their_own_corpora(tmp_path: Path) -> None:
    recipe = quickstart._recipe(tmp_path / "new", "de", "en")
    assert mtkit.open_corpora(recipe.data.train).languages == ("de", "en")
    assert mtkit.open_corpora(recipe.data.test).languages == ("de", "en")
    assert recipe.data.source_language == "de"


def test_quickstart_trains_scores_and_shows_without_a_network(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first command of the README, with fewer sentences, a small model and two updates."""

    def refused(*_: object) -> None:
        raise AssertionError("it wants the network")

    parse = mtkit.Recipe.parse
    small = [
        "data.train=phrasebook:ko-en:train#size=600", "data.valid=phrasebook:ko-en:valid#size=20",
        "data.test=phrasebook:ko-en:test#size=20", "tokenizer.vocabulary=1000", "model.width=16",
        "model.encoder_layers=1", "model.decoder_layers=1", "training.updates=2",
        "training.minutes=0", "training.epochs=0", "validation.every=1",
        "search.max_length_ratio=0.5",
    ]  # fmt: skip
    monkeypatch.setattr(
        mtkit.Recipe,
        "parse",
        lambda text, name="", changes=(): parse(text, name, [*changes, *small]),
    )
    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.chdir(tmp_path)
    done = call("quickstart")
    assert done.code == 0, done.err
    assert "on test sentences that it has never seen: BLEU" in done.err
    assert "reference" in done.out
    assert (tmp_path / "quickstart" / "weights.safetensors").is_file()
