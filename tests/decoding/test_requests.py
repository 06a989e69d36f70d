"""What lines ask for is done, in text; what cannot be done is said."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mtkit import model_dir
from mtkit.data.corpus import Pair
from mtkit.data.tokenizer import Tokenizer, normalise
from mtkit.decoding.alignment import links, looked_at, pharaoh, without_unknown, words
from mtkit.decoding.mbr import by_utility, expected_utilities
from mtkit.decoding.options import SearchOptions
from mtkit.decoding.requests import Request, parse_record
from mtkit.decoding.scoring import score_pairs
from mtkit.decoding.translator import Translator
from mtkit.errors import DataError, ModelError, MTKitError, UsageError
from mtkit.metrics import utility
from mtkit.models.build import build
from mtkit.models.ensemble import Ensemble
from mtkit.models.seq2seq import Seq2Seq
from mtkit.recipe import Recipe, RecurrentSection, TokenizerSection, TransformerSection
from mtkit.symbols import UNK

LINES = [f"the {noun} {verb} a {noun}" for noun in ("cat", "dog", "sun") for verb in ("saw", "ate")]
TRANSFORMER = TransformerSection(
    kind="transformer", width=16, heads=2, feed_forward=16, encoder_layers=1, decoder_layers=2
)
RECURRENT = RecurrentSection(kind="recurrent", width=12, embedding=12, memory="general")
CONTEXT = RECURRENT.model_copy(update={"memory": "context"})
OPTIONS = SearchOptions(beam=4, max_length_ratio=1.0, max_length_offset=4)
SECTIONS = {"transformer": TRANSFORMER, "recurrent": RECURRENT}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    section = TokenizerSection(kind="bpe", vocabulary=60, byte_fallback=False)
    return Tokenizer.train(LINES, section.model_copy(update={"vocabulary": 40}))


def model(tokenizer: Tokenizer, kind: str = "transformer", seed: int = 1) -> Seq2Seq:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = build(SECTIONS[kind], tokenizer.size, tokenizer.size).double().eval()
        with torch.no_grad():
            for weight in built.parameters():
                weight.add_(torch.randn_like(weight), alpha=0.3)
    return built


@pytest.fixture(params=SECTIONS)
def translator(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> Translator:
    built = model(tokenizer, request.param)
    return Translator(built, tokenizer, tokenizer, OPTIONS, max_source_length=8)


def test_what_lines_ask_for_is_in_their_text_and_nobody_elses(translator: Translator) -> None:
    requests = [
        Request(LINES[0], prefix="a dog", n_best=3),
        Request(LINES[1], constraints=("the sun", "cat")),
        Request(LINES[2], forbidden=("a", "e"), n_best=4),
        Request(LINES[3]),
        Request(" ".join(LINES), prefix="the", constraints=("saw",), forbidden=("dog",)),
        Request("", prefix="a"),
    ]
    found = translator.translate(requests)
    for request, item in zip(requests[:-1], found, strict=False):
        assert item.unmet == ()
        for text in [a.text for a in item.alternatives] or [item.text]:
            assert text.startswith(normalise(request.prefix))
            assert all(phrase in text for phrase in request.constraints)
            assert not any(phrase in text for phrase in request.forbidden)
    assert len(found[0].alternatives) == 3
    assert found[-1].unmet == ("a",)
    assert found[3] == translator.translate([LINES[3]])[0]
    for request, item in zip(requests, found, strict=True):
        assert translator.translate([request])[0].text == item.text


def test_phrase_forbidden_to_all_is_in_no_translation(translator: Translator) -> None:
    free = [item.text for item in translator.translate(LINES)]
    letters = tuple({text.replace(" ", "")[:1] for text in free if text.strip()})
    translator.options = replace(OPTIONS, forbid=letters)
    for item in translator.translate(LINES):
        assert item.unmet == tuple(letter for letter in letters if letter in item.text) == ()


def test_what_contradicts_itself_is_said_to_be_unmet(translator: Translator) -> None:
    asked = Request(LINES[0], constraints=("dog",), forbidden=("dog",))
    (found,) = translator.translate([asked])
    assert found.unmet == ("dog",)
    (found,) = translator.translate([Request(LINES[0], prefix="cat", forbidden=("cat",))])
    assert found.text.startswith("cat")
    assert found.unmet == ("cat",)


def test_constraints_go_with_neither_samples_nor_groups(translator: Translator) -> None:
    for change in ({"temperature": 1.0}, {"groups": 2}):
        translator.options = replace(OPTIONS, **change)
        with pytest.raises(UsageError, match="constraints are met by beam search"):
            translator.translate([Request(LINES[0], constraints=("cat",))])
        (found,) = translator.translate([Request(LINES[0], prefix="a", forbidden=("t",))])
        assert found.text.startswith("a")
        assert "t" not in found.text


@pytest.mark.parametrize("metric", ["chrf", "bleu"])
def test_risk_of_one_candidate_is_least(translator: Translator, metric: str) -> None:
    plain = translator.translate(LINES)
    for change in ({"beam": 1}, {"beam": 1, "temperature": 1e-7}):
        translator.options = replace(OPTIONS, **change)
        before = translator.translate(LINES)
        translator.options = replace(translator.options, mbr=metric)
        assert [a.text for a in translator.translate(LINES)] == [b.text for b in before]
    translator.options = replace(OPTIONS, mbr=metric, n_best=2)
    least = translator.translate(LINES)
    assert len(least) == len(plain)
    translator.options = replace(OPTIONS, n_best=4)
    for item, every in zip(least, translator.translate(LINES), strict=True):
        texts = [a.text for a in every.alternatives]
        means = expected_utilities(texts, utility(metric))
        assert item.text == texts[means.index(max(means))]


def test_risk_by_hand() -> None:
    def same(one: str, other: str) -> float:
        return float(one[0] == other[0])

    candidates = ["b1", "a1", "a2", "a2"]
    assert expected_utilities(candidates, same) == [0.25, 0.75, 0.75, 0.75]
    assert by_utility(candidates, same) == [1, 2, 0]
    assert utility("chrf")("the cat", "the cat") == pytest.approx(100)
    with pytest.raises(UsageError, match="ter is not a utility"):
        utility("ter")


def test_score_of_a_pair_is_that_of_the_search(translator: Translator) -> None:
    """Outputs that are forced to be known texts, so that their tokens are the tokenizer's."""
    translator.options = replace(
        OPTIONS, token_scores=True, max_length_ratio=0.0, max_length_offset=1
    )
    texts = [*LINES[1:], "a"]
    asked = [Request(line, prefix=text) for line, text in zip(LINES, texts, strict=True)]
    pairs = [Pair(line, text) for line, text in zip(LINES, texts, strict=True)]
    scored = score_pairs(translator, pairs)
    for text, item, found in zip(texts, translator.translate(asked), scored, strict=True):
        assert item.text == text
        assert found.log_probability == pytest.approx(item.log_probability)
        assert found.score == pytest.approx(item.score)
        assert found.pieces == item.pieces
        assert found.token_scores == pytest.approx(item.token_scores)
    (empty,) = score_pairs(translator, [Pair("", "")])
    assert (empty.tokens, len(empty.token_scores)) == (0, 1)


