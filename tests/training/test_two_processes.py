"""Two processes make the updates that one makes of twice the batches, sharded or not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_run import RECIPE, RECURRENT, weights

from mtkit import Event, Progressed, Recipe, RecipeError, Translator, train
from mtkit.training import trainer

CLIP = 0.1
PROGRAM = """
import sys
from pathlib import Path
from mtkit import Recipe, train
train(Recipe.load(Path(sys.argv[1])), Path(sys.argv[2]), device="cpu")
"""
# Plain SGD: where a gradient is zero but for rounding (a bias of attention's keys), Adam would make
# whole steps of the rounding.
PLAIN = ["training.optimizer.kind=sgd", "training.optimizer.rate=0.5", "model.dropout=0"]


def two(recipe: Recipe, folder: Path) -> Path:
    """Train with two processes."""
    folder.mkdir()
    (folder / "recipe.toml").write_text(recipe.to_toml())
    (folder / "program.py").write_text(PROGRAM)
    arguments = [str(folder / "program.py"), str(folder / "recipe.toml"), str(folder / "run")]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launcher, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "run"


def losses(run: Path) -> list[float]:
    """Of the validations, from the run's log."""
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().split("\n")[:-1]]
    return [event["loss"] for event in events if event["event"] == "validated"]


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        (RECIPE, []),
        pytest.param(
            RECURRENT, ["training.shard=true", "training.ema=0.8"], marks=pytest.mark.slow
        ),
    ],
    ids=["copies", "sharded recurrent"],
)
def test_two_processes_equal_one_with_accumulation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, changes: list[str]
) -> None:
    monkeypatch.setattr(trainer, "REPORT_SECONDS", 0.0)
    clipped = f"training.optimizer.clip={CLIP}"
    recipe = Recipe.parse(text).changed([*PLAIN, clipped, "training.updates=8", *changes])
    norms: list[float] = []

    def hear(event: Event) -> None:
        if isinstance(event, Progressed):
            norms.append(event.gradient_norm)

    one = train(recipe.changed(["training.accumulation=2"]), tmp_path / "one", listeners=[hear])
    assert min(norms) > CLIP, "every update is clipped, or this shows little"
    run = two(recipe, tmp_path / "two")
    for name, tensor in weights(run).items():
        torch.testing.assert_close(tensor, weights(one)[name], rtol=1e-4, atol=1e-5)
    assert losses(run) == pytest.approx(losses(one), rel=1e-5)
    assert Translator.load(run).translate(["고양이"])


@pytest.mark.slow
def test_sharded_run_has_the_losses_of_copies_and_is_gone_on_with_by_one(tmp_path: Path) -> None:
    # By Muon, whose update needs whole matrices; everything else goes by AdamW.
    changes = ["training.optimizer.kind=muon", "validation.every=4", "training.updates=12"]
    recipe = Recipe.parse(RECIPE).changed(changes)
    copies = two(recipe, tmp_path / "copies")
    sharded = two(recipe.changed(["training.shard=true"]), tmp_path / "sharded")
    assert losses(sharded) == pytest.approx(losses(copies), rel=1e-3)
    alone = recipe.changed(["training.updates=16", "training.accumulation=2"])
    before = losses(sharded)
    train(alone, sharded)
    train(alone, copies)
    assert len(losses(sharded)) == len(before) + 1
    assert losses(sharded) == pytest.approx(losses(copies), rel=1e-3)


@pytest.mark.slow
def test_sharded_processes_of_unequally_many_batches_wait_for_one_another(tmp_path: Path) -> None:
    """An epoch's last update may have 3 batches for 2 processes; sampling splits single ones."""
    changes = ["training.accumulation=2", "training.epochs=2", "training.updates=0"]
    changes += [*PLAIN, "tokenizer.sampling=0.3", "training.max_tokens=300"]
    recipe = Recipe.parse(RECIPE).changed(changes)
    copies = two(recipe, tmp_path / "copies")
    sharded = two(recipe.changed(["training.shard=true"]), tmp_path / "sharded")
    assert losses(sharded) == pytest.approx(losses(copies), rel=1e-3)


def test_model_that_cannot_be_sharded_is_refused(tmp_path: Path) -> None:
    recipe = Recipe.parse(RECIPE).changed(["training.shard=true", "model.layer_dropout=0.1"])
    with pytest.raises(RecipeError, match="does not go with model") as caught:
        train(recipe, tmp_path / "run")
    assert caught.value.hint == "--set model.layer_dropout=0"
