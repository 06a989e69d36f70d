"""The Transformer against torch's own, against the paper's formulas, and by hand."""

import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtkit.errors import RecipeError
from mtkit.models.transformer import (
    Attention,
    DecoderLayer,
    FeedForward,
    Positions,
    SelfAttention,
    Transformer,
    sinusoids,
)
from mtkit.recipe import TransformerSection
from mtkit.symbols import PAD

WIDTH, HEADS, INNER, LAYERS = 12, 3, 20, 2
SOURCE_SIZE, TARGET_SIZE = 17, 19


def section(**changes: object) -> TransformerSection:
    return TransformerSection.model_validate(
        {
            "kind": "transformer",
            "width": WIDTH,
            "heads": HEADS,
            "feed_forward": INNER,
            "encoder_layers": LAYERS,
            "decoder_layers": LAYERS,
            "tied_embeddings": "target",
            "dropout": 0.5,
        }
        | changes
    )


def transformer(**changes: object) -> Transformer:
    """In float64 and evaluation mode, with noise on every weight so that none is 0 or 1."""
    torch.manual_seed(7)
    chosen = section(**changes)
    size = TARGET_SIZE if chosen.tied_embeddings == "all" else SOURCE_SIZE
    model = Transformer(chosen, size, TARGET_SIZE).double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.3)
    return model


def assert_same(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-10, rtol=1e-10)


def example() -> tuple[Tensor, Tensor]:
    """Sources with padding [3, 6], decoder inputs [3, 5]."""
    generator = torch.Generator().manual_seed(3)
    source = torch.randint(4, SOURCE_SIZE, (3, 6), generator=generator)
    source[0, 4:] = PAD
    source[2, 1:] = PAD
    return source, torch.randint(4, TARGET_SIZE, (3, 5), generator=generator)


def pairs(theirs: nn.Transformer, ours: Transformer) -> Iterator[tuple[Tensor, Tensor]]:
    """Each tensor of torch's Transformer beside the one of ours that means the same."""
    # By name, since torch's own types call these modules only Module.
    their_names, our_names = dict(theirs.named_parameters()), dict(ours.named_parameters())

    def join(their: str, our: str) -> Iterator[tuple[Tensor, Tensor]]:
        for end in ("weight", "bias"):
            yield their_names[f"{their}.{end}"], our_names[f"{our}.{end}"]

    def join_attention(their: str, our: str) -> Iterator[tuple[Tensor, Tensor]]:
        for end in ("weight", "bias"):
            joined = their_names[f"{their}.in_proj_{end}"]
            if f"{our}.asked.{end}" in our_names:
                yield joined[:WIDTH], our_names[f"{our}.asked.{end}"]
                yield joined[WIDTH:], our_names[f"{our}.joined.{end}"]
            else:
                yield joined, our_names[f"{our}.joined.{end}"]
        yield from join(f"{their}.out_proj", f"{our}.out")

    for stack in ("encoder", "decoder"):
        for layer in (f"{stack}.layers.{index}" for index in range(LAYERS)):
            our = layer.replace(".layers", "")
            own = "residual" if stack == "encoder" else "self_residual"
            yield from join_attention(f"{layer}.self_attn", f"{our}.self_attention")
            yield from join(f"{layer}.norm1", f"{our}.{own}.norm")
            if stack == "decoder":
                yield from join_attention(f"{layer}.multihead_attn", f"{our}.cross_attention")
                yield from join(f"{layer}.norm2", f"{our}.cross_residual.norm")
            last = "norm2" if stack == "encoder" else "norm3"
            yield from join(f"{layer}.{last}", f"{our}.feed_forward.residual.norm")
            yield from join(f"{layer}.linear1", f"{our}.feed_forward.inner")
            yield from join(f"{layer}.linear2", f"{our}.feed_forward.outer")
        if f"{stack}.norm.weight" in their_names:
            yield from join(f"{stack}.norm", f"{stack}_norm")


