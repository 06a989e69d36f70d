"""From a recipe to tokenizers and stores."""

import contextlib
import fcntl
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mtkit.data.corpus import open_corpus
from mtkit.data.prepare import Prepared, prepare
from mtkit.data.spool import Spool
from mtkit.data.store import Side, TextWriter
from mtkit.data.tokenizer import Tokenizer, normalise
from mtkit.errors import DataError, MTKitError, RecipeError
from mtkit.recipe import Recipe, TokenizerSection
from mtkit.symbols import EOS
from tests.conftest import Place

NOUNS = {"Hund": "dog", "Haus": "house", "Garten": "garden", "Apfel": "apple", "Tag": "day"}
VERBS = {"sieht": "sees", "kauft": "buys", "sucht": "seeks", "findet": "finds"}
WORDS = {"heute": "today", "morgen": "tomorrow", "jetzt": "now", "nie": "never", "oft": "often"}

Rows = Sequence[tuple[str, str]]


def all_pairs() -> list[tuple[str, str]]:
    """500 different pairs, each sentence in one of them only."""
    pairs = [
        (f"Der {a} {verb} den {b} {word}.", f"The {NOUNS[a]} {VERBS[verb]} the {NOUNS[b]} {told}.")
        for a in NOUNS
        for b in NOUNS
        for verb in VERBS
        for word, told in WORDS.items()
    ]
    random.Random(1).shuffle(pairs)
    return pairs


def write(folder: Path, pairs: Rows, name: str = "train") -> str:
    """Write two files; the name of the corpus."""
    folder.mkdir(exist_ok=True)
    for side, language in enumerate(("de", "en")):
        text = "".join(pair[side] + "\n" for pair in pairs)
        (folder / f"{name}.{language}").write_text(text, encoding="utf-8")
    return f"{folder / name}.{{de,en}}"


def recipe(train: str, *changes: str) -> Recipe:
    few = ["data.held_out=20", "tokenizer.vocabulary=320"]
    return Recipe.from_table({"data": {"train": [train]}}).changed([*few, *changes])


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    return write(tmp_path / "data", all_pairs())


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def texts(side: Side, tokenizer: Tokenizer) -> list[str]:
    rows = [side[index].tolist() for index in range(len(side))]
    assert all(row[-1] == EOS for row in rows)
    return tokenizer.decode(rows)


def trained_on(data: Prepared) -> list[tuple[str, str]]:
    return list(
        zip(
            texts(data.train.source, data.source_tokenizer),
            texts(data.train.target, data.target_tokenizer),
            strict=True,
        )
    )


def validated_on(data: Prepared) -> list[tuple[str, str]]:
    return [(pair.source, pair.target) for pair in data.valid_pairs]


@pytest.mark.parametrize("joint", ["true", "false"])
def test_prepared_pairs_are_the_corpus(corpus: str, cache: Path, joint: str) -> None:
    sizes = ("tokenizer.joint=" + joint, "tokenizer.vocabulary=300")
    data = prepare(recipe(corpus, *sizes), cache=cache)
    assert (data.source_tokenizer is data.target_tokenizer) == (joint == "true")
    assert sorted(trained_on(data) + validated_on(data)) == sorted(all_pairs())
    decoded = zip(
        texts(data.valid.source, data.source_tokenizer),
        texts(data.valid.target, data.target_tokenizer),
        strict=True,
    )
    assert list(decoded) == validated_on(data)
    assert data.languages == ("de", "en")


