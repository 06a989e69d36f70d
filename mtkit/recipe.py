"""Every knob, declared once: the sections of a recipe, read from TOML and written back.

A recipe holds only what differs from the defaults; `Recipe.to_toml` writes the resolved one, every
default included. Components receive their own section, never the whole recipe.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

import pydantic
import tomli_w
from pydantic import Field

from mtkit.errors import RecipeError

LEAST_VOCABULARY = 8  # the special tokens, and something to say
_TOML = "a recipe is a TOML file; see: mtkit recipe list"


class Section(pydantic.BaseModel):
    """A table of the recipe: frozen, and closed to unknown keys."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _true_is_no_number(cls, table: object) -> object:
        for key, value in table.items() if isinstance(table, Mapping) else ():
            field = cls.model_fields.get(key)
            if isinstance(value, bool) and field and field.annotation in (int, float):
                raise ValueError(f"{key} = {str(value).lower()} is no number; give a number")
        return table


class DataSection(Section):
    """Which corpora are learned from, and what is asked of their pairs."""

    train: tuple[str, ...] = Field((), description="corpora to train on, each named by one string")
    weights: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        (),
        description="times that an epoch goes through each corpus of `train`, e.g. [1, 0.5, 3]; "
        "empty: once",
    )
    valid: tuple[str, ...] = Field(
        (), description="corpora to validate on; empty: pairs are held out of the training corpus"
    )
    test: tuple[str, ...] = Field((), description="corpora scored once, when training has ended")
    source_language: str = Field("", description="language code of the source, e.g. de")
    target_language: str = Field(
        "", description="language code of the target; chooses the scorer's tokenizer"
    )
    held_out: int = Field(
        500, ge=1, description="pairs held out for validation when `valid` is empty"
    )
    streaming: bool = Field(
        False, description="stream hub corpora instead of downloading them whole"
    )
    max_length: int = Field(
        200, ge=2, description="longest side of a training pair in tokens; longer pairs are counted"
    )


class TokenizerSection(Section):
    """How text becomes tokens (SentencePiece)."""

    kind: Literal["unigram", "bpe", "char", "word"] = Field(
        "bpe", description="Kudo 2018 (unigram), Sennrich et al. 2016 (bpe), characters, words"
    )
    vocabulary: int = Field(
        8000, ge=LEAST_VOCABULARY, description="size of the vocabulary, special tokens included"
    )
    joint: bool = Field(True, description="one tokenizer for both languages")
    byte_fallback: bool = Field(
        True, description="spell unknown characters as bytes, so that nothing is unknown"
    )
    character_coverage: float = Field(
        1.0, gt=0, le=1, description="share of the corpus' characters that get a piece of their own"
    )
    sampling: float = Field(
        0.0,
        ge=0,
        le=1,
        description="BPE-dropout probability (bpe), subword-regularisation alpha (unigram); 0: off",
    )
    sample_lines: int = Field(
        1_000_000, ge=1, description="most lines a side that the tokenizer is trained on"
    )


# The kinds of dropout that every kind of model has.
EmbeddingDropout = Annotated[
    Annotated[float, Field(ge=0, lt=1)] | Literal["same"],
    Field(description="dropout on embeddings; same: as much as model.dropout"),
]
SourceTokenDropout = Annotated[
    float, Field(ge=0, lt=1, description="share of source tokens whose whole embedding is hidden")
]
TargetTokenDropout = Annotated[
    float, Field(ge=0, lt=1, description="share of the decoder's input tokens that are hidden")
]


