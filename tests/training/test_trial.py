"""A plan is of the run it is a plan of; the proof of resumption can fail."""

import itertools
import os
from pathlib import Path

import pytest
import torch

from mtkit import Recipe, TrainingError, UsageError, plan_run, train, verify_resume
from mtkit.training import trainer
from tests.training.test_run import RECIPE


def test_plan_says_what_the_run_then_takes(tmp_path: Path) -> None:
    recipe = Recipe.parse(RECIPE).changed(["training.keep=2"])
    plan = plan_run(recipe, device="cpu")
    run = train(recipe, tmp_path / "run", device="cpu")
    assert plan.updates == 24
    assert plan.updates_per_epoch == plan.batches_per_epoch
    assert plan.tokens_per_second > 0
    assert set(plan.parameters) >= {"encoder", "decoder"}
    files = [Path(folder) / name for folder, _, names in os.walk(run) for name in names]
    tensors = sum(file.stat().st_size for file in files if file.suffix == ".safetensors")
    assert tensors < plan.disk < 3 * tensors


def test_plan_and_proof_of_a_loss_that_is_lost_are_errors() -> None:
    recipe = Recipe.parse(RECIPE).changed(
        ["training.optimizer.rate=1e30", "training.optimizer.clip=0", "training.schedule.warmup=0"]
    )
    for ask in (plan_run, verify_resume):
        with pytest.raises(TrainingError, match="no longer a number") as caught:
            ask(recipe, device="cpu")
        assert caught.value.hint == "--set training.optimizer.rate=1e+29"


def test_resumption_is_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe.parse(RECIPE).changed(
        ["tokenizer.sampling=0.1", "training.accumulation=2", "training.ema=0.9"]
    )
    assert verify_resume(recipe, device="cpu", updates=8).exact

    count = itertools.count()
    monkeypatch.setattr(trainer, "_mix", lambda seed, update, rank: next(count))
    found = verify_resume(Recipe.parse(RECIPE), device="cpu", updates=8)
    assert (found.weights, found.losses, found.batches) == (False, False, True)
    assert not found.exact
    assert torch.is_grad_enabled()


def test_resumption_is_proved_of_a_recipe_that_ends_by_the_clock() -> None:
    recipe = Recipe.parse(RECIPE).changed(
        ["training.updates=0", "training.minutes=5", "training.schedule.kind=linear"]
    )
    assert verify_resume(recipe, device="cpu", updates=4).exact


def test_what_a_process_remembers_does_not_help_it_to_resume(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: dict[int, int] = {}

    def remembered(seed: int, update: int, rank: int) -> int:
        return drawn.setdefault(update, len(drawn) + 10**6)  # no checkpoint knows this

    monkeypatch.setattr(trainer, "_mix", remembered)
    assert not verify_resume(Recipe.parse(RECIPE), device="cpu", updates=4).weights


def test_resumption_is_not_proved_by_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for ask in (verify_resume, plan_run):
        with pytest.raises(UsageError, match="with one process"):
            ask(Recipe.parse(RECIPE), device="cpu")
