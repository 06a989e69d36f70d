"""From a recipe to what training reads: tokenizers, binarised pairs, a validation set; cached."""

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sentencepiece

from mtkit.cache_folder import cache_folder
from mtkit.data.binarise import Binariser, Listen, Tokenizers
from mtkit.data.corpus import Corpus, Pair, open_corpora
from mtkit.data.side_by_side import LostForkError, processors
from mtkit.data.store import Store
from mtkit.data.tokenizer import Tokenizer
from mtkit.errors import NO_ROOM, DataError, MTKitError, RecipeError
from mtkit.recipe import DataSection, Recipe

__all__ = ["Prepared", "prepare"]

# Part of the key; to be raised whenever the same recipe would be prepared differently, or in other
# parts: an unfinished preparation is gone on with.
FORMAT = 1
_NOTABLE_SECONDS = 10.0
_UNFINISHED, _LOCK = ".part", ".lock"
_STALE = 7 * 24 * 3600.0  # seconds after which an unfinished folder was surely abandoned
_MOST = 32  # processes, each of which takes some tens of MB: reading is slower than so many are


@dataclass(frozen=True)
class Prepared:
    """All that training needs of the data; the same recipe and corpora always give the same."""

    source_tokenizer: Tokenizer
    target_tokenizer: Tokenizer  # the same object as the source's when they are joint
    train: Store
    valid: Store
    valid_pairs: list[Pair]
    languages: tuple[str, str]  # from the recipe or the corpora; "" where neither says
    corpora: tuple[int, ...]  # pairs of each corpus of data.train, which lie one behind the other
    notes: tuple[str, ...]  # counts, and everything that was left out
    key: str  # digest of corpora and knobs: the cache's
    fingerprint: str  # of that and of the tokenizers, those that were learnt too


def prepare(
    recipe: Recipe,
    *,
    cache: Path | None = None,
    listen: Listen | None = None,
    tokenizers: Tokenizers | None = None,
    workers: int | None = None,
) -> Prepared:
    """Train the tokenizers (or take those given), encode the corpora, and keep the result.

    What was prepared before is found again by its content; what was begun and killed is gone on
    with. `listen` hears each stage, how much of it is done, and pairs a second. `workers` processes
    work side by side, one a processor unless it is said; they change nothing but the time. Raises
    RecipeError and DataError.
    """
    tell = listen or (lambda stage, fraction, rate: None)
    data = recipe.data
    if not data.train:
        raise RecipeError(
            "data.train is empty: there is nothing to learn from",
            "--set data.train=phrasebook:ko-en, or your own: --set 'data.train=train.{de,en}'",
        )
    tell("looking for the corpora", None, 0.0)
    train = open_corpora(data.train, streaming=data.streaming)
    valid = open_corpora(data.valid, streaming=data.streaming) if data.valid else None
    languages = _languages(data, train, valid)
    key = _key(recipe, train, valid, tokenizers)
    folder = (cache or cache_folder()) / key[:32]
    if (kept := _open(folder, key, languages)) is not None:
        return kept

    count = workers or min(processors(), _MOST)

    def fill(work: Path) -> None:
        for left in work.glob(".*"):  # half a store, of one that was killed
            shutil.rmtree(left, ignore_errors=True)
        binariser = Binariser(data, recipe.tokenizer, work, tell, count)
        began, anew = time.monotonic(), not binariser.spooled.exists()
        made = binariser.run(train, valid, tokenizers)
        took = time.monotonic() - began
        if anew and took > _NOTABLE_SECONDS:
            rate = sum(binariser.corpora) / took
            binariser.notes.append(f"Prepared in {took:,.0f} s: {rate:,.0f} pairs a second.")
        shutil.rmtree(binariser.spooled)
        _describe(work, key, made, binariser)

    _build(folder, fill, lambda: _open(folder, key, languages) is not None, tell)
    kept = _open(folder, key, languages)
    if kept is None:
        raise DataError(
            f"{folder}: the prepared data changed while they were opened",
            "run the command again, or keep them elsewhere: export MTKIT_CACHE=...",
        )
    return kept


def _languages(data: DataSection, train: Corpus, valid: Corpus | None) -> tuple[str, str]:
    """What the recipe says, else what the corpora say; a contradiction is an error."""
    found = []
    for side, key in enumerate(("source_language", "target_language")):
        asked: str = getattr(data, key)
        for corpus in filter(None, (train, valid)):
            known = corpus.languages[side]
            if asked and known and _base(asked) != _base(known):
                raise RecipeError(
                    f"data.{key} = {asked!r}, but {corpus.name} has {known} there",
                    f"--set data.{key}={known}, or turn the corpus round",
                )
            asked = asked or known or ""
        found.append(asked)
    return found[0], found[1]


def _base(language: str) -> str:
    return language.replace("_", "-").partition("-")[0].lower()


def _key(recipe: Recipe, train: Corpus, valid: Corpus | None, tokenizers: Tokenizers | None) -> str:
    """A digest of everything that the prepared data depend on."""
    table = {
        "format": FORMAT,
        "train": train.fingerprint(),
        "valid": valid.fingerprint() if valid else recipe.data.held_out,
        "max_length": recipe.data.max_length,
        "texts": recipe.tokenizer.sampling > 0,
    }
    if tokenizers:
        table["tokenizers"] = [tokenizer.fingerprint for tokenizer in tokenizers]
    else:
        table["tokenizer"] = recipe.tokenizer.model_dump(exclude={"sampling"})
        table["sentencepiece"] = sentencepiece.__version__
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()