class RecurrentSection(Section):
    """A recurrent encoder and decoder, with a context vector or with attention."""

    kind: Literal["recurrent"] = Field(description="this kind of model")
    cell: Literal["rnn", "gru", "gru_cho", "lstm"] = Field(
        "lstm",
        description="tanh RNN, torch's GRU (fused), the GRU of Cho et al. 2014 (reset before the "
        "matrix; slower), or LSTM",
    )
    decoder: Literal["luong", "bahdanau", "window"] = Field(
        "luong",
        description="state, then attention, then output (Luong et al. 2015; with a context vector "
        "Sutskever et al. 2014); attention from the state before, context into the gates, maxout "
        "(Bahdanau et al. 2015); or a feed-forward network over the last `window` tokens",
    )
    memory: Literal["context", "additive", "dot", "general", "concat", "location"] = Field(
        "general",
        description="context vector (Sutskever et al. 2014), additive attention (Bahdanau et al. "
        "2015), or dot, general, concat, location attention (Luong et al. 2015)",
    )
    reach: Literal["global", "monotonic", "predictive"] = Field(
        "global",
        description="attention to all of the source, around the target's position (local-m), or "
        "around a predicted one with a Gaussian (local-p; Luong et al. 2015, 3.2)",
    )
    local_window: int = Field(
        10, ge=1, description="how far local attention looks to either side (D; sigma is D / 2)"
    )
    places: int = Field(
        200, ge=1, description="source positions that the location score can look at"
    )
    window: int = Field(
        5, ge=1, description="target tokens that the window decoder sees (its Markov order)"
    )
    width: int = Field(512, ge=2, description="width of the recurrent states")
    encoder_width: int = Field(
        0,
        ge=0,
        description="width of the encoder's states, both directions together; 0: width. Only for "
        "the bahdanau decoder",
    )
    readout: int = Field(
        0, ge=0, description="maxout units of the bahdanau decoder's output; 0: half the width"
    )
    readout_state: Literal["previous", "current"] = Field(
        "previous",
        description="the state that the bahdanau decoder's output reads: the one before the step "
        "(the paper), or after it",
    )
    embedding: int = Field(256, ge=1, description="width of the embeddings")
    encoder_layers: int = Field(2, ge=1, description="stacked encoder layers")
    decoder_layers: int = Field(2, ge=1, description="stacked decoder layers")
    bidirectional: bool = Field(
        True, description="encoder reads both ways, half the width each way"
    )
    input_feeding: bool = Field(
        False, description="feed the attentional state to the next input (Luong et al. 2015, 3.3)"
    )
    reverse_source: bool = Field(
        False, description="read the source backwards (Sutskever et al. 2014, 3.3)"
    )
    tied_embeddings: bool = Field(
        True, description="target embedding and output projection share one matrix"
    )
    truncate: int = Field(
        0,
        ge=0,
        description="gradients go back through so many recurrent steps at most (truncated "
        "back-propagation through time), in encoder and decoder; 0: through all",
    )
    initialisation: Literal["default", "uniform", "orthogonal", "bahdanau"] = Field(
        "default",
        description="how weights are drawn: uniform in +-initial_range (Sutskever et al. 2014), "
        "recurrent matrices orthogonal, or these and small normals (Bahdanau et al. 2015, B.1)",
    )
    initial_range: float = Field(
        0.08, gt=0, description="half the width of the uniform initialisation"
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="dropout between layers and on embeddings")
    embedding_dropout: EmbeddingDropout = "same"
    source_token_dropout: SourceTokenDropout = 0.0
    target_token_dropout: TargetTokenDropout = 0.0


class TransformerSection(Section):
    """Vaswani et al. 2017, at any size."""

    kind: Literal["transformer"] = Field(description="this kind of model")
    width: int = Field(256, ge=2, description="width of the residual stream (d_model)")
    heads: int = Field(4, ge=1, description="attention heads")
    feed_forward: int = Field(1024, ge=1, description="width between the two feed-forward matrices")
    encoder_layers: int = Field(3, ge=1, description="encoder layers")
    decoder_layers: int = Field(3, ge=1, description="decoder layers")
    norm: Literal["pre", "post"] = Field(
        "pre", description="normalise before each sublayer (stable) or after it (the paper)"
    )
    activation: Literal["relu", "gelu"] = Field("relu", description="feed-forward activation")
    tied_embeddings: Literal["none", "target", "all"] = Field(
        "all", description="share target embedding and projection, or these and the source's"
    )
    positions: bool = Field(
        True, description="sinusoidal positions; off: the encoder is order-blind"
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout on embeddings and sublayers")
    embedding_dropout: EmbeddingDropout = "same"
    source_token_dropout: SourceTokenDropout = 0.0
    target_token_dropout: TargetTokenDropout = 0.0
    attention_dropout: float = Field(0.0, ge=0, lt=1, description="dropout on attention weights")
    activation_dropout: float = Field(0.0, ge=0, lt=1, description="dropout inside feed-forward")
    layer_dropout: float = Field(
        0.0, ge=0, lt=1, description="probability that a batch skips a layer (Fan et al. 2020)"
    )

    @pydantic.model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            fit = max(h for h in range(1, self.heads + 1) if self.width % h == 0)
            raise ValueError(
                f"heads = {self.heads} does not divide width = {self.width}; "
                f"--set model.heads={fit}"
            )
        return self


ModelSection = Annotated[RecurrentSection | TransformerSection, Field(discriminator="kind")]


class OptimizerSection(Section):
    """How gradients become changes of the weights."""

    kind: Literal["adam", "adamw", "muon", "sgd", "adadelta"] = Field(
        "adam",
        description="the rule; muon (Jordan et al. 2024) makes updates of matrices orthogonal and "
        "leaves the rest to adamw",
    )
    rate: float = Field(
        1e-3, gt=0, description="peak learning rate (with `noam`: a factor of the paper's rate)"
    )
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        (0.9, 0.98), description="Adam's decay of the two moments"
    )
    epsilon: float = Field(1e-9, gt=0, description="added to denominators (Adam, Adadelta)")
    momentum: float = Field(
        0.0, ge=0, lt=1, description="momentum of sgd, and of muon (0 stands for 0.95 there)"
    )
    rho: float = Field(0.95, gt=0, lt=1, description="Adadelta's decay")
    weight_decay: float = Field(
        0.0, ge=0, description="decay of matrices (norms and biases spared)"
    )
    clip: float = Field(
        1.0, ge=0, description="largest norm of the whole gradient (Pascanu et al. 2013); 0: off"
    )


