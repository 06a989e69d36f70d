"""The Transformer of Vaswani et al. 2017, with pre- or post-norm.

Teacher forcing and stepping are one path: T target positions or K hypotheses lie along the query
axis, and the only difference is where the keys of the self-attention come from.
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtkit.errors import RecipeError, UsageError
from mtkit.models.cache import KVCache
from mtkit.models.dropout import Dropout, LayerDropout, TokenDropout, embedding_dropout
from mtkit.models.seq2seq import Memory, Seq2Seq
from mtkit.recipe import TransformerSection
from mtkit.symbols import PAD

_FEW = 16


class Transformer(Seq2Seq):
    """Encoder and decoder stacks of attention and feed-forward sublayers."""

    def __init__(self, section: TransformerSection, source_size: int, target_size: int) -> None:
        """Raises RecipeError when embeddings are to be shared by vocabularies of unequal size."""
        super().__init__()
        if section.tied_embeddings == "all" and source_size != target_size:
            raise RecipeError(
                f'model.tied_embeddings = "all" needs one vocabulary, but the source has '
                f"{source_size} tokens and the target {target_size}",
                'set tokenizer.joint = true, or model.tied_embeddings = "target"',
            )
        width = section.width
        self.section = section
        self.target_embedding = nn.Embedding(target_size, width)
        self.source_embedding = (
            self.target_embedding
            if section.tied_embeddings == "all"
            else nn.Embedding(source_size, width)
        )
        self.output = nn.Linear(width, target_size, bias=False)
        self.encoder = nn.ModuleList(EncoderLayer(section) for _ in range(section.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(section) for _ in range(section.decoder_layers))
        # With post-norm every layer ends in a norm of its own (the paper); no further one follows.
        last = section.norm == "pre"
        self.encoder_norm = nn.LayerNorm(width) if last else nn.Identity()
        self.decoder_norm = nn.LayerNorm(width) if last else nn.Identity()
        self.positions = Positions(width) if section.positions else None
        self.dropout = embedding_dropout(section)
        self.source_dropout = TokenDropout(section.source_token_dropout)
        self.target_dropout = TokenDropout(section.target_token_dropout)
        self.layer_dropout = LayerDropout(section.layer_dropout)
        self._initialise()
        if section.tied_embeddings != "none":
            self.output.weight = self.target_embedding.weight

    def _initialise(self) -> None:
        """Glorot and Bengio (2010) for matrices, a standard deviation of D^-1/2 for embeddings."""
        width = self.section.width
        for name, parameter in self.named_parameters():
            if "embedding" in name or name == "output.weight":
                nn.init.normal_(parameter, std=width**-0.5)
            elif parameter.dim() == 2:
                # Matrices joined for speed are drawn as the separate ones that they stand for.
                parts = parameter.size(0) // width if "joined" in name else 1
                for part in parameter.chunk(parts):
                    nn.init.xavier_uniform_(part)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def encode(self, source: Tensor) -> Memory:
        padding = source == PAD  # [B, S]
        x = self._place(self.source_dropout(self.source_embedding(source)))  # [B, S, D]
        bias = hiding(padding, x.dtype)  # [B, 1, 1, S]
        for _, layer in self.layer_dropout(self.encoder):
            x = layer(x, bias)
        x = self.encoder_norm(x)
        layers = cast("list[DecoderLayer]", list(self.decoder))
        pairs = [layer.cross_attention.keys_values(x) for layer in layers]
        keys, values = zip(*pairs, strict=True)  # L x [B, H, S, Dh]
        return Memory(padding, keys, values)

    def features(self, inputs: Tensor, memory: Memory) -> Tensor:
        return self._decoder(*self._forced(inputs, memory))

    def alignment(self, inputs: Tensor, memory: Memory, layer: int = 0) -> Tensor:
        """The mean over heads of one decoder layer's attention to the source: [B, T, S].

        By default that of the last layer but one, which aligns best (Garg et al. 2019, 4.3).
        """
        layers = cast("list[DecoderLayer]", list(self.decoder))
        if layer > len(layers):
            raise UsageError(
                f"alignment_layer = {layer}, but the model has {len(layers)} decoder layers",
                f"--search alignment_layer={len(layers)}",
            )
        last = layer - 1 if layer else max(len(layers) - 2, 0)
        x, sight = self._forced(inputs, memory)
        for index, below in enumerate(layers[:last]):
            x = below(x, index, sight)
        return layers[last].alignment(x, last, sight)

    def _forced(self, inputs: Tensor, memory: Memory) -> tuple[Tensor, "Sight"]:
        """What the decoder starts from [B, T, D] under teacher forcing, and what it sees."""
        x = self._place(self.target_dropout(self.target_embedding(inputs)))  # [B, T, D]
        padding, causal = hiding(memory.padding, x.dtype), fused(x)
        if causal:
            return x, Sight(memory, padding, None, None, causal)
        future = torch.ones(x.size(1), x.size(1), dtype=torch.bool, device=x.device).triu(1)
        return x, Sight(memory, padding, additive(future[None], x.dtype), None)

    def output_layer(self) -> tuple[Tensor, Tensor | None]:
        return self.output.weight, None

    def parts(self) -> list[nn.Module]:
        # Not the decoder's layers: `encode` asks their cross-attention for keys and values.
        return [*self.encoder, *(layer.feed_forward for layer in self.decoder)]

    def start(self, memory: Memory, beam: int, capacity: int) -> KVCache:
        keys = memory.keys[0]
        padding = hiding(memory.padding, keys.dtype)
        return KVCache(self.section.decoder_layers, beam, capacity, keys, padding)

    def step(self, tokens: Tensor, memory: Memory, state: KVCache) -> Tensor:  # type: ignore[override]
        x = self._place(self.target_embedding(tokens), state.length, step=True)  # [B, K, D]
        past = state.begin_step()
        return self.project(self._decoder(x, Sight(memory, state.padding, past, state)))

    def _place(self, embedded: Tensor, first: int = 0, step: bool = False) -> Tensor:
        """Embeddings [B, N, D] at positions first, first + 1 ..., in a step `first` for all."""
        x = embedded * math.sqrt(self.section.width)
        if self.positions is not None:
            x = x + self.positions(first, 1 if step else x.size(1), x)
        if torch.is_autocast_enabled(x.device.type):
            # The whole residual stream is in the type of the products: nothing is cast in between.
            x = x.to(torch.get_autocast_dtype(x.device.type))
        dropped: Tensor = self.dropout(x)
        return dropped

    def _decoder(self, x: Tensor, sight: "Sight") -> Tensor:
        """The decoder stack over queries x [B, N, D], N = T (teacher forcing) or K (a step)."""
        for index, layer in self.layer_dropout(self.decoder):
            x = layer(x, index, sight)
        normed: Tensor = self.decoder_norm(x)
        return normed


@dataclass(frozen=True)
class Sight:
    """What the queries of a decoder pass may look at."""

    memory: Memory
    padding: Tensor | None  # [B, 1, 1, S], added to the scores of the memory; None: sees all
    past: Tensor | None  # [B or 1, 1, N, slots], added to the scores of the past; None: sees all
    cache: KVCache | None  # None: the past is the queries' own positions (teacher forcing)
    causal: bool = False  # whether it ends at the query, without a mask in `past` that says so


class Residual(nn.Module):
    """x + Dropout(sublayer(norm(x))), or norm(x + Dropout(sublayer(x))) with post-norm."""

    def __init__(self, section: TransformerSection) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(section.width)
        self.dropout = Dropout(section.dropout)
        self.pre = section.norm == "pre"

    def before(self, x: Tensor) -> Tensor:
        return self.norm(x) if self.pre else x

    def after(self, x: Tensor, change: Tensor) -> Tensor:
        x = self.dropout.added(x, change)
        return x if self.pre else self.norm(x)


class Attention(nn.Module):
    """Multi-head scaled dot-product attention over keys and values that are given."""

    def __init__(self, section: TransformerSection) -> None:
        super().__init__()
        self.heads = section.heads
        self.scale = (section.width // section.heads) ** -0.5
        self.out = nn.Linear(section.width, section.width)
        self.dropout = Dropout(section.attention_dropout)

    def heads_of(self, x: Tensor, parts: int) -> Tensor:
        """[B, N, parts x D] -> [parts, B, H, N, Dh], laid out so: else every product copies."""
        split = x.view(x.size(0), x.size(1), parts, self.heads, -1)
        return split.permute(2, 0, 3, 1, 4).contiguous()

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        bias: Tensor | None,
        causal: bool = False,
    ) -> Tensor:
        """Queries [B, H, N, Dh], keys and values [B, H, S, Dh] -> [B, N, D].

        `bias`, broadcast to [B, H, N, S], is added to the scores: 0 where a query may look. With
        `causal` (where attention is `fused`) query n looks at keys 0 ... n.
        """
        if fused(query):
            bias = None if bias is None else bias.to(query.dtype)
            p = self.dropout.probability if self.training else 0.0
            seen = F.scaled_dot_product_attention(query, keys, values, bias, p, causal)
        else:
            # Two batched products: for sentences of some tens of tokens the CPU's fused kernel
            # loses to them, above all in its backward pass.
            seen = self.dropout(self.weights(query, keys, bias)) @ values  # [B, H, N, Dh]
        mixed: Tensor = self.out(seen.transpose(1, 2).flatten(2))  # [B, N, D]
        return mixed

    def weights(self, query: Tensor, keys: Tensor, bias: Tensor | None) -> Tensor:
        """softmax(Q K^T / sqrt(Dh)): [B, H, N, S]."""
        scores = (query @ keys.transpose(-2, -1)).mul_(self.scale)
        if bias is not None:
            scores.add_(bias)
        if scores.size(-1) < _FEW and not scores.requires_grad:
            # Rows shorter than a vector register go through softmax one value at a time.
            scores.sub_(scores.amax(-1, keepdim=True)).exp_()
            return scores.div_(scores.sum(-1, keepdim=True))
        weights: Tensor = scores.softmax(-1)
        return weights


class SelfAttention(Attention):
    """Queries, keys and values from the same positions, by one joined matrix."""

    def __init__(self, section: TransformerSection) -> None:
        super().__init__(section)
        self.joined = nn.Linear(section.width, 3 * section.width)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, N, D] -> query, keys, values, each [B, H, N, Dh]."""
        query, keys, values = self.heads_of(self.joined(x), 3)
        return query, keys, values


