"""mtkit: neural machine translation from RNN to Transformer, trained, decoded and scored.

The public names are loaded on first use, so that `import mtkit` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `as` tells type checkers that the name is public here
    from mtkit.analysis.attention import AttentionMaps as AttentionMaps
    from mtkit.analysis.attention import attention as attention
    from mtkit.analysis.charts import Line as Line
    from mtkit.analysis.comparison import Compared as Compared
    from mtkit.analysis.comparison import compare_runs as compare_runs
    from mtkit.analysis.gradients import Gradients as Gradients
    from mtkit.analysis.gradients import gradients as gradients
    from mtkit.analysis.ladder import climb as climb
    from mtkit.analysis.length import Bin as Bin
    from mtkit.analysis.pages import binned_scores as binned_scores
    from mtkit.analysis.pages import write_comparison as write_comparison
    from mtkit.analysis.pages import write_ladder as write_ladder
    from mtkit.analysis.pictures import save_lines as save_lines
    from mtkit.analysis.pictures import save_map as save_map
    from mtkit.analysis.rungs import Climb as Climb
    from mtkit.data.corpus import Corpus as Corpus
    from mtkit.data.corpus import Pair as Pair
    from mtkit.data.corpus import open_corpora as open_corpora
    from mtkit.data.corpus import open_corpus as open_corpus
    from mtkit.data.corpus import read_lines as read_lines
    from mtkit.data.prepare import Prepared as Prepared
    from mtkit.data.prepare import prepare as prepare
    from mtkit.data.tokenizer import Tokenizer as Tokenizer
    from mtkit.decoding.alignment import pharaoh as pharaoh
    from mtkit.decoding.evaluate import Evaluation as Evaluation
    from mtkit.decoding.evaluate import evaluate as evaluate
    from mtkit.decoding.export import Agreement as Agreement
    from mtkit.decoding.export import Exported as Exported
    from mtkit.decoding.export import agreement as agreement
    from mtkit.decoding.export import export as export
    from mtkit.decoding.hypotheses import Hypothesis as Hypothesis
    from mtkit.decoding.incoming import arriving as arriving
    from mtkit.decoding.options import SearchOptions as SearchOptions
    from mtkit.decoding.report import line_report as line_report
    from mtkit.decoding.requests import Request as Request
    from mtkit.decoding.requests import parse_record as parse_record
    from mtkit.decoding.scoring import PairScore as PairScore
    from mtkit.decoding.scoring import score_pairs as score_pairs
    from mtkit.decoding.search import beam_search as beam_search
    from mtkit.decoding.selftest import Check as Check
    from mtkit.decoding.selftest import selftest as selftest
    from mtkit.decoding.translation import Alternative as Alternative
    from mtkit.decoding.translation import Translation as Translation
    from mtkit.decoding.translator import Translator as Translator
    from mtkit.errors import DataError as DataError
    from mtkit.errors import MissingFileError as MissingFileError
    from mtkit.errors import ModelError as ModelError
    from mtkit.errors import MTKitError as MTKitError
    from mtkit.errors import RecipeError as RecipeError
    from mtkit.errors import TrainingError as TrainingError
    from mtkit.errors import UsageError as UsageError
    from mtkit.metrics import Comparison as Comparison
    from mtkit.metrics import Score as Score
    from mtkit.metrics import compare as compare
    from mtkit.metrics import score as score
    from mtkit.model_dir import LoadedModel as LoadedModel
    from mtkit.model_dir import average as average
    from mtkit.model_dir import load as load
    from mtkit.model_dir import save as save
    from mtkit.models.build import build as build
    from mtkit.models.ensemble import Ensemble as Ensemble
    from mtkit.models.seq2seq import Memory as Memory
    from mtkit.models.seq2seq import Seq2Seq as Seq2Seq
    from mtkit.models.seq2seq import State as State
    from mtkit.recipe import Recipe as Recipe
    from mtkit.recipe import TokenizerSection as TokenizerSection
    from mtkit.recipe import knobs as knobs
    from mtkit.recipe import nearest_key as nearest_key
    from mtkit.records import json_text as json_text
    from mtkit.training.events import Event as Event
    from mtkit.training.events import Finished as Finished
    from mtkit.training.events import Listener as Listener
    from mtkit.training.events import Noted as Noted
    from mtkit.training.events import Preparing as Preparing
    from mtkit.training.events import Progressed as Progressed
    from mtkit.training.events import Sample as Sample
    from mtkit.training.events import Saved as Saved
    from mtkit.training.events import Started as Started
    from mtkit.training.events import Validated as Validated
    from mtkit.training.events import Warned as Warned
    from mtkit.training.picture import plot_curves as plot_curves
    from mtkit.training.run import train as train
    from mtkit.training.trial import Resumption as Resumption
    from mtkit.training.trial import RunPlan as RunPlan
    from mtkit.training.trial import plan_run as plan_run
    from mtkit.training.trial import verify_resume as verify_resume

__version__ = "0.1.0"

_HOME = {
    "Alternative": "mtkit.decoding.translation",
    "Agreement": "mtkit.decoding.export",
    "AttentionMaps": "mtkit.analysis.attention",
    "Bin": "mtkit.analysis.length",
    "Check": "mtkit.decoding.selftest",
    "Climb": "mtkit.analysis.rungs",
    "Compared": "mtkit.analysis.comparison",
    "Comparison": "mtkit.metrics",
    "Corpus": "mtkit.data.corpus",
    "DataError": "mtkit.errors",
    "Ensemble": "mtkit.models.ensemble",
    "Evaluation": "mtkit.decoding.evaluate",
    "Event": "mtkit.training.events",
    "Exported": "mtkit.decoding.export",
    "Finished": "mtkit.training.events",
    "Gradients": "mtkit.analysis.gradients",
    "Hypothesis": "mtkit.decoding.hypotheses",
    "Line": "mtkit.analysis.charts",
    "Listener": "mtkit.training.events",
    "LoadedModel": "mtkit.model_dir",
    "MTKitError": "mtkit.errors",
    "Memory": "mtkit.models.seq2seq",
    "MissingFileError": "mtkit.errors",
    "ModelError": "mtkit.errors",
    "Noted": "mtkit.training.events",
    "Pair": "mtkit.data.corpus",
    "PairScore": "mtkit.decoding.scoring",
    "Prepared": "mtkit.data.prepare",
    "Preparing": "mtkit.training.events",
    "Progressed": "mtkit.training.events",
    "Recipe": "mtkit.recipe",
    "RecipeError": "mtkit.errors",
    "Request": "mtkit.decoding.requests",
    "Resumption": "mtkit.training.trial",
    "RunPlan": "mtkit.training.trial",
    "Sample": "mtkit.training.events",
    "Saved": "mtkit.training.events",
    "Score": "mtkit.metrics",
    "SearchOptions": "mtkit.decoding.options",
    "Seq2Seq": "mtkit.models.seq2seq",
    "Started": "mtkit.training.events",
    "State": "mtkit.models.seq2seq",
    "Tokenizer": "mtkit.data.tokenizer",
    "TokenizerSection": "mtkit.recipe",
    "TrainingError": "mtkit.errors",
    "Translation": "mtkit.decoding.translation",
    "Translator": "mtkit.decoding.translator",
    "UsageError": "mtkit.errors",
    "Validated": "mtkit.training.events",
    "Warned": "mtkit.training.events",
    "agreement": "mtkit.decoding.export",
    "arriving": "mtkit.decoding.incoming",
    "attention": "mtkit.analysis.attention",
    "average": "mtkit.model_dir",
    "beam_search": "mtkit.decoding.search",
    "binned_scores": "mtkit.analysis.pages",
    "build": "mtkit.models.build",
    "climb": "mtkit.analysis.ladder",
    "compare": "mtkit.metrics",
    "compare_runs": "mtkit.analysis.comparison",
    "evaluate": "mtkit.decoding.evaluate",
    "export": "mtkit.decoding.export",
    "gradients": "mtkit.analysis.gradients",
    "json_text": "mtkit.records",
    "knobs": "mtkit.recipe",
    "line_report": "mtkit.decoding.report",
    "load": "mtkit.model_dir",
    "nearest_key": "mtkit.recipe",
    "open_corpora": "mtkit.data.corpus",
    "open_corpus": "mtkit.data.corpus",
    "parse_record": "mtkit.decoding.requests",
    "pharaoh": "mtkit.decoding.alignment",
    "plot_curves": "mtkit.training.picture",
    "plan_run": "mtkit.training.trial",
    "prepare": "mtkit.data.prepare",
    "read_lines": "mtkit.data.corpus",
    "save": "mtkit.model_dir",
    "save_lines": "mtkit.analysis.pictures",
    "save_map": "mtkit.analysis.pictures",
    "score": "mtkit.metrics",
    "score_pairs": "mtkit.decoding.scoring",
    "selftest": "mtkit.decoding.selftest",
    "train": "mtkit.training.run",
    "verify_resume": "mtkit.training.trial",
    "write_comparison": "mtkit.analysis.pages",
    "write_ladder": "mtkit.analysis.pages",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'mtkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
