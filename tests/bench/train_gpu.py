"""Training on a GPU: target tokens a second and model FLOP utilisation, beside two plain loops.

    python tests/bench/train_gpu.py [--size base|big] [--tokens 25000] [--updates 50]

Needs a CUDA device with bfloat16 (elsewhere it says so and ends); the row of Hugging Face's Marian
also needs `pip install transformers`. Sentences are random ids with lengths like WMT's, in batches
of mtkit's own plan, the same for all rows. Utilisation counts the products of the model's matrices
and of attention for tokens that are not padding, three times over (forward, and backward twice),
against the card's dense bfloat16 peak. `--device cpu --size tiny` only shows that the script runs.

Not yet measured: no GPU was at hand. What is aimed at: 45 % for base, 50 % for big.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtkit import Recipe, build
from mtkit.data.batches import Batch, assemble, pad, plan
from mtkit.models.transformer import sinusoids
from mtkit.recipe import TransformerSection
from mtkit.symbols import EOS, PAD
from mtkit.training.checkpoint import Checkpoints
from mtkit.training.distributed import World
from mtkit.training.feed import Feed
from mtkit.training.host import machine
from mtkit.training.optimizer import Schedule
from mtkit.training.sums import Sums
from mtkit.training.trainer import Trainer

# Dense bfloat16, without sparsity, as the makers state it.
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "4090": 165e12, "L4": 121e12}
SIZES = {
    "tiny": (64, 2, 128, 2, 500),
    "base": (512, 8, 2048, 6, 32000),
    "big": (1024, 16, 4096, 6, 32000),
}

Update = Callable[[Batch], None]


def recipe_of(size: str, tokens: int) -> Recipe:
    width, heads, inner, layers, _ = SIZES[size]
    return Recipe.from_table(
        {
            "model": {
                "kind": "transformer",
                "width": width,
                "heads": heads,
                "feed_forward": inner,
                "encoder_layers": layers,
                "decoder_layers": layers,
            },
            "training": {"max_tokens": tokens, "updates": 10**6},
        }
    )


def sentences(size: str, tokens: int, batches: int) -> tuple[np.ndarray, Callable[..., Batch]]:
    """Lengths [pairs, 2] like those of WMT, and how batches of random ids are made of them."""
    random = np.random.default_rng(1)
    pairs = max(2 * batches * tokens // 25, 500)
    source = np.clip(random.lognormal(3.2, 0.5, pairs), 3, 150).astype(np.int32)
    target = np.clip(source * random.normal(1.05, 0.15, pairs), 3, 150).astype(np.int32)
    words = SIZES[size][4]

    def fetch(indices: np.ndarray, seed: int) -> Batch:
        ids = np.random.default_rng(seed)
        sides = (
            pad([[*ids.integers(4, words, length - 1), EOS] for length in side[indices]])
            for side in (source, target)
        )
        return assemble(*sides)

    return np.stack([source, target], 1), fetch


def flops(size: str, batch: Batch) -> float:
    """Of a training update: products over tokens that are not padding."""
    width, _, inner, layers, words = SIZES[size]
    s = (batch.source != PAD).sum(1).double()
    counts = torch.zeros(batch.inputs.numel(), dtype=torch.float64)
    counts[batch.rows] = 1
    t = counts.view(batch.inputs.shape).sum(1)
    block = 2 * width * inner
    encoder = layers * ((4 * width**2 + block) * s + 2 * width * s * s)
    memory = layers * 2 * width**2 * s
    decoder = layers * ((6 * width**2 + block) * t + width * t * t + 2 * width * t * s)
    return float(6 * (encoder + memory + decoder + width * words * t).sum())


def ours(
    recipe: Recipe, words: int, fetch: Callable[..., Batch], lengths: np.ndarray, world: World
) -> Update:
    torch.manual_seed(1)
    model = build(recipe.model, words, words).to(world.device)
    feed = Feed(lengths, fetch, recipe.training, world)
    with TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder), 1)
    trainer = Trainer(model, feed, recipe.training, recipe.validation, world, checkpoints)
    trainer.schedule = Schedule(recipe.training.schedule, recipe.training.optimizer.rate, 1)
    trainer.started = time.monotonic()
    trainer.sums = Sums.none(trainer.world.device)
    return lambda batch: trainer.update([batch])


class Plain(nn.Module):
    """torch.nn.Transformer with tied embeddings, as its tutorials put it together."""

    def __init__(self, section: TransformerSection, words: int) -> None:
        super().__init__()
        self.width = section.width
        self.embedding = nn.Embedding(words, section.width)
        self.register_buffer("positions", sinusoids(512, section.width).float())
        self.body = nn.Transformer(
            section.width,
            section.heads,
            section.encoder_layers,
            section.decoder_layers,
            section.feed_forward,
            section.dropout,
            batch_first=True,
            norm_first=True,
        )

    def embed(self, ids: Tensor) -> Tensor:
        return self.embedding(ids) * math.sqrt(self.width) + self.positions[: ids.size(1)]

    def forward(self, source: Tensor, inputs: Tensor) -> Tensor:
        padding = source == PAD
        future = nn.Transformer.generate_square_subsequent_mask(inputs.size(1), inputs.device)
        hidden = self.body(
            self.embed(source),
            self.embed(inputs),
            tgt_mask=future,
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
            tgt_is_causal=True,
        )
        return F.linear(hidden, self.embedding.weight)


def loop(model: nn.Module, logits_of: Callable[[Batch], Tensor], device: torch.device) -> Update:
    """A plain loop: autocast, cross-entropy over non-padding rows, fused Adam."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)

    def update(batch: Batch) -> None:
        with torch.autocast(device.type, torch.bfloat16):
            logits = logits_of(batch).flatten(0, 1)[batch.rows]
            loss = F.cross_entropy(logits, batch.labels, label_smoothing=0.1)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return update