def _describe(folder: Path, key: str, tokenizers: Tokenizers, work: Binariser) -> None:
    """Add the tokenizers to the stores, and the file that says that all is there."""
    joint = tokenizers[0] is tokenizers[1]
    names = ("joint.spm", "joint.spm") if joint else ("source.spm", "target.spm")
    for name, tokenizer in zip(names, tokenizers, strict=True):
        tokenizer.save(folder / name)
    table = {
        "key": key,
        "tokenizers": names,
        "fingerprints": [tokenizer.fingerprint for tokenizer in tokenizers],
        "corpora": work.corpora,
        "notes": work.notes,
    }
    (folder / "prepared.json").write_text(json.dumps(table, indent=1), encoding="utf-8")


def _open(folder: Path, key: str, languages: tuple[str, str]) -> Prepared | None:
    """What lies in the cache under a key; None when it is not there, or not whole."""
    try:
        table = json.loads((folder / "prepared.json").read_text(encoding="utf-8"))
        names, notes, fingerprints = table["tokenizers"], table["notes"], table["fingerprints"]
        corpora = tuple(int(count) for count in table["corpora"])
        read = {name: Tokenizer.load(folder / name) for name in names}
        valid = Store.open(folder / "valid")
        train = Store.open(folder / "train")
    except (OSError, ValueError, KeyError, TypeError, MTKitError):
        return None
    source, target = (read[name] for name in names)
    if table["key"] != key or [source.fingerprint, target.fingerprint] != fingerprints:
        return None
    if valid.source.texts is None or valid.target.texts is None:
        return None
    rows = np.arange(len(valid), dtype=np.int64)
    texts = valid.source.texts.take(rows), valid.target.texts.take(rows)
    return Prepared(
        source_tokenizer=source,
        target_tokenizer=target,
        train=train,
        valid=valid,
        valid_pairs=[Pair(*pair) for pair in zip(*texts, strict=True)],
        languages=languages,
        corpora=corpora,
        notes=tuple(notes),
        key=key,
        fingerprint=hashlib.sha256(" ".join([key, *fingerprints]).encode()).hexdigest(),
    )


def _build(
    folder: Path, fill: Callable[[Path], None], whole: Callable[[], bool], tell: Listen
) -> None:
    """Fill a folder aside and rename it; one process does while others that want it wait.

    What a killed one has left aside is filled further, and so is what one has left that lost a
    fork. Any other error leaves nothing.
    """
    aside = folder.with_name(f".{folder.name}{_UNFINISHED}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_keep(folder, error) from None
    try:
        _remove_abandoned(folder.parent, aside)
        with _alone(aside, tell):
            try:
                if not whole():  # else another process has made it meanwhile
                    aside.mkdir(exist_ok=True)
                    fill(aside)
                    if folder.exists():
                        damaged = folder.with_name(f".{folder.name}.damaged")
                        shutil.rmtree(damaged, ignore_errors=True)
                        folder.rename(damaged)
                        shutil.rmtree(damaged, ignore_errors=True)
                    aside.rename(folder)
            except LostForkError:
                raise
            except (MTKitError, OSError):
                shutil.rmtree(aside, ignore_errors=True)
                raise
            if aside.exists():
                shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        named = Path(error.filename or folder)  # else it is a corpus that cannot be read
        if error.errno not in NO_ROOM or not named.is_relative_to(folder.parent):
            raise
        raise _cannot_keep(folder, error) from None


@contextmanager
def _alone(aside: Path, tell: Listen) -> Iterator[None]:
    """Hold the lock of an unfinished folder while other processes wait for it.

    It is a file beside the folder: network file systems lock no folders between machines.
    """
    lock = aside.with_suffix(_LOCK)
    while True:
        with _opened(lock) as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                tell("waiting for another process that prepares the same data", None, 0.0)
                fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_at(lock, handle):  # else who held it before has removed it
                try:
                    yield
                finally:
                    lock.unlink(missing_ok=True)
                return


@contextmanager
def _opened(lock: Path) -> Iterator[int]:
    """A lock file, made if need be; that of another user can be waited for."""
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError as refused:
        try:
            handle = os.open(lock, os.O_RDONLY)
        except FileNotFoundError:
            raise refused from None
    try:
        yield handle
    finally:
        os.close(handle)


def _is_at(path: Path, handle: int) -> bool:
    """Whether the open file is the one that stands at the path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _cannot_keep(folder: Path, error: OSError) -> DataError:
    return DataError(
        f"{folder.parent}: prepared data cannot be kept there ({error.strerror})",
        "name another folder: export MTKIT_CACHE=...",
    )


def _remove_abandoned(cache: Path, own: Path) -> None:
    """Remove what preparations that were killed long ago have left."""
    for left in (*cache.glob(f".*{_UNFINISHED}"), *cache.glob(f".*{_LOCK}")):
        with suppress(OSError):  # gone meanwhile, of another user, or a very long one
            if left.stem == own.stem or time.time() - left.stat().st_mtime < _STALE:
                continue
            if left.suffix == _LOCK and left.with_suffix(_UNFINISHED).exists():
                continue  # the folder's own age counts
            lock = left.with_suffix(_LOCK)
            with _opened(lock) as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left.with_suffix(_UNFINISHED), ignore_errors=True)
                lock.unlink()
