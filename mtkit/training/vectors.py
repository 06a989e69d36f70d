"""Embeddings that start from files of word vectors instead of random numbers."""

import re
from pathlib import Path

import torch
from torch import nn

from mtkit.data.tokenizer import Tokenizer
from mtkit.data.word_vectors import read_vectors
from mtkit.errors import DataError, UsageError
from mtkit.models.seq2seq import Seq2Seq
from mtkit.recipe import TrainingSection
from mtkit.symbols import EOS

_SPACE = "▁"  # what SentencePiece writes for it
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def start_from_vectors(
    model: Seq2Seq, section: TrainingSection, source: Tokenizer, target: Tokenizer
) -> list[str]:
    """Fill the embeddings that the section has files for; says what was covered, a line a file.

    With `freeze_vectors` these embeddings are not trained. Raises DataError for files that cannot
    be used, UsageError for a model without embeddings of those names.
    """
    told = []
    for side, path, tokenizer in (
        ("source", section.source_vectors, source),
        ("target", section.target_vectors, target),
    ):
        if not path:
            continue
        embedding = getattr(model, f"{side}_embedding", None)
        if not isinstance(embedding, nn.Embedding):
            raise UsageError(
                f"training.{side}_vectors needs a model with a {side}_embedding",
                f"--set training.{side}_vectors=",
            )
        filled, pieces = fill(embedding, Path(path), tokenizer)
        frozen = ", not trained further" if section.freeze_vectors else ""
        told.append(
            f"{path}: vectors for {filled:,} of {pieces:,} {side} pieces "
            f"({100 * filled / max(pieces, 1):.1f} %){frozen}"
        )
        embedding.weight.requires_grad_(not section.freeze_vectors)
    return told


def fill(embedding: nn.Embedding, path: Path, tokenizer: Tokenizer) -> tuple[int, int]:
    """Copy vectors into the rows of the pieces that have one; how many, of how many.

    A piece is looked up as it is written, then, if it begins a word, without the mark of that.
    Symbols and the pieces that spell single bytes are not counted.
    """
    pieces = {
        token: tokenizer.piece(token)
        for token in range(EOS + 1, tokenizer.size)
        if not _BYTE.fullmatch(tokenizer.piece(token))
    }
    words = {*pieces.values(), *(piece.removeprefix(_SPACE) for piece in pieces.values())}
    vectors = read_vectors(path, words)
    if vectors.width != embedding.embedding_dim:
        raise DataError(
            f"{path}: its vectors have {vectors.width} numbers, and the model's embeddings "
            f"{embedding.embedding_dim}",
            f"--set model.embedding={vectors.width}, or of a Transformer "
            f"--set model.width={vectors.width}",
        )
    filled = 0
    with torch.no_grad():
        for token, piece in pieces.items():
            vector = vectors.found.get(piece, vectors.found.get(piece.removeprefix(_SPACE)))
            if vector is not None:
                embedding.weight[token] = torch.from_numpy(vector.copy()).to(embedding.weight)
                filled += 1
    return filled, len(pieces)