def contenders(arguments: argparse.Namespace, world: World) -> Iterator[tuple[str, Update]]:
    recipe = recipe_of(arguments.size, arguments.tokens)
    section, words = recipe.model, SIZES[arguments.size][4]
    assert isinstance(section, TransformerSection)
    lengths, fetch = sentences(arguments.size, arguments.tokens, arguments.updates)
    yield "mtkit", ours(recipe, words, fetch, lengths, world)
    plain = Plain(section, words).to(world.device).train()
    yield (
        "torch.nn.Transformer",
        loop(plain, lambda batch: plain(batch.source, batch.inputs), world.device),
    )
    try:
        from transformers import MarianConfig, MarianMTModel
    except ImportError:
        print("Hugging Face Marian: not installed")
        return
    config = MarianConfig(
        vocab_size=words,
        d_model=section.width,
        encoder_layers=section.encoder_layers,
        decoder_layers=section.decoder_layers,
        encoder_attention_heads=section.heads,
        decoder_attention_heads=section.heads,
        encoder_ffn_dim=section.feed_forward,
        decoder_ffn_dim=section.feed_forward,
        pad_token_id=PAD,
        decoder_start_token_id=PAD,
    )
    marian = MarianMTModel(config).to(world.device).train()

    def logits(batch: Batch) -> Tensor:
        mask = (batch.source != PAD).long()
        out: Tensor = marian(
            input_ids=batch.source, attention_mask=mask, decoder_input_ids=batch.inputs
        ).logits
        return out

    yield "Hugging Face Marian", loop(marian, logits, world.device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", choices=tuple(SIZES), default="base")
    parser.add_argument("--tokens", type=int, default=25000)
    parser.add_argument("--updates", type=int, default=50)
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("this needs a CUDA device, and torch finds none here")
    world = World.from_environment(arguments.device)
    lengths, fetch = sentences(arguments.size, arguments.tokens, arguments.updates)
    chosen = plan(lengths, arguments.tokens, 1, 0)[: arguments.updates + 5]
    batches = [fetch(indices, number).to(world.device) for number, indices in enumerate(chosen)]
    counted = batches[5:]
    tokens = sum(batch.tokens for batch in counted)
    work = sum(flops(arguments.size, batch.to(torch.device("cpu"))) for batch in counted)
    peak = next((rate for name, rate in PEAKS.items() if name in machine()), None)
    cuda = world.device.type == "cuda"
    for name, update in contenders(arguments, world):
        for batch in batches[:5]:
            update(batch)
        with torch.cuda.device(world.device) if cuda else nullcontext():
            if cuda:
                torch.cuda.synchronize()
            began = time.perf_counter()
            for batch in counted:
                update(batch)
            if cuda:
                torch.cuda.synchronize()
            seconds = time.perf_counter() - began
        used = f", {100 * work / seconds / peak:.1f} % of its peak" if peak else ""
        print(f"{name}: {tokens / seconds:,.0f} target tokens/s{used}")
    print(f"{machine()}; {arguments.size}, {arguments.tokens:,} tokens a batch")


if __name__ == "__main__":
    main()
