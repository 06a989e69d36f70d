import io
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import Hub, Repositories, serve

ROWS = [("eins", "one"), ("zwei", "two"), ("", "three"), ("vier\nfünf", "four five")]
PAIRS = [["eins", "one"], ["zwei", "two"], ["vier fünf", "four five"]]

# The libraries read HF_ENDPOINT and HF_HOME when they are imported, so each world is a process.
PROGRAM = """
import json, sys, time
from mtkit.data.corpus import open_corpus
from mtkit.errors import DataError
for name in sys.argv[1:]:
    start = time.monotonic()
    try:
        streaming = name.startswith("streaming ")
        corpus = open_corpus(name.removeprefix("streaming "), streaming=streaming)
        answer = {
            "pairs": [[pair.source, pair.target] for pair in corpus],
            "languages": corpus.languages,
            "fingerprint": corpus.fingerprint(),
            "dropped": corpus.report.dropped,
        }
    except DataError as error:
        answer = {"message": error.message, "hint": error.hint}
    print(json.dumps({**answer, "seconds": time.monotonic() - start}), flush=True)
"""


@dataclass(frozen=True)
class Answer:
    """What became of one corpus name in the other process."""

    pairs: list[list[str]] | None = None
    languages: list[str | None] | None = None
    fingerprint: str = ""
    dropped: int = 0
    message: str = ""
    hint: str | None = None
    seconds: float = 0.0


def ask(home: Path, endpoint: str, *names: str, offline: bool = False) -> list[Answer]:
    """Open the corpora in a fresh process that sees this Hub and this cache; it must be silent."""
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": str(int(offline))}
    for variable in ("HF_DATASETS_CACHE", "HF_HUB_CACHE", "HF_DATASETS_OFFLINE", "HF_TOKEN"):
        settings[variable] = ""
    kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    environment = {**kept, **settings}
    for variable in [key for key, value in settings.items() if not value]:
        del environment[variable]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *names],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return [Answer(**json.loads(line)) for line in done.stdout.split("\n") if line]


def parquet(rows: list[tuple[str, str]]) -> bytes:
    table = pa.table(
        {
            "id": list(range(len(rows))),
            "translation": [{"de": source, "en": target} for source, target in rows],
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def repositories() -> Repositories:
    texts = "".join(f"{json.dumps({'de': de, 'en': en, 'note': 'x'})}\n" for de, en in ROWS)
    configs = "".join(
        f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}.jsonl\n"
        for name in ("de-en", "fr-en")
    )
    return {
        "someone/greetings": {
            "README.md": b"# Greetings\n",
            "data/train-00000-of-00001.parquet": parquet(ROWS),
            "data/test-00000-of-00001.parquet": parquet(ROWS[:1]),
        },
        "someone/columns": {
            "README.md": f"---\nconfigs:\n{configs}---\n".encode(),
            "de-en.jsonl": texts.encode(),
            "fr-en.jsonl": texts.encode(),
        },
        "someone/script": {"README.md": b"# A script\n", "script.py": b"raise SystemExit\n"},
        "someone/nothing": {"README.md": b"# Nothing\n"},
    }


@dataclass(frozen=True)
class World:
    """A Hub that is gone now, the cache it filled, and what was answered while it was there."""

    home: Path
    hub: Hub
    answers: dict[str, Answer]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    home = tmp_path_factory.mktemp("hub")
    names = [
        "hf:someone/greetings:train",
        "hf:someone/greetings:train[1:2]#en,de",
        "streaming hf:someone/greetings:train",
        "streaming hf:someone/greetings:test#en,de",
        "streaming hf:someone/columns/de-en:train#de,en",
        "streaming hf:someone/greetings:train[:2]",
        "hf:someone/columns/de-en:train#de,en",
        "hf:someone/columns/fr-en:train#de,en",
        "hf:someone/columns/fr-en:train",
        "hf:someone/columns:train#de,en",
        "hf:someone/columns/cs-en:train#de,en",
        "hf:someone/greetings",
        "hf:someone/greetings:dev#de,en",
        "streaming hf:someone/greetings:dev",
        "hf:someone/greetings:train#de,fr",
        "hf:someone/script:train",
        "hf:someone/nothing:train",
        "hf:someone/missing:train",
    ]
    with serve(repositories()) as hub:
        answers = ask(home, hub.address, *names)
    return World(home, hub, dict(zip(names, answers, strict=True)))


def test_hub_dataset_is_downloaded_with_its_translation_column(world: World) -> None:
    answer = world.answers["hf:someone/greetings:train"]
    assert answer.pairs == PAIRS
    assert answer.languages == ["de", "en"]
    assert answer.dropped == 1
    assert any("GET" in line and "train-00000" in line for line in world.hub.requests)


def test_hub_dataset_takes_the_named_part_and_direction(world: World) -> None:
    answer = world.answers["hf:someone/greetings:train[1:2]#en,de"]
    assert answer.pairs == [["two", "zwei"]]
    assert answer.languages == ["en", "de"]


def test_streaming_gives_the_same_pairs_under_the_same_fingerprint(world: World) -> None:
    loaded = world.answers["hf:someone/greetings:train"]
    streamed = world.answers["streaming hf:someone/greetings:train"]
    assert streamed.pairs == loaded.pairs
    assert streamed.fingerprint == loaded.fingerprint
    reverse = world.answers["streaming hf:someone/greetings:test#en,de"]
    assert reverse.pairs == [["one", "eins"]]
    assert reverse.fingerprint != loaded.fingerprint


def test_hub_dataset_with_configurations_and_flat_columns_is_read(world: World) -> None:
    answer = world.answers["streaming hf:someone/columns/de-en:train#de,en"]
    assert answer.pairs == PAIRS
    one, other = (world.answers[f"hf:someone/columns/{c}:train#de,en"] for c in ("de-en", "fr-en"))
    assert answer.fingerprint == one.fingerprint
    assert other.fingerprint != one.fingerprint


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        (
            "hf:someone/greetings",
            "hf:someone/greetings needs a split; there are train, test",
            "hf:someone/greetings:train",
        ),
        (
            "hf:someone/greetings:dev#de,en",
            "hf:someone/greetings has no split dev; there are train, test",
            "hf:someone/greetings:train#de,en",
        ),
        (
            "streaming hf:someone/greetings:dev",
            "hf:someone/greetings has no split dev; there are train, test",
            "hf:someone/greetings:train",
        ),
        (
            "streaming hf:someone/greetings:train[:2]",
            "hf:someone/greetings:train[:2]: streaming reads whole splits",
            "data.streaming=false",
        ),
        (
            "hf:someone/greetings:train#de,fr",
            "there is no text column fr; there are de, en",
            "hf:someone/greetings:train#de,en",
        ),
        (
            "hf:someone/columns/fr-en:train",
            "has the columns de, en, note",
            "hf:someone/columns/fr-en:train#de,en",
        ),
        (
            "hf:someone/columns:train#de,en",
            "someone/columns has several configurations; there are de-en, fr-en",
            "hf:someone/columns/de-en:train#de,en",
        ),
        (
            "hf:someone/columns/cs-en:train#de,en",
            "someone/columns has no configuration cs-en; there are de-en, fr-en",
            "hf:someone/columns/de-en:train#de,en",
        ),
        (
            "hf:someone/script:train",
            "someone/script is a loading script, and the datasets library runs none",
            "data files",
        ),
        ("hf:someone/nothing:train", "doesn't contain any data files", "/someone/nothing"),
        ("hf:someone/missing:train", "has no dataset someone/missing", "hf auth login"),
    ],
)
def test_hub_failure_is_one_sentence_with_a_hint(
    world: World, name: str, message: str, hint: str
) -> None:
    answer = world.answers[name]
    assert message in answer.message
    assert hint in (answer.hint or "")
    assert "\n" not in answer.message
    assert len(answer.message) < 250