def test_empty_training_corpus_is_an_error_with_a_way_out(cache: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.train") as raised:
        prepare(Recipe(), cache=cache)
    assert "--set data.train=" in (raised.value.hint or "")


def test_held_out_pairs_share_no_sentence_with_training(tmp_path: Path, cache: Path) -> None:
    rng = random.Random(3)
    pairs = all_pairs()
    # Other translations of the same sentences, doubled pairs, and the same with other spaces.
    others = [(source, target.upper()) for source, target in pairs[:100]]
    others += [(source.upper(), target) for source, target in pairs[50:150]]
    others += [(source.replace(" ", "  "), target.lower()) for source, target in pairs[:100]]
    everything = pairs + others + pairs[:200]
    rng.shuffle(everything)
    data = prepare(recipe(write(tmp_path / "data", everything)), cache=cache)
    held = validated_on(data)
    assert len(held) == len(set(held)) == 20
    assert set(held) <= set(everything)
    left = trained_on(data)
    assert not {normalise(s) for s, _ in held} & {s for s, _ in left}
    assert not {normalise(t) for _, t in held} & {t for _, t in left}
    # ... and nothing else was taken away.
    sources, targets = ({normalise(pair[side]) for pair in held} for side in (0, 1))
    kept = [p for p in everything if normalise(p[0]) not in sources and p[1] not in targets]
    assert sorted(left) == sorted((normalise(s), normalise(t)) for s, t in kept)
    gone = len(everything) - len(left) - 20
    assert any("20 pairs" in note and f"; {gone} more" in note for note in data.notes)


def test_held_out_pairs_depend_on_nothing_but_the_pairs(tmp_path: Path, cache: Path) -> None:
    first = prepare(recipe(write(tmp_path / "a", all_pairs())), cache=cache)
    turned = write(tmp_path / "b", all_pairs()[::-1])
    second = prepare(recipe(turned, "training.seed=9", "data.max_length=100"), cache=cache)
    assert validated_on(first) == validated_on(second)
    assert first.fingerprint != second.fingerprint


def test_too_small_corpus_names_a_number_to_hold_out(tmp_path: Path, cache: Path) -> None:
    train = write(tmp_path / "data", all_pairs()[:39])
    with pytest.raises(DataError, match="39 pairs: too few") as raised:
        prepare(recipe(train, "tokenizer.kind=char"), cache=cache)
    hint = (raised.value.hint or "").removeprefix("--set ").split(",")[0]
    data = prepare(recipe(train, "tokenizer.kind=char", hint), cache=cache)
    assert len(data.valid) + len(data.train) == 39
    assert not [path for path in cache.iterdir() if path.name.startswith(".")]


def test_corpus_of_one_pair_repeated_is_too_small(tmp_path: Path, cache: Path) -> None:
    train = write(tmp_path / "data", all_pairs()[:1] * 100)
    with pytest.raises(DataError, match="1 different pairs") as raised:
        prepare(recipe(train, "tokenizer.kind=char"), cache=cache)
    assert (raised.value.hint or "").startswith("name a validation corpus")


def test_validation_corpus_is_kept_whole(tmp_path: Path, cache: Path) -> None:
    pairs = all_pairs()
    train = write(tmp_path / "data", pairs[:400])
    long = ("Der Hund " * 60 + ".", "The dog.")
    valid = write(tmp_path / "data", [*pairs[398:440], ("", "nothing"), long], "valid")
    changes = (f"data.valid=['{valid}']", "data.max_length=40")
    data = prepare(recipe(train, *changes), cache=cache)
    assert validated_on(data) == [*pairs[398:440], long]
    assert len(data.train) == 400
    assert any("Validation: 43 pairs of 44 rows" in note for note in data.notes)
    assert any(note.startswith("2 training pairs have") for note in data.notes)


def test_long_pairs_are_left_out_as_pairs_and_named(tmp_path: Path, cache: Path) -> None:
    pairs = all_pairs()
    pairs[100] = (pairs[100][0], "The dog " * 50 + "sleeps.")
    pairs[200] = ("Die Katze " * 80 + "schläft.", pairs[200][1])
    data = prepare(recipe(write(tmp_path / "data", pairs), "data.max_length=60"), cache=cache)
    missing = set(pairs) - set(trained_on(data)) - set(validated_on(data))
    assert missing == {(normalise(s), t) for s, t in (pairs[100], pairs[200])}
    assert data.train.lengths.max() <= 61  # the EOS is not counted
    (note,) = [note for note in data.notes if "more than 60 tokens" in note]
    assert "2 with" in note
    assert "pair 201: Die Katze" in note


def test_limit_that_leaves_nothing_names_one_that_does_not(corpus: str, cache: Path) -> None:
    with pytest.raises(DataError, match="at most 2 tokens") as raised:
        prepare(recipe(corpus, "data.max_length=2"), cache=cache)
    hint = (raised.value.hint or "").removeprefix("--set ")
    assert len(prepare(recipe(corpus, hint), cache=cache).train) == 480


def test_every_stage_is_heard_to_its_end(corpus: str, cache: Path) -> None:
    heard: dict[str, list[float | None]] = {}
    prepare(
        recipe(corpus), cache=cache, listen=lambda s, part, _: heard.setdefault(s, []).append(part)
    )
    for stage in ("reading the corpus", "training the tokenizer", "encoding"):
        assert heard[stage][-1] == 1.0, stage


def test_cached_data_are_the_prepared_data(corpus: str, cache: Path) -> None:
    stages: list[str] = []
    data = prepare(recipe(corpus), cache=cache, listen=lambda stage, *_: stages.append(stage))
    assert "training the tokenizer" in stages
    stages.clear()
    again = prepare(recipe(corpus), cache=cache, listen=lambda stage, *_: stages.append(stage))
    assert "training the tokenizer" not in stages
    assert again.notes == data.notes
    assert again.fingerprint == data.fingerprint
    assert again.valid_pairs == data.valid_pairs
    assert again.source_tokenizer is again.target_tokenizer
    assert trained_on(again) == trained_on(data)
    assert [path.name for path in cache.iterdir()] == [data.train.folder.parent.name]


@pytest.mark.parametrize(
    "change",
    [
        "data.held_out=21",
        "data.max_length=199",
        "tokenizer.kind=word",
        "tokenizer.vocabulary=29",
        "tokenizer.joint=false",
        "tokenizer.byte_fallback=false",
        "tokenizer.character_coverage=0.999",
        "tokenizer.sample_lines=100",
        "tokenizer.sampling=0.1",
    ],
)
def test_cache_is_not_used_for_other_knobs(corpus: str, cache: Path, change: str) -> None:
    base = ("tokenizer.kind=char", "tokenizer.vocabulary=30")
    first = prepare(recipe(corpus, *base), cache=cache)
    second = prepare(recipe(corpus, *base, change), cache=cache)
    assert first.fingerprint != second.fingerprint


@pytest.mark.parametrize("change", ["training.seed=5", "model.width=64", "validation.every=7"])
def test_cache_is_used_whatever_the_model(corpus: str, cache: Path, change: str) -> None:
    first = prepare(recipe(corpus), cache=cache)
    assert prepare(recipe(corpus, change), cache=cache).fingerprint == first.fingerprint


def test_cache_goes_by_the_content_of_the_files(tmp_path: Path, cache: Path) -> None:
    pairs = all_pairs()
    first = prepare(recipe(write(tmp_path / "here", pairs)), cache=cache)
    moved = prepare(recipe(write(tmp_path / "there", pairs)), cache=cache)
    assert moved.fingerprint == first.fingerprint
    pairs[7] = (pairs[7][0].replace("Der", "Das"), pairs[7][1])
    changed = prepare(recipe(write(tmp_path / "here", pairs)), cache=cache)
    assert changed.fingerprint != first.fingerprint
    assert sorted(trained_on(changed) + validated_on(changed)) == sorted(pairs)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [Path.unlink, cut])
