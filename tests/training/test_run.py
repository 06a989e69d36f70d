"""A run as a whole, on the real code and a small part of the phrasebook."""

import itertools
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from mtkit import Recipe, Translator, open_corpus, prepare, train
from mtkit.data.batches import plan
from mtkit.errors import DataError, ModelError, RecipeError, TrainingError, UsageError
from mtkit.training import trainer
from mtkit.training.checkpoint import Progress, read_progress
from mtkit.training.distributed import World
from mtkit.training.events import (
    Event,
    Finished,
    Listener,
    Noted,
    Progressed,
    Saved,
    Started,
    Validated,
    Warned,
)

RECIPE = """
title = "a small run"
[data]
train = ["phrasebook:ko-en#size=300"]
valid = ["phrasebook:ko-en:valid#size=20"]
test = ["phrasebook:ko-en:test#size=10"]
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
every = 8
[search]
beam = 2
max_length_ratio = 1.0
max_length_offset = 5
"""
RECURRENT = RECIPE.replace(
    RECIPE[RECIPE.index("[model]") : RECIPE.index("[training]")],
    '[model]\nkind = "recurrent"\ncell = "lstm"\nwidth = 16\nembedding = 16\n'
    "encoder_layers = 1\ndecoder_layers = 1\ninput_feeding = true\n",
)


def weights(run: Path) -> dict[str, torch.Tensor]:
    newest = sorted((run / "checkpoints").iterdir())[-1]
    return load((newest / "weights.safetensors").read_bytes())


