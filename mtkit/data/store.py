"""A binarised corpus: the ids of both sides, memory-mapped, so that disk is the limit and not RAM.

A store is a folder: `meta.json`, `lengths` (int32 [pairs, 2]), and for each side `<side>.ids`,
`<side>.offsets` (int64 [pairs + 1]) and, where texts are kept, `<side>.text` (UTF-8) and
`<side>.places` (int64 [pairs + 1]); numbers lie one behind the other, as the machine writes them.
"""

import json
import secrets
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from shlex import quote
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from mtkit.errors import DataError
from mtkit.symbols import EOS

FORMAT = 1
_SIDES = ("source", "target")
_CHUNK = 50_000
_SPARSE = 16  # bytes that may be read for one that is wanted

Ids = Sequence[int]
Indices = Iterable[int] | NDArray[np.int64]


@dataclass(frozen=True)
class Texts:
    """Texts one behind the other; read by number, in any order."""

    data: NDArray[np.uint8]
    places: NDArray[np.int64]  # [texts + 1]

    def __len__(self) -> int:
        return len(self.places) - 1

    def __getitem__(self, index: int) -> str:
        start, end = self.places[index], self.places[index + 1]
        return self.data[start:end].tobytes().decode()

    def take(self, rows: NDArray[np.int64]) -> list[str]:
        """The texts at ascending rows, read in one piece unless they lie far apart."""
        if not len(rows):
            return []
        starts, ends = self.places[rows], self.places[rows + 1]
        first = starts[0]
        if ends[-1] - first > _SPARSE * max(int((ends - starts).sum()), 1 << 16):
            return [self[row] for row in rows.tolist()]
        data = self.data[first : ends[-1]].tobytes()
        cuts = zip((starts - first).tolist(), (ends - first).tolist(), strict=True)
        return [data[start:end].decode() for start, end in cuts]


class TextWriter:
    """Writes texts to two files, `<path>.text` and `<path>.places`, as they come."""

    def __init__(self, path: Path, keep: int = 0) -> None:
        """Goes on behind the first `keep` texts that lie there already."""
        self._end = int(read_texts(path).places[keep]) if keep else 0
        sizes = {".text": self._end, ".places": 8 * (keep + 1) if keep else 0}
        opened = [_opened(path.with_name(path.name + name), size) for name, size in sizes.items()]
        self._text, self._places = opened
        if not keep:
            self._places.write(np.zeros(1, np.int64).tobytes())

    def append(self, texts: Texts) -> None:
        """Write all of other texts."""
        self._text.write(texts.data.data)
        self._places.write((texts.places[1:] + self._end).tobytes())
        self._end += len(texts.data)

    def add(self, texts: Sequence[str]) -> None:
        """Write texts; what UTF-8 cannot hold (half a surrogate pair) becomes U+FFFD."""
        data = [_utf8(text) for text in texts]
        self._text.write(b"".join(data))
        places = np.cumsum(np.fromiter(map(len, data), np.int64, len(data))) + self._end
        self._places.write(places.tobytes())
        self._end = int(places[-1]) if len(data) else self._end

    def close(self) -> None:
        self._text.close()
        self._places.close()


def read_texts(path: Path) -> Texts:
    """What a `TextWriter` of the same path wrote."""
    return Texts(
        _map(path.with_name(path.name + ".text"), np.dtype(np.uint8)),
        _map(path.with_name(path.name + ".places"), np.dtype(np.int64)),
    )


def whole_texts(path: Path) -> int:
    """How many whole texts lie there, of a `TextWriter` that may have been killed."""
    sizes = []
    for name in (".text", ".places"):
        file = path.with_name(path.name + name)
        sizes.append(file.stat().st_size if file.exists() else 0)
    count = sizes[1] // 8
    if not count:
        return 0
    places = np.memmap(path.with_name(path.name + ".places"), np.int64, "r", shape=(count,))
    return int(np.searchsorted(places, sizes[0], side="right")) - 1


def _opened(path: Path, size: int) -> BinaryIO:
    """A file to write behind its first `size` bytes."""
    path.touch()
    file = path.open("r+b")
    file.truncate(size)
    file.seek(size)
    return file


@dataclass(frozen=True)
class Side:
    """One language of a store: sequence i is `ids[offsets[i]:offsets[i + 1]]`, EOS included."""

    ids: NDArray[np.uint16] | NDArray[np.int32]  # [tokens]
    offsets: NDArray[np.int64]  # [pairs + 1]
    texts: Texts | None  # what was encoded, if the store keeps it

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray[np.uint16] | NDArray[np.int32]:
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    @property
    def tokens(self) -> int:
        """All tokens, the EOS of each sequence included."""
        return len(self.ids)