@pytest.mark.parametrize(
    "name",
    ["prepared.json", "joint.spm", "train/meta.json", "train/source.ids", "valid/target.text"],
)
def test_damaged_cache_is_made_anew(
    corpus: str, cache: Path, name: str, damage: Callable[[Path], None]
) -> None:
    data = prepare(recipe(corpus), cache=cache)
    wanted = trained_on(data), validated_on(data)
    damage(data.train.folder.parent / name)
    again = prepare(recipe(corpus), cache=cache)
    assert (trained_on(again), validated_on(again)) == wanted
    assert len(list(cache.iterdir())) == 1


def fingerprint_of(train: str, cache: Path) -> tuple[str, int]:
    data = prepare(recipe(train), cache=cache)
    return data.fingerprint, len(trained_on(data))


def test_processes_that_prepare_at_once_agree(corpus: str, cache: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(3, mp_context=context) as pool:
        found = [pool.submit(fingerprint_of, corpus, cache) for _ in range(6)]
        results = {future.result() for future in found}
    assert len(results) == 1
    assert len(list(cache.iterdir())) == 1


def files_of(data: Prepared) -> dict[str, bytes]:
    """Every file of the prepared data but what tells of the preparation."""
    folder = data.train.folder.parent
    found = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in found.items()}


@pytest.mark.parametrize("change", ["tokenizer.joint=true", "tokenizer.joint=false", "held out"])
def test_any_number_of_workers_prepares_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    pairs = all_pairs()
    pairs[123] = ("Die Katze " * 80 + "schläft.", pairs[123][1])
    corpus = write(tmp_path / "data", pairs + pairs[:30])
    changes = ["data.max_length=60", "tokenizer.sampling=0.1", "tokenizer.vocabulary=300"]
    if change != "held out":
        valid = write(tmp_path / "data", pairs[300:340], "valid")
        changes += [f"data.valid=['{valid}']", change]
    named = recipe(corpus, *changes)
    whole = files_of(prepare(named, cache=tmp_path / "one", workers=1))
    assert len(whole) > 10
    monkeypatch.setattr(Spool, "chunk", 37)
    for workers in (1, 2, 5):
        data = prepare(named, cache=tmp_path / f"{workers} in parts", workers=workers)
        assert files_of(data) == whole


