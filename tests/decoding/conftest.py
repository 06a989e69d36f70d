"""A model that writes noise, and what it is made from."""

import pytest
import torch

from mtkit.data.tokenizer import Tokenizer
from mtkit.decoding.options import SearchOptions
from mtkit.models.build import build
from mtkit.models.seq2seq import Seq2Seq
from mtkit.recipe import TokenizerSection, TransformerSection

CORPUS = [
    "the small cat sleeps on the old chair.",
    "a big dog runs through the green garden!",
    "where is the red house of my brother?",
    "나는 작은 고양이를 좋아해요.",
    "그 사람은 오늘 학교에 갔어요.",
    "we saw 12 birds and 30 fish yesterday.",
]
# Nothing here is longer than this, so that the fuzzed lines are cut often.
LONGEST = 24
SECTION = TransformerSection(
    kind="transformer", width=16, heads=2, feed_forward=16, encoder_layers=1, decoder_layers=1
)
FAST = SearchOptions(beam=1, max_length_ratio=0.25, max_length_offset=2)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(CORPUS, TokenizerSection(vocabulary=360))


def noisy(tokenizer: Tokenizer, seed: int = 1) -> Seq2Seq:
    """Random weights: what it writes is noise, bytes among it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = build(SECTION, tokenizer.size, tokenizer.size)
        with torch.no_grad():
            for weight in built.parameters():
                weight.add_(torch.randn_like(weight), alpha=0.3)
    return built


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Seq2Seq:
    return noisy(tokenizer)
