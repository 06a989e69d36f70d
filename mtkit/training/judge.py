"""How a model in training is judged: its loss, and the scores of what it translates."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from mtkit.data.batches import collate, plan
from mtkit.data.corpus import Pair
from mtkit.data.prepare import Prepared
from mtkit.decoding.evaluate import Evaluation, evaluate
from mtkit.decoding.search import SearchOptions
from mtkit.decoding.translator import Translator
from mtkit.models.seq2seq import Seq2Seq
from mtkit.recipe import SearchSection, ValidationSection
from mtkit.training.events import Sample
from mtkit.training.loss import Objective

SAMPLES = 3


@dataclass(frozen=True)
class Judgement:
    """What a validation found; higher scores and a lower loss are better."""

    loss: float  # per target token, not smoothed
    scores: dict[str, float]
    signatures: dict[str, str]
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class Judge:
    """Scores a model on the validation corpus, and on any other pairs."""

    data: Prepared
    validation: ValidationSection
    search: SearchSection
    max_tokens: int
    device: torch.device
    autocast: Callable[[], AbstractContextManager[object]]

    def validate(self, model: Seq2Seq) -> Judgement:
        """Loss over the whole validation corpus, and scores of its translations."""
        model.eval()
        pairs = self.data.valid_pairs[: self.validation.sentences or None]
        search = self.search.model_copy(update={"beam": self.validation.beam})
        loss = self._loss(model)
        found = self.translate(model, pairs, search, ("bleu", "chrf"))
        every = max(1, len(pairs) // SAMPLES)
        return Judgement(
            loss,
            {score.name: score.value for score in found.scores},
            {score.name: score.signature for score in found.scores},
            tuple(
                Sample(pairs[i].source, pairs[i].target, found.translations[i].text)
                for i in range(0, len(pairs), every)[:SAMPLES]
            ),
        )

    def translate(
        self, model: Seq2Seq, pairs: Sequence[Pair], search: SearchSection, metrics: Sequence[str]
    ) -> Evaluation:
        """Translate the sources of pairs in float32 and score them."""
        translator = Translator(
            model,
            self.data.source_tokenizer,
            self.data.target_tokenizer,
            SearchOptions.from_section(search),
        )
        language = self.data.languages[1]
        return evaluate(translator, pairs, target_language=language, metrics=metrics)

    @torch.inference_mode()
    def _loss(self, model: Seq2Seq) -> float:
        """Cross-entropy per target token over the validation corpus, not smoothed."""
        valid = self.data.valid
        objective = Objective(model, smoothing=0.0)
        total, tokens = torch.zeros((), dtype=torch.float64, device=self.device), 0
        for indices in plan(valid.lengths, self.max_tokens, seed=0, epoch=0):
            batch = collate(valid.source, valid.target, indices).to(self.device)
            with self.autocast():
                total += objective(batch)[1]
            tokens += batch.tokens
        return float(total) / max(tokens, 1)
