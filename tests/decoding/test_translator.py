"""The line contract: one translation for every line, in order, whatever the lines hold."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mtkit import model_dir
from mtkit.data.corpus import Pair
from mtkit.data.tokenizer import Tokenizer
from mtkit.decoding import translator as translator_module
from mtkit.decoding.evaluate import evaluate
from mtkit.decoding.hypotheses import Hypothesis
from mtkit.decoding.incoming import decode_line, usable
from mtkit.decoding.search import SearchOptions, beam_search
from mtkit.decoding.translator import Translator, batches
from mtkit.errors import UsageError
from mtkit.models.seq2seq import Seq2Seq
from mtkit.models.transformer import Transformer
from mtkit.recipe import (
    STEEPEST,
    DataSection,
    Recipe,
    SearchSection,
    TokenizerSection,
    TransformerSection,
)
from tests.decoding.conftest import CORPUS, FAST, LONGEST, SECTION


@pytest.fixture
def translator(model: Seq2Seq, tokenizer: Tokenizer) -> Translator:
    return Translator(model, tokenizer, tokenizer, FAST, max_source_length=LONGEST)


def texts(translator: Translator, lines: Sequence[str]) -> list[str]:
    return [translation.text for translation in translator.translate(lines)]


AWKWARD = (
    "",
    " ",
    "\t\t",
    "\u3000\u00a0 \u2009",
    "\u200b",
    "\ufeff",
    "\0",
    "a\0b",
    "first\u2028second",
    "first\u0085second\u000b\u000c",
    "carriage\rreturn",
    "one\ntwo",
    "👩‍👩‍👧‍👦🇰🇷🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "مرحبا بالعالم \u202eשלום\u202c",
    "ⴰⵣⵓⵍ ᏣᎳᎩ 𒀀𒁀 ꦲꦏ꧀ꦱꦫ",
    "\udc80\ud800 half \udfff",
    "e\u0301 ᄒ\u1161\u11ab",
    "<s> </s> <unk> <pad> <0x0A> ▁▁",
    "." * 60,
    "x" * 300,
    "가" * 200,
)


def fuzzed(count: int, seed: int) -> Iterator[str]:
    """Lines of all kinds: awkward, ordinary, mixed, of random characters, of broken bytes."""
    rng = random.Random(seed)
    words = " ".join(CORPUS).split()
    for _ in range(count):
        match rng.randrange(6):
            case 0:
                yield rng.choice(AWKWARD)
            case 1 | 2:
                yield " ".join(rng.choices(words, k=rng.randrange(1, 8)))
            case 3:
                yield " ".join([rng.choice(AWKWARD), *rng.choices(words, k=2)])
            case 4:
                yield "".join(chr(rng.randrange(0x11_0000)) for _ in range(rng.randrange(12)))
            case _:
                line, _ = decode_line(rng.randbytes(rng.randrange(16)).replace(b"\n", b""))
                yield line


def test_five_thousand_fuzzed_lines_give_as_many_translations_in_order(
    translator: Translator,
) -> None:
    lines = [*fuzzed(4_990, seed=7), "word " * 20_000, "쉬지않고" * 5_000, *AWKWARD[:8]]
    found = translator.translate(lines)
    assert len(found) == len(lines) == 5_000
    # Sentinels among them: each line alone must give what it gave in the crowd.
    for index in [*range(0, 5_000, 97), 4_990, 4_991]:
        assert found[index].text == translator.translate([lines[index]])[0].text
    for line, translation in zip(lines, found, strict=True):
        assert not {"\n", "\r", "\0"} & set(translation.text)
        assert (translation.status == "empty") == (translation.source_tokens == 0)
        assert translation.repaired == (usable(line) != line)
        if not line.strip():
            assert (translation.text, translation.status) == ("", "empty")
    assert {item.status for item in found} == {"ok", "empty", "split", "over-long"}


class Feeding(Transformer):
    """A model that wants line feeds above all, then carriage returns, NUL and the letter A."""

    wanted: tuple[int, ...] = ()

    def project(self, features: Tensor) -> Tensor:
        logits = super().project(features)
        logits[..., list(self.wanted)] += torch.tensor([9.0, 8.5, 8.0, 7.5])
        return logits


def test_generated_line_breaks_become_spaces(tokenizer: Tokenizer) -> None:
    """Byte fallback lets a model spell them."""
    (first,) = tokenizer.encode(["\x01"])
    zero = first[-1] - 1  # the id of the byte 0
    section = TransformerSection(kind="transformer", width=8, heads=1, feed_forward=8)
    feeding = Feeding(section, tokenizer.size, tokenizer.size)
    feeding.wanted = (zero + 0x0A, zero + 0x0D, zero, zero + 0x41)
    options = SearchOptions(beam=3, n_best=3)
    for translation in Translator(feeding, tokenizer, tokenizer, options).translate(CORPUS):
        assert translation.tokens > 0
        for alternative in translation.alternatives:
            assert not {"\n", "\r", "\0"} & set(alternative.text)


def test_stream_gives_what_translate_gives(translator: Translator) -> None:
    lines = list(fuzzed(700, seed=3))
    whole = translator.translate(lines)
    for window in (1, 50, 4096):
        streamed = list(translator.stream(iter(lines), window))
        assert [item.text for item in streamed] == [item.text for item in whole]
        assert [item.status for item in streamed] == [item.status for item in whole]


def test_stream_with_a_window_of_one_answers_before_it_reads_on(translator: Translator) -> None:
    read: list[str] = []

    def typed() -> Iterator[str]:
        for line in CORPUS:
            read.append(line)
            yield line

    for count, _ in enumerate(translator.stream(typed(), window=1), start=1):
        assert len(read) == count


def test_stream_reads_no_further_than_its_window(translator: Translator) -> None:
    def endless() -> Iterator[str]:
        while True:
            yield from CORPUS

    first = next(translator.stream(endless(), window=10))
    assert first.text == texts(translator, CORPUS[:1])[0]


def test_stream_never_leaves_all_lines_out(translator: Translator) -> None:
    with pytest.raises(UsageError, match="a window of 0 lines translates nothing"):
        list(translator.stream(["a"], window=0))


@pytest.mark.parametrize("beam", [1, 3])
def test_translation_does_not_depend_on_neighbours(
    model: Seq2Seq, tokenizer: Tokenizer, beam: int
) -> None:
    options = replace(FAST, beam=beam, max_length_ratio=1.0)
    translator = Translator(model, tokenizer, tokenizer, options, max_source_length=LONGEST)
    lines = [line for line in fuzzed(60, seed=5) if len(line) < 200]
    together = texts(translator, lines)
    assert texts(translator, lines[::-1])[::-1] == together
    assert [texts(translator, [line])[0] for line in lines] == together


def test_nothing_of_a_long_line_is_left_out(translator: Translator) -> None:
    """The tokens that reach the model are those of the line, whatever it was cut at."""
    for line in (" ".join(CORPUS * 5), "dog " * 500, "고양이" * 300, "x" * 1_000):
        (found,) = translator.translate([line])
        assert found.status in ("split", "over-long")
        assert (found.status == "split") == line.startswith("the small")
        (tokens,) = translator.source_tokenizer.encode([line])
        # Where a word is cut off from the space before it, that space is written once more.
        assert len(tokens) <= found.source_tokens <= 1.1 * len(tokens)


def test_long_line_is_translated_sentence_by_sentence(model: Seq2Seq, tokenizer: Tokenizer) -> None:
    two = Translator(model, tokenizer, tokenizer, FAST, max_source_length=LONGEST)
    halves = texts(two, CORPUS[:2])
    joined = two.translate([" ".join(CORPUS[:2])])[0]
    assert joined.status == "split"
    assert joined.text == " ".join(half for half in halves if half)


def test_pieces_of_a_long_word_have_the_tag(model: Seq2Seq, tokenizer: Tokenizer) -> None:
    translator = Translator(model, tokenizer, tokenizer, FAST, max_source_length=LONGEST)
    translator.tag = "<2de>"
    tag = len(tokenizer.encode(["<2de> x"])[0]) - len(tokenizer.encode(["x"])[0])
    word = "".join(CORPUS).replace(" ", "").replace(".", "")
    (plain,) = tokenizer.encode([word])
    found = translator.translate([word])[0]
    assert found.status == "over-long"
    parts = -(-len(plain) // (LONGEST - tag))
    assert found.source_tokens == len(plain) + parts * tag


def test_translation_that_its_longest_length_ended_is_told(
    model: Seq2Seq, tokenizer: Tokenizer
) -> None:
    short = SearchOptions(beam=1, max_length_ratio=0.0, max_length_offset=2)
    found = Translator(model, tokenizer, tokenizer, short).translate([*CORPUS, ""])
    assert [item.limited for item in found] == [item.tokens >= 1 for item in found]
    assert any(item.limited for item in found)
    wide = SearchOptions(beam=1, max_length_ratio=0.0, max_length_offset=400)
    for item in Translator(model, tokenizer, tokenizer, wide).translate(CORPUS):
        assert item.limited == (item.tokens >= 399)


def test_steepest_length_penalty_ranks_long_translations(
    model: Seq2Seq, tokenizer: Tokenizer
) -> None:
    """(36 / 6)^50 is more than a float32 holds."""
    options = SearchOptions(beam=2, length_penalty=STEEPEST, min_length=40)
    for item in Translator(model, tokenizer, tokenizer, options).translate(CORPUS[:2]):
        assert item.tokens >= 40
        wanted = options.score(item.log_probability, item.tokens + 1)
        assert item.score == pytest.approx(wanted, rel=1e-6, abs=0)


def test_n_best_of_a_split_line_begins_with_its_translation(
    model: Seq2Seq, tokenizer: Tokenizer
) -> None:
    options = SearchOptions(beam=6, n_best=6, length_penalty=2.0)
    translator = Translator(model, tokenizer, tokenizer, options, max_source_length=LONGEST)
    lines = [" ".join(CORPUS[first : first + 3]) for first in range(len(CORPUS) - 2)]
    found = translator.translate(lines)
    assert any(item.status == "split" for item in found)
    translator.options = replace(options, n_best=1)
    assert [item.text for item in translator.translate(lines)] == [item.text for item in found]


def test_many_hypotheses_make_room_by_fewer_rows(
    model: Seq2Seq, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[tuple[int, int]] = []

    def seen(
        model: Seq2Seq, source: Tensor, options: SearchOptions, demands: None
    ) -> list[list[Hypothesis]]:
        sizes.append((len(source), source.size(1)))
        return beam_search(model, source, options, demands)

    monkeypatch.setattr(translator_module, "beam_search", seen)
    options = replace(FAST, beam=32)
    Translator(model, tokenizer, tokenizer, options, max_tokens=256).translate(CORPUS)
    assert all(rows == 1 or rows * longest * 32 <= 256 * 8 for rows, longest in sizes)


def test_n_best_is_given_on_request_only(model: Seq2Seq, tokenizer: Tokenizer) -> None:
    options = SearchOptions(beam=4, n_best=3)
    found = Translator(model, tokenizer, tokenizer, options).translate([*CORPUS, ""])
    for translation in found[:-1]:
        best, *others = translation.alternatives
        assert (best.text, best.score) == (translation.text, translation.score)
        assert [best.score, *(o.score for o in others)] == sorted(
            (item.score for item in translation.alternatives), reverse=True
        )
    assert found[-1].alternatives == ()
    plain = Translator(model, tokenizer, tokenizer, replace(options, n_best=1))
    assert all(item.alternatives == () for item in plain.translate(CORPUS))


def test_loaded_translator_translates_as_the_one_that_was_saved(
    model: Seq2Seq, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    recipe = Recipe(
        data=DataSection(max_length=LONGEST),
        tokenizer=TokenizerSection(vocabulary=360),
        model=SECTION,
        search=SearchSection(beam=3, max_length_ratio=1.5),
    )
    model_dir.save(tmp_path, model, recipe, tokenizer, tokenizer, {})
    options = SearchOptions(beam=3, max_length_ratio=1.5)
    saved = Translator(model, tokenizer, tokenizer, options, max_source_length=LONGEST)
    loaded = Translator.load(tmp_path, device="cpu")
    assert loaded.translate(CORPUS) == saved.translate(CORPUS)
    half = Translator.load(tmp_path, device="cpu", precision="bfloat16").translate(CORPUS)
    assert [item.source_tokens for item in half] == [
        item.source_tokens for item in saved.translate(CORPUS)
    ]
    with pytest.raises(UsageError, match="float16"):
        Translator.load(tmp_path, precision="float16")


def test_translating_leaves_the_model_as_it_was(model: Seq2Seq, tokenizer: Tokenizer) -> None:
    """Dropout is off while translating and on again for the next update."""
    translator = Translator(model, tokenizer, tokenizer, FAST)
    model.train()
    during = texts(translator, CORPUS)
    assert model.training
    model.eval()
    assert texts(translator, CORPUS) == during
    assert not model.training


def test_batches_keep_the_budget_and_lose_nothing() -> None:
    rng = random.Random(1)
    lengths = [rng.randrange(1, 40) for _ in range(300)]
    planned = batches(lengths, 64)
    assert sorted(index for batch in planned for index in batch) == list(range(300))
    for batch in planned:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 64
    assert batches([100], 64) == [[0]]


def test_evaluation_scores_the_translations(translator: Translator) -> None:
    pairs = [Pair(line, text) for line, text in zip(CORPUS, texts(translator, CORPUS), strict=True)]
    found = evaluate(translator, [Pair(p.source, p.target or "x") for p in pairs])
    assert [score.name for score in found.scores] == ["bleu", "chrf", "ter"]
    assert [item.text for item in found.translations] == [pair.target for pair in pairs]
    assert found.sentences_per_second > 0
    assert found.tokens_per_second > 0
