"""An exported model is the model: the same log-probabilities, the same translations."""

from pathlib import Path

import pytest
import torch
from torch import nn

from mtkit import model_dir
from mtkit.data.tokenizer import Tokenizer
from mtkit.decoding.export import Exported, agreement, export
from mtkit.decoding.options import SearchOptions
from mtkit.decoding.translator import Translator
from mtkit.errors import ModelError, UsageError
from mtkit.models.build import build
from mtkit.models.seq2seq import Seq2Seq
from mtkit.recipe import (
    ModelSection,
    Recipe,
    RecurrentSection,
    TransformerSection,
)
from mtkit.symbols import BOS, EOS, PAD
from tests.decoding.conftest import CORPUS

ctranslate2 = pytest.importorskip("ctranslate2", reason="needs pip install 'mtkit[ctranslate2]'")

SHAPE: dict[str, object] = {
    "kind": "transformer", "width": 32, "heads": 4, "feed_forward": 48, "encoder_layers": 2,
    "decoder_layers": 3,
}  # fmt: skip
KINDS: dict[str, dict[str, object]] = {
    "pre-norm": {"norm": "pre"},
    "post-norm, gelu, untied": {"norm": "post", "activation": "gelu", "tied_embeddings": "none"},
    "order-blind, target tied": {"positions": False, "tied_embeddings": "target"},
}


def saved(folder: Path, section: ModelSection, tokenizer: Tokenizer) -> model_dir.LoadedModel:
    torch.manual_seed(5)
    model = build(section, tokenizer.size, tokenizer.size)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    model_dir.save(folder, model, Recipe(model=section), tokenizer, tokenizer, {})
    return model_dir.load(folder)


