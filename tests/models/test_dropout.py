"""Dropout: how much falls, where it falls, and what the gradient of it is."""

import math
from itertools import combinations

import pytest
import torch
from torch import Tensor, nn

from mtkit.models.build import build
from mtkit.models.dropout import (
    Dropout,
    LayerDropout,
    TokenDropout,
    embedding_dropout,
    keep_bits,
)
from mtkit.recipe import ModelSection, RecurrentSection, TransformerSection

COUNT = 400_000
SIGMAS = 5.0  # a seed is fixed, so a bound that holds once holds always


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(11)


def kept(*shape: int, probability: float) -> Tensor:
    """What is kept, as truth values."""
    bits = keep_bits(torch.Size(shape), probability)
    assert bits.dtype == torch.int16
    assert ((bits == 0) | (bits == -1)).all(), "whole patterns: none or all"
    return bits.bool()


def assert_share(kept: Tensor, probability: float) -> None:
    """The share that is False lies within the binomial's bounds."""
    n = kept.numel()
    dropped = n - int(kept.sum())
    bound = SIGMAS * math.sqrt(n * probability * (1 - probability)) + n * 2**-17
    assert abs(dropped - n * probability) <= bound


probabilities = pytest.mark.parametrize(
    "probability", [2**-16, 0.001, 0.1, 0.25, 0.3, 0.5, 0.9, 0.999, 1 - 2**-16]
)


@probabilities
def test_dropout_drops_its_share(probability: float) -> None:
    assert_share(kept(COUNT, probability=probability), probability)


@probabilities
def test_dropout_drops_the_same_share_of_each_quarter_of_a_draw(probability: float) -> None:
    quarters = kept(COUNT, 4, probability=probability)
    for quarter in quarters.unbind(1):
        assert_share(quarter, probability)


def test_dropout_draws_the_values_of_a_draw_independently() -> None:
    quarters = kept(COUNT, 4, probability=0.5)
    for one, other in combinations(quarters.unbind(1), 2):
        assert_share(one ^ other, 0.5)
    for quarter in quarters.unbind(1):
        assert_share(quarter[1:] ^ quarter[:-1], 0.5)


@pytest.mark.parametrize("probability", [1e-9, 1 - 1e-9])
def test_dropout_takes_any_probability_below_one(probability: float) -> None:
    # Nearer to 0 or 1 than 16 bits can say.
    assert_share(kept(1000, probability=probability), probability)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3,), (5, 7), (2, 3, 0), (2, 3, 11)])
def test_dropout_masks_have_the_shape_asked_for(shape: tuple[int, ...]) -> None:
    assert keep_bits(torch.Size(shape), 0.5).shape == shape


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean(probability: float) -> None:
    values = torch.randn(COUNT, dtype=torch.float64) + 3
    difference = Dropout(probability)(values) - values
    # The variance of v * (keep / (1 - p) - 1) is v^2 * p / (1 - p).
    sigma = math.sqrt(float(values.square().mean()) * probability / (1 - probability) / COUNT)
    assert abs(float(difference.mean())) < SIGMAS * sigma


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dropout_gives_zeros_and_scaled_values_of_the_same_type(dtype: torch.dtype) -> None:
    values = (torch.rand(1000) + 1).to(dtype)
    dropped = Dropout(0.2)(values)
    assert dropped.dtype == dtype
    kept = dropped != 0
    assert 0 < int(kept.sum()) < 1000
    torch.testing.assert_close(dropped[kept], values[kept] * 1.25)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dropout_gradient_is_the_same_mask_and_scale(dtype: torch.dtype) -> None:
    values = (torch.rand(40, 30) + 1).to(dtype).requires_grad_()
    dropped = Dropout(0.5)(values)
    upstream = torch.rand_like(dropped) + 1
    dropped.backward(upstream)
    assert values.grad is not None
    expected = torch.where(dropped == 0, torch.zeros_like(upstream), upstream * 2)
    assert torch.equal(values.grad, expected)


@pytest.mark.parametrize("layout", ["transposed", "sliced", "expanded"])
def test_dropout_of_a_strided_view_is_that_of_its_copy(layout: str) -> None:
    base = torch.randn(6, 8, dtype=torch.float64)
    view = {"transposed": base.T, "sliced": base[:, 1::3], "expanded": base[:1].expand(5, 8)}[
        layout
    ]
    assert not view.is_contiguous()
    before = base.clone()
    torch.manual_seed(3)
    dropped = Dropout(0.4)(view)
    torch.manual_seed(3)
    assert torch.equal(dropped, Dropout(0.4)(view.contiguous()))
    assert torch.equal(base, before), "the input stays as it was"


