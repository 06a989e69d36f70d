"""The compiled step of a search gives what the step written down in Python gives."""

from dataclasses import fields
from itertools import pairwise
from math import inf, nan

import pytest
import torch
from torch import Tensor

from mtkit.decoding.advance import advance
from mtkit.decoding.hypotheses import Beam
from mtkit.decoding.options import SearchOptions
from mtkit.decoding.search import beam_search
from mtkit.models.compiler import kernels
from mtkit.symbols import BOS, EOS, PAD, UNK
from tests.laws.kinds import KINDS, SOURCE_SIZE, tiny_model

pytestmark = pytest.mark.usefixtures("compiler")


def beam_of(live: Tensor, seed: int = 1) -> Beam:
    batch = len(live)
    generator = torch.Generator().manual_seed(seed)
    return Beam(
        sentences=torch.arange(batch),
        limits=torch.randint(3, 6, (batch,), generator=generator),
        tokens=torch.full(live.shape, BOS),
        parents=torch.zeros(live.shape, dtype=torch.long),
        live=live,
        ended=live,
        finished=torch.randint(0, 3, (batch,), generator=generator),
    )


def assert_same(found: Beam, wanted: Beam) -> None:
    living = wanted.live > -inf
    for field in fields(Beam):
        ours, theirs = getattr(found, field.name), getattr(wanted, field.name)
        if field.name in ("tokens", "parents"):  # of the dead they mean nothing
            ours, theirs = ours[living], theirs[living]
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("words", [64, 203, 8001])
@pytest.mark.parametrize("width", [1, 4, 7])
@pytest.mark.parametrize("last", [None, 4])
def test_compiled_step_gives_the_same(words: int, width: int, last: int | None) -> None:
    torch.manual_seed(words + width)
    for options in (
        SearchOptions(beam=width),
        SearchOptions(beam=width, unknown=False, patience=0.5),
        SearchOptions(beam=width, patience=2.0),
    ):
        live = torch.randn(30, width).sort(1, descending=True).values - 3
        live[3, 1:] = -inf  # as at the first step
        live[4] = -inf  # a sentence that is done
        logits = 3 * torch.randn(30, width, words)
        logits[10:20, :, EOS] += 9  # some end
        logits[:, :, [PAD, UNK, BOS]] += 9
        beam = beam_of(live)
        found = advance(beam, logits, options, last, kernels())
        wanted = advance(beam, logits.clone(), options, last)
        assert_same(found, wanted)
        assert (wanted.ended > -inf).any()


def test_compiled_step_passes_on_what_is_no_number() -> None:
    logits = torch.randn(3, 2, 100)
    logits[1, 0, 7] = nan
    beam = beam_of(torch.zeros(3, 2))
    found = advance(beam, logits, SearchOptions(beam=2), None, kernels())
    assert found.ended[1, 0].isnan()
    assert not found.ended[[0, 2]].isnan().any()


def test_compiled_step_takes_equals_in_the_order_of_their_tokens() -> None:
    beam = beam_of(torch.tensor([[0.0, 0.0]]))
    found = advance(beam, torch.zeros(1, 2, 100), SearchOptions(beam=2), None, kernels())
    assert found.tokens.tolist() == [[UNK, EOS + 1]]
    assert found.parents.tolist() == [[0, 0]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [1, 3])
def test_search_by_compiled_functions_finds_the_same(kind: str, width: int) -> None:
    options = SearchOptions(beam=width, n_best=width, max_length_offset=6)
    generator = torch.Generator().manual_seed(5)
    source = torch.randint(4, SOURCE_SIZE, (6, 5), generator=generator)
    source[1, 3:], source[4, 1:] = PAD, PAD
    model = tiny_model(kind).float()
    wanted = beam_search(model, source, options)
    model.kernels = kernels()
    found = beam_search(model, source, options)
    for ours, theirs in zip(found, wanted, strict=True):
        logs, others = ([item.log_probability for item in items] for items in (ours, theirs))
        assert logs == pytest.approx(others, abs=1e-4)
        apart = all(one - other > 1e-4 for one, other in pairwise(others))
        if apart:  # the order of equals is anybody's
            assert [item.tokens for item in ours] == [item.tokens for item in theirs]
