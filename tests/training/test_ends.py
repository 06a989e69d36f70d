"""The last minutes of a run: what is learnt is safe before it is judged, averaged and tested."""

import os
import signal
from pathlib import Path

import pytest
import torch

from mtkit import Recipe, Translator, train
from mtkit.models.seq2seq import Seq2Seq
from mtkit.symbols import BOS
from mtkit.training import trainer
from mtkit.training.checkpoint import read_progress
from mtkit.training.events import Event, Finished, Noted, Started, Validated, Warned
from mtkit.training.host import stopping_at_signals
from mtkit.training.judge import Judge, Judgement
from tests.training.test_run import RECIPE, losses, same_bits, weights

UNDUE = "training.updates=20"  # no validation is due then: the last state is judged at the end


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "REPORT_SECONDS", 0.0)


def reasons(events: list[Event]) -> list[str]:
    return [event.reason for event in events if isinstance(event, Finished)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_in_the_last_validation_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    recipe = Recipe.parse(RECIPE).changed([UNDUE])
    judge, calls = Judge.validate, []

    def stopped(self: Judge, model: Seq2Seq) -> Judgement:
        calls.append(model)
        if len(calls) == 3:
            os.kill(os.getpid(), number)
        return judge(self, model)

    monkeypatch.setattr(Judge, "validate", stopped)
    events: list[Event] = []
    run = train(recipe, tmp_path / "run", listeners=[events.append])
    assert reasons(events) == ["interrupted"]
    assert read_progress(run / "checkpoints" / "000000020").validated
    train(recipe, run, listeners=[events.append])
    assert reasons(events) == ["interrupted", "reached 20 updates"]
    assert len(calls) == 3, "what was judged is not judged again"


@pytest.mark.parametrize(("lost_at", "update"), [(2, 16), (3, 20)], ids=["amidst", "at the end"])
def test_run_that_dies_in_a_validation_has_saved_what_was_to_be_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost_at: int, update: int
) -> None:
    recipe = Recipe.parse(RECIPE).changed([UNDUE, "validation.patience=9"])
    events: list[Event] = []
    whole = train(recipe, tmp_path / "whole", listeners=[events.append])
    judge, calls = Judge.validate, []

    def dies(self: Judge, model: Seq2Seq) -> Judgement:
        calls.append(model)
        if len(calls) == lost_at:
            raise MemoryError
        return judge(self, model)

    monkeypatch.setattr(Judge, "validate", dies)
    parts: list[Event] = []
    with pytest.raises(MemoryError):
        train(recipe, tmp_path / "parts", listeners=[parts.append])
    run = train(recipe, tmp_path / "parts", listeners=[parts.append])
    assert [event.resumed_at for event in parts if isinstance(event, Started)] == [None, update]
    assert losses(parts) == losses(events)
    assert same_bits(weights(whole), weights(run))
    newest = [read_progress(max((path / "checkpoints").iterdir())) for path in (whole, run)]
    assert newest[0].without_gain == newest[1].without_gain


@pytest.mark.parametrize("torn", [True, False])
def test_mean_is_of_whole_checkpoints_only(tmp_path: Path, torn: bool) -> None:
    recipe = Recipe.parse(RECIPE).changed(["training.average=3"])

    def damage(event: Event) -> None:
        if isinstance(event, Validated) and event.update == 24 and not event.averaged:
            path = tmp_path / "run" / "checkpoints" / "000000008" / "weights.safetensors"
            content = bytearray(path.read_bytes())
            content[-1] ^= 1
            path.write_bytes(b"torn" if torn else content)

    events: list[Event] = []
    train(recipe, tmp_path / "run", listeners=[damage, events.append])
    (warned,) = (event.message for event in events if isinstance(event, Warned))
    assert "000000008" in warned
    assert warned.endswith("it is left out of the mean")
    assert any(
        event.message.startswith("the mean of the last 2 checkpoints is ")
        for event in events
        if isinstance(event, Noted)
    )
    assert reasons(events) == ["reached 24 updates"]


def test_recipe_in_the_folder_follows_what_may_change(tmp_path: Path) -> None:
    recipe = Recipe.parse(RECIPE).changed(["training.updates=2", "data.test=[]"])
    run = train(recipe, tmp_path / "run")
    tested = recipe.changed(["data.test=['phrasebook:ko-en:test#size=10']"])
    train(tested, run)
    assert Recipe.load(run / "recipe.toml").data.test == tested.data.test
    events: list[Event] = []
    train(tested.changed(["search.beam=3"]), run, listeners=[events.append])
    assert any(isinstance(event, Started) for event in events), "it is tested with the new search"
    assert Recipe.load(run / "recipe.toml").search.beam == 3


def test_loss_of_a_validation_is_per_token_of_the_references(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against each pair alone, its log-probability by the model itself."""
    seen: list[tuple[float, float]] = []
    judge = Judge.validate

    def watched(self: Judge, model: Seq2Seq) -> Judgement:
        found = judge(self, model)
        total, tokens = 0.0, 0
        valid = self.data.valid
        for index in range(len(valid)):
            source = [int(token) for token in valid.source[index]]
            target = [int(token) for token in valid.target[index]]
            total -= _log_probability(model, source, target)
            tokens += len(target)
        seen.append((found.loss, total / tokens))
        return found

    monkeypatch.setattr(Judge, "validate", watched)
    train(Recipe.parse(RECIPE).changed(["training.updates=8"]), tmp_path / "run")
    ((told, summed),) = seen
    assert told == pytest.approx(summed, rel=1e-5)


def test_repeated_stop_under_torchrun_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def press(*numbers: signal.Signals) -> None:
        with stopping_at_signals(lambda: asked.append(True)):
            for number in numbers:
                os.kill(os.getpid(), number)

    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "one")
    press(signal.SIGTERM, signal.SIGINT, signal.SIGTERM)
    assert asked == [True]
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    with pytest.raises(KeyboardInterrupt):
        press(signal.SIGTERM, signal.SIGTERM)


@torch.no_grad()
def _log_probability(model: Seq2Seq, source: list[int], target: list[int]) -> float:
    """Of the target given the source, EOS included."""
    inputs = torch.tensor([[BOS, *target[:-1]]])
    logits = model(torch.tensor([source]), inputs)[0].double()
    return float(logits.log_softmax(-1)[range(len(target)), target].sum())


def test_search_of_an_ended_run_may_change_though_nothing_is_tested(tmp_path: Path) -> None:
    recipe = Recipe.parse(RECIPE).changed([UNDUE, "data.test=[]"])
    run = train(recipe, tmp_path / "run")
    before, made = (run / "recipe.toml").read_text(), weights(run)
    events: list[Event] = []
    train(recipe, run, listeners=[events.append])
    assert [type(event) for event in events] == [Finished]
    assert (run / "recipe.toml").read_text() == before
    train(recipe.changed(["search.beam=7"]), run, listeners=[events.append])
    assert [type(event) for event in events] == [Finished, Noted, Finished]
    assert Recipe.load(run / "recipe.toml") == Recipe.parse(before).changed(["search.beam=7"])
    assert Translator.load(run).options.beam == 7
    assert same_bits(weights(run), made)
    (run / "recipe.toml").unlink()
    train(recipe, run, listeners=[events.append])
    assert [type(event) for event in events[3:]] == [Finished], "it has ended all the same"
