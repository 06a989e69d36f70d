"""Word-level distillation: what other models expect at every target token is learnt too.

Kim and Rush 2016, section 3.1. The teachers read the training corpus once, before training, and the
words they find likeliest are kept beside the prepared data.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtkit import model_dir
from mtkit.cache_folder import cache_folder
from mtkit.data.batches import Batch, Indices, Lesson, collate, plan
from mtkit.data.prepare import Prepared, build_once
from mtkit.data.progress import Listen, Meter
from mtkit.data.spool import write_whole
from mtkit.data.store import Side, Store, opened
from mtkit.data.tokenizer import Tokenizer
from mtkit.errors import ModelError
from mtkit.models.ensemble import Ensemble
from mtkit.models.seq2seq import Seq2Seq
from mtkit.recipe import Recipe, TokenizerSection
from mtkit.training.host import autocast

WORDS = 16  # of each distribution that are kept, the likeliest ones
_TOKENS = 2048  # a batch: the distributions of so many are in memory at once
_AT_ONCE = 20_000  # pairs whose lessons are held in memory and written in one piece
_FORMAT = 1  # part of the key: to be raised when the same teachers would be heard differently


@dataclass(frozen=True)
class Lessons:
    """Of every target token of the training corpus the likeliest words, and their shares."""

    words: NDArray[np.uint16] | NDArray[np.int32]  # [tokens, K]
    shares: NDArray[np.float16]  # [tokens, K], the likeliest first

    @classmethod
    def open(cls, folder: Path, target: Side) -> Self:
        """Map what `write` has written."""
        words = np.memmap(folder / "words", target.ids.dtype, "r").reshape(target.tokens, -1)
        return cls(words, np.memmap(folder / "shares", np.float16, "r").reshape(words.shape))

    def write(self, folder: Path, first: int) -> None:
        """Write them behind those of the `first` tokens before them."""
        for name, values in (("words", self.words), ("shares", self.shares)):
            with opened(folder / name, first * values[:1].nbytes) as file:
                file.write(values.tobytes())

    def of(self, target: Side, indices: Indices) -> Lesson:
        """What goes with the labels of the pairs at `indices`, as `collate` orders them."""
        places = target.places(indices)
        words = torch.from_numpy(self.words[places].astype(np.int64))
        shares = torch.from_numpy(self.shares[places].astype(np.float32))
        return Lesson(words, shares / shares.sum(1, keepdim=True))


@dataclass(frozen=True)
class Teachers:
    """Models of one vocabulary, of which the mean distribution is learnt."""

    paths: tuple[Path, ...]
    model: Seq2Seq
    section: TokenizerSection
    tokenizers: tuple[Tokenizer, Tokenizer]
    digest: str  # of their weights
    device: torch.device

    @classmethod
    def load(cls, paths: tuple[Path, ...], device: torch.device) -> Self:
        """Read model directories. Raises ModelError, and when their vocabularies differ."""
        loaded = [model_dir.load(path, str(device)) for path in paths]
        first, digest = loaded[0], hashlib.sha256()
        for each in loaded:
            for name in ("source_tokenizer", "target_tokenizer"):
                if getattr(each, name).fingerprint != getattr(first, name).fingerprint:
                    raise ModelError(
                        f"{each.path} and {first.path} cannot teach together: their vocabularies "
                        "differ",
                        "train the one from the other's: --set training.start",
                    )
            digest.update((each.path / model_dir.WEIGHTS).read_bytes())
        models = [each.model for each in loaded]
        return cls(
            paths,
            Ensemble(models) if len(models) > 1 else models[0],
            first.recipe.tokenizer,
            (first.source_tokenizer, first.target_tokenizer),
            digest.hexdigest(),
            device,
        )

    def adopt(self, recipe: Recipe, given: tuple[Tokenizer, Tokenizer] | None) -> Recipe:
        """The recipe with the teachers' vocabulary.

        Raises ModelError when that is not the one of the tokenizers that are given already.
        """
        for own, other in zip(self.tokenizers, given or self.tokenizers, strict=True):
            if own.fingerprint != other.fingerprint:
                raise ModelError(
                    f"{self.paths[0]} cannot teach {recipe.training.start}: their vocabularies "
                    "differ",
                    "--set 'training.start=\"\"'",
                )
        section = self.section.model_copy(update={"sampling": recipe.tokenizer.sampling})
        return recipe.model_copy(update={"tokenizer": section})

    @property
    def words(self) -> str:
        named, count = " and ".join(map(str, self.paths)), self.tokenizers[1].size
        return f"learns what {named} expect too, with their vocabulary ({count:,} pieces)"

    def mark(self, data: Prepared) -> Prepared:
        """The data as other ones than without these teachers: a run goes on with both alone."""
        both = f"{data.fingerprint} {self.digest}"
        return replace(data, fingerprint=hashlib.sha256(both.encode()).hexdigest())

    def expect(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Their likeliest words at each label, the likeliest first, and these' probabilities."""
        memory = self.model.encode(batch.source)
        features = self.model.features(batch.inputs, memory).flatten(0, 1)  # [B * T, D]
        logits = self.model.project(features.index_select(0, batch.rows))  # [N, V]
        found = logits.float().softmax(-1).topk(min(WORDS, logits.size(-1)))
        return found.indices, found.values

    @torch.inference_mode()
    def read(self, store: Store, rows: Indices, precision: str) -> Lessons:
        """Their lessons on consecutive pairs of a store."""
        first, last = store.target.offsets[[rows[0], rows[-1] + 1]]
        width = min(WORDS, self.tokenizers[1].size)
        words = np.empty((last - first, width), store.target.ids.dtype)
        shares = np.empty((last - first, width), np.float16)
        for some in plan(store.lengths[rows], _TOKENS, 0, 0):
            indices = rows[some]
            with autocast(precision, self.device):
                found = self.expect(collate(store.source, store.target, indices).to(self.device))
            places = store.target.places(indices) - first
            words[places], shares[places] = (part.cpu().numpy() for part in found)
        return Lessons(words, shares)

    def teach(self, data: Prepared, precision: str, listen: Listen | None = None) -> Lessons:
        """Their lessons on the training corpus: kept in the cache, found again by what they are of.

        What was begun and killed is gone on with. Raises DataError when they cannot be kept.
        """
        tell = listen or (lambda stage, fraction, rate: None)
        said = [_FORMAT, data.fingerprint, precision, WORDS]  # the fingerprint is marked
        key = hashlib.sha256(" ".join(map(str, said)).encode()).hexdigest()
        folder, store = cache_folder() / key[:32], data.train

        def fill(aside: Path) -> None:
            done = aside / "done"  # pairs
            begin = int(done.read_text(encoding="utf-8")) if done.exists() else 0
            meter = Meter("letting the teachers read the corpus", tell)
            for start in range(begin, len(store), _AT_ONCE):
                rows = np.arange(start, min(start + _AT_ONCE, len(store)))
                self.read(store, rows, precision).write(aside, int(store.target.offsets[start]))
                write_whole(str(rows[-1] + 1), done)
                meter.show(len(rows), (rows[-1] + 1) / len(store))
            meter.end()

        build_once(folder, fill, (folder / "done").exists, tell)
        return Lessons.open(folder, store.target)