class ScheduleSection(Section):
    """How the learning rate moves with the updates."""

    kind: Literal["constant", "inverse_sqrt", "noam", "cosine", "linear", "plateau", "step"] = (
        Field("inverse_sqrt", description="shape of the rate after the warm-up")
    )
    warmup: int = Field(500, ge=0, description="updates in which the rate rises linearly")
    factor: float = Field(0.5, gt=0, lt=1, description="what plateau and step multiply the rate by")
    every: float = Field(1.0, gt=0, description="epochs between two cuts of `step`")
    start: float = Field(5.0, ge=0, description="epochs before the first cut of `step`")
    patience: int = Field(2, ge=0, description="validations without gain before `plateau` cuts")
    floor: float = Field(0.0, ge=0, description="share of the peak rate where the decay ends")


class TrainingSection(Section):
    """How long, in which batches, and with which loss the model is trained."""

    max_tokens: int = Field(4096, ge=1, description="tokens a batch: rows x longest side")
    max_sentences: int = Field(0, ge=0, description="pairs a batch at most; 0: no such limit")
    normalise: Literal["tokens", "sentences"] = Field(
        "tokens",
        description="what an update's summed loss is divided by: its target tokens, or its pairs "
        "(Sutskever et al. 2014, Luong et al. 2015)",
    )
    accumulation: int = Field(1, ge=1, description="batches a process adds up for one update")
    shard: bool = Field(
        False,
        description="spread weights, gradients and optimizer states over the processes (FSDP2), "
        "for models that outgrow one card",
    )
    updates: int = Field(0, ge=0, description="stop after so many updates; 0: no limit")
    epochs: float = Field(0.0, ge=0, description="stop after so many epochs; 0: no limit")
    minutes: float = Field(0.0, ge=0, description="stop after so many minutes; 0: no limit")
    label_smoothing: float = Field(
        0.1, ge=0, lt=1, description="share of the label's mass spread over the vocabulary"
    )
    r_drop: float = Field(
        0.0,
        ge=0,
        description="alpha of R-Drop (Liang et al. 2021; they take 5): two passes a batch, with "
        "dropout of their own, are to agree; twice the time and memory; 0: off",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="bfloat16 autocast where the hardware has it"
    )
    seed: int = Field(1, ge=0, description="seed of weights, order, dropout and sampling")
    start: str = Field(
        "", description="model directory to start from: its weights, its vocabulary; empty: anew"
    )
    source_vectors: str = Field(
        "", description="word2vec file, text or binary, that source embeddings start from"
    )
    target_vectors: str = Field(
        "", description="word2vec file, text or binary, that target embeddings start from"
    )
    freeze_vectors: bool = Field(
        False, description="embeddings with a file of vectors are not trained further"
    )
    average: int = Field(
        1, ge=1, description="checkpoints averaged into the final model (Vaswani et al. 2017, 6.1)"
    )
    average_of: Literal["last", "best"] = Field(
        "last", description="which are averaged: the last ones, or those around the best"
    )
    ema: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay of a moving average of the weights, e.g. 0.999, that is judged and kept "
        "in their place; 0: off",
    )
    tensorboard: bool = Field(False, description="write curves for TensorBoard beside log.jsonl")
    keep: int = Field(5, ge=1, description="checkpoints kept in the run folder")

    optimizer: OptimizerSection = OptimizerSection()
    schedule: ScheduleSection = ScheduleSection()


