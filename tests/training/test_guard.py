"""Updates that are no numbers are skipped, lost runs go back, large batches are halved."""

import math
import os
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mtkit import Memory, Recipe, train
from mtkit.data.batches import Batch, assemble, pad
from mtkit.errors import TrainingError
from mtkit.models.transformer import Transformer
from mtkit.recipe import TransformerSection
from mtkit.training import trainer
from mtkit.training.checkpoint import read_progress
from mtkit.training.events import Event, Progressed, Warned
from mtkit.training.guard import Guard, LossLostError, halves
from mtkit.training.loss import Objective
from tests.training.test_run import RECIPE, same_bits, stop_at, weights


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "REPORT_SECONDS", 0.0)


class Stumbling(Transformer):
    """A model that has a bad day at some updates (counted from 0), `times` times each."""

    def __init__(self, updates: range, times: int, factor: float = math.nan) -> None:
        torch.manual_seed(1)
        section = Recipe.parse(RECIPE).model
        assert isinstance(section, TransformerSection)
        super().__init__(section, 900, 900)
        # Each update has a seed of its own: by it the model knows where it is.
        self.left = {trainer._mix(1, update, 0): times for update in updates}
        self.factor = factor

    def features(self, inputs: Tensor, memory: Memory) -> Tensor:
        features = super().features(inputs, memory)
        if not self.training or not self.left.get(torch.initial_seed()):
            return features
        self.left[torch.initial_seed()] -= 1
        return features * self.factor


def warnings(events: list[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, Warned)]


@pytest.mark.parametrize("factor", [math.nan, math.inf, 1e6], ids=["nan", "inf", "exploding"])
def test_bad_update_is_skipped_and_counted(tmp_path: Path, factor: float) -> None:
    events: list[Event] = []
    model = Stumbling(range(5, 6), 9, factor)
    run = train(Recipe.parse(RECIPE), tmp_path / "run", listeners=[events.append], model=model)
    (said,) = warnings(events)
    assert "1 of 1 updates to update 6 were skipped" in said
    assert read_progress(run / "checkpoints" / "000000024").skipped == 1
    losses = [event.loss for event in events if isinstance(event, Progressed)]
    assert len(losses) == 23
    assert all(math.isfinite(loss) for loss in losses)


def test_run_with_a_skipped_update_is_resumed_exactly(tmp_path: Path) -> None:
    recipe = Recipe.parse(RECIPE)
    whole = train(recipe, tmp_path / "whole", model=Stumbling(range(9, 11), 9))
    for stop in (stop_at(Progressed, 12), lambda event: None):
        model = Stumbling(range(9, 11), 9)
        run = train(recipe, tmp_path / "parts", listeners=[stop], model=model)
    assert same_bits(weights(whole), weights(run))


def test_row_of_skipped_updates_is_seen_though_a_good_one_followed() -> None:
    """On a GPU the guard is asked once in a while only."""
    model = Stumbling(range(0), 0)
    guard = Guard(model, torch.optim.SGD(model.parameters(), 0.1))
    good, bad = torch.tensor(1.0), torch.tensor(math.nan)
    for norm in (bad, bad, good, bad):
        guard.step(norm)
    guard.check()
    for norm in (bad, bad, good):
        guard.step(norm)
    with pytest.raises(LossLostError):
        guard.check()
    guard.begin()
    guard.check()


