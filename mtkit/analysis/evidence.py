"""What is measured of one rung with one seed, and its file in the run folder."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtkit import model_dir
from mtkit.analysis import losses
from mtkit.analysis.gradients import Gradients, Reach, encoded, measure
from mtkit.analysis.length import Bin, by_length, strangers
from mtkit.analysis.negation import PLACES, Heard, heard, sources, twins
from mtkit.data.corpus import Pair, open_corpora
from mtkit.decoding.translator import Translator
from mtkit.metrics import Score
from mtkit.models.build import build
from mtkit.recipe import Recipe
from mtkit.training.checkpoint import write_text

TRANSLATED = 400  # validation pairs
_FOLLOWED = 160  # of them, whose losses are followed
_LONGEST = 24  # of these, whose gradients are
_FORM = 3  # of the file; what another form measured is measured anew


@dataclass(frozen=True)
class Evidence:
    """All that the claims need of one rung."""

    rung: str
    seed: int
    updates: int  # at which the weights were the best
    gradients: tuple[Gradients, ...]  # initial and trained
    bins: tuple[Bin, ...]  # by source length
    chance: tuple[float, ...]  # BLEU of each bin's translations against other sentences of the bin
    thirds: tuple[tuple[float, float, float], ...]  # of each sentence: loss by part of the target
    losses: tuple[float, ...]  # of each sentence, a token, with the source as it is
    shuffled: tuple[float, ...]  # with the source tokens in random order
    negation: tuple[Heard, ...]


def examine(rung: str, seed: int, folder: Path) -> Evidence:
    """Measure a trained run, or read what was measured of the same weights before."""
    path = folder / "evidence.json"
    weights = blake2b((folder / "weights.safetensors").read_bytes()).hexdigest()
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if (kept["form"], kept["weights"]) == (_FORM, weights):
            return read(kept["evidence"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or damaged
    found = _measured(rung, seed, folder)
    kept = {"form": _FORM, "weights": weights, "evidence": asdict(found)}
    write_text(json.dumps(kept), path)
    return found


def read(table: dict[str, Any]) -> Evidence:
    """Evidence from what `asdict` made of it, lists for tuples."""
    table = {key: _tuples(value) for key, value in table.items()}
    table["gradients"] = tuple(
        Gradients(
            **{
                **moment,
                "encoder": Reach(**moment["encoder"]),
                "decoder": Reach(**moment["decoder"]) if moment["decoder"] else None,
            }
        )
        for moment in table["gradients"]
    )
    table["bins"] = tuple(
        Bin(**{**item, "scores": tuple(Score(**score) for score in item["scores"])})
        for item in table["bins"]
    )
    table["negation"] = tuple(Heard(**item) for item in table["negation"])
    return Evidence(**table)


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def valid_pairs(recipe: Recipe) -> list[Pair]:
    """The validation pairs of a rung, on which it is measured; the test split stays unseen."""
    return list(open_corpora(recipe.data.valid or recipe.data.train[:1]))[:TRANSLATED]


def _measured(rung: str, seed: int, folder: Path) -> Evidence:
    loaded = model_dir.load(folder)
    pairs = valid_pairs(loaded.recipe)
    language = loaded.recipe.data.target_language
    translator = Translator.load(folder, device="cpu")
    texts = [item.text for item in translator.translate([pair.source for pair in pairs])]
    tokenizers = loaded.source_tokenizer, loaded.target_tokenizer
    rows = encoded(pairs[:_FOLLOWED], *tokenizers)
    longest = sorted(rows, key=lambda row: -row[0].size(1))[:_LONGEST]
    torch.manual_seed(seed)
    fresh = build(loaded.recipe.model, tokenizers[0].size, tokenizers[1].size).eval()
    plain = losses.token_losses(loaded.model, rows)
    shuffled = losses.token_losses(loaded.model, rows, shuffle=1)
    others = by_length(strangers(pairs), texts, target_language=language, resamples=2)
    return Evidence(
        rung,
        seed,
        json.loads((folder / "card.json").read_text(encoding="utf-8"))["update"],
        (
            measure(fresh, longest, rung, "initial"),
            measure(loaded.model, longest, rung, "trained"),
        ),
        tuple(by_length(pairs, texts, target_language=language)),
        tuple(item.scores[0].value for item in others),
        losses.by_thirds(plain),
        tuple(float(sentence.mean()) for sentence in plain),
        tuple(float(sentence.mean()) for sentence in shuffled),
        _negation(translator, loaded.recipe),
    )


def _negation(translator: Translator, recipe: Recipe) -> tuple[Heard, ...]:
    """Minimal pairs of commands; () for corpora other than the phrasebook."""
    if not all(name.startswith("phrasebook:ko-en") for name in recipe.data.train):
        return ()
    found = []
    for place in PLACES:
        chosen = twins(place)
        texts = [item.text for item in translator.translate(sources(chosen))]
        found.append(heard(place, chosen, texts))
    return tuple(found)


def in_batch(rows: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Sentences cut to the shortest source and target of them, as one batch without padding."""
    source = min(s.size(1) for s, _ in rows)
    target = min(t.size(1) for _, t in rows)
    return (
        torch.cat([s[:, -source:] for s, _ in rows]),
        torch.cat([t[:, -target:] for _, t in rows]),
    )
