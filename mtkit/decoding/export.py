"""A model for CTranslate2: written in its format, run by it, and compared with the original.

CTranslate2 (https://github.com/OpenNMT/CTranslate2) is an inference engine in C++. What it computes
is what `Transformer` computes: joined projections lie in the same order, embeddings are scaled by
sqrt(D) in both, and our sinusoids are stored as a table, for it would make others. Its search finds
the same hypotheses but ranks them by log-probability / length^alpha; `Exported` ranks as we do.
"""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from types import ModuleType
from typing import Any

from torch import nn

from mtkit.data.tags import with_tag
from mtkit.decoding.options import SearchOptions
from mtkit.decoding.translation import Codec
from mtkit.decoding.translator import Translator
from mtkit.errors import ModelError, UsageError
from mtkit.metrics import Score, score
from mtkit.model_dir import LoadedModel
from mtkit.models.transformer import (
    Attention,
    DecoderLayer,
    EncoderLayer,
    FeedForward,
    Residual,
    Transformer,
    sinusoids,
)
from mtkit.symbols import BOS, EOS, UNK

TYPES = ("float32", "int8", "int8_float32", "int8_float16", "int16", "float16", "bfloat16")
# Longest source or target that the exported model can number.
_POSITIONS = 4096
# CTranslate2 leaves a search early when it is told to rank by log-probability alone; this little
# makes it search as long as we do and moves no score by more than a few millionths.
_NEARLY_ZERO = 1e-6


def export(loaded: LoadedModel, folder: Path, weights: str = "float32") -> None:
    """Write a folder that `ctranslate2.Translator` opens, with the tokenizers beside the model.

    `weights` is the type that they are stored in, one of `TYPES`. Raises ModelError for a model
    that is no Transformer, UsageError for a folder that exists or where the package is missing.
    """
    if not isinstance(loaded.model, Transformer):
        raise ModelError(
            f"{loaded.path} is a {loaded.recipe.model.kind} model, and CTranslate2 runs "
            "Transformers alone",
            "mtkit translates it without export, on all processors: "
            f"mtkit translate {quote(str(loaded.path))}",
        )
    if weights not in TYPES:
        raise UsageError(f"{weights} is no type of weights", f"known: {', '.join(TYPES)}")
    engine()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists already", "name a new folder")
    spec = specification(loaded.model)
    spec.register_source_vocabulary(_vocabulary(loaded.source_tokenizer))
    spec.register_target_vocabulary(_vocabulary(loaded.target_tokenizer))
    pieces = loaded.target_tokenizer.piece
    spec.config.unk_token, spec.config.eos_token = pieces(UNK), pieces(EOS)
    spec.config.bos_token = spec.config.decoder_start_token = pieces(BOS)
    spec.config.add_source_eos = True
    spec.validate()
    spec.optimize(quantization=weights)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export.") as aside:
            spec.save(aside)
            loaded.source_tokenizer.save(Path(aside) / "source.spm")
            loaded.target_tokenizer.save(Path(aside) / "target.spm")
            folder.mkdir(exist_ok=True)
            for path in Path(aside).iterdir():
                shutil.move(path, folder / path.name)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written ({error})", "name another folder") from None


def engine() -> ModuleType:
    """The ctranslate2 package. Raises UsageError where it is not installed."""
    try:
        import ctranslate2
    except ImportError:
        raise UsageError(
            "CTranslate2 is not installed here", "pip install 'mtkit[ctranslate2]'"
        ) from None
    package: ModuleType = ctranslate2
    return package


