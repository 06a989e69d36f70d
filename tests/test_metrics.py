"""Scores are sacrebleu's own, and never without their signature."""

import subprocess
import sys
from pathlib import Path

import pytest
import sacrebleu

from mtkit.errors import DataError, UsageError
from mtkit.metrics import compare, score, tokenizer_for

HYPOTHESES = [
    "A man sleeps in a green room on a couch.",
    "Two dogs, one black and one white, run through the deep snow!",
    "It costs $3.50 (about 3 euros).",
]
REFERENCES = [
    "A man sleeping in a green room on a couch.",
    "Two dogs run through deep snow.",
    "It costs $3.50, about three euros.",
]
KOREAN = ["나는 어제 친구와 함께 영화를 보았다.", "날씨가 아주 좋습니다."]
KOREAN_REFERENCES = ["나는 어제 친구하고 영화를 봤다.", "날씨가 매우 좋습니다."]


def test_scores_equal_those_of_sacrebleus_command_line(tmp_path: Path) -> None:
    reference, hypothesis = tmp_path / "ref", tmp_path / "hyp"
    reference.write_text("".join(f"{line}\n" for line in REFERENCES))
    hypothesis.write_text("".join(f"{line}\n" for line in HYPOTHESES))
    command = [
        "-m",
        "sacrebleu",
        str(reference),
        "-i",
        str(hypothesis),
        "-m",
        "bleu",
        "chrf",
        "ter",
    ]
    printed = subprocess.run(
        [sys.executable, *command, "-w", "6", "-f", "text"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for found in score(HYPOTHESES, REFERENCES):
        assert f"{found.label}|{found.signature} = {found.value:.6f}" in printed


def test_signature_names_case_tokenizer_and_version() -> None:
    bleu, chrf, ter = score(HYPOTHESES, REFERENCES)
    assert bleu.signature == (
        f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{sacrebleu.__version__}"
    )
    assert "nc:6" in chrf.signature
    assert "tok:tercom" in ter.signature
    assert [bleu.label, chrf.label, ter.label] == ["BLEU", "chrF2", "TER"]
    assert bleu.signature in str(bleu)
    (lowercased,) = score(HYPOTHESES, REFERENCES, metrics=("bleu",), lowercase=True)
    assert "case:lc" in lowercased.signature


def test_ter_goes_by_the_language_and_not_by_bleus_tokenizer() -> None:
    def signature(language: str, tokenize: str | None) -> str:
        (ter,) = score(
            ["a b"], ["a c"], target_language=language, metrics=("ter",), tokenize=tokenize
        )
        return ter.signature

    assert signature("zh", None) == signature("zh", "char")
    assert signature("en", None) == signature("en", "zh")
    assert signature("en", None) != signature("zh", None)


def test_korean_is_scored_in_morphemes() -> None:
    (bleu,) = score(KOREAN, KOREAN_REFERENCES, target_language="ko", metrics=("bleu",))
    assert "tok:ko-mecab" in bleu.signature
    by_sacrebleu = sacrebleu.corpus_bleu(KOREAN, [KOREAN_REFERENCES], tokenize="ko-mecab")
    assert bleu.value == by_sacrebleu.score
    (in_words,) = score(KOREAN, KOREAN_REFERENCES, metrics=("bleu",))
    assert bleu.value > in_words.value


@pytest.mark.parametrize(
    ("language", "tokenizer"),
    [
        ("ko", "ko-mecab"),
        ("ko-KR", "ko-mecab"),
        ("ko_KR", "ko-mecab"),
        ("kor", "ko-mecab"),
        ("ja", "ja-mecab"),
        ("zh-Hans", "zh"),
        ("cmn", "zh"),
        ("KO", "ko-mecab"),
        ("kok", "13a"),
        ("en", "13a"),
        ("", "13a"),
    ],
)
def test_tokenizer_follows_the_target_language(language: str, tokenizer: str) -> None:
    assert tokenizer_for(language) == tokenizer


def test_japanese_and_chinese_are_scored_without_spaces() -> None:
    bleu, _, ter = score(["私は猫が好きです。"], ["私は犬が好きです。"], target_language="ja")
    assert "tok:ja-mecab" in bleu.signature
    assert 0 < bleu.value < 100
    assert ter.value < 100
    (chinese,) = score(["我喜欢猫。"], ["我喜欢狗。"], target_language="zh", metrics=("bleu",))
    assert "tok:zh" in chinese.signature


def test_several_references_are_lists() -> None:
    (one,) = score(HYPOTHESES, REFERENCES, metrics=("bleu",))
    (two,) = score(HYPOTHESES, [REFERENCES, HYPOTHESES], metrics=("bleu",))
    assert two.value == pytest.approx(100.0)
    assert "nrefs:1" in one.signature
    assert "nrefs:2" in two.signature


def test_unequal_numbers_of_lines_are_refused_with_both_counts() -> None:
    with pytest.raises(DataError, match=r"3 lines but the reference has 2"):
        score(HYPOTHESES, REFERENCES[:2])
    with pytest.raises(DataError, match=r"3 lines but reference 2 has 2"):
        score(HYPOTHESES, [REFERENCES, REFERENCES[:2]])
    with pytest.raises(DataError, match=r"short has 2 lines but the reference has 3"):
        compare(HYPOTHESES, {"short": HYPOTHESES[:2]}, REFERENCES)
    with pytest.raises(DataError, match="nothing to score"):
        score([], [])


def test_unknown_metric_is_refused() -> None:
    with pytest.raises(UsageError, match="bleurt"):
        score(HYPOTHESES, REFERENCES, metrics=("bleurt",))


def test_comparison_tells_a_difference_from_chance_and_repeats_itself() -> None:
    references = [f"the {n} black dogs run through the deep snow of {n + 3}" for n in range(60)]
    worse = [line.replace("deep", "red") for line in references]
    nearly = [line if n else line.replace("deep", "red") for n, line in enumerate(references)]
    systems = {"nearly": nearly, "worse": worse}
    found = compare(references, systems, references, metrics=("bleu", "chrf"), resamples=200)
    assert [(item.system, item.score.name) for item in found] == [
        (system, name) for system in ("baseline", "nearly", "worse") for name in ("bleu", "chrf")
    ]
    by_name = {item.system: item for item in found if item.score.name == "bleu"}
    assert by_name["baseline"].p_value is None
    assert by_name["worse"].p_value is not None
    assert by_name["nearly"].p_value is not None
    assert by_name["worse"].p_value < 0.05 < by_name["nearly"].p_value
    assert by_name["nearly"].interval > 0
    assert by_name["nearly"].score.value == score(nearly, references, metrics=("bleu",))[0].value
    assert "bs:200|seed:12345" in by_name["worse"].score.signature
    again = compare(references, systems, references, metrics=("bleu", "chrf"), resamples=200)
    assert again == found
