"""How hypotheses are searched, ranked and returned: every option once, with its paper."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import isfinite
from shlex import quote
from typing import Literal, Self

from mtkit.errors import UsageError
from mtkit.recipe import STEEPEST, SearchSection
from mtkit.symbols import BOS, EOS, PAD

_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


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
        self._require(self.beam >= 1, "beam", "is less than 1", 5)
        self._require(self.n_best >= 1, "n_best", "is less than 1", 1)
        if self.n_best > self.beam and not self.sampled:
            raise UsageError(
                f"n-best = {self.n_best} does not fit a beam of {self.beam}",
                f"--search beam={self.n_best}",
            )
        self._check_lengths()
        self._check_rules()
        self._check_kind()

    def _require(self, fine: bool, name: str, fault: str, fit: object) -> None:
        """Raise UsageError unless the field of this name is fine, with a value that would be."""
        if not fine:
            raise UsageError(f"{name} = {getattr(self, name)} {fault}", f"--search {name}={fit}")

    def _check_lengths(self) -> None:
        sound = isfinite(self.max_length_ratio) and self.max_length_ratio >= 0
        self._require(self.patience > 0, "patience", "is not greater than 0", 1)
        self._require(sound, "max_length_ratio", "is less than 0, or not finite", 2)
        self._require(self.max_length_offset >= 1, "max_length_offset", "is less than 1", 20)
        self._require(isfinite(self.length_penalty), "length_penalty", "is not finite", 1)
        if abs(self.length_penalty) > STEEPEST:
            raise UsageError(
                f"length_penalty = {self.length_penalty:g} leaves of scores only zeros",
                "--search length_penalty=1",
            )

    def _check_rules(self) -> None:
        for name in ("min_length", "no_repeat", "coverage_penalty", "top_k", "alignment_layer"):
            value = getattr(self, name)
            self._require(isfinite(value) and value >= 0, name, "is less than 0, or no number", 0)
        sound = isfinite(self.diversity) and self.diversity >= 0
        self._require(sound, "diversity", "is not a penalty", 0.5)
        if not all(phrase.strip() for phrase in self.forbid):
            raise UsageError("a forbidden phrase is empty", "--search 'forbid=some words'")
        self._require(self.mbr in ("", "chrf", "bleu"), "mbr", "is no utility", "chrf")
        if self.alignment_layer and not self.aligned:
            raise UsageError(
                f"alignment_layer = {self.alignment_layer}, but nothing asks for an alignment",
                "--search alignment=true",
            )

    def _check_kind(self) -> None:
        """Beam, diverse beam and samples: what is said of one must not be said to another."""
        sound = isfinite(self.temperature) and self.temperature >= 0
        self._require(sound, "temperature", "is not finite and 0 or more", 1)
        self._require(0 < self.top_p <= 1, "top_p", "is not above 0 and at most 1", 0.9)
        for name in ("top_k", "top_p", "seed"):
            if not self.sampled and self._is_changed(name):
                raise UsageError(
                    f"{name} = {getattr(self, name)} is for samples", "--search temperature=1"
                )
        self._require(self.groups >= 1, "groups", "is less than 1", 1)
        if self.beam % self.groups:
            raise UsageError(
                f"groups = {self.groups} does not divide the beam of {self.beam}",
                f"--search beam={-(-self.beam // self.groups) * self.groups}",
            )
        if self.groups > 1 and self.sampled:
            raise UsageError(
                "samples have no groups", "--search groups=1, or --search temperature=0"
            )
        if self.groups == 1 and self._is_changed("diversity"):
            raise UsageError(
                f"diversity = {self.diversity} is for a beam in groups",
                "leave diversity out, or add --search groups=2 --search beam=4",
            )

    def _is_changed(self, name: str) -> bool:
        """Whether the field of this name is not what it is without being named."""
        return bool(getattr(self, name) != getattr(type(self), name))

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
            old = self._old(key, text or "VALUE")
            if not equals:
                raise UsageError(f"{change} is not key=value", f"--search {key}=VALUE")
            value = _read(key, old, text)
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

    def _old(self, key: str, text: str) -> object:
        """What a key is now. Raises UsageError for one that is none, and was to become the text."""
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            mended = [f"--search {quote(f'{name}={text}')}" for name in near]
            hint = mended[0] if mended else f"known: {', '.join(known)}"
            raise UsageError(f"there is no search option {key}", hint)
        return known[key]

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
        return self.token_scores or self.aligned

    @property
    def aligned(self) -> bool:
        """Whether it is asked for what they attend to."""
        return bool(self.alignment or self.replace_unknown or self.coverage_penalty)

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


def _read(key: str, old: object, text: str) -> object:
    """The value that is written for a key, of the kind that it was. Raises UsageError."""
    text = text.strip()
    try:
        if isinstance(old, bool):
            return _TRUTH[text.lower()]
        if isinstance(old, int | float):
            return type(old)(text)
    except (KeyError, ValueError):
        faults: dict[type, str] = {
            bool: "not true or false",
            int: "no whole number",
            float: "no number",
        }
        hint = f"--search {key}={str(old).lower()}"
        raise UsageError(f"{key} = {text} is {faults[type(old)]}", hint) from None
    return text