def specification(model: Transformer) -> Any:
    """The model in the terms of CTranslate2, without vocabularies; weights are not copied."""
    specs = engine().specs
    section = model.section
    activation = specs.Activation.RELU if section.activation == "relu" else specs.Activation.GELU
    spec = specs.TransformerSpec.from_config(
        (section.encoder_layers, section.decoder_layers),
        section.heads,
        pre_norm=section.norm == "pre",
        activation=activation,
    )
    spec.config.layer_norm_epsilon = nn.LayerNorm(1).eps
    positions = sinusoids(_POSITIONS, section.width).float() * section.positions
    sides = (
        (spec.encoder, spec.encoder.embeddings[0], model.source_embedding, model.encoder_norm),
        (spec.decoder, spec.decoder.embeddings, model.target_embedding, model.decoder_norm),
    )
    for side, embeddings, table, norm in sides:
        embeddings.weight = table.weight.detach()
        side.position_encodings.encodings = positions
        if isinstance(norm, nn.LayerNorm):
            _norm(side.layer_norm, norm)
    spec.decoder.projection.weight = model.output.weight.detach()
    for given, layer in zip(spec.encoder.layer, model.encoder, strict=True):
        assert isinstance(layer, EncoderLayer)
        _attention(given.self_attention, layer.self_attention, layer.residual)
        _feed_forward(given.ffn, layer.feed_forward)
    for given, layer in zip(spec.decoder.layer, model.decoder, strict=True):
        assert isinstance(layer, DecoderLayer)
        _attention(given.self_attention, layer.self_attention, layer.self_residual)
        _attention(given.attention, layer.cross_attention, layer.cross_residual)
        _feed_forward(given.ffn, layer.feed_forward)
    return spec


def _attention(spec: Any, attention: Attention, residual: Residual) -> None:
    """The input matrices in order, `asked` before `joined`, then the output's."""
    _norm(spec.layer_norm, residual.norm)
    matrices = dict(attention.named_children())
    names = [name for name in ("asked", "joined", "out") if name in matrices]
    for given, name in zip(spec.linear, names, strict=True):
        _linear(given, matrices[name])


def _feed_forward(spec: Any, feed_forward: FeedForward) -> None:
    _norm(spec.layer_norm, feed_forward.residual.norm)
    _linear(spec.linear_0, feed_forward.inner)
    _linear(spec.linear_1, feed_forward.outer)


def _linear(spec: Any, linear: nn.Module) -> None:
    assert isinstance(linear, nn.Linear)
    spec.weight, spec.bias = linear.weight.detach(), linear.bias.detach()


def _norm(spec: Any, norm: nn.LayerNorm) -> None:
    spec.gamma, spec.beta = norm.weight.detach(), norm.bias.detach()


def _vocabulary(tokenizer: Any) -> list[str]:
    return [tokenizer.piece(token) for token in range(tokenizer.size)]


@dataclass(frozen=True)
class Found:
    """What CTranslate2 made of a sentence."""

    text: str
    score: float