def learn(model: Seq2Seq, sources: list[list[int]], targets: list[list[int]]) -> None:
    """Until the model says each target for its source: outputs then end of themselves."""

    def padded(rows: list[list[int]]) -> torch.Tensor:
        longest = max(map(len, rows))
        return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])

    source = padded([[*row, EOS] for row in sources])
    inputs, labels = (
        padded([[BOS, *row] for row in targets]),
        padded([[*row, EOS] for row in targets]),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(50):
        logits = model(source, inputs).flatten(0, 1)
        loss = nn.functional.cross_entropy(logits, labels.flatten(), ignore_index=PAD)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.fixture(params=KINDS)
def loaded(request: pytest.FixtureRequest, tmp_path: Path, tokenizer: Tokenizer):  # type: ignore[no-untyped-def]
    section = TransformerSection.model_validate(SHAPE | KINDS[request.param])
    return saved(tmp_path / "model", section, tokenizer)


def test_log_probabilities_are_those_of_the_model(
    loaded: model_dir.LoadedModel, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    export(loaded, tmp_path / "ct2")
    engine = ctranslate2.Translator(str(tmp_path / "ct2"), device="cpu", compute_type="float32")
    sources, targets = tokenizer.encode_pieces(CORPUS), tokenizer.encode_pieces(CORPUS[::-1])
    theirs = engine.score_batch(sources, targets)
    rows = zip(tokenizer.encode(CORPUS), tokenizer.encode(CORPUS[::-1]), theirs, strict=True)
    for source, target, found in rows:
        with torch.no_grad():
            logits = loaded.model(torch.tensor([[*source, EOS]]), torch.tensor([[BOS, *target]]))
        labels = torch.tensor([[*target, EOS]])
        ours = logits.log_softmax(-1).gather(2, labels.unsqueeze(2)).flatten()
        assert found.log_probs == pytest.approx(ours.tolist(), abs=1e-4)


def test_translations_are_those_of_the_model(
    loaded: model_dir.LoadedModel, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    ids = tokenizer.encode(CORPUS)
    learn(loaded.model, ids, ids[::-1])
    export(loaded, tmp_path / "ct2")
    options = SearchOptions(beam=5, length_penalty=1.5, max_length_offset=60)
    translator = Translator(loaded.model, tokenizer, tokenizer, options)
    exported = Exported(tmp_path / "ct2", tokenizer, tokenizer, options, device="cpu")
    lines = [*CORPUS, *(" ".join(line.split()[:-1]) for line in CORPUS)]
    ours, theirs = translator.translate(lines), exported.translate(lines)
    assert len({item.tokens for item in ours}) >= 4
    assert [item.text for item in ours] == [item.text for item in theirs]
    assert [item.score for item in theirs] == pytest.approx([i.score for i in ours], abs=1e-3)
    found = agreement(translator, exported, lines, lines)
    assert (found.lines, found.same, found.farthest) == (len(lines), len(lines), 0.0)
    assert found.original == found.exported
    assert found.original[0].label == "BLEU"


@pytest.mark.parametrize("beam", [1, 5])
def test_longest_output_follows_from_each_source_as_in_our_search(
    loaded: model_dir.LoadedModel, tokenizer: Tokenizer, tmp_path: Path, beam: int
) -> None:
    """Most of what the model has learned to say finds no room."""
    ids = tokenizer.encode(CORPUS)
    learn(loaded.model, ids, ids[::-1])
    export(loaded, tmp_path / "ct2")
    options = SearchOptions(beam=beam, max_length_ratio=0.5, max_length_offset=1)
    translator = Translator(loaded.model, tokenizer, tokenizer, options)
    exported = Exported(tmp_path / "ct2", tokenizer, tokenizer, options, device="cpu")
    lines = [*CORPUS, *(line[:count] for line in CORPUS for count in (1, 5, 9))]
    ours, theirs = translator.translate(lines), exported.translate(lines)
    same = [(one, two) for one, two in zip(ours, theirs, strict=True) if one.text == two.text]
    # Of several beams that are cut ours keeps one more for each that has ended at that place.
    assert len(same) >= len(lines) - (0 if beam == 1 else 2)
    assert [two.score for _, two in same] == pytest.approx([one.score for one, _ in same], abs=1e-3)
    cut = [item.tokens + 1 == options.longest(item.source_tokens) for item in ours]
    assert sum(cut) > len(lines) // 2


def test_exported_folder_holds_all_that_is_needed(
    loaded: model_dir.LoadedModel, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    export(loaded, tmp_path / "new" / "ct2", "int8")
    names = {path.name for path in (tmp_path / "new" / "ct2").iterdir()}
    assert {"model.bin", "config.json", "source.spm", "target.spm"} <= names
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["ct2"]
    with pytest.raises(UsageError, match="exists already"):
        export(loaded, tmp_path / "new" / "ct2")


def test_recurrent_model_is_refused_with_what_to_do(tokenizer: Tokenizer, tmp_path: Path) -> None:
    section = RecurrentSection(kind="recurrent", width=8, embedding=4)
    loaded = saved(tmp_path / "model", section, tokenizer)
    with pytest.raises(ModelError, match="CTranslate2 runs Transformers alone") as error:
        export(loaded, tmp_path / "ct2")
    assert f"mtkit translate {tmp_path / 'model'}" in str(error.value.hint)
    assert not (tmp_path / "ct2").exists()


def test_line_longer_than_ctranslate2_takes_by_itself_is_not_cut(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """Its own limit is 1,024 tokens, and what is beyond is left out without a word."""
    section = TransformerSection.model_validate(SHAPE)
    loaded = saved(tmp_path / "model", section, tokenizer)
    export(loaded, tmp_path / "ct2")
    options = SearchOptions(beam=1, max_length_ratio=0, max_length_offset=6)
    exported = Exported(tmp_path / "ct2", tokenizer, tokenizer, options, device="cpu")
    long = "dog " * 400
    translator = Translator(loaded.model, tokenizer, tokenizer, options, max_source_length=9_999)
    (ours,), (theirs,) = translator.translate([long]), exported.translate([long])
    assert theirs.text.startswith(ours.text[:3])
    (shorter,) = exported.translate([long + "cat house"])
    assert shorter.score != theirs.score