def test_loss_that_is_lost_at_the_very_end_is_gone_back_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where nothing asks the guard between reports."""
    made = trainer.Trainer.update

    def unasked(self: trainer.Trainer, batches: list[Batch]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.guard, "check", lambda: None)
            made(self, batches)

    monkeypatch.setattr(trainer.Trainer, "update", unasked)
    monkeypatch.setattr(trainer, "REPORT_SECONDS", 1e9)
    events: list[Event] = []
    recipe = Recipe.parse(RECIPE).changed(["training.updates=23"])
    model = Stumbling(range(20, 23), 1)
    run = train(recipe, tmp_path / "run", listeners=[events.append], model=model)
    assert any("going back to update 16" in text for text in warnings(events))
    assert read_progress(run / "checkpoints" / "000000023").lowered == 1


@pytest.mark.parametrize("every", [600.0, 0.0], ids=["no save between", "saved at every update"])
@pytest.mark.parametrize(("first", "back_to"), [(10, 8), (3, 0)])
def test_lost_run_goes_back_at_half_the_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int, back_to: int, every: float
) -> None:
    """To the last validation: a save between goes by the clock, and no two runs would be alike."""
    monkeypatch.setattr(trainer, "SAVE_SECONDS", every)
    recipe = Recipe.parse(RECIPE).changed(["training.schedule.kind=constant"])
    recipe = recipe.changed(["training.schedule.warmup=0"])
    events: list[Event] = []
    model = Stumbling(range(first, first + 3), 1)
    run = train(recipe, tmp_path / "run", listeners=[events.append], model=model)
    assert any(
        f"going back to update {back_to}, from there on at 1/2" in w for w in warnings(events)
    )
    rates = [event.rate for event in events if isinstance(event, Progressed)]
    assert rates == [1e-3] * first + [5e-4] * (24 - back_to)
    ended = read_progress(run / "checkpoints" / "000000024")
    assert (ended.lowered, ended.skipped) == (1, 3)


def test_stop_in_a_skipped_update_waits_for_one_that_can_be_saved(tmp_path: Path) -> None:
    recipe = Recipe.parse(RECIPE)
    whole = train(recipe, tmp_path / "whole", model=Stumbling(range(5, 7), 9))

    def stop(event: Event) -> None:
        if isinstance(event, Warned) and "to update 6 were skipped" in event.message:
            os.kill(os.getpid(), signal.SIGINT)

    run = tmp_path / "parts"
    train(recipe, run, listeners=[stop], model=Stumbling(range(5, 7), 9))
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["000000008"]
    train(recipe, run, model=Stumbling(range(5, 7), 9))
    assert same_bits(weights(whole), weights(run))


def test_run_that_is_lost_at_any_rate_ends_and_keeps_its_last_checkpoint(tmp_path: Path) -> None:
    model = Stumbling(range(10, 24), 99)
    with pytest.raises(TrainingError, match="at any rate that was tried"):
        train(Recipe.parse(RECIPE), tmp_path / "run", model=model)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["000000008"]
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path / "run").values())


class Narrow(Transformer):
    """A model on a machine that has room for few sentences at once."""

    def __init__(self, room: int) -> None:
        torch.manual_seed(1)
        section = Recipe.parse(RECIPE).model
        assert isinstance(section, TransformerSection)
        super().__init__(section.model_copy(update={"dropout": 0.0}), 900, 900)
        self.room = room

    def encode(self, source: Tensor) -> Memory:
        if self.training and len(source) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().encode(source)


def test_batch_that_does_not_fit_is_taken_in_parts_with_the_same_result(tmp_path: Path) -> None:
    recipe = Recipe.parse(RECIPE).changed(
        ["training.updates=4", "training.optimizer.kind=sgd", "training.optimizer.rate=0.5"]
    )
    whole = train(recipe, tmp_path / "whole", model=Narrow(10**6))
    events: list[Event] = []
    parts = train(recipe, tmp_path / "parts", model=Narrow(6), listeners=[events.append])
    assert "sentences of up to" in warnings(events)[0]
    for name, tensor in weights(parts).items():
        torch.testing.assert_close(tensor, weights(whole)[name], rtol=1e-4, atol=1e-6)


def test_what_takes_most_memory_is_tried_through_all_layers(tmp_path: Path) -> None:
    section = Recipe.parse(RECIPE).model.model_copy(update={"layer_dropout": 0.9})
    seen: list[int] = []

    class Watched(Transformer):
        def encode(self, source: Tensor) -> Memory:
            if self.training:
                seen.append(len(self.layer_dropout(self.encoder)))
            return super().encode(source)

    torch.manual_seed(1)
    train(Recipe.parse(RECIPE), tmp_path / "run", model=Watched(section, 900, 900))
    first, *others = seen
    assert first == 1
    assert 0 in others


def test_sentence_that_does_not_fit_alone_ends_the_run_before_its_first_update(
    tmp_path: Path,
) -> None:
    events: list[Event] = []
    with pytest.raises(TrainingError, match=r"not enough memory for .* sentences of up to"):
        train(Recipe.parse(RECIPE), tmp_path / "run", model=Narrow(0), listeners=[events.append])
    assert not any(isinstance(event, Progressed) for event in events)


def test_halves_have_the_loss_and_the_gradient_of_the_whole() -> None:
    torch.manual_seed(2)
    model = Narrow(9).double()
    objective = Objective(model, 0.1)
    rows = [list(range(9, 9 + length)) for length in (7, 2, 5, 3, 6)]
    batch = assemble(pad(rows), pad(rows[::-1]))

    def learnt(batches: list[Batch]) -> list[Tensor]:
        model.zero_grad()
        torch.stack([objective(batch)[0] for batch in batches]).sum().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    for one, two in zip(learnt([batch]), learnt(halves(batch)), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)
