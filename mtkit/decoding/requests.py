"""What a single line asks for, in words: as an object, or as a record of JSON Lines."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, cast

from mtkit.data.tokenizer import normalise
from mtkit.decoding.demands import Demand
from mtkit.errors import DataError

_LISTS = ("constraints", "forbidden")


class Encoder(Protocol):
    """The part of a target tokenizer that turns wishes into tokens."""

    def encode(self, lines: Sequence[str]) -> list[list[int]]: ...


@dataclass(frozen=True)
class Request:
    """A line with what its translation must begin with, hold and not hold."""

    source: str
    prefix: str = ""
    constraints: tuple[str, ...] = ()  # phrases, in any order
    forbidden: tuple[str, ...] = ()  # phrases
    n_best: int | None = None  # None: as the translator's options say

    @classmethod
    def of(cls, record: Mapping[str, object]) -> Self:
        """What a record asks for. Raises DataError where a field of it is amiss."""
        if "source" not in record:
            raise DataError("the field source is missing", '{"source": "..."}')
        for name in ("source", "prefix"):
            if not isinstance(record.get(name, ""), str):
                raise DataError(f"{name} is not text", f'{{"{name}": "..."}}')
        lists = {}
        for name in _LISTS:
            phrases = record.get(name, [])
            whole = isinstance(phrases, list) and all(isinstance(p, str) for p in phrases)
            if not whole or not all(map(normalise, cast("list[str]", phrases))):
                raise DataError(f"{name} is not a list of phrases", f'{{"{name}": ["..."]}}')
            lists[name] = tuple(cast("list[str]", phrases))
        n_best = record.get("n_best")
        if n_best is not None and (type(n_best) is not int or not 1 <= n_best <= 1000):
            raise DataError(f"n_best = {n_best!r} is no number from 1 to 1000", '{"n_best": 5}')
        source, prefix = str(record["source"]), str(record.get("prefix", ""))
        return cls(source, prefix, lists["constraints"], lists["forbidden"], n_best)

    @property
    def demanding(self) -> bool:
        """Whether the line asks for anything that a plain search does not give."""
        return bool(normalise(self.prefix) or self.constraints or self.forbidden)

    def demand(self, tokenizer: Encoder) -> Demand:
        """The same in tokens."""
        prefix, *phrases = tokenizer.encode([self.prefix, *self.constraints, *self.forbidden])
        tuples = [tuple(phrase) for phrase in phrases]
        count = len(self.constraints)
        return Demand(
            tuple(prefix),
            tuple(phrase for phrase in tuples[:count] if phrase),
            tuple(phrase for phrase in tuples[count:] if phrase),
        )

    def unmet(self, text: str) -> tuple[str, ...]:
        """What the text is not as it was asked to be: these words are missing, or there."""
        missing = [phrase for phrase in self.constraints if normalise(phrase) not in text]
        if not text.startswith(normalise(self.prefix)):
            missing.insert(0, self.prefix)
        return (*missing, *self.held(text))

    def held(self, text: str) -> tuple[str, ...]:
        """The forbidden phrases that the text holds, be it inside a word."""
        return tuple(p for p in self.forbidden if normalise(p) and normalise(p) in text)


def parse_record(line: str) -> dict[str, object]:
    """The JSON object that a line is. Raises DataError."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", "nested too deeply or not text")
        raise DataError(f"not JSON: {reason}", '{"source": "..."}') from None
    if not isinstance(record, dict):
        raise DataError("not a JSON object", '{"source": "..."}')
    return record


def offending(tokens: Sequence[int], phrase: str, decode: "Decode") -> tuple[int, ...]:
    """The shortest run of tokens whose text holds the phrase; () where none does."""
    phrase = normalise(phrase)
    for length in range(1, len(tokens) + 1):
        runs = [tuple(tokens[at : at + length]) for at in range(len(tokens) - length + 1)]
        for run, text in zip(runs, decode(runs), strict=True):
            if phrase in text:
                return run
    return ()


class Decode(Protocol):
    """Token ids to texts."""

    def __call__(self, ids: Sequence[Sequence[int]], /) -> list[str]: ...
