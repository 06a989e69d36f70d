"""BLEU, chrF and TER by sacrebleu, of detokenised text only; no number without its signature."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mtkit.errors import DataError, UsageError

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric

METRICS = ("bleu", "chrf", "ter")

_TOKENIZERS = {"ko": "ko-mecab", "ja": "ja-mecab", "zh": "zh"}
_OTHER_CODES = {"kor": "ko", "jpn": "ja", "zho": "zh", "chi": "zh", "cmn": "zh", "yue": "zh"}


@dataclass(frozen=True)
class Score:
    """What one metric says of a test set."""

    name: str  # "bleu", "chrf" or "ter", as it was asked for
    label: str  # as sacrebleu writes it: "BLEU", "chrF2", "TER"
    value: float
    signature: str  # everything that must be equal for two values to be comparable
    sentences: int

    def __str__(self) -> str:
        return f"{self.label} = {self.value:.2f} ({self.signature})"


@dataclass(frozen=True)
class Comparison:
    """One metric of one system, beside that of the baseline."""

    system: str
    score: Score
    mean: float  # of the bootstrap resamples
    interval: float  # half of the 95 % confidence interval around the mean
    p_value: float | None  # that the difference from the baseline is chance; None: the baseline


References = Sequence[str] | Sequence[Sequence[str]]


def score(
    hypotheses: Sequence[str],
    references: References,
    *,
    target_language: str = "",
    metrics: Sequence[str] = METRICS,
    lowercase: bool = False,
    tokenize: str | None = None,
) -> list[Score]:
    """Score translations against one reference each, or against several lists of references.

    BLEU's tokenizer follows the target language: MeCab for Korean and Japanese, characters for
    Chinese, 13a for all others; `tokenize` names another one (`none` for text that is tokenised
    already), which the signature then says. TER never regards case, which is sacrebleu's default.
    """
    lists = _reference_lists(references)
    _check_lines({"translations": hypotheses}, lists)
    found = []
    for name in metrics:
        metric = _metric(name, target_language, tokenize, lowercase)
        result = metric.corpus_score(hypotheses, lists)
        found.append(
            Score(name, result.name, result.score, str(metric.get_signature()), len(hypotheses))
        )
    return found


def compare(  # noqa: PLR0913  the knobs of `score`, which must be equal for all systems
    baseline: Sequence[str],
    systems: Mapping[str, Sequence[str]],
    references: References,
    *,
    target_language: str = "",
    metrics: Sequence[str] = METRICS,
    lowercase: bool = False,
    tokenize: str | None = None,
    resamples: int = 1000,
) -> list[Comparison]:
    """Paired bootstrap resampling (Koehn 2004) of systems against a baseline, which stands first.

    The resamples are seeded (sacrebleu's SACREBLEU_SEED, 12345): the same texts give the same
    p-values. The seed stands in the signature.
    """
    from sacrebleu.significance import PairedTest

    lists = _reference_lists(references)
    _check_lines({"baseline": baseline} | dict(systems), lists)
    named = [("baseline", baseline), *systems.items()]
    found: list[list[Comparison]] = []
    for name in metrics:
        metric = _metric(name, target_language, tokenize, lowercase)
        test = PairedTest(named, {name: metric}, lists, test_type="bs", n_samples=resamples)
        signatures, columns = test()
        ((label, signature),) = signatures.items()
        found.append(
            [
                Comparison(
                    system,
                    Score(name, label, result.score, str(signature), len(baseline)),
                    float(result.mean),
                    float(result.ci),
                    # sacrebleu counts only larger differences, and calls no difference significant.
                    1.0
                    if result.p_value and result.score == columns[label][0].score
                    else result.p_value,
                )
                for (system, _), result in zip(named, columns[label], strict=True)
            ]
        )
    return [comparison for system in zip(*found, strict=True) for comparison in system]


def tokenizer_for(language: str) -> str:
    """The name of the sacrebleu tokenizer for a target language; `ko-KR` and `kor` are `ko`."""
    code = language.replace("_", "-").split("-")[0].lower()
    return _TOKENIZERS.get(_OTHER_CODES.get(code, code), "13a")


def _metric(name: str, language: str, tokenize: str | None, lowercase: bool) -> "Metric":
    from sacrebleu.metrics import BLEU, CHRF, TER

    usual = tokenizer_for(language)
    tokenizer = tokenize or usual
    match name:
        case "bleu":
            if tokenizer not in BLEU.TOKENIZERS:
                raise UsageError(
                    f"{tokenizer} is not a tokenizer of BLEU",
                    f"known ones: {', '.join(BLEU.TOKENIZERS)}",
                )
            try:
                # `force` only silences advice about text that looks tokenised.
                return BLEU(lowercase=lowercase, tokenize=tokenizer, force=True)
            except (ImportError, RuntimeError) as error:
                raise DataError(
                    f"BLEU needs the tokenizer {tokenizer} here, which cannot be loaded "
                    f"({str(error).strip().splitlines()[0]})",
                    f'pip install "sacrebleu[{tokenizer[:2]}]"',
                ) from None
        case "chrf":
            return CHRF(lowercase=lowercase)
        case "ter":
            # Without spaces between words, an edit would be a whole sentence.
            spaceless = (usual if language else tokenizer) in ("zh", "ja-mecab")
            return TER(normalized=spaceless, asian_support=spaceless)
    raise UsageError(f"{name} is not a metric", f"known metrics: {', '.join(METRICS)}")


def _reference_lists(references: References) -> list[list[str]]:
    """One list for each reference of a line; plain strings are the only reference."""
    lists: list[list[str]] = []
    plain: list[str] = []
    for entry in references:
        if isinstance(entry, str):
            plain.append(entry)
        else:
            lists.append(list(entry))
    return lists or [plain]


def _check_lines(systems: Mapping[str, Sequence[str]], lists: Sequence[Sequence[str]]) -> None:
    for name, lines in systems.items():
        for number, reference in enumerate(lists, start=1):
            which = f"reference {number}" if len(lists) > 1 else "the reference"
            if len(lines) != len(reference):
                raise DataError(
                    f"{name} has {len(lines):,} lines but {which} has {len(reference):,}",
                    "score the translation of exactly the lines that the reference translates",
                )
        if not lines:
            raise DataError(f"{name} is empty: there is nothing to score")


def utility(name: str) -> Callable[[str, str], float]:
    """How good a sentence is beside another, in points: sacrebleu's chrF, or BLEU by 13a.

    BLEU counts only the n-grams that the sentence is long enough for. Raises UsageError.
    """
    from sacrebleu.metrics import BLEU, CHRF

    known = {"chrf": CHRF, "bleu": BLEU}
    if name not in known:
        raise UsageError(f"{name} is not a utility", f"known ones: {', '.join(known)}")
    metric = CHRF() if name == "chrf" else BLEU(effective_order=True)

    def of_sentence(hypothesis: str, reference: str) -> float:
        return float(metric.sentence_score(hypothesis, [reference]).score)

    return of_sentence
