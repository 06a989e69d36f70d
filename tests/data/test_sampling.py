"""Random segmentations: SentencePiece's own without dropout, and the same in every process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mtkit.data.corpus import open_corpus
from mtkit.data.sampling import Sampler
from mtkit.data.tokenizer import Tokenizer
from mtkit.recipe import TokenizerSection

LINES = [pair.source for pair in open_corpus("phrasebook:de-en#size=400")]
AWKWARD = ["", " ", "  two  spaces ", "日本 ½ …", "a▁b", "ein\u2028Wort", "<2de> ein Haus"]


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    section = TokenizerSection(kind=request.param, vocabulary=400)
    return Tokenizer.train(LINES, section)


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return Tokenizer.train(LINES, TokenizerSection(kind="bpe", vocabulary=400))


def test_merging_without_dropout_is_sentencepieces_segmentation(bpe: Tokenizer) -> None:
    every = [*LINES, *AWKWARD]
    assert bpe.encode(every, sampling=1e-300, seed=1) == bpe.encode(every)
    sampler = Sampler(bpe._pieces, 1e-300)
    assert sampler.encode(LINES, 1) == bpe.encode(LINES)
    assert all(fixed is None for word, fixed in sampler.fixed.items() if word.isascii())


def test_samples_differ_and_spell_the_same_text(tokenizer: Tokenizer) -> None:
    best = tokenizer.encode(LINES)
    one, other = (tokenizer.encode(LINES, sampling=0.2, seed=seed) for seed in (1, 2))
    assert tokenizer.encode(LINES, sampling=0.2, seed=1) == one
    assert one not in (other, best)
    assert tokenizer.decode(one) == tokenizer.decode(other) == tokenizer.decode(best)


def test_awkward_lines_are_sampled_without_loss(tokenizer: Tokenizer) -> None:
    found = tokenizer.encode(AWKWARD, sampling=0.5, seed=3)
    assert tokenizer.decode(found) == tokenizer.decode(tokenizer.encode(AWKWARD))


def test_full_dropout_leaves_characters(bpe: Tokenizer) -> None:
    (ids,) = bpe.encode(["das Haus"], sampling=1.0, seed=1)
    assert [bpe.piece(token) for token in ids] == list("▁das▁Haus")


def test_bpe_dropout_lengthens_as_sentencepiece_does(bpe: Tokenizer) -> None:
    ours = sum(map(len, bpe.encode(LINES * 5, sampling=0.1, seed=1)))
    theirs = bpe._pieces.encode(
        LINES * 5, out_type=int, enable_sampling=True, alpha=0.1, nbest_size=-1
    )
    assert ours == pytest.approx(sum(map(len, theirs)), rel=0.02)


def test_samples_are_the_same_in_every_process(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "joint.spm")
    script = (
        "import sys; from pathlib import Path; from mtkit import Tokenizer;"
        "t = Tokenizer.load(Path(sys.argv[1]));"
        "print(t.encode(['das ist ein Haus', 'wir gehen'], sampling=0.5, seed=7))"
    )
    here = tokenizer.encode(["das ist ein Haus", "wir gehen"], sampling=0.5, seed=7)
    for hashing in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "joint.spm")],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": hashing},
        )
        assert there.stdout.strip() == str(here)