def made_by(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Everything in the newest checkpoint."""
    newest = sorted((run / "checkpoints").iterdir())[-1]
    return {path.name: load(path.read_bytes()) for path in newest.glob("*.safetensors")}


def same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def losses(events: list[Event]) -> list[float]:
    return [event.loss for event in events if isinstance(event, Validated)]


@pytest.mark.parametrize("text", [RECIPE, RECURRENT], ids=["transformer", "recurrent"])
def test_run_leaves_a_model_that_translates(tmp_path: Path, text: str) -> None:
    events: list[Event] = []
    run = train(Recipe.parse(text), tmp_path / "run", listeners=[events.append])

    kinds = [type(event) for event in events]
    assert kinds.index(Started) < kinds.index(Validated) < kinds.index(Finished)
    assert len(losses(events)) == 3
    assert losses(events)[-1] < losses(events)[0]
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.reason == "reached 24 updates"
    assert set(finished.test) == {"bleu", "chrf", "ter"}

    card = json.loads((run / "card.json").read_text())
    assert card["test"]["signatures"]["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a")
    assert len((run / "test.txt").read_text().split("\n")) == 11
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().split("\n")[:-1]]
    assert [entry["update"] for entry in log if entry["event"] == "validated"] == [8, 16, 24]
    lines = ["고양이", "", "저는 물을 마셔요."]
    assert len(Translator.load(run).translate(lines)) == 3


def test_same_recipe_gives_the_same_bits(tmp_path: Path) -> None:
    recipe = Recipe.parse(RECIPE)
    first, second = train(recipe, tmp_path / "a"), train(recipe, tmp_path / "b")
    assert same_bits(weights(first), weights(second))
    other = train(recipe.changed(["training.seed=2"]), tmp_path / "c")
    assert not same_bits(weights(first), weights(other))


@pytest.mark.parametrize(
    "changes",
    [
        [],
        ["tokenizer.sampling=0.1", "training.accumulation=2"],
        ["training.r_drop=5", "model.layer_dropout=0.3", "model.target_token_dropout=0.2"],
        ["training.ema=0.9", "training.average=2"],
        ["training.precision=bfloat16", "training.optimizer.kind=muon"],
    ],
)
def test_interrupted_run_equals_uninterrupted_run(
    tmp_path: Path, changes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe.parse(RECIPE).changed(changes)
    whole = train(recipe, tmp_path / "whole")

    # Every update is reported, and the program interrupts itself in three of them.
    monkeypatch.setattr(trainer, "REPORT_SECONDS", 0.0)
    stops = [3, 11, 16]

    def interrupt(event: Event) -> None:
        if isinstance(event, Progressed) and event.update in stops:
            stops.remove(event.update)
            os.kill(os.getpid(), signal.SIGINT)

    reasons, resumed = [], []
    for _ in range(4):
        events: list[Event] = []
        run = train(recipe, tmp_path / "parts", listeners=[events.append, interrupt])
        reasons += [event.reason for event in events if isinstance(event, Finished)]
        resumed += [event.resumed_at for event in events if isinstance(event, Started)]
    assert reasons == ["interrupted"] * 3 + ["reached 24 updates"]
    assert resumed == [None, 3, 11, 16]
    for name in made_by(whole):
        assert same_bits(made_by(whole)[name], made_by(run)[name]), name
    kept = (load((path / "weights.safetensors").read_bytes()) for path in (whole, run))
    assert same_bits(*kept)


def stop_at(kind: type[Progressed | Validated], update: int) -> Listener:
    """What presses Ctrl-C when this update is said, once."""
    stops = [update]

    def interrupt(event: Event) -> None:
        if isinstance(event, kind) and event.update in stops:
            stops.remove(event.update)
            os.kill(os.getpid(), signal.SIGINT)

    return interrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_saves_and_a_second_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setattr(trainer, "REPORT_SECONDS", 0.0)
    recipe, before = Recipe.parse(RECIPE), signal.getsignal(signal.SIGINT)
    for times in (1, 2):

        def press(event: Event, times: int = times) -> None:
            if isinstance(event, Progressed) and event.update == 5:
                for _ in range(times):
                    os.kill(os.getpid(), number)

        run = tmp_path / str(times)
        if times == 1:
            train(recipe, run, listeners=[press])
        else:
            with pytest.raises(KeyboardInterrupt):
                train(recipe, run, listeners=[press])
        saved = (run / "checkpoints" / "000000005").is_dir()
        assert saved == (times == 1)
    assert signal.getsignal(signal.SIGINT) is before


def test_run_stopped_in_a_validation_ends_in_the_same_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "REPORT_SECONDS", 0.0)
    recipe = Recipe.parse(RECIPE).changed(["training.average=3"])
    whole = train(recipe, tmp_path / "whole")
    listeners = [stop_at(Validated, 16), stop_at(Progressed, 20)]
    for _ in range(2):
        train(recipe, tmp_path / "parts", listeners=listeners)
    made = sorted((tmp_path / "parts" / "checkpoints").iterdir())
    assert {path.name: read_progress(path).validated for path in made} == {
        "000000008": True,
        "000000016": True,
        "000000020": False,
    }
    run = train(recipe, tmp_path / "parts")
    assert same_bits(*(load((path / "weights.safetensors").read_bytes()) for path in (whole, run)))


def test_run_whose_end_is_moved_to_where_it_stopped_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "REPORT_SECONDS", 0.0)
    recipe = Recipe.parse(RECIPE)
    train(recipe, tmp_path / "run", listeners=[stop_at(Progressed, 3)])
    events: list[Event] = []
    run = train(recipe.changed(["training.updates=3"]), tmp_path / "run", listeners=[events.append])
    assert len(losses(events)) == 1
    assert len(Translator.load(run).translate(["고양이"])) == 1


def test_run_goes_on_only_with_its_own_recipe_before_its_first_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "REPORT_SECONDS", 0.0)
    recipe = Recipe.parse(RECIPE)
    train(recipe, tmp_path / "run", listeners=[stop_at(Progressed, 3)])
    with pytest.raises(UsageError, match=r"training.max_tokens = 256, not 128"):
        train(recipe.changed(["training.max_tokens=128"]), tmp_path / "run")
    with pytest.raises(UsageError, match="an update of this run takes 1 batches"):
        train(recipe.changed(["training.accumulation=2"]), tmp_path / "run")


def test_recipe_of_a_run_that_made_nothing_may_be_mended(tmp_path: Path) -> None:
    wrong = Recipe.parse(RECIPE).changed(
        ["training.schedule.kind=linear", "training.updates=0", "validation.patience=1"]
    )
    with pytest.raises(RecipeError):
        train(wrong, tmp_path / "run")
    mended = wrong.changed(["training.schedule.kind=constant", "training.updates=2"])
    assert (train(mended, tmp_path / "run") / "card.json").exists()


def test_crashed_run_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    recipe = Recipe.parse(RECIPE)
    whole = train(recipe, tmp_path / "whole")

    def crash(event: Event) -> None:
        if isinstance(event, Saved) and event.update == 16:
            raise MemoryError

    with pytest.raises(MemoryError):
        train(recipe, tmp_path / "run", listeners=[crash])
    events: list[Event] = []
    run = train(recipe, tmp_path / "run", listeners=[events.append])
    started = next(event for event in events if isinstance(event, Started))
    assert started.resumed_at == 16
    assert same_bits(weights(whole), weights(run))


@pytest.mark.parametrize("torn", [True, False])
def test_damaged_checkpoint_is_passed_over(tmp_path: Path, torn: bool) -> None:
    recipe = Recipe.parse(RECIPE)
    whole = train(recipe, tmp_path / "run")
    expected = weights(whole)
    (whole / "finished.json").unlink()
    newest = sorted((whole / "checkpoints").iterdir())[-1] / "weights.safetensors"
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(b"torn" if torn else content)
    events: list[Event] = []
    train(recipe, whole, listeners=[events.append])
    assert next(event for event in events if isinstance(event, Started)).resumed_at == 16
    (warned,) = (event.message for event in events if isinstance(event, Warned))
    assert str(newest) in warned
    assert warned.endswith("the checkpoint before it is used")
    assert same_bits(weights(whole), expected)


def test_run_whose_checkpoints_are_all_damaged_is_not_begun_anew(tmp_path: Path) -> None:
    recipe = Recipe.parse(RECIPE)
    run = train(recipe, tmp_path / "run")
    (run / "finished.json").unlink()
    for checkpoint in (run / "checkpoints").iterdir():
        (checkpoint / "weights.safetensors").write_bytes(b"torn")
    with pytest.raises(ModelError, match=r"no checkpoint of .*run can be read"):
        train(recipe, run)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("training.schedule.kind=linear", "needs an end to decay to"),
        ("data.weights=[1, 2]", "2 numbers for 1 corpora"),
        ("tokenizer.kind=word", "segments a text in one way only"),
    ],
    ids=["end", "weights", "words"],
)
def test_recipe_that_cannot_be_trained_is_refused_before_anything_is_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, words: str
) -> None:
    monkeypatch.setenv("MTKIT_CACHE", str(tmp_path / "cache"))
    changes = ["training.updates=0", "validation.patience=1", "tokenizer.sampling=0.1", change]
    recipe = Recipe.parse(RECIPE).changed(changes)
    with pytest.raises(RecipeError, match=words):
        train(recipe, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_processes_that_prepared_other_data_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = World.share
    monkeypatch.setattr(World, "share", lambda world, value: shared(world, value) + (value > 10**9))
    with pytest.raises(DataError, match="have not prepared the same data"):
        train(Recipe.parse(RECIPE), tmp_path / "run")


def test_one_matrix_is_not_shared_by_two_vocabularies(tmp_path: Path) -> None:
    recipe = Recipe.parse(RECIPE).changed(["tokenizer.joint=false", "tokenizer.vocabulary=660"])
    with pytest.raises(RecipeError, match="needs one vocabulary"):
        train(recipe, tmp_path / "run")


def test_run_of_before_the_fingerprint_held_tokenizers_goes_on(tmp_path: Path) -> None:
    recipe = Recipe.parse(RECIPE)
    train(recipe.changed(["training.updates=8"]), tmp_path / "run")
    saved = max((tmp_path / "run" / "checkpoints").glob("*/progress.json"))
    progress, files = Progress.from_json(saved.read_text())
    progress.data = prepare(recipe).key
    saved.write_text(progress.to_json(files))
    events: list[Event] = []
    train(recipe, tmp_path / "run", listeners=[events.append])
    assert next(e.resumed_at for e in events if isinstance(e, Started)) == 8


def test_finished_run_says_so_and_can_be_prolonged(tmp_path: Path) -> None:
    recipe = Recipe.parse(RECIPE)
    run = train(recipe, tmp_path / "run")
    before = (run / "weights.safetensors").stat().st_mtime_ns
    events: list[Event] = []
    train(recipe, run, listeners=[events.append])
    assert [type(event) for event in events] == [Finished]
    assert (run / "weights.safetensors").stat().st_mtime_ns == before

    train(recipe.changed(["training.updates=26"]), run, listeners=[events.append])
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.update == 26


def test_finished_run_is_tested_on_a_corpus_named_afterwards(tmp_path: Path) -> None:
    recipe = Recipe.parse(RECIPE).changed(["training.updates=2"])
    run = train(recipe.changed(["data.test=[]"]), tmp_path / "run")
    assert "test" not in json.loads((run / "card.json").read_text())
    events: list[Event] = []
    train(recipe, run, listeners=[events.append])
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert set(finished.test) == {"bleu", "chrf", "ter"}
    assert losses(events) == []


def test_test_corpus_without_a_pair_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "blank.tsv").write_text("\t\n" * 3)
    recipe = Recipe.parse(RECIPE).changed([f"data.test={tmp_path}/blank.tsv"])
    with pytest.raises(DataError, match=r"blank\.tsv has no pair"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_pairs_left_out_of_the_test_corpus_are_told(tmp_path: Path) -> None:
    (tmp_path / "holes.tsv").write_text("나는 간다.\tI go.\n\tI stay.\n", encoding="utf-8")
    events: list[Event] = []
    changes = [f"data.test={tmp_path}/holes.tsv", "training.updates=1"]
    run = train(Recipe.parse(RECIPE).changed(changes), tmp_path / "run", listeners=[events.append])
    told = [event.message for event in events if isinstance(event, Noted)]
    assert any("1 with an empty source" in message and "row 2" in message for message in told)
    assert (run / "test.txt").read_text(encoding="utf-8").count("\n") == 1


def test_run_with_a_damaged_end_is_ended_again(tmp_path: Path) -> None:
    recipe = Recipe.parse(RECIPE).changed(["training.updates=2"])
    run = train(recipe, tmp_path / "run")
    whole = (run / "finished.json").read_text()
    (run / "finished.json").write_text(whole[:20])
    train(recipe, run)
    assert json.loads((run / "finished.json").read_text())["update"] == 2


def test_folder_of_another_recipe_is_refused(tmp_path: Path) -> None:
    recipe = Recipe.parse(RECIPE)
    train(recipe, tmp_path / "run")
    with pytest.raises(UsageError, match=r"holds a run with model.width = 16, not 32"):
        train(recipe.changed(["model.width=32"]), tmp_path / "run")


def test_run_does_not_go_on_with_other_data(tmp_path: Path) -> None:
    pairs = list(open_corpus("phrasebook:de-en#size=300"))
    corpus = tmp_path / "pairs.tsv"
    recipe = Recipe.parse(RECIPE).changed([f'data.train=["{corpus}"]'])
    recipe = recipe.changed(["data.valid=[]", "data.test=[]", "data.held_out=20"])
    corpus.write_text("".join(f"{pair.source}\t{pair.target}\n" for pair in pairs))
    train(recipe, tmp_path / "run")
    corpus.write_text("".join(f"{pair.source}\t{pair.target}\n" for pair in pairs[:290]))
    with pytest.raises(DataError, match="the corpora have changed since this run was begun"):
        train(recipe.changed(["training.updates=30"]), tmp_path / "run")


def test_folder_in_use_is_refused(tmp_path: Path) -> None:
    recipe = Recipe.parse(RECIPE)

    def intrude(event: Event) -> None:
        if isinstance(event, Started):
            train(recipe, tmp_path / "run")

    with pytest.raises(UsageError, match="another process is training in this folder"):
        train(recipe, tmp_path / "run", listeners=[intrude])


def test_lost_loss_is_an_error_that_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    recipe = Recipe.parse(RECIPE).changed(
        ["training.optimizer.rate=1e30", "training.optimizer.clip=0", "training.schedule.warmup=0"]
    )
    with pytest.raises(TrainingError, match="no longer a number at update") as caught:
        train(recipe, tmp_path / "run")
    assert "training.optimizer.rate" in (caught.value.hint or "")


def test_lost_weights_are_never_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "REPORT_SECONDS", 1e9)
    monkeypatch.setattr(trainer, "SAVE_SECONDS", 0.0)
    recipe = Recipe.parse(RECIPE).changed(
        ["training.optimizer.rate=1e30", "training.optimizer.clip=0", "training.schedule.warmup=0"]
    )
    with pytest.raises(TrainingError, match="no longer a number at update"):
        train(recipe, tmp_path / "run")
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path / "run").values())


def test_a_loss_by_sentences_is_that_by_tokens_times_their_length(tmp_path: Path) -> None:
    steps, counted = [], []
    for normalise, rate in (("tokens", 1e-30), ("tokens", 1e-3), ("sentences", 1e-3)):
        recipe = Recipe.parse(RECIPE).changed(
            [
                f"training.normalise={normalise}",
                f"training.optimizer.rate={rate}",
                "training.optimizer.kind=sgd",
                "training.optimizer.clip=0",
                "training.schedule.kind=constant",
                "training.schedule.warmup=0",
                "training.updates=1",
                "training.max_tokens=100000",
                "training.max_sentences=8",
            ]
        )
        run = train(recipe, tmp_path / f"{normalise}-{rate}")
        steps.append(weights(run)["target_embedding.weight"].double())
        data = prepare(recipe)
        (chosen, *_) = plan(data.train.lengths, 100_000, recipe.training.seed, 0, 8)
        counted.append(float(data.train.lengths[chosen, 1].sum() / len(chosen)))
    by_tokens, by_sentences = steps[1] - steps[0], steps[2] - steps[0]
    ratio = float((by_sentences.norm() / by_tokens.norm()).item())
    assert ratio == pytest.approx(counted[0], rel=1e-3)


def test_mean_of_checkpoints_is_judged_like_the_others(tmp_path: Path) -> None:
    events: list[Event] = []
    recipe = Recipe.parse(RECIPE).changed(["training.average=3"])
    run = train(recipe, tmp_path / "run", listeners=[events.append])
    assert len(losses(events)) == 4
    assert len(list((run / "checkpoints").iterdir())) == 3


def told(run: Path) -> tuple[dict[str, float], int, int]:
    """Scores, update and averaged checkpoints, as the card and the run's end both say."""
    card = json.loads((run / "card.json").read_text())
    ended = json.loads((run / "finished.json").read_text())
    assert ended["scores"] == card["valid"]["scores"]
    assert ended["best_update"] == card["valid"]["update"]
    assert ended["averaged"] == card.get("averaged", 0)
    return ended["scores"], ended["best_update"], ended["averaged"]


def scores_of(event: Validated) -> dict[str, float]:
    return {"loss": event.loss, **event.scores}


def test_scores_that_are_recorded_are_those_of_the_model_in_the_folder(tmp_path: Path) -> None:
    # A rate at which single checkpoints jump about a valley, and their mean lies in it.
    changes = ["training.average=3", "validation.metric=loss", "training.optimizer.rate=0.1"]
    changes += ["training.schedule.kind=constant", "training.updates=32", "data.test=[]"]
    recipe = Recipe.parse(RECIPE).changed(changes)
    events: list[Event] = []
    run = train(recipe, tmp_path / "run", listeners=[events.append])
    *single, mean = (event for event in events if isinstance(event, Validated))
    assert mean.best
    assert mean.averaged == 3
    assert all(mean.loss < event.loss for event in single)
    assert told(run) == (scores_of(mean), 32, 3)

    # Prolonged: what is worse than the mean does not take its place, nor its scores.
    longer = recipe.changed(["training.updates=37", "training.average=1"])
    train(longer, run, listeners=[events.append])
    (later,) = [event for event in events if isinstance(event, Validated) and event.update == 37]
    assert later.loss > mean.loss
    assert told(run) == (scores_of(mean), 32, 3)


def test_moving_average_is_what_is_judged_and_kept(tmp_path: Path) -> None:
    recipe = Recipe.parse(RECIPE)
    raw, events = train(recipe, tmp_path / "raw"), list[Event]()
    run = train(recipe.changed(["training.ema=0.8"]), tmp_path / "run", listeners=[events.append])
    made = made_by(run)
    assert same_bits(made["trained.safetensors"], weights(raw)), "training itself is the same"
    assert not same_bits(made["weights.safetensors"], weights(raw))
    best = json.loads((run / "card.json").read_text())["valid"]["update"]
    kept = load((run / "weights.safetensors").read_bytes())
    checkpoint = run / "checkpoints" / f"{best:09d}" / "weights.safetensors"
    assert same_bits(kept, load(checkpoint.read_bytes()))
    plain = [json.loads(line) for line in (raw / "log.jsonl").read_text().split("\n")[:-1]]
    assert losses(events) != [entry["loss"] for entry in plain if entry["event"] == "validated"]


@pytest.mark.parametrize("which", ["last", "best"])
def test_mean_is_of_the_checkpoints_that_the_recipe_names(tmp_path: Path, which: str) -> None:
    events: list[Event] = []
    changes = ["training.average=2", "validation.every=4", "validation.metric=loss"]
    changes += ["training.optimizer.rate=1e-12", f"training.average_of={which}", "training.keep=2"]
    run = train(Recipe.parse(RECIPE).changed(changes), tmp_path / "run", listeners=[events.append])
    told = [event.message for event in events if isinstance(event, Noted)]
    words = {"last": "the last 2 checkpoints", "best": "2 checkpoints around the best"}[which]
    assert any(words in message for message in told)
    # Nothing is learned, so that the first validation stays the best.
    kept = {int(path.name) for path in (run / "checkpoints").iterdir()}
    assert kept == {20, 24} | ({4, 8} if which == "best" else set())


def test_best_is_best_by_the_metric_and_then_by_loss(tmp_path: Path) -> None:
    events: list[Event] = []
    recipe = Recipe.parse(RECIPE).changed(["validation.every=3"])
    train(recipe, tmp_path / "run", listeners=[events.append])
    judged = [event for event in events if isinstance(event, Validated)]
    values = [(event.scores["bleu"], -event.loss) for event in judged]
    assert [event.best for event in judged] == [
        all(value > before for before in values[:index]) for index, value in enumerate(values)
    ]
    ties = [a for a, b in itertools.pairwise(judged) if a.scores == b.scores]
    assert ties, "or this shows nothing"


@pytest.mark.parametrize("metric", ["bleu", "chrf", "loss"])
def test_early_stopping_counts_validations_without_gain(tmp_path: Path, metric: str) -> None:
    events: list[Event] = []
    recipe = Recipe.parse(RECIPE).changed(
        [
            "training.optimizer.rate=1e-12",
            "training.updates=400",
            "validation.patience=2",
            "validation.every=3",
            f"validation.metric={metric}",
        ]
    )
    train(recipe, tmp_path / "run", listeners=[events.append])
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.reason == f"no gain in {metric} in 2 validations"
    assert finished.update == 9
    on = recipe.changed(["validation.patience=0", "training.updates=11"])
    train(on, tmp_path / "run", listeners=[events.append])
    assert isinstance(events[-1], Finished)
    assert events[-1].update == 11, "with patience 0 it goes on to its end"
