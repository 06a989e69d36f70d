"""From a recipe to what training reads: tokenizers, binarised pairs, a validation set; cached."""

import errno
import hashlib
import json
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sentencepiece

from mtkit.cache_folder import cache_folder
from mtkit.data.binarise import Binariser, Listen, Tokenizers
from mtkit.data.corpus import Corpus, Pair, open_corpora
from mtkit.data.store import Store
from mtkit.data.tokenizer import Tokenizer
from mtkit.errors import DataError, MTKitError, RecipeError
from mtkit.recipe import DataSection, Recipe

__all__ = ["Prepared", "prepare"]

FORMAT = 1  # part of the key; to be raised whenever the same recipe would be prepared differently
_STALE = 24 * 3600.0  # seconds after which an unfinished folder was surely abandoned


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
    fingerprint: str  # of corpora, knobs and tokenizers: the cache's key


def prepare(
    recipe: Recipe,
    *,
    cache: Path | None = None,
    listen: Listen | None = None,
    tokenizers: Tokenizers | None = None,
) -> Prepared:
    """Train the tokenizers (or take those given), encode the corpora, and keep the result.

    What was prepared before is found again by its content. `listen` hears each stage and how much
    of it is done. Raises RecipeError and DataError.
    """
    tell = listen or (lambda stage, fraction: None)
    data = recipe.data
    if not data.train:
        raise RecipeError(
            "data.train is empty: there is nothing to learn from",
            "--set data.train=phrasebook:ko-en, or your own: --set 'data.train=train.{de,en}'",
        )
    tell("looking for the corpora", None)
    train = open_corpora(data.train, streaming=data.streaming)
    valid = open_corpora(data.valid, streaming=data.streaming) if data.valid else None
    languages = _languages(data, train, valid)
    key = _key(recipe, train, valid, tokenizers)
    folder = (cache or cache_folder()) / key[:32]
    if (kept := _open(folder, key, languages)) is not None:
        return kept

    def fill(aside: Path) -> None:
        work = Binariser(data, recipe.tokenizer, aside, tell)
        made = work.run(train, valid, tokenizers)
        shutil.rmtree(aside / "spool")
        _describe(aside, key, made, work)

    _build(folder, fill, lambda: _open(folder, key, languages) is not None)
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
        fingerprint=key,
    )


def _build(folder: Path, fill: Callable[[Path], None], whole: Callable[[], bool]) -> None:
    """Fill a folder aside and rename it; other processes may do the same at the same time."""
    aside = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    try:
        aside.mkdir(parents=True)
    except OSError as error:
        raise _cannot_keep(folder, error) from None
    try:
        _remove_abandoned(folder)
        fill(aside)
        try:
            aside.rename(folder)
        except OSError:  # there is one already: damaged, or another process was faster
            if not whole():
                damaged = folder.with_name(f"{aside.name}.damaged")
                folder.rename(damaged)
                shutil.rmtree(damaged, ignore_errors=True)
                aside.rename(folder)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _cannot_keep(folder, error) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _cannot_keep(folder: Path, error: OSError) -> DataError:
    return DataError(
        f"{folder.parent}: prepared data cannot be kept there ({error.strerror})",
        "name another folder: export MTKIT_CACHE=...",
    )


def _remove_abandoned(folder: Path) -> None:
    """Remove what killed processes left of the same preparation."""
    for left in folder.parent.glob(f".{folder.name}.*"):
        if time.time() - left.stat().st_mtime > _STALE:
            shutil.rmtree(left, ignore_errors=True)