def test_cached_dataset_is_read_offline_and_without_a_hub_failure_comes_soon(world: World) -> None:
    start = time.monotonic()
    cached, uncached = ask(
        world.home,
        world.hub.address,
        "hf:someone/greetings:train",
        "hf:someone/other:train",
        offline=True,
    )
    assert cached.pairs == PAIRS
    assert cached.fingerprint == world.answers["hf:someone/greetings:train"].fingerprint
    assert "someone/other is not in the cache, and HF_HUB_OFFLINE" in uncached.message
    assert uncached.hint == "unset HF_HUB_OFFLINE"

    [gone] = ask(world.home, world.hub.address, "hf:someone/other:train")
    assert f"{world.hub.address} cannot be reached" in gone.message
    assert "HF_ENDPOINT" in (gone.hint or "")
    # With its own retries the library gives up after 23 seconds.
    assert gone.seconds < 12
    assert time.monotonic() - start < 60


def test_local_dataset_folders_are_read(tmp_path: Path) -> None:
    program = """
import sys, datasets
rows = [{"translation": {"de": "eins", "en": "one"}}]
dataset = datasets.Dataset.from_list(rows)
dataset.save_to_disk(sys.argv[1] + "/single")
two = [{"translation": {"de": "zwei", "en": "two"}}, *rows]
datasets.Dataset.from_list(two, split="train").save_to_disk(sys.argv[1] + "/two")
datasets.Dataset.from_list(rows, split="train[:1]").save_to_disk(sys.argv[1] + "/sliced")
datasets.DatasetDict({"train": datasets.Dataset.from_list(two)}).save_to_disk(
    sys.argv[1] + "/parts"
)
datasets.DatasetDict({"train": dataset, "valid": dataset}).save_to_disk(sys.argv[1] + "/splits")
"""
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env=environment,
        check=True,
        capture_output=True,
    )
    (tmp_path / "files").mkdir()
    (tmp_path / "files/train.jsonl").write_text('{"de": "eins", "en": "one", "n": 1}\n')
    *read, wrong, unnamed = ask(
        tmp_path / "home",
        "http://hub.invalid",
        f"hf:{tmp_path}/single",
        f"hf:{tmp_path}/splits:valid",
        f"hf:{tmp_path}/splits:train#de,en",
        f"hf:{tmp_path}/files:train",
        f"streaming hf:{tmp_path}/files:train",
        f"hf:{tmp_path}/two:train[1:]",
        f"hf:{tmp_path}/parts:train[50%:]",
        f"hf:{tmp_path}/sliced:train[:1]",
        f"hf:{tmp_path}/splits:test",
        f"hf:{tmp_path}/files",
        offline=True,
    )
    for answer in read:
        assert answer.pairs == [["eins", "one"]], answer
        assert answer.languages == ["de", "en"]
    assert len({answer.fingerprint for answer in read}) == 7
    assert "has no split test; there are train, valid" in wrong.message
    assert "needs a split; there are train" in unnamed.message
