"""Runs that start from a model that is there."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from mtkit import Recipe, train
from mtkit.errors import ModelError
from mtkit.training.events import Event, Finished, Noted, Started, Validated

RECIPE = """
[data]
train = ["phrasebook:ko-en#size=300"]
valid = ["phrasebook:ko-en:valid#size=20"]
[tokenizer]
vocabulary = 900
[model]
kind = "transformer"
width = 16
heads = 2
feed_forward = 32
encoder_layers = 1
decoder_layers = 1
[training]
updates = 24
max_tokens = 256
precision = "float32"
[training.schedule]
warmup = 10
[validation]
metric = "loss"
every = 8
"""


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.getbasetemp()
    return train(Recipe.parse(RECIPE), base / "parent")


def child(parent: Path, *changes: str) -> Recipe:
    """The recipe of a run on another corpus, with other knobs for a tokenizer of its own."""
    return Recipe.parse(RECIPE).changed(
        [
            "data.train=phrasebook:ko-en:test#size=200",
            "tokenizer.vocabulary=700",
            "tokenizer.joint=false",
            f"training.start={parent}",
            "training.updates=4",
            "validation.every=2",
            *changes,
        ]
    )


def test_run_starts_from_the_weights_and_the_vocabulary_of_its_parent(
    parent: Path, tmp_path: Path
) -> None:
    events: list[Event] = []
    recipe = child(parent, "training.optimizer.rate=1e-12", "model.dropout=0.3")
    run = train(recipe, tmp_path / "run", listeners=[events.append])
    for name in ("weights.safetensors",):
        ours, theirs = (load((folder / name).read_bytes()) for folder in (run, parent))
        assert ours.keys() == theirs.keys()
        for key in ours:
            torch.testing.assert_close(ours[key], theirs[key], rtol=0, atol=1e-8)
    assert (run / "joint.spm").read_bytes() == (parent / "joint.spm").read_bytes()
    assert Recipe.load(run / "recipe.toml").tokenizer == Recipe.parse(RECIPE).tokenizer
    card = json.loads((run / "card.json").read_text())
    assert card["started_from"] == str(parent)
    told = [event.message for event in events if isinstance(event, Noted)]
    assert any("keeps its vocabulary (900 pieces)" in message for message in told)


def test_started_run_learns_and_goes_on_where_it_stopped(parent: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    whole = train(child(parent), tmp_path / "whole", listeners=[events.append])
    first, *_, last = (event.loss for event in events if isinstance(event, Validated))
    assert last < first
    train(child(parent, "training.updates=2"), tmp_path / "parts")
    run = train(child(parent), tmp_path / "parts", listeners=[events.append])
    assert [event.resumed_at for event in events if isinstance(event, Started)] == [None, 2]
    kept = [load((folder / "weights.safetensors").read_bytes()) for folder in (whole, run)]
    assert all(torch.equal(kept[0][name], kept[1][name]) for name in kept[0])


def test_started_run_goes_on_when_its_parent_is_gone(parent: Path, tmp_path: Path) -> None:
    shutil.copytree(parent, tmp_path / "parent")
    whole = train(child(parent), tmp_path / "whole")
    train(child(tmp_path / "parent", "training.updates=2"), tmp_path / "parts")
    shutil.rmtree(tmp_path / "parent")
    events: list[Event] = []
    recipe = child(tmp_path / "parent")
    run = train(recipe, tmp_path / "parts", listeners=[events.append])
    assert [event.resumed_at for event in events if isinstance(event, Started)] == [2]
    told = [event.message for event in events if isinstance(event, Noted)]
    assert any(f"the weights of {tmp_path / 'parent'} " in message for message in told)
    kept = [load((folder / "weights.safetensors").read_bytes()) for folder in (whole, run)]
    assert all(torch.equal(kept[0][name], kept[1][name]) for name in kept[0])
    train(recipe, run, listeners=[events.append])
    assert isinstance(events[-1], Finished)


@pytest.mark.parametrize(
    ("changes", "sentence", "hint"),
    [
        (["model.width=32"], "its model.width is 16, and that of the recipe is 32", "model.width"),
        (["model.norm=post"], "its model.norm is pre", "--set model.norm=pre"),
        (["model.kind=recurrent"], "its model.kind is transformer", "model.kind=transformer"),
    ],
)
def test_parent_of_another_shape_is_refused_in_words(
    parent: Path, tmp_path: Path, changes: list[str], sentence: str, hint: str
) -> None:
    with pytest.raises(ModelError) as caught:
        train(child(parent, *changes), tmp_path / "run")
    assert str(caught.value).startswith(f"{parent}: cannot be started from: ")
    assert sentence in str(caught.value)
    assert hint in (caught.value.hint or "")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_parent_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nothing"):
        train(child(tmp_path / "nothing"), tmp_path / "run")
