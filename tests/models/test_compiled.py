"""Compiled functions: what they compute is what the model computes, alone or in a batch."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mtkit.models import compiler, precision
from mtkit.models.build import build
from mtkit.models.compiled import CompiledTransformer, compiled
from mtkit.models.compiler import NotCompiledError
from mtkit.models.seq2seq import Memory, Seq2Seq
from mtkit.models.transformer import Transformer
from mtkit.recipe import RecurrentSection, TransformerSection
from mtkit.symbols import PAD

WORDS = 203  # no multiple of a panel
SECTIONS: dict[str, dict[str, object]] = {
    "pre-norm": {},
    "post-norm": {"norm": "post", "width": 32},
    "gelu": {"activation": "gelu", "feed_forward": 160},
    "untied without positions": {"positions": False, "tied_embeddings": "none"},
}

pytestmark = pytest.mark.usefixtures("compiler")


@pytest.fixture
def no_library() -> Iterator[None]:
    """As in a process that has not asked for compiled functions."""
    compiler.kernels.cache_clear()
    yield
    compiler.kernels.cache_clear()


def pair(kind: str, numbers: str) -> tuple[Transformer, CompiledTransformer]:
    torch.manual_seed(1)
    fields = {"kind": "transformer", "width": 64, "heads": 2, "feed_forward": 96}
    fields |= {"encoder_layers": 2, "decoder_layers": 3, "dropout": 0.3}
    section = TransformerSection.model_validate(fields | SECTIONS[kind])
    model = build(section, WORDS, WORDS).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))  # biases and norms too
    precision.apply(model, numbers)
    assert isinstance(model, Transformer)
    fast = compiled(model)
    assert isinstance(fast, CompiledTransformer)
    return model, fast


def sources(batch: int = 7, longest: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    source = torch.randint(4, WORDS, (batch, longest), generator=generator)
    for row, length in enumerate([9, 5, 1, 9, 3, 8, 6][:batch]):
        source[row, length:] = PAD
    return source


def steps(model: Seq2Seq, source: Tensor, beam: int = 3) -> Iterator[Tensor]:
    """The logits of ten steps, in which hypotheses change parents and sentences leave."""
    generator = torch.Generator().manual_seed(3)
    memory = model.encode(source)
    state = model.start(memory, beam, 12)
    for position in range(10):
        tokens = torch.randint(4, WORDS, (len(memory.padding), beam), generator=generator)
        yield model.step(tokens, memory, state)
        parents = torch.randint(0, beam, tokens.shape, generator=generator)
        if position == 4:
            rows = torch.tensor([0, 2, 3, 6])
            memory, parents = memory.select(rows), parents[rows]
            state.select(rows)
        state.follow(parents)


@torch.no_grad()
@pytest.mark.parametrize("numbers", ["float32", "int8"])
@pytest.mark.parametrize("kind", SECTIONS)
def test_compiled_model_gives_what_the_model_gives(kind: str, numbers: str) -> None:
    plain, fast = pair(kind, numbers)
    # Rounding may carry a number of an activation over to the next of 127 integers.
    slight = 1e-5 if numbers == "float32" else 0.02
    source = sources()
    pairs = list(zip(steps(plain, source), steps(fast, source), strict=True))
    inputs = torch.randint(4, WORDS, (7, 5))
    memory, own = plain.encode(source), fast.encode(source)
    pairs.append((plain.decode(inputs, memory), fast.decode(inputs, own)))
    pairs.append((plain.alignment(inputs, memory), fast.alignment(inputs, own)))
    assert len(pairs) == 12
    for wanted, found in pairs:
        assert found.shape == wanted.shape
        assert (found - wanted).norm() < slight * wanted.norm()


@torch.no_grad()
@pytest.mark.parametrize("numbers", ["float32", "int8"])
def test_compiled_row_does_not_depend_on_its_neighbours(numbers: str) -> None:
    _, fast = pair("pre-norm", numbers)
    source = sources()
    tokens = torch.randint(4, WORDS, (6, 7, 3))

    def walk(rows: list[int]) -> list[Tensor]:
        memory: Memory = fast.encode(source[rows])
        state = fast.start(memory, 3, 12)
        return [fast.step(step[rows], memory, state) for step in tokens]

    together = walk(list(range(7)))
    for rows in ([0], [2], [4, 6], [6, 5, 4, 3, 2, 1, 0]):
        for alone, all_of_them in zip(walk(rows), together, strict=True):
            assert torch.equal(alone, all_of_them[rows])


@torch.no_grad()
@pytest.mark.usefixtures("no_library")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="other CPUs have no lesser ones here")
@pytest.mark.parametrize("lesser", ["x86-64-v3", "x86-64"])
def test_lesser_cpus_compute_the_same(lesser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = [flag.replace("native", lesser) for flag in compiler._FLAGS]
    monkeypatch.setattr(compiler, "_FLAGS", flags)
    plain, fast = pair("pre-norm", "int8")
    assert f"-march={lesser}" in flags
    for wanted, found in zip(steps(plain, sources()), steps(fast, sources()), strict=True):
        assert (found - wanted).norm() < 0.02 * wanted.norm()


@torch.no_grad()
def test_compiled_model_reads_sources_of_any_length() -> None:
    plain, fast = pair("pre-norm", "float32")
    source = torch.randint(4, WORDS, (2, 150))
    wanted, found = plain.encode(source), fast._unpacked(fast.encode(source))
    torch.testing.assert_close(found.keys, wanted.keys, rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(found.values, wanted.values, rtol=1e-5, atol=2e-5)


@torch.no_grad()
def test_row_without_a_token_spoils_no_other() -> None:
    _, fast = pair("pre-norm", "int8")
    source = sources()
    wanted = next(steps(fast, source))
    source[1] = PAD
    found = next(steps(fast, source))
    assert torch.equal(found[[0, 2, 3, 4, 5, 6]], wanted[[0, 2, 3, 4, 5, 6]])
    assert found.isfinite().all()


@torch.no_grad()
def test_state_takes_no_more_steps_than_it_has_room_for() -> None:
    _, fast = pair("pre-norm", "int8")
    memory = fast.encode(sources())
    state = fast.start(memory, 1, 1)
    tokens = torch.full((7, 1), 5)
    fast.step(tokens, memory, state)
    with pytest.raises(AssertionError, match="no further step"):
        fast.step(tokens, memory, state)


@pytest.mark.parametrize("stranger", [WORDS, -1])
def test_ids_without_an_embedding_are_refused(stranger: int) -> None:
    _, fast = pair("pre-norm", "float32")
    source = sources()
    source[1, 1] = stranger
    with pytest.raises(AssertionError, match=f"not below {WORDS}"):
        fast.encode(source)


def test_models_that_the_functions_are_not_made_for_are_named() -> None:
    section = TransformerSection(
        kind="transformer", width=24, heads=2, feed_forward=32, encoder_layers=1, decoder_layers=1
    )
    with pytest.raises(NotCompiledError, match=r"widths .* \(24, 12, 32\), are no multiples of 16"):
        compiled(build(section, WORDS, WORDS))
    section = section.model_copy(update={"width": 32})
    with pytest.raises(NotCompiledError, match="its weights are bfloat16"):
        compiled(build(section, WORDS, WORDS).bfloat16())


@torch.no_grad()
@pytest.mark.parametrize("cell", ["rnn", "gru", "gru_cho", "lstm"])
def test_recurrent_model_multiplies_integers_by_compiled_functions(cell: str) -> None:
    section = RecurrentSection.model_validate(
        {"kind": "recurrent", "cell": cell, "width": 32, "embedding": 16, "memory": "general"}
    )
    plain, fast = (build(section, WORDS, WORDS).eval() for _ in range(2))
    fast.load_state_dict(plain.state_dict())
    for model in (plain, fast):
        precision.apply(model, "int8")
    assert fast.kernels is None
    assert compiled(fast) is fast
    assert fast.kernels is compiler.kernels()
    products = list(precision.int8_products(fast))
    assert len(products) == (4 if cell == "gru_cho" else 8)
    assert all(product.compiled for product in products)
    for wanted, found in zip(steps(plain, sources()), steps(fast, sources()), strict=True):
        assert (found - wanted).norm() < 0.01 * wanted.norm()


@pytest.mark.usefixtures("no_library")
def test_machine_without_a_compiler_is_told_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(NotCompiledError, match=r"no c\+\+, g\+\+ or clang\+\+ here"):
        compiler.kernels()
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(NotCompiledError, match="CXX = no-such-compiler is not there"):
        compiler.kernels()


@pytest.mark.usefixtures("no_library")
def test_compiler_that_refuses_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho 'fatal error: too old' >&2\nexit 1\n", encoding="utf-8")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    monkeypatch.setenv("MTKIT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(NotCompiledError, match="refuses: fatal error: too old"):
        compiler.kernels()
    assert list((tmp_path / "cache" / "kernels").iterdir()) == []


@pytest.mark.usefixtures("no_library")
def test_functions_are_compiled_once_for_all_processes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MTKIT_CACHE", str(tmp_path / "cache"))
    compiler.kernels()
    (library,) = (tmp_path / "cache" / "kernels").iterdir()
    made = library.stat().st_mtime_ns
    code = "from mtkit.models.compiler import kernels; print(kernels()._name)"
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert again.stdout.strip() == str(library)
    assert library.stat().st_mtime_ns == made


@torch.no_grad()
def test_what_is_no_number_is_none_in_integers_either() -> None:
    plain, fast = pair("pre-norm", "int8")
    source = sources()
    source[source == WORDS - 1] = 4
    source[2, 0] = WORDS - 1
    plain.source_embedding.weight[WORDS - 1, 3] = torch.nan
    logits = next(steps(fast, source))
    assert logits[2].isnan().all()
    assert logits[[0, 1, 3, 4, 5, 6]].isfinite().all()


def test_table_that_another_thread_may_be_reading_is_kept() -> None:
    _, fast = pair("pre-norm", "float32")
    fast._packed.make_positions(10)
    shorter = fast._packed.shape.positions
    fast._packed.make_positions(100)
    assert fast._packed.shape.positions != shorter
    held = [each for each in fast._packed._held if isinstance(each, Tensor)]
    assert shorter in [tensor.data_ptr() for tensor in held]


@pytest.mark.usefixtures("no_library")
def test_functions_of_another_user_are_not_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MTKIT_CACHE", str(tmp_path))
    library = tmp_path / "kernels" / f"{compiler._fingerprint(compiler._compiler())}.so"
    library.parent.mkdir()
    library.touch()
    if os.getuid() == 0:
        os.chown(library, 1, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: library.stat().st_uid + 1)
    with pytest.raises(NotCompiledError, match=r"made by another user \(export MTKIT_CACHE"):
        compiler.kernels()
