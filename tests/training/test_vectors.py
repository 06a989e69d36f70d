"""Embeddings start from word vectors, and stay there when they are frozen."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mtkit import Recipe, load, train
from mtkit.errors import DataError, UsageError
from mtkit.models.build import build
from mtkit.training.events import Noted
from mtkit.training.vectors import start_from_vectors

RECIPE = """
[data]
train = ["phrasebook:de-en#size=300"]
valid = ["phrasebook:de-en:valid#size=10"]
[tokenizer]
kind = "word"
vocabulary = 60
joint = false
[model]
kind = "recurrent"
memory = "dot"
width = 8
embedding = 4
encoder_layers = 1
decoder_layers = 1
tied_embeddings = false
[training]
updates = 3
max_tokens = 256
precision = "float32"
[validation]
metric = "loss"
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return train(Recipe.parse(RECIPE), tmp_path / "first")


def write_vectors(path: Path, words: list[str], width: int = 4) -> None:
    rows = [f"{word} " + " ".join([str(n + 1)] * width) for n, word in enumerate(words)]
    path.write_text(f"{len(rows)} {width}\n" + "".join(f"{row}\n" for row in rows))


@pytest.mark.parametrize("frozen", [True, False])
def test_vectors_are_there_and_frozen_ones_stay(tmp_path: Path, run: Path, frozen: bool) -> None:
    tokenizer = load(run).source_tokenizer
    pieces = [tokenizer.piece(token) for token in (10, 20)]
    path = tmp_path / "de.vec"
    # One as text has it, one as the tokenizer writes it, one that no sentence has.
    write_vectors(path, [pieces[0].removeprefix("▁"), pieces[1], "zzz"])
    said: list[str] = []
    recipe = Recipe.parse(RECIPE).changed(
        [f"training.source_vectors={path}", f"training.freeze_vectors={str(frozen).lower()}"]
    )
    again = train(
        recipe,
        tmp_path / "again",
        listeners=[lambda event: said.append(event.message) if isinstance(event, Noted) else None],
    )
    assert [line for line in said if "vectors for 2 of 56 source pieces (3.6 %)" in line]
    matrix = load_file(again / "weights.safetensors")["source_embedding.weight"]
    expected = torch.tensor([[1.0] * 4, [2.0] * 4])
    assert torch.equal(matrix[[10, 20]], expected) == frozen
    torch.testing.assert_close(matrix[[10, 20]], expected, atol=0.1, rtol=0)
    # The rows without a vector are those that were drawn, and learn unless they are frozen.
    first = Recipe.parse(RECIPE).changed(["training.optimizer.rate=1e-30"])
    drawn = load_file(train(first, tmp_path / "drawn") / "weights.safetensors")
    rest = drawn["source_embedding.weight"][4:8], matrix[4:8]
    assert torch.equal(*rest) == frozen
    torch.testing.assert_close(*rest, atol=0.2, rtol=0)


def test_vectors_of_another_width_are_refused(tmp_path: Path, run: Path) -> None:
    path = tmp_path / "de.vec"
    write_vectors(path, ["das"], width=5)
    loaded = load(run)
    section = Recipe.parse(RECIPE).changed([f"training.target_vectors={path}"]).training
    tokenizers = loaded.source_tokenizer, loaded.target_tokenizer
    with pytest.raises(DataError, match=r"have 5 numbers, and the model's embeddings 4") as caught:
        start_from_vectors(loaded.model, section, *tokenizers)
    assert caught.value.hint
    assert "--set model.embedding=5" in caught.value.hint


def test_a_model_of_ones_own_may_have_no_embeddings(tmp_path: Path, run: Path) -> None:
    loaded = load(run)
    section = Recipe.parse(RECIPE).changed(["training.source_vectors=a.vec"]).training
    model = build(loaded.recipe.model, 60, 60)
    del model.source_embedding
    with pytest.raises(UsageError, match="needs a model with a source_embedding"):
        start_from_vectors(model, section, loaded.source_tokenizer, loaded.target_tokenizer)
