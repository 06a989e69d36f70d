"""No translation depends on the lines beside it, nor on what a model keeps between steps."""

import pytest
import torch
from torch import Tensor

from mtkit.data.tokenizer import Tokenizer
from mtkit.decoding.options import SearchOptions
from mtkit.decoding.translator import Translator
from mtkit.models.ensemble import Ensemble
from mtkit.models.seq2seq import Memory, Seq2Seq, State, reorder
from tests.decoding.conftest import CORPUS
from tests.decoding.test_translator import fuzzed
from tests.laws.kinds import KINDS, tiny_model

LONGEST = 12
LINES = [*fuzzed(56, seed=11), *CORPUS, "word " * 40, ""]
SHORT = {"max_length_ratio": 0.25, "max_length_offset": 2}
WAYS = {
    "greedy": SearchOptions(beam=1, **SHORT),
    "n-best": SearchOptions(beam=3, n_best=3, **SHORT),
}
ways = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(params=[*KINDS, "ensemble"])
def model(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> Seq2Seq:
    """Of this kind, in the precision that people translate in."""
    kinds = [request.param]
    if kinds == ["ensemble"]:
        kinds = ["transformer-pre-all", "lstm-general-deep"]
    models = [tiny_model(kind, 3, tokenizer.size, tokenizer.size).float() for kind in kinds]
    return models[0] if len(models) == 1 else Ensemble(models)


def in_batches(translator: Translator, lines: list[str], size: int) -> list[tuple[str, ...]]:
    """The texts of each line, best first, of calls with so many lines each."""
    groups = [lines[first : first + size] for first in range(0, len(lines), size)]
    found = [line for group in groups for line in translator.translate(group)]
    return [(line.text, *(item.text for item in line.alternatives)) for line in found]


@ways
def test_text_is_the_same_in_any_batch_and_order(
    model: Seq2Seq, tokenizer: Tokenizer, way: str
) -> None:
    """In batches of 64, 7 and 1 (a third of them, for time), as the lines come and sorted."""
    translator = Translator(model, tokenizer, tokenizer, WAYS[way], max_source_length=LONGEST)
    together = in_batches(translator, LINES, 64)
    assert len({texts[0] for texts in together}) > 5, "a model that says one thing shows nothing"
    assert in_batches(translator, LINES[::3], 1) == together[::3]
    assert in_batches(translator, LINES, 7) == together
    by_length = sorted(range(len(LINES)), key=lambda index: len(LINES[index]))
    lines, wanted = [LINES[i] for i in by_length], [together[i] for i in by_length]
    assert in_batches(translator, lines, 7) == wanted
    assert in_batches(translator, lines, 64) == wanted


class Uncached(Seq2Seq):
    """A model that keeps nothing between steps: it reads each prefix anew."""

    class Prefixes:
        """The tokens of every hypothesis so far [B, K, t]."""

        def __init__(self, tokens: Tensor) -> None:
            self.tokens = tokens

        def select(self, sentences: Tensor) -> None:
            self.tokens = self.tokens[sentences]

        def follow(self, parents: Tensor) -> None:
            self.tokens = reorder(self.tokens, parents)

    def __init__(self, model: Seq2Seq) -> None:
        super().__init__()
        self.model = model

    def encode(self, source: Tensor) -> Memory:
        return self.model.encode(source)

    def features(self, inputs: Tensor, memory: Memory) -> Tensor:
        return self.model.features(inputs, memory)

    def output_layer(self) -> tuple[Tensor, Tensor | None]:
        return self.model.output_layer()

    def start(self, memory: Memory, beam: int, capacity: int) -> Prefixes:
        return self.Prefixes(torch.zeros(len(memory.padding), beam, 0, dtype=torch.long))

    def step(self, tokens: Tensor, memory: Memory, state: State) -> Tensor:
        assert isinstance(state, self.Prefixes)
        state.tokens = torch.cat((state.tokens, tokens.unsqueeze(2)), 2)  # [B, K, t]
        rows = torch.arange(len(tokens)).repeat_interleave(tokens.size(1))
        logits = self.model.decode(state.tokens.flatten(0, 1), memory.select(rows))
        return logits[:, -1].unflatten(0, tokens.shape)


@ways
def test_search_finds_what_it_would_find_without_a_cache(
    model: Seq2Seq, tokenizer: Tokenizer, way: str
) -> None:
    cached, uncached = (
        Translator(each, tokenizer, tokenizer, WAYS[way], max_source_length=LONGEST)
        for each in (model, Uncached(model))
    )
    for ours, theirs in zip(cached.translate(LINES), uncached.translate(LINES), strict=True):
        assert ours.text == theirs.text
        assert [a.text for a in ours.alternatives] == [a.text for a in theirs.alternatives]
        assert ours.log_probability == pytest.approx(theirs.log_probability, rel=1e-4, abs=1e-4)
