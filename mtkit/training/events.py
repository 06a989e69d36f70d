"""What a training run says: plain records that the display, the log and any listener receive."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Preparing:
    """A stage of the preparation begins, goes on or (fraction 1.0) has ended."""

    stage: str  # e.g. "training the tokenizer"
    fraction: float | None = None  # None: not known
    pairs_per_second: float = 0.0  # since the stage began; 0: not measured


@dataclass(frozen=True)
class Started:
    """Everything stands ready; the first update follows."""

    run: Path
    notes: tuple[str, ...]  # what preparation has to say: counts, dropped pairs, held-out split
    device: str
    precision: str
    parameters: int
    pairs: int
    batches_per_epoch: int
    last_update: int | None  # where training will end at the latest, if the recipe says
    resumed_at: int | None  # the update that was reached before


@dataclass(frozen=True)
class Progressed:
    """Some updates were made since the last report (about one report a second)."""

    update: int
    epoch: float  # epochs seen, with fraction
    loss: float  # per target token, natural logarithm, as trained on (smoothed)
    tokens_per_second: float  # target tokens, padding not counted
    rate: float  # learning rate
    gradient_norm: float  # before clipping, mean since the last report
    seconds: float  # of training so far, earlier sittings included
    remaining: float | None  # seconds until the end, if one is known


@dataclass(frozen=True)
class Sample:
    """One validation sentence."""

    source: str
    reference: str
    translation: str


@dataclass(frozen=True)
class Validated:
    """The model was scored on the validation corpus."""

    update: int
    epoch: float
    loss: float  # per target token, not smoothed
    scores: dict[str, float]  # "bleu", "chrf"
    signatures: dict[str, str]
    best: bool  # better than every validation before
    samples: tuple[Sample, ...]
    seconds: float  # of training so far
    took: float  # seconds of this validation
    averaged: int = 0  # checkpoints, where their mean was scored

    @property
    def perplexity(self) -> float:
        return math.exp(self.loss) if self.loss < 700 else math.inf


@dataclass(frozen=True)
class Saved:
    """A checkpoint lies on disk, complete."""

    update: int
    path: Path


@dataclass(frozen=True)
class Warned:
    """Something was not as asked; the sentence says what was done instead."""

    message: str


@dataclass(frozen=True)
class Noted:
    """Something worth knowing, in a sentence."""

    message: str


@dataclass(frozen=True)
class Finished:
    """The run has ended, and the run folder holds the model that translates."""

    run: Path
    reason: str  # "reached 3000 updates", "no gain in 5 validations", "interrupted", ...
    update: int
    best_update: int
    scores: dict[str, float]  # on the validation corpus, of the model in the folder
    test: dict[str, float]  # of data.test, if any
    seconds: float
    averaged: int = 0  # checkpoints that the model in the folder is the mean of


Event = Preparing | Started | Progressed | Validated | Saved | Warned | Noted | Finished
Listener = Callable[[Event], None]