class ValidationSection(Section):
    """When the model is scored during training, and by what it is judged."""

    every: int = Field(0, ge=0, description="updates between validations; 0: once an epoch")
    metric: Literal["loss", "bleu", "chrf"] = Field(
        "bleu", description="what the best model is best at"
    )
    patience: int = Field(0, ge=0, description="validations without gain before stopping; 0: never")
    sentences: int = Field(
        0, ge=0, description="translate only the first so many when scoring; 0: all"
    )
    beam: int = Field(1, ge=1, description="beam of the validation translations")


STEEPEST = 50  # exponent of a length penalty beyond which scores are only zeros


class SearchSection(Section):
    """The search that the model is meant to be decoded with."""

    beam: int = Field(5, ge=1, description="hypotheses kept a sentence; 1 is greedy")
    length_penalty: float = Field(
        1.0, ge=0, le=STEEPEST, description="alpha of ((5 + length) / 6)^alpha (Wu et al. 2016)"
    )
    max_length_ratio: float = Field(
        2.0, gt=0, description="longest output: ratio x source + offset"
    )
    tag: str = Field("", description="put before every line to translate, e.g. <2de>")
    max_length_offset: int = Field(20, ge=1, description="longest output: ratio x source + offset")


class Recipe(Section):
    """A whole run as a document."""

    title: str = Field("", description="what this run is, in a line")
    data: DataSection = DataSection()
    tokenizer: TokenizerSection = TokenizerSection()
    model: ModelSection = TransformerSection(kind="transformer")
    training: TrainingSection = TrainingSection()
    validation: ValidationSection = ValidationSection()
    search: SearchSection = SearchSection()

    @classmethod
    def load(cls, path: Path, changes: Sequence[str] = ()) -> Self:
        """Read a recipe file and apply `section.key=value` changes. Raises RecipeError."""
        try:
            text = path.read_text(encoding="utf-8-sig")  # some editors put a byte order mark
        except FileNotFoundError:
            raise RecipeError(f"{path}: no such recipe", "see: mtkit recipe list") from None
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path}: cannot be read ({error})", _TOML) from None
        return cls.parse(text, str(path), changes)

    @classmethod
    def parse(cls, text: str, name: str = "recipe", changes: Sequence[str] = ()) -> Self:
        """Read a recipe from TOML text; `name` stands in the errors. Raises RecipeError."""
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise RecipeError(f"{name}: not valid TOML: {error}", _TOML) from None
        except RecursionError:
            raise RecipeError(f"{name}: its lists or tables are nested too deeply", _TOML) from None
        _apply(table, changes)
        return cls.from_table(table, name)

    @classmethod
    def from_table(cls, table: Mapping[str, object], name: str = "recipe") -> Self:
        """Check a table of sections. Raises RecipeError for the first thing that is wrong."""
        try:
            return cls.model_validate(table)
        except pydantic.ValidationError as error:
            raise _recipe_error(error, name) from None

    def changed(self, changes: Sequence[str]) -> Self:
        """This recipe with `section.key=value` changes. Raises RecipeError."""
        table = self.model_dump(mode="json")
        _apply(table, changes)
        return type(self).from_table(table, "--set")

    def to_toml(self) -> str:
        """The resolved recipe, every default written out."""
        return tomli_w.dumps(self.model_dump(mode="json"))


def _apply(table: dict[str, Any], changes: Sequence[str]) -> None:
    """Make changes of a table of sections; that of the model's kind first, since it clears."""
    for change in sorted(changes, key=lambda c: c.partition("=")[0].strip() != "model.kind"):
        _put(table, change)