@dataclass(frozen=True)
class Store:
    """Pairs as ids. Opening costs nothing; the pages that are used are what is read."""

    folder: Path
    source: Side
    target: Side
    lengths: NDArray[np.int32]  # [pairs, 2] tokens, EOS included

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map the files of a store. Raises DataError when one is missing or cut short."""
        hint = f"remove the folder and prepare the data again: rm -r {quote(str(folder))}"
        try:
            meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
            if meta["format"] != FORMAT:
                raise DataError(f"{folder}: store of format {meta['format']}, not {FORMAT}", hint)
            sides = [_open_side(folder / name, meta, name) for name in _SIDES]
            lengths = _map(folder / "lengths", np.dtype(np.int32)).reshape(-1, 2)
            whole = all(_is_whole(side, meta["pairs"]) for side in sides)
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise DataError(f"{folder}: not a store, or damaged ({error})", hint) from None
        if not whole or len(lengths) != meta["pairs"]:
            raise DataError(f"{folder}: the store is incomplete", hint)
        return cls(folder, sides[0], sides[1], lengths)

    @classmethod
    def write(
        cls, folder: Path, pairs: Iterable[tuple[Ids, Ids]], vocabularies: tuple[int, int]
    ) -> Self:
        """Write pairs of ids (without EOS), in constant memory, and open the result."""
        with StoreWriter(folder, vocabularies) as writer:
            rows = iter(pairs)
            while chunk := list(islice(rows, _CHUNK)):
                writer.add([source for source, _ in chunk], [target for _, target in chunk])
        return cls.open(folder)


class StoreWriter:
    """Writes a store chunk by chunk into a folder aside; leaving the `with` block renames it.

    An exception in the block leaves nothing behind. A store that lay in `folder` is replaced.
    """

    def __init__(self, folder: Path, vocabularies: tuple[int, int], *, texts: bool = False) -> None:
        self._folder = folder
        self._aside = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
        self._aside.mkdir(parents=True)
        self._types = [np.dtype(np.uint16 if n <= 1 << 16 else np.int32) for n in vocabularies]
        self._ids = [(self._aside / f"{side}.ids").open("wb") for side in _SIDES]
        self._offsets = [(self._aside / f"{side}.offsets").open("wb") for side in _SIDES]
        self._lengths = (self._aside / "lengths").open("wb")
        self._texts = [TextWriter(self._aside / side) for side in _SIDES] if texts else []
        self.pairs = 0
        self.tokens = [0, 0]  # EOS included
        for file in self._offsets:
            file.write(np.zeros(1, np.int64).tobytes())

    def add(
        self,
        sources: Sequence[Ids],
        targets: Sequence[Ids],
        texts: Sequence[Sequence[str]] | None = None,
    ) -> None:
        """Append pairs of ids (EOS is added here), with their texts if the store keeps them."""
        assert len(sources) == len(targets)
        assert (texts is not None) == bool(self._texts)
        lengths = np.empty((len(sources), 2), np.int32)
        for side, rows in enumerate((sources, targets)):
            lengths[:, side] = np.fromiter(map(len, rows), np.int32, len(rows)) + 1
            ends = np.cumsum(lengths[:, side], dtype=np.int64)
            ids = np.full(int(ends[-1]) if len(ends) else 0, EOS, self._types[side])
            inner = np.ones(len(ids), bool)
            inner[ends - 1] = False
            ids[inner] = np.fromiter(chain.from_iterable(rows), self._types[side])
            self._ids[side].write(ids.tobytes())
            self._offsets[side].write((ends + self.tokens[side]).tobytes())
            self.tokens[side] += len(ids)
        self._lengths.write(lengths.tobytes())
        self.pairs += len(sources)
        if texts is not None:
            for writer, side_texts in zip(self._texts, texts, strict=True):
                writer.add(side_texts)

    def append(self, store: Store) -> None:
        """Append all pairs of a store that was made for the same vocabularies."""
        for number, side in enumerate((store.source, store.target)):
            assert side.ids.dtype == self._types[number]
            self._ids[number].write(side.ids.data)
            self._offsets[number].write((side.offsets[1:] + self.tokens[number]).tobytes())
            self.tokens[number] += side.tokens
            if self._texts:
                assert side.texts is not None, "the store keeps its texts too"
                self._texts[number].append(side.texts)
        self._lengths.write(store.lengths.data)
        self.pairs += len(store)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            for file in (*self._ids, *self._offsets, self._lengths):
                file.close()
            for writer in self._texts:
                writer.close()
            if kind is None:
                self._finish()
        finally:
            shutil.rmtree(self._aside, ignore_errors=True)

    def _finish(self) -> None:
        meta = {
            "format": FORMAT,
            "pairs": self.pairs,
            "tokens": self.tokens,
            "types": [kind.name for kind in self._types],
            "texts": bool(self._texts),
        }
        (self._aside / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        if self._folder.exists():
            shutil.rmtree(self._folder)
        self._aside.rename(self._folder)


def _open_side(path: Path, meta: dict[str, list[str]], name: str) -> Side:
    kind = np.dtype(meta["types"][_SIDES.index(name)])
    offsets = _map(path.with_name(f"{name}.offsets"), np.dtype(np.int64))
    return Side(
        _map(path.with_name(f"{name}.ids"), kind),
        offsets,
        read_texts(path) if meta["texts"] else None,
    )


def _is_whole(side: Side, pairs: int) -> bool:
    """Whether the files of a side are as long as its offsets say."""
    if len(side) != pairs or side.tokens != side.offsets[-1]:
        return False
    texts = side.texts
    return texts is None or (len(texts) == pairs and len(texts.data) == texts.places[-1])


def _map(path: Path, kind: np.dtype) -> np.ndarray:
    """A file as an array; an empty file cannot be mapped, but is an array all the same."""
    if path.stat().st_size == 0:
        return np.empty(0, kind)
    return np.memmap(path, kind, "r")


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
