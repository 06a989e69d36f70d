"""A good model passes every check, and a broken one is found out."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtkit import model_dir
from mtkit.data.tokenizer import Tokenizer
from mtkit.decoding.selftest import Check, selftest
from mtkit.models.build import build
from mtkit.models.cache import KVCache
from mtkit.models.compiled import CompiledTransformer
from mtkit.models.transformer import Transformer
from mtkit.recipe import (
    DataSection,
    ModelSection,
    Recipe,
    RecurrentSection,
    SearchSection,
    TokenizerSection,
    TransformerSection,
)
from tests.decoding.conftest import CORPUS, SECTION

RECURRENT = RecurrentSection(kind="recurrent", width=16, embedding=8, dropout=0)


def saved(folder: Path, section: ModelSection) -> Path:
    tokenizer = Tokenizer.train(CORPUS, TokenizerSection(vocabulary=360))
    torch.manual_seed(2)
    model = build(section, tokenizer.size, tokenizer.size)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    search = SearchSection(beam=3, max_length_ratio=0.5, max_length_offset=6)
    model_dir.save(folder, model, Recipe(model=section, search=search), tokenizer, tokenizer, {})
    return folder


def checks(folder: Path) -> dict[str, Check]:
    return {check.name: check for check in selftest(folder, [*CORPUS[:4], "", "a" * 250])}


@pytest.mark.parametrize("section", [SECTION, RECURRENT], ids=["transformer", "recurrent"])
def test_model_that_keeps_every_promise_passes(tmp_path: Path, section: ModelSection) -> None:
    found = checks(saved(tmp_path, section))
    assert [name for name, check in found.items() if check.passed is False] == []
    assert len(found) == 7
    assert sum(check.passed is True for check in found.values()) >= 4


def test_model_that_takes_no_line_whole_is_checked_too(tmp_path: Path) -> None:
    loaded = model_dir.load(saved(tmp_path / "model", SECTION))
    data = DataSection(max_length=3)
    recipe = loaded.recipe.model_copy(update={"data": data})
    tokenizers = loaded.source_tokenizer, loaded.target_tokenizer
    model_dir.save(tmp_path / "short", loaded.model, recipe, *tokenizers, {})
    found = checks(tmp_path / "short")
    assert [name for name, check in found.items() if check.passed is False] == []


def test_state_that_forgets_whom_it_follows_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KVCache, "follow", lambda self, parents: None)
    assert checks(saved(tmp_path, SECTION))[
        "stepping gives what the whole prefix gives"
    ].passed is (False)


def test_padding_that_is_seen_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Transformer.encode

    def leaking(self: Transformer, source: Tensor) -> object:
        return whole(self, source.clamp_min(1))

    monkeypatch.setattr(Transformer, "encode", leaking)
    found = checks(saved(tmp_path, SECTION))
    assert found["a line does not depend on its neighbours"].passed is False


@pytest.mark.usefixtures("compiler")
def test_compiled_functions_that_add_wrongly_are_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "compiled functions give the same"
    section = TransformerSection(
        kind="transformer", width=32, heads=2, feed_forward=32, encoder_layers=1, decoder_layers=1
    )
    folder = saved(tmp_path, section)
    assert checks(folder)[name].passed is True
    whole = CompiledTransformer.step

    def apart(*given: Any) -> Tensor:
        return whole(*given) * 1.01

    monkeypatch.setattr(CompiledTransformer, "step", apart)
    assert checks(folder)[name].passed is False