def _put(table: dict[str, Any], change: str) -> None:
    """Put one `section.key=value` into a table of sections; values are TOML, or bare words."""
    path, equals, text = change.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise RecipeError(
            f"--set {change}: not of the form section.key=value",
            "for example --set training.max_tokens=2048",
        )
    try:
        value: object = tomllib.loads(f"value = {text.strip()}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        value = text.strip()
    if keys[0] == "data" and keys[-1] in ("train", "valid", "test") and isinstance(value, str):
        value = [value]
    if keys[0] == "model" and len(keys) > 1:
        table.setdefault("model", {"kind": Recipe().model.kind})  # a table must name its kind
    here = table
    for place, key in enumerate(keys[:-1], start=1):
        here = here.setdefault(key, {})
        if not isinstance(here, dict):
            shorter = f"{'.'.join(keys[:place])}={text.strip()}"
            raise RecipeError(
                f"--set {change}: {key} is a value, not a section", f"--set {quote(shorter)}"
            )
    if keys == ["model", "kind"] and here.get("kind") != value:
        here.clear()  # another kind has other keys
    here[keys[-1]] = value


def _recipe_error(error: pydantic.ValidationError, name: str) -> RecipeError:
    """The first validation error as one sentence, with the nearest known key or value."""
    first = error.errors()[0]
    # A union's tag stands in the location beside the key; it is no part of the user's key.
    tags = ("recurrent", "transformer", "constrained-float")
    keys = [str(part) for part in first["loc"] if part not in tags]
    key = ".".join(keys)
    value = first.get("input")
    if first["type"] == "extra_forbidden":
        near = nearest_key(key)
        if near == key:
            hint = f"{key} belongs to another model.kind"
        else:
            hint = f"did you mean {near}?" if near else "see: mtkit recipe explain"
        return RecipeError(f"{name}: unknown key {key}", hint)
    if first["type"].startswith("union_tag"):
        hint = 'write kind = "transformer" or "recurrent"'
        if first["type"] == "union_tag_invalid":  # where it is missing, --set would clear the rest
            hint = f"--set model.kind=recurrent, or in the file {hint}"
        return RecipeError(f"{name}: model.kind is missing or unknown", hint)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        sentence, _, hint = message.partition("; ")
        return RecipeError(f"{name}: {key}: {sentence}", hint or None)
    named = ".".join(part for part in keys if not part.isdecimal())  # not a place in a list
    return RecipeError(
        f"{name}: {key} = {value!r}: {message[0].lower()}{message[1:]}",
        f"see: mtkit recipe explain {named}",
    )


class Knob(pydantic.BaseModel):
    """One key of the recipe as `mtkit recipe explain` prints it."""

    key: str
    kind: str  # the model kind that has this key; "" for all
    type: str
    default: str
    description: str


def knobs() -> list[Knob]:
    """Every key of the recipe with its type, default and meaning; `model.*` of each kind."""
    return list(_knobs(Recipe, "", ""))


def _knobs(section: type[Section], prefix: str, kind: str) -> Iterator[Knob]:
    for name, field in section.model_fields.items():
        parts = [field.annotation, *get_args(field.annotation)]
        tables = [part for part in parts if isinstance(part, type) and issubclass(part, Section)]
        for table in tables:
            own = table.__name__.removesuffix("Section").lower() if len(tables) > 1 else kind
            yield from _knobs(table, f"{prefix}{name}.", own)
        if not tables:
            limits = "".join(f", {_limit(limit)}" for limit in field.metadata)
            yield Knob(
                key=prefix + name,
                kind=kind,
                type=_type_name(field.annotation) + limits,
                default="required" if field.is_required() else repr(field.default),
                description=field.description or "",
            )


def nearest_key(key: str) -> str | None:
    """The known key that a misspelt one most likely means."""
    known = list(dict.fromkeys(knob.key for knob in knobs()))
    section, _, name = key.rpartition(".")
    by_name: dict[str, list[str]] = {}
    for candidate in known:
        by_name.setdefault(candidate.rpartition(".")[2], []).append(candidate)
    # A right name in the wrong place is the likelier mistake than a wrong name in the right place.
    for near in difflib.get_close_matches(name, by_name, n=1, cutoff=0.7):
        return max(by_name[near], key=lambda found: found.startswith(section))
    return next(iter(difflib.get_close_matches(key, known, n=1, cutoff=0.5)), None)


def _limit(limit: object) -> str:
    """A bound as it is written: `Ge(ge=0)` -> `>= 0`."""
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    for name, sign in signs.items():
        if hasattr(limit, name):
            return f"{sign} {getattr(limit, name)}"
    return str(limit)


def _type_name(annotation: object) -> str:
    if isinstance(annotation, UnionType) or get_origin(annotation) is Union:
        return " | ".join(_type_name(part) for part in get_args(annotation))
    if get_origin(annotation) is Annotated:
        annotation, *notes = get_args(annotation)
        limits = [limit for note in notes for limit in note.metadata]
        return ", ".join([_type_name(annotation), *map(_limit, limits)])
    if get_origin(annotation) is tuple:
        parts = ("..." if part is ... else _type_name(part) for part in get_args(annotation))
        return f"tuple[{', '.join(parts)}]"
    choices = [choice for choice in get_args(annotation) if isinstance(choice, str)]
    if choices:
        return " | ".join(f'"{choice}"' for choice in choices)
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)