def test_dropout_in_evaluation_is_the_identity() -> None:
    values, state = torch.randn(100), torch.get_rng_state()
    assert Dropout(0.5).eval()(values) is values
    assert torch.equal(torch.get_rng_state(), state)


def test_dropout_of_nothing_is_the_identity() -> None:
    values, state = torch.randn(100), torch.get_rng_state()
    assert Dropout(0.0).train()(values) is values
    assert torch.equal(torch.get_rng_state(), state)


def test_dropout_follows_the_seed() -> None:
    layer, values = Dropout(0.5), torch.ones(1000)
    torch.manual_seed(5)
    first, second = layer(values), layer(values)
    torch.manual_seed(5)
    assert torch.equal(layer(values), first)
    assert torch.equal(layer(values), second)
    assert not torch.equal(first, second)
    torch.manual_seed(6)
    assert not torch.equal(layer(values), first)


def test_token_dropout_hides_whole_tokens_and_leaves_the_others() -> None:
    vectors = torch.rand(200, 100, 3) + 1
    hidden = TokenDropout(0.3)(vectors)
    whole = (hidden == vectors).all(-1)
    assert torch.equal(whole, (hidden != 0).any(-1))
    assert_share(whole, 0.3)
    assert TokenDropout(0.3).eval()(vectors) is vectors


def test_layer_dropout_leaves_layers_out_with_its_probability() -> None:
    layers = nn.ModuleList(nn.Identity() for _ in range(4))
    passes = [LayerDropout(0.25)(layers) for _ in range(2000)]
    assert all(layers[number] is layer for kept in passes for number, layer in kept)
    kept = torch.tensor([[n in {m for m, _ in chosen} for n in range(4)] for chosen in passes])
    for column in kept.unbind(1):
        assert_share(column, 0.25)
    every = [0, 1, 2, 3]
    assert [number for number, _ in LayerDropout(0.25).eval()(layers)] == every
    assert [number for number, _ in LayerDropout(0.0)(layers)] == every


@pytest.mark.parametrize("share", ["same", 0.0, 0.4])
def test_embedding_dropout_is_the_other_or_its_own(share: float) -> None:
    section = RecurrentSection(kind="recurrent", dropout=0.2, embedding_dropout=share)
    assert embedding_dropout(section).probability == (0.2 if share == "same" else share)


RECURRENT = RecurrentSection(kind="recurrent", width=8, embedding=6, dropout=0)
TRANSFORMER = TransformerSection(
    kind="transformer", width=8, heads=2, feed_forward=10, dropout=0, tied_embeddings="target"
)


@pytest.mark.parametrize("section", [RECURRENT, TRANSFORMER], ids=["recurrent", "transformer"])
@pytest.mark.parametrize("key", ["embedding", "source_token", "target_token"])
def test_dropout_of_its_kind_falls_where_it_says(section: ModelSection, key: str) -> None:
    changed = section.model_copy(update={f"{key}_dropout": 0.5})
    model = build(changed, 30, 30)
    source, inputs = torch.randint(4, 30, (2, 9)), torch.randint(4, 30, (2, 9))

    def seen(torch_seed: int) -> tuple[Tensor, Tensor]:
        torch.manual_seed(torch_seed)
        memory = model.encode(source)
        torch.manual_seed(torch_seed)  # whatever the encoder has drawn, the decoder draws the same
        return memory.values[0], model.features(inputs, memory)

    (encoded, decoded), (encoded_anew, decoded_anew) = seen(1), seen(2)
    assert torch.equal(encoded, encoded_anew) == (key == "target_token")
    assert not torch.equal(decoded, decoded_anew)


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_layer_dropout_passes_over_a_layer_of_the_transformer(stack: str) -> None:
    section = TRANSFORMER.model_copy(update={"layer_dropout": 0.999999})
    model = build(section, 30, 30)
    source, inputs = torch.randint(4, 30, (2, 9)), torch.randint(4, 30, (2, 9))
    before = model(source, inputs)
    with torch.no_grad():
        for weight in getattr(model, stack).parameters():
            weight.normal_()
    assert torch.equal(model(source, inputs), before)
