"""Text to ids and back: SentencePiece, with the special tokens of `mtkit.symbols`.

Text is composed (NFC) and its runs of spaces become one; beyond that it is kept as written.
NFKC, SentencePiece's default, would rewrite what a translation must be able to say: it turns the
Korean ㅋㅋ into syllable fragments, … into three full stops and ½ into 1⁄2.
"""

import hashlib
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import Any, Self

import sentencepiece

from mtkit.data.sampling import Sampler
from mtkit.errors import DataError, ModelError, RecipeError
from mtkit.recipe import LEAST_VOCABULARY, TokenizerSection
from mtkit.symbols import BOS, EOS, PAD, PIECES, UNK

__all__ = ["Tokenizer", "normalise"]

# A constant, not the number of cores: unigram training sums in as many parts as there are threads,
# and the vocabulary depends on the rounding.
_TRAINING_THREADS = 16
_LONGEST_LINE = 1 << 30  # SentencePiece leaves out longer lines without a word; never wanted

_AWKWARD = re.compile("[\t\n\v\f\r▁\ud800-\udfff]")
_LINE_SPACE = re.compile("[\t\n\v\f\r]")


def normalise(text: str) -> str:
    """The text that `decode` gives back for what `encode` was given, if nothing is unknown.

    Composed (NFC); tabs and line breaks are spaces, runs of spaces one space, none at the ends;
    ▁, which SentencePiece writes for a space, is _; what is not Unicode (half a surrogate pair)
    is U+FFFD.
    """
    return " ".join(filter(None, _clean(text).split(" ")))


class Tokenizer:
    """A trained vocabulary. Ids never hold BOS or EOS; whoever needs them adds them."""

    def __init__(self, model: bytes, name: str = "tokenizer") -> None:
        self._model = model
        self._samplers: dict[float, Sampler] = {}
        try:
            self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        except (RuntimeError, ValueError, TypeError):
            raise _damaged(name) from None
        pieces = self._pieces
        if not pieces.get_piece_size():  # an empty file is read without complaint
            raise _damaged(name)
        found = (pieces.pad_id(), pieces.unk_id(), pieces.bos_id(), pieces.eos_id())
        if found != (PAD, UNK, BOS, EOS):
            raise ModelError(
                f"{name} has pad, unk, bos, eos = {found}, not {(PAD, UNK, BOS, EOS)}",
                "train it with --pad_id=0 --unk_id=1 --bos_id=2 --eos_id=3",
            )
        self.size: int = pieces.get_piece_size()
        self.fingerprint = hashlib.sha256(model).hexdigest()

    @classmethod
    def train(
        cls, lines: Iterable[str], section: TokenizerSection, symbols: Sequence[str] = ()
    ) -> Self:
        """Learn a vocabulary from lines; the same lines give the same one on every machine.

        Each of `symbols` is one piece wherever it stands. A `char` vocabulary holds every
        character and may be smaller than asked for; of the other kinds it has exactly the size
        asked for. Raises DataError, and RecipeError for a size that the lines do not allow.
        """
        source = _Lines(lines)
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(source),
                model_writer=model,
                model_type=section.kind,
                vocab_size=section.vocabulary,
                character_coverage=section.character_coverage,
                byte_fallback=section.byte_fallback and section.kind in ("unigram", "bpe"),
                normalization_rule_name="identity",
                max_sentence_length=_LONGEST_LINE,
                num_threads=_TRAINING_THREADS,
                minloglevel=5,
                pad_id=PAD,
                unk_id=UNK,
                bos_id=BOS,
                eos_id=EOS,
                pad_piece=PIECES[PAD],
                unk_piece=PIECES[UNK],
                user_defined_symbols=list(symbols),
                bos_piece=PIECES[BOS],
                eos_piece=PIECES[EOS],
            )
        except RuntimeError as error:
            if source.error is not None:
                raise source.error from None
            raise _training_error(str(error), section, source.count) from None
        return cls(model.getvalue())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a model file. Raises ModelError."""
        try:
            return cls(path.read_bytes(), str(path))
        except OSError as error:
            raise ModelError(
                f"{path}: cannot be read ({error.strerror})",
                f"see what is there: ls -l {quote(str(path.parent))}",
            ) from None

    def to_bytes(self) -> bytes:
        """The model file's content; `Tokenizer(content)` is the same tokenizer."""
        return self._model

    def save(self, path: Path) -> None:
        """Write the model file."""
        path.write_bytes(self._model)

    def encode(
        self, lines: Sequence[str], *, sampling: float = 0.0, seed: int = 0, threads: int = -1
    ) -> list[list[int]]:
        """The ids of each line, on all cores (-1) or on so many.

        With `sampling`, a random segmentation: BPE-dropout of that probability (Provilkov et al.
        2020), or of a unigram model one drawn with that alpha (Kudo 2018); the same lines and the
        same seed give the same one, in every process.
        """
        texts = [_clean(line) for line in lines]
        if not sampling:
            return self._list(self._pieces.encode(texts, out_type=int, num_threads=threads))
        sampler = self._samplers.get(sampling)
        if sampler is None:
            sampler = self._samplers[sampling] = Sampler(self._pieces, sampling)
        return sampler.encode(texts, seed)

    def encode_pieces(self, lines: Sequence[str]) -> list[list[str]]:
        """The same as `encode`, as written in the vocabulary (▁ is a space)."""
        texts = [_clean(line) for line in lines]
        pieces: list[list[str]] = self._pieces.encode(texts, out_type=str)
        return pieces

    def piece(self, token: int) -> str:
        """How the vocabulary writes an id."""
        return str(self._pieces.id_to_piece(token))

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The text of each sequence, always one line: PAD, BOS and EOS are silent, UNK is ⁇."""
        rows = [row if isinstance(row, list) else [int(token) for token in row] for row in ids]
        texts: list[str] = self._pieces.decode(rows) if rows else []
        # Bytes may spell a line break, or no character at all; a translation is one line of text.
        return [_LINE_SPACE.sub(" ", text) for text in texts]

    @staticmethod
    def _list(ids: Any) -> list[list[int]]:
        rows: list[list[int]] = ids
        return rows


class _Lines:
    """Cleaned lines for the trainer, which turns every exception into a RuntimeError."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = lines
        self.count = 0
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[str]:
        try:
            for line in self.lines:
                text = _clean(line)
                if text.strip(" "):
                    self.count += 1
                    yield text
        except BaseException as error:
            self.error = error
            raise


