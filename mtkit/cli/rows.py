"""How lines come in and translations go out: as text, with scores, as JSON, record by record."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mtkit import DataError
from mtkit.cli.output import json_line

if TYPE_CHECKING:
    from mtkit import Alternative, Corpus, Pair, Request, Translation


@dataclass(frozen=True)
class Rows:
    """What a line of the input is, and how its translation is written."""

    n_best: int = 1
    scores: bool = False
    as_json: bool = False
    aligned: bool = False

    def asked(self, number: int, line: str) -> "str | Request":
        """What is to be translated of the line of this number."""
        return line

    def refused(self, number: int) -> bool:
        """Whether the line of this number is none that can be translated."""
        return False

    def __call__(self, number: int, found: "Translation") -> str:
        """The line's translation, with its line end."""
        if self.as_json:
            return json_line({"line": number, **fields(found)})
        if self.n_best > 1:
            ranked = found.alternatives or (found,)
            return "".join(
                f"{number}\t{item.score:.4f}\t{item.text}{self._end(item.alignment)}"
                for item in ranked
            )
        score = f"{found.score:.4f}\t" if self.scores else ""
        return f"{score}{found.text}{self._end(found.alignment)}"

    def _end(self, alignment: "tuple[tuple[int, int], ...]") -> str:
        import mtkit

        return f"\t{mtkit.pharaoh(alignment)}\n" if self.aligned else "\n"


class Records(Rows):
    """JSON Lines both ways: every record comes out again, with its translation or its error."""

    def __init__(self, constrains: bool = True) -> None:
        """`constrains`: whether the search of this call can meet a line's constraints."""
        super().__init__(as_json=True)
        self._constrains = constrains
        self._records: dict[int, Mapping[str, object]] = {}
        self._errors: dict[int, Mapping[str, object]] = {}

    def asked(self, number: int, line: str) -> "str | Request":
        import mtkit

        self._records[number] = {}
        try:
            self._records[number] = mtkit.parse_record(line)
            request = mtkit.Request.of(self._records[number])
            if request.constraints and not self._constrains:
                raise DataError(
                    "constraints are met by beam search, not by samples or groups",
                    "--search temperature=0 --search groups=1",
                )
        except DataError as error:
            self._errors[number] = {"error": error.message, "hint": error.hint}
            return ""
        return request

    def refused(self, number: int) -> bool:
        return number in self._errors

    def __call__(self, number: int, found: "Translation") -> str:
        """The record as it came, and what became of it; names of ours that it has go to `input`."""
        record, error = self._records.pop(number), self._errors.pop(number, None)
        ours = {"line": number, **(fields(found) if error is None else error)}
        taken = {name: value for name, value in record.items() if name in ours}
        kept = {name: value for name, value in record.items() if name not in ours}
        return json_line({**kept, **ours, **({"input": taken} if taken else {})})


def fields(found: "Translation") -> dict[str, object]:
    """A translation for JSON: what was not asked for is left out."""
    record = {"translation": found.text, **_given(found)}
    if found.alternatives:
        record["alternatives"] = [{"text": a.text, **_given(a)} for a in found.alternatives]
    return record


def _given(found: "Translation | Alternative") -> dict[str, object]:
    import mtkit

    optional = ("alternatives", "pieces", "token_scores", "alignment", "attention", "unmet")
    record = {
        name: value
        for name, value in vars(found).items()
        if name != "text" and (value or name not in optional)
    }
    if found.attention:  # a sentence of no words has an alignment too
        record["alignment"] = found.alignment
    if "alignment" in record:
        record["alignment"] = mtkit.pharaoh(found.alignment)
    return record


def numbered(corpus: "Corpus") -> "Iterator[tuple[int, Pair]]":
    """The pairs, each with the number of its row, from 1: what was left out is counted too."""
    for pair in corpus:
        yield corpus.report.read, pair