def killed_at(named: Recipe, cache: Path, stage: str, fraction: float) -> int:
    """Prepare in a process that kills itself there; how it ended."""
    child = os.fork()
    if not child:

        def kill(heard: str, done: float | None, rate: float) -> None:
            if heard == stage and (done or 0.0) >= fraction:
                os.kill(os.getpid(), signal.SIGKILL)

        with contextlib.suppress(BaseException):
            prepare(named, cache=cache, listen=kill, workers=2)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def test_killed_preparation_goes_on_where_it_was(
    corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = files_of(prepare(recipe(corpus), cache=tmp_path / "whole"))
    monkeypatch.setattr(Spool, "chunk", 37)
    stages = {
        "reading the corpus": 0.0,
        "choosing pairs to validate on": 0.5,
        "comparing with the pairs to validate on": 0.5,
        "training the tokenizer": 0.0,
        "encoding": 0.5,
    }
    cache = tmp_path / "cache"
    for stage, fraction in stages.items():
        assert killed_at(recipe(corpus), cache, stage, fraction) == signal.SIGKILL
    (left,) = cache.glob(".*.part")
    assert len(list((left / "spool" / "parts").glob("*.json"))) >= 7
    heard: list[tuple[str, float]] = []
    data = prepare(recipe(corpus), cache=cache, listen=lambda s, _, rate: heard.append((s, rate)))
    assert [path.name for path in cache.iterdir()] == [data.train.folder.parent.name]
    assert files_of(data) == whole
    assert {stage for stage, _ in heard} & set(stages) == {"training the tokenizer", "encoding"}
    rates = [rate for stage, rate in heard if stage == "encoding"]
    # What lay there is not counted as work of this sitting.
    assert rates[1:8] == [0.0] * 7
    assert rates[-1] > 0


def test_reading_goes_on_behind_the_chunks_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Spool, "chunk", 50)
    corpus = open_corpus(write(tmp_path / "data", all_pairs()))
    path = tmp_path / "spool"
    whole = Spool(path, corpus, lambda *_: None)
    texts = whole.take(np.arange(500))
    (path / "facts.json").unlink()
    with (path / "source.text").open("r+b") as file:  # killed while some of it was not yet written
        file.truncate(9_000)
    added: list[int] = []
    monkeypatch.setattr(
        TextWriter,
        "add",
        lambda self, some, add=TextWriter.add: added.append(len(some)) or add(self, some),
    )
    again = Spool(path, corpus, lambda *_: None)
    assert 0 < sum(added) / 2 < 500
    assert again.take(np.arange(500)) == texts
    assert (again.ends, again.report) == (whole.ends, whole.report)