def test_words_of_pieces() -> None:
    assert words(["▁the", "▁c", "at", "s", "▁", "sat"]) == [0, 1, 1, 1, 2, 2]
    assert words(["▁a", "<unk>", "▁b", "<unk>", "c"]) == [0, 1, 2, 3, 4]
    assert words([]) == []


def test_links_follow_the_largest_weight_and_leave_ends_out() -> None:
    weights = ((0.1, 0.8, 0.1), (0.3, 0.2, 0.5), (0.0, 0.0, 1.0))
    assert looked_at(weights) == [1, 0]
    assert pharaoh(links(weights, ["▁a", "▁b"], ["▁x", "▁y"])) == "0-1 1-0"
    assert pharaoh(links(weights, ["▁a", "b"], ["▁x", "y"])) == "0-0"
    assert links(weights, ["▁<2de>", "▁b"], ["▁x", "▁y"], skip=1) == ((0, 0),)
    assert looked_at(((1.0,), (1.0,))) == []  # a context vector


def test_alignment_names_words_of_both_lines(translator: Translator) -> None:
    translator.options = replace(OPTIONS, alignment=True)
    lines = [*LINES, " ".join(LINES[:3])]
    for line, item in zip(lines, translator.translate(lines), strict=True):
        for source, target in item.alignment:
            assert 0 <= source < len(line.split())
            assert 0 <= target < len(item.text.split())
        if item.text.split():
            assert item.alignment
        if item.status == "ok":
            assert len(item.attention) == item.tokens + 1


