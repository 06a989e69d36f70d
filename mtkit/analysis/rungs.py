"""The rungs of the ladder: from an RNN with a context vector to a Transformer, at equal size.

Every encoder that is recurrent reads one way, since the claims are about how far a state carries.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mtkit.errors import UsageError
from mtkit.models.build import build
from mtkit.recipe import Recipe

EMBEDDING = 96
_DROPOUT = 0.05
# Short sentences teach to align, long ones are what is asked for.
_TRAIN = (
    "phrasebook:ko-en:train#size=20000,min_words=3,max_words=16",
    "phrasebook:ko-en:train#size=6000,min_words=17,max_words=60",
)
_VALID = ("phrasebook:ko-en:valid#size=400,min_words=3,max_words=60",)
_STEP = 4  # widths are multiples of this


@dataclass(frozen=True)
class Rung:
    """One model of the ladder."""

    name: str
    title: str
    model: dict[str, Any]  # what its model section says beside the width


@dataclass(frozen=True)
class Climb:
    """What all rungs of one ladder share."""

    folder: Path
    # Of training, for all eight rungs of one seed together, and for fewer in proportion, so that a
    # rung's share is the same whatever is trained beside it; 0: no limit.
    minutes: float = 36.0
    updates: int = 1500  # after which a rung ends, unless its share of the minutes is over before
    seeds: tuple[int, ...] = (1,)
    rungs: tuple[str, ...] = ()  # names; () is all
    train: tuple[str, ...] = ()  # corpora of the user's own; () is the phrasebook
    valid: tuple[str, ...] = ()
    device: str = "auto"

    def run(self, rung: Rung, seed: int) -> Path:
        """The run folder of a rung."""
        return self.folder / f"seed-{seed}" / rung.name


def _recurrent(cell: str, memory: str = "context", **others: object) -> dict[str, Any]:
    return {
        "kind": "recurrent",
        "cell": cell,
        "memory": memory,
        "embedding": EMBEDDING,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "bidirectional": False,
        "dropout": _DROPOUT,
        **others,
    }


def _transformer(**others: object) -> dict[str, Any]:
    layers = {"encoder_layers": 2, "decoder_layers": 2}
    return {"kind": "transformer", **layers, "dropout": _DROPOUT, **others}


RUNGS = (
    Rung("rnn", "RNN", _recurrent("rnn")),
    Rung("gru", "GRU", _recurrent("gru")),
    Rung("lstm", "LSTM", _recurrent("lstm")),
    Rung("lstm-reversed", "LSTM, source reversed", _recurrent("lstm", reverse_source=True)),
    Rung("lstm-additive", "LSTM + additive attention", _recurrent("lstm", "additive")),
    Rung("lstm-dot", "LSTM + dot attention", _recurrent("lstm", "dot")),
    Rung("transformer-blind", "Transformer without positions", _transformer(positions=False)),
    Rung("transformer", "Transformer", _transformer()),
)
_BY_NAME = {rung.name: rung for rung in RUNGS}


def chosen(names: Sequence[str]) -> list[Rung]:
    """The rungs of these names, in the ladder's order; all without names. Raises UsageError."""
    for name in names:
        if name not in _BY_NAME:
            raise UsageError(f"the ladder has no rung {name}", f"--only {','.join(_BY_NAME)}")
    return [rung for rung in RUNGS if not names or rung.name in names]


def place_of(name: str) -> int:
    """Where on the ladder a rung stands, from 0."""
    return list(_BY_NAME).index(name)


def same_training(one: Recipe, other: Recipe) -> bool:
    """Whether two runs are of the same corpora, model and training, but for a limit of minutes."""

    def kept(recipe: Recipe) -> tuple[object, ...]:
        training = recipe.training.model_copy(update={"minutes": 0.0})
        data = recipe.data.train, recipe.data.valid, recipe.data.max_length
        return *data, recipe.tokenizer, recipe.model, training

    return kept(one) == kept(other)


def recipe_of(rung: Rung, climb: Climb, seed: int) -> Recipe:
    """The recipe of a rung, whose width is fitted to the size of the others.

    The size is that of a Transformer of two layers on each side and width 96.
    """
    corpora = {"train": list(climb.train), "valid": list(climb.valid)}
    if not climb.train:
        corpora = {"train": list(_TRAIN), "valid": list(_VALID)}
    table: dict[str, Any] = {
        "title": rung.title,
        "data": {**corpora, "max_length": 300},
        "tokenizer": {"vocabulary": 4000},
        "model": rung.model,
        "training": {
            "minutes": climb.minutes / len(RUNGS),
            "updates": climb.updates,
            "max_tokens": 1024,
            "seed": seed,
            "precision": "float32",
            "keep": 1,
            # Few minutes must do: Muon learns to align in fewer updates than Adam.
            "optimizer": {"kind": "muon", "rate": 4e-3},
            "schedule": {"kind": "linear", "warmup": 100},
        },
        # Judged by the loss on few translations: the time belongs to training.
        "validation": {"every": 500, "metric": "loss", "sentences": 60},
        "search": {"beam": 1, "max_length_ratio": 1.5},
    }
    table["model"] = sized(rung.model, table["tokenizer"]["vocabulary"])
    return Recipe.from_table(table, f"rung {rung.name}")


def sized(model: dict[str, Any], vocabulary: int) -> dict[str, Any]:
    """The model section with the width at which it has the ladder's number of parameters."""
    whole = {"width": EMBEDDING, "heads": 4, "feed_forward": 4 * EMBEDDING}
    if model["kind"] == "transformer":
        return {**model, **whole}
    # A recurrent model embeds either language with a matrix of its own, a Transformer both with
    # one; what is compared is the rest, where the states are made.
    wanted = _inner({**_transformer(), **whole}, vocabulary)
    widths = range(_STEP, 8 * EMBEDDING, _STEP)

    def size(width: int) -> int:
        return _inner({**model, "width": width}, vocabulary)

    above = bisect_left(widths, wanted, 1, len(widths) - 1, key=size)
    best = min(widths[above - 1 : above + 1], key=lambda width: abs(size(width) - wanted))
    return {**model, "width": best}


def _inner(model: dict[str, Any], vocabulary: int) -> int:
    """How many parameters of a model are not embeddings."""
    section = Recipe.from_table({"model": model}).model
    with torch.device("meta"):
        built = build(section, vocabulary, vocabulary)
    named = built.named_parameters()
    return sum(p.numel() for name, p in named if "embedding" not in name)
