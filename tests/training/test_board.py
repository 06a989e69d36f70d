"""What TensorBoard reads of a run, stopped and gone on with."""

from pathlib import Path

import pytest

from mtkit import Recipe, train
from mtkit.training import trainer
from mtkit.training.events import Event, Progressed, Validated
from tests.training.test_run import RECIPE, stop_at

accumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator",
    reason="needs pip install -e .[tensorboard]",
)


def test_tensorboard_reads_what_the_run_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(trainer, "REPORT_SECONDS", 0.0)
    recipe = Recipe.parse(RECIPE).changed(["training.tensorboard=true", "training.updates=16"])
    events: list[Event] = []
    listeners = [events.append, stop_at(Progressed, 11)]
    for _ in range(2):
        run = train(recipe, tmp_path / "run", listeners=listeners)
    read = accumulator.EventAccumulator(str(run / "tensorboard")).Reload()
    losses = [(event.update, event.loss) for event in events if isinstance(event, Progressed)]
    assert [update for update, _ in losses] == [*range(1, 17)]
    assert [(e.step, e.value) for e in read.Scalars("train/loss")] == [
        (update, pytest.approx(loss, rel=1e-6)) for update, loss in losses
    ]
    scores = [(e.update, e.scores["chrf"]) for e in events if isinstance(e, Validated)]
    assert [(e.step, e.value) for e in read.Scalars("valid/chrf")] == [
        (update, pytest.approx(value, rel=1e-6)) for update, value in scores
    ]