@pytest.mark.parametrize(
    "change", [{"alignment": True}, {"replace_unknown": True}, {"coverage_penalty": 0.2}]
)
def test_context_vector_that_attends_to_nothing_is_asked_for_no_alignment(
    tokenizer: Tokenizer, change: dict[str, float]
) -> None:
    context = build(CONTEXT, tokenizer.size, tokenizer.size).double().eval()
    options = replace(OPTIONS, **change)
    for blind in (context, Ensemble([context, context])):
        with pytest.raises(ModelError, match="a context vector, which attends to nothing"):
            Translator(blind, tokenizer, tokenizer, options).translate(LINES)
    seeing = Ensemble([context, model(tokenizer)])
    assert len(Translator(seeing, tokenizer, tokenizer, options).translate(LINES)) == len(LINES)


def test_layer_that_a_recurrent_model_lacks_is_refused(tokenizer: Tokenizer) -> None:
    translator = Translator(model(tokenizer, "recurrent"), tokenizer, tokenizer)
    translator.options = replace(OPTIONS, alignment=True)
    plain = translator.translate(LINES)
    translator.options = replace(OPTIONS, alignment=True, alignment_layer=1)
    assert translator.translate(LINES) == plain
    translator.options = replace(OPTIONS, alignment=True, alignment_layer=2)
    with pytest.raises(UsageError, match="alignment_layer = 2, but a recurrent model has one"):
        translator.translate(LINES)


def test_unknown_pieces_become_the_words_they_look_at() -> None:
    """A vocabulary of words without bytes; the weights are given by hand."""
    section = TokenizerSection(kind="word", vocabulary=11, byte_fallback=False)
    tokenizer = Tokenizer.train(LINES, section)
    the, cat = (tokenizer.encode([word])[0][0] for word in ("the", "cat"))
    written = tokenizer.encode_pieces(["the zebra saw"])[0]
    weights = ((1.0, 0, 0, 0), (0, 1.0, 0, 0), (0, 0, 1.0, 0), (0, 0, 0, 1.0))
    text = without_unknown((the, UNK, cat), weights, written, tokenizer.decode)
    assert text == "the zebra cat"
    assert without_unknown((the, cat), weights[1:], written, tokenizer.decode) == "the cat"
    tagged = without_unknown((the, UNK, cat), weights, written, tokenizer.decode, skip=2)
    assert tagged == "the saw cat", "the first two words are a tag, which nobody translates"
    built = model(tokenizer)
    options = replace(OPTIONS, replace_unknown=True)
    asked = Request("the zebra saw", prefix="yak")
    (plain,) = Translator(built, tokenizer, tokenizer, OPTIONS).translate([asked])
    assert plain.text.split()[0] == "⁇"
    (found,) = Translator(built, tokenizer, tokenizer, options).translate([asked])
    assert found.tokens == plain.tokens
    assert found.text.split()[0] in ("the", "zebra", "saw")
    assert "⁇" not in found.text


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "not JSON"),
        ("[1]", "not a JSON object"),
        ("{}", "source is missing"),
        ('{"source": 3}', "source is not text"),
        ('{"source": "a", "prefix": null}', "prefix is not text"),
        ('{"source": "a", "constraints": "b"}', "constraints is not a list"),
        ('{"source": "a", "forbidden": [" "]}', "forbidden is not a list"),
        ('{"source": "a", "n_best": true}', "n_best = True"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_records_that_mean_nothing_are_refused(line: str, words: str) -> None:
    with pytest.raises(DataError) as caught:
        Request.of(parse_record(line))
    assert words in caught.value.message


def test_ensemble_is_loaded_from_models_of_one_vocabulary(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    for kind, section in SECTIONS.items():
        recipe = Recipe(model=section)
        model_dir.save(tmp_path / kind, model(tokenizer, kind), recipe, tokenizer, tokenizer, {})
    one = Translator.load(tmp_path / "transformer", device="cpu", options=OPTIONS)
    twice = Translator.load(*[tmp_path / "transformer"] * 2, device="cpu", options=OPTIONS)
    assert [a.text for a in twice.translate(LINES)] == [b.text for b in one.translate(LINES)]
    both = Translator.load(tmp_path / "transformer", tmp_path / "recurrent", device="cpu")
    assert isinstance(both.model, Ensemble)
    assert len(both.translate(LINES)) == len(LINES)
    other = Tokenizer.train(LINES[:3], TokenizerSection(kind="char", vocabulary=40))
    recipe = Recipe(model=TRANSFORMER)
    model_dir.save(tmp_path / "other", model(other), recipe, other, other, {})
    with pytest.raises(ModelError, match="different source tokenizers"):
        Translator.load(tmp_path / "transformer", tmp_path / "other")
    with pytest.raises(MTKitError, match="no model directory is named"):
        Translator.load()