def test_what_was_abandoned_goes_and_what_is_in_use_stays(corpus: str, cache: Path) -> None:
    ago = time.time() - 30 * 24 * 3600
    for name in (".long-dead.part", ".long-working.part", ".new.part"):
        (cache / name / "spool").mkdir(parents=True)
        os.utime(cache / name, (ago, ago) if "long" in name else None)
    (cache / ".vanished.part").symlink_to("nowhere")  # it can be listed, but not looked at
    with (cache / ".long-working.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        prepare(recipe(corpus), cache=cache)
    left = {".long-working.part", ".long-working.lock", ".new.part", ".vanished.part"}
    assert {path.name for path in cache.glob(".*")} == left


def test_half_a_store_of_a_killed_preparation_is_not_kept(corpus: str, cache: Path) -> None:
    folder = prepare(recipe(corpus), cache=cache).train.folder.parent
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(folder)
    (aside / ".train.0123").mkdir(parents=True)
    (aside / ".train.0123" / "source.ids").write_bytes(bytes(1000))
    prepare(recipe(corpus), cache=cache)
    assert not aside.exists()
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_failed_preparation_leaves_nothing(corpus: str, cache: Path) -> None:
    with pytest.raises(RecipeError, match="at most"):
        prepare(recipe(corpus, "tokenizer.vocabulary=50000"), cache=cache)
    assert list(cache.iterdir()) == []


def test_preparation_that_lost_a_fork_keeps_what_was_made(
    corpus: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Tokenizer.train

    def dying(*_: object) -> Tokenizer:
        os._exit(9)

    monkeypatch.setattr(Spool, "chunk", 37)  # small corpora are prepared without forks
    monkeypatch.setattr(Tokenizer, "train", dying)
    with pytest.raises(DataError, match="ended unexpectedly"):
        prepare(recipe(corpus), cache=cache, workers=2)
    (left,) = cache.iterdir()
    assert (left / "spool").is_dir()
    monkeypatch.setattr(Tokenizer, "train", whole)
    heard: list[str] = []
    prepare(recipe(corpus), cache=cache, listen=lambda stage, *_: heard.append(stage), workers=2)
    assert "reading the corpus" not in heard


def test_fingerprint_is_of_the_learnt_tokenizers_too(
    corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine may learn another vocabulary from the same corpus."""
    one = prepare(recipe(corpus), cache=tmp_path / "one")
    same = prepare(recipe(corpus), cache=tmp_path / "same")
    other = Tokenizer.train(["other words"] * 9, TokenizerSection(kind="char", vocabulary=40))
    monkeypatch.setattr(Tokenizer, "train", lambda *_: other)
    another = prepare(recipe(corpus), cache=tmp_path / "another")
    assert one.fingerprint == same.fingerprint
    assert one.fingerprint != another.fingerprint


def test_cache_that_cannot_be_written_is_an_error(corpus: str, cache: Path) -> None:
    cache.write_text("a file stands in the way")
    with pytest.raises(DataError, match="cannot be kept") as raised:
        prepare(recipe(corpus), cache=cache)
    assert "MTKIT_CACHE" in (raised.value.hint or "")


# A disk does not become read-only while the lock is open.
@pytest.mark.parametrize(
    ("stage", "place"),
    [
        *(("looking for the corpora", kind) for kind in ("full disk", "read-only", "file limit")),
        *(("training the tokenizer", kind) for kind in ("full disk", "file limit")),
    ],
    indirect=["place"],
)
def test_cache_without_room_is_an_error_that_leaves_nothing(
    corpus: str, place: Place, stage: str
) -> None:
    cache = place.folder / "cache"

    def fill(heard: str, done: float | None, rate: float) -> None:
        if heard == stage and not done:
            place.close()

    # The vocabulary alone is more than a limited file may hold.
    named = recipe(corpus, "tokenizer.vocabulary=420", "data.held_out=1")
    with pytest.raises(DataError, match=r"prepared data cannot be kept there \(") as raised:
        prepare(named, cache=cache, listen=fill)
    assert str(cache) in raised.value.message
    assert "MTKIT_CACHE" in (raised.value.hint or "")
    place.open()
    assert not cache.exists() or place.kind == "read-only" or list(cache.iterdir()) == []
    assert len(prepare(named, cache=cache).train) == 499


def test_cache_is_where_the_environment_says(
    corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("MTKIT_CACHE", raising=False)
    assert prepare(recipe(corpus)).train.folder.is_relative_to(tmp_path / "xdg" / "mtkit")
    monkeypatch.setenv("MTKIT_CACHE", str(tmp_path / "own"))
    assert prepare(recipe(corpus)).train.folder.is_relative_to(tmp_path / "own")


def test_texts_are_kept_for_sampling_beside_their_ids(tmp_path: Path, cache: Path) -> None:
    pairs = all_pairs()
    pairs[3] = ("Die Katze " * 80, pairs[3][1])  # one that is left out in their midst
    train = write(tmp_path / "data", pairs)
    plain = prepare(recipe(train, "data.max_length=60"), cache=cache)
    assert plain.train.source.texts is None
    data = prepare(recipe(train, "data.max_length=60", "tokenizer.sampling=0.1"), cache=cache)
    kept = data.train.source.texts, data.train.target.texts
    assert kept[0] is not None
    assert kept[1] is not None
    found = [(kept[0][index], kept[1][index]) for index in range(len(data.train))]
    assert found == trained_on(data)
    assert trained_on(data) == trained_on(plain)


def test_tokenizer_learns_from_the_whole_corpus(tmp_path: Path, cache: Path) -> None:
    # Three blocks, each with a letter of its own; a sample of the head would know only one.
    pairs = [(f"{c} {i} {c}", f"{c} {i}") for c in "äöü" for i in range(300)]
    changes = ("tokenizer.kind=char", "tokenizer.sample_lines=30")
    data = prepare(recipe(write(tmp_path / "data", pairs), *changes), cache=cache)
    pieces = {data.source_tokenizer.piece(token) for token in range(data.source_tokenizer.size)}
    assert {"ä", "ö", "ü"} <= pieces


def test_given_tokenizers_are_used_as_they_are(tmp_path: Path, cache: Path) -> None:
    first = prepare(recipe(write(tmp_path / "a", all_pairs())), cache=cache)
    given = first.source_tokenizer, first.target_tokenizer
    train = write(tmp_path / "b", [(s.upper(), t.upper()) for s, t in all_pairs()])
    second = prepare(recipe(train), cache=cache, tokenizers=given)
    assert second.source_tokenizer.fingerprint == given[0].fingerprint
    assert second.source_tokenizer is second.target_tokenizer
    assert sorted(trained_on(second) + validated_on(second)) == sorted(
        (s.upper(), t.upper()) for s, t in all_pairs()
    )
    other = prepare(recipe(train), cache=cache)
    assert other.fingerprint != second.fingerprint


def test_unknown_validation_tokens_are_told(tmp_path: Path, cache: Path) -> None:
    train = write(tmp_path / "data", all_pairs())
    valid = write(tmp_path / "data", [("Der Elefant schnarcht.", "The dog sees.")], "valid")
    changes = ("tokenizer.kind=word", "tokenizer.vocabulary=30", f"data.valid=['{valid}']")
    notes = prepare(recipe(train, *changes), cache=cache).notes
    assert any("of the validation source tokens are unknown" in note for note in notes)
    notes = prepare(recipe(train, changes[2]), cache=cache).notes
    assert not any("unknown" in note for note in notes)


def test_language_that_contradicts_the_corpus_is_an_error(corpus: str, cache: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.source_language = 'en', but .* has de"):
        prepare(recipe(corpus, "data.source_language=en"), cache=cache)
    data = prepare(recipe(corpus, "data.source_language=de-AT"), cache=cache)
    assert data.languages == ("de-AT", "en")


def test_awkward_text_is_prepared_and_not_lost(tmp_path: Path, cache: Path) -> None:
    odd = [("a\0b", "nul"), ("x\u2028y", "line separator"), ("▁", "block"), ("ㅋㅋ…", "quote “a”")]
    train = write(tmp_path / "data", all_pairs() + odd)
    data = prepare(recipe(train, "data.held_out=1"), cache=cache)
    both = trained_on(data) + [(normalise(s), normalise(t)) for s, t in validated_on(data)]
    assert {(normalise(s), t) for s, t in odd} <= set(both)


def test_real_corpus_is_prepared_whole(shared_data: Path, cache: Path) -> None:
    folder = shared_data / "tatoeba-ko-en"
    named = Recipe().changed(
        [f"data.train=['{folder}/train.tsv']", f"data.valid=['{folder}/valid.tsv']"]
    )
    data = prepare(named.changed(["tokenizer.vocabulary=4000"]), cache=cache)
    assert data.source_tokenizer.size == 4000
    wanted = [normalise(pair.target) for pair in data.valid_pairs]
    assert texts(data.valid.target, data.target_tokenizer) == wanted
    assert len(data.train) > 1000


def test_errors_are_sentences_with_a_hint(corpus: str, cache: Path) -> None:
    for change in ("tokenizer.vocabulary=50000", "data.held_out=400", "tokenizer.vocabulary=10"):
        with pytest.raises(MTKitError) as raised:
            prepare(recipe(corpus, change), cache=cache)
        assert raised.value.hint
        assert "\n" not in raised.value.message