class CrossAttention(Attention):
    """Queries from the decoder; keys and values from the encoder, computed once a sentence."""

    def __init__(self, section: TransformerSection) -> None:
        super().__init__(section)
        self.asked = nn.Linear(section.width, section.width)
        self.joined = nn.Linear(section.width, 2 * section.width)

    def query(self, x: Tensor) -> Tensor:
        return self.heads_of(self.asked(x), 1)[0]

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, S, D] -> [B, H, S, Dh] twice."""
        keys, values = self.heads_of(self.joined(x), 2)
        return keys, values


class FeedForward(nn.Module):
    """Two matrices with an activation between, and its residual connection."""

    def __init__(self, section: TransformerSection) -> None:
        super().__init__()
        self.inner = nn.Linear(section.width, section.feed_forward)
        self.outer = nn.Linear(section.feed_forward, section.width)
        # In place: what the matrix gave is not needed again, and fresh memory is slow to touch.
        self.activation = torch.relu_ if section.activation == "relu" else F.gelu
        self.dropout = Dropout(section.activation_dropout)
        self.residual = Residual(section)

    def forward(self, x: Tensor) -> Tensor:
        # As rows [B * N, D]: of a view, the change in place would be copied back and forth.
        rows = self.residual.before(x).flatten(0, 1)
        inner = self.dropout(self.activation(self.inner(rows)))
        return self.residual.after(x, self.outer(inner).view_as(x))


class EncoderLayer(nn.Module):
    """Self-attention over the source, then feed-forward."""

    def __init__(self, section: TransformerSection) -> None:
        super().__init__()
        self.self_attention = SelfAttention(section)
        self.residual = Residual(section)
        self.feed_forward = FeedForward(section)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        query, keys, values = self.self_attention.split(self.residual.before(x))
        x = self.residual.after(x, self.self_attention(query, keys, values, bias))
        mixed: Tensor = self.feed_forward(x)
        return mixed


class DecoderLayer(nn.Module):
    """Self-attention over the past, attention over the memory, then feed-forward."""

    def __init__(self, section: TransformerSection) -> None:
        super().__init__()
        self.self_attention = SelfAttention(section)
        self.self_residual = Residual(section)
        self.cross_attention = CrossAttention(section)
        self.cross_residual = Residual(section)
        self.feed_forward = FeedForward(section)

    def forward(self, x: Tensor, index: int, sight: Sight) -> Tensor:
        query, keys, values = self.self_attention.split(self.self_residual.before(x))
        if sight.cache is not None:
            keys, values = sight.cache.extend(index, keys, values)
        seen = self.self_attention(query, keys, values, sight.past, sight.causal)
        x = self.self_residual.after(x, seen)
        query = self.cross_attention.query(self.cross_residual.before(x))
        keys, values = sight.memory.keys[index], sight.memory.values[index]
        x = self.cross_residual.after(x, self.cross_attention(query, keys, values, sight.padding))
        mixed: Tensor = self.feed_forward(x)
        return mixed

    def alignment(self, x: Tensor, index: int, sight: Sight) -> Tensor:
        """The weights with which x [B, N, D] looks at the memory, a mean over heads: [B, N, S]."""
        query, keys, values = self.self_attention.split(self.self_residual.before(x))
        seen = self.self_attention(query, keys, values, sight.past, sight.causal)
        x = self.self_residual.after(x, seen)
        query = self.cross_attention.query(self.cross_residual.before(x))
        weights = self.cross_attention.weights(query, sight.memory.keys[index], sight.padding)
        return weights.mean(1)


class Positions(nn.Module):
    """Sinusoids of Vaswani et al. 2017, section 3.5: sine and cosine interleaved by dimension.

    The table is derived, never stored, and grows with the longest sequence seen.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.table = torch.empty(0, width)

    def forward(self, first: int, count: int, like: Tensor) -> Tensor:
        """Positions first ... first + count - 1: [count, D], of the type and device of `like`."""
        table = self.table
        if (
            first + count > table.size(0)
            or table.dtype != like.dtype
            or table.device != like.device
        ):
            length = max(256, 2 * (first + count))
            self.table = sinusoids(length, self.width).to(like)
        return self.table[first : first + count]


def sinusoids(length: int, width: int) -> Tensor:
    """PE(t, 2i) = sin(t / 10000^(2i / D)), PE(t, 2i+1) = cos(same): [length, D] in float64."""
    even = torch.arange(0, width, 2, dtype=torch.float64)
    angle = torch.arange(length, dtype=torch.float64)[:, None] / 10000 ** (even / width)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :width]


def fused(x: Tensor) -> bool:
    """Whether attention is one kernel of the device's: on a GPU, where none that is fast takes a
    mask of all pairs."""
    return x.is_cuda


def additive(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask as something to add to scores: -inf where hidden; [B, S] -> [B, 1, 1, S].

    [B, N, S] -> [B, 1, N, S].
    """
    bias = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
    bias.masked_fill_(hidden, float("-inf"))
    return bias[:, None, None] if hidden.dim() == 2 else bias[:, None]


def hiding(padding: Tensor, dtype: torch.dtype) -> Tensor | None:
    """What `additive` gives, or None where nothing is padded.

    A GPU is not asked, since the host would wait for the answer: there the mask is always made.
    """
    if padding.is_cuda or padding.any():
        return additive(padding, dtype)
    return None
