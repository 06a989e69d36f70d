"""Word-level distillation: what teachers expect, how it is kept, and runs that learn from it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mtkit import Recipe, model_dir, train
from mtkit.data.batches import assemble, collate, nothing_of
from mtkit.data.prepare import Prepared, prepare
from mtkit.errors import DataError, MTKitError
from mtkit.training import teachers as module
from mtkit.training.events import Event, Noted, Preparing, Validated
from mtkit.training.feed import fetcher
from mtkit.training.guard import halves
from mtkit.training.teachers import Lessons, Teachers
from tests.training.test_start import RECIPE

CPU = torch.device("cpu")
STAGE = "letting the teachers read the corpus"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Two Transformers and a model that reads word by word, of one vocabulary."""
    base = tmp_path_factory.getbasetemp() / "teachers"
    recipe = Recipe.parse(RECIPE).changed(["training.updates=12", "validation.every=6"])
    again = recipe.changed(["training.seed=2"])
    table = recipe.to_toml().replace('"transformer"', '"recurrent"').split("[model]")
    rest = table[1].partition("[training]")[2]
    model = '[model]\nkind = "recurrent"\nwidth = 16\nembedding = 16\n'
    other = Recipe.parse(f"{table[0]}{model}[training]{rest}")
    return tuple(
        train(each, base / str(number)) for number, each in enumerate((recipe, again, other))
    )


