"""How hypotheses are searched, ranked and returned: every option once, with its paper."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import isfinite
from typing import Literal, Self

from mtkit.errors import UsageError
from mtkit.recipe import SearchSection
from mtkit.symbols import BOS, EOS, PAD

_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


_STEEPEST = 50  # exponent of a length penalty that a float32 can hold for any sentence


@dataclass(frozen=True)
class SearchOptions:
    """How hypotheses are searched, ranked and returned."""

    beam: int = 5
    length_penalty: float = 1.0  # alpha of Wu et al. 2016; 0 ranks by log-probability alone
    n_best: int = 1
    max_length_ratio: float = 2.0  # longest output: int(ratio * source tokens) + offset, with EOS
    max_length_offset: int = 20
    patience: float = 1.0  # Kasai et al. 2022
    unknown: bool = True  # whether UNK may be produced
    min_length: int = 0  # fewest target tokens, EOS not counted
    no_repeat: int = 0  # no n-gram of so many tokens twice (Paulus et al. 2018); 0: any
    coverage_penalty: float = 0.0  # beta of Wu et al. 2016, eq. 14; ranks what has finished
    groups: int = 1  # of a diverse beam (Vijayakumar et al. 2016), each with beam / groups
    diversity: float = 0.5  # what a token costs for each earlier group that chose it at this step
    temperature: float = 0.0  # above 0: draw n_best samples instead of searching
    top_k: int = 0  # samples are of the k likeliest tokens (Fan et al. 2018); 0: of all
    top_p: float = 1.0  # of the fewest that have this probability (Holtzman et al. 2020)
    seed: int = 0  # of the samples; a line's depend on it and on the line alone
    mbr: Literal["", "chrf", "bleu"] = ""  # the beam's candidate of least risk (mbr.py)
    forbid: tuple[str, ...] = ()  # phrases that no translation may hold
    token_scores: bool = False  # give the log-probability of every token
    alignment: bool = False  # give attention weights and word alignments
    alignment_layer: int = 0  # decoder layer of the weights, from 1; 0: the last but one
    replace_unknown: bool = False  # UNK becomes the source word that it is aligned with

    def __post_init__(self) -> None:
        if self.beam < 1:
            raise UsageError(f"beam = {self.beam} is not a number of hypotheses", "try a beam of 5")
        if not (self.n_best >= 1 and (self.sampled or self.n_best <= self.beam)):
            raise UsageError(
                f"n-best = {self.n_best} does not fit a beam of {self.beam}",
                f"try a beam of {max(self.n_best, 1)}",
            )
        if not self.patience > 0 or self.max_length_ratio < 0 or self.max_length_offset < 1:
            raise UsageError("patience and the longest length must be greater than 0")
        if not (isfinite(self.max_length_ratio) and isfinite(self.length_penalty)):
            raise UsageError("the longest length and the length penalty must be finite")
        if abs(self.length_penalty) > _STEEPEST:
            raise UsageError(
                f"length_penalty = {self.length_penalty:g} leaves of scores only zeros",
                "length_penalty = 1",
            )
        self._check_rules()
        self._check_kind()

    def _check_rules(self) -> None:
        for name in ("min_length", "no_repeat", "coverage_penalty", "top_k", "alignment_layer"):
            value = getattr(self, name)
            if not (isfinite(value) and value >= 0):
                raise UsageError(f"{name} = {value} is less than 0, or no number", f"{name} = 0")
        if not (isfinite(self.diversity) and self.diversity >= 0):
            raise UsageError(f"diversity = {self.diversity} is not a penalty", "diversity = 0.5")
        if not all(phrase.strip() for phrase in self.forbid):
            raise UsageError("a forbidden phrase is empty", "forbid = some words")
        if self.mbr not in ("", "chrf", "bleu"):
            raise UsageError(f"mbr = {self.mbr} is no utility", "mbr = chrf, or bleu")

    def _check_kind(self) -> None:
        """Beam, diverse beam and samples: what is said of one must not be said to another."""
        if not (isfinite(self.temperature) and self.temperature >= 0 and 0 < self.top_p <= 1):
            raise UsageError("temperature must be 0 or more, and top_p above 0 and at most 1")
        if (self.top_k or self.top_p < 1) and not self.sampled:
            raise UsageError("top_k and top_p are for samples", "temperature = 1")
        if self.groups < 1 or self.beam % self.groups:
            raise UsageError(
                f"groups = {self.groups} does not divide the beam of {self.beam}",
                f"try a beam of {self.beam - self.beam % max(self.groups, 1) or self.groups}",
            )
        if self.groups > 1 and self.sampled:
            raise UsageError("samples have no groups", "groups = 1, or temperature = 0")

    @classmethod
    def from_section(cls, section: SearchSection) -> Self:
        """The options that a recipe's search section asks for."""
        return cls(
            beam=section.beam,
            length_penalty=section.length_penalty,
            max_length_ratio=section.max_length_ratio,
            max_length_offset=section.max_length_offset,
        )

    def changed(self, changes: Sequence[str], **given: object) -> Self:
        """These options with fields given, then after `key=value` changes.

        `forbid` may stand several times. A beam that nobody asked for and that is too narrow, or no
        multiple of the groups, grows. Raises UsageError.
        """
        table = dict(given)
        for change in changes:
            key, equals, text = change.partition("=")
            key = key.strip().replace("-", "_")
            if not equals:
                raise UsageError(f"{change} is not key=value", f"write {key}=VALUE")
            value = self._value(key, text)
            table[key] = (*table.get(key, self.forbid), text) if key == "forbid" else value  # type: ignore[misc]
        return self.fitted(**table)

    def fitted(self, **changes: object) -> Self:
        """These options with fields changed, and a beam that is wide enough where none is given."""
        wanted = {**{field.name: getattr(self, field.name) for field in fields(self)}, **changes}
        if "beam" not in changes and not wanted["temperature"]:
            groups = max(int(wanted["groups"]), 1)
            beam = max(int(wanted["beam"]), int(wanted["n_best"]))
            changes["beam"] = -(-beam // groups) * groups
        return replace(self, **changes)  # type: ignore[arg-type]

    def _value(self, key: str, text: str) -> object:
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise UsageError(f"there is no search option {key}", hint)
        old, text = known[key], text.strip()
        try:
            if isinstance(old, bool):
                return _TRUTH[text.lower()]
            if isinstance(old, int | float):
                return type(old)(text)
        except (KeyError, ValueError):
            kind = "true or false" if isinstance(old, bool) else type(old).__name__
            raise UsageError(f"{key} = {text} is not {kind}", f"for example {key}={old}") from None
        return text

    @property
    def sampled(self) -> bool:
        """Whether hypotheses are drawn instead of searched."""
        return self.temperature > 0

    @property
    def width(self) -> int:
        """Hypotheses a sentence: the beam, or the number of samples."""
        return self.n_best if self.sampled and not self.mbr else max(self.beam, self.n_best)

    @property
    def ruled(self) -> bool:
        """Whether a step needs more than the best continuations."""
        return bool(self.min_length or self.no_repeat or self.groups > 1 or self.sampled)

    @property
    def annotated(self) -> bool:
        """Whether hypotheses that were found go through the model once more."""
        return bool(
            self.token_scores or self.alignment or self.replace_unknown or self.coverage_penalty
        )

    @property
    def forbidden(self) -> tuple[slice, ...]:
        """What no hypothesis holds; EOS is among it because it ends a hypothesis instead."""
        return (
            (slice(PAD, PAD + 1), slice(BOS, EOS + 1)) if self.unknown else (slice(PAD, EOS + 1),)
        )

    def longest(self, source_tokens: int) -> int:
        """Most target tokens, EOS included, for a source of so many tokens without its EOS."""
        longest = int(self.max_length_ratio * source_tokens) + self.max_length_offset
        return max(longest, self.min_length + 1)

    def score(self, log_probability: float, length: int) -> float:
        """What hypotheses are ranked by; `length` counts EOS."""
        return log_probability / float(((5 + length) / 6) ** self.length_penalty)
