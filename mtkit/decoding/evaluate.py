"""A test set through a translator: translations, scores and speed."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

from mtkit.data.corpus import Pair
from mtkit.decoding.translation import Translation
from mtkit.decoding.translator import Translator
from mtkit.metrics import METRICS, Score, score


@dataclass(frozen=True)
class Evaluation:
    """How a model translates a test set."""

    scores: tuple[Score, ...]
    translations: tuple[Translation, ...]
    seconds: float  # of translating alone

    @property
    def sentences_per_second(self) -> float:
        return len(self.translations) / self.seconds

    @property
    def tokens_per_second(self) -> float:
        """Target tokens, EOS not counted."""
        return sum(translation.tokens for translation in self.translations) / self.seconds


def evaluate(
    translator: Translator,
    pairs: Sequence[Pair],
    *,
    target_language: str = "",
    metrics: Sequence[str] = METRICS,
) -> Evaluation:
    """Translate the sources and score them against the targets as references."""
    began = perf_counter()
    translations = translator.translate([pair.source for pair in pairs])
    seconds = perf_counter() - began
    scores = score(
        [translation.text for translation in translations],
        [pair.target for pair in pairs],
        target_language=target_language,
        metrics=metrics,
    )
    return Evaluation(tuple(scores), tuple(translations), seconds)
