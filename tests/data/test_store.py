"""The memory-mapped store."""

import shutil
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mtkit.data.store import Store, StoreWriter, TextWriter, read_texts
from mtkit.errors import DataError
from mtkit.symbols import EOS

PAIRS = [([5, 6, 7], [8]), ([], [9, 10]), ([65_535], [4, 4, 4, 4]), ([11, 12], [])]


@pytest.mark.parametrize(("size", "kind"), [(65_536, np.uint16), (65_537, np.int32)])
def test_store_gives_back_what_was_written_with_eos(tmp_path: Path, size: int, kind: type) -> None:
    store = Store.write(tmp_path / "store", PAIRS, (size, 100))
    assert len(store) == len(store.source) == len(store.target) == len(PAIRS)
    for index, (source, target) in enumerate(PAIRS):
        assert store.source[index].tolist() == [*source, EOS]
        assert store.target[index].tolist() == [*target, EOS]
    assert store.source.ids.dtype == kind
    assert store.target.ids.dtype == np.uint16
    assert store.lengths.dtype == np.int32
    assert store.lengths.tolist() == [[len(s) + 1, len(t) + 1] for s, t in PAIRS]
    assert store.source.tokens == sum(len(s) + 1 for s, _ in PAIRS)
    assert store.source.offsets.dtype == np.int64


def test_ids_beyond_sixteen_bits_are_kept(tmp_path: Path) -> None:
    store = Store.write(tmp_path / "store", [([100_000], [70_000])], (100_001, 100_001))
    assert store.source[0].tolist() == [100_000, EOS]
    assert store.target[0].tolist() == [70_000, EOS]


def test_chunks_make_the_same_store_as_one_piece(tmp_path: Path) -> None:
    whole = Store.write(tmp_path / "whole", PAIRS, (65_536, 100))
    with StoreWriter(tmp_path / "parts", (65_536, 100)) as writer:
        for source, target in PAIRS:
            writer.add([source], [target])
            writer.add([], [])
    for name in ("source.ids", "source.offsets", "target.ids", "target.offsets", "lengths"):
        assert (tmp_path / "parts" / name).read_bytes() == (whole.folder / name).read_bytes()


def test_texts_come_back_in_any_order(tmp_path: Path) -> None:
    sources = ["ein Haus", "", "두 집", "a\nb\u2028c\0", "half \ud800 pair"]
    targets = ["a house", "x", "zwei Häuser", "", "y"]
    with StoreWriter(tmp_path / "store", (100, 100), texts=True) as writer:
        writer.add([[5]] * 2, [[6]] * 2, (sources[:2], targets[:2]))
        writer.add([[5]] * 3, [[6]] * 3, (sources[2:], targets[2:]))
    store = Store.open(tmp_path / "store")
    assert store.source.texts is not None
    assert store.target.texts is not None
    wanted = [*sources[:4], "half \ufffd pair"]
    assert [store.source.texts[i] for i in (4, 2, 0, 3, 1)] == [wanted[i] for i in (4, 2, 0, 3, 1)]
    assert store.target.texts.take(np.array([0, 2, 4])) == [targets[i] for i in (0, 2, 4)]
    assert store.target.texts.take(np.array([], np.int64)) == []


def test_store_without_pairs_can_be_opened(tmp_path: Path) -> None:
    store = Store.write(tmp_path / "store", [], (100, 100))
    assert len(store) == len(store.source) == 0
    assert store.lengths.shape == (0, 2)


def test_writing_needs_memory_for_a_chunk_only(tmp_path: Path) -> None:
    rows, texts = [[5, 6, 7] * 10] * 500, ["some text"] * 500

    def peak(chunks: int) -> int:
        tracemalloc.start()
        with StoreWriter(tmp_path / str(chunks), (100, 100), texts=True) as writer:
            for _ in range(chunks):
                writer.add(rows, rows, (texts, texts))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)
    assert peak(100) < 1.2 * peak(10)


def test_failed_writing_leaves_nothing(tmp_path: Path) -> None:
    def pairs() -> Iterator[tuple[list[int], list[int]]]:
        yield [5], [6]
        raise DataError("line 2 is broken")

    with pytest.raises(DataError, match="line 2"):
        Store.write(tmp_path / "store", pairs(), (100, 100))
    assert list(tmp_path.iterdir()) == []


def test_new_store_takes_the_place_of_the_old(tmp_path: Path) -> None:
    old = Store.write(tmp_path / "store", PAIRS, (65_536, 100))
    new = Store.write(tmp_path / "store", [([42], [43])], (100, 100))
    assert new.source[0].tolist() == [42, EOS]
    assert old.source[0].tolist() == [5, 6, 7, EOS], "what was mapped stays readable"


@pytest.mark.parametrize(
    "name", ["meta.json", "lengths", "source.ids", "target.offsets", "source.text", "target.places"]
)
@pytest.mark.parametrize("damage", ["missing", "short", "empty"])
def test_damaged_store_is_an_error(tmp_path: Path, name: str, damage: str) -> None:
    folder = tmp_path / "store"
    with StoreWriter(folder, (65_536, 100), texts=True) as writer:
        sources, targets = zip(*PAIRS, strict=True)
        writer.add(sources, targets, (["text"] * len(PAIRS), ["Text"] * len(PAIRS)))
    path = folder / name
    if damage == "missing":
        path.unlink()
    else:
        size = 0 if damage == "empty" else path.stat().st_size // 2
        path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match="store"):
        Store.open(folder)


def test_store_of_another_format_is_an_error(tmp_path: Path) -> None:
    folder = Store.write(tmp_path / "my store", PAIRS, (65_536, 100)).folder
    meta = folder / "meta.json"
    meta.write_text(meta.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(DataError, match="format 99") as caught:
        Store.open(folder)
    assert (caught.value.hint or "").endswith(f"rm -r '{folder}'")


def test_store_can_be_moved(tmp_path: Path) -> None:
    Store.write(tmp_path / "here", PAIRS, (65_536, 100))
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert Store.open(tmp_path / "there").target[2].tolist() == [4, 4, 4, 4, EOS]


def test_texts_far_apart_take_no_memory_for_what_lies_between(tmp_path: Path) -> None:
    writer = TextWriter(tmp_path / "side")
    writer.add([f"{number} {'x' * 10_000}" for number in range(1000)])
    writer.close()
    texts = read_texts(tmp_path / "side")
    tracemalloc.start()
    found = texts.take(np.array([0, 999]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [text.split()[0] for text in found] == ["0", "999"]
    assert peak < 1_000_000