def _clean(text: str) -> str:
    """The text as SentencePiece can take it; spaces are left to SentencePiece."""
    if _AWKWARD.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        text = _LINE_SPACE.sub(" ", text).replace("▁", "_")
    return unicodedata.normalize("NFC", text)


def _damaged(name: str) -> ModelError:
    return ModelError(f"{name} is not a SentencePiece model, or is damaged", "copy the file again")


def _training_error(message: str, section: TokenizerSection, lines: int) -> DataError | RecipeError:
    """What SentencePiece's message means for the recipe."""
    asked = f"tokenizer.vocabulary = {section.vocabulary}"
    if high := re.search(r"Vocabulary size too high.*<= (\d+)", message):
        if int(high[1]) < LEAST_VOCABULARY:
            return DataError(
                f"{lines:,} lines are too few to train a tokenizer on: they have {high[1]} pieces",
                "name a larger corpus",
            )
        return RecipeError(
            f"{asked} is more than the corpus of {lines:,} lines has pieces for: "
            f"at most {high[1]} as {section.kind}",
            f"--set tokenizer.vocabulary={high[1]}",
        )
    if low := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        has = "characters, bytes and" if section.byte_fallback else "characters and"
        return RecipeError(
            f"{asked} is less than the {low[1]} {has} special tokens of the corpus",
            f"--set tokenizer.vocabulary={low[1]} or more, or leave rare characters out: "
            "--set tokenizer.character_coverage=0.9995",
        )
    if not lines or "empty()" in message or "all_chars_count" in message:
        return DataError(
            "there is no text to train the tokenizer on",
            "name a corpus that holds sentences, or check the columns: pairs.tsv#2,1",
        )
    other = "bpe" if section.kind == "unigram" else "unigram"
    return DataError(
        f"SentencePiece could not be trained on {lines:,} lines: {message.strip()}",
        f"try pieces of another kind: --set tokenizer.kind={other}",
    )
