"""Corpora whose sources begin with a tag: where a pair is from, or what it is to become."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from mtkit.data.lines import Report

__all__ = ["Tagged", "split_tag", "with_tag"]

_TAG = re.compile(r"(<[^<>\s]+>) *(?=\S)")


class Rows(Protocol):
    """What is tagged (see `mtkit.data.corpus`)."""

    @property
    def name(self) -> str: ...
    @property
    def languages(self) -> tuple[str | None, str | None]: ...
    def read(self, report: Report) -> Iterator[tuple[str, str]]: ...
    def fingerprint(self) -> str: ...


def split_tag(name: str) -> tuple[str, str]:
    """A corpus' name into its tag and the rest: `<2de> train.{en,de}`; "" where there is none."""
    found = _TAG.match(name)
    return (found[1], name[found.end() :]) if found else ("", name)


def with_tag(tag: str, text: str) -> str:
    """The text behind a tag; text without anything to translate stays as it is."""
    return f"{tag} {text}" if tag and text and not text.isspace() else text


@dataclass(frozen=True, slots=True)
class Tagged:
    """Rows with a tag before every source."""

    tag: str
    rows: Rows

    @property
    def name(self) -> str:
        return f"{self.tag} {self.rows.name}"

    @property
    def languages(self) -> tuple[str | None, str | None]:
        return self.rows.languages

    def read(self, report: Report) -> Iterator[tuple[str, str]]:
        for source, target in self.rows.read(report):
            yield with_tag(self.tag, source), target

    def fingerprint(self) -> str:
        return f"{self.tag} {self.rows.fingerprint()}"