class Exported:
    """An exported model, run by CTranslate2 and ranked as `beam_search` ranks."""

    def __init__(
        self,
        folder: Path,
        source_tokenizer: Codec,
        target_tokenizer: Codec,
        options: SearchOptions,
        **settings: Any,
    ) -> None:
        """`settings` go to `ctranslate2.Translator`, as device, compute_type, inter_threads."""
        self.translator = engine().Translator(str(folder), **settings)
        self.source_tokenizer: Any = source_tokenizer
        self.target_tokenizer: Any = target_tokenizer
        self.options = options
        self.tag = ""  # put before every line, as `Translator.tag`
        self._ids = {piece: token for token, piece in enumerate(_vocabulary(target_tokenizer))}

    def search(self, sources: Sequence[Sequence[str]], **settings: Any) -> list[list[str]]:
        """The best target pieces for each sentence of source pieces, scores left aside.

        In one call, as for speed: the longest output is that of the longest source for all.
        """
        longest = max((self.options.longest(len(source)) for source in sources), default=1)
        results = self._searched(sources, **{"max_decoding_length": longest, **settings})
        return [max(self._ranked(result))[1] for result in results]

    def translate(self, lines: Sequence[str]) -> list[Found]:
        """One translation a line; lines are not split, so they should fit the model."""
        sources = self.source_tokenizer.encode_pieces([with_tag(self.tag, line) for line in lines])
        alike: dict[int, list[int]] = {}  # lines of one length have one limit
        for index, source in enumerate(sources):
            alike.setdefault(len(source), []).append(index)
        best: list[tuple[float, list[str]]] = [(0.0, [])] * len(sources)
        for length, indices in alike.items():
            room = self.options.longest(length) - 1  # EOS has the last place
            found = self._within(room, [sources[index] for index in indices])
            for index, ranked in zip(indices, found, strict=True):
                best[index] = ranked
        ids = [[self._ids[piece] for piece in pieces] for _, pieces in best]
        texts = self.target_tokenizer.decode(ids)
        return [Found(text, score) for text, (score, _) in zip(texts, best, strict=True)]

    def _within(self, room: int, sources: Sequence[list[str]]) -> list[tuple[float, list[str]]]:
        """The best hypothesis of at most `room` tokens for each source, and its score.

        CTranslate2 leaves what has reached the longest length without an EOS and its probability;
        in our search it has one.
        """
        found = []
        results = self._searched(sources, max_decoding_length=max(room, 1))
        for source, result in zip(sources, results, strict=True):
            ranked = self._ranked(result)
            cut = [pieces[:room] for _, pieces in ranked if len(pieces) >= room]
            ended = [item for item in ranked if len(item[1]) < room]
            if cut:
                scored = self.translator.score_batch([source] * len(cut), cut, max_input_length=0)
                totals = [sum(each.log_probs) for each in scored]
                ended += [
                    (self.options.score(total, len(pieces) + 1), pieces)
                    for total, pieces in zip(totals, cut, strict=True)
                ]
            found.append(max(ended))
        return found

    def _searched(self, sources: Sequence[Sequence[str]], **settings: Any) -> list[Any]:
        beam = self.options.beam
        given = {
            "beam_size": beam,
            "num_hypotheses": beam,
            "length_penalty": _NEARLY_ZERO if beam > 1 else 0,
            "patience": self.options.patience,
            "disable_unk": not self.options.unknown,
            "min_decoding_length": 0,
            "max_input_length": 0,
            "max_batch_size": 64,
            "return_scores": True,
        }
        results: list[Any] = self.translator.translate_batch(list(sources), **(given | settings))
        return results

    def _ranked(self, result: Any) -> list[tuple[float, list[str]]]:
        """Each hypothesis with the score that our search would give it."""
        return [
            (self.options.score(score, len(pieces) + 1), pieces)
            for score, pieces in zip(result.scores, result.hypotheses, strict=True)
        ]


@dataclass(frozen=True)
class Agreement:
    """How far an exported model translates as the original does."""

    lines: int
    same: int  # lines with the same translation
    farthest: float  # largest difference of scores among the others
    original: tuple[Score, ...]
    exported: tuple[Score, ...]

    @property
    def share(self) -> float:
        return self.same / self.lines


def agreement(
    original: Translator,
    exported: Exported,
    sources: Sequence[str],
    references: Sequence[str],
    target_language: str = "",
) -> Agreement:
    """Translate with both, and compare. Lines that the original would split are left out."""
    ours = original.translate(sources)
    kept = [index for index, line in enumerate(ours) if line.status == "ok"]
    if not kept:
        raise UsageError("the corpus holds no line that the model takes whole")
    theirs = exported.translate([sources[index] for index in kept])
    apart = [
        abs(ours[index].score - found.score)
        for index, found in zip(kept, theirs, strict=True)
        if ours[index].text != found.text
    ]
    against = [references[index] for index in kept]
    texts = [ours[index].text for index in kept], [found.text for found in theirs]
    scores = [
        tuple(score(hypotheses, against, target_language=target_language, metrics=("bleu", "chrf")))
        for hypotheses in texts
    ]
    return Agreement(len(kept), len(kept) - len(apart), max(apart, default=0.0), *scores)
