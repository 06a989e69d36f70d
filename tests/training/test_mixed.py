"""Runs on several corpora: shares of each, and tags that say what a pair is to become."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load

from mtkit import Recipe, Translator, prepare, train
from mtkit.errors import DataError, RecipeError
from mtkit.training import trainer
from mtkit.training.distributed import World
from mtkit.training.events import Event, Started, Validated
from mtkit.training.feed import Feed, fetcher, planned_lengths
from tests.training.test_run import stop_at

RECIPE = """
[data]
train = ["<2de> phrasebook:en-de#size=600", "<2ko> phrasebook:en-ko#size=400"]
weights = [0.5, 1.25]
valid = ["<2de> phrasebook:en-de:valid#size=10", "<2ko> phrasebook:en-ko:valid#size=10"]
[tokenizer]
vocabulary = 1200
[model]
kind = "transformer"
width = 32
heads = 2
feed_forward = 64
encoder_layers = 1
decoder_layers = 1
[training]
updates = 150
max_tokens = 1024
precision = "float32"
[training.schedule]
warmup = 20
[training.optimizer]
rate = 0.01
[validation]
metric = "loss"
every = 75
[search]
tag = "<2de>"
"""
HANGUL = re.compile("[가-힣]")


def test_tag_chooses_the_language_of_a_multilingual_model(tmp_path: Path) -> None:
    run = train(Recipe.parse(RECIPE), tmp_path / "run")
    translator = Translator.load(run)
    lines = ["The cat is drinking water.", "", "  ", "My brother is reading a book."]
    assert translator.tag == "<2de>", "what the recipe says"
    found = {}
    for tag in ("<2de>", "<2ko>"):
        translator.tag = tag
        found[tag] = [translation.text for translation in translator.translate(lines)]
        assert found[tag][1:3] == ["", ""], "a tag alone is nothing to translate"
    assert not HANGUL.search("".join(found["<2de>"]))
    assert all(HANGUL.search(found["<2ko>"][index]) for index in (0, 3))
    assert translator.unknown_tags == []
    translator.tag = "<2fr> <2ko>"
    assert translator.unknown_tags == ["<2fr>"]
    translator.tag = ""
    assert [t.text for t in translator.translate([f"<2ko> {lines[0]}"])] == found["<2ko>"][:1]
    assert json.loads((run / "card.json").read_text())["pairs"] == 1000


def test_tag_is_one_token_whatever_stands_behind_it() -> None:
    tokenizer = prepare(Recipe.parse(RECIPE)).source_tokenizer
    for text in ("I see.", "x" * 40, "日本"):
        (ids,) = tokenizer.encode([f"<2ko> {text}"])
        assert [tokenizer.piece(token) for token in ids].count("<2ko>") == 1


def test_corpora_are_counted_as_they_lie_in_the_store() -> None:
    data = prepare(Recipe.parse(RECIPE).changed(["data.max_length=16"]))
    assert sum(data.corpora) == len(data.train) < 1000
    tags = [
        {"<2de>", "<2ko>"}.intersection(map(data.source_tokenizer.piece, data.train.source[i]))
        for i in range(len(data.train))
    ]
    assert tags == [{"<2de>"}] * data.corpora[0] + [{"<2ko>"}] * data.corpora[1]


def test_default_tag_is_put_before_an_untagged_test_corpus(tmp_path: Path) -> None:
    test = [f"data.test=['{tag}phrasebook:en-de:test#size=5']" for tag in ("<2de> ", "")]
    texts = []
    for number, change in enumerate(test):
        recipe = Recipe.parse(RECIPE).changed([change, "training.updates=20"])
        texts.append((train(recipe, tmp_path / str(number)) / "test.txt").read_text())
    assert texts[0] == texts[1]


def test_test_corpora_with_and_without_a_tag_are_scored_together(tmp_path: Path) -> None:
    """A tag on one of them does not take the recipe's from the other."""
    names = (["<2ko> ", ""], ["<2ko> ", "<2de> "])
    texts = []
    for number, tags in enumerate(names):
        test = [f"{tag}phrasebook:en-de:test#size=5" for tag in tags]
        changes = [f"data.test={test}"]
        run = train(Recipe.parse(RECIPE).changed(changes), tmp_path / str(number))
        texts.append((run / "test.txt").read_text())
    assert texts[0] == texts[1]
    lines = texts[0].splitlines()
    assert lines[:5] != lines[5:]


def test_interrupted_mixture_equals_uninterrupted_mixture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "REPORT_SECONDS", 0.0)
    recipe = Recipe.parse(RECIPE).changed(["training.updates=50", "validation.every=0"])
    events: list[Event] = []
    whole = train(recipe, tmp_path / "whole", listeners=[events.append])
    assert [e.epoch for e in events if isinstance(e, Validated)][:2] == [1.0, 2.0]
    stops = [stop_at(trainer.Progressed, update) for update in (3, 30)]
    for _ in range(3):
        run = train(recipe, tmp_path / "parts", listeners=[*stops, events.append])
    assert [e.resumed_at for e in events if isinstance(e, Started)] == [None, None, 3, 30]
    kept = [load((folder / "weights.safetensors").read_bytes()) for folder in (whole, run)]
    assert all(torch.equal(kept[0][name], kept[1][name]) for name in kept[0])


def test_weights_need_a_number_for_each_corpus(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="1 numbers for 2 corpora"):
        train(Recipe.parse(RECIPE).changed(["data.weights=[1]"]), tmp_path / "run")


def test_corpora_of_two_directions_need_tags(tmp_path: Path) -> None:
    train_names = '["phrasebook:en-de#size=60", "<2ko> phrasebook:en-ko#size=40"]'
    with pytest.raises(DataError, match="has ko as its target, but a corpus before it has de"):
        train(Recipe.parse(RECIPE).changed([f"data.train={train_names}"]), tmp_path / "run")


def test_sampled_batches_keep_to_the_budget_and_updates_are_near_it() -> None:
    recipe = Recipe.parse(RECIPE).changed(["tokenizer.sampling=0.1", "data.weights=[]"])
    data, training = prepare(recipe), recipe.training

    def sizes(lengths: NDArray[np.int32]) -> list[list[int]]:
        feed = Feed(lengths, fetcher(data, 0.1), training, World.from_environment("cpu"))
        return [
            [b.source.size(0) * max(b.source.size(1), b.inputs.size(1)) for b in batches]
            for batches in feed.epoch(0, 0)
        ]

    planned, unplanned = sizes(planned_lengths(data, 0.1)), sizes(data.train.lengths)
    assert max(max(update) for update in planned + unplanned) <= training.max_tokens
    assert any(len(update) > 1 for update in planned), "or this shows nothing"
    whole = [np.mean([sum(update) for update in updates]) for updates in (planned, unplanned)]
    assert whole[0] < 1.2 * training.max_tokens < whole[1]
