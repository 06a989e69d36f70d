"""mtkit: neural machine translation from RNN to Transformer, trained, decoded and scored.

The public names are loaded on first use, so that `import mtkit` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mtkit.data.corpus import Corpus, Pair, open_corpora, open_corpus
    from mtkit.data.prepare import Prepared, prepare
    from mtkit.data.tokenizer import Tokenizer
    from mtkit.decoding.evaluate import Evaluation, evaluate
    from mtkit.decoding.search import Hypothesis, SearchOptions, beam_search
    from mtkit.decoding.translator import Translation, Translator
    from mtkit.errors import (
        DataError,
        ModelError,
        MTKitError,
        RecipeError,
        TrainingError,
        UsageError,
    )
    from mtkit.metrics import Score, compare, score
    from mtkit.models.build import build
    from mtkit.models.seq2seq import Memory, Seq2Seq, State
    from mtkit.recipe import Recipe
    from mtkit.training.run import train

__version__ = "0.1.0"

_HOME = {
    "Corpus": "mtkit.data.corpus",
    "DataError": "mtkit.errors",
    "Evaluation": "mtkit.decoding.evaluate",
    "Hypothesis": "mtkit.decoding.search",
    "MTKitError": "mtkit.errors",
    "Memory": "mtkit.models.seq2seq",
    "ModelError": "mtkit.errors",
    "Pair": "mtkit.data.corpus",
    "Prepared": "mtkit.data.prepare",
    "Recipe": "mtkit.recipe",
    "RecipeError": "mtkit.errors",
    "Score": "mtkit.metrics",
    "SearchOptions": "mtkit.decoding.search",
    "Seq2Seq": "mtkit.models.seq2seq",
    "State": "mtkit.models.seq2seq",
    "Tokenizer": "mtkit.data.tokenizer",
    "TrainingError": "mtkit.errors",
    "Translation": "mtkit.decoding.translator",
    "Translator": "mtkit.decoding.translator",
    "UsageError": "mtkit.errors",
    "beam_search": "mtkit.decoding.search",
    "build": "mtkit.models.build",
    "compare": "mtkit.metrics",
    "evaluate": "mtkit.decoding.evaluate",
    "open_corpora": "mtkit.data.corpus",
    "open_corpus": "mtkit.data.corpus",
    "prepare": "mtkit.data.prepare",
    "score": "mtkit.metrics",
    "train": "mtkit.training.run",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'mtkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