@pytest.fixture
def data(models: tuple[Path, ...]) -> Prepared:
    given = model_dir.load(models[0])
    tokenizers = given.source_tokenizer, given.target_tokenizer
    return prepare(Recipe.parse(RECIPE), tokenizers=tokenizers)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own."""
    monkeypatch.setattr(module, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def pupil(models: tuple[Path, ...], *changes: str) -> Recipe:
    named = ", ".join(f'"{path}"' for path in models)
    return Recipe.parse(RECIPE).changed([f"training.teachers=[{named}]", *changes])


@torch.no_grad()
def test_lessons_are_the_likeliest_words_of_the_mean_distribution(
    models: tuple[Path, ...], data: Prepared, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 70)
    lessons = Teachers.load(models, CPU).teach(data, "float32")
    assert lessons.words.shape == (data.train.target.tokens, 16)
    for index in (0, 69, 70, 171, len(data.train) - 1):
        pair = collate(data.train.source, data.train.target, np.array([index]))
        of_each = [
            model_dir.load(path).model(pair.source, pair.inputs)[0].double().softmax(-1)
            for path in models
        ]
        shares, words = torch.stack(of_each).mean(0).topk(16)
        found = lessons.of(data.train.target, np.array([index]))
        kept = shares / shares.sum(1, keepdim=True)
        torch.testing.assert_close(found.shares.double(), kept, rtol=2e-3, atol=1e-6)
        same = (found.words == words).double().mean()
        assert same > 0.95  # all but those that are as likely as the next


def test_lessons_lie_beside_their_labels_in_every_batch(
    models: tuple[Path, ...], data: Prepared, cache: Path
) -> None:
    lessons = Teachers.load(models[:1], CPU).teach(data, "float32")
    indices = np.array([17, 3, 250, 40])
    batch = fetcher(data, 0.0, lessons)(indices, 0)
    assert batch.lesson is not None
    assert len(batch.lesson.words) == batch.tokens
    torch.testing.assert_close(batch.lesson.shares.sum(1), torch.ones(batch.tokens))
    alone = [fetcher(data, 0.0, lessons)(indices[[place]], 0).lesson for place in range(4)]
    words = torch.cat([lesson.words for lesson in alone if lesson])
    assert torch.equal(batch.lesson.words, words)
    parts = halves(batch)
    assert torch.equal(torch.cat([part.lesson.words for part in parts if part.lesson]), words)
    assert [len(part.labels) for part in parts] == [
        len(part.lesson.shares) for part in parts if part.lesson
    ]
    nothing = nothing_of(batch)
    assert nothing.lesson is not None
    assert len(nothing.lesson.words) == 0
    moved = batch.to(CPU)
    assert moved.lesson is not None
    assert torch.equal(moved.lesson.words, words)
    assert assemble(np.array([[5, 2]]), np.array([[5, 2]])).lesson is None


def test_lessons_are_read_once_and_killed_reading_goes_on(
    models: tuple[Path, ...], data: Prepared, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teachers = Teachers.load(models[:2], CPU)
    monkeypatch.setattr(module, "_AT_ONCE", 64)
    whole = teachers.teach(data, "float32")
    words, shares = np.array(whole.words), np.array(whole.shares)
    calls: list[int] = []
    read = Teachers.read

    def counted(self: Teachers, store: object, rows: np.ndarray, precision: str) -> Lessons:
        calls.append(int(rows[0]))
        if len(calls) == 3 and rows[0] == 128:
            raise KeyboardInterrupt
        return read(self, store, rows, precision)  # type: ignore[arg-type]

    monkeypatch.setattr(Teachers, "read", counted)
    teachers.teach(data, "float32")
    assert calls == []
    monkeypatch.setattr(module, "cache_folder", lambda: cache / "other")
    with pytest.raises(KeyboardInterrupt):
        teachers.teach(data, "float32")
    (part,) = (cache / "other").glob(".*.part")
    with (part / "words").open("ab") as file:
        file.write(b"torn")
    again = teachers.teach(data, "float32")
    assert calls == [0, 64, 128, 128, 192, 256]
    assert np.array_equal(again.words, words)
    assert np.array_equal(again.shares, shares)


def test_lessons_that_cannot_be_kept_name_the_cache(
    models: tuple[Path, ...], data: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Lessons, folder: Path, first: int) -> None:
        raise OSError(28, "No space left on device", str(folder / "words"))

    monkeypatch.setattr(module, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(Lessons, "write", full)
    with pytest.raises(DataError) as caught:
        Teachers.load(models[:1], CPU).teach(data, "float32")
    assert "No space left on device" in caught.value.message
    assert "MTKIT_CACHE" in str(caught.value.hint)
    assert not list(tmp_path.iterdir())


def test_a_run_learns_from_its_teachers_and_has_their_vocabulary(
    models: tuple[Path, ...], tmp_path: Path
) -> None:
    events: list[Event] = []
    recipe = pupil(models, "tokenizer.vocabulary=700", "training.teaching=0.7")
    run = train(recipe, tmp_path / "run", listeners=[events.append])
    assert (run / "joint.spm").read_bytes() == (models[0] / "joint.spm").read_bytes()
    card = json.loads((run / "card.json").read_text())
    assert card["taught_by"] == [str(path) for path in models]
    assert any(isinstance(event, Preparing) and event.stage == STAGE for event in events)
    told = [event.message for event in events if isinstance(event, Noted)]
    assert any("with their vocabulary (900 pieces)" in message for message in told)
    losses = [event.loss for event in events if isinstance(event, Validated)]
    assert losses[-1] < losses[0]


def distance(teacher: Path, run: Path, *changes: str) -> float:
    """KL divergence, per training token, of a new pupil's distribution from its teacher's."""
    exact = ("training.label_smoothing=0", "model.dropout=0", "training.optimizer.rate=0.01")
    train(pupil((teacher,), *exact, "training.updates=60", "validation.every=60", *changes), run)
    ours, theirs = (model_dir.load(path) for path in (run, teacher))
    tokenizers = theirs.source_tokenizer, theirs.target_tokenizer
    store = prepare(Recipe.parse(RECIPE), tokenizers=tokenizers).train
    batch = collate(store.source, store.target, np.arange(100))
    with torch.no_grad():
        logs = [
            each.model(batch.source, batch.inputs).flatten(0, 1)[batch.rows].log_softmax(-1)
            for each in (ours, theirs)
        ]
    return float((logs[1].exp() * (logs[1] - logs[0])).sum(1).mean())


def test_more_teaching_brings_the_model_nearer_to_its_teacher(
    models: tuple[Path, ...], tmp_path: Path
) -> None:
    alone = distance(models[0], tmp_path / "alone", "training.teaching=0")
    taught = distance(models[0], tmp_path / "taught", "training.teaching=1")
    assert taught < 0.8 * alone


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("tokenizer.sampling=0.1",), "one segmentation"),
        (("training.teaching=1.5",), "teaching"),
        (('training.teachers=["/nowhere"]',), "/nowhere: there is no such model directory"),
    ],
)
def test_what_cannot_teach_is_told(
    models: tuple[Path, ...], tmp_path: Path, changes: tuple[str, ...], said: str
) -> None:
    with pytest.raises(MTKitError) as caught:
        train(pupil(models, *changes), tmp_path / "run")
    assert said in caught.value.message
    assert not (tmp_path / "run" / "card.json").exists()


def test_teachers_of_another_vocabulary_are_refused(
    models: tuple[Path, ...], tmp_path: Path
) -> None:
    small = ["tokenizer.vocabulary=800", "training.updates=2", "validation.every=2"]
    other = train(Recipe.parse(RECIPE).changed(small), tmp_path / "other")
    with pytest.raises(MTKitError, match="cannot teach together: their vocabularies"):
        train(pupil((models[0], other)), tmp_path / "run")
    with pytest.raises(MTKitError, match=f"cannot teach {other}"):
        train(pupil(models[:1], f"training.start={other}"), tmp_path / "run")


def test_a_run_goes_on_with_the_same_teachers_alone(
    models: tuple[Path, ...], tmp_path: Path
) -> None:
    short = pupil(models[:2], "training.updates=8", "validation.every=4")
    once = train(pupil(models[:2], "training.updates=16", "validation.every=4"), tmp_path / "once")
    run = train(short, tmp_path / "run")
    longer = pupil(models[:2], "training.updates=16", "validation.every=4")
    train(longer, run)
    assert (run / "weights.safetensors").read_bytes() == (once / "weights.safetensors").read_bytes()
    (copy := tmp_path / "copy").mkdir()
    for file in models[1].iterdir():
        if file.is_file():
            (copy / file.name).write_bytes(file.read_bytes())
    moved = [str(models[0]), str(copy)]
    named = ", ".join(f'"{path}"' for path in moved)
    again = train(
        Recipe.parse(RECIPE).changed([f"training.teachers=[{named}]", "training.updates=4"]),
        tmp_path / "moved",
    )
    (copy / "weights.safetensors").write_bytes((models[0] / "weights.safetensors").read_bytes())
    with pytest.raises(DataError, match="teachers"):
        train(
            Recipe.parse(RECIPE).changed([f"training.teachers=[{named}]", "training.updates=8"]),
            again,
        )