def torch_twin(model: Transformer) -> nn.Transformer:
    """torch.nn.Transformer with the weights of `model`."""
    chosen = model.section
    pre = chosen.norm == "pre"
    arguments = (WIDTH, HEADS, INNER, 0.0, chosen.activation)
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(*arguments, batch_first=True, norm_first=pre),
        LAYERS,
        nn.LayerNorm(WIDTH) if pre else None,
        enable_nested_tensor=False,
    )
    decoder = nn.TransformerDecoder(
        nn.TransformerDecoderLayer(*arguments, batch_first=True, norm_first=pre),
        LAYERS,
        nn.LayerNorm(WIDTH) if pre else None,
    )
    twin = nn.Transformer(
        WIDTH, HEADS, custom_encoder=encoder, custom_decoder=decoder, batch_first=True
    ).double()
    copied = 0
    with torch.no_grad():
        for theirs, ours in pairs(twin, model):
            theirs.copy_(ours)
            copied += theirs.numel()
    assert copied == sum(weight.numel() for weight in twin.parameters())
    return twin.eval()


def embedded(table: nn.Embedding, ids: Tensor) -> Tensor:
    return F.embedding(ids, table.weight) * math.sqrt(WIDTH) + sinusoids(ids.size(1), WIDTH)


norms = pytest.mark.parametrize("norm", ["pre", "post"])


@norms
def test_transformer_encoder_equals_torch(norm: str) -> None:
    model = transformer(norm=norm)
    source, _ = example()
    padding = source == PAD
    encoded = torch_twin(model).encoder(
        embedded(model.source_embedding, source), src_key_padding_mask=padding
    )
    memory = model.encode(source)
    assert torch.equal(memory.padding, padding)
    for layer, keys, values in zip(model.decoder, memory.keys, memory.values, strict=True):
        assert isinstance(layer, DecoderLayer)
        expected = layer.cross_attention.joined(encoded)
        seen = ~padding
        assert_same(keys.transpose(1, 2).flatten(2)[seen], expected[..., :WIDTH][seen])
        assert_same(values.transpose(1, 2).flatten(2)[seen], expected[..., WIDTH:][seen])


@norms
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("padded", [True, False])
def test_transformer_logits_and_gradients_equal_torch(
    norm: str, activation: str, padded: bool
) -> None:
    model = transformer(norm=norm, activation=activation)
    twin = torch_twin(model)
    source, inputs = example()
    if not padded:
        source = source[1:2].expand(3, -1)
    decoded = twin(
        embedded(model.source_embedding, source),
        embedded(model.target_embedding, inputs),
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64),
        src_key_padding_mask=source == PAD,
        memory_key_padding_mask=source == PAD,
    )
    expected = decoded @ model.output.weight.T
    logits = model(source, inputs)
    assert_same(logits, expected)

    direction = torch.randn(logits.shape, dtype=logits.dtype)
    (expected * direction).sum().backward()
    theirs = [weight.grad for weight in twin.parameters()]
    embeddings = [model.source_embedding.weight.grad, model.target_embedding.weight.grad]
    model.zero_grad()
    (logits * direction).sum().backward()
    ours = {id(weight): weight.grad for weight in model.parameters()}
    with torch.no_grad():
        for weight, gradient in zip(twin.parameters(), theirs, strict=True):
            assert gradient is not None
            weight.copy_(gradient)  # so that `pairs` lays gradients side by side
    for their_gradient, weights in pairs(twin, model):
        mine = ours[id(weights)]
        assert mine is not None
        assert_same(mine, their_gradient)
    for table, gradient in zip(
        (model.source_embedding, model.target_embedding), embeddings, strict=True
    ):
        assert table.weight.grad is not None
        assert gradient is not None
        assert_same(table.weight.grad, gradient)


def test_fused_attention_of_a_gpu_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mask of the future: there the kernel itself looks back only."""
    model, (source, inputs) = transformer(), example()
    found = []
    for fused in (False, True):
        monkeypatch.setattr("mtkit.models.transformer.fused", lambda x, fused=fused: fused)
        logits = model(source, inputs)
        weighed = model.alignment(inputs, model.encode(source))
        gradients = torch.autograd.grad(logits.square().sum(), list(model.parameters()))
        found.append([logits, weighed, *gradients])
    for plain, other in zip(*found, strict=True):
        assert_same(other, plain)


def test_attention_is_softmax_of_scaled_products_by_hand() -> None:
    torch.manual_seed(1)
    attention = Attention(section(heads=1)).double().eval()
    query, keys, values = (
        torch.randn(1, 1, count, WIDTH, dtype=torch.float64) for count in (2, 3, 3)
    )
    for n in range(2):
        scores = [float(query[0, 0, n] @ keys[0, 0, s]) / math.sqrt(WIDTH) for s in range(3)]
        total = sum(math.exp(score) for score in scores)
        shares = torch.tensor([math.exp(score) / total for score in scores], dtype=values.dtype)
        seen = (shares[:, None] * values[0, 0]).sum(0)
        expected = attention.out.weight @ seen + attention.out.bias
        assert_same(attention(query, keys, values, None)[0, n], expected)


def test_attention_heads_are_concatenated_and_multiplied_by_w0() -> None:
    torch.manual_seed(2)
    attention = SelfAttention(section()).double().eval()
    x = torch.randn(2, 4, WIDTH, dtype=torch.float64)
    wq, wk, wv = attention.joined.weight.chunk(3)
    bq, bk, bv = attention.joined.bias.chunk(3)
    size = WIDTH // HEADS
    heads = []
    for head in range(HEADS):
        rows = slice(head * size, (head + 1) * size)
        q, k, v = (x @ w[rows].T + b[rows] for w, b in ((wq, bq), (wk, bk), (wv, bv)))
        heads.append((q @ k.transpose(1, 2) / math.sqrt(size)).softmax(-1) @ v)
    expected = torch.cat(heads, -1) @ attention.out.weight.T + attention.out.bias
    assert_same(attention(*attention.split(x), None), expected)


def test_attention_gives_hidden_positions_no_weight() -> None:
    torch.manual_seed(2)
    attention = Attention(section()).double()
    query, keys = torch.randn(2, 1, HEADS, 4, 4, dtype=torch.float64)
    bias = torch.tensor([0.0, -math.inf, 0.0, -math.inf], dtype=torch.float64)
    weights = attention.weights(query, keys, bias)
    assert (weights[..., [1, 3]] == 0).all()
    assert_same(weights[..., [0, 2]], attention.weights(query, keys[:, :, [0, 2]], None))


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_feed_forward_leaves_its_input_alone(activation: str) -> None:
    layer = FeedForward(section(activation=activation)).double().eval()
    x = torch.randn(1, 3, WIDTH, dtype=torch.float64)
    before = x.clone()
    layer(x)
    assert torch.equal(x, before)


def test_sinusoids_are_the_papers() -> None:
    width = 16
    table = sinusoids(600, width)
    assert table.shape == (600, width)
    for position in (0, 1, 2, 7, 63, 512, 599):
        for i in range(width // 2):
            angle = position / 10000 ** (2 * i / width)
            assert float(table[position, 2 * i]) == pytest.approx(math.sin(angle), abs=1e-12)
            assert float(table[position, 2 * i + 1]) == pytest.approx(math.cos(angle), abs=1e-12)


def test_sinusoids_of_an_odd_width_lack_the_last_cosine() -> None:
    assert sinusoids(5, 7).shape == (5, 7)
    expected = torch.tensor([math.sin(t / 10000 ** (6 / 7)) for t in range(5)]).double()
    torch.testing.assert_close(sinusoids(5, 7)[:, 6], expected, atol=1e-8, rtol=0)


def test_positions_start_anywhere_and_grow() -> None:
    positions = Positions(8)
    whole = sinusoids(3000, 8)
    like = torch.zeros(1, dtype=torch.float64)
    for first, count in ((0, 5), (255, 1), (250, 20), (0, 1), (2900, 100)):
        assert torch.equal(positions(first, count, like), whole[first : first + count])
    single = positions(2900, 100, like.float())
    assert single.dtype == torch.float32
    assert torch.equal(single, whole[2900:].float()), "computed in float64, then rounded"


@pytest.mark.parametrize("positions", [True, False])
def test_transformer_encoder_knows_order_only_by_positions(positions: bool) -> None:
    model = transformer(positions=positions)
    source = torch.tensor([[4, 9, 5, 12, 8, 3]])
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    plain, permuted = model.encode(source), model.encode(source[:, order])
    same = [
        torch.allclose(new, old[:, :, order], atol=1e-10)
        for new, old in zip(permuted.keys + permuted.values, plain.keys + plain.values, strict=True)
    ]
    assert any(same) != positions
    assert all(same) != positions


@pytest.mark.parametrize("positions", [True, False])
def test_transformer_scales_embeddings_by_the_root_of_the_width(positions: bool) -> None:
    model = transformer(positions=positions)
    seen: list[Tensor] = []
    for stack in (model.encoder, model.decoder):
        stack[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    source, inputs = example()
    model(source, inputs)
    for x, table, ids in zip(
        seen, (model.source_embedding, model.target_embedding), (source, inputs), strict=True
    ):
        for b in range(ids.size(0)):
            for n in range(ids.size(1)):
                expected = table.weight[ids[b, n]] * WIDTH**0.5
                if positions:
                    expected = expected + sinusoids(n + 1, WIDTH)[n]
                assert_same(x[b, n], expected)


@pytest.mark.parametrize(
    ("tied", "tables"), [("none", 3), ("target", 2), ("all", 1)], ids=["none", "target", "all"]
)
def test_transformer_tied_embeddings_are_one_tensor(tied: str, tables: int) -> None:
    model = transformer(tied_embeddings=tied)
    weights = (model.source_embedding.weight, model.target_embedding.weight, model.output.weight)
    assert len({weight.data_ptr() for weight in weights}) == tables
    assert (model.output.weight is model.target_embedding.weight) == (tied != "none")
    assert (model.source_embedding.weight is model.target_embedding.weight) == (tied == "all")
    with torch.no_grad():
        model.output.weight.zero_()
    assert model.target_embedding.weight.any() == (tied == "none")


def test_transformer_tying_all_needs_one_vocabulary() -> None:
    with pytest.raises(RecipeError, match=r"source has 17 tokens and the target 19") as caught:
        Transformer(section(tied_embeddings="all"), 17, 19)
    assert "tokenizer.joint = true" in str(caught.value.hint)


def test_transformer_base_has_the_papers_parameters() -> None:
    d, inner, vocabulary, layers = 512, 2048, 37_000, 6
    with torch.device("meta"):
        model = Transformer(
            section(
                width=d,
                heads=8,
                feed_forward=inner,
                encoder_layers=layers,
                decoder_layers=layers,
                norm="post",
                tied_embeddings="all",
            ),
            vocabulary,
            vocabulary,
        )
    attention = 4 * (d * d + d)
    feed_forward = 2 * d * inner + inner + d
    norm = 2 * d
    encoder = attention + feed_forward + 2 * norm
    decoder = 2 * attention + feed_forward + 3 * norm
    expected = vocabulary * d + layers * (encoder + decoder)
    assert sum(weight.numel() for weight in model.parameters()) == expected
    assert expected == 63_082_496  # table 3 of the paper says 65 million


def test_transformer_draws_joined_matrices_as_the_separate_ones() -> None:
    torch.manual_seed(4)
    width = 64
    model = Transformer(section(width=width, heads=4, feed_forward=100), 500, 500)
    matrices = {
        name: weight
        for name, weight in model.named_parameters()
        if weight.dim() == 2 and "embedding" not in name and name != "output.weight"
    }
    assert {name.rsplit(".", 2)[-2] for name in matrices} == {
        "joined",
        "asked",
        "out",
        "inner",
        "outer",
    }
    for name, matrix in matrices.items():
        for part in matrix.chunk(len(matrix) // width) if "joined" in name else [matrix]:
            bound = math.sqrt(6 / sum(part.shape))
            assert 0.98 * bound < float(part.detach().abs().max()) <= bound, name
            assert float(part.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.05), name


def test_transformer_draws_embeddings_for_a_stream_of_unit_variance() -> None:
    torch.manual_seed(4)
    model = Transformer(section(width=64, heads=4, tied_embeddings="none"), 500, 600)
    for table in (model.source_embedding, model.target_embedding, model.output):
        assert float(table.weight.detach().std()) == pytest.approx(64**-0.5, rel=0.02)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            assert not weight.any(), name


@pytest.mark.parametrize("dropout", ["dropout", "attention_dropout", "activation_dropout"])
def test_transformer_drops_in_training_alone(dropout: str) -> None:
    model = transformer(**{"dropout": 0.0, dropout: 0.5})
    source, inputs = example()
    assert torch.equal(model(source, inputs), model(source, inputs))
    model.train()
    torch.manual_seed(0)
    first = model(source, inputs)
    assert not torch.allclose(model(source, inputs), first)
    torch.manual_seed(0)
    assert torch.equal(model(source, inputs), first)
